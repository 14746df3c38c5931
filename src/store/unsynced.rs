//! What was written and not synced yet, on a file system that cannot be synced as a whole.

use std::collections::{HashMap, HashSet};

use crate::ids::BlobId;
use crate::sync::Mutex;

/// Blobs whose bytes, and directories whose names, may not be durable. Its locks are leaves.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    blobs: Mutex<Changed>,
    dirs: Mutex<HashSet<u64>>,
}

#[derive(Debug, Default)]
struct Changed {
    /// How many changes there were.
    count: u64,
    /// The newest change of each.
    newest: HashMap<BlobId, u64>,
}

impl Unsynced {
    /// A blob was changed, and the change is over.
    pub fn changed(&self, id: BlobId) {
        let mut blobs = self.blobs.lock();
        blobs.count += 1;
        let count = blobs.count;
        blobs.newest.insert(id, count);
    }

    /// The newest change of a blob that is over: what a sync that begins now makes durable.
    pub fn changes_of(&self, id: BlobId) -> Option<u64> {
        self.blobs.lock().newest.get(&id).copied()
    }

    /// A sync that has begun after the change `changes` has succeeded.
    pub fn synced(&self, id: BlobId, changes: u64) {
        let mut blobs = self.blobs.lock();
        if blobs.newest.get(&id) == Some(&changes) {
            blobs.newest.remove(&id);
        }
    }

    /// The blobs, in ascending order.
    pub fn blobs(&self) -> Vec<BlobId> {
        let mut ids: Vec<BlobId> = self.blobs.lock().newest.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// A blob was removed from a directory.
    pub fn left(&self, id: BlobId, dir: u64) {
        self.blobs.lock().newest.remove(&id);
        self.dirs.lock().insert(dir);
    }

    /// The directories; a failed sync of one is not tried again.
    pub fn take_dirs(&self) -> Vec<u64> {
        std::mem::take(&mut *self.dirs.lock()).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_during_a_sync_waits_for_the_next() {
        let (unsynced, id) = (Unsynced::default(), BlobId(7));
        unsynced.changed(id);
        let begun = unsynced.changes_of(id).unwrap();
        unsynced.changed(id);
        unsynced.synced(id, begun);
        assert_eq!(unsynced.blobs(), [id]);
        unsynced.synced(id, unsynced.changes_of(id).unwrap());
        assert_eq!(unsynced.blobs(), []);
    }
}
