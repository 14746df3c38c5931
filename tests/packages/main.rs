//! The packages: built from this build's own program, looked at, and lived through on a real systemd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{machine, place};

/// What the walk needs, and where Debian has it.
const TOOLS: [(&str, &str); 14] = [
    ("cargo-deb", "cargo install cargo-deb --locked"),
    ("rpmbuild", "Debian: rpm"),
    ("dpkg-shlibdeps", "Debian: dpkg-dev"),
    ("lintian", "Debian: lintian"),
    ("man", "Debian: man-db"),
    ("zsh", "Debian: zsh"),
    ("fish", "Debian: fish"),
    ("systemd-nspawn", "Debian: systemd-container"),
    ("systemd-analyze", "Debian: systemd"),
    ("nsenter", "Debian: util-linux"),
    ("mkfs.ext4", "Debian: e2fsprogs"),
    ("chattr", "Debian: e2fsprogs"),
    ("findmnt", "Debian: util-linux"),
    ("pgrep", "Debian: procps"),
];

/// Where tools are looked for: those of the suites first.
fn search_path() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = Vec::new();
    places.extend(std::env::var_os("WAMEDIA_SUITES").map(|dir| Path::new(&dir).join("bin")));
    let binary = Path::new(env!("CARGO_BIN_EXE_wamedia"));
    places.extend(binary.ancestors().nth(2).map(|target| target.join("suites/bin")));
    places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    places
}

/// Built, checked by lintian, man and the shells; installed, used, upgraded, removed, purged, as .deb and as .rpm; see
/// `walk.sh`.
#[test]
fn packages_install_upgrade_and_leave_what_is_not_theirs() {
    let test = "packages_install_upgrade_and_leave_what_is_not_theirs";
    if !machine::is_root(test) || !machine::can_mount(test) {
        return;
    }
    let search_path = search_path();
    let is_installed = |tool: &str| search_path.iter().any(|dir| dir.join(tool).is_file());
    if let Some((missing, from)) = TOOLS.iter().find(|(tool, _)| !is_installed(tool)) {
        return machine::skip(test, &format!("{missing} is not installed ({from})"));
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_wamedia"));
    let manual = binary.with_file_name("examples").join("manual");
    if !manual.is_file() {
        return machine::skip(test, "the example `manual` is not built (cargo build --release --example manual)");
    }
    let place = place::Place::new();
    let work = place.path("packages");
    std::fs::create_dir(&work).unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(project.join("tests/packages/walk.sh"))
        .args([work.as_path(), project, binary, &manual])
        .env("PATH", std::env::join_paths(&search_path).unwrap())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{told}", output.status);
}
