//! readdir(3) while entries come and go; mkdir and rmdir.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::fs::{RawDir, SeekFrom, seek};
use rustix::io::Errno;

use crate::errno;
use crate::support::ground::Ground;
use crate::support::tree::names;

/// Reads a directory a few entries at a time, calling `between` after each batch.
fn read_slowly(dir: &File, mut between: impl FnMut(u64)) -> Vec<String> {
    let mut names = Vec::new();
    let mut batches = 0;
    loop {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut entries = RawDir::new(dir, &mut buffer);
        let mut count = 0;
        while let Some(entry) = entries.next() {
            names.push(entry.unwrap().file_name().to_string_lossy().into_owned());
            count += 1;
            if entries.is_buffer_empty() {
                break;
            }
        }
        if count == 0 {
            return names;
        }
        batches += 1;
        between(batches);
    }
}

fn counted(names: Vec<String>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

#[test]
fn every_entry_that_stays_is_listed_once_while_others_come_and_go() {
    let test = "every_entry_that_stays_is_listed_once_while_others_come_and_go";
    let Some(ground) = Ground::new(test) else { return };
    let dir = ground.path("dir");
    fs::create_dir(&dir).unwrap();
    for number in 0..400 {
        File::create(dir.join(format!("stays-{number:04}"))).unwrap();
        File::create(dir.join(format!("goes-{number:04}"))).unwrap();
    }
    let open = File::open(&dir).unwrap();
    let mut gone = 0..400;
    let listed = read_slowly(&open, |batch| {
        // A file system may list at the end whatever is new; for the listing to end, the new must.
        if batch > 40 {
            return;
        }
        for _ in 0..7 {
            if let Some(number) = gone.next() {
                fs::remove_file(dir.join(format!("goes-{number:04}"))).unwrap();
            }
            // Whether a new entry shows is open; that it hides no other is not.
            File::create(dir.join(format!("comes-{batch:04}-{}", gone.start))).unwrap();
        }
        fs::rename(dir.join("stays-0000"), dir.join("moved-0000")).ok();
    });
    assert!(listed.len() > 400, "only {} entries", listed.len());
    let counts = counted(listed);
    for number in 1..400 {
        let name = format!("stays-{number:04}");
        assert_eq!(counts.get(&name), Some(&1), "{name} was there all the time");
    }
    for (name, count) in &counts {
        assert_eq!(*count, 1, "{name} was listed {count} times");
    }
    drop(open);
    ground.finish();
}

#[test]
fn a_directory_that_is_emptied_while_it_is_read_becomes_empty() {
    let Some(ground) = Ground::new("a_directory_that_is_emptied_while_it_is_read_becomes_empty") else { return };
    let dir = ground.path("dir");
    fs::create_dir(&dir).unwrap();
    for number in 0..1000 {
        File::create(dir.join(format!("entry-{number}"))).unwrap();
    }
    // As `rm -r` does: read on while removing what was read.
    for entry in fs::read_dir(&dir).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert!(names(&dir).is_empty(), "left: {:?}", names(&dir));
    fs::remove_dir(&dir).unwrap();
    ground.finish();
}

#[test]
fn reading_goes_on_from_a_position_taken_before() {
    let Some(ground) = Ground::new("reading_goes_on_from_a_position_taken_before") else { return };
    let dir = ground.path("dir");
    fs::create_dir(&dir).unwrap();
    for number in 0..300 {
        File::create(dir.join(format!("entry-{number:03}"))).unwrap();
    }
    let open = File::open(&dir).unwrap();
    let mut positions = Vec::new();
    let all = {
        let mut all = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut entries = RawDir::new(&open, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.unwrap();
            all.push(entry.file_name().to_string_lossy().into_owned());
            positions.push(entry.next_entry_cookie());
        }
        all
    };
    assert_eq!(all.len(), 302, "300 entries, `.` and `..`");
    for at in [0, 1, 2, 100, 299] {
        seek(&open, SeekFrom::Start(positions[at])).unwrap();
        assert_eq!(read_slowly(&open, |_| ()), all[at + 1..], "from after entry {at}");
    }
    File::create(dir.join("late")).unwrap();
    seek(&open, SeekFrom::Start(0)).unwrap();
    let again = read_slowly(&open, |_| ());
    assert!(again.contains(&"late".to_owned()), "a rewind shows what is new");
    assert_eq!(again.len(), 303);
    drop(open);
    ground.finish();
}

#[test]
fn a_listing_tells_type_and_number_as_stat_does() {
    let Some(ground) = Ground::new("a_listing_tells_type_and_number_as_stat_does") else { return };
    fs::write(ground.path("file"), b"x").unwrap();
    fs::create_dir(ground.path("dir")).unwrap();
    std::os::unix::fs::symlink("x", ground.path("link")).unwrap();
    for entry in fs::read_dir(ground.root()).unwrap() {
        let entry = entry.unwrap();
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        assert_eq!(entry.file_type().unwrap(), meta.file_type(), "{:?}", entry.file_name());
        assert_eq!(std::os::unix::fs::DirEntryExt::ino(&entry), meta.ino(), "{:?}", entry.file_name());
    }
    ground.finish();
}

#[test]
fn a_directory_is_made_empty_and_removed_only_empty() {
    let Some(mut ground) = Ground::new("a_directory_is_made_empty_and_removed_only_empty") else { return };
    let dir = ground.path("dir");
    fs::create_dir(&dir).unwrap();
    assert_eq!(errno(fs::create_dir(&dir)), Errno::EXIST);
    assert_eq!(fs::metadata(&dir).unwrap().nlink(), 2);
    fs::create_dir(dir.join("sub")).unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().nlink(), 3);
    assert_eq!(errno(fs::remove_dir(&dir)), Errno::NOTEMPTY);
    fs::remove_dir(dir.join("sub")).unwrap();
    fs::write(dir.join("file"), b"x").unwrap();
    assert_eq!(errno(fs::remove_dir(&dir)), Errno::NOTEMPTY);
    assert_eq!(errno(fs::remove_dir(dir.join("file"))), Errno::NOTDIR);
    assert_eq!(errno(fs::remove_file(&dir)), Errno::ISDIR);
    fs::remove_file(dir.join("file")).unwrap();
    fs::remove_dir(&dir).unwrap();
    ground.remount();
    assert_eq!(errno(fs::metadata(&dir)), Errno::NOENT);
    ground.finish();
}

