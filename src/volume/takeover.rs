//! What one process leaves to the next while the mount stays: inodes without a name that programs have open.
//!
//! Their blobs are in the store and the journal says that they are removed, so that an open that does not take over removes
//! them.

use std::sync::Arc;

use super::Volume;
use super::inode::{Inode, State};
use super::record::Record;
use crate::error::Result;
use crate::format::journal::Record as JournalRecord;
use crate::ids::BlobId;

impl Volume {
    /// Writes what is in memory alone of inodes that have no name and are open. The checkpoint that follows notes them.
    ///
    /// A crash before the commit leaves what was there; one after it a blob whose removal is in the journal already.
    pub(super) fn commit_nameless(&self) -> Result<()> {
        let orphans: Vec<Arc<Inode>> =
            self.tracking.orphans.lock().values().map(|(inode, _)| Arc::clone(inode)).collect();
        for inode in orphans {
            let mut state = inode.state.write();
            if state.opens == 0 || !state.is_uncommitted() {
                continue;
            }
            self.open_for_append(&mut state)?;
            let blob = state.blob.as_ref().map_or(BlobId(inode.ino.0), |open| open.cipher.blob);
            self.ledger.note(&self.index_key, JournalRecord::Removed(inode.ino, blob))?;
            self.ledger.sync()?;
            self.write_parts(&inode, &mut state, true)?;
        }
        Ok(())
    }

    /// Takes over an inode that has no name and may be open. It is not charged: its quota was given back by now, or is with
    /// the totals that recovery has counted without it.
    pub(super) fn adopt_nameless(&self, record: Record) {
        let ino = record.attrs.ino;
        let mut state = State::new(record, false);
        state.record.attrs.links.clear();
        (state.removed, state.uncharged) = (true, true);
        let inode = self.cache.insert(ino, state);
        self.tracking.orphans.lock().insert(ino, (inode, self.clock.now()));
    }

    /// The inodes without a name that somebody may still use.
    #[must_use]
    pub fn nameless(&self) -> Vec<crate::ids::Ino> {
        self.tracking.orphans.lock().keys().copied().collect()
    }
}
