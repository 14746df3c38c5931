//! What the plugin remembers: its volumes, their options, and who uses them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::plugin::{Figures, Options};
use crate::error::{Error, Kind, Result};
use crate::own_file;

/// The version of the file's form.
const VERSION: u32 = 1;
/// Bytes the file may have.
const MAX_BYTES: u64 = 16 << 20;

/// A volume that an engine was told of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was made, RFC 3339.
    pub created: String,
    /// What was said when it was made.
    pub options: Options,
    /// The uses that were told of, by the engine's ids for them.
    pub mounts: BTreeSet<String>,
    /// How it was doing when it was last unmounted.
    pub last: Option<Figures>,
}

/// All volumes by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u32,
    /// The volumes.
    pub volumes: BTreeMap<String, Entry>,
}

impl Default for State {
    fn default() -> State {
        State { version: VERSION, volumes: BTreeMap::new() }
    }
}

/// The state, and the file that it is written to whenever it changes. One process at a time has it.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    state: State,
    _lock: File,
}

impl StateFile {
    /// Reads `state.json` in a directory, or begins it.
    ///
    /// # Errors
    /// `Locked` when another process has it, `Damaged` or `Version` when it cannot be read, `Io`.
    pub fn open(directory: &Path) -> Result<StateFile> {
        let lock_path = directory.join("lock");
        let named = |e: std::io::Error| Error::io(lock_path.display(), e);
        let mut options = File::options();
        let lock = own_file::open(&lock_path, options.write(true).create(true).truncate(false)).map_err(named)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let message = format!("another plugin keeps the volumes of {} already", directory.display());
                return Err(Error::new(Kind::Locked, message));
            }
            locked => locked.map_err(|e| named(e.into()))?,
        }
        let path = directory.join("state.json");
        let state = match own_file::read(&path, MAX_BYTES) {
            Ok(bytes) => parse(&path, bytes.as_deref())?,
            Err(error) if error.kind() == ErrorKind::NotFound => State::default(),
            Err(error) => return Err(Error::io(path.display(), error)),
        };
        Ok(StateFile { path, state, _lock: lock })
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Changes the state. On return it is durable; on failure it is as it was before.
    ///
    /// # Errors
    /// `Io`, `NoSpace`, `TooBig`.
    pub fn change<T>(&mut self, work: impl FnOnce(&mut State) -> T) -> Result<T> {
        let mut next = self.state.clone();
        let value = work(&mut next);
        if next != self.state {
            write(&self.path, &next)?;
            self.state = next;
        }
        Ok(value)
    }
}

fn parse(path: &Path, bytes: Option<&[u8]>) -> Result<State> {
    let unreadable = |kind, why: String| {
        let path = path.display();
        let message = format!(
            "{path}: {why}. The media are in their stores all the same: move the file away, and make the volumes again by \
their names, which takes the stores up again"
        );
        Error::new(kind, message)
    };
    let bytes = bytes.ok_or_else(|| unreadable(Kind::Damaged, "it is too large".to_owned()))?;
    let state: State = serde_json::from_slice(bytes).map_err(|e| unreadable(Kind::Damaged, e.to_string()))?;
    match state.version {
        VERSION => Ok(state),
        version => Err(unreadable(Kind::Version, format!("its version is {version}, this build knows {VERSION}"))),
    }
}

/// Writes the file beside the old one, makes it durable, and puts it in its place: a crash leaves the one or the other.
fn write(path: &Path, state: &State) -> Result<()> {
    let named = |e: std::io::Error| Error::io(path.display(), e);
    let mut bytes = serde_json::to_vec_pretty(state).map_err(|e| Error::new(Kind::Invalid, e.to_string()))?;
    bytes.push(b'\n');
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::new(Kind::TooBig, format!("{} would be too large; remove volumes first", path.display())));
    }
    let fresh = path.with_extension("json.new");
    let mut file = own_file::open(&fresh, File::options().write(true).create(true).truncate(true)).map_err(named)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(named)?;
    std::fs::rename(&fresh, path).map_err(named)?;
    match path.parent() {
        Some(directory) => File::open(directory).and_then(|directory| directory.sync_all()).map_err(named),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_changed_is_there_again_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::open(directory.path()).unwrap();
        assert_eq!(StateFile::open(directory.path()).unwrap_err().kind(), Kind::Locked);
        let entry = Entry { created: "now".into(), mounts: ["a".into()].into(), ..Entry::default() };
        file.change(|state| state.volumes.insert("v".into(), entry.clone())).unwrap();
        let mode = directory.path().join("state.json").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(file);
        let file = StateFile::open(directory.path()).unwrap();
        assert_eq!(file.state().volumes["v"], entry);
    }

    #[test]
    fn a_change_that_cannot_be_written_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = StateFile::open(directory.path()).unwrap();
        // Even root cannot write over a directory.
        std::fs::create_dir(directory.path().join("state.json.new")).unwrap();
        file.change(|state| state.volumes.insert("v".into(), Entry::default())).unwrap_err();
        assert_eq!(file.state(), &State::default());
        file.change(|_| ()).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_begun_anew() {
        for (text, kind) in [
            ("", Kind::Damaged),
            ("{\"version\":1,\"volumes\":{}", Kind::Damaged),
            ("{\"version\":2,\"volumes\":{}}", Kind::Version),
        ] {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("state.json"), text).unwrap();
            let error = StateFile::open(directory.path()).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.to_string().contains("move the file away"), "{error}");
        }
    }
}
