//! Who changed since what: the sets that connect memory, blobs, journal and index.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::inode::{Inode, State};
use super::retired::{Retired, RetiredList};
use super::types::Witness;
use super::{Volume, recovery};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::format::journal::Record as JournalRecord;
use crate::ids::{BlobId, FileKind, Ino};
use crate::index::Table;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// The sets, each behind a leaf lock of its own.
#[derive(Default)]
pub(super) struct Tracking {
    /// Inodes whose record in the index is behind.
    pub dirty: Mutex<HashMap<Ino, Arc<Inode>>>,
    /// Inodes with changes that no frame says yet.
    pub uncommitted: Mutex<HashMap<Ino, Arc<Inode>>>,
    /// Told of them, and of those without a name of which the same is true.
    pub witness: Option<Arc<dyn Witness>>,
    /// Closed files whose content is in memory alone, since the disk is full.
    pub unpublished: Mutex<HashMap<Ino, Arc<Inode>>>,
    /// Inodes with an attribute frame that is not durable yet, and its sequence number.
    pub unsynced: Mutex<HashMap<Ino, u64>>,
    /// Directories of which no frame is durable yet.
    pub newborn: Mutex<HashSet<Ino>>,
    /// Numbers of attribute frames that are being written.
    pub committing: Mutex<BTreeSet<u64>>,
    /// Inodes without a name that somebody may still use, and since when.
    pub orphans: Mutex<HashMap<Ino, (Arc<Inode>, Timestamp)>>,
    /// Blobs to remove.
    pub retired: Mutex<RetiredList>,
    /// Held while some of them are; taken before all others here.
    pub reaping: Mutex<()>,
    /// Names whose last holder has left them for others, and who that was.
    pub vacated: Mutex<HashMap<(Ino, Vec<u8>), Ino>>,
    /// Inodes that have got names others had left, with the number of each name and that other one, as long as it is not
    /// durable.
    pub leavers: Mutex<HashMap<Ino, Vec<(u64, Ino)>>>,
    /// Inodes whose bytes are to be inspected when there is time.
    pub uninspected: Mutex<Vec<Ino>>,
    /// Media that could not be sorted by age, since their names could not be read.
    pub unsorted: Mutex<HashSet<Ino>>,
    /// Inodes that somebody has open for writing.
    pub writing: Mutex<HashSet<Ino>>,
    /// Directories whose times changed since their blobs were written.
    pub stale_dirs: Mutex<HashSet<Ino>>,
    /// Inodes that recovery made and that have no blob yet.
    pub to_commit: Mutex<Vec<Ino>>,
    /// Blobs that were numbered and have no attribute frame yet, so that no index knows what they are for.
    pub young: Mutex<BTreeSet<BlobId>>,
    /// The next blob number.
    pub next_blob: AtomicU64,
    /// The next number of a link or an attribute frame.
    pub next_seq: AtomicU64,
    /// Blobs from here on need no touch in the journal.
    pub first_new_blob: AtomicU64,
    /// Bytes the sealer had taken at the last checkpoint.
    pub taken_at: AtomicU64,
    /// The next blob number when the journal's generation began.
    pub begun_at: AtomicU64,
}

impl Tracking {
    fn unsettled(&self, ino: Ino) {
        if let Some(witness) = &self.witness {
            witness.unsettled(ino);
        }
    }

    fn settled(&self, ino: Ino) {
        if let Some(witness) = &self.witness {
            witness.settled(ino);
        }
    }

    /// No change of an inode is left that no frame says. Whoever calls holds its state.
    pub fn settle(&self, ino: Ino) {
        self.uncommitted.lock().remove(&ino);
        self.settled(ino);
    }
}

/// An attribute frame that is being written.
pub(super) struct FrameBegun<'a> {
    /// Its number.
    pub seq: u64,
    tracking: &'a Tracking,
}

