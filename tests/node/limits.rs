//! Room is asked for before the first byte, and nobody keeps others waiting.

use std::io::{Read, Write};
use std::net::TcpStream;

use reqwest::{Method, StatusCode};

use crate::served::{Served, fault_of};
use crate::support::machine::can_mount;
use crate::support::place::text;

fn used(served: &Served) -> (u64, u64) {
    let status = served.place.run(&["status", "--json", text(served.mounted.root())]).json();
    (status["used_bytes"].as_u64().unwrap(), status["media"].as_u64().unwrap())
}

#[test]
fn an_upload_that_does_not_fit_is_refused_and_leaves_nothing() {
    if !can_mount("an_upload_that_does_not_fit_is_refused_and_leaves_nothing") {
        return;
    }
    let served = Served::start(&["--quota", "4MiB"], &[]);
    let address = served.base.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = format!(
        "POST /v1/media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 5000000\r\n\r\n",
        served.token
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 507", "before a byte of it was sent");

    let body = reqwest::blocking::Body::new(std::io::repeat(7).take(5_000_000));
    let (status, code, details) = fault_of(served.ask(Method::POST, "/v1/media").body(body).send().unwrap());
    assert_eq!((status, code), (StatusCode::INSUFFICIENT_STORAGE, 1016), "{details}");
    assert_eq!(used(&served), (0, 0));
    served.upload("application/octet-stream", &[1; 4_000_000]);
    assert_eq!(used(&served).1, 1);
    served.mounted.unmount();
}

#[test]
fn what_is_larger_than_any_upload_is_refused_with_or_without_its_length() {
    if !can_mount("what_is_larger_than_any_upload_is_refused_with_or_without_its_length") {
        return;
    }
    let served = Served::start(&[], &["--max-upload", "1MiB"]);
    let (status, ..) = fault_of(served.try_upload("image/png", &[0; (1 << 20) + 1]));
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let body = reqwest::blocking::Body::new(std::io::repeat(7).take((1 << 20) + 1));
    let (status, ..) = fault_of(served.ask(Method::POST, "/v1/media").body(body).send().unwrap());
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(used(&served), (0, 0));
    let empty = served.upload("text/plain", b"");
    assert_eq!(served.get(&format!("/v1/media/{empty}")).bytes().unwrap().len(), 0);
    served.mounted.unmount();
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    if !can_mount("an_upload_that_breaks_off_leaves_nothing") {
        return;
    }
    let served = Served::start(&[], &[]);
    let address = served.base.trim_start_matches("http://").to_owned();
    for sent in [0, 10, 300_000] {
        let mut stream = TcpStream::connect(&address).unwrap();
        let head = format!(
            "POST /v1/media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 1000000\r\n\r\n",
            served.token
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![1; sent]).unwrap();
        drop(stream);
    }
    let started = std::time::Instant::now();
    while used(&served) != (0, 0) {
        assert!(started.elapsed().as_secs() < 30, "{:?} is still charged", used(&served));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(!served.mounted.path("shared").exists());
    served.mounted.unmount();
}

#[test]
fn hundreds_of_clients_that_say_nothing_keep_nobody_waiting() {
    if !can_mount("hundreds_of_clients_that_say_nothing_keep_nobody_waiting") {
        return;
    }
    let served = Served::start(&[], &[]);
    let address = served.base.trim_start_matches("http://").to_owned();
    let id = served.upload("application/octet-stream", &vec![5; 20 << 20]);
    let silent: Vec<TcpStream> = (0..400)
        .map(|nth| {
            let mut stream = TcpStream::connect(&address).unwrap();
            let begun = match nth % 3 {
                0 => String::new(),
                1 => "GET /v1/health HTTP/1.1\r\nHos".to_owned(),
                // Asks for much and takes none of it.
                _ => {
                    format!("GET /v1/media/{id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", served.token)
                }
            };
            stream.write_all(begun.as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(served.get("/v1/health").status(), StatusCode::OK);
        served.upload("text/plain", b"a short text");
    }
    drop(silent);
    served.mounted.unmount();
}

#[test]
fn who_asks_too_often_is_told_to_slow_down() {
    if !can_mount("who_asks_too_often_is_told_to_slow_down") {
        return;
    }
    let served = Served::start(&[], &["--requests-per-second", "5"]);
    let answers: Vec<_> = (0..40).map(|_| served.get("/v1/health")).collect();
    let slowed = answers.into_iter().find(|answer| answer.status() != StatusCode::OK).expect("40 requests at once");
    assert!(slowed.headers().contains_key("retry-after"));
    assert_eq!(fault_of(slowed).1, 1015);
    let denied = (0..60).map(|_| served.client.get(format!("{}/v1/health", served.base)).send().unwrap());
    let counted = denied.filter(|answer| answer.status() == StatusCode::TOO_MANY_REQUESTS).count();
    assert!(counted > 0, "tokens can be guessed without bound");
    served.mounted.unmount();
}
