//! The disk under the store is filled by somebody else: what was acknowledged stays, and the volume still mounts, reads
//! and lets media be removed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use support::machine;
use support::mounted::Mounted;
use support::patterns::Numbers;
use support::place::Place;

/// Size of the disk, in bytes.
const DISK: u64 = 96 << 20;

/// A small file system of its own below a place, with the place's store on it.
struct Disk {
    at: PathBuf,
}

impl Disk {
    fn new(place: &Place, kind: &str) -> Disk {
        let at = place.path("disk");
        fs::create_dir(&at).unwrap();
        let mut command = Command::new("mount");
        match kind {
            "tmpfs" => command.args(["-t", "tmpfs", "-o", &format!("size={DISK}"), "tmpfs"]),
            _ => {
                let image = place.path("image");
                File::create(&image).unwrap().set_len(DISK).unwrap();
                let made = Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image).status();
                assert!(made.expect("mkfs is installed").success());
                command.args(["-o", "loop"]).arg(image)
            }
        };
        assert!(command.arg(&at).status().expect("mount is installed").success(), "mounting a {kind}");
        fs::create_dir(at.join("store")).unwrap();
        std::os::unix::fs::symlink(at.join("store"), place.store()).unwrap();
        Disk { at }
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// Takes what is free, to the last byte.
    fn fill(&self) {
        let mut file = File::options().append(true).create(true).open(self.filler()).unwrap();
        for piece in [1 << 20, 4096, 64, 1] {
            let bytes = vec![7u8; piece];
            while file.write_all(&bytes).is_ok() {}
        }
        let _delayed = file.sync_all();
    }

    fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = unmount(&self.at, UnmountFlags::DETACH);
    }
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A little room may be left or become free; what is written into it is kept, and then no more is taken.
fn assert_refused(mounted: &Mounted, kind: &str) {
    let path = mounted.path("new");
    for n in 0..100u8 {
        match write(&path, &[n; 200_000]) {
            Ok(()) => assert!(fs::read(&path).unwrap() == [n; 200_000], "{kind}: what was written"),
            Err(e) => return assert_eq!(e.kind(), ErrorKind::StorageFull, "{kind}"),
        }
        fs::rename(&path, mounted.path(format!("new-{n}"))).unwrap();
    }
    panic!("{kind}: a full disk takes 20 MB");
}

fn status(place: &Place) -> serde_json::Value {
    let mnt = place.mnt();
    let told = place.run(&["status", "--json", mnt.to_str().unwrap()]).expect_success();
    serde_json::from_str(&told).unwrap()
}

/// Runs a test on a small disk of each kind, with a mounted volume on it that would use it to the last byte.
fn on_each_disk(test: &str, run: impl Fn(&str, &Place, &Disk, Mounted)) {
    if !machine::can_mount(test) || !machine::is_root(test) {
        return;
    }
    for kind in ["tmpfs", "ext4"] {
        let place = Place::new();
        let disk = Disk::new(&place, kind);
        place.init(&["--floor", "0"]);
        run(kind, &place, &disk, Mounted::start(&place));
    }
}

