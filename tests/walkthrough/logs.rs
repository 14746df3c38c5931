//! The log as lines for programs.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::machine::can_mount;
use crate::support::mounted::DaemonGuard;
use crate::support::place::{Place, text};

#[test]
fn a_log_in_json_is_one_object_a_line() {
    if !can_mount("a_log_in_json_is_one_object_a_line") {
        return;
    }
    let place = Place::with_volume(&[]);
    let (key, store, mnt, log) = (place.key(), place.store(), place.mnt(), place.path("daemon.log"));
    let _guard = DaemonGuard(&place);
    let mount = ["mount", "--log-format", "json", "--daemon", "--log-file", text(&log), "--key-file", text(&key)];
    place.run(&[&mount[..], &[text(&store), text(&mnt)]].concat()).expect_success();
    let pid = place.run(&["status", "--json", text(&mnt)]).json()["pid"].as_i64().unwrap();
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::TERM).unwrap();
    // The store is free once the daemon has told all.
    place.check().expect_success();

    let told = fs::read_to_string(&log).unwrap();
    let lines: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for line in &lines {
        let timestamp = line["timestamp"].as_str().unwrap();
        assert!(timestamp.ends_with('Z') && timestamp.contains('T'), "{line}");
        assert!(line["target"].as_str().unwrap().starts_with("wamedia::"), "{line}");
        assert!(["ERROR", "WARN", "INFO"].contains(&line["level"].as_str().unwrap()), "{line}");
        assert!(line["message"].is_string(), "{line}");
    }
    let unmounted = lines.iter().find(|line| line["message"] == "unmounted").expect(&told);
    assert!(unmounted["stopped"].is_string(), "the event's own field: {unmounted}");
}

#[test]
fn a_log_goes_to_one_place() {
    let place = Place::with_volume(&[]);
    let (key, store, mnt, log) = (place.key(), place.store(), place.mnt(), place.path("daemon.log"));
    let mount = ["mount", "--log-format", "journal", "--log-file", text(&log), "--key-file", text(&key)];
    let told = place.run(&[&mount[..], &[text(&store), text(&mnt)]].concat()).expect_failure();
    assert!(told.contains("there is no journal") || told.contains("--log-file, or --log-format journal"), "{told}");
    assert!(!log.exists());
}
