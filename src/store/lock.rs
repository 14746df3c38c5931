//! One process at a time: the lock of a store.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Kind, Result};
use crate::own_file;

/// Holds a store for this process (`flock(2)` on its file `lock`); the kernel lets go when the process ends, however.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Takes the lock and writes this process's id into it.
    ///
    /// # Errors
    /// `Locked`, naming the process that holds it; `ReadOnly` on a file system that cannot be written, `AccessDenied`, `Io`.
    pub fn take(store: &Path) -> Result<StoreLock> {
        let path = store.join("lock");
        let named = |e| failure(store, &path, e);
        let options = &mut File::options();
        let mut file =
            own_file::open(&path, options.read(true).write(true).create(true).truncate(false)).map_err(named)?;
        if let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if e != rustix::io::Errno::WOULDBLOCK {
                return Err(named(e.into()));
            }
            return Err(locked(store, &mut file));
        }
        // A store on a full disk must still open, so the number is a courtesy, not a need.
        let _courtesy = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(StoreLock { _file: file })
    }

    /// Keeps writers from a store that is only read, together with other readers; `None` when the store has no lock yet.
    ///
    /// # Errors
    /// As [`StoreLock::take`].
    pub fn share(store: &Path) -> Result<Option<File>> {
        let path = store.join("lock");
        let mut file = match own_file::open(&path, File::options().read(true)) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|e| failure(store, &path, e))?,
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(locked(store, &mut file)),
            Err(e) => Err(failure(store, &path, e.into())),
        }
    }

    /// Whether some process holds the store now.
    #[must_use]
    pub fn is_held(store: &Path) -> bool {
        let tried = own_file::open(&store.join("lock"), File::options().read(true))
            .map(|file| flock(&file, FlockOperation::NonBlockingLockShared));
        matches!(tried, Ok(Err(rustix::io::Errno::WOULDBLOCK)))
    }
}

/// The failure to open the lock, with the mend where there is one.
fn failure(store: &Path, path: &Path, error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => cannot_write(store, error),
        ErrorKind::PermissionDenied => {
            Error::new(Kind::AccessDenied, format!("{}: {error}", path.display())).with_source(error)
        }
        _ => Error::io(path.display(), error),
    }
}

/// The failure to write where opening a store must, with the mend.
pub(super) fn cannot_write(store: &Path, error: std::io::Error) -> Error {
    let message = format!(
        "{} lies on a read-only file system, and whoever opens a store writes its lock and its index; \
         copy the store, or as root mount an overlay upon it, and open that ({error})",
        store.display()
    );
    Error::new(Kind::ReadOnly, message).with_source(error)
}

/// The failure to have a store that another process has.
fn locked(store: &Path, lock: &mut File) -> Error {
    let mut holder = String::new();
    let _unknown = lock.take(32).read_to_string(&mut holder);
    Error::new(
        Kind::Locked,
        format!(
            "{} is in use by process {}; unmount it first (`wamedia umount`)",
            store.display(),
            if holder.trim().is_empty() { "unknown" } else { holder.trim() }
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_held_until_its_lock_is_dropped() {
        let store = tempfile::tempdir().unwrap();
        assert!(!StoreLock::is_held(store.path()), "nobody has opened it yet");
        let lock = StoreLock::take(store.path()).unwrap();
        assert!(StoreLock::is_held(store.path()));
        assert_eq!(StoreLock::take(store.path()).unwrap_err().kind(), Kind::Locked);
        drop(lock);
        assert!(!StoreLock::is_held(store.path()));
    }

    #[test]
    fn a_store_that_cannot_be_written_is_told_with_the_mend() {
        let error = failure(Path::new("/s"), Path::new("/s/lock"), ErrorKind::ReadOnlyFilesystem.into());
        assert_eq!(error.kind(), Kind::ReadOnly);
        assert!(error.to_string().starts_with("/s lies") && error.to_string().contains("overlay"), "{error}");
        let error = failure(Path::new("/s"), Path::new("/s/lock"), ErrorKind::PermissionDenied.into());
        assert_eq!(error.kind(), Kind::AccessDenied);
    }
}