#[test]
fn a_volume_on_a_full_disk_mounts_and_reads_and_lets_media_be_removed() {
    on_each_disk("a_volume_on_a_full_disk_mounts_and_reads_and_lets_media_be_removed", |kind, place, disk, mounted| {
        let mut numbers = Numbers::new(1);
        let media: Vec<Vec<u8>> = (0..40).map(|n| numbers.bytes(1000 + 7919 * n)).collect();
        for (n, bytes) in media.iter().enumerate() {
            write(&mounted.path(format!("m{n}")), bytes).unwrap();
        }
        disk.fill();
        assert_refused(&mounted, kind);
        mounted.kill();
        disk.fill();

        let all_there = |mounted: &Mounted, from: usize| {
            for (n, bytes) in media.iter().enumerate().skip(from) {
                assert!(fs::read(mounted.path(format!("m{n}"))).unwrap() == *bytes, "{kind}: m{n}");
            }
        };
        // Twice in a row: what was put aside is used up by the first.
        for round in 0..3 {
            let mounted = Mounted::start(place);
            disk.fill();
            all_there(&mounted, round);
            assert_refused(&mounted, kind);
            fs::remove_file(mounted.path(format!("m{round}"))).unwrap();
            assert_eq!(status(place)["state"], "ok", "{kind}, round {round}");
            if round == 1 {
                mounted.unmount();
            } else {
                mounted.kill();
            }
            disk.fill();
        }
        disk.empty();
        let mounted = Mounted::start(place);
        all_there(&mounted, 3);
        assert!((0..3).all(|n| !mounted.path(format!("m{n}")).exists()), "{kind}: a removed medium is back");
        write(&mounted.path("new"), &[1; 200_000]).unwrap();
        mounted.unmount();
        place.check().expect_success();
    });
}

#[test]
fn names_of_every_kind_can_be_removed_on_a_full_disk() {
    on_each_disk("names_of_every_kind_can_be_removed_on_a_full_disk", |kind, place, disk, mounted| {
        let at = |name: &str| mounted.path(name);
        fs::create_dir(at("dir")).unwrap();
        write(&at("dir/file"), &[1; 5000]).unwrap();
        write(&at("one"), &[2; 5000]).unwrap();
        fs::hard_link(at("one"), at("two")).unwrap();
        std::os::unix::fs::symlink("one", at("link")).unwrap();
        let many: Vec<PathBuf> = (0..3000).map(|n| mounted.path(format!("m{n}"))).collect();
        many.iter().for_each(|path| fs::write(path, [3; 100]).unwrap());
        // A settled volume: what is removed has to be noted in the journal.
        mounted.unmount();
        let mounted = Mounted::start(place);
        let at = |name: &str| mounted.path(name);
        disk.fill();
        let refused = fs::create_dir(at("new")).err().map(|e| e.kind());
        assert!(refused.is_none_or(|e| e == ErrorKind::StorageFull), "{kind}: {refused:?}");
        assert_eq!(at("new").exists(), refused.is_none(), "{kind}: a refused directory is there");
        for (n, path) in many.iter().enumerate() {
            fs::remove_file(path).unwrap();
            if n % 500 == 0 {
                disk.fill();
            }
        }
        fs::remove_file(at("link")).unwrap();
        fs::remove_file(at("one")).unwrap();
        fs::remove_file(at("dir/file")).unwrap();
        fs::remove_dir(at("dir")).unwrap();
        fs::rename(at("two"), at("three")).unwrap();
        assert_eq!(status(place)["state"], "ok", "{kind}");
        disk.empty();
        if refused.is_none() {
            fs::remove_dir(at("new")).unwrap();
        }
        mounted.unmount();
        let mounted = Mounted::start(place);
        let left: Vec<_> = fs::read_dir(mounted.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.iter().filter(|name| *name != ".expired").collect::<Vec<_>>(), ["three"], "{kind}");
        assert!(fs::read(mounted.path("three")).unwrap() == [2; 5000], "{kind}");
        mounted.unmount();
        place.check().expect_success();
    });
}

