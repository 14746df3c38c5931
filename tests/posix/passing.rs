//! Media that are read by the kernel alone (`-o pass_through`): that they are, that everybody sees what is written, and that a
//! kill leaves the old content or the new one. Takes root and Linux 6.9.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::errno;
use crate::support::mapping::Mapping;
use crate::support::mounted::Mounted;
use crate::support::patterns::{assert_same, bytes};
use crate::support::place::{Place, run, text, wamedia};

const LEN: usize = 3_000_000;

fn mounted() -> (Place, Mounted) {
    let place = Place::with_plain_volume(&[]);
    let mounted = Mounted::start_with(&place, &["-o", "pass_through"]);
    (place, mounted)
}

/// Writes a medium front to back and waits until it is published.
fn put(path: &Path, content: &[u8]) {
    let mut file = File::create(path).unwrap();
    file.write_all(content).unwrap();
    file.sync_all().unwrap();
    drop(file);
    await_releases(path);
}

/// Waits until no handle is open any more: the kernel tells of a close without waiting, and with the handle of a writer a
/// medium is read the ordinary way.
fn await_releases(path: &Path) {
    for _ in 0..1000 {
        if asked(path, "release") == asked(path, "open") + asked(path, "create") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("a handle stays open");
}

/// How many reads the daemon was asked for.
fn reads(path: &Path) -> u64 {
    asked(path, "read")
}

fn asked(path: &Path, operation: &str) -> u64 {
    let mut command = wamedia();
    command.arg("metrics").arg(path.parent().unwrap());
    let figures = run(command).expect_success();
    let line = figures.lines().find(|line| {
        line.starts_with("wamedia_mount_request_duration_seconds_count{")
            && line.contains(&format!("operation=\"{operation}\""))
    });
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

/// The contents files of the store.
fn contents(place: &Place) -> Vec<PathBuf> {
    let dirs = fs::read_dir(place.store().join("blobs")).unwrap().map(|dir| dir.unwrap().path());
    let files = dirs.flat_map(|dir| fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()));
    files.filter(|path| path.extension().is_some_and(|end| end == "c")).collect()
}

fn read(file: &File) -> Vec<u8> {
    let mut out = vec![0; 2 * LEN];
    let mut got = 0;
    loop {
        match file.read_at(&mut out[got..], got as u64).unwrap() {
            0 => break,
            more => got += more,
        }
    }
    out.truncate(got);
    out
}

#[test]
fn the_daemon_is_not_asked_for_what_is_passed_through() {
    let (place, mounted) = mounted();
    let (path, content) = (place.mnt().join("f"), bytes(1, LEN));
    put(&path, &content);
    let before = reads(&path);
    assert_same(&fs::read(&path).unwrap(), &content, "passed through");
    assert_eq!(reads(&path), before, "the daemon saw a read");
    // What is changed behind its back is what is read: nobody looks.
    let [contents] = &contents(&place)[..] else { panic!("one contents file") };
    File::options().write(true).open(contents).unwrap().write_all_at(b"behind", 1_000_000).unwrap();
    let mut damaged = content.clone();
    damaged[1_000_000..1_000_006].copy_from_slice(b"behind");
    assert_same(&fs::read(&path).unwrap(), &damaged, "not verified");
    let checked = place.run(&["check", "--read-all", text(&place.mnt())]);
    assert_eq!(checked.status.code(), Some(5), "{}{}", checked.stdout, checked.stderr);
    mounted.unmount();
    let mounted = Mounted::start(&place);
    assert_eq!(errno(fs::read(&path)), Errno::IO, "verified without the option");
    mounted.unmount();
}

#[test]
fn who_reads_so_sees_what_is_written_truncated_and_punched() {
    let (place, mounted) = mounted();
    let (path, mut model) = (place.mnt().join("f"), bytes(2, LEN));
    put(&path, &model);
    let reader = File::open(&path).unwrap();
    let mapping = Mapping::read_only(&reader, LEN);
    assert_same(&read(&reader), &model, "passed through");
    let before = reads(&path);
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    writer.write_all_at(b"from beside", 70_000).unwrap();
    model[70_000..70_011].copy_from_slice(b"from beside");
    assert_same(&read(&reader), &model, "after a write");
    assert_same(&mapping.read(0, LEN), &model, "the mapping after a write");
    rustix::fs::fallocate(
        &writer,
        rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE,
        100_000,
        900_000,
    )
    .unwrap();
    model[100_000..1_000_000].fill(0);
    assert_same(&read(&reader), &model, "after a hole");
    assert_same(&mapping.read(0, LEN), &model, "the mapping after a hole");
    // From another file system, by way of a pipe in the kernel.
    let beside = place.path("beside");
    fs::write(&beside, [6; 20_000]).unwrap();
    let mut writer = writer;
    writer.seek(SeekFrom::Start(2_000_000)).unwrap();
    let sent = rustix::fs::sendfile(&writer, File::open(&beside).unwrap(), None, 20_000).unwrap();
    assert_eq!(sent, 20_000);
    model[2_000_000..2_020_000].fill(6);
    assert_same(&read(&reader), &model, "after a splice");
    let mut more = OpenOptions::new().append(true).open(&path).unwrap();
    more.write_all(&[9; 5000]).unwrap();
    model.extend([9; 5000]);
    assert_same(&read(&reader), &model, "after an append");
    assert_same(&read(&File::open(&path).unwrap()), &model, "by another handle");
    File::options().write(true).open(&path).unwrap().set_len(2_345_678).unwrap();
    model.truncate(2_345_678);
    assert_same(&read(&reader), &model, "after a truncation");
    assert_eq!(fs::metadata(&path).unwrap().len(), 2_345_678);
    assert_eq!(reads(&path), before, "all of it was passed through");
    assert_eq!(errno(OpenOptions::new().read(true).write(true).open(&path)), Errno::TXTBSY);
    drop((writer, more, mapping, reader));
    // With the last of them it is a medium as any other.
    await_releases(&path);
    let both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    assert_same(&read(&both), &model, "the ordinary way");
    drop(both);
    assert_same(&fs::read(&path).unwrap(), &model, "the ordinary way");
    mounted.unmount();
    place.run(&["check", "--read-all", text(&place.store())]).expect_success();
    let mounted = Mounted::start(&place);
    assert_same(&fs::read(&path).unwrap(), &model, "verified");
    mounted.unmount();
}

#[test]
fn a_kill_while_somebody_reads_so_leaves_the_old_content_or_the_new_one() {
    let (place, mut mounted) = mounted();
    let (path, old) = (place.mnt().join("f"), bytes(3, LEN));
    put(&path, &old);
    for is_synced in [false, true] {
        let reader = File::open(&path).unwrap();
        assert_same(&read(&reader), &old, "before");
        let writer = OpenOptions::new().write(true).open(&path).unwrap();
        writer.write_all_at(&[7; 200_000], 1_000_000).unwrap();
        let mut new = old.clone();
        new[1_000_000..1_200_000].fill(7);
        if is_synced {
            writer.sync_all().unwrap();
        }
        assert_same(&read(&reader), &new, "seen at once");
        mounted.kill();
        drop((reader, writer));
        mounted = Mounted::start_with(&place, &["-o", "pass_through"]);
        assert_same(&fs::read(&path).unwrap(), if is_synced { &new } else { &old }, "after the kill");
        place.run(&["check", "--read-all", text(&place.mnt())]).expect_success();
    }
    mounted.unmount();
}

#[test]
fn a_handle_of_a_removed_or_replaced_medium_goes_on() {
    let (place, mounted) = mounted();
    let [gone, other] = ["gone", "other"].map(|name| place.mnt().join(name));
    let (first, second) = (bytes(4, LEN), bytes(5, LEN));
    put(&gone, &first);
    put(&other, &second);
    let reader = File::open(&gone).unwrap();
    fs::rename(&other, &gone).unwrap();
    assert_same(&read(&reader), &first, "its name is another's");
    let of_other = File::open(&gone).unwrap();
    fs::remove_file(&gone).unwrap();
    assert_same(&read(&of_other), &second, "its name is gone");
    drop((reader, of_other));
    mounted.unmount();
    place.run(&["check", "--read-all", text(&place.store())]).expect_success();
    assert_eq!(contents(&place), [] as [PathBuf; 0]);
}

#[test]
fn a_handle_that_reads_the_ordinary_way_keeps_others_at_it() {
    let (place, mounted) = mounted();
    let (path, model) = (place.mnt().join("f"), bytes(6, LEN));
    put(&path, &model);
    let both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let reader = File::open(&path).unwrap();
    both.write_all_at(b"now", 5).unwrap();
    let mut out = [0; 3];
    reader.read_exact_at(&mut out, 5).unwrap();
    assert_eq!(&out, b"now");
    drop((both, reader));
    mounted.unmount();
}

#[test]
fn an_encrypted_volume_is_not_mounted_so() {
    let place = Place::with_volume(&[]);
    let (key, store, mnt) = (place.key(), place.store(), place.mnt());
    let line = ["mount", "--key-file", text(&key), "-o", "pass_through", text(&store), text(&mnt)];
    let told = place.run(&line).expect_failure();
    assert!(told.contains("leave `-o pass_through` out"), "{told}");
}
