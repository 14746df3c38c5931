//! Checks of a volume in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use super::Finding;
use super::aging_tests::{Bench, RW, put};
use super::{OpenMode, Policy, RenameMode, Volume};
use crate::error::Kind;
use crate::ids::Ino;

const ANEW: OpenMode = OpenMode { truncate: true, ..RW };
const FILES: u64 = 20;

/// Threads that change a volume until they are dropped.
struct Traffic {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    fn start(volume: &Arc<Volume>) -> Traffic {
        let mut traffic = Traffic { is_over: Arc::default(), threads: Vec::new() };
        traffic.add(volume, overwrite);
        traffic.add(volume, make_and_remove);
        traffic.add(volume, rename_over_one_of_two_names);
        traffic
    }

    fn add(&mut self, volume: &Arc<Volume>, change: fn(&Volume, u64)) {
        let (volume, is_over) = (Arc::clone(volume), Arc::clone(&self.is_over));
        self.threads.push(spawn(move || {
            let mut nth = 0;
            while !is_over.load(Ordering::Relaxed) {
                change(&volume, nth);
                nth += 1;
            }
        }));
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

fn overwrite(volume: &Volume, nth: u64) {
    let name = format!("over{}", nth % FILES);
    if nth < FILES {
        put(volume, Ino::ROOT, &name, b"first");
        return;
    }
    let ino = volume.lookup(Ino::ROOT, name.as_bytes()).unwrap().ino;
    let file = volume.open_file(ino, ANEW).unwrap();
    volume.write(&file, 0, &[7; 5000], false).unwrap();
    volume.close_soon(file);
}

fn make_and_remove(volume: &Volume, nth: u64) {
    let name = format!("short-lived{}", nth % FILES);
    if nth >= FILES {
        volume.unlink(Ino::ROOT, name.as_bytes()).unwrap();
    }
    put(volume, Ino::ROOT, &name, &[8; 3000]);
}

fn rename_over_one_of_two_names(volume: &Volume, nth: u64) {
    let target = format!("twice{}", nth % 2);
    let ino = put(volume, Ino::ROOT, "coming", b"c");
    volume.link(ino, Ino::ROOT, format!("other{nth}").as_bytes()).unwrap();
    volume.rename(Ino::ROOT, b"coming", Ino::ROOT, target.as_bytes(), RenameMode::Replace).unwrap();
    if nth >= 2 {
        volume.unlink(Ino::ROOT, format!("other{}", nth - 2).as_bytes()).unwrap();
    }
}

fn found(volume: &Volume) -> Vec<Finding> {
    volume.check(false, &mut |_, _| {}).unwrap().findings
}

#[test]
fn a_check_of_a_volume_in_use_finds_nothing_wrong() {
    let bench = Bench::new(Policy::default());
    let volume = bench.open();
    let traffic = Traffic::start(&volume);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        assert_eq!(found(&volume), []);
    }
    drop(traffic);
    assert_eq!(found(&volume), []);
}

#[test]
fn a_stray_and_a_damaged_blob_are_found_on_a_volume_in_use() {
    let bench = Bench::new(Policy::default());
    let volume = bench.open();
    let path = |ino: Ino| bench.store().join(format!("blobs/{:013x}/{:016x}", ino.0 >> 12, ino.0));
    let (gone, hurt) = (put(&volume, Ino::ROOT, "gone", b"gone"), put(&volume, Ino::ROOT, "hurt", b"hurt"));
    volume.sync_all().unwrap();
    let stray = std::fs::read(path(gone)).unwrap();
    volume.unlink(Ino::ROOT, b"gone").unwrap();
    volume.reap().unwrap();
    std::fs::write(path(gone), stray).unwrap();
    let mut bytes = std::fs::read(path(hurt)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let at = bytes.len() - 60;
    bytes[at] ^= 1;
    std::fs::write(path(hurt), bytes).unwrap();
    let traffic = Traffic::start(&volume);
    let mut findings = found(&volume);
    drop(traffic);
    findings.sort_by_key(|finding| finding.medium.is_some());
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert_eq!(findings[0].blob.as_deref(), Some(format!("{:016x}", gone.0).as_str()));
    assert!(findings[0].problem.contains("gone"), "{findings:?}");
    assert!(findings[1].medium.as_deref().unwrap().ends_with("hurt"), "{findings:?}");
}

/// The volume's own thread may be about to begin one that is due while the shutdown ends scrubs.
#[test]
fn no_scrub_begins_behind_a_shutdown() {
    let bench = Bench::new(Policy::default());
    let volume = bench.open();
    volume.start_scrub(None, false).unwrap();
    volume.shutdown().unwrap();
    assert_eq!(volume.start_scrub(None, false).unwrap_err().kind(), Kind::Busy);
    assert!(!volume.scrub_status().is_running);
}
