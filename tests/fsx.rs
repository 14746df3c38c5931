//! fsx 0.3.2 over a mount: random operations on one file, each read compared with what must be there.
//!
//! `WAMEDIA_FSX_OPS` sets the operations of each run (2000), `WAMEDIA_FSX_SEEDS` how many seeds each setting gets (3).
//! `WAMEDIA_TEST_PLAIN=DIR` runs it below DIR instead, as a control.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::ground::Ground;
use support::machine::say;
use support::patterns::assert_same;
use support::place::{Place, run};
use support::suites;

const VERSION: &str = "0.3.2";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap_or_else(|e| panic!("{name}={value}: {e}")))
}

#[test]
fn fsx_finds_what_it_wrote() {
    let test = "fsx_finds_what_it_wrote";
    let Some(suite) = suites::find(test, "fsx", VERSION) else { return };
    let (operations, seeds) = (setting("WAMEDIA_FSX_OPS", 2000), setting("WAMEDIA_FSX_SEEDS", 3));
    let mut settings: Vec<PathBuf> =
        fs::read_dir(suites::file("fsx")).unwrap().map(|entry| entry.unwrap().path()).collect();
    settings.sort();
    assert!(settings.len() >= 5, "only {} settings", settings.len());
    let mut runs = 0;
    for file in &settings {
        let Some(mut ground) = Ground::new(test) else { return };
        let mut contents = Vec::new();
        for seed in 1..=seeds {
            let path = ground.path(format!("fsx-{seed}"));
            exercise(&suite, file, seed, operations, &path);
            contents.push((fs::read(&path).unwrap(), path));
            runs += 1;
        }
        ground.remount();
        for (content, path) in contents {
            assert_same(&fs::read(&path).unwrap(), &content, &format!("{} after a remount", path.display()));
        }
        ground.finish();
    }
    say(&format!("fsx {VERSION}: {runs} runs of {operations} operations, {} settings, no difference", settings.len()));
}

fn exercise(suite: &Path, settings: &Path, seed: u64, operations: u64, path: &Path) {
    let artifacts = Place::new();
    let mut command = Command::new(suite);
    command.env("NO_COLOR", "1").env_remove("RUST_BACKTRACE");
    command.arg("-f").arg(settings).args(["-S", &seed.to_string(), "-N", &operations.to_string()]);
    command.arg("-P").arg(artifacts.dir()).arg(path);
    let outcome = run(command);
    let said: Vec<&str> = outcome.stdout.lines().chain(outcome.stderr.lines()).collect();
    let tail = said[said.len().saturating_sub(60)..].join("\n");
    let what = settings.file_name().unwrap().display();
    assert!(outcome.status.success() && tail.contains("A-OK"), "fsx {what}, seed {seed}: {}\n{tail}", outcome.status);
}
