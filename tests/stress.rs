//! fio and stress-ng over a mount: what they verify is right, and what they do is possible.
//!
//! `WAMEDIA_STRESS=all` runs all of stress-ng's stressors that concern a file system instead of a sample,
//! `WAMEDIA_STRESS_SECONDS` sets how long each takes (1), `WAMEDIA_FIO_MIB` the bytes of each job of fio (8).
//! `WAMEDIA_TEST_PLAIN=DIR` runs it below DIR instead, as a control.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use support::ground::Ground;
use support::machine::{self, say};
use support::place::{run, text};

/// Stressors of the class "filesystem" that work on files below their directory. Those that concern other file systems
/// (procfs), mount some (bind-mount, binderfs), or have no file at all (eventfd, ioprio) are left out, and `io`, which
/// syncs the whole machine.
const ALL: [&str; 42] = [
    "access",
    "chattr",
    "chdir",
    "chmod",
    "chown",
    "copy-file",
    "dentry",
    "dir",
    "dirdeep",
    "dirmany",
    "dnotify",
    "dup",
    "fallocate",
    "fanotify",
    "fcntl",
    "fiemap",
    "file-ioctl",
    "filename",
    "flock",
    "fpunch",
    "fsize",
    "fstat",
    "getdent",
    "handle",
    "hdd",
    "inode-flags",
    "inotify",
    "iomix",
    "lease",
    "link",
    "locka",
    "lockf",
    "lockofd",
    "mknod",
    "open",
    "rename",
    "symlink",
    "sync-file",
    "touch",
    "utime",
    "verity",
    "xattr",
];
/// Those that found most in other file systems.
const SAMPLE: [&str; 9] = ["copy-file", "dentry", "dirdeep", "fallocate", "fpunch", "iomix", "link", "rename", "xattr"];

/// What they write, where that would be gigabytes.
const BOUNDS: [&str; 8] =
    ["--copy-file-bytes", "128m", "--fallocate-bytes", "64m", "--hdd-bytes", "64m", "--iomix-bytes", "64m"];

/// Jobs of fio: a name and what makes it different.
const JOBS: [(&str, &[&str]); 5] = [
    ("sequential", &["--rw=write", "--bs=1m", "--ioengine=psync"]),
    ("scattered", &["--rw=randwrite", "--bsrange=512-128k", "--bs_unaligned=1", "--ioengine=psync", "--fsync=32"]),
    ("mapped", &["--rw=randwrite", "--bs=4k", "--ioengine=mmap", "--fsync=64"]),
    ("queued", &["--rw=randwrite", "--bs=16k", "--ioengine=libaio", "--iodepth=16", "--fdatasync=16"]),
    ("vectored", &["--rw=randrw", "--bs=64k", "--ioengine=pvsync2", "--overwrite=1"]),
];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap_or_else(|e| panic!("{name}={value}: {e}")))
}

fn has_tool(test: &str, tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    if !found {
        machine::skip(test, &format!("{tool} is not installed (Debian: apt-get install {tool})"));
    }
    found
}

fn fio(dir: &Path, job: &str, how: &[&str], last: &[&str]) {
    let mut command = Command::new("fio");
    command.current_dir(dir).args([&format!("--name={job}"), &format!("--directory={}", text(dir))]);
    command.arg(format!("--size={}m", setting("WAMEDIA_FIO_MIB", 8))).args(how).args(last);
    command.args([
        "--verify=sha256",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--randseed=7",
        "--output-format=terse",
    ]);
    let outcome = run(command);
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(outcome.status.success() && !said.contains("verify:"), "fio, {job}: {}\n{said}", outcome.status);
}

#[test]
fn fio_verifies_what_it_wrote_at_once_and_after_a_remount() {
    let test = "fio_verifies_what_it_wrote_at_once_and_after_a_remount";
    if !has_tool(test, "fio") {
        return;
    }
    let Some(mut ground) = Ground::of_size(test, "4GiB") else { return };
    for (job, how) in JOBS {
        fio(ground.root(), job, how, &["--do_verify=1"]);
    }
    ground.remount();
    for (job, how) in JOBS.iter().filter(|(job, _)| *job != "vectored") {
        fio(ground.root(), job, how, &["--verify_only"]);
    }
    // What fio calls right must be told from what is not.
    let path = ground.path("sequential.0.0");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() / 2 + 100;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let wrong = std::panic::catch_unwind(|| fio(ground.root(), JOBS[0].0, JOBS[0].1, &["--verify_only"]));
    assert!(wrong.is_err(), "fio verifies a file with a flipped bit");
    say(&format!("fio: {} jobs, at once and after a remount, no difference", JOBS.len()));
    ground.finish();
}

#[test]
fn the_stressors_of_file_systems_find_nothing() {
    let test = "the_stressors_of_file_systems_find_nothing";
    if !has_tool(test, "stress-ng") || !machine::is_root(test) {
        return;
    }
    let Some(ground) = Ground::of_size(test, "4GiB") else { return };
    let is_all = std::env::var("WAMEDIA_STRESS").is_ok_and(|which| which == "all");
    let stressors: &[&str] = if is_all { &ALL } else { &SAMPLE };
    let seconds = setting("WAMEDIA_STRESS_SECONDS", 1);
    let dir = ground.path("stress");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
    let mut failed = Vec::new();
    for stressor in stressors {
        let mut command = Command::new("stress-ng");
        command.args([&format!("--{stressor}"), "2", "--verify", "--timeout", &format!("{seconds}s"), "--temp-path"]);
        command.arg(&dir).args(BOUNDS).current_dir(&dir);
        let outcome = run(command);
        if !outcome.status.success() {
            failed.push(format!("{stressor}: {}\n{}{}", outcome.status, outcome.stdout, outcome.stderr));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    say(&format!("stress-ng: {} stressors of {seconds} s, none failing", stressors.len()));
    ground.finish();
}
