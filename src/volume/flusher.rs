//! The volume's own thread: batches into the index, checkpoints, blobs that may go, facts that are wanted.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Volume;
use super::retired::Retired;
use crate::error::{Error, Kind, Result};
use crate::format::journal::Record as JournalRecord;
use crate::ids::{BlobId, Ino};
use crate::index::{Table, schema};
use crate::store::{JournalFile, Series};

/// How often the thread looks.
const TICK: Duration = Duration::from_millis(200);
/// Changes from which on a batch is written at once.
const BATCH: usize = 1024;
/// Changes at which those who make more have to wait for a batch.
const MAX_PENDING: usize = 4096;
/// Ticks after which waiting changes are written in any case.
const BATCH_TICKS: u64 = 10;
/// Ticks after which blobs that may go do.
const REAP_TICKS: u64 = 5;
/// Ticks between looks at orphans.
const SLOW_TICKS: u64 = 100;
/// Records of the journal, or blobs made, before a checkpoint.
const CHECKPOINT_CHANGES: u64 = 20_000;
/// Bytes written before one: after a power loss they are read and verified before the mount.
const CHECKPOINT_BYTES: u64 = 4 << 30;
/// Seconds after which an orphan the kernel never forgot is given up.
const ORPHAN_SECS: i64 = 60;
/// Steps in one tick of the check of the index.
const CHECK_STEPS: usize = 16;
/// Pages checked in one step, while no batch can be written.
const CHECK_PAGES: usize = 512;
/// Bytes of media inspected in one tick without requests: about a fifth of a core's time.
const INSPECTED_BYTES: u64 = 32 << 20;
/// Bytes from which on the digest of a content that is mostly holes is not found unasked.
const HOLES_FROM: u64 = 1 << 30;
/// What inspecting a medium costs beside its bytes, in bytes.
const INSPECTION_COST: u64 = 256 << 10;
/// Key of the journal generation that the index is complete up to.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// Key of the number below which all attribute frames were durable then.
pub(super) const DURABLE: &str = "durable";

/// Runs until the volume is gone or shut down.
pub(super) fn run(volume: &Weak<Volume>) {
    let mut tick = 0u64;
    loop {
        let Some(volume) = volume.upgrade() else { return };
        {
            let mut stop = volume.stop.lock();
            if !*stop {
                volume.wake.wait_for(&mut stop, TICK);
            }
            if *stop {
                return;
            }
        }
        tick += 1;
        if tick.is_multiple_of(REAP_TICKS) {
            volume.start_due_scrub();
        }
        if let Err(e) = volume.tend(tick) {
            tracing::error!("upkeep of the volume failed: {e}");
        }
    }
}

impl Volume {
    fn tend(&self, tick: u64) -> Result<()> {
        self.check_index()?;
        let waiting = self.index.pending() + self.tracking.dirty.lock().len();
        if waiting >= BATCH || (waiting > 0 && tick.is_multiple_of(BATCH_TICKS)) {
            self.drain()?;
        }
        if tick.is_multiple_of(REAP_TICKS) {
            self.publish_late();
            self.reap()?;
        }
        let bytes = self.sealer.taken() - self.tracking.taken_at.load(Ordering::Acquire);
        if self.ledger.records().max(self.blobs_begun()) >= CHECKPOINT_CHANGES || bytes >= CHECKPOINT_BYTES {
            self.checkpoint_if_room()?;
        }
        self.tend_ballast();
        self.sweep_some(tick.is_multiple_of(REAP_TICKS));
        if tick.is_multiple_of(SLOW_TICKS) {
            self.forget_old_orphans();
            self.note_history();
        }
        if self.activity.was_idle() {
            self.inspect_some();
        }
        Ok(())
    }

    /// Finds verdicts and digests that are not known yet.
    fn inspect_some(&self) {
        let mut cost = 0;
        while cost < INSPECTED_BYTES && self.activity.is_idle() {
            let Some(ino) = self.tracking.uninspected.lock().pop() else { break };
            // Gone or damaged: whoever asks for it is told.
            let found =
                self.inspect(ino).map(|_| if self.is_mostly_holes(ino) { Ok(()) } else { self.digest_idly(ino) });
            if found.is_ok_and(|digested| digested.is_err_and(|e| e.kind() == Kind::Busy)) {
                // Behind the others, which may be shorter.
                self.tracking.uninspected.lock().insert(0, ino);
            }
            cost += INSPECTION_COST + self.inode(ino).map_or(0, |inode| inode.state.read().record.len);
        }
    }

