//! Recovery: after an unclean end the index is brought to what the blobs say, or made anew from all of them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use super::Volume;
use super::flusher::CHECKPOINT;
use super::record::{Named, RECORD_VERSION, Record};
use super::truth::{self, Keys};
use crate::error::{Kind, Result};
use crate::format::attributes::{Attributes, Link};
use crate::format::journal::Record as JournalRecord;
use crate::ids::{BlobId, FileKind, Ino};
use crate::index::{Index, Table, schema};

/// Key of the record version.
pub(super) const VERSION: &str = "version";
/// Prefix of the keys of blobs that were given up for others.
const REPLACED: &str = "replaced ";
/// Blobs between two calls of the progress function.
const PROGRESS_STEP: u64 = 256;
/// Where what has lost its directory is put.
const LOST_FOUND: &[u8] = b"lost+found";

/// What the journals say.
#[derive(Default)]
pub(super) struct Journals {
    /// Inodes that may differ from their records.
    pub touched: HashSet<Ino>,
    /// Inodes that must not come back.
    pub removed: HashMap<Ino, BlobId>,
    /// Blobs that are nobody's.
    pub dropped: HashSet<BlobId>,
    /// Blobs from here on may be unknown to the index.
    pub first_new_blob: u64,
    /// Whether all are there that the index needs to catch up.
    pub is_complete: bool,
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
    /// Changes of subdirectory counts, by parent; applied at the end.
    subdirs: HashMap<Ino, i64>,
    /// Directories that entries name as their parent and that have not been seen.
    missing: HashSet<Ino>,
    /// Blobs to remove.
    gone: Vec<BlobId>,
    notes: Vec<String>,
    next_blob: u64,
    next_seq: u64,
}

impl Volume {
    fn keys(&self) -> Keys<'_> {
        Keys { key: &self.key, suite: self.suite, volume: self.id }
    }

    /// Brings the index to the truth of what the journals name, and of blobs made since.
    pub(super) fn recover(&self, journals: &Journals) -> Result<Vec<String>> {
        let mut recovery = Recovery::start(self)?;
        recovery.catch_up(journals)?;
        recovery.finish(journals)
    }

    /// Makes the empty index anew from all blobs.
    pub(super) fn rebuild(&self, journals: &Journals, progress: &dyn Fn(u64, u64)) -> Result<Vec<String>> {
        let mut recovery = Recovery::start(self)?;
        recovery.read_all(journals, progress)?;
        self.index.put(Table::Meta, &schema::meta(VERSION), RECORD_VERSION.to_le_bytes().to_vec());
        recovery.finish(journals)
    }
}

/// The key under which the index keeps in mind that a blob was given up for another one, until that is durable.
pub(super) fn replaced_key(blob: BlobId) -> Vec<u8> {
    schema::meta(&format!("{REPLACED}{blob}"))
}

/// The journal generation an index is complete up to, when it is of this build's version.
pub(super) fn generation_of(index: &Index) -> Result<Option<u64>> {
    let number = |key: &str| -> Result<Option<u64>> {
        let bytes = index.get(Table::Meta, &schema::meta(key))?;
        Ok(bytes.and_then(|b| b.try_into().ok()).map(u64::from_le_bytes))
    };
    if number(VERSION)? == Some(RECORD_VERSION) { number(CHECKPOINT) } else { Ok(None) }
}

