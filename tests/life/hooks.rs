//! What happens in a volume, told to a program and to a URL.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::support::machine;
use crate::support::mounted::Mounted;
use crate::support::place::{Place, run, text};
use crate::wait_until;

/// A server that takes webhooks, the first one only at the second try.
struct Receiver {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    fn start(address: &str) -> Receiver {
        let listener = TcpListener::bind(address).unwrap();
        let (address, taken) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let into = Arc::clone(&taken);
        thread::spawn(move || {
            let mut refused = false;
            for stream in listener.incoming() {
                let Some((stream, body)) = stream.ok().and_then(request) else { continue };
                let is_taken = std::mem::replace(&mut refused, true);
                if is_taken {
                    into.lock().unwrap().push(body);
                }
                answer(stream, if is_taken { "200 OK" } else { "500 Internal Server Error" });
            }
        });
        Receiver { address, taken }
    }

    fn events(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        taken.iter().map(|body| body["volume"]["event"].as_str().unwrap().to_owned()).collect()
    }
}

fn request(mut stream: TcpStream) -> Option<(TcpStream, Value)> {
    let mut bytes = Vec::new();
    let mut buf = [0; 4096];
    loop {
        let whole = bytes.windows(4).position(|part| part == b"\r\n\r\n").map(|at| bytes.split_at(at + 4));
        if let Some((head, body)) = whole {
            let head = String::from_utf8_lossy(head).to_lowercase();
            let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
            if body.len() >= len? {
                assert!(head.starts_with("post /events?key=secret "), "{head}");
                return Some((stream, serde_json::from_slice(body).ok()?));
            }
        }
        match stream.read(&mut buf) {
            Ok(0) => return None,
            Ok(read) => bytes.extend_from_slice(&buf[..read]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

fn answer(mut stream: TcpStream, status: &str) {
    let _gone = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}

/// A hook that writes down what it is told, one file for each run.
fn hook(place: &Place) -> PathBuf {
    let (path, told) = (place.path("hook"), place.path("told"));
    fs::create_dir(&told).unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = \"$WAMEDIA_EVENT\" ] || exit 3\necho \"told of $1\"\n\
         {{ pwd; env; }} > {0}/new && mv {0}/new {0}/$(ls {0} | grep -vc new)-$1\n\
         case $1 in refused|damage) sleep 9999 & echo $! > {0}/../asleep; wait;; purge) exit 4;; esac\n",
        text(&told)
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The events the hook was told of, in order, each with its environment.
fn told(place: &Place) -> Vec<(String, BTreeMap<String, String>)> {
    let mut runs: Vec<(usize, String, BTreeMap<String, String>)> = Vec::new();
    for entry in fs::read_dir(place.path("told")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some((nth, event)) = name.split_once('-') else { continue };
        let told = fs::read_to_string(&path).unwrap();
        let mut lines = told.lines();
        assert_eq!(lines.next(), Some("/"), "the hook's directory");
        let variables = lines.map(|line| line.split_once('=').unwrap()).map(|(n, v)| (n.to_owned(), v.to_owned()));
        runs.push((nth.parse().unwrap(), event.to_owned(), variables.collect()));
    }
    runs.sort();
    runs.into_iter().map(|(_, event, variables)| (event, variables)).collect()
}

fn events(place: &Place) -> Vec<String> {
    told(place).into_iter().map(|(event, _)| event).collect()
}

/// Whether what the hook has started last still runs.
fn is_hanging(place: &Place) -> bool {
    let pid = fs::read_to_string(place.path("asleep")).unwrap();
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    state.contains("(sleep)") && !state.contains(") Z ")
}

/// Changes one byte in the middle of the newest blob.
fn damage_newest_blob(store: &Path) {
    let mut blobs: Vec<PathBuf> = Vec::new();
    for dir in fs::read_dir(store.join("blobs")).unwrap() {
        blobs.extend(fs::read_dir(dir.unwrap().path()).unwrap().map(|blob| blob.unwrap().path()));
    }
    let newest = blobs.into_iter().max().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
}

#[test]
fn a_program_and_a_url_are_told_what_happens_and_keep_nobody_waiting() {
    if !machine::can_mount("a_program_and_a_url_are_told_what_happens_and_keep_nobody_waiting") {
        return;
    }
    let place = Place::with_volume(&["--quota", "1MiB", "--retention", "30d", "--warn-at", "50%", "--purge-at", "80%"]);
    let receiver = Receiver::start("127.0.0.1:0");
    let (hook, url) = (hook(&place), place.path("url"));
    fs::write(&url, format!("http://{}/events?key=secret\n", receiver.address)).unwrap();
    let options = ["--hook", text(&hook), "--hook-limit", "1s", "--event-url-file", text(&url)];
    let mounted = Mounted::start_prepared(&place, &options, |command| {
        command.env("SECRET_OF_THE_DAEMON", "1").env("WAMEDIA_PASSPHRASE_FILE", "/nowhere");
    });
    let fill = |name: &str, len: usize| fs::write(mounted.path(name), vec![7; len]);
    let wait_for = |event: &str, count: usize| {
        let count_of = |all: Vec<String>| all.iter().filter(|one| *one == event).count();
        wait_until(&format!("the hook is told of {event}"), || count_of(events(&place)) >= count);
        wait_until(&format!("the URL is told of {event}"), || count_of(receiver.events()) >= count);
    };

    fill("half", 600 << 10).unwrap();
    wait_for("warn", 1);
    fill("more", 280 << 10).unwrap();
    wait_for("purge-mark", 1);
    assert!(fill("too much", 300 << 10).is_err());
    wait_for("refused", 1);
    // While it hangs, and after it was ended, everything goes on.
    fs::remove_file(mounted.path("too much")).unwrap();
    fs::remove_file(mounted.path("more")).unwrap();
    fs::remove_file(mounted.path("half")).unwrap();
    wait_for("purge-mark-over", 1);
    wait_for("warn-over", 1);
    assert!(!is_hanging(&place), "what the hook has started outlives its limit");

    fill("old", 5000).unwrap();
    let mut touch = Command::new("touch");
    touch.args(["-d", "40 days ago"]).arg(mounted.path("old"));
    run(touch).expect_success();
    place.run(&["expired", "purge", "--yes", text(mounted.root())]).expect_success();
    wait_for("purge", 1);

    fill("damaged", 5000).unwrap();
    fs::File::open(mounted.path("damaged")).unwrap().sync_all().unwrap();
    damage_newest_blob(&place.store());
    assert_eq!(place.run(&["scrub", text(mounted.root())]).status.code(), Some(5));
    wait_for("damage", 1);

    let without_expired = |all: Vec<String>| all.into_iter().filter(|one| one != "expired").collect::<Vec<_>>();
    let by_hook = without_expired(events(&place));
    assert_eq!(by_hook, without_expired(receiver.events()), "both are told in order");
    assert_eq!(by_hook[..3], ["warn", "purge-mark", "refused"]);
    assert_eq!(by_hook[5..], ["purge", "damage"]);

    let runs = told(&place);
    let volume = mounted_volume_id(&place, &mounted);
    let names: Vec<&str> =
        runs[0].1.keys().map(String::as_str).filter(|name| !["PWD", "_", "SHLVL", "OLDPWD"].contains(name)).collect();
    let expected = "PATH WAMEDIA_BYTES WAMEDIA_COUNT WAMEDIA_EVENT WAMEDIA_MOUNT WAMEDIA_PERCENT WAMEDIA_RUNTIME_DIR \
                    WAMEDIA_SIZE_BYTES WAMEDIA_STORE WAMEDIA_TIME WAMEDIA_USED_BYTES WAMEDIA_VOLUME_ID";
    assert_eq!(names.join(" "), expected, "nothing else of the daemon's environment");
    assert_eq!(runs[0].1["WAMEDIA_VOLUME_ID"], volume);
    assert_eq!(runs[0].1["WAMEDIA_MOUNT"], text(mounted.root()));
    assert_eq!(runs[0].1["WAMEDIA_USED_BYTES"], (600 << 10).to_string());
    let (_, purge) = runs.iter().find(|(event, _)| event == "purge").unwrap();
    assert_eq!((purge["WAMEDIA_COUNT"].as_str(), purge["WAMEDIA_BYTES"].as_str()), ("1", "5000"));
    let bodies = receiver.taken.lock().unwrap().clone();
    assert_eq!(bodies[0]["volume"]["id"], volume.as_str());
    assert_eq!(bodies[0]["volume"]["used_bytes"], 600 << 10);

    // It hangs now: the daemon ends all the same, and takes it along.
    mounted.unmount();
    assert!(!is_hanging(&place), "the hook outlives the daemon");
    let log = fs::read_to_string(place.path("daemon.log")).unwrap();
    for said in ["the hook says: told of warn", "has failed: exit status: 4", "has not ended in time"] {
        assert!(log.contains(said), "{said} is not in the log:\n{log}");
    }
    assert!(!log.contains("key=secret"));
}

fn mounted_volume_id(place: &Place, mounted: &Mounted) -> String {
    place.run(&["status", "--json", text(mounted.root())]).json()["volume_id"].as_str().unwrap().to_owned()
}

#[test]
fn what_could_not_be_posted_is_posted_after_a_kill() {
    if !machine::can_mount("what_could_not_be_posted_is_posted_after_a_kill") {
        return;
    }
    let place = Place::with_volume(&["--quota", "1MiB", "--warn-at", "50%"]);
    // It is tried once, and then nobody listens any more.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}/events?key=secret");
    let mounted = Mounted::start_with(&place, &["--event-url", &url]);
    fs::write(mounted.path("half"), vec![7; 600 << 10]).unwrap();
    let (stream, body) = request(listener.accept().unwrap().0).unwrap();
    assert_eq!(body["volume"]["event"], "warn");
    answer(stream, "503 Service Unavailable");
    drop(listener);
    mounted.kill();
    let receiver = Receiver::start(&address.to_string());
    let mounted = Mounted::start_with(&place, &["--event-url", &url]);
    wait_until("the event of before the kill", || !receiver.events().is_empty());
    assert_eq!(receiver.taken.lock().unwrap()[0], body);
    mounted.unmount();
}

#[test]
fn what_cannot_be_run_or_posted_to_is_refused_at_once() {
    let place = Place::with_volume(&[]);
    let (key, store, mnt) = (place.key(), place.store(), place.mnt());
    for options in [
        &["--hook", "/nowhere"][..],
        &["--hook", text(&key)],
        &["--event-url", "ftp://example.org/"],
        &["--event-url-file", "/nowhere"],
        &["-o", "ro", "--event-url", "http://127.0.0.1/"],
    ] {
        let call = [&["mount", "--key-file", text(&key)], options, &[text(&store), text(&mnt)]].concat();
        place.run(&call).expect_failure();
    }
}