impl Drop for FrameBegun<'_> {
    fn drop(&mut self) {
        self.tracking.committing.lock().remove(&self.seq);
    }
}

/// How many inodes wait for inspection at most; the rest is inspected when it is asked for.
const MAX_UNINSPECTED: usize = 16384;

impl Volume {
    /// Numbers a blob. It is young until its first commit.
    pub(super) fn next_blob(&self) -> BlobId {
        let mut young = self.tracking.young.lock();
        let id = BlobId(self.tracking.next_blob.fetch_add(1, Ordering::AcqRel));
        young.insert(id);
        id
    }

    /// The first blob recovery has to look at, whatever the index says: a young one, however long it has been so, or
    /// the next.
    pub(super) fn first_unknown_blob(&self) -> u64 {
        let young = self.tracking.young.lock();
        let next = self.tracking.next_blob.load(Ordering::Acquire);
        self.tracking.begun_at.store(next, Ordering::Release);
        young.first().map_or(next, |id| id.0)
    }

    /// How many blobs were numbered since the journal's generation began.
    pub(super) fn blobs_begun(&self) -> u64 {
        self.tracking.next_blob.load(Ordering::Acquire) - self.tracking.begun_at.load(Ordering::Acquire)
    }

    /// Nobody will commit this inode any more.
    fn no_longer_young(&self, state: &State) {
        let mut young = self.tracking.young.lock();
        young.remove(&BlobId(state.record.attrs.ino.0));
        if let Some(open) = &state.blob {
            young.remove(&open.cipher.blob);
        }
    }

