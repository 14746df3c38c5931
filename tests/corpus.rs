//! The corpus of the fuzz targets (`fuzz/`), replayed on what they call: no panic, no hang, no memory that grows.
//!
//! `cargo +nightly fuzz run TARGET` in the repository finds more; what it finds goes into `fuzz/corpus/TARGET`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

#[path = "../fuzz/src/bodies.rs"]
mod bodies;
#[path = "../fuzz/src/forge.rs"]
#[allow(dead_code)]
mod forge;
#[path = "../fuzz/src/script.rs"]
mod script;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::place::run;

/// Names the target to a process of its own that replays it.
const TARGET: &str = "WAMEDIA_CORPUS_TARGET";
/// The memory that replaying one target may take (`RLIMIT_DATA`).
const MEMORY: &str = "--data=402653184";

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort_unstable();
    found
}

#[test]
fn every_target_survives_its_corpus() {
    for (target, _) in bodies::TARGETS {
        let mut replay = Command::new("prlimit");
        replay.args([MEMORY, "--"]).arg(std::env::current_exe().unwrap());
        replay.args(["--exact", "replay_of_one_target", "--nocapture"]).env(TARGET, target);
        let outcome = run(replay);
        let last = outcome.stdout.lines().rfind(|line| line.starts_with("replaying ")).unwrap_or("nothing");
        assert!(outcome.status.success(), "{target}: {} at {last}\n{}", outcome.status, outcome.stderr);
        assert!(last != "nothing", "{target} has no corpus");
    }
}

#[test]
fn replay_of_one_target() {
    let Ok(target) = std::env::var(TARGET) else { return };
    bodies::run(&target, b"");
    for path in files(&corpus().join(&target)) {
        println!("replaying {}", path.display());
        bodies::run(&target, &fs::read(&path).unwrap());
    }
}

#[test]
fn the_corpus_is_small_and_of_known_targets() {
    let mut total = 0;
    for dir in files(&corpus()) {
        let name = dir.file_name().unwrap().to_str().unwrap();
        assert!(bodies::TARGETS.iter().any(|(target, _)| *target == name), "{name} is no target");
        let body = corpus().join(format!("../fuzz_targets/{name}.rs"));
        assert!(fs::read_to_string(&body).unwrap().contains(&format!("run(\"{name}\"")), "{}", body.display());
        total += files(&dir).iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>();
    }
    assert!(total < 600_000, "{total} bytes; `cargo fuzz cmin` makes it small");
}
