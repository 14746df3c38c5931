//! Volumes under real container engines: Docker and podman, each in a world of its own (`enter.sh`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{machine, place};

/// What the scripts need beside the shell, and the package of Debian that has it.
const TOOLS: [(&str, &str); 12] = [
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("runc", "runc"),
    ("podman", "podman"),
    ("busybox", "busybox-static"),
    ("iptables", "iptables"),
    ("curl", "curl"),
    ("systemd-socket-activate", "systemd"),
    ("systemd-nspawn", "systemd-container"),
    ("unshare", "util-linux"),
    ("findmnt", "util-linux"),
    ("chattr", "e2fsprogs"),
];

fn is_installed(tool: &str) -> bool {
    let found = |dir: std::path::PathBuf| dir.join(tool).is_file();
    std::env::var_os("PATH").iter().flat_map(std::env::split_paths).any(found)
}

/// Whether `test` can be made here; says so loudly when not.
fn can_be_made(test: &str) -> bool {
    if !machine::is_root(test) || !machine::can_mount(test) {
        return false;
    }
    if let Some((tool, package)) = TOOLS.iter().find(|(tool, _)| !is_installed(tool)) {
        machine::skip(test, &format!("{tool} is not installed (Debian: {package})"));
        return false;
    }
    true
}

fn enter(test: &str, script: &str) {
    if !can_be_made(test) {
        return;
    }
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker");
    run(Command::new(scripts.join("enter.sh")), |work| {
        vec![work.into(), env!("CARGO_BIN_EXE_wamedia").into(), scripts.join(script)]
    });
}

/// Runs a script in an empty directory; it must succeed and leave no process.
fn run(mut command: Command, arguments: impl FnOnce(&Path) -> Vec<PathBuf>) {
    let place = place::Place::new();
    let work = place.path("world");
    std::fs::create_dir(&work).unwrap();
    let output = command.args(arguments(&work)).stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{told}", output.status);
    let left = machine::processes_naming(&work);
    assert!(left.is_empty(), "processes are left: {left:?}");
}

/// The guards of a bind volume, what removal does, and ends of the daemon and of Docker with containers running.
#[test]
fn volumes_of_dockers_own_driver() {
    enter("volumes_of_dockers_own_driver", "local.sh");
}

/// Options, status, counting, users, removal, and ends of plugin, daemon and Docker with containers running.
#[test]
fn volumes_of_the_plugin() {
    enter("volumes_of_the_plugin", "plugin.sh");
}

/// The same plugin, and bind volumes, under podman.
#[test]
fn volumes_of_podman() {
    enter("volumes_of_podman", "podman.sh");
}

/// The plugin's socket and service on a real systemd: started by the first request, ended without the volumes' daemons.
#[test]
fn the_units_of_the_plugin() {
    if !can_be_made("the_units_of_the_plugin") {
        return;
    }
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    run(Command::new(project.join("tests/docker/units.sh")), |work| {
        vec![work.into(), project.into(), env!("CARGO_BIN_EXE_wamedia").into()]
    });
}
