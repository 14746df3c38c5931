//! What the machine has, and saying so when it has not.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Prints a line past the test runner's capture: a skipped test must be seen in a run that passes.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Whether the run is a CI run, where nothing may be skipped (`CI=true`).
pub fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false" && value != "0")
}

/// Skips `test` loudly for want of `missing`. In CI that is a failure.
pub fn skip(test: &str, missing: &str) {
    assert!(!is_ci(), "{test}: {missing}, and in CI nothing is skipped");
    say(&format!("\n  !!! SKIPPED {test}: {missing}\n"));
}

/// Whether file systems can be mounted here; says so loudly when not.
pub fn can_mount(test: &str) -> bool {
    if let Err(why) = OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        skip(test, &format!("/dev/fuse cannot be opened ({why})"));
        return false;
    }
    true
}

/// Whether the test runs as root; says so loudly when not.
pub fn is_root(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    skip(test, "it needs root");
    false
}

/// The type of the file system mounted exactly at `path`, if one is.
pub fn mounted_type(path: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc/self/mountinfo is readable");
    let wanted = path.to_str().expect("the tests' paths are plain text");
    let mut found = None;
    for line in table.lines() {
        let (mount, source) = line.split_once(" - ").expect("mountinfo has a separator");
        if mount.split(' ').nth(4) == Some(wanted) {
            found = source.split(' ').next().map(str::to_owned);
        }
    }
    found
}

/// Processes whose command line names something below `path`: (pid, command line).
pub fn processes_naming(path: &Path) -> Vec<(u32, String)> {
    let wanted = path.to_str().expect("the tests' paths are plain text");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is readable").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that ended meanwhile has no command line, nor has a zombie.
        let Ok(bytes) = fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
        if line.contains(wanted) && pid != std::process::id() {
            found.push((pid, line));
        }
    }
    found
}
