//! Chromium without a window, driven over a pipe by the DevTools protocol: one JSON value after another, each with a NUL behind.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tools::tool;

/// How long the browser may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    asked: u64,
    session: String,
    dir: TempDir,
    /// Where it has asked for something.
    pub visited: Vec<String>,
    /// Scripts that ran, and what it would not let a page do.
    pub complaints: Vec<String>,
    loads: usize,
}

impl Browser {
    /// Starts one that is as wide as a phone.
    pub fn start() -> Browser {
        drop(tool("chromium", "chromium"));
        let dir = tempfile::Builder::new().prefix("wamedia-test-").tempdir().unwrap();
        let mut command = Command::new("sh");
        command
            // Its protocol is spoken on the descriptors 3 and 4.
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >&2", "sh", "chromium"])
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
            .env("HOME", dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(dir.path().join("log")).unwrap());
        let mut child = command.spawn().unwrap();
        let to = child.stdin.take().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let (sender, from) = channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while said.read_until(0, &mut message).is_ok_and(|len| len > 0) {
                message.pop();
                let sent = serde_json::from_slice(&message).map(|value| sender.send(value));
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
                message.clear();
            }
        });
        let (visited, complaints) = (Vec::new(), Vec::new());
        let mut browser =
            Browser { child, to, from, asked: 0, session: String::new(), dir, visited, complaints, loads: 0 };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"}));
        let attached = browser.ask("Target.attachToTarget", json!({"targetId": target["targetId"], "flatten": true}));
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        let phone = json!({"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true});
        browser.ask("Emulation.setDeviceMetricsOverride", phone);
        browser
    }

    fn next(&mut self) -> Value {
        let message = self.from.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!(
                "the browser is silent:\n{}",
                std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
            )
        });
        let about = &message["params"];
        match message["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                self.visited.push(about["request"]["url"].as_str().unwrap_or_default().to_owned());
            }
            Some("Page.javascriptDialogOpening" | "Runtime.consoleAPICalled" | "Runtime.exceptionThrown") => {
                self.complaints.push(message.to_string());
            }
            Some("Log.entryAdded") => self.complaints.push(about["entry"]["text"].as_str().unwrap_or("?").to_owned()),
            Some("Page.loadEventFired") => self.loads += 1,
            _ => {}
        }
        message
    }

    /// Asks, and gives the result.
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let mut request = json!({"id": self.asked, "method": method, "params": params});
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        self.to.write_all(request.to_string().as_bytes()).unwrap();
        self.to.write_all(b"\0").unwrap();
        loop {
            let message = self.next();
            if message["id"] == json!(self.asked) {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
        }
    }

    fn wait_for_load(&mut self, before: usize) {
        let started = Instant::now();
        while self.loads == before {
            assert!(started.elapsed() < PATIENCE, "no page is loaded");
            self.next();
        }
    }

    /// Goes to an address.
    pub fn go(&mut self, url: &str) {
        let before = self.loads;
        let answer = self.ask("Page.navigate", json!({"url": url}));
        assert!(answer["errorText"].is_null(), "{url}: {answer}");
        self.wait_for_load(before);
    }

    /// What an expression comes to in the page.
    pub fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.ask("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The visible text.
    pub fn text(&mut self) -> String {
        self.eval("document.body.innerText").as_str().unwrap().to_owned()
    }

    /// Presses a key, with Shift if its name has that before.
    pub fn press(&mut self, key: &str) {
        let (shift, key) = key.strip_prefix("Shift+").map_or((0, key), |key| (8, key));
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Space" => (32, " "),
            key => panic!("no key {key}"),
        };
        let name = if key == "Space" { " " } else { key };
        let event = |kind: &str, text: &str| json!({"type": kind, "modifiers": shift, "key": name, "code": key, "windowsVirtualKeyCode": code, "text": text});
        self.ask("Input.dispatchKeyEvent", event("keyDown", text));
        self.ask("Input.dispatchKeyEvent", event("keyUp", ""));
    }

    /// Presses a key that leads to another page.
    pub fn press_to_go(&mut self, key: &str) {
        let before = self.loads;
        self.press(key);
        self.wait_for_load(before);
    }

    /// Types a text.
    pub fn type_in(&mut self, text: &str) {
        self.ask("Input.insertText", json!({"text": text}));
    }

    /// Presses Tab until the focus is where `expression` (of `e`, the element) holds.
    pub fn tab_to(&mut self, key: &str, expression: &str) {
        for _ in 0..200 {
            self.press(key);
            if self.eval(&format!("(e => {expression})(document.activeElement)")) == json!(true) {
                return;
            }
        }
        panic!("the keyboard does not reach {expression}:\n{}", self.text());
    }

    /// Shows the page as it is for who likes it dark, or bright.
    pub fn like(&mut self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.ask("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Keeps a picture of the page.
    pub fn shoot(&mut self, to: &Path) {
        use base64::Engine as _;
        let shot = self.ask("Page.captureScreenshot", json!({"captureBeyondViewport": true}));
        let bytes = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(to, bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let close = json!({"id": 0, "method": "Browser.close"}).to_string() + "\0";
        let _gone_already = self.to.write_all(close.as_bytes());
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if started.elapsed() > Duration::from_secs(10) {
                let _ = self.child.kill();
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
