//! A mounted volume with its node, and a client of it.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::mounted::Mounted;
use crate::support::place::{Place, text};

/// How long the node may take to say where it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client that takes any certificate and never hangs.
pub fn client() -> Client {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().timeout(Duration::from_secs(60)).tls_danger_accept_invalid_certs(true);
    builder.build().expect("a client")
}

/// A volume that is mounted and served over HTTP.
pub struct Served {
    pub mounted: Mounted,
    pub place: Place,
    pub base: String,
    pub token: String,
    pub client: Client,
}

impl Served {
    /// Makes a volume with a user's token, mounts and serves it.
    pub fn start(init: &[&str], options: &[&str]) -> Served {
        let place = Place::with_volume(init);
        let token = make_token(&place, "user", "tester");
        Served::again(place, token, options)
    }

    /// Mounts and serves a volume that is there.
    pub fn again(place: Place, token: String, options: &[&str]) -> Served {
        let log = place.path("daemon.log");
        let _none_before = fs::remove_file(&log);
        let mounted = Mounted::start_with(&place, &[&["--listen", "127.0.0.1:0"], options].concat());
        let base = base_of(&log);
        Served { mounted, place, base, token, client: client() }
    }

    /// A request with the user's token.
    pub fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    pub fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path).send().expect("an answer")
    }

    /// Uploads bytes of a type; gives the id.
    pub fn upload(&self, mime: &str, bytes: &[u8]) -> String {
        let answer = self.try_upload(mime, bytes);
        assert_eq!(answer.status(), StatusCode::CREATED);
        let answer: Value = answer.json().expect("JSON");
        assert_eq!(answer["meta"]["api_status"], "stable");
        answer["media"][0]["id"].as_str().expect("an id").to_owned()
    }

    pub fn try_upload(&self, mime: &str, bytes: &[u8]) -> Response {
        let request = self.ask(Method::POST, "/v1/media").header("content-type", mime);
        request.body(bytes.to_vec()).send().expect("an answer")
    }

    /// Where a medium lies in the mount.
    pub fn file_of(&self, id: &str) -> PathBuf {
        let digits: String = id.chars().filter(|c| *c != '-').collect();
        self.mounted.path(format!("shared/{}/{}/{}", &digits[..4], &digits[4..8], &digits[8..]))
    }
}

/// Makes a token of an unmounted volume.
pub fn make_token(place: &Place, role: &str, name: &str) -> String {
    let (key, store) = (place.key(), place.store());
    let args = ["token", "create", "--key-file", text(&key), "--role", role, "--name", name, text(&store)];
    let told = place.run(&args).expect_success();
    told.lines().last().expect("the token is the last line").to_owned()
}

fn base_of(log: &std::path::Path) -> String {
    let started = Instant::now();
    loop {
        let told = fs::read_to_string(log).unwrap_or_default();
        let line = told.lines().find_map(|line| line.split("the media node answers at ").nth(1));
        if let Some(base) = line {
            return base.split_whitespace().next().expect("an address").to_owned();
        }
        assert!(started.elapsed() < PATIENCE, "the node does not say where it answers:\n{told}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What an answer that tells of an error says: status, code, details.
pub fn fault_of(answer: Response) -> (StatusCode, u64, String) {
    let status = answer.status();
    let body: Value = answer.json().expect("every error is told in JSON");
    assert_eq!(body["meta"]["api_status"], "stable", "{body}");
    let fault = &body["errors"][0];
    assert!(!fault["title"].as_str().expect("a title").is_empty());
    (status, fault["code"].as_u64().expect("a code"), fault["details"].as_str().expect("details").to_owned())
}
