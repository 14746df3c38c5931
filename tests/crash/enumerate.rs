//! Every cut of every workload.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::bounded;
use parking_lot::Mutex;
use tempfile::TempDir;
use wamedia::crypto::{KeySource, make_key_file};
use wamedia::volume::{InitOptions, Policy, Volume};

use crate::child;
use crate::disk::Disk;
use crate::history::History;
use crate::images::{Cut, Names};
use crate::steps::{self, Step, Workload};
use crate::support::machine::say;
use crate::support::patterns::Numbers;
use crate::tree::{Op, ROOT, Tree};
use crate::verify::{End, Verifier, scratch};
use crate::world::World;

/// The number of a setting in the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap_or_else(|e| panic!("{name}={value}: {e}")))
}

/// A place for a disk: its mount point and its volume's key.
pub struct Bench {
    place: TempDir,
    is_plain: bool,
}

impl Bench {
    pub fn new() -> Bench {
        let place = scratch();
        make_key_file(&place.path().join("key")).unwrap();
        std::fs::create_dir(place.path().join("disk")).unwrap();
        Bench { place, is_plain: false }
    }

    /// One for a volume without a cipher.
    pub fn plain() -> Bench {
        let bench = Bench::new();
        std::fs::remove_file(bench.key()).unwrap();
        Bench { is_plain: true, ..bench }
    }

    pub fn key(&self) -> PathBuf {
        self.place.path().join("key")
    }

    /// A new volume that was never open.
    pub fn new_volume(&self) -> Tree {
        let made = scratch();
        let policy = Policy { floor_bytes: 0, ..Policy::default() };
        let options = InitOptions { encrypted: !self.is_plain, policy, root_uid: 0, root_gid: 0, root_mode: 0o755 };
        let key = (!self.is_plain).then(|| KeySource::key_file(&self.key()).unwrap());
        Volume::init(&made.path().join("store"), key.as_ref(), &options).unwrap();
        let mut tree = Tree::new();
        tree.read_in(ROOT, made.path()).unwrap();
        tree
    }

    pub fn disk(&self, tree: Tree) -> Disk {
        let disk = Disk::mount(tree, &self.place.path().join("disk"));
        disk.state.lock().is_large = self.is_plain;
        disk
    }

    /// What the disk holds when a workload begins.
    pub fn prepared(&self, workload: &Workload) -> Tree {
        let new = self.new_volume();
        if workload.before.is_empty() {
            return new;
        }
        let disk = self.disk(new);
        let outcome = child::run(workload.name, disk.root(), &self.key(), "prepare");
        assert!(outcome.is_success, "{}: {}", workload.name, outcome.stderr);
        disk.take().0
    }
}

/// The moments of a run in which all went well.
pub fn history_of(workload: &Workload) -> History {
    let mut world = World::default();
    for (nth, step) in workload.before.iter().enumerate() {
        world.take(nth, step);
    }
    world.take(usize::MAX, &Step::Shutdown);
    let mut history = History::new(world.clone());
    for (nth, step) in workload.steps.iter().enumerate() {
        let ack = world.take(workload.before.len() + nth, step);
        history.push(world.clone(), ack);
    }
    history
}

/// How many steps were over before each position of a log.
fn done_at(log: &[Op], at: usize) -> usize {
    log[..at].iter().filter(|op| matches!(op, Op::Mark(text) if text == "ok")).count()
}

struct Job {
    what: String,
    tree: Tree,
    end: End,
    /// Whether what was removed has to stay so.
    removals_last: bool,
    done: usize,
    last: usize,
    twice: bool,
}

/// Images to recover again: each with the steps that were over, and the last that may be.
type Kept = Mutex<Vec<(Tree, usize, usize)>>;

/// What is looked at of a log.
pub struct Depth {
    /// Every how many cuts.
    pub stride: u64,
    /// How many open changes at a cut are looked at alone, beside the last.
    pub others: u64,
    /// Mixtures by lot at a cut.
    pub mixtures: u64,
}

