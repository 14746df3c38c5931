//! A mount that outlives its daemon: killed, restarted and upgraded daemons, with the test in the place of the service manager.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod loads;
mod manager;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use manager::Manager;
use rustix::mm::MapFlags;
use support::machine::{self, mounted_type};
use support::mapping::Mapping;
use support::place::Place;

/// Whether the test can be made here: mounts, and a kernel that resends requests.
fn is_possible(test: &str) -> bool {
    if !machine::can_mount(test) {
        return false;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    if (numbers.next(), numbers.next()) >= (Some(6), Some(9)) {
        return true;
    }
    machine::skip(test, "the kernel is older than Linux 6.9");
    false
}

fn errno<T: std::fmt::Debug>(outcome: std::io::Result<T>) -> i32 {
    outcome.unwrap_err().raw_os_error().unwrap()
}

fn open(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

#[test]
fn what_is_open_goes_on_after_the_daemon_is_killed() {
    if !is_possible("what_is_open_goes_on_after_the_daemon_is_killed") {
        return;
    }
    let place = Place::with_volume(&["--quota", "1GiB"]);
    let mut manager = Manager::new(&place);
    manager.start();
    assert_eq!(manager.names(), ["wamedia-mount", "wamedia-note"]);
    let mut synced = open(&manager.path("synced"));
    synced.write_all(b"hello").unwrap();
    synced.sync_all().unwrap();
    let mut reader = File::open(manager.path("synced")).unwrap();
    reader.read_exact(&mut [0; 2]).unwrap();
    let mut nameless = open(&manager.path("nameless"));
    nameless.write_all(&[7; 300_000]).unwrap();
    nameless.sync_all().unwrap();
    fs::remove_file(manager.path("nameless")).unwrap();
    let mut appender = File::options().append(true).create(true).open(manager.path("log")).unwrap();
    appender.write_all(b"one ").unwrap();
    appender.sync_all().unwrap();
    for name in 0..300 {
        fs::create_dir_all(manager.path(&format!("many/{name}"))).unwrap();
    }
    let mut listing = fs::read_dir(manager.path("many")).unwrap();
    listing.next().unwrap().unwrap();
    let inode = synced.metadata().unwrap().ino();

    manager.kill();
    let during = manager.path("made-meanwhile");
    let waits = thread::spawn(move || fs::write(during, "by who waited"));
    thread::sleep(Duration::from_millis(100));
    assert!(!waits.is_finished());
    manager.start();
    waits.join().unwrap().unwrap();

    synced.write_all(b" world").unwrap();
    synced.sync_all().unwrap();
    assert_eq!(fs::read(manager.path("synced")).unwrap(), b"hello world");
    assert_eq!(synced.metadata().unwrap().ino(), inode);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "llo world");
    let mut bytes = vec![0; 300_000];
    nameless.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 7));
    assert_eq!(nameless.metadata().unwrap().nlink(), 0);
    nameless.write_all_at(b"goes on", 0).unwrap();
    appender.write_all(b"two").unwrap();
    appender.sync_all().unwrap();
    assert_eq!(fs::read(manager.path("log")).unwrap(), b"one two");
    assert_eq!(listing.map(Result::unwrap).count(), 299);
    assert_eq!(fs::read(manager.path("made-meanwhile")).unwrap(), b"by who waited");
    drop((synced, reader, nameless, appender));
    assert_eq!(manager.takeovers(), 1);
    manager.stop();
    assert_eq!(mounted_type(&place.mnt()), None);
    place.check().expect_success();
}

#[test]
fn what_was_lost_is_an_error_to_who_has_it_open_and_to_nobody_else() {
    if !is_possible("what_was_lost_is_an_error_to_who_has_it_open_and_to_nobody_else") {
        return;
    }
    let place = Place::with_volume(&["--quota", "1GiB"]);
    let mut manager = Manager::new(&place);
    manager.start();
    let mut never_synced = open(&manager.path("never"));
    never_synced.write_all(b"in memory alone").unwrap();
    let mut changed = open(&manager.path("changed"));
    changed.write_all(b"what was synced").unwrap();
    changed.sync_all().unwrap();
    changed.seek(SeekFrom::Start(0)).unwrap();
    changed.write_all(b"what was not").unwrap();
    let reader = File::open(manager.path("changed")).unwrap();
    let mut seen = [0; 8];
    reader.read_exact_at(&mut seen, 0).unwrap();
    assert_eq!(&seen, b"what was");
    let mut renamed = open(&manager.path("mode"));
    renamed.write_all(b"whole").unwrap();
    renamed.sync_all().unwrap();
    let mut handed_on = open(&manager.path("handed-on"));
    handed_on.write_all(b"first").unwrap();
    handed_on.sync_all().unwrap();
    handed_on.write_all(b" second").unwrap();
    renamed.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();

    manager.kill();
    manager.start();

    // Who syncs by another handle what was written by this one is told, too, once.
    let other = open(&manager.path("handed-on"));
    assert_eq!(errno(other.sync_all()), libc::EIO, "the sync of another handle succeeds falsely");
    other.sync_all().unwrap();
    assert_eq!(fs::read(manager.path("handed-on")).unwrap(), b"first");
    assert_eq!(errno(handed_on.sync_all()), libc::EIO);

    // Twice: the process after the next knows it too.
    for round in 0..2 {
        for file in [&never_synced, &changed] {
            assert_eq!(errno(file.sync_all()), libc::EIO, "a sync succeeds falsely, round {round}");
            assert_eq!(errno(file.write_at(b"more", 0)), libc::EIO, "round {round}");
        }
        assert_eq!(errno(reader.read_at(&mut seen, 0)), libc::EIO, "a reader sees a mixture, round {round}");
        // An attribute is lost like a byte.
        assert_eq!(errno(renamed.sync_all()), libc::EIO, "round {round}");
        assert_eq!(fs::metadata(manager.path("mode")).unwrap().mode() & 0o777, 0o644, "round {round}");
        assert_eq!(fs::read(manager.path("changed")).unwrap(), b"what was synced", "round {round}");
        if round == 0 {
            assert_eq!(fs::metadata(manager.path("never")).unwrap_err().kind(), ErrorKind::NotFound);
        }
        fs::write(manager.path("never"), format!("made anew in round {round}")).unwrap();
        let fresh = open(&manager.path("changed"));
        fresh.sync_all().unwrap();
        drop(fresh);
        let whole = open(&manager.path("never"));
        whole.sync_all().unwrap();
        manager.kill();
        manager.start();
        whole.sync_all().unwrap();
    }
    drop((never_synced, changed, reader, renamed, handed_on, other));
    manager.stop();
    place.check().expect_success();
}

