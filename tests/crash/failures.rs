//! Every call of the disk fails in turn, until a workload runs through.

use crate::child;
use crate::enumerate::{Bench, setting};
use crate::faults::Fault;
use crate::history::History;
use crate::images::{Cut, Names};
use crate::steps::{self, Step, Workload};
use crate::support::machine::say;
use crate::support::patterns::Numbers;
use crate::tree::{Op, Tree};
use crate::verify::{End, Verifier};
use crate::world::{Ack, World};

const FAULTS: [Fault; 9] = [
    Fault::IoOnce,
    Fault::IoForGood,
    Fault::FullOnce,
    Fault::Full,
    Fault::Tight,
    Fault::ReadOnly,
    Fault::ShortWrite,
    Fault::ReadOnce,
    Fault::ShortRead,
];

/// The moments of a run in which some steps failed: what failed may be there or not.
fn history_of(workload: &Workload, log: &[Op]) -> History {
    let mut world = World::default();
    for (nth, step) in workload.before.iter().enumerate() {
        world.take(nth, step);
    }
    world.take(usize::MAX, &Step::Shutdown);
    let mut history = History::new(world.clone());
    let marks = log.iter().filter_map(|op| match op {
        Op::Mark(text) => Some(text.as_str()),
        _ => None,
    });
    let mut steps = workload.steps.iter().enumerate();
    for mark in marks.filter(|mark| *mark != "opened") {
        let Some((nth, step)) = steps.next() else { break };
        if mark == "skip" || (mark == "no volume" && history.last() == 0) {
            continue;
        }
        let before = world.clone();
        let ack = world.take(workload.before.len() + nth, step);
        match mark {
            "ok" => history.push(world.clone(), ack),
            "no after" => history.push(world.clone(), Ack::Failed),
            _ => {
                history.push(world.clone(), Ack::Failed);
                history.push(before.clone(), Ack::Failed);
                world = before;
            }
        }
    }
    world.take(usize::MAX, &Step::Shutdown);
    history.push(world, Ack::Failed);
    history
}

/// One run with one fault; says whether it has happened.
fn run(bench: &Bench, verifier: &Verifier, workload: &Workload, base: &Tree, fault: Fault, nth: u64) -> bool {
    let what = format!("{}: {fault:?} at {nth}", workload.name);
    let disk = bench.disk(base.clone());
    disk.state.lock().faults.plan(fault, nth);
    let how = if matches!(fault, Fault::ReadOnce) { "faults of reads" } else { "faults" };
    let outcome = child::run(workload.name, disk.root(), &bench.key(), how);
    let happened = disk.state.lock().faults.end();
    let (tree, log) = disk.take();
    drop(disk);
    let told = || {
        let calls: Vec<String> = log.iter().enumerate().map(|(at, op)| format!("  {at} {}", op.describe())).collect();
        format!("{}\nthe log:\n{}", outcome.stderr, calls.join("\n"))
    };
    assert!(outcome.is_success, "{what}: {}", told());
    let (history, mut numbers) = (history_of(workload, &log), Numbers::new(nth));
    let lost = Cut::new(base, &log, log.len(), Names::ByDirectory).after_power_loss(0, 0, &mut numbers).swap_remove(0);
    for (tree, end) in [(&tree, End::Process), (&lost.tree, End::Power)] {
        let faults =
            verifier.faults(base, tree, (end, end == End::Process), &history, (history.last(), history.last()), false);
        assert!(faults.is_empty(), "{what}, {end:?}:\n    {}\n{}", faults.join("\n    "), told());
    }
    happened
}

/// All faults at all calls, or at a share of them.
pub fn at_every_call() {
    let only = std::env::var("WAMEDIA_CRASH_ONLY").ok();
    let (stride, mut runs) = (setting("WAMEDIA_FAULTS_STRIDE", 60), 0);
    let benches = [Bench::new(), Bench::plain()];
    let verifiers = benches.each_ref().map(|bench| Verifier::new(&bench.key()));
    let mut numbers = Numbers::new(setting("WAMEDIA_CRASH_SEED", 1));
    let mut failed = Vec::new();
    for workload in steps::all() {
        if only.as_deref().is_some_and(|only| !workload.name.contains(only)) {
            continue;
        }
        let (bench, verifier) = (&benches[usize::from(workload.is_plain)], &verifiers[usize::from(workload.is_plain)]);
        let base = bench.prepared(&workload);
        for fault in FAULTS {
            let mut nth = numbers.below(stride);
            loop {
                runs += 1;
                let run = || run(bench, verifier, &workload, &base, fault, nth);
                match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
                    Ok(true) => nth += 1 + numbers.below(2 * stride - 1),
                    Ok(false) => break,
                    Err(e) if std::env::var_os("WAMEDIA_CRASH_GO_ON").is_some() => {
                        failed.push(format!("{}: {fault:?} at {nth}", workload.name));
                        drop(e);
                        break;
                    }
                    Err(e) => std::panic::resume_unwind(e),
                }
            }
        }
        say(&format!("faults: {}: {runs} runs so far", workload.name));
    }
    assert!(failed.is_empty(), "{failed:?}");
    assert!(runs > 100 || only.is_some(), "{runs} runs show nothing");
}