#[test]
fn a_removed_directory_that_is_open_takes_nothing_new() {
    let Some(ground) = Ground::new("a_removed_directory_that_is_open_takes_nothing_new") else { return };
    let dir = ground.path("dir");
    fs::create_dir(&dir).unwrap();
    let open = File::open(&dir).unwrap();
    fs::remove_dir(&dir).unwrap();
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let made = rustix::fs::openat(&open, "late", flags, rustix::fs::Mode::from(0o600));
    assert_eq!(made.expect_err("creation in a removed directory"), Errno::NOENT);
    drop(open);
    ground.finish();
}

#[test]
fn new_entries_take_the_group_of_a_setgid_directory() {
    let test = "new_entries_take_the_group_of_a_setgid_directory";
    if !crate::support::machine::is_root(test) {
        return;
    }
    let Some(ground) = Ground::new(test) else { return };
    let dir = ground.path("dir");
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, None, Some(4242)).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o2775)).unwrap();
    fs::write(dir.join("file"), b"x").unwrap();
    fs::create_dir(dir.join("sub")).unwrap();
    assert_eq!(fs::metadata(dir.join("file")).unwrap().gid(), 4242);
    let sub = fs::metadata(dir.join("sub")).unwrap();
    assert_eq!(sub.gid(), 4242);
    assert_eq!(sub.mode() & 0o2000, 0o2000, "a directory passes the bit on");
    ground.finish();
}