/// Cuts `log` and verifies the images; gives how many. With `done`, everything before the log was over.
pub fn enumerate(
    name: &str,
    verifier: &Verifier,
    history: &History,
    (base, log): (&Tree, &[Op]),
    steady: Option<(usize, usize)>,
    depth: &Depth,
    keep: Option<&Kept>,
) -> u64 {
    let (count, faults) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let (send, receive) = bounded::<Job>(4);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (receive, count, faults) = (receive.clone(), &count, &faults);
            scope.spawn(move || {
                for job in receive {
                    let found = verifier.faults(
                        base,
                        &job.tree,
                        (job.end, job.removals_last),
                        history,
                        (job.done, job.last),
                        job.twice,
                    );
                    count.fetch_add(1, Ordering::Relaxed);
                    if !found.is_empty() {
                        faults.lock().push(format!("{}, {:?}:\n    {}", job.what, job.end, found.join("\n    ")));
                    }
                }
            });
        }
        let mut numbers = Numbers::new(setting("WAMEDIA_CRASH_SEED", 1));
        let mut seen = HashSet::new();
        for at in 0..=log.len() {
            let is_cut = at == log.len() || !matches!(log[at], Op::FailedSync { .. });
            if !is_cut || (at < log.len() && numbers.below(depth.stride) > 0) || faults.lock().len() > 5 {
                continue;
            }
            let done = done_at(log, at);
            let (done, last) = steady.unwrap_or((done, done + 1));
            let cut = Cut::new(base, log, at, Names::ByDirectory);
            let mut images = cut.after_power_loss(depth.others as usize, depth.mixtures, &mut numbers);
            let killed = cut.all_kept();
            let images =
                std::iter::once((End::Process, killed)).chain(images.drain(..).map(|image| (End::Power, image)));
            for (end, image) in images {
                if seen.insert((image.tree.fingerprint(), end, done)) {
                    let what = format!("{name}: cut at {at} of {}, {done} steps over: {}", log.len(), image.what);
                    if let Some(keep) = keep.filter(|_| end == End::Power && numbers.below(16) == 0) {
                        keep.lock().push((image.tree.clone(), done, last));
                    }
                    let twice = numbers.below(4) == 0;
                    // Of an image that a loss of power had left, recovery may bring back what was removed.
                    let removals_last = end == End::Process && steady.is_none();
                    send.send(Job { what, tree: image.tree, end, removals_last, done, last, twice }).unwrap();
                }
            }
        }
        drop(send);
    });
    let faults = faults.into_inner();
    if !faults.is_empty() {
        let told: Vec<String> = log.iter().enumerate().map(|(at, op)| format!("  {at} {}", op.describe())).collect();
        let told = format!("{}\nthe log:\n{}", faults.join("\n"), told.join("\n"));
        assert!(std::env::var_os("WAMEDIA_CRASH_GO_ON").is_some(), "{told}");
        say(&told);
    }
    count.into_inner()
}

/// Records each workload and cuts it.
pub fn all_workloads() {
    let only = std::env::var("WAMEDIA_CRASH_ONLY").ok();
    let depth = Depth {
        stride: setting("WAMEDIA_CRASH_STRIDE", 2),
        others: setting("WAMEDIA_CRASH_OTHERS", 0),
        mixtures: setting("WAMEDIA_CRASH_MIXTURES", 0),
    };
    let benches = [Bench::new(), Bench::plain()];
    let verifiers = benches.each_ref().map(|bench| Verifier::new(&bench.key()));
    let twice = setting("WAMEDIA_CRASH_TWICE", 1);
    let mut numbers = Numbers::new(setting("WAMEDIA_CRASH_SEED", 1));
    let (mut total, mut doubly) = (0, 0);
    for workload in steps::all() {
        if only.as_deref().is_some_and(|only| !workload.name.contains(only)) {
            continue;
        }
        let (bench, verifier) = (&benches[usize::from(workload.is_plain)], &verifiers[usize::from(workload.is_plain)]);
        let base = bench.prepared(&workload);
        let disk = bench.disk(base.clone());
        let outcome = child::run(workload.name, disk.root(), &bench.key(), "record");
        assert!(outcome.is_success, "{}: {}", workload.name, outcome.stderr);
        let log = disk.take().1;
        drop(disk);
        let begun = std::time::Instant::now();
        let history = history_of(&workload);
        let kept = Mutex::new(Vec::new());
        let mut count = enumerate(workload.name, verifier, &history, (&base, &log), None, &depth, Some(&kept));
        // The recovery of some images is cut as well.
        let mut kept = kept.into_inner();
        for nth in 0..twice.min(kept.len() as u64) {
            let (tree, done, last) = kept.swap_remove(usize::try_from(numbers.below(kept.len() as u64)).unwrap());
            let disk = bench.disk(tree.clone());
            let outcome = child::run(workload.name, disk.root(), &bench.key(), "mount");
            assert!(outcome.is_success, "{}: {}", workload.name, outcome.stderr);
            let log = disk.take().1;
            drop(disk);
            let name = format!("{}, recovery {nth}", workload.name);
            let more = enumerate(&name, verifier, &history, (&tree, &log), Some((done, last)), &depth, None);
            count += more;
            doubly += more;
        }
        say(&format!("crash: {}: {} calls, {count} images {:?}", workload.name, log.len(), begun.elapsed()));
        total += count;
    }
    say(&format!("crash: {total} images, {doubly} of them of a crash during recovery, all as promised"));
    assert!(total > 100, "{total} images show nothing");
}
