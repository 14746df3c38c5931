//! The power fails in the middle of writes, again and again, on real file systems, and nothing that was promised is lost.
//!
//! The file system below the store is stopped as a power loss stops it: what it had not written itself is gone, entries of
//! directories included. A control, in which syncs do nothing, must lose something of every kind.
//!
//! `WAMEDIA_POWER_ROUNDS` sets the rounds on each file system (5), `WAMEDIA_POWER_SEED` the choice of operations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod loads;
mod model;
mod unsynced;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use loads::{LOADS, Writer};
use model::Model;
use support::disk::{Disk, Log};
use support::machine::{self, say};
use support::mounted::Mounted;
use support::patterns::Numbers;
use support::place::Place;
use support::xattr;

/// What was lost, by load.
type Faults = BTreeMap<&'static str, Vec<String>>;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap_or_else(|e| panic!("{name}={value}: {e}")))
}

/// A volume on a disk whose power fails.
struct Bench {
    // Fields drop in this order: the disk is unmounted before its image is removed.
    disk: Disk,
    place: Place,
    models: Vec<Model>,
    numbers: Numbers,
    syncs_work: bool,
    acknowledged: u64,
}

impl Bench {
    fn new(test: &str, kind: &str, syncs_work: bool) -> Option<Bench> {
        let place = Place::new();
        let disk = Disk::new(test, &place, kind)?;
        place.init(&["--floor", "0", "--quota", "256MiB"]);
        let models = LOADS.iter().map(|_| Model::default()).collect();
        let numbers = Numbers::new(setting("WAMEDIA_POWER_SEED", 1));
        let mut bench = Bench { disk, place, models, numbers, syncs_work, acknowledged: 0 };
        let mounted = Mounted::start(&bench.place);
        for load in &LOADS {
            fs::create_dir(mounted.path(load.name)).unwrap();
        }
        File::open(mounted.root()).unwrap().sync_all().unwrap();
        bench.prepare(&mounted);
        mounted.unmount();
        Some(bench)
    }

    fn writer(&mut self, root: &Path, load: usize, failing: &Arc<AtomicBool>, touching: &Arc<Mutex<()>>) -> Writer {
        Writer {
            root: root.to_owned(),
            dir: root.join(LOADS[load].name),
            model: std::mem::take(&mut self.models[load]),
            numbers: Numbers::new(self.numbers.next()),
            failing: Arc::clone(failing),
            touching: Arc::clone(touching),
        }
    }

    /// Gives each load what it needs, synced.
    fn prepare(&mut self, mounted: &Mounted) {
        let (failing, touching) = Default::default();
        for (number, load) in LOADS.iter().enumerate() {
            let mut writer = self.writer(mounted.root(), number, &failing, &touching);
            (load.prepare)(&mut writer).unwrap_or_else(|e| panic!("preparing {}: {e}", load.name));
            self.models[number] = writer.model;
        }
    }

    /// One power loss: what it took away that it must not.
    fn round(&mut self) -> Faults {
        let session = self.write_until_the_power_fails();
        self.disk.power_returns();
        let mounted = Mounted::start(&self.place);
        assert_ne!(self.session(), session, "the volume does not know a power loss from the end of a process");
        let mut faults = Faults::new();
        for (model, load) in self.models.iter_mut().zip(&LOADS) {
            self.acknowledged += std::mem::take(&mut model.acknowledged);
            let found = model.compare_and_settle(&mounted.path(load.name));
            if !found.is_empty() {
                faults.insert(load.name, found);
            }
        }
        if !faults.is_empty() {
            // What recovery had to say about it.
            faults.entry("log").or_default().push(mounted.log_tail());
        }
        if let Some(wrong) = wrong_totals(mounted.root()) {
            faults.entry("totals").or_default().push(wrong);
        }
        self.prepare(&mounted);
        mounted.unmount();
        let checked = self.place.check();
        if !checked.status.success() {
            faults.entry("check").or_default().push(checked.stdout + &checked.stderr);
        }
        faults
    }

    /// The note by which the volume knows the mount of the file system.
    fn session(&self) -> String {
        fs::read_to_string(self.place.store().join("session")).unwrap()
    }

