//! The end of a mount leaves nothing behind.

use std::fs;

use crate::support::machine::{can_mount, mounted_type, processes_naming};
use crate::support::mounted::Mounted;
use crate::support::place::Place;

#[test]
fn umount_leaves_no_process_and_no_mount() {
    if !can_mount("umount_leaves_no_process_and_no_mount") {
        return;
    }
    let place = Place::with_volume(&[]);
    for round in 0..5 {
        let mounted = Mounted::start(&place);
        assert_eq!(mounted_type(&place.mnt()).as_deref(), Some("fuse.wamedia"));
        fs::write(mounted.path(format!("file-{round}")), b"x").unwrap();
        mounted.unmount();
        assert_eq!(mounted_type(&place.mnt()), None);
        assert!(fs::read_dir(place.mnt()).unwrap().next().is_none(), "the bare mount point is empty");
        assert_eq!(processes_naming(place.dir()), []);
    }
    place.check().expect_success();
}

#[test]
fn a_term_signal_unmounts_and_ends_the_daemon() {
    if !can_mount("a_term_signal_unmounts_and_ends_the_daemon") {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    fs::write(mounted.path("file"), b"kept").unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(mounted.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = (0..3000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        mounted.ended()
    });
    assert!(ended.expect("the daemon ends on SIGTERM").success());
    assert_eq!(mounted_type(&place.mnt()), None);
    drop(mounted);
    let mounted = Mounted::start(&place);
    assert_eq!(fs::read(mounted.path("file")).unwrap(), b"kept");
    mounted.unmount();
    place.check().expect_success();
}

#[test]
fn umount_of_a_busy_volume_says_so_or_waits_and_loses_nothing() {
    if !can_mount("umount_of_a_busy_volume_says_so_or_waits_and_loses_nothing") {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    let file = fs::File::create(mounted.path("open")).unwrap();
    std::io::Write::write_all(&mut &file, b"written before").unwrap();
    let outcome = place.run(&["umount", crate::support::place::text(&place.mnt())]);
    if outcome.status.success() {
        drop(file);
    } else {
        assert!(!outcome.stderr.trim().is_empty());
        std::io::Write::write_all(&mut &file, b" and after").unwrap();
        drop(file);
        mounted.unmount();
        let mounted = Mounted::start(&place);
        assert_eq!(fs::read(mounted.path("open")).unwrap(), b"written before and after");
        mounted.unmount();
    }
    place.check().expect_success();
}
