//! The two suites of others that run over a mount: pjdfstest and fsx.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::machine;

/// The suite's binary in exactly this version; `None`, said loudly, when it is not there.
///
/// It is looked for in `$WAMEDIA_SUITES/bin`, in `suites/bin` of the target directory, then in `PATH`.
pub fn find(test: &str, name: &str, version: &str) -> Option<PathBuf> {
    let mut places: Vec<PathBuf> = Vec::new();
    places.extend(std::env::var_os("WAMEDIA_SUITES").map(|dir| Path::new(&dir).join("bin")));
    let binary = Path::new(env!("CARGO_BIN_EXE_wamedia"));
    places.extend(binary.ancestors().nth(2).map(|target| target.join("suites/bin")));
    places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let wanted = format!("{name} {version}");
    for place in places {
        let path = place.join(name);
        let said = Command::new(&path).arg("--version").output();
        if said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).trim() == wanted) {
            return Some(path);
        }
    }
    let mend = format!("cargo install {name}@{version} --locked --root target/suites");
    machine::skip(test, &format!("{wanted} is not installed; mend: {mend}"));
    None
}

/// A file of `tests/suites`.
pub fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/suites").join(name)
}

/// The Python with the suites and clients of `tests/suites/requirements.txt`; `None`, said loudly, when it is not there.
pub fn python(test: &str) -> Option<PathBuf> {
    let dir = installed(test, "venv", "requirements.txt")?;
    Some(dir.join("bin/python"))
}

/// Node, and the directory with the packages of `tests/suites/package.json`; `None`, said loudly, when they are not
/// there.
pub fn node(test: &str) -> Option<(PathBuf, PathBuf)> {
    let dir = installed(test, "node", "package-lock.json")?;
    Some((dir.join("node_modules/.bin/node"), dir))
}

/// A directory of the suites that was made from this very list of packages.
fn installed(test: &str, name: &str, list: &str) -> Option<PathBuf> {
    let binary = Path::new(env!("CARGO_BIN_EXE_wamedia"));
    let mut places: Vec<PathBuf> = std::env::var_os("WAMEDIA_SUITES").map(PathBuf::from).into_iter().collect();
    places.extend(binary.ancestors().nth(2).map(|target| target.join("suites")));
    let wanted = std::fs::read(file(list)).expect("the list of packages");
    let found = places.iter().map(|place| place.join(name));
    let found = found.into_iter().find(|dir| std::fs::read(dir.join(list)).is_ok_and(|list| list == wanted));
    if found.is_none() {
        machine::skip(test, &format!("what tests/suites/{list} names is not installed; mend: .ci/run installs it"));
    }
    found
}