    /// Finds a digest that is not known yet, unless something is asked of the volume or it is to end meanwhile.
    fn digest_idly(&self, ino: Ino) -> Result<()> {
        let goes_on = || self.activity.is_idle() && !*self.stop.lock();
        self.digest_while(ino, &goes_on).map(drop)
    }

    /// Whether a content is so much longer than what is stored of it that its digest waits for somebody to ask for it.
    fn is_mostly_holes(&self, ino: Ino) -> bool {
        self.inode(ino).is_ok_and(|inode| {
            let record = &inode.state.read().record;
            record.len > HOLES_FROM && record.allocated < record.len / 2
        })
    }

    pub(super) fn tend_ballast(&self) {
        if let Ok(space) = self.store.space() {
            self.ballast.tend(space.free, self.policy().floor_bytes);
        }
    }

    /// Goes on with the check of the index that its open has put off.
    fn check_index(&self) -> Result<()> {
        if self.index_is_checked.load(Ordering::Acquire) {
            return Ok(());
        }
        for _ in 0..CHECK_STEPS {
            if !self.index.check_some(CHECK_PAGES).map_err(|e| self.index_failed(e))? {
                self.index_is_checked.store(true, Ordering::Release);
                break;
            }
        }
        Ok(())
    }

    /// Tries again to publish what a full disk had no room for.
    fn publish_late(&self) {
        let late = std::mem::take(&mut *self.tracking.unpublished.lock());
        for inode in late.into_values() {
            let mut state = inode.state.write();
            if state.writers == 0 && !state.removed {
                self.publish(&inode, &mut state);
            }
        }
    }

    fn forget_old_orphans(&self) {
        let now = self.clock.now();
        let old: Vec<Ino> = {
            let orphans = self.tracking.orphans.lock();
            let is_old = |since: i64| now.secs - since > ORPHAN_SECS;
            orphans.iter().filter(|(_, (_, since))| is_old(since.secs)).map(|(ino, _)| *ino).collect()
        };
        for ino in old {
            self.forget(ino);
        }
    }

