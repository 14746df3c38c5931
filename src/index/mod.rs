//! The index: a disposable, searchable copy of what the blobs say.
//!
//! An ordered map of small records in a few tables. Changes go into an overlay in memory, which costs no I/O; the
//! caller's own thread moves them down in batches: [`Index::freeze`], [`Index::write_frozen`], [`Index::flush`]. Reads see
//! all layers as one.
//!
//! Below lies one sled tree whose values are *pages*: some 1 KiB of neighbouring records, sealed together. One page
//! instead of one value per record makes sled some twenty times smaller in nodes, which is what its memory, its log and
//! its recovery are made of.
//!
//! Promised: a written batch is atomic across a crash; after [`Index::flush`] everything written is durable; memory is
//! bounded; whatever is wrong with the directory, [`Index::open`] returns a value that says so. Not promised: that what was
//! written is still there. The caller must be able to make everything anew.

mod base;
mod check;
mod disk;
mod files;
mod head;
mod layers;
mod leaves;
mod merge;
mod open;
mod page;
mod pages;
mod scan;
pub mod schema;

pub use files::session;
#[doc(hidden)]
pub use page::decode_page;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::sync::{Mutex, RwLock};
use base::{Memory, Settled, full_key};
use check::Checking;
use head::Head;
use layers::Layers;
use pages::Pages;
use scan::Span;

/// Seals what the index puts on disk. Implemented where the keys are; the index knows none.
pub trait Sealer: Send + Sync {
    /// Encrypts and authenticates `plain`, bound to `key`.
    fn seal(&self, key: &[u8], plain: &[u8]) -> Vec<u8>;

    /// Opens what [`Sealer::seal`] returned for the same `key`; `None` when it is anything else.
    fn open(&self, key: &[u8], sealed: &[u8]) -> Option<Vec<u8>>;
}

/// A table. [`schema`] says what its keys look like. The numbers are on disk and never change; below 127.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Table {
    /// The volume's own facts.
    Meta = 0,
    /// Attributes of inodes.
    Inodes = 1,
    /// Directory entries in the order they were made.
    Entries = 2,
    /// Directory entries by name.
    Names = 3,
    /// Media by id.
    Ids = 4,
    /// Media by class and age.
    Ages = 5,
    /// Media by MIME type.
    Types = 6,
}

/// How an index is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of sled nodes to keep in memory.
    pub cache_bytes: u64,
    /// Changes in memory from which on [`Index::wants_write`] says so.
    pub pending_limit: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { cache_bytes: 16 * 1024 * 1024, pending_limit: 16 * 1024 }
    }
}

/// What opening a directory gave.
#[allow(clippy::large_enum_variant, reason = "large only where its locks are watched, and one is made for each open")]
pub enum Opened {
    /// An index that holds a consistent state.
    Ready(Index),
    /// No index; [`discard`] the directory and rebuild, or, when the disk is full, work with [`Index::in_memory`].
    Unusable {
        /// Why, in a sentence.
        reason: String,
        /// Whether the cause is a full disk, so that discarding would not help and may not be needed.
        full_disk: bool,
    },
    /// Another process has it open.
    Locked,
}

/// What an index takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Bytes on disk, room for reuse included.
    pub disk_bytes: u64,
    /// Bytes of the sealed pages and their names.
    pub live_bytes: u64,
    /// Pages.
    pub pages: u64,
    /// Changes in memory.
    pub pending: usize,
}

/// An open index. All calls take `&self`; [`Index::put`] and [`Index::delete`] never wait for a disk.
pub struct Index {
    /// Held while a batch is written, over freezing too. Lock order: `head`, `gate`, `layers`.
    head: Mutex<Head>,
    /// Held for writing while a batch goes into the base, for reading over a scan, so that no scan sees half of one.
    gate: RwLock<()>,
    layers: Layers,
    pages: Pages,
    options: Options,
    is_new: bool,
    /// Locked after `head`.
    checking: Mutex<Option<Box<Checking>>>,
}

/// Removes everything that an index left in `dir`, which no index may have open, and what lies in its place if that is
/// no directory.
///
/// # Errors
/// `Io` when it cannot be removed. A missing one is none.
pub fn discard(dir: &Path) -> Result<()> {
    let removed = match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => fs::remove_file(dir),
        result => result,
    };
    removed.map_err(|e| Error::io(dir.display(), e))
}

/// Pages up to which all are checked before the index is closed; more are checked after the next open.
const CHECKED_AT_CLOSE: u64 = 32 * 1024;

impl Index {
    fn new(pages: Pages, head: Head, options: Options, is_new: bool) -> Index {
        Index {
            head: Mutex::new(head),
            gate: RwLock::new(()),
            layers: Layers::default(),
            pages,
            options,
            is_new,
            checking: Mutex::default(),
        }
    }

    /// Opens the index in `dir`, or makes an empty one when there is none. Blocks for the time of a recovery.
    ///
    /// After an unclean end every page is read and checked: before the index is given out, or, when neither the machine
    /// nor the mount of the file system has ended since, by the caller with [`Index::check_some`].
    #[must_use]
    pub fn open(dir: &Path, options: Options, sealer: Arc<dyn Sealer>) -> Opened {
        open::open(dir, options, sealer)
    }

    /// An empty index that never touches a disk, for tests and for the emergency of a full disk.
    #[must_use]
    pub fn in_memory(sealer: Arc<dyn Sealer>) -> Index {
        let pages = Pages::new(Box::<Memory>::default(), sealer);
        Index::new(pages, Head::default(), Options::default(), true)
    }

