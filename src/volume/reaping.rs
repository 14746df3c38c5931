//! Removing the blobs that are nobody's truth any more, once what took their place is durable.

use std::collections::HashSet;

use super::retired::Retired;
use super::{Volume, recovery};
use crate::error::{Kind, Result};
use crate::format::journal::Record as JournalRecord;
use crate::ids::{BlobId, Ino};
use crate::index::Table;

impl Volume {
    /// Removes something, and when there is no room to note that, once more after the blobs that may go have made some.
    pub(super) fn removing<T>(&self, remove: impl Fn() -> Result<T>) -> Result<T> {
        remove().or_else(|e| {
            if e.kind() != Kind::NoSpace {
                return Err(e);
            }
            self.reap()?;
            remove()
        })
    }

    /// Removes the blobs that may go. What is retired meanwhile waits for the next time, and an entry stays in the list until
    /// it is done with: a removal that comes in between finds it there.
    pub(super) fn reap(&self) -> Result<()> {
        let _one = self.tracking.reaping.lock();
        let seen = self.tracking.retired.lock().entries().to_vec();
        if seen.is_empty() || self.store.latch().reason().is_some() {
            return Ok(());
        }
        // Before the sync, so that it is one of what they have committed.
        let ready: HashSet<(Ino, Ino)> = seen
            .iter()
            .filter_map(|entry| match entry {
                Retired::Superseded { ino, by, .. } if self.has_committed_names(*by) => Some((*ino, *by)),
                _ => None,
            })
            .collect();
        if seen.iter().any(|entry| !matches!(entry, Retired::Noted(_) | Retired::Settled { .. })) {
            self.sync_store()?;
        }
        let gone = self.release(seen.len(), &ready)?;
        self.ledger.sync()?;
        for (nth, (blob, in_mind)) in gone.iter().enumerate() {
            if let Err(e) = self.store.remove(*blob) {
                let rest = gone.iter().skip(nth).map(|(blob, _)| Retired::Noted(*blob));
                self.tracking.retired.lock().extend(rest);
                return Err(e);
            }
            if *in_mind {
                self.index.delete(Table::Meta, &recovery::replaced_key(*blob));
            }
        }
        Ok(())
    }

    /// Takes what may go of the first `count` entries out of the list, with what has to be noted noted; gives the blobs, and
    /// whether the index keeps each in mind.
    fn release(&self, count: usize, ready: &HashSet<(Ino, Ino)>) -> Result<Vec<(BlobId, bool)>> {
        let mut retired = self.tracking.retired.lock();
        for entry in retired.entries().iter().take(count) {
            if let Retired::Superseded { ino, blob: Some(blob), by } = *entry
                && ready.contains(&(ino, by))
            {
                self.ledger.note(&self.index_key, JournalRecord::Removed(ino, blob))?;
            }
        }
        let orphans = self.tracking.orphans.lock();
        let mut gone = Vec::with_capacity(count);
        let mut nth = 0;
        retired.retain(|entry| {
            nth += 1;
            if nth > count {
                return true;
            }
            match *entry {
                Retired::Superseded { ino, by, .. } if !ready.contains(&(ino, by)) => return true,
                // While somebody has it open its blob stays; who forgets it retires the blob again.
                Retired::Superseded { ino, blob, .. } | Retired::Settled { ino, blob }
                    if orphans.contains_key(&ino) =>
                {
                    // The journal says that it is gone.
                    blob.iter().for_each(|blob| self.index.delete(Table::Meta, &recovery::replaced_key(*blob)));
                }
                Retired::Superseded { blob, .. } | Retired::Settled { blob, .. } => {
                    gone.extend(blob.map(|blob| (blob, true)));
                }
                Retired::Replaced(blob) => gone.push((blob, true)),
                Retired::Noted(blob) | Retired::Directory { blob, .. } => gone.push((blob, false)),
            }
            false
        });
        gone.sort_unstable();
        gone.dedup();
        Ok(gone)
    }

    /// Whether the names an inode has now stand in its blob.
    fn has_committed_names(&self, ino: Ino) -> bool {
        let Ok(inode) = self.inode(ino) else { return true };
        let state = inode.state.read();
        state.removed || (state.record.location.is_some() && !state.attrs_changed)
    }
}
