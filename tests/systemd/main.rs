//! The units and the helper of mount(8) on a real systemd, which `boot.sh` starts from this machine's own root file system.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use support::{machine, place};

/// What the walk needs beside the shell.
const TOOLS: [&str; 7] = ["systemd-nspawn", "systemd-analyze", "nsenter", "mkfs.ext4", "fsfreeze", "findmnt", "chattr"];

fn is_installed(tool: &str) -> bool {
    let found = |dir: std::path::PathBuf| dir.join(tool).is_file();
    std::env::var_os("PATH").iter().flat_map(std::env::split_paths).any(found)
}

/// Install, start, status, reload, kill, watchdog, stop, credentials, mount(8), fstab, automount; see `walk.sh`.
#[test]
fn what_the_manual_says_of_systemd_holds() {
    let test = "what_the_manual_says_of_systemd_holds";
    if !machine::is_root(test) || !machine::can_mount(test) {
        return;
    }
    if let Some(missing) = TOOLS.iter().find(|tool| !is_installed(tool)) {
        return machine::skip(test, &format!("{missing} is not installed (Debian: systemd-container, util-linux)"));
    }
    let place = place::Place::new();
    let work = place.path("systemd");
    std::fs::create_dir(&work).unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(project.join("tests/systemd/walk.sh"))
        .args([work.as_path(), project, Path::new(env!("CARGO_BIN_EXE_wamedia"))])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{told}", output.status);
}