#[test]
fn no_acknowledged_write_is_lost_to_a_disk_that_others_fill() {
    on_each_disk("no_acknowledged_write_is_lost_to_a_disk_that_others_fill", |kind, place, disk, mounted| {
        let stop = AtomicBool::new(false);
        let kept: Vec<Vec<(PathBuf, Vec<u8>)>> = thread::scope(|scope| {
            let writers: Vec<_> = (0..3u64)
                .map(|writer| {
                    let (mounted, stop) = (&mounted, &stop);
                    scope.spawn(move || {
                        let mut numbers = Numbers::new(writer);
                        let mut kept = Vec::new();
                        for n in 0.. {
                            if stop.load(Ordering::Acquire) {
                                break;
                            }
                            let path = mounted.path(format!("w{writer}-{n}"));
                            let len = usize::try_from(numbers.below(300_000)).unwrap();
                            let bytes = numbers.bytes(len);
                            let Ok(mut file) = File::create(&path) else { continue };
                            // What calls took of it was acknowledged.
                            let mut done = 0;
                            while let Some(taken) = file.write(&bytes[done..]).ok().filter(|taken| *taken > 0) {
                                done += taken;
                            }
                            kept.push((path, bytes[..done].to_vec()));
                            if kept.len() > 60 {
                                fs::remove_file(kept.remove(0).0).unwrap();
                            }
                        }
                        kept
                    })
                })
                .collect();
            for _ in 0..6 {
                thread::sleep(Duration::from_millis(250));
                disk.fill();
                thread::sleep(Duration::from_millis(250));
                disk.empty();
            }
            disk.fill();
            stop.store(true, Ordering::Release);
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        assert_eq!(status(place)["state"], "ok", "{kind}: {}", mounted.log());
        let compare = |mounted: &Mounted| {
            for (path, bytes) in kept.iter().flatten() {
                let found = fs::read(path).unwrap_or_else(|e| panic!("{kind}: {}: {e}", path.display()));
                let differs = found.iter().zip(bytes).position(|(a, b)| a != b);
                let (path, found) = (path.display(), found.len());
                assert!(
                    differs.is_none() && found == bytes.len(),
                    "{kind}: {path}: {found} bytes of {}, other from {differs:?} on\n{}",
                    bytes.len(),
                    mounted.log()
                );
            }
        };
        compare(&mounted);
        disk.empty();
        mounted.unmount();
        let mounted = Mounted::start(place);
        compare(&mounted);
        mounted.unmount();
        place.check().expect_success();
    });
}

#[test]
fn a_file_written_out_of_order_is_closed_on_a_disk_that_could_not_hold_it_twice() {
    let test = "a_file_written_out_of_order_is_closed_on_a_disk_that_could_not_hold_it_twice";
    on_each_disk(test, |kind, place, disk, mounted| {
        use std::os::unix::fs::FileExt;
        let path = mounted.path("scattered");
        let mut model = Numbers::new(3).bytes(30 << 20);
        write(&path, &model).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        // Every chunk of the middle once more, from the back to the front.
        for chunk in (100..370).rev() {
            let part = Numbers::new(chunk).bytes(65_536);
            let at = usize::try_from(chunk).unwrap() * 65_536;
            file.write_all_at(&part, at as u64).unwrap();
            model[at..at + 65_536].copy_from_slice(&part);
        }
        file.sync_all().unwrap();
        let mut filler = File::options().append(true).create(true).open(disk.filler()).unwrap();
        let free = rustix::fs::statvfs(&disk.at).map(|fs| fs.f_bavail * fs.f_frsize).unwrap();
        filler.write_all(&vec![7; usize::try_from(free - (20 << 20)).unwrap()]).unwrap();
        filler.sync_all().unwrap();
        drop(file);
        thread::sleep(Duration::from_secs(2));
        assert_eq!(status(place)["state"], "ok", "{kind}: {}", mounted.log());
        let free = rustix::fs::statvfs(&disk.at).map(|fs| fs.f_bavail * fs.f_frsize).unwrap();
        assert!(free > 8 << 20, "{kind}: {free} bytes are left");
        assert!(fs::read(&path).unwrap() == model, "{kind}");
        disk.empty();
        write(&mounted.path("more"), &[1; 100_000]).unwrap();
        mounted.unmount();
        place.check().expect_success();
        let mounted = Mounted::start(place);
        assert!(fs::read(mounted.path("scattered")).unwrap() == model, "{kind}");
        mounted.unmount();
    });
}
