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
