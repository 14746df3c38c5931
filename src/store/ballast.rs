//! Room put aside: given free when the disk is full, so that the journal and the index can still be written.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use crate::error::{Kind, Result};
use crate::own_file;
use crate::sync::Mutex;

/// Bytes put aside.
const LEN: u64 = 4 << 20;

/// The file `ballast` of a store.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    is_held: Mutex<bool>,
}

impl Ballast {
    /// The ballast of the store at `root`, as it was left.
    #[must_use]
    pub fn new(root: &Path) -> Ballast {
        let path = root.join("ballast");
        let is_held = std::fs::metadata(&path).is_ok_and(|meta| meta.len() == LEN);
        Ballast { path, is_held: Mutex::new(is_held) }
    }

    /// Puts it aside on a disk that has `free` bytes of which `floor` are to stay, when that leaves room: best effort.
    pub fn tend(&self, free: u64, floor: u64) {
        let mut is_held = self.is_held.lock();
        if !*is_held && free.saturating_sub(floor) >= 2 * LEN {
            *is_held = self.make().is_ok();
            if !*is_held {
                let _none = std::fs::remove_file(&self.path);
            }
        }
    }

    fn make(&self) -> std::io::Result<()> {
        let file = own_file::open(&self.path, File::options().write(true).create(true).truncate(false))?;
        file.set_len(LEN)?;
        Ok(fallocate(&file, FallocateFlags::empty(), 0, LEN)?)
    }

    /// Makes an attempt, and when the disk is full another one with the ballast given free, by this call or by one
    /// beside it.
    ///
    /// # Errors
    /// Those of the last attempt.
    pub fn with_room<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        attempt().or_else(|e| {
            if e.kind() != Kind::NoSpace {
                return Err(e);
            }
            self.release();
            attempt()
        })
    }

    /// Gives its room free.
    pub fn release(&self) {
        let mut is_held = self.is_held.lock();
        *is_held = false;
        if std::fs::remove_file(&self.path).is_ok() {
            tracing::warn!("the disk is full: the room put aside for this was given free");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn it_is_held_where_there_is_room_and_given_free_when_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::new(dir.path());
        let len = || std::fs::metadata(dir.path().join("ballast")).map_or(0, |meta| meta.len());
        ballast.tend(LEN, 0);
        ballast.tend(u64::MAX, u64::MAX);
        assert_eq!(len(), 0);
        ballast.tend(4 * LEN, 2 * LEN);
        assert_eq!(len(), LEN);

        let full = |_: &()| -> Result<()> { if len() > 0 { Err(Error::from(Kind::NoSpace)) } else { Ok(()) } };
        let again = Ballast::new(dir.path());
        again.with_room(|| Err::<(), _>(Error::from(Kind::Damaged))).unwrap_err();
        assert_eq!(len(), LEN, "for a full disk alone");
        again.with_room(|| full(&())).unwrap();
        assert_eq!(len(), 0);
    }
}