    /// Whether the index was made by this open and is therefore empty.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// `Damaged` when the page it lies in is; `Io` when an earlier write failed.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let key = full_key(table, key);
        if let Some(change) = self.layers.get(&key) {
            return Ok(change);
        }
        let Some(leaf) = self.pages.holding(&key)? else { return Ok(None) };
        let key = key.get(1..).unwrap_or_default();
        let mut reader = leaf.reader()?;
        while let Some(value) = reader.next()? {
            if reader.key() >= key {
                return Ok((reader.key() == key).then(|| value.to_vec()));
            }
        }
        Ok(None)
    }

    /// Sets `key` to `value`, in memory.
    pub fn put(&self, table: Table, key: &[u8], value: Vec<u8>) {
        self.layers.insert(full_key(table, key), Some(value));
    }

    /// Removes `key`, in memory.
    pub fn delete(&self, table: Table, key: &[u8]) {
        self.layers.insert(full_key(table, key), None);
    }

    /// Up to `limit` records between the bounds, ascending.
    ///
    /// A record that changes while the scan runs may be seen before or after its change.
    ///
    /// # Errors
    /// As for [`Index::get`].
    pub fn scan(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.range(table, from, to, limit, false, true)
    }

    /// Up to `limit` records between the bounds, descending from the upper one. Else as [`Index::scan`].
    ///
    /// # Errors
    /// As for [`Index::get`].
    pub fn scan_rev(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.range(table, from, to, limit, true, true)
    }

    /// The keys of up to `limit` records between the bounds, ascending. Else as [`Index::scan`].
    ///
    /// # Errors
    /// As for [`Index::get`].
    pub fn scan_keys(&self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Vec<u8>>> {
        let records = self.range(table, from, to, limit, false, false)?;
        Ok(records.into_iter().map(|(key, _)| key).collect())
    }

    /// The last record between the bounds.
    ///
    /// # Errors
    /// As for [`Index::get`].
    pub fn last(&self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        Ok(self.range(table, from, to, 1, true, true)?.pop())
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
        down: bool,
        values: bool,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let front = table as u8 * 2;
        let (from, to) = (from.map(|key| full_key(table, key)), to.map(|key| full_key(table, key)));
        let span =
            Span { front, from: from.as_ref().map(Vec::as_slice), to: to.as_ref().map(Vec::as_slice), down, values };
        let _gate = self.gate.read();
        scan::scan(&self.layers, &self.pages, &span, limit)
    }

    /// How many changes wait in memory, those being written included.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.layers.len()
    }

    /// Whether so many changes wait that a batch should be written now, to bound memory and the batch.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.pending() >= self.options.pending_limit
    }

    /// Sets everything changed so far aside as the batch to write next; returns false when there is nothing to write.
    ///
    /// Waits while a batch is being written. When the last one could not be written, the changes join it.
    pub fn freeze(&self) -> bool {
        let _head = self.head.lock();
        self.layers.freeze()
    }

    /// Writes the frozen batch below, as a whole or not at all; does nothing when there is none. Not durable before
    /// [`Index::flush`], but atomic across a crash in any case.
    ///
    /// # Errors
    /// `NoSpace` when the disk has no room for it: nothing was touched, reads go on, it can be tried again. Any other
    /// error: the batch is still in memory, and the index can only be discarded.
    pub fn write_frozen(&self) -> Result<()> {
        let mut head = self.head.lock();
        let Some(batch) = self.layers.frozen() else { return Ok(()) };
        let (changes, after) = merge::merge(&self.pages, *head, &batch)?;
        let sum = self.sum_after(&changes)?;
        let _gate = self.gate.write();
        let applied = self.pages.base.apply(changes);
        self.pages.leaves.clear();
        applied?;
        self.check_from(sum);
        self.layers.drop_frozen();
        *head = after;
        Ok(())
    }

    /// Makes every batch written so far durable. Blocks for a flush of the device.
    ///
    /// # Errors
    /// `Io`, also on a full disk; the index can then only be discarded.
    pub fn flush(&self) -> Result<()> {
        let batches = self.head.lock().batches;
        self.pages.base.flush(batches)
    }

    /// Writes what waits, makes it durable, checks the pages unless they are very many, and lets go of the files. All later
    /// calls but those in memory fail. Without it the next open takes the time of the check, and of reading the log.
    ///
    /// # Errors
    /// As for [`Index::write_frozen`] and [`Index::flush`]; `Damaged` when the pages are not what was written.
    pub fn close(&self) -> Result<()> {
        if self.freeze() {
            self.write_frozen()?;
        }
        self.flush()?;
        let head = self.head.lock();
        let is_checked = self.checking.lock().is_none();
        let mark = match self.pages.base.settle()? {
            Settled::NoRoom => return self.pages.base.close(None),
            Settled::Unchanged if is_checked => head.fingerprint(),
            Settled::Reopened if head.pages <= CHECKED_AT_CLOSE => {
                if !self.pages.sum_up()?.same_pages(&head) {
                    self.pages.base.close(None)?;
                    return Err(check::lost());
                }
                head.fingerprint()
            }
            Settled::Unchanged | Settled::Reopened => files::UNCHECKED.to_owned() + &head.fingerprint(),
        };
        self.pages.base.close(Some(&mark))
    }

    /// Has the next open look at all pages before it gives the index out. For when what was read of it was not right.
    pub fn distrust(&self) {
        self.pages.base.distrust();
    }

    /// What the index takes. Walks its few files.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let head = *self.head.lock();
        Stats {
            disk_bytes: self.pages.base.disk_bytes(),
            live_bytes: head.bytes,
            pages: head.pages,
            pending: self.pending(),
        }
    }
}
