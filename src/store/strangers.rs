//! Files in a store that are none of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::apart::CONTENTS_SUFFIX;
use super::directory::{BLOB_DIGITS, DIR_DIGITS, DIR_SHIFT, number_of, without_suffix};
use super::journal::Series;
use super::quarantine::QUARANTINE_DIR;
use crate::error::{Error, Result};

/// The names in the store directory, but for journals, that are ours. Each may have a `.new` beside it.
const OWN: [&str; 13] = [
    "superblock",
    "superblock.bak",
    "policy",
    "policy.bak",
    "session",
    "scrub",
    "lock",
    "keys.lock",
    "control.sock",
    "ballast",
    "blobs",
    super::INDEX_DIR,
    QUARANTINE_DIR,
];

/// Paths, below the store, of what is none of its own. Hidden names and `lost+found` at its top are the file system's or
/// the operator's, and left out. With `has_contents` blobs may have contents files beside them.
///
/// # Errors
/// `Io`.
pub fn strangers(store: &Path, has_contents: bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in names_in(store)? {
        if !is_own(&name.to_string_lossy()) {
            found.push(PathBuf::from(name));
        }
    }
    let blobs = Path::new("blobs");
    for dir in names_in(&store.join(blobs))? {
        let path = blobs.join(&dir);
        match number_of(&dir, DIR_DIGITS) {
            Some(high) if std::fs::symlink_metadata(store.join(&path)).is_ok_and(|found| found.is_dir()) => {
                let is_in_place =
                    |name: &OsStr| number_of(name, BLOB_DIGITS).is_some_and(|number| number >> DIR_SHIFT == high);
                let is_contents = |name: &OsStr| {
                    let blob = without_suffix(name, CONTENTS_SUFFIX);
                    has_contents && blob != name && is_in_place(blob) && !is_left_alone(&store.join(&path), blob, name)
                };
                let all = names_in(&store.join(&path))?;
                let strange = all.iter().filter(|name| !is_in_place(name) && !is_contents(name));
                found.extend(strange.map(|name| path.join(name)));
            }
            _ => found.push(path),
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Whether a contents file is there without its blob. It is made after the blob and removed before it, so one that is on its
/// way is none.
fn is_left_alone(dir: &Path, blob: &OsStr, contents: &OsStr) -> bool {
    let is_there = |name: &OsStr| std::fs::symlink_metadata(dir.join(name)).is_ok();
    !is_there(blob) && is_there(contents)
}

fn is_own(name: &str) -> bool {
    let bare = name.strip_suffix(".new").unwrap_or(name);
    OWN.contains(&bare) || is_journal(name) || name.starts_with('.') || name == "lost+found"
}

fn is_journal(name: &str) -> bool {
    [Series::Changes, Series::State, Series::Audit].into_iter().any(|series| series.generation_of(name).is_some())
}

fn names_in(dir: &Path) -> Result<Vec<std::ffi::OsString>> {
    let named = |e| Error::io(dir.display(), e);
    std::fs::read_dir(dir).map_err(named)?.map(|entry| entry.map(|entry| entry.file_name()).map_err(named)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_none_of_ours_is_a_stranger() {
        let store = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = store.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        let own = [
            "superblock",
            "policy.new",
            "keys.lock",
            "control.sock",
            "journal.000000000000000a",
            "state.0000000000000001",
            "audit.0000000000000001",
            ".snapshot",
            "index/tree/db",
            "blobs/0000000000001/0000000000001fff",
        ];
        let contents = ["blobs/0000000000001/0000000000001fff.c", "blobs/0000000000001/0000000000001ffd.c"];
        let strange = [
            "blobs/0000000000001/0000000000002000",
            "blobs/0000000000001/0000000000001FFE",
            "blobs/0000000000001/copy",
            "blobs/1",
            "blobs/file",
            "journal.old",
            "superblock.orig",
        ];
        own.iter().chain(&contents).chain(&strange).for_each(|path| make(path));
        for (has_contents, others) in [(false, &contents[..]), (true, &contents[1..])] {
            let mut expected: Vec<PathBuf> = strange.iter().chain(others).map(PathBuf::from).collect();
            expected.sort_unstable();
            assert_eq!(strangers(store.path(), has_contents).unwrap(), expected);
        }
    }
}
