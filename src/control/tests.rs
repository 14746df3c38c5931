//! The protocol over a real socket, with a service that only pretends.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};

use super::message::MAX_REQUEST_BYTES;
use super::server::MAX_CONNECTIONS;
use super::{Client, Event, Hello, PROTOCOL_VERSION, Reply, Request, Server, Service, Stop, socket};
use crate::error::{Error, Kind, Result};
use crate::volume::{Finding, PurgeReport};

const CHECKED: Reply =
    Reply::Checked { blobs: 1, bytes: 2, findings: 500, unlisted: 3, quarantine: None, needs_rebuild: false };

struct Pretended;

impl Service for Pretended {
    fn answer(&self, request: Request, events: &mut dyn FnMut(Event)) -> Result<Reply> {
        match request {
            Request::Purge { .. } => {
                events(Event::Purged(PurgeReport { media: 1, ..Default::default() }));
                Ok(Reply::Purged(PurgeReport { media: 2, bytes: 3, kept: 4, blob_bytes: 5 }))
            }
            Request::Check { .. } => {
                for number in 0..500 {
                    events(Event::Finding(Finding {
                        chunk: Some(number),
                        problem: "bent".into(),
                        ..Finding::default()
                    }));
                }
                Ok(CHECKED)
            }
            Request::Hold { .. } => Err(Error::new(Kind::NotFound, "no such medium")),
            Request::Sync => panic!("a fault of the service"),
            _ => Ok(Reply::Done),
        }
    }
}

fn hello(protocol: u32) -> Hello {
    Hello { protocol, version: "9".into(), volume_id: "v".into(), store: "/s".into(), mount: Some("/m".into()), pid: 1 }
}

/// A server on its own thread, ended when dropped.
struct Running {
    store: PathBuf,
    end: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Running {
    fn start(protocol: u32, below: &str) -> Running {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join(below);
        std::fs::create_dir_all(&store).unwrap();
        let listener = socket::bind(&store).unwrap();
        let (end, ended) = watch::channel(false);
        let (stops, mut wishes) = mpsc::channel::<Stop>(1);
        let stopper = end.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async move {
                tokio::spawn(async move {
                    while let Some(stop) = wishes.recv().await {
                        if stop.lazy {
                            stop.done.send(Ok(())).unwrap();
                            stopper.send(true).unwrap();
                        } else {
                            stop.done.send(Err(Error::new(Kind::Busy, "files are open"))).unwrap();
                        }
                    }
                });
                Server::new(hello(protocol), Arc::new(Pretended), stops).run(listener, ended).await.unwrap();
            });
        });
        Running { store, end, thread: Some(thread), _directory: directory }
    }

    fn client(&self) -> Client {
        Client::connect(&self.store).unwrap().expect("a daemon is there")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.end.send(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        socket::remove(&self.store).unwrap();
    }
}

fn ask(client: &mut Client, request: &Request) -> (Result<Reply>, Vec<Event>) {
    let mut seen = Vec::new();
    let reply = client.ask(request, &mut |event| seen.push(event));
    (reply, seen)
}

#[test]
fn a_request_is_answered_by_events_and_one_result() {
    let daemon = Running::start(PROTOCOL_VERSION, "s");
    let mut client = daemon.client();
    assert_eq!(*client.hello(), hello(PROTOCOL_VERSION));
    for _ in 0..2 {
        let (reply, seen) = ask(&mut client, &Request::Purge { dry_run: true, older_than: None, list: false });
        assert_eq!(reply.unwrap(), Reply::Purged(PurgeReport { media: 2, bytes: 3, kept: 4, blob_bytes: 5 }));
        assert_eq!(seen, [Event::Purged(PurgeReport { media: 1, ..Default::default() })]);
    }
}

#[test]
fn no_finding_is_lost_to_a_full_queue() {
    let daemon = Running::start(PROTOCOL_VERSION, "s");
    let (reply, seen) =
        ask(&mut daemon.client(), &Request::Check { read_all: false, repair: false, move_damaged: false });
    assert_eq!(reply.unwrap(), CHECKED);
    assert_eq!(seen.len(), 500);
}

#[test]
fn an_error_keeps_its_kind_and_sentence() {
    let daemon = Running::start(PROTOCOL_VERSION, "s");
    let mut client = daemon.client();
    let (reply, _) = ask(&mut client, &Request::Hold { media: vec!["x".into()], held: true });
    let error = reply.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::NotFound, "no such medium"));
    assert_eq!(ask(&mut client, &Request::Status).0.unwrap(), Reply::Done);
}

