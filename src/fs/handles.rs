//! Open files and directories by the number that the kernel was given for each.

use std::collections::HashMap;
use std::sync::Arc;

use fuser::FileHandle;

use crate::ids::Ino;
use crate::sync::RwLock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::volume::{OpenFile, Volume};

use super::expired::ExpiredListing;

/// What a handle number stands for.
pub(super) enum Handle {
    /// A regular file.
    File(FileGuard),
    /// A directory of the volume.
    Directory(Ino),
    /// The directory of expired media.
    Expired(ExpiredListing),
}

/// An open file that is closed, and so published, when the last user lets go of it.
///
/// Requests drop their reference before they reply, so the kernel cannot have sent the release before that, and it is
/// the release that closes; at the end of a session the table of handles does.
pub(super) struct FileGuard {
    volume: Arc<Volume>,
    file: Option<OpenFile>,
}

impl FileGuard {
    pub(super) fn new(volume: Arc<Volume>, file: OpenFile) -> FileGuard {
        FileGuard { volume, file: Some(file) }
    }

    pub(super) fn file(&self) -> Option<&OpenFile> {
        self.file.as_ref()
    }
}

impl Drop for FileGuard {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            self.volume.close_soon(file);
        }
    }
}

const SHARDS: usize = 16;

/// All handles of a session. Numbers are never used twice. Its locks are held for a look-up only.
pub(super) struct Handles {
    next: AtomicU64,
    shards: [RwLock<HashMap<u64, Arc<Handle>>>; SHARDS],
}

impl Handles {
    pub(super) fn new() -> Handles {
        Handles { next: AtomicU64::new(1), shards: Default::default() }
    }

    pub(super) fn insert(&self, handle: Handle) -> FileHandle {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(shard) = self.shard(number) {
            shard.write().insert(number, Arc::new(handle));
        }
        FileHandle(number)
    }

    pub(super) fn get(&self, number: FileHandle) -> Option<Arc<Handle>> {
        self.shard(number.0)?.read().get(&number.0).cloned()
    }

    /// Takes a handle out of the table; the file closes when the caller drops it.
    pub(super) fn remove(&self, number: FileHandle) -> Option<Arc<Handle>> {
        self.shard(number.0)?.write().remove(&number.0)
    }

    fn shard(&self, number: u64) -> Option<&RwLock<HashMap<u64, Arc<Handle>>>> {
        self.shards.get(usize::try_from(number % SHARDS as u64).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_number_means_nothing_any_more() {
        let handles = Handles::new();
        let numbers: Vec<_> = (0..40).map(|ino| handles.insert(Handle::Directory(Ino(ino)))).collect();
        for (ino, number) in numbers.iter().enumerate() {
            assert!(matches!(&*handles.get(*number).unwrap(), Handle::Directory(found) if found.0 == ino as u64));
            assert!(handles.remove(*number).is_some());
            assert!(handles.get(*number).is_none());
            assert!(handles.remove(*number).is_none());
        }
        assert!(handles.get(FileHandle(0)).is_none());
    }
}
