//! `wamedia top` on a real terminal: a pseudo-terminal of `script`, with an emulator that knows what is to be seen.

use std::fs;
use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::machine::can_mount;
use crate::support::mounted::Mounted;
use crate::support::place::{Place, text, wamedia};
use crate::tools::tool;

const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal on which `top` runs.
struct Screen {
    child: Child,
    keys: ChildStdin,
    said: Receiver<Vec<u8>>,
    emulator: vt100::Parser,
}

impl Screen {
    fn start(mounted: &Mounted, (rows, cols): (u16, u16)) -> Screen {
        let binary = wamedia().get_program().to_owned();
        let line = format!(
            "stty rows {rows} cols {cols} && exec '{}' top --interval 200ms '{}'",
            binary.to_str().unwrap(),
            text(mounted.root())
        );
        let mut command = tool("script", "bsdutils");
        command
            .args(["-qfec", &line, "/dev/null"])
            .env("WAMEDIA_RUNTIME_DIR", "")
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let keys = child.stdin.take().unwrap();
        let mut from = child.stdout.take().unwrap();
        let (sender, said) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len) = from.read(&mut bytes)
                && len > 0
                && sender.send(bytes[..len].to_vec()).is_ok()
            {}
        });
        Screen {
            child,
            keys,
            said,
            emulator: vt100::Parser::new(NonZero::new(rows).unwrap(), NonZero::new(cols).unwrap(), 0),
        }
    }

    /// What is to be seen now.
    fn text(&self) -> String {
        self.emulator.screen().contents()
    }

    /// Takes in what is drawn until `seen` holds.
    fn wait(&mut self, what: &str, seen: impl Fn(&str) -> bool) {
        let started = Instant::now();
        while !seen(&self.text()) {
            match self.said.recv_timeout(Duration::from_millis(100)) {
                Ok(bytes) => self.emulator.process(&bytes),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("it has ended without {what}:\n{}", self.text()),
            }
            assert!(started.elapsed() < PATIENCE, "{what} is not to be seen:\n{}", self.text());
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// The process that draws.
    fn pid(&self) -> Pid {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        Pid::from_raw(children.trim().parse().unwrap()).unwrap()
    }

    /// Takes in the rest; the exit code. The terminal must be as it was.
    fn end(mut self) -> (i32, String) {
        let started = Instant::now();
        loop {
            match self.said.recv_timeout(Duration::from_millis(100)) {
                Ok(bytes) => self.emulator.process(&bytes),
                Err(RecvTimeoutError::Timeout) => assert!(started.elapsed() < PATIENCE, "it does not end"),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.child.wait().unwrap();
        let screen = self.emulator.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor(), "the terminal is as it was");
        (status.code().unwrap_or(-1), screen.contents())
    }
}

/// How many a second a picture tells of a kind of request.
fn rate(picture: &str, operation: &str) -> u64 {
    let words = |line: &str| line.replace('│', " ").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut lines = picture.lines().map(words);
    let line = lines.find(|words| words.first().is_some_and(|word| word == operation));
    line.and_then(|words| words.get(1)?.parse().ok()).unwrap_or(0)
}

#[test]
fn it_shows_what_happens_and_leaves_the_terminal_as_it_was() {
    if !can_mount("it_shows_what_happens_and_leaves_the_terminal_as_it_was") {
        return;
    }
    let place = Place::with_volume(&["--quota", "100MiB"]);
    let mounted = Mounted::start(&place);
    let mut screen = Screen::start(&mounted, (30, 110));
    let at = text(mounted.root()).to_owned();
    screen.wait("the volume", |seen| seen.contains(&at) && seen.contains("0 B of 100.0 MiB (0 %)"));
    assert!(screen.emulator.screen().alternate_screen(), "it has a screen of its own");
    thread::scope(|scope| {
        let (sender, stop) = channel::<()>();
        let root = mounted.root();
        scope.spawn(move || {
            for nth in 0_u64.. {
                fs::write(root.join(format!("{}.bin", nth % 20)), [7; 10_000]).unwrap();
                if stop.recv_timeout(Duration::from_millis(5)) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        screen.wait("requests", |seen| rate(seen, "write") > 0 && rate(seen, "create") + rate(seen, "open") > 0);
        screen.wait("bytes", |seen| seen.contains("writing ") && !seen.contains("writing 0 B/s"));
        drop(sender);
    });
    screen.wait("quiet again", |seen| rate(seen, "write") == 0 && seen.contains("20 media"));
    screen.press("x");
    screen.press("q");
    assert_eq!(screen.end().0, 0);

    let mut narrow = Screen::start(&mounted, (10, 40));
    narrow.wait("a small picture", |seen| seen.contains("of 100.0 MiB"));
    narrow.press("\u{3}");
    assert_eq!(narrow.end().0, 0, "Ctrl-C is an end like any other");
    let mut told = Screen::start(&mounted, (24, 80));
    told.wait("a picture", |seen| seen.contains("of 100.0 MiB"));
    kill_process(told.pid(), Signal::TERM).unwrap();
    assert_eq!(told.end().0, 0, "so is SIGTERM");

    let mut left = Screen::start(&mounted, (24, 80));
    left.wait("a picture", |seen| seen.contains("of 100.0 MiB"));
    mounted.kill();
    let (code, said) = left.end();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("the daemon has ended"), "{said}");
}

#[test]
fn it_prints_one_picture_where_there_is_no_terminal() {
    if !can_mount("it_prints_one_picture_where_there_is_no_terminal") {
        return;
    }
    let place = Place::with_volume(&["--quota", "100MiB"]);
    let mounted = Mounted::start(&place);
    fs::write(mounted.path("a.txt"), "text").unwrap();
    assert_eq!(fs::read(mounted.path("a.txt")).unwrap(), b"text");
    let mnt = text(mounted.root());
    for args in [vec!["top", mnt], vec!["top", "--once", mnt]] {
        let picture = place.run(&args).expect_success();
        for told in [mnt, "4 B of 100.0 MiB (0 %)", "quota 100.0 MiB", "request ", "│write ", "1 medium, 4 B", "scrub:"]
        {
            assert!(picture.contains(told), "{told:?} is not in\n{picture}");
        }
        assert!(!picture.contains('\u{1b}') && picture.lines().all(|line| line == line.trim_end()), "{picture}");
    }
    let value = place.run(&["top", "--json", mnt]).json();
    assert_eq!((&value["status"]["media"], &value["growth"]["bytes_a_day"]), (&1.into(), &serde_json::Value::Null));
    assert_eq!(value["node"]["queues"].as_array().unwrap().len(), 6);
    let requests = value["requests"].as_array().unwrap();
    let write = requests.iter().find(|of| of["operation"] == "write").unwrap();
    assert!(write["count"].as_u64() >= Some(1) && write["seconds"].as_f64() > Some(0.0), "{write}");
    assert_eq!(place.run(&["top", "--interval", "1ms", mnt]).status.code(), Some(2));
    mounted.unmount();
    let closed = place.run(&["top", "--key-file", text(&place.key()), text(&place.store())]).expect_success();
    assert!(closed.contains("not served") && closed.contains("1 medium"), "{closed}");
}