    /// Numbers an attribute frame that is about to be written, until what this gives is dropped.
    pub(super) fn begin_frame(&self) -> FrameBegun<'_> {
        let mut committing = self.tracking.committing.lock();
        let seq = self.next_seq();
        committing.insert(seq);
        FrameBegun { seq, tracking: &self.tracking }
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.tracking.next_seq.fetch_add(1, Ordering::AcqRel)
    }

    /// The inode with this number.
    ///
    /// # Errors
    /// `NotFound`; `Damaged` or `Io` from the index.
    pub(super) fn inode(&self, ino: Ino) -> Result<Arc<Inode>> {
        if let Some(inode) = self.cache.get(ino) {
            return Ok(inode);
        }
        match self.read_record(ino)? {
            Some(record) => Ok(self.cache.insert(ino, State::new(record, true))),
            None => Err(Error::new(Kind::NotFound, format!("no inode {ino}"))),
        }
    }

    /// Notes in the journal that an inode is about to differ from its record, before it does.
    pub(super) fn note_change(&self, inode: &Arc<Inode>, state: &State) -> Result<()> {
        if state.removed {
            self.tracking.unsettled(inode.ino);
            return Ok(());
        }
        if self.tracking.uncommitted.lock().insert(inode.ino, Arc::clone(inode)).is_none() {
            self.tracking.unsettled(inode.ino);
        }
        self.mark_dirty(inode);
        self.touch(inode.ino, state)
    }

    /// Notes an inode in the journal unless recovery will look at it anyway, since its blob is new.
    pub(super) fn touch(&self, ino: Ino, state: &State) -> Result<()> {
        let blob = state.record.location.map_or(ino.0, |at| at.blob.0);
        if blob >= self.tracking.first_new_blob.load(Ordering::Acquire) {
            return Ok(());
        }
        self.ledger.touch(&self.index_key, ino)
    }

    /// Has the record of an inode written into the index with the next batch.
    pub(super) fn mark_dirty(&self, inode: &Arc<Inode>) {
        self.tracking.dirty.lock().entry(inode.ino).or_insert_with(|| Arc::clone(inode));
    }

    /// A commit of this inode is done.
    pub(super) fn committed(&self, inode: &Arc<Inode>, state: &mut State) {
        self.mark_dirty(inode);
        if !state.is_uncommitted() {
            self.tracking.settle(inode.ino);
        }
        if let Some(at) = state.record.location {
            self.tracking.young.lock().remove(&at.blob);
            self.tracking.unsynced.lock().insert(inode.ino, state.record.attrs.seq);
        }
        for blob in state.replaced.drain(..) {
            self.keep_in_mind(blob);
            self.tracking.retired.lock().push(Retired::Replaced(blob));
        }
    }

    /// The index loses sight of a blob that may become the truth again, should power fail before what took its place is
    /// durable.
    fn keep_in_mind(&self, blob: BlobId) {
        self.index.put(Table::Meta, &recovery::replaced_key(blob), blob.0.to_le_bytes().to_vec());
    }

    pub(super) fn is_unsynced(&self, ino: Ino) -> bool {
        self.tracking.unsynced.lock().contains_key(&ino) || self.tracking.uncommitted.lock().contains_key(&ino)
    }

    /// Attribute frames of this inode up to the one with this sequence number are durable.
    pub(super) fn synced(&self, ino: Ino, seq: u64) {
        self.tracking.newborn.lock().remove(&ino);
        let mut unsynced = self.tracking.unsynced.lock();
        if unsynced.get(&ino).is_some_and(|newest| *newest <= seq) {
            unsynced.remove(&ino);
        }
    }

    /// Attribute frames with lower numbers are all written.
    pub(super) fn written_seq(&self) -> u64 {
        let committing = self.tracking.committing.lock();
        let next = self.tracking.next_seq.load(Ordering::Acquire);
        committing.first().copied().unwrap_or(next)
    }

    /// An inode has lost its last name: nothing finds it any more. Its bytes stay while somebody has it open.
    ///
    /// With `superseded_by`, the name went to that inode, which has to be durable before this one may go for good.
    pub(super) fn drop_inode(&self, inode: &Arc<Inode>, state: &mut State, superseded_by: Option<Ino>) -> Result<()> {
        let blob = state.record.location.map(|at| at.blob);
        self.note_removal(state, superseded_by)?;
        if let Some(by) = superseded_by {
            self.note_change(inode, state)?;
            for entry in self.tracking.retired.lock().of_inodes_mut() {
                // Whoever took the name from an inode takes it from those that had it before, too.
                if let Retired::Superseded { by: before, .. } = entry
                    && *before == inode.ino
                {
                    *before = by;
                }
            }
            blob.into_iter().for_each(|blob| self.keep_in_mind(blob));
            self.ledger.note(&self.index_key, JournalRecord::Superseded(inode.ino, by))?;
            self.tracking.retired.lock().push(Retired::Superseded { ino: inode.ino, blob, by });
        } else {
            // In this order: with the second note and without the first, those whose name it took would come back.
            if self.settle_victims(inode.ino)? {
                // A power loss may keep the second of two records that were never synced, and lose the first.
                self.ledger.sync()?;
            }
            if blob.is_some() || state.indexed.is_some() {
                self.ledger.note(&self.index_key, JournalRecord::Removed(inode.ino, blob.unwrap_or(BlobId(0))))?;
            }
        }
        state.removed = true;
        state.record.attrs.links.clear();
        state.record.attrs.ctime = self.clock.now();
        self.unindex(state);
        self.tracking.dirty.lock().remove(&inode.ino);
        self.tracking.uncommitted.lock().remove(&inode.ino);
        if !state.is_uncommitted() {
            self.tracking.settled(inode.ino);
        }
        self.tracking.unsynced.lock().remove(&inode.ino);
        self.tracking.newborn.lock().remove(&inode.ino);
        self.tracking.orphans.lock().insert(inode.ino, (Arc::clone(inode), self.clock.now()));
        if state.opens == 0 {
            self.give_quota(state);
        }
        Ok(())
    }

    /// Whether an inode has taken over a name whose former holder could still come back: one of which nothing was ever
    /// committed could not.
    pub(super) fn has_victims(&self, by: Ino) -> bool {
        let retired = self.tracking.retired.lock();
        retired.of_inodes().any(|entry| matches!(entry, Retired::Superseded { by: b, blob: Some(_), .. } if *b == by))
    }

    /// The inodes whose names this one has taken over must not come back from now on, wherever it goes; says whether there
    /// were any.
    pub(super) fn settle_victims(&self, by: Ino) -> Result<bool> {
        let mut any = false;
        let mut retired = self.tracking.retired.lock();
        for entry in retired.of_inodes_mut() {
            let Retired::Superseded { ino, blob, by: b } = *entry else { continue };
            if b != by {
                continue;
            }
            self.ledger.note(&self.index_key, JournalRecord::Removed(ino, blob.unwrap_or(BlobId(0))))?;
            *entry = Retired::Settled { ino, blob };
            any = true;
        }
        Ok(any)
    }

    /// Gives back what a removed inode is charged.
    pub(super) fn give_quota(&self, state: &mut State) {
        if !std::mem::replace(&mut state.uncharged, true) {
            self.quota.give(state.record.allocated, u64::from(state.record.is_medium()));
        }
    }

    /// The last handle of a removed inode was closed.
    pub(super) fn last_close(&self, inode: &Arc<Inode>) {
        {
            let mut state = inode.state.write();
            if !state.removed || state.opens > 0 {
                return;
            }
            self.give_quota(&mut state);
        }
        if !self.has_watcher() {
            self.forget(inode.ino);
        }
    }

    /// Whether a removed inode is still open, as far as can be told without waiting.
    pub(super) fn is_orphan_open(&self) -> bool {
        let orphans = self.tracking.orphans.lock();
        orphans.values().any(|(inode, _)| inode.state.try_read().is_none_or(|state| state.opens > 0))
    }

    /// Nobody knows this inode any more. When it has no name and no handle, its blobs go.
    pub fn forget(&self, ino: Ino) {
        let orphan = self.tracking.orphans.lock().get(&ino).map(|(inode, _)| Arc::clone(inode));
        let Some(inode) = orphan else { return };
        let mut state = inode.state.write();
        if state.opens > 0 || self.tracking.orphans.lock().remove(&ino).is_none() {
            return;
        }
        if let Some(writer) = state.writer.take() {
            writer.flight.wait();
        }
        let mut retired = self.tracking.retired.lock();
        let waits = retired
            .of_inodes()
            .any(|r| matches!(r, Retired::Superseded { ino: i, .. } | Retired::Settled { ino: i, .. } if *i == ino));
        let committed = state.record.location.map(|at| at.blob);
        let newest = state.blob.as_ref().filter(|open| !open.is_new).map(|open| open.cipher.blob);
        if !waits {
            let is_directory = state.record.attrs.kind == FileKind::Directory;
            retired.extend(committed.map(|blob| match is_directory {
                true => Retired::Directory { ino, blob },
                false => Retired::Noted(blob),
            }));
        }
        retired.extend(newest.filter(|blob| Some(*blob) != committed).map(Retired::Noted));
        for blob in state.replaced.drain(..) {
            if Some(blob) != committed {
                retired.push(Retired::Noted(blob));
            }
        }
        drop(retired);
        self.no_longer_young(&state);
        self.tracking.settled(ino);
        self.tracking.unpublished.lock().remove(&ino);
        drop(state);
        self.cache.remove(ino);
    }

    /// The bytes of a medium are to be inspected, and their digest computed, when there is time.
    pub(super) fn facts_wanted(&self, inode: &Inode, state: &State) {
        let attrs = &state.record.attrs;
        let known = attrs.digest.is_some() && attrs.facts.as_ref().is_some_and(|f| f.verdict != 0);
        if !known && state.record.is_medium() && !state.removed {
            let mut waiting = self.tracking.uninspected.lock();
            if waiting.len() < MAX_UNINSPECTED {
                waiting.push(inode.ino);
            }
        }
    }
}