    fn write_until_the_power_fails(&mut self) -> String {
        let prepare = |command: &mut _| {
            if !self.syncs_work {
                unsynced::suppress_syncs(command)
            }
        };
        let mounted = Mounted::start_prepared(&self.place, &[], prepare);
        let session = self.session();
        let (failing, touching) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(())));
        let mut writers = Vec::new();
        for (number, load) in LOADS.iter().enumerate() {
            let writer = self.writer(mounted.root(), number, &failing, &touching);
            writers.push(thread::spawn(move || writer.work(load)));
        }
        // A disk is written in an order of its own, too.
        let stray = (self.syncs_work && self.numbers.below(2) > 0).then(|| {
            let (store, seed, failing) = (self.place.store(), self.numbers.next(), Arc::clone(&failing));
            thread::spawn(move || write_back_here_and_there(&store, seed, &failing))
        });
        thread::sleep(Duration::from_millis(150 + self.numbers.below(500)));
        let log = if self.syncs_work && self.numbers.below(4) == 0 { Log::Flushed } else { Log::Lost };
        let untouched = touching.lock().unwrap();
        failing.store(true, Ordering::SeqCst);
        self.disk.power_fails(log);
        thread::sleep(Duration::from_millis(self.numbers.below(3) * 20));
        mounted.kill_now();
        drop(untouched);
        for (model, writer) in self.models.iter_mut().zip(writers) {
            *model = writer.join().expect("a writer failed before the power did");
        }
        if let Some(stray) = stray {
            stray.join().expect("the stray thread only syncs");
        }
        mounted.clear();
        session
    }
}

/// Syncs files of the store as the kernel may at any time: one here, one there.
fn write_back_here_and_there(store: &Path, seed: u64, failing: &AtomicBool) {
    let mut numbers = Numbers::new(seed);
    while !failing.load(Ordering::SeqCst) {
        let files = walkdir::WalkDir::new(store).into_iter().filter_map(Result::ok);
        for file in files.filter(|file| file.file_type().is_file()) {
            if numbers.below(4) == 0 {
                // It may have been removed, and the power may fail.
                let _ = File::open(file.path()).and_then(|file| file.sync_data());
                thread::sleep(Duration::from_millis(numbers.below(4)));
            }
            if failing.load(Ordering::SeqCst) {
                break;
            }
        }
    }
}

/// The counters that recovery has made are those of what is there.
fn wrong_totals(root: &Path) -> Option<String> {
    let walk = walkdir::WalkDir::new(root).into_iter().filter_entry(|entry| entry.file_name() != ".expired");
    let files: Vec<_> = walk.filter_map(Result::ok).filter(|entry| entry.file_type().is_file()).collect();
    let bytes: u64 = files.iter().map(|entry| entry.metadata().map_or(0, |meta| meta.len())).sum();
    let counted = |name: &str| xattr::number(root, &format!("user.wamedia.quota.{name}"));
    let (told, told_media) = (counted("used_bytes"), counted("media"));
    (told != bytes || told_media != files.len() as u64)
        .then(|| format!("{told} bytes of {told_media} media are counted, {bytes} of {} are there", files.len()))
}

fn nothing_synced_is_lost(test: &str, kind: &str) {
    if !machine::can_mount(test) || !machine::is_root(test) {
        return;
    }
    let Some(mut bench) = Bench::new(test, kind, true) else { return };
    let rounds = setting("WAMEDIA_POWER_ROUNDS", 5);
    for round in 0..rounds {
        let faults = bench.round();
        assert!(faults.is_empty(), "{kind}, round {round}: {}", describe(&faults));
    }
    say(&format!("power loss on {kind}: {rounds} rounds, {} acknowledged syncs, all kept", bench.acknowledged));
    assert!(bench.acknowledged > rounds * 8, "the writers did too little to show anything");
}

fn without_syncs_every_load_loses(test: &str, kind: &str) {
    if !machine::can_mount(test) || !machine::is_root(test) {
        return;
    }
    let Some(mut bench) = Bench::new(test, kind, false) else { return };
    let mut lost = Faults::new();
    for _ in 0..4 {
        for (load, found) in bench.round() {
            lost.entry(load).or_default().extend(found);
        }
        if LOADS.iter().all(|load| lost.contains_key(load.name)) {
            let counts: Vec<String> = lost.iter().map(|(load, found)| format!("{load} {}", found.len())).collect();
            say(&format!("power loss on {kind}, control without syncs: lost as it must ({})", counts.join(", ")));
            return;
        }
    }
    let safe: Vec<&str> = LOADS.iter().map(|load| load.name).filter(|name| !lost.contains_key(name)).collect();
    panic!("{kind}: without any sync nothing is lost of {safe:?}, so these loads show nothing");
}

fn describe(faults: &Faults) -> String {
    faults.iter().map(|(load, found)| format!("\n{load}:\n  {}", found.join("\n  "))).collect()
}

#[test]
fn what_was_synced_survives_power_loss_on_ext4() {
    nothing_synced_is_lost("what_was_synced_survives_power_loss_on_ext4", "ext4");
}

#[test]
fn what_was_synced_survives_power_loss_on_xfs() {
    nothing_synced_is_lost("what_was_synced_survives_power_loss_on_xfs", "xfs");
}

#[test]
fn without_syncs_power_loss_takes_something_of_every_kind_on_ext4() {
    without_syncs_every_load_loses("without_syncs_power_loss_takes_something_of_every_kind_on_ext4", "ext4");
}

#[test]
fn without_syncs_power_loss_takes_something_of_every_kind_on_xfs() {
    without_syncs_every_load_loses("without_syncs_power_loss_takes_something_of_every_kind_on_xfs", "xfs");
}
