//! How a node ends: drained, or killed in the middle.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process};

use crate::served::{Served, client, make_token};
use crate::support::machine::can_mount;
use crate::support::place::{Place, text, wamedia};

#[test]
fn answers_under_way_are_given_when_it_is_told_to_stop() {
    if !can_mount("answers_under_way_are_given_when_it_is_told_to_stop") {
        return;
    }
    let served = Served::start(&[], &[]);
    let bytes = vec![9; 30 << 20];
    let id = served.upload("application/octet-stream", &bytes);
    let mut stream = TcpStream::connect(served.base.trim_start_matches("http://")).unwrap();
    let head = format!("GET /v1/media/{id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", served.token);
    stream.write_all(head.as_bytes()).unwrap();
    let mut begun = vec![0; 1000];
    stream.read_exact(&mut begun).unwrap();
    let pid = Pid::from_raw(i32::try_from(served.mounted.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    begun.extend_from_slice(&rest);
    assert!(begun.len() > bytes.len() && begun.ends_with(&bytes), "{} bytes came", begun.len());
    let status = served.mounted.wait_for_end().expect("the daemon ends");
    assert!(status.success(), "{status}");
}

#[test]
fn every_upload_that_was_answered_outlives_a_kill_and_no_other_leaves_anything() {
    if !can_mount("every_upload_that_was_answered_outlives_a_kill_and_no_other_leaves_anything") {
        return;
    }
    let mut served = Served::start(&[], &[]);
    let answered = Arc::new(Mutex::new(Vec::new()));
    for round in 0u8..4 {
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0u8..4)
            .map(|writer| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                let (url, token, client) = (format!("{}/v1/media", served.base), served.token.clone(), client());
                std::thread::spawn(move || {
                    for nth in 0usize.. {
                        let len = 1 + (nth * 37_117 + usize::from(writer)) % 400_000;
                        let bytes = vec![round * 16 + writer * 4 + (nth % 4) as u8; len];
                        let sent = client.post(&url).bearer_auth(&token).body(bytes.clone()).send();
                        let Ok(answer) = sent else { return };
                        if answer.status() != StatusCode::CREATED {
                            return;
                        }
                        let Ok(body) = answer.json::<serde_json::Value>() else { return };
                        let id = body["media"][0]["id"].as_str().unwrap().to_owned();
                        answered.lock().unwrap().push((id, bytes[0], len));
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300 + u64::from(round) * 70));
        let Served { mounted, place, token, .. } = served;
        mounted.kill();
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        served = Served::again(place, token, &[]);
        let all = answered.lock().unwrap();
        for (id, byte, len) in all.iter() {
            let bytes = served.get(&format!("/v1/media/{id}")).bytes().unwrap();
            assert!(bytes.len() == *len && bytes.iter().all(|b| b == byte), "{id}: {} bytes of {len}", bytes.len());
        }
        let status = served.place.run(&["status", "--json", text(served.mounted.root())]).json();
        // One of each writer may be durable and not answered yet.
        let (media, known) = (status["media"].as_u64().unwrap(), all.len() as u64);
        assert!(media >= known && media <= known + 4 * u64::from(round + 1), "{media} media, {known} answered");
    }
    assert!(answered.lock().unwrap().len() > 20, "too few uploads to tell");
    let place = served.place;
    served.mounted.unmount();
    place.check().expect_success();
}

#[test]
fn a_node_without_a_mount_serves_with_tls_and_ends_when_told() {
    let place = Place::with_volume(&[]);
    let token = make_token(&place, "user", "tester");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(place.path("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(place.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let (key, store, log) = (place.key(), place.store(), place.path("log"));
    let serve = |cert: &str| {
        let mut command = wamedia();
        command.current_dir(place.dir()).args([
            "serve",
            "--daemon",
            "--listen",
            "127.0.0.1:0",
            "--log-file",
            text(&log),
        ]);
        command.args(["--tls-cert", cert, "--tls-key", "key.pem", "--key-file", text(&key), text(&store)]);
        crate::support::place::run(command)
    };
    let told = serve("key.pem").expect_failure();
    assert!(told.contains("key.pem"), "{told}");
    serve("cert.pem").expect_success();
    let told = std::fs::read_to_string(&log).unwrap();
    let base = told.lines().find_map(|line| line.split("answers at ").nth(1)).expect(&told).trim().to_owned();
    assert!(base.starts_with("https://"), "{base}");
    let answer = client().post(format!("{base}/v1/media")).bearer_auth(&token).body("text").send().unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    let status = place.run(&["status", "--json", text(&store)]).json();
    assert_eq!(status["media"], 1, "the daemon answers commands as that of a mount does");
    place.run(&["umount", text(&store)]).expect_success();
    assert!(client().get(format!("{base}/healthz")).send().is_err());
    place.check().expect_success();
}