#[test]
fn a_panic_in_the_service_is_an_error_and_the_daemon_goes_on() {
    let daemon = Running::start(PROTOCOL_VERSION, "s");
    let mut client = daemon.client();
    assert_eq!(ask(&mut client, &Request::Sync).0.unwrap_err().kind(), Kind::Io);
    assert_eq!(ask(&mut client, &Request::Status).0.unwrap(), Reply::Done);
}

#[test]
fn a_path_longer_than_a_socket_address_works() {
    let daemon = Running::start(PROTOCOL_VERSION, &"long/".repeat(60));
    assert_eq!(ask(&mut daemon.client(), &Request::Status).0.unwrap(), Reply::Done);
}

#[test]
fn another_protocol_version_is_refused() {
    let daemon = Running::start(PROTOCOL_VERSION + 1, "s");
    assert_eq!(Client::connect(&daemon.store).err().map(|e| e.kind()), Some(Kind::Version));
}

#[test]
fn a_stop_is_refused_or_ends_the_daemon() {
    let mut daemon = Running::start(PROTOCOL_VERSION, "s");
    let mut client = daemon.client();
    assert_eq!(ask(&mut client, &Request::Stop { lazy: false }).0.unwrap_err().kind(), Kind::Busy);
    assert_eq!(ask(&mut client, &Request::Stop { lazy: true }).0.unwrap(), Reply::Done);
    client.wait_for_end();
    daemon.thread.take().unwrap().join().unwrap();
    assert!(Client::connect(&daemon.store).unwrap().is_none());
}

#[test]
fn without_a_daemon_there_is_no_client() {
    let directory = tempfile::tempdir().unwrap();
    assert!(Client::connect(directory.path()).unwrap().is_none());
    drop(socket::bind(directory.path()).unwrap());
    assert!(Client::connect(directory.path()).unwrap().is_none(), "a stale socket is no daemon");
    socket::bind(directory.path()).expect("a stale socket is replaced");
    socket::remove(directory.path()).unwrap();
}

#[test]
fn the_socket_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let daemon = Running::start(PROTOCOL_VERSION, "s");
    let stream = socket::connect(&daemon.store).unwrap().unwrap();
    let path = stream.peer_addr().unwrap().as_pathname().unwrap().to_owned();
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

fn raw(store: &Path) -> (UnixStream, BufReader<UnixStream>) {
    let stream = socket::connect(store).unwrap().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    (stream, reader)
}

#[test]
fn nonsense_is_refused_in_words_and_the_connection_stays() {
    let daemon = Running::start(PROTOCOL_VERSION, "s");
    let (mut stream, mut reader) = raw(&daemon.store);
    for nonsense in ["{}\n", "\n", "[1,2\n", "{\"op\":\"nothing\"}\n", "\u{0}\u{1}\n"] {
        stream.write_all(nonsense.as_bytes()).unwrap();
        let mut answer = String::new();
        reader.read_line(&mut answer).unwrap();
        assert!(answer.contains("\"kind\":\"Invalid\""), "{nonsense:?}: {answer}");
    }
}

#[test]
fn a_line_at_its_bound_is_read_and_a_longer_one_refused() {
    let daemon = Running::start(PROTOCOL_VERSION, "s");
    for (length, expected) in [(MAX_REQUEST_BYTES - 1, "\"done\""), (MAX_REQUEST_BYTES, "\"kind\":\"TooBig\"")] {
        let (mut stream, mut reader) = raw(&daemon.store);
        let request = "{\"op\":\"status\"}";
        let line = format!("{request}{}\n", " ".repeat(length - request.len()));
        stream.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        reader.read_line(&mut answer).unwrap();
        assert!(answer.contains(expected), "{length}: {answer}");
    }
}

#[test]
fn one_connection_too_many_is_refused_in_words() {
    let daemon = Running::start(PROTOCOL_VERSION, "s");
    let clients: Vec<Client> = (0..MAX_CONNECTIONS).map(|_| daemon.client()).collect();
    assert_eq!(Client::connect(&daemon.store).err().map(|e| e.kind()), Some(Kind::Busy));
    drop(clients);
}

#[test]
fn cursors_survive_the_wire() {
    use super::message::{cursor_bytes, cursor_text};
    for cursor in [&b""[..], b"\x00\xff\x10", b"abc"] {
        assert_eq!(cursor_bytes(&cursor_text(cursor)).unwrap(), cursor);
    }
    for bad in ["0", "zz", "0g", "\u{e9}\u{e9}"] {
        assert!(cursor_bytes(bad).is_err(), "{bad}");
    }
}
