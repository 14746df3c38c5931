//! Recovery: after an unclean end the index is brought to what the blobs say, or made anew from all of them.
//!
//! What a blob says counts by sequence number. Two ends are told apart: when only the process died, everything that was
//! written is in the files; when power failed, a blob may have its newest attributes and lack a part of the content
//! before them, so the contents of the blobs in question are verified, and an older state is the truth where they are
//! not whole.

mod blobs;
mod catch_up;
mod nameless;
mod names;
mod rebuild;
mod tree;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use super::flusher::{CHECKPOINT, DURABLE};
use super::record::{RECORD_VERSION, Record};
use super::truth::Keys;
use super::{Volume, aging};
use crate::error::Result;
use crate::format::attributes::Attributes;
use crate::format::journal::Record as JournalRecord;
use crate::ids::{BlobId, FileKind, Ino};
use crate::index::{Index, Table, schema};

/// Key of the record version.
pub(super) const VERSION: &str = "version";
/// Prefix of the keys of blobs that were given up for others.
const REPLACED: &str = "replaced ";

/// Numbers passed over after a power loss: frames whose records in the journal were lost may have them, and what such a
/// frame claims must never count for more than what is written from now on. A checkpoint comes long before so many are
/// given out.
const UNSEEN_NUMBERS: u64 = 1 << 20;

/// What the journals say.
#[derive(Default)]
pub(super) struct Journals {
    /// Inodes that may differ from their records.
    pub touched: HashSet<Ino>,
    /// Inodes that must not come back.
    pub removed: HashMap<Ino, BlobId>,
    /// Inodes that are gone when another inode has their name.
    pub superseded: HashSet<Ino>,
    /// Blobs that are nobody's.
    pub dropped: HashSet<BlobId>,
    /// Blobs from here on may be unknown to the index.
    pub first_new_blob: u64,
    /// Records that are damaged, or torn.
    pub lost_records: u64,
    /// Whether all are there that the index needs to catch up.
    pub is_complete: bool,
    /// Whether everything that was written before is in the files, since neither the machine nor the mount of the file
    /// system has ended meanwhile.
    pub same_session: bool,
    /// Whether the mount has outlived the process, so that somebody may have open what has no name.
    pub takes_over: bool,
}

impl Journals {
    /// Adds the records of a journal; earlier ones first.
    pub fn add(&mut self, records: Vec<JournalRecord>) {
        for record in records {
            match record {
                JournalRecord::Touched(ino) => {
                    self.touched.insert(ino);
                }
                JournalRecord::Removed(ino, blob) => {
                    self.removed.insert(ino, blob);
                }
                JournalRecord::Superseded(ino, _) => {
                    self.superseded.insert(ino);
                }
                JournalRecord::Dropped(blob) => {
                    self.dropped.insert(blob);
                }
            }
        }
    }
}

/// The work of one recovery.
struct Recovery<'a> {
    volume: &'a Volume,
    journals: &'a Journals,
    /// Frames numbered below this were durable at the last checkpoint.
    durable_seq: u64,
    /// Changes of subdirectory counts, by parent; applied at the end.
    subdirs: HashMap<Ino, i64>,
    /// Directories that entries may name as their parent and that have not been seen, or were taken out.
    missing: HashSet<Ino>,
    /// Inodes that entries name as their parent and that are no directories.
    no_directories: HashSet<Ino>,
    /// Directories that were put in.
    directories: Vec<Ino>,
    /// Inodes whose names others have.
    nameless: Vec<Record>,
    /// Whether the index is made anew.
    is_rebuild: bool,
    /// Inodes that were put into an index that was there.
    settled: Vec<(Ino, FileKind)>,
    /// Blobs to remove.
    gone: Vec<BlobId>,
    notes: Vec<String>,
    next_blob: u64,
    next_seq: u64,
}

