//! Mounts that are dead, about to end, or read-only, and stores that this user may not use.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::machine::{can_mount, is_root, mounted_type, skip};
use crate::support::mounted::{DaemonGuard, Mounted};
use crate::support::place::{Outcome, Place, run, text, wamedia};
use crate::support::samples;
use crate::support::tree;
use crate::support::xattr;
use crate::tool;

/// The documented exit codes.
const NOT_FOUND: i32 = 7;
const DENIED: i32 = 9;
const READ_ONLY: i32 = 11;

/// A second mount point, which is free again when this is dropped.
struct Elsewhere(PathBuf);

impl Elsewhere {
    fn new(place: &Place) -> Elsewhere {
        let path = place.path("elsewhere");
        fs::create_dir(&path).unwrap();
        Elsewhere(path)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if mounted_type(&self.0).is_some() {
            let _ = unmount(&self.0, UnmountFlags::DETACH);
        }
    }
}

fn mount_daemon(place: &Place, mnt: &Path) -> Outcome {
    let (key, store) = (place.key(), place.store());
    place.run(&["mount", "--daemon", "--key-file", text(&key), text(&store), text(mnt)])
}

fn kill_daemon_of(place: &Place, mnt: &Path) {
    let status = place.run(&["status", "--json", text(mnt)]).json();
    let pid = status["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    while fs::metadata(mnt).is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_dead_mount_is_cleared_and_no_other_mount_of_its_store() {
    if !can_mount("a_dead_mount_is_cleared_and_no_other_mount_of_its_store") {
        return;
    }
    let place = Place::with_volume(&[]);
    let dead = Elsewhere::new(&place);
    mount_daemon(&place, &dead.0).expect_success();
    kill_daemon_of(&place, &dead.0);
    let alive = Mounted::start(&place);
    for command in ["status", "ls"] {
        let said = place.run(&[command, text(&dead.0)]).expect_failure();
        assert!(said.contains("wamedia umount"), "{command} of a dead mount said: {said}");
    }
    place.run(&["umount", text(&dead.0)]).expect_success();
    assert_eq!(mounted_type(&dead.0), None);
    fs::write(alive.path("medium"), b"still served").unwrap();
    place.run(&["status", text(alive.root())]).expect_success();
    alive.unmount();
}

#[test]
fn a_dead_mount_is_found_by_its_store() {
    if !can_mount("a_dead_mount_is_found_by_its_store") {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    mounted.kill_now();
    let store = place.store();
    place.run(&["umount", text(&store)]).expect_success();
    assert_eq!(mounted_type(mounted.root()), None);
    let again = place.run(&["umount", text(&store)]);
    assert_eq!(again.status.code(), Some(NOT_FOUND), "{}", again.stderr);
}

#[test]
fn a_mount_waits_for_a_daemon_that_ends_and_not_for_one_that_serves() {
    if !can_mount("a_mount_waits_for_a_daemon_that_ends_and_not_for_one_that_serves") {
        return;
    }
    let place = Place::with_volume(&[]);
    let _guard = DaemonGuard(&place);
    let mnt = place.mnt();
    mount_daemon(&place, &mnt).expect_success();
    for round in 0..5 {
        for number in 0..50 {
            fs::write(mnt.join(format!("{round}-{number}")), vec![7; 100_000]).unwrap();
        }
        tool("umount", &[text(&mnt)]);
        mount_daemon(&place, &mnt).expect_success();
    }
    let elsewhere = Elsewhere::new(&place);
    let begun = Instant::now();
    assert_eq!(mount_daemon(&place, &elsewhere.0).status.code(), Some(4));
    assert!(begun.elapsed() < Duration::from_secs(2), "refused after {:?}", begun.elapsed());
    place.run(&["umount", text(&mnt)]).expect_success();
}

#[test]
fn a_volume_that_is_mounted_read_only_is_not_changed_by_commands_either() {
    if !can_mount("a_volume_that_is_mounted_read_only_is_not_changed_by_commands_either") {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    fs::write(mounted.path("medium"), b"x").unwrap();
    mounted.unmount();
    let mounted = Mounted::start_with(&place, &["-o", "ro"]);
    let mnt = text(mounted.root());
    for command in [
        &["hold", mnt, "medium"][..],
        &["quota", "set", "--quota", "1GiB", mnt],
        &["retention", "set", "--default", "1d", mnt],
        &["retention", "set", "--medium", "medium", "--keep", "1d", mnt],
        &["expired", "purge", "--yes", mnt],
    ] {
        let outcome = place.run(command);
        assert_eq!(outcome.status.code(), Some(READ_ONLY), "{command:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("read-only"), "{command:?}: {}", outcome.stderr);
    }
    for command in [&["quota", "show", mnt][..], &["retention", "show", mnt], &["expired", "purge", "--dry-run", mnt]] {
        place.run(command).expect_success();
    }
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("new"), b"x").unwrap();
    assert_eq!(place.run(&["import", text(&source), mnt]).status.code(), Some(READ_ONLY));
    let medium = &place.run(&["ls", "--json", mnt]).json();
    assert_eq!(medium["held"], false);
    mounted.unmount();
}

#[test]
fn a_store_that_cannot_be_written_is_read_and_left_as_it_is() {
    let test = "a_store_that_cannot_be_written_is_read_and_left_as_it_is";
    if !can_mount(test) || !is_root(test) {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    fs::write(mounted.path("medium"), b"read").unwrap();
    fs::write(mounted.path("removed"), b"gone").unwrap();
    tool("sync", &[text(&mounted.path("medium"))]);
    fs::remove_file(mounted.path("removed")).unwrap();
    // As in a snapshot, the index is not complete and blobs wait for their end.
    mounted.kill();
    let shown = Elsewhere::new(&place);
    tool("mount", &["--bind", text(&place.store()), text(&shown.0)]);
    tool("mount", &["-o", "remount,bind,ro", text(&shown.0)]);
    let before = tree::files(&place.store());
    let (key, mnt, out, run_dir) = (place.key(), place.mnt(), place.path("out"), place.path("run"));
    let call = |command: &[&str], then: &[&str]| {
        let mut called = wamedia();
        called.env("WAMEDIA_RUNTIME_DIR", &run_dir).current_dir(place.dir());
        called.args(command).args(["--key-file", text(&key), text(&shown.0)]).args(then);
        run(called)
    };
    let checked = call(&["check", "--read-all"], &[]);
    if checked.status.code() == Some(READ_ONLY) && checked.stderr.contains("overlay") {
        skip(test, "no overlay can be mounted");
        return;
    }
    checked.expect_success();
    assert!(call(&["ls"], &[]).expect_success().contains("medium"));
    call(&["status"], &[]).expect_success();
    call(&["export"], &[text(&out)]).expect_success();
    assert_eq!(fs::read(out.join("medium")).unwrap(), b"read");
    for (command, then) in [
        (&["hold"][..], &["medium"][..]),
        (&["rebuild-index"], &[]),
        (&["quota", "set", "--quota", "1GiB"], &[]),
        (&["mount", "--daemon"], &[text(&mnt)]),
    ] {
        let outcome = call(command, then);
        assert_eq!(outcome.status.code(), Some(READ_ONLY), "{command:?}: {}", outcome.stderr);
    }
    let _guard = DaemonGuard(&place);
    call(&["mount", "--daemon", "-o", "ro"], &[text(&mnt)]).expect_success();
    assert_eq!(fs::read(mnt.join("medium")).unwrap(), b"read");
    let mut umount = wamedia();
    umount.env("WAMEDIA_RUNTIME_DIR", &run_dir).arg("umount").arg(&mnt);
    run(umount).expect_success();
    assert!(tree::files(&place.store()) == before, "the store was written");
}

#[test]
fn the_store_of_another_user_is_denied_and_not_taken_for_none() {
    let test = "the_store_of_another_user_is_denied_and_not_taken_for_none";
    if !is_root(test) {
        return;
    }
    let place = Place::with_volume(&[]);
    let (store, mnt) = (place.store(), place.mnt());
    let (store, mnt) = (text(&store), text(&mnt));
    for call in [&["status", store][..], &["mount", store, mnt], &["key", "list", store], &["check", store]] {
        let mut command = wamedia();
        command.args(call).uid(65_534).gid(65_534).current_dir("/");
        let outcome = run(command);
        assert_eq!(outcome.status.code(), Some(DENIED), "{call:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("ermission denied"), "{call:?}: {}", outcome.stderr);
    }
}

#[test]
fn lists_take_the_types_they_show_and_directories_that_are_there() {
    let test = "lists_take_the_types_they_show_and_directories_that_are_there";
    if !can_mount(test) {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    tool("cp", &["-r", text(&samples::dir()), text(&mounted.path("in"))]);
    let opus = mounted.path("in/audio/typed.ogg");
    fs::write(&opus, b"x").unwrap();
    tool("setfattr", &["-n", "user.mime_type", "-v", "audio/ogg; codecs=opus", text(&opus)]);
    let mnt = text(mounted.root());
    for medium in place.run(&["ls", "--json", mnt]).json_lines() {
        let mime = medium["mime_type"].as_str().unwrap();
        let found = place.run(&["ls", "--json", "--type", mime, mnt]).json_lines();
        assert!(found.iter().any(|other| other["path"] == medium["path"]), "{mime} does not find {}", medium["path"]);
    }
    place.run(&["retention", "set", "--type", "Audio/OGG;codecs=opus=7d", "--default", "1y", mnt]).expect_success();
    let shown = place.run(&["retention", "show", mnt]).expect_success();
    assert!(shown.contains("audio/ogg; codecs=opus  7d") && shown.contains("1y"), "{shown}");
    place.run(&["retention", "set", "--medium", "in/audio/typed.ogg", "--keep", "7d", mnt]).expect_success();
    assert_eq!(xattr::text(&opus, "user.wamedia.retention"), "7d");
    let (none, file) = (mounted.path("nosuch"), opus);
    for call in [&["ls", text(&none)][..], &["ls", "--below", "nosuch", mnt], &["ls", text(&file)]] {
        let outcome = place.run(call);
        assert_eq!(outcome.status.code(), Some(NOT_FOUND), "{call:?}: {}", outcome.stderr);
    }
    place.run(&["ls", "--below", "in/audio", mnt]).expect_success();
    mounted.unmount();
}