    /// Makes whoever changes much wait until a batch is written: memory stays bounded.
    pub(super) fn wait_for_index(&self) -> Result<()> {
        let waiting = self.index.pending() + self.tracking.dirty.lock().len();
        if waiting >= MAX_PENDING {
            return self.drain();
        }
        if waiting >= BATCH {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Writes what the index does not have yet, as one batch. What the journal says of it is durable before.
    ///
    /// # Errors
    /// `Poisoned`, `Damaged`, `Io`. A full disk is none: the batch waits for room.
    pub fn drain(&self) -> Result<()> {
        self.store.latch().pass()?;
        let _one = self.draining.lock();
        {
            let _names = self.names.lock();
            self.settle();
            self.put_totals();
            self.index.freeze();
        }
        self.ledger.sync()?;
        self.write_index().map(|_| ())
    }

    /// Writes the frozen batch; false when the disk has no room for it.
    fn write_index(&self) -> Result<bool> {
        match self.ballast.with_room(|| self.index.write_frozen()) {
            // Reads and removals go on; the batch is tried again when there is room.
            Err(e) if e.kind() == Kind::NoSpace => {
                self.index_waits_for_room(&e);
                Ok(false)
            }
            Err(e) => Err(self.index_failed(e)),
            Ok(()) => {
                self.index_waits.store(false, Ordering::Release);
                Ok(true)
            }
        }
    }

    fn index_waits_for_room(&self, e: &Error) {
        if !self.index_waits.swap(true, Ordering::AcqRel) {
            tracing::warn!("the index waits for room on the disk: {e}");
        }
    }

    fn index_failed(&self, e: Error) -> Error {
        self.index_is_checked.store(true, Ordering::Release);
        self.index.distrust();
        self.store.latch().close(format!("the index failed: {e}"));
        e
    }

    /// A checkpoint, unless the disk has no room for one: the journals then say what the index does not.
    pub(super) fn checkpoint_if_room(&self) -> Result<()> {
        match self.checkpoint() {
            Err(e) if e.kind() == Kind::NoSpace => self.index_waits_for_room(&e),
            other => other?,
        }
        Ok(())
    }

    /// Makes the index complete and durable, and starts a new journal.
    ///
    /// A crash before the batch with the new generation is durable leaves both journals, and recovery reads both;
    /// after it the old one says nothing new.
    ///
    /// # Errors
    /// `NoSpace`, `Poisoned`, `Damaged`, `Io`.
    pub fn checkpoint(&self) -> Result<()> {
        let _one = self.draining.lock();
        let old = {
            let _names = self.names.lock();
            let written = self.written_seq();
            self.tracking.taken_at.store(self.sealer.taken(), Ordering::Release);
            let first_new = self.first_unknown_blob();
            let (generation, old) = self.ledger.turn(self.layout.root(), &self.index_key, first_new)?;
            self.tracking.first_new_blob.store(first_new, Ordering::Release);
            self.carry_over()?;
            self.ledger.carried_over();
            self.settle();
            self.put_totals();
            self.index.put(Table::Meta, &schema::meta(CHECKPOINT), generation.to_le_bytes().to_vec());
            self.index.put(Table::Meta, &schema::meta(DURABLE), written.to_le_bytes().to_vec());
            self.index.freeze();
            old
        };
        // When this fails the latch is closed, and the batch, which says that all is durable, is never written.
        self.sync_store()?;
        if !self.write_index()? {
            // Both journals stay.
            return Ok(());
        }
        self.index.flush().map_err(|e| self.index_failed(e))?;
        for generation in
            JournalFile::generations(Series::Changes, self.layout.root())?.into_iter().filter(|g| *g <= old)
        {
            JournalFile::remove(Series::Changes, self.layout.root(), generation)?;
        }
        Ok(())
    }

    /// Tells the new journal what the old one said that still matters.
    fn carry_over(&self) -> Result<()> {
        let uncommitted: Vec<Ino> = self.tracking.uncommitted.lock().keys().copied().collect();
        for ino in uncommitted {
            self.ledger.touch(&self.index_key, ino)?;
        }
        let retired = self.tracking.retired.lock().entries().to_vec();
        for entry in &retired {
            match entry {
                Retired::Noted(blob) => self.ledger.note(&self.index_key, JournalRecord::Dropped(*blob))?,
                Retired::Superseded { ino, by, .. } => {
                    self.ledger.touch(&self.index_key, *ino)?;
                    self.ledger.note(&self.index_key, JournalRecord::Superseded(*ino, *by))?;
                }
                Retired::Directory { ino, blob } => {
                    self.ledger.note(&self.index_key, JournalRecord::Removed(*ino, *blob))?;
                }
                Retired::Settled { ino, blob } => {
                    let blob = blob.unwrap_or(BlobId(0));
                    self.ledger.note(&self.index_key, JournalRecord::Removed(*ino, blob))?;
                }
                Retired::Replaced(_) => {}
            }
        }
        let orphans: Vec<_> = self.tracking.orphans.lock().values().map(|(inode, _)| Arc::clone(inode)).collect();
        let superseded: HashSet<Ino> = retired
            .iter()
            .filter_map(|entry| match entry {
                Retired::Superseded { ino, .. } => Some(*ino),
                _ => None,
            })
            .collect();
        for inode in orphans {
            let blob = inode.state.read().record.location.map(|at| at.blob);
            if let (Some(blob), false) = (blob, superseded.contains(&inode.ino)) {
                self.ledger.note(&self.index_key, JournalRecord::Removed(inode.ino, blob))?;
            }
        }
        Ok(())
    }

    /// Makes every committed frame and every removal durable.
    pub(super) fn sync_store(&self) -> Result<()> {
        let before: Vec<(Ino, u64)> = self.tracking.unsynced.lock().iter().map(|(ino, seq)| (*ino, *seq)).collect();
        self.ledger.sync()?;
        self.store.sync_all()?;
        for (ino, seq) in before {
            self.synced(ino, seq);
        }
        self.forget_leavers();
        Ok(())
    }

    /// Commits all names, attributes and published contents, and makes them durable.
    ///
    /// # Errors
    /// `NoSpace`, `Poisoned`, `Io`.
    pub fn sync_all(&self) -> Result<()> {
        let uncommitted: Vec<_> = self.tracking.uncommitted.lock().values().map(Arc::clone).collect();
        for inode in uncommitted {
            self.commit_names(&inode, &mut inode.state.write())?;
        }
        self.sync_store()
    }
}
