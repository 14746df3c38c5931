//! Clients that others wrote, from the registries, each by a script of its own in this directory.
//!
//! `pywa`, `heyoo` and `@great-detail/whatsapp` are clients of the Cloud API: that they work with the upstream stand-in
//! shows that it follows the protocol. `wabclient` was written for WhatsApp's own on-premises client, `waba-360` for
//! 360dialog's first API, which was one: they work with the node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../node/served.rs"]
#[allow(dead_code)]
mod served;
#[path = "../standin/mod.rs"]
mod standin;
#[path = "../support/mod.rs"]
mod support;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use served::{Served, make_token};
use standin::{Dialect, PHONE_NUMBER_ID, StandIn, TOKEN};
use support::machine::can_mount;
use support::place::{Place, run, text};
use support::suites;

/// How long a message may take to the upstream.
const PATIENCE: Duration = Duration::from_secs(30);

fn here(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn photo() -> PathBuf {
    here("media/image/photo.jpg")
}

/// Runs a client's script to its end, in a directory of its own.
fn run_client<S: AsRef<OsStr>>(program: &Path, script: &str, args: &[S]) {
    let dir = tempfile::Builder::new().prefix("wamedia-test-").tempdir().unwrap();
    let mut command = Command::new(program);
    command.arg(here("clients").join(script)).args(args).current_dir(dir.path());
    command.env("TMPDIR", dir.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env_remove(proxy);
    }
    run(command).expect_success();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Has a client of the Cloud API do what its script says, and sees what the stand-in saw of it.
fn assert_speaks_cloud_api(program: &Path, script: &str, name: &str, more: &[&str]) {
    let runtime = runtime();
    let standin = runtime.block_on(StandIn::start(Dialect::CloudApi));
    let (base, photo) = (standin.base(), photo());
    run_client(program, script, &[&[base.as_str(), TOKEN, PHONE_NUMBER_ID, text(&photo)], more].concat());
    let seen = standin.seen();
    assert_eq!((seen.uploads.len(), seen.downloads, seen.denied), (1, 1, 1), "{seen:?}");
    let upload = &seen.uploads[0];
    assert_eq!(upload.sha256[..], Sha256::digest(fs::read(photo).unwrap())[..]);
    assert_eq!(seen.deleted, std::slice::from_ref(&upload.id));
    let [(_, message)] = &seen.messages[..] else { panic!("one message: {:?}", seen.messages) };
    assert_eq!(message["image"], json!({"id": upload.id, "caption": format!("from {name}")}));
}

#[test]
fn pywa_works_with_the_stand_in() {
    let Some(python) = suites::python("pywa_works_with_the_stand_in") else { return };
    assert_speaks_cloud_api(&python, "with_pywa.py", "pywa", &[]);
}

#[test]
fn heyoo_works_with_the_stand_in() {
    let Some(python) = suites::python("heyoo_works_with_the_stand_in") else { return };
    assert_speaks_cloud_api(&python, "with_heyoo.py", "heyoo", &[]);
}

#[test]
fn great_detail_works_with_the_stand_in() {
    let Some((node, packages)) = suites::node("great_detail_works_with_the_stand_in") else { return };
    assert_speaks_cloud_api(&node, "with_great_detail.mjs", "great-detail", &[text(&packages)]);
}

/// A node with the stand-in behind it, the stand-in, and what it runs in.
fn served_with_upstream(dialect: Dialect) -> (Served, StandIn, tokio::runtime::Runtime) {
    let runtime = runtime();
    let standin = runtime.block_on(StandIn::start(dialect));
    let place = Place::with_volume(&[]);
    let token = make_token(&place, "admin", "tester");
    let key = place.path("upstream-token");
    fs::write(&key, TOKEN).unwrap();
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (base, key) = (standin.base(), text(&key).to_owned());
    let mut options = vec!["--upstream-url", &base, "--upstream-token-file", &key, "--upstream"];
    match dialect {
        Dialect::CloudApi => options.extend(["cloud", "--phone-number-id", PHONE_NUMBER_ID]),
        Dialect::Dialog360 => options.push("360dialog"),
    }
    (Served::again(place, token, &options), standin, runtime)
}

/// The messages at the upstream, once so many are there.
fn messages_at(standin: &StandIn, count: usize) -> Vec<Value> {
    let started = Instant::now();
    loop {
        let messages: Vec<Value> = standin.seen().messages.into_iter().map(|(_, message)| message).collect();
        if messages.len() >= count {
            return messages;
        }
        assert!(started.elapsed() < PATIENCE, "{} of {count} messages: {:?}", messages.len(), standin.seen().requests);
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn wabclient_works_with_the_node() {
    let test = "wabclient_works_with_the_node";
    let Some(python) = suites::python(test) else { return };
    if !can_mount(test) {
        return;
    }
    let (served, standin, runtime) = served_with_upstream(Dialect::CloudApi);
    let photo = photo();
    run_client(&python, "with_wabclient.py", &[&served.base, "tester", &served.token, text(&photo)]);
    let sent = messages_at(&standin, 2);
    let content = Sha256::digest(fs::read(photo).unwrap());
    let seen = standin.seen();
    assert!(seen.uploads.iter().all(|upload| upload.sha256[..] == content[..]), "{seen:?}");
    let mut captions: Vec<Option<&str>> = sent.iter().map(|message| message["image"]["caption"].as_str()).collect();
    captions.sort_unstable();
    assert_eq!(captions, [None, Some("from wabclient")]);
    served.mounted.unmount();
    drop(runtime);
}

#[test]
fn waba_360_works_with_the_node() {
    let test = "waba_360_works_with_the_node";
    let Some(python) = suites::python(test) else { return };
    if !can_mount(test) {
        return;
    }
    let (served, standin, runtime) = served_with_upstream(Dialect::Dialog360);
    run_client(&python, "with_waba_360.py", &[&served.base, &served.token]);
    let sent = messages_at(&standin, 2);
    let kinds: Vec<&str> = sent.iter().filter_map(|message| message["type"].as_str()).collect();
    assert_eq!(kinds, ["text", "template"], "in their order");
    assert_eq!(sent[0]["text"]["body"], "from waba-360");
    assert_eq!(sent[1]["template"]["name"], "a_template");
    served.mounted.unmount();
    drop(runtime);
}