impl Volume {
    pub(super) fn keys(&self) -> Keys<'_> {
        Keys { key: &self.key, suite: self.suite, volume: self.id }
    }

    /// Brings the index to the truth of what the journals name, and of blobs made since.
    pub(super) fn recover(&self, journals: &Journals) -> Result<Vec<String>> {
        let mut recovery = Recovery::start(self, journals)?;
        recovery.catch_up()?;
        recovery.finish()
    }

    /// Makes the empty index anew from all blobs.
    pub(super) fn rebuild(&self, journals: &Journals, progress: &dyn Fn(u64, u64)) -> Result<Vec<String>> {
        let mut recovery = Recovery { is_rebuild: true, ..Recovery::start(self, journals)? };
        recovery.read_all(progress)?;
        self.index.put(Table::Meta, &schema::meta(VERSION), RECORD_VERSION.to_le_bytes().to_vec());
        recovery.finish()
    }
}

/// The key under which the index keeps in mind that a blob was given up for another one, until that is durable.
pub(super) fn replaced_key(blob: BlobId) -> Vec<u8> {
    schema::meta(&format!("{REPLACED}{blob}"))
}

fn number(index: &Index, key: &str) -> Result<Option<u64>> {
    let bytes = index.get(Table::Meta, &schema::meta(key))?;
    Ok(bytes.and_then(|b| b.try_into().ok()).map(u64::from_le_bytes))
}

/// The journal generation an index is complete up to, when it is of this build's version.
pub(super) fn generation_of(index: &Index) -> Result<Option<u64>> {
    if number(index, VERSION)? == Some(RECORD_VERSION) { number(index, CHECKPOINT) } else { Ok(None) }
}