#[test]
fn a_daemon_that_hands_over_loses_nothing() {
    if !is_possible("a_daemon_that_hands_over_loses_nothing") {
        return;
    }
    let place = Place::with_volume(&["--quota", "1GiB"]);
    let other = place.path("wamedia-of-another-version");
    fs::copy(env!("CARGO_BIN_EXE_wamedia"), &other).unwrap();
    let mut manager = Manager::new(&place);
    manager.start();
    let mut unsynced = open(&manager.path("unsynced"));
    unsynced.write_all(b"not synced ").unwrap();
    let mut nameless = open(&manager.path("nameless"));
    nameless.write_all(&[9; 500_000]).unwrap();
    fs::remove_file(manager.path("nameless")).unwrap();
    let map = Mapping::new(&open_of_length(&manager.path("mapped"), 4096), 4096, MapFlags::SHARED);
    // Among them is the next daemon, on which that would wait.
    map.keep_from_children();
    map.write(0, b"in mapped memory");

    manager.hand_over();
    manager.upgrade(&other);
    manager.start();

    unsynced.write_all(b"and goes on").unwrap();
    unsynced.sync_all().unwrap();
    assert_eq!(fs::read(manager.path("unsynced")).unwrap(), b"not synced and goes on");
    let mut bytes = vec![0; 500_000];
    nameless.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 9));
    map.sync().unwrap();
    assert_eq!(&fs::read(manager.path("mapped")).unwrap()[..16], b"in mapped memory");
    drop(map);
    manager.hand_over();
    manager.start();
    unsynced.sync_all().unwrap();
    nameless.read_exact_at(&mut bytes, 0).unwrap();
    drop((unsynced, nameless));
    assert_eq!(manager.takeovers(), 2);
    manager.stop();
    // What had no name is gone with its last user.
    assert!(place.check().expect_success().contains("clean"));
}

fn open_of_length(path: &Path, length: u64) -> File {
    let file = open(path);
    file.set_len(length).unwrap();
    file.sync_all().unwrap();
    file
}

/// Writers with checksums and fsync while the daemon is killed and restarted: they meet EIO where something unsynced was
/// lost, and nothing else; what was synced is there.
#[test]
fn writers_go_on_through_kills_and_restarts() {
    if !is_possible("writers_go_on_through_kills_and_restarts") {
        return;
    }
    let place = Place::with_volume(&["--quota", "1GiB"]);
    let mut manager = Manager::new(&place);
    manager.start();
    let load = loads::start(&place.mnt());
    for round in 0..12 {
        thread::sleep(Duration::from_millis(250));
        if round % 3 == 2 {
            manager.hand_over();
        } else {
            manager.kill();
        }
        manager.start();
    }
    thread::sleep(Duration::from_millis(250));
    let told = load.end();
    machine::say(&format!("handover: {told}\n"));
    assert!(told.synced > 100 && told.renamed > 10, "the load did too little to show anything: {told}");
    assert_eq!(manager.takeovers(), 12);
    manager.stop();
    place.check().expect_success();
}

#[test]
fn what_does_not_fit_is_mounted_anew() {
    if !is_possible("what_does_not_fit_is_mounted_anew") {
        return;
    }
    let place = Place::with_volume(&[]);
    let mut manager = Manager::new(&place);
    manager.start();
    fs::write(manager.path("file"), "content").unwrap();
    let held = File::open(manager.path("file")).unwrap();
    manager.hand_over();
    // Other options: the kernel has agreed upon those of the mount.
    manager.set_options(&["-o", "noatime"]);
    manager.start();
    assert_eq!(errno(held.metadata()), libc::ENOTCONN);
    assert_eq!(fs::read(manager.path("file")).unwrap(), b"content");
    assert_eq!(manager.takeovers(), 0);
    // Taken away while nobody served it.
    manager.hand_over();
    rustix::mount::unmount(place.mnt(), rustix::mount::UnmountFlags::DETACH).unwrap();
    manager.start();
    assert_eq!(fs::read(manager.path("file")).unwrap(), b"content");
    assert_eq!(manager.takeovers(), 0);
    assert_eq!(manager.names(), ["wamedia-mount", "wamedia-note"]);
    manager.stop();
}