impl<'a> Recovery<'a> {
    fn start(volume: &'a Volume) -> Result<Recovery<'a>> {
        let (totals, next_blob, next_seq) = volume.read_totals()?.unwrap_or((Default::default(), 2, 17));
        *volume.totals.lock() = totals;
        Ok(Recovery {
            volume,
            subdirs: HashMap::new(),
            missing: HashSet::new(),
            gone: Vec::new(),
            notes: Vec::new(),
            next_blob: next_blob.max(2),
            next_seq: next_seq.max(17),
        })
    }

    /// What a blob says; `None` when it says nothing, or nothing whole.
    fn read(&mut self, id: BlobId, is_new: bool) -> Result<Option<Record>> {
        self.next_blob = self.next_blob.max(id.0 + 1);
        let Some(blob) = self.volume.store.open(id)? else { return Ok(None) };
        match truth::read(self.volume.keys(), &*blob) {
            Ok(Some(truth)) => {
                if truth.torn > 0 {
                    let end = truth.record.location.map_or(0, |at| at.end());
                    blob.cut(end)?;
                    self.notes.push(format!("blob {id}: {} bytes that were never synced were cut off", truth.torn));
                }
                self.saw(&truth.record.attrs);
                Ok(Some(truth.record))
            }
            Ok(None) if is_new => {
                self.notes.push(format!("blob {id}: removed, since nothing of it was ever committed"));
                self.gone.push(id);
                Ok(None)
            }
            Ok(None) => {
                self.notes.push(truth::no_attributes(&*blob).to_string());
                Ok(None)
            }
            Err(e) if e.kind() == Kind::Damaged => {
                self.notes.push(e.to_string());
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    fn saw(&mut self, attrs: &Attributes) {
        let mut most = attrs.seq;
        for link in &attrs.links {
            most = most.max(link.id).max(link.swapped.as_ref().map_or(0, |s| s.id));
        }
        self.next_seq = self.next_seq.max(most + 1);
        self.next_blob = self.next_blob.max(attrs.ino.0 + 1);
    }

    /// The incremental way: only what changed since the index was last complete.
    fn catch_up(&mut self, journals: &Journals) -> Result<()> {
        let mut truths: HashMap<Ino, Record> = HashMap::new();
        let mut fresh = Vec::new();
        self.volume.store.list(BlobId(journals.first_new_blob), &mut |id| {
            fresh.push(id);
            Ok(())
        })?;
        for id in fresh {
            if journals.dropped.contains(&id) {
                self.gone.push(id);
            } else if let Some(record) = self.read(id, true)? {
                self.keep_newest(&mut truths, record);
            }
        }
        for id in self.take_replaced()? {
            if journals.dropped.contains(&id) {
                self.gone.push(id);
            } else if id.0 < journals.first_new_blob
                && let Some(record) = self.read(id, false)?
            {
                self.keep_newest(&mut truths, record);
            }
        }
        let mut candidates: Vec<Ino> = journals.touched.iter().copied().chain(truths.keys().copied()).collect();
        candidates.sort_unstable();
        candidates.dedup();
        for ino in &candidates {
            let Some(old) = self.volume.read_record(*ino)? else { continue };
            if let Some(at) = old.location.filter(|at| at.blob.0 < journals.first_new_blob) {
                match self.read(at.blob, false)? {
                    Some(record) => self.keep_newest(&mut truths, record),
                    None if self.volume.store.open(at.blob)?.is_some() => {
                        // Damaged: what the index says stays, and reading it fails.
                        truths.insert(*ino, old);
                    }
                    None => {}
                }
            }
        }
        for ino in &candidates {
            if let Some(old) = self.volume.read_record(*ino)? {
                self.take_out(&old);
            }
        }
        let mut order: Vec<Record> = truths.into_values().collect();
        order.sort_unstable_by_key(|r| r.attrs.seq);
        for record in order {
            if !journals.removed.contains_key(&record.attrs.ino) {
                self.put_in(record)?;
            } else if let Some(at) = record.location.filter(|_| record.attrs.kind != FileKind::Directory) {
                self.gone.push(at.blob);
            }
        }
        Ok(())
    }

    fn keep_newest(&mut self, truths: &mut HashMap<Ino, Record>, record: Record) {
        let ino = record.attrs.ino;
        let loser = match truths.remove(&ino) {
            Some(other) if other.attrs.seq > record.attrs.seq => {
                truths.insert(ino, other);
                Some(record)
            }
            other => {
                truths.insert(ino, record);
                other
            }
        };
        let kept = truths.get(&ino).and_then(|r| r.location).map(|at| at.blob);
        self.gone.extend(loser.and_then(|r| r.location).map(|at| at.blob).filter(|blob| Some(*blob) != kept));
    }

    /// The blobs that the index gave up for others, which may not have become durable.
    fn take_replaced(&mut self) -> Result<Vec<BlobId>> {
        use std::ops::Bound;
        let from = schema::meta(REPLACED);
        let to = schema::after(&from);
        let to = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.volume.index.scan(Table::Meta, Bound::Included(&from), to, usize::MAX)?;
        for (key, _) in &found {
            self.volume.index.delete(Table::Meta, key);
        }
        let ids = found.into_iter().filter_map(|(_, value)| value.try_into().ok());
        Ok(ids.map(|bytes| BlobId(u64::from_le_bytes(bytes))).collect())
    }

    /// The whole way: every blob, one after the other.
    fn read_all(&mut self, journals: &Journals, progress: &dyn Fn(u64, u64)) -> Result<()> {
        let mut all = Vec::new();
        self.volume.store.list(BlobId(0), &mut |id| {
            all.push(id);
            Ok(())
        })?;
        let total = all.len() as u64;
        for (done, id) in (0u64..).zip(all) {
            if done.is_multiple_of(PROGRESS_STEP) {
                progress(done, total);
                if self.volume.index.wants_write() {
                    self.volume.put_totals();
                    self.volume.index.freeze();
                    self.volume.index.write_frozen()?;
                }
            }
            if journals.dropped.contains(&id) {
                self.gone.push(id);
                continue;
            }
            let is_new = id.0 >= journals.first_new_blob && journals.first_new_blob > 0;
            let Some(record) = self.read(id, is_new)? else { continue };
            let ino = record.attrs.ino;
            if journals.removed.contains_key(&ino) && record.attrs.kind != FileKind::Directory {
                self.gone.push(id);
                continue;
            }
            match self.volume.read_record(ino)? {
                Some(other) if other.attrs.seq >= record.attrs.seq => self.gone.push(id),
                Some(other) => {
                    self.gone.extend(other.location.map(|at| at.blob));
                    self.take_out(&other);
                    self.put_in(record)?;
                }
                None => self.put_in(record)?,
            }
        }
        progress(total, total);
        Ok(())
    }

    /// Takes an inode and its names out of the tables.
    fn take_out(&mut self, old: &Record) {
        for link in &old.attrs.links {
            self.volume.delete_name(link, old.attrs.ino);
            self.count_subdir(old.attrs.kind, link.parent, -1);
        }
        if old.attrs.kind == FileKind::Directory {
            // It may be put in again, and what lies in it is still there then.
            *self.subdirs.entry(old.attrs.ino).or_default() += i64::from(old.subdirs);
        }
        self.volume.unindex_record(old);
    }

    fn count_subdir(&mut self, kind: FileKind, parent: Ino, by: i64) {
        if kind == FileKind::Directory {
            *self.subdirs.entry(parent).or_default() += by;
        }
    }

    /// Puts an inode into the tables. Of two that claim a name, the one that got it later has it.
    fn put_in(&mut self, mut record: Record) -> Result<()> {
        let ino = record.attrs.ino;
        record.subdirs = 0;
        let mut links = Vec::with_capacity(record.attrs.links.len());
        for link in std::mem::take(&mut record.attrs.links) {
            match self.volume.read_name(link.parent, &link.name)? {
                Some(other) if other.ino != ino && other.link > link.id => {
                    links.extend(self.moved_by(&other, &link, ino)?);
                }
                Some(other) if other.ino != ino => {
                    self.take_name(&other, &link)?;
                    links.push(link);
                }
                _ => links.push(link),
            }
        }
        record.attrs.links = links;
        if record.attrs.links.is_empty() && ino != Ino::ROOT {
            self.gone.extend(record.location.map(|at| at.blob));
            return Ok(());
        }
        self.missing.remove(&ino);
        for link in &record.attrs.links {
            self.volume.put_name(link, ino, record.attrs.kind);
            self.count_subdir(record.attrs.kind, link.parent, 1);
            if self.volume.read_record(link.parent)?.is_none() && link.parent != ino {
                self.missing.insert(link.parent);
            }
        }
        record.age = self.volume.age_of(&record);
        self.volume.index_record(&record, None);
        Ok(())
    }

    /// Where an inode went whose name another one has got by an exchange.
    fn moved_by(&self, winner: &Named, lost: &Link, loser: Ino) -> Result<Option<Link>> {
        let Some(record) = self.volume.read_record(winner.ino)? else { return Ok(None) };
        let link = record.attrs.links.iter().find(|l| l.parent == lost.parent && l.name == lost.name);
        let swap = link.and_then(|l| l.swapped.as_ref()).filter(|s| s.ino == loser && s.id > lost.id);
        Ok(swap.map(|s| Link { parent: s.parent, id: s.id, name: s.name.clone(), swapped: None }))
    }

    /// Takes a name from the inode that has it in the tables, for an inode that got it later.
    fn take_name(&mut self, other: &Named, by: &Link) -> Result<()> {
        let Some(mut loser) = self.volume.read_record(other.ino)? else { return Ok(()) };
        let Some(at) = loser.attrs.links.iter().position(|l| l.parent == by.parent && l.name == by.name) else {
            return Ok(());
        };
        self.take_out(&loser);
        loser.attrs.links.remove(at);
        if let Some(swap) = by.swapped.as_ref().filter(|s| s.ino == other.ino) {
            let link = Link { parent: swap.parent, id: swap.id, name: swap.name.clone(), swapped: None };
            loser.attrs.links.push(link);
        }
        self.put_in(loser)
    }

    /// Settles what needs the whole picture, and removes what is nobody's.
    fn finish(mut self, journals: &Journals) -> Result<Vec<String>> {
        let volume = self.volume;
        for (ino, blob) in &journals.removed {
            self.remove(*ino, *blob)?;
        }
        if volume.read_record(Ino::ROOT)?.is_none() {
            self.make_root();
        }
        let missing: Vec<Ino> = self.missing.drain().filter(|ino| *ino != Ino::ROOT).collect();
        for ino in missing {
            if volume.read_record(ino)?.is_none() {
                self.make_lost(ino)?;
            }
        }
        for (ino, by) in std::mem::take(&mut self.subdirs) {
            if by != 0
                && let Some(old) = volume.read_record(ino)?
            {
                let mut new = old.clone();
                new.subdirs = u32::try_from((i64::from(old.subdirs) + by).max(0)).unwrap_or(u32::MAX);
                volume.index_record(&new, Some(&old));
            }
        }
        volume.tracking.next_blob.store(self.next_blob, Ordering::Release);
        volume.tracking.next_seq.store(self.next_seq, Ordering::Release);
        volume.store.sync_all()?;
        self.gone.sort_unstable();
        self.gone.dedup();
        for blob in &self.gone {
            volume.store.remove(*blob)?;
        }
        Ok(self.notes)
    }

    /// Removes an inode the journal says is removed; a directory only if nothing lies in it.
    fn remove(&mut self, ino: Ino, blob: BlobId) -> Result<()> {
        let record = self.volume.read_record(ino)?;
        let is_dir = record.as_ref().is_some_and(|r| r.attrs.kind == FileKind::Directory);
        if !self.volume.is_empty_dir(ino)? {
            let back = match &record {
                Some(record) => Some(record.clone()),
                None => self.read(blob, false)?,
            };
            if let Some(record) = back.filter(|r| r.attrs.kind == FileKind::Directory) {
                self.notes
                    .push(format!("directory {ino} is kept: its removal was not durable, and something lies in it"));
                if self.volume.read_record(ino)?.is_none() {
                    self.put_in(record)?;
                }
                return Ok(());
            }
        }
        if let Some(record) = record {
            self.take_out(&record);
            self.gone.extend(record.location.map(|at| at.blob));
        }
        debug_assert!(!is_dir || self.volume.read_record(ino)?.is_none());
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

    /// Makes a directory that was lost, under `lost+found`, so that what lies in it can be reached.
    fn make_lost(&mut self, ino: Ino) -> Result<()> {
        let top = match self.volume.read_name(Ino::ROOT, LOST_FOUND)? {
            Some(named) if named.kind == FileKind::Directory => named.ino,
            _ => {
                let top = Ino(self.next_blob);
                self.next_blob += 1;
                self.make_dir(top, Ino::ROOT, LOST_FOUND.to_vec())?;
                top
            }
        };
        self.notes.push(format!("directory {ino} was lost; what lies in it is under lost+found/{ino}"));
        self.make_dir(ino, top, ino.to_string().into_bytes())
    }

    fn make_dir(&mut self, ino: Ino, parent: Ino, name: Vec<u8>) -> Result<()> {
        let mut attrs = Attributes::new(ino, FileKind::Directory, self.volume.clock.now());
        attrs.mode = 0o700;
        attrs.links.push(Link { parent, id: self.next_seq, name, swapped: None });
        self.next_seq += 1;
        self.put_in(Record::new(attrs))?;
        self.volume.tracking.to_commit.lock().push(ino);
        Ok(())
    }
}
