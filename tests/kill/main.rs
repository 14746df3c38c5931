//! The daemon is killed in the middle of writes, again and again, and nothing that was promised is lost.
//!
//! `WAMEDIA_KILL_ROUNDS` sets the number of rounds (20), `WAMEDIA_KILL_SEED` the choice of operations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod model;
mod writers;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use model::Model;
use support::machine::{self, say};
use support::mounted::Mounted;
use support::patterns::Numbers;
use support::place::Place;
use support::xattr;

const WRITERS: u64 = 4;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap_or_else(|e| panic!("{name}={value}: {e}")))
}

#[test]
fn what_was_synced_survives_the_killing_of_the_daemon() {
    if !machine::can_mount("what_was_synced_survives_the_killing_of_the_daemon") {
        return;
    }
    let (rounds, seed) = (setting("WAMEDIA_KILL_ROUNDS", 20), setting("WAMEDIA_KILL_SEED", 1));
    let place = Place::with_volume(&["--quota", "1GiB"]);
    let mut models: Vec<Model> = (0..WRITERS).map(|_| Model::default()).collect();
    let mounted = Mounted::start(&place);
    for writer in 0..WRITERS {
        let dir = mounted.path(format!("writer-{writer}"));
        fs::create_dir(&dir).unwrap();
        fs::File::open(&dir).unwrap().sync_all().unwrap();
    }
    mounted.unmount();

    let (mut synced, mut removed) = (0, 0);
    for round in 0..rounds {
        let mounted = Mounted::start(&place);
        let mut numbers = Numbers::new(seed << 32 | round);
        models = write_until_killed(&mounted, models, &mut numbers);
        synced += models.iter().map(|model| model.synced_this_round).sum::<u64>();
        removed += models.iter().map(|model| model.removed_this_round).sum::<u64>();
        mounted.kill();

        let mounted = Mounted::start(&place);
        for (writer, model) in models.iter_mut().enumerate() {
            let dir = mounted.path(format!("writer-{writer}"));
            model.compare_and_settle(&dir, &format!("round {round} of seed {seed}, writer {writer}"));
        }
        assert_totals(mounted.root());
        mounted.unmount();
        let outcome = place.check();
        assert!(outcome.status.success(), "round {round}: check: {}{}", outcome.stdout, outcome.stderr);
    }
    say(&format!("kill: {rounds} rounds, {synced} acknowledged syncs, {removed} acknowledged removals, all kept"));
    assert!(synced > rounds && removed > 0, "the writers did too little to show anything");
}

/// Lets the writers work for a while, kills the daemon under them, and returns what they know.
fn write_until_killed(mounted: &Mounted, models: Vec<Model>, numbers: &mut Numbers) -> Vec<Model> {
    let killing = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = models
        .into_iter()
        .enumerate()
        .map(|(writer, model)| {
            let dir = mounted.path(format!("writer-{writer}"));
            let (killing, seed) = (Arc::clone(&killing), numbers.next());
            thread::spawn(move || writers::work(&dir, model, seed, &killing))
        })
        .collect();
    thread::sleep(Duration::from_millis(60 + numbers.below(500)));
    killing.store(true, Ordering::SeqCst);
    mounted.kill_now();
    writers.into_iter().map(|writer| writer.join().expect("a writer failed before the kill")).collect()
}

/// The counters that recovery has made are those of what is there.
fn assert_totals(root: &Path) {
    let walk = walkdir::WalkDir::new(root).into_iter().filter_entry(|entry| entry.file_name() != ".expired");
    let files: Vec<_> = walk.map(Result::unwrap).filter(|entry| entry.file_type().is_file()).collect();
    let bytes: u64 = files.iter().map(|entry| entry.metadata().unwrap().len()).sum();
    assert_eq!(xattr::number(root, "user.wamedia.quota.used_bytes"), bytes, "bytes counted after the recovery");
    assert_eq!(xattr::number(root, "user.wamedia.quota.media"), files.len() as u64, "media counted after the recovery");
}