impl<'a> Recovery<'a> {
    fn start(volume: &'a Volume, journals: &'a Journals) -> Result<Recovery<'a>> {
        let (totals, next_blob, next_seq) = volume.read_totals()?.unwrap_or((Default::default(), 2, 17));
        *volume.totals.lock() = totals;
        Ok(Recovery {
            volume,
            journals,
            durable_seq: number(&volume.index, DURABLE)?.unwrap_or(0),
            subdirs: HashMap::new(),
            missing: HashSet::new(),
            no_directories: HashSet::new(),
            directories: Vec::new(),
            nameless: Vec::new(),
            is_rebuild: false,
            settled: Vec::new(),
            gone: Vec::new(),
            notes: Vec::new(),
            next_blob: next_blob.max(2),
            next_seq: next_seq.max(17),
        })
    }

    fn saw(&mut self, attrs: &Attributes) {
        let (mut most, mut highest) = (attrs.seq, attrs.ino);
        for link in &attrs.links {
            // A directory that was lost has a number, too.
            highest = highest.max(link.parent);
            most = most.max(link.id);
            if let Some(swap) = &link.swapped {
                highest = highest.max(swap.ino).max(swap.parent);
                most = most.max(swap.id);
            }
        }
        self.next_seq = self.next_seq.max(most + 1);
        self.next_blob = self.next_blob.max(highest.0 + 1);
    }

    /// Settles what needs the whole picture, and removes what is nobody's.
    fn finish(mut self) -> Result<Vec<String>> {
        let volume = self.volume;
        self.remove_all()?;
        self.gone.extend(&self.journals.dropped);
        if volume.read_record(Ino::ROOT)?.is_none() {
            self.make_root();
        }
        self.settle_nameless()?;
        let missing: Vec<Ino> = self.missing.drain().filter(|ino| *ino != Ino::ROOT).collect();
        for ino in missing {
            if volume.read_record(ino)?.is_none() && !volume.is_empty_dir(ino)? {
                self.make_lost(ino)?;
            }
        }
        self.straighten()?;
        self.settle_nameless()?;
        self.expect_numbers_left()?;
        for (ino, by) in std::mem::take(&mut self.subdirs) {
            if by != 0
                && let Some(old) = volume.read_record(ino)?
            {
                let mut new = old.clone();
                new.subdirs = u32::try_from((i64::from(old.subdirs) + by).max(0)).unwrap_or(u32::MAX);
                volume.index_record(&new, Some(&old));
            }
        }
        // Whoever was looked at meanwhile was looked at half done.
        volume.cache.clear();
        if self.journals.takes_over {
            self.keep_nameless()?;
            // The kernel may know inodes of which nothing was ever committed.
            self.next_blob += UNSEEN_NUMBERS;
        }
        volume.tracking.next_blob.store(self.next_blob, Ordering::Release);
        let is_all_seen = self.journals.same_session && !self.journals.takes_over;
        let unseen = if is_all_seen { 0 } else { UNSEEN_NUMBERS };
        volume.tracking.next_seq.store(self.next_seq + unseen, Ordering::Release);
        volume.store.sync_all()?;
        self.gone.sort_unstable();
        self.gone.dedup();
        for blob in &self.gone {
            volume.store.remove(*blob)?;
        }
        self.reclass()?;
        Ok(self.notes)
    }

    /// Where rules hold for directories, a medium is under the right one only when all directories above it are in.
    fn reclass(&mut self) -> Result<()> {
        let volume = self.volume;
        if !aging::has_prefixes(&volume.policy().retention) {
            return Ok(());
        }
        if self.is_rebuild {
            return volume.reclass_all();
        }
        for (ino, kind) in std::mem::take(&mut self.settled) {
            if let Ok(inode) = volume.inode(ino) {
                volume.rename_done(&inode, kind)?;
            }
        }
        Ok(())
    }

    /// Removes what the journal says is removed: what lies in directories before them.
    fn remove_all(&mut self) -> Result<()> {
        let mut waiting: Vec<(Ino, BlobId)> = self.journals.removed.iter().map(|(ino, blob)| (*ino, *blob)).collect();
        // Nearly always what lies in a directory is younger than it.
        waiting.sort_unstable_by_key(|(ino, _)| std::cmp::Reverse(*ino));
        loop {
            let before = waiting.len();
            let mut full = Vec::new();
            for (ino, blob) in waiting {
                if self.volume.is_empty_dir(ino)? {
                    self.remove(ino, blob)?;
                } else {
                    full.push((ino, blob));
                }
            }
            waiting = full;
            if waiting.len() == before {
                break;
            }
        }
        waiting.into_iter().try_for_each(|(ino, blob)| self.remove(ino, blob))
    }

    /// Removes an inode the journal says is removed; a directory only if nothing lies in it.
    fn remove(&mut self, ino: Ino, blob: BlobId) -> Result<()> {
        let record = self.volume.read_record(ino)?;
        if !self.volume.is_empty_dir(ino)? {
            let back = match &record {
                Some(record) => Some(record.clone()),
                None => self.look_at(blob, Some(ino))?.into_record(),
            };
            if let Some(record) = back.filter(|r| r.attrs.kind == FileKind::Directory) {
                self.notes
                    .push(format!("directory {ino} is kept: its removal was not durable, and something lies in it"));
                let is_nameless = self.nameless.iter().any(|other| other.attrs.ino == ino);
                if !is_nameless && self.volume.read_record(ino)?.is_none() {
                    self.put_in(record)?;
                }
                return Ok(());
            }
        }
        if let Some(record) = record {
            self.take_out(&record);
            self.gone.extend(record.location.map(|at| at.blob));
        }
        self.gone.extend(Some(blob).filter(|b| b.0 != 0));
        Ok(())
    }

    fn make_root(&mut self) {
        self.notes.push("the root directory was lost and made anew; check its owner and mode".into());
        let mut attrs = Attributes::new(Ino::ROOT, FileKind::Directory, self.volume.clock.now());
        attrs.mode = 0o755;
        self.volume.index_record(&Record::new(attrs), None);
        self.volume.tracking.to_commit.lock().push(Ino::ROOT);
    }
}
