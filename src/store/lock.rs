//! One process at a time: the lock of a store.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Kind, Result};

/// Holds a store for this process (`flock(2)` on its file `lock`); the kernel lets go when the process ends, however.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Takes the lock and writes this process's id into it.
    ///
    /// # Errors
    /// `Locked`, naming the process that holds it; `Io`.
    pub fn take(store: &Path) -> Result<StoreLock> {
        let path = store.join("lock");
        let named = |e| Error::io(path.display(), e);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(named)?;
        if let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if e != rustix::io::Errno::WOULDBLOCK {
                return Err(named(e.into()));
            }
            let mut holder = String::new();
            let _unknown = Read::by_ref(&mut file).take(32).read_to_string(&mut holder);
            return Err(Error::new(
                Kind::Locked,
                format!(
                    "{} is in use by process {}; unmount it first (`wamedia umount`)",
                    store.display(),
                    if holder.trim().is_empty() { "unknown" } else { holder.trim() }
                ),
            ));
        }
        // A store on a full disk must still open, so the number is a courtesy, not a need.
        let _courtesy = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(StoreLock { _file: file })
    }

    /// Writes this process's id into the lock again, after a fork handed it on.
    pub fn write_holder(&mut self) {
        use std::os::unix::fs::FileExt;
        let _courtesy = self
            ._file
            .set_len(0)
            .and_then(|()| self._file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0));
    }
}
