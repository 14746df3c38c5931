//! pjdfstest 0.2.2 over a mount: every test passes, except those listed with a reason.
//!
//! `WAMEDIA_TEST_PLAIN=DIR` runs the suite over DIR instead, as a control (its remounting tests need DIR to be the
//! root of a file system of its own).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::machine::{self, say};
use support::mounted::Mounted;
use support::place::{Place, run};
use support::suites;

const VERSION: &str = "0.2.2";
/// How many tests this version has on Linux. Fewer would mean that some were not even tried.
const TESTS: usize = 398;
/// Tests of these names remount.
const REMOUNTING: &str = "erofs";

/// How one test of the suite ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ending {
    Passed,
    Skipped,
    Failed(String),
}

#[test]
fn pjdfstest_passes_except_for_what_is_listed() {
    let test = "pjdfstest_passes_except_for_what_is_listed";
    if !machine::is_root(test) || !machine::can_mount(test) {
        return;
    }
    let Some(suite) = suites::find(test, "pjdfstest", VERSION) else { return };
    let place = Place::new();
    let plain = env::var_os("WAMEDIA_TEST_PLAIN").map(PathBuf::from);
    let mounted = plain.is_none().then(|| {
        place.init(&["--quota", "1GiB"]);
        Mounted::start(&place)
    });
    let root = plain.unwrap_or_else(|| place.mnt());
    fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();

    let mut endings = endings_of(&suite, &place, &root, &suites::file("pjdfstest.toml"), None);
    let remounting = suites::file("pjdfstest-remount.toml");
    endings.extend(endings_of(&suite, &place, &root, &remounting, Some(REMOUNTING)));
    if let Some(mounted) = mounted {
        mounted.unmount();
        place.check().expect_success();
    }
    assert_as_listed(&endings);
}

/// Runs the suite once and reads how each test ended.
fn endings_of(
    suite: &Path,
    place: &Place,
    root: &Path,
    settings: &Path,
    only: Option<&str>,
) -> BTreeMap<String, Ending> {
    let mut command = Command::new(suite);
    command.env("NO_COLOR", "1").env_remove("RUST_BACKTRACE");
    command.env("PATH", path_with_plain_mount(place));
    command.arg("-c").arg(settings).arg("-p").arg(root).arg("-s").arg(place.dir());
    command.args(only);
    parse(&run(command).stdout)
}

/// A search path on which `mount` does without the helpers of FUSE file systems: to remount read-only, mount(8) would
/// hand over to a helper, which would start another daemon.
fn path_with_plain_mount(place: &Place) -> std::ffi::OsString {
    let old = env::var_os("PATH").unwrap_or_default();
    let mount = env::split_paths(&old).map(|dir| dir.join("mount")).find(|path| path.exists()).expect("mount(8)");
    let dir = place.path("bin");
    if !dir.exists() {
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("mount"), format!("#!/bin/sh\nexec {} -i \"$@\"\n", mount.display())).unwrap();
        fs::set_permissions(dir.join("mount"), Permissions::from_mode(0o755)).unwrap();
    }
    env::join_paths([dir].into_iter().chain(env::split_paths(&old))).unwrap()
}

/// Reads lines of the form `name::of::test   ok`, with the reason of a failure in the lines below it.
fn parse(output: &str) -> BTreeMap<String, Ending> {
    let mut endings = BTreeMap::new();
    let mut last_failed: Option<String> = None;
    for line in output.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ending = match &words[..] {
            [name, "ok"] if name.contains("::") => Ending::Passed,
            [name, "skipped"] if name.contains("::") => Ending::Skipped,
            [name, "FAILED"] if name.contains("::") => Ending::Failed(String::new()),
            _ => {
                let failed = last_failed.as_ref().and_then(|name| endings.get_mut(name));
                if let Some(Ending::Failed(why)) = failed
                    && !line.trim().is_empty()
                    && why.lines().count() < 5
                {
                    why.extend(["      ", line.trim(), "\n"]);
                }
                continue;
            }
        };
        last_failed = matches!(ending, Ending::Failed(_)).then(|| words[0].to_owned());
        endings.insert(words[0].to_owned(), ending);
    }
    endings
}

/// The excluded tests with their reasons.
fn exclusions() -> BTreeMap<String, String> {
    let list = fs::read_to_string(suites::file("exclusions.txt")).unwrap();
    let lines = list.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| line.split_once(" | ").unwrap_or_else(|| panic!("exclusions.txt: {line:?} has no reason")))
        .map(|(name, reason)| (name.trim().to_owned(), reason.to_owned()))
        .collect()
}

fn assert_as_listed(endings: &BTreeMap<String, Ending>) {
    let excluded = exclusions();
    let mut faults = Vec::new();
    for (name, ending) in endings {
        match (ending, excluded.get(name)) {
            (Ending::Failed(why), None) => faults.push(format!("{name} failed:\n{why}")),
            (Ending::Skipped, None) => faults.push(format!("{name} was skipped")),
            (Ending::Passed, Some(reason)) => {
                faults.push(format!("{name} passes but is listed ({reason}); mend: take it off the list"));
            }
            _ => {}
        }
    }
    let strangers = excluded.keys().filter(|name| !endings.contains_key(*name));
    faults.extend(strangers.map(|name| format!("{name} is listed, but the suite has no such test")));
    let passed = endings.values().filter(|ending| **ending == Ending::Passed).count();
    say(&format!("pjdfstest {VERSION}: {passed} of {} passed, {} excluded", endings.len(), excluded.len()));
    assert!(faults.is_empty(), "{} tests are not as they should be:\n{}", faults.len(), faults.join("\n"));
    assert_eq!(endings.len(), TESTS, "tests of the suite that were tried");
}

#[test]
fn the_suites_output_is_read() {
    let output =
        "a::b::dir      ok\nc::d   FAILED\n\tassertion failed\n\n\tleft: 1\ne::f  skipped\n\trequires x\nSummary: 1\n";
    let endings = parse(output);
    assert_eq!(endings.len(), 3);
    assert_eq!(endings["a::b::dir"], Ending::Passed);
    assert_eq!(endings["e::f"], Ending::Skipped);
    assert!(matches!(&endings["c::d"], Ending::Failed(why) if why.contains("left: 1")));
}
