//! The base on disk: one sled tree. The only file that calls sled.
//!
//! What sled 0.34 does not do by itself, and is done here:
//! - Its flush writes the pages of its file (`sync_file_range`) but neither the file's metadata nor the device's cache;
//!   [`Base::flush`] adds `fdatasync`.
//! - It may panic on bytes it does not expect; every call is fenced in.
//! - A failed batch stays half done in its memory; after any failed write the base answers nothing more. So that a full
//!   disk is not such a failure, free space is asked for before sled is.
//! - Its cache counts a node only when a queue of 64 accesses fills up, one of 256 such queues; see [`KNOCKS`].
//! - A flush waits for ever when another of its threads has failed to write at the wrong moment, since it is not told; see
//!   [`nudged`].
//! - It takes a snapshot of its page table only when it opens, and reads the log behind the last one, where it skips
//!   what is damaged; settling therefore opens once more, and what was found is checked.

use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::base::{Base, Changes, Settled};
use super::files;
use crate::error::{Error, Kind, Result};
use crate::own_file;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::channel::{RecvTimeoutError, bounded};
use crate::sync::thread::{self, sleep};
use crate::sync::{Mutex, RwLock};

/// How long a flush may take before it is nudged; each time twice as long.
const FIRST_NUDGE: Duration = Duration::from_secs(2);
/// The size of sled's log segments. A node above a quarter of it is written to a file of its own.
pub(super) const SEGMENT_BYTES: usize = 512 * 1024;

/// How often a page that was read is asked for once more, so that sled's cache counts it soon enough.
///
/// With n knocks up to 256 * 64 / (n + 1) nodes of some 4 to 16 KiB are in memory beyond the cache's size.
const KNOCKS: usize = 3;

/// In a walk over all pages, one of so many is knocked at; a node of sled holds 9 to 16 pages.
const KNOCK_EVERY: usize = 8;

/// After a batch, one in so many of the pages it touched is knocked at several times: the batch has read nodes by the
/// thousand that the cache has not counted yet.
const SWEEP_EVERY: usize = 4;
const SWEEPS: usize = 5;
/// Bytes of the log that the kernel is asked to read at once when it is opened. sled reads it in small pieces in no order,
/// which a disk takes many times as long for.
const READ_AHEAD: u64 = 64 << 20;
/// What a batch may take in the log for each of its bytes, at worst: the nodes it touches, and as many that make room.
const LOG_FACTOR: u64 = 24;

/// Free space without which nothing is written at all: segments that sled opens at once.
const FLOOR_BYTES: u64 = 4 * SEGMENT_BYTES as u64;

/// How many times, 10 ms apart, a file lock is tried that sled's threads let go of a little after it was closed.
const LOCK_TRIES: u32 = 100;

/// The same for a tree that was closed here just now, which nobody else can have: a nudge has it for as long as the disk keeps
/// it waiting.
const LOCK_TRIES_AGAIN: u32 = 3000;

/// One open sled tree.
pub(super) struct Disk {
    dir: PathBuf,
    cache_bytes: u64,
    data: File,
    db: RwLock<Option<sled::Db>>,
    /// Why nothing works any more.
    fault: Mutex<Option<(Kind, String)>>,
    /// Whether anything was written since it was opened.
    written: AtomicBool,
}

/// sled's error as ours.
fn convert(what: &str, error: sled::Error) -> Error {
    let kind = match &error {
        sled::Error::Io(e) if e.kind() == io::ErrorKind::StorageFull => Kind::NoSpace,
        sled::Error::Io(e) if e.to_string().contains("could not acquire lock") => Kind::Locked,
        sled::Error::Io(_) => Kind::Io,
        sled::Error::Unsupported(_) => Kind::Version,
        sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) | sled::Error::CollectionNotFound(_) => {
            Kind::Damaged
        }
    };
    Error::new(kind, format!("{what}: {error}")).with_source(error)
}

/// Calls sled; a panic becomes an error.
fn fence<T>(what: &str, call: impl FnOnce() -> sled::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|e| convert(what, e)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(Error::new(Kind::Damaged, format!("{what}: sled gave up: {text}")))
        }
    }
}

/// Flushes. sled's threads keep a failed write in a place where whoever waits for it does not look before the next
/// change, but each flush that begins looks there and wakes all others: so one more begins while this one takes long.
fn nudged(db: &sled::Db) -> sled::Result<usize> {
    let (done, is_done) = bounded::<()>(0);
    let db_of_nudges = db.clone();
    // Without a thread it is flushed all the same.
    let nudger = thread::Builder::new().name("index-nudge".to_owned()).spawn(move || {
        let mut patience = FIRST_NUDGE;
        while is_done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            let db = db_of_nudges.clone();
            let nudge = move || drop(fence("flush the index", || db.flush()));
            let _next_time = thread::Builder::new().name("index-nudge".to_owned()).spawn(nudge);
            patience *= 2;
        }
    });
    let flushed = db.flush();
    drop(done);
    if let Ok(nudger) = nudger {
        // As long as it has the tree, the tree is not closed.
        let _panicked = nudger.join();
    }
    flushed
}

/// Starts sled in `dir`; tries `tries` times to lock it.
fn start(dir: &Path, cache_bytes: u64, tries: u32) -> Result<sled::Db> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(cache_bytes.max(4096))
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None);
    for _ in 1..tries {
        match fence("open the index", || config.open()) {
            Err(e) if e.kind() == Kind::Locked => sleep(Duration::from_millis(10)),
            result => return result,
        }
    }
    fence("open the index", || config.open())
}

/// See [`KNOCKS`].
fn knock(db: &sled::Db, name: &[u8]) -> sled::Result<()> {
    for _ in 0..KNOCKS {
        db.get(name)?;
    }
    Ok(())
}

/// Closes `db`; sled may give up while it does.
fn shut(db: sled::Db) -> Result<()> {
    fence("close the index", || {
        drop(db);
        Ok(())
    })
}

/// The free space that opening the files in `dir` may need: a snapshot of the page table, new segments.
pub(super) fn space_to_open(dir: &Path) -> u64 {
    let log = fs::metadata(dir.join("db")).map_or(0, |meta| meta.len());
    FLOOR_BYTES + log / 256
}

impl Disk {
    /// Opens or makes the tree in `dir`; sled recovers from its log what was there.
    ///
    /// # Errors
    /// `NoSpace` on a full disk, `Locked` when another process has it open, `Version`, `Damaged`, `Io`.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Disk> {
        let path = dir.join("db");
        files::read_ahead(&path, READ_AHEAD);
        let db = start(dir, cache_bytes, LOCK_TRIES)?;
        let data = own_file::open(&path, File::options().read(true)).map_err(|e| Error::io(path.display(), e))?;
        Ok(Disk {
            dir: dir.to_owned(),
            cache_bytes,
            data,
            db: RwLock::new(Some(db)),
            fault: Mutex::new(None),
            written: AtomicBool::new(false),
        })
    }

    /// Calls sled to write, unless that failed before.
    fn change<T>(&self, what: &str, call: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T> {
        if let Some((kind, message)) = &*self.fault.lock() {
            return Err(Error::new(*kind, message.as_str()));
        }
        self.call(what, call)
    }

    /// Calls sled. Reads go on after a failed write: what sled has in memory is right, and pages are authenticated.
    fn call<T>(&self, what: &str, call: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T> {
        let db = self.db.read();
        let db = db.as_ref().ok_or_else(|| Error::new(Kind::BadHandle, "the index is closed"))?;
        fence(what, || call(db))
    }

    /// Writes a batch without asking for room. Errors leave the base unusable.
    pub(super) fn write(&self, changes: Changes) -> Result<()> {
        self.written.store(true, Ordering::Relaxed);
        let touched: Vec<Vec<u8>> = changes.keys().step_by(SWEEP_EVERY).cloned().collect();
        let mut batch = sled::Batch::default();
        for (name, page) in changes {
            match page {
                Some(page) => batch.insert(name, page),
                None => batch.remove(name),
            }
        }
        self.change("write the index", |db| db.apply_batch(batch)).map_err(|e| self.fail(e))?;
        self.call("read the index", |db| {
            touched.iter().try_for_each(|name| (0..SWEEPS).try_for_each(|_| knock(db, name)))
        })
        .map_err(|e| self.fail(e))
    }

    /// Lets nothing be written any more after a failed write. A disk that sled found full is no exception: what it left half
    /// done cannot be tried again.
    fn fail(&self, error: Error) -> Error {
        let error = match error.kind() {
            Kind::NoSpace => Error::new(Kind::Io, error.to_string()).with_source(error),
            _ => error,
        };
        let mut fault = self.fault.lock();
        fault.get_or_insert_with(|| (error.kind(), format!("the index failed earlier: {error}")));
        error
    }
}

impl Base for Disk {
    fn first(&self, from: Bound<&[u8]>) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        self.call("read the index", |db| {
            let Some((name, page)) = db.range::<&[u8], _>((from, Bound::Unbounded)).next().transpose()? else {
                return Ok(None);
            };
            knock(db, &name)?;
            Ok(Some((name.to_vec(), page.to_vec())))
        })
    }

    fn page(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        self.call("read the index", |db| {
            knock(db, name)?;
            Ok(db.get(name)?.map(|page| page.to_vec()))
        })
    }

    fn each(&self, from: Bound<&[u8]>, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        self.call("read the index", |db| {
            for (count, found) in db.range::<&[u8], _>((from, Bound::Unbounded)).take(limit).enumerate() {
                let (name, page) = found?;
                visit(&name, &page);
                if count % KNOCK_EVERY == 0 {
                    knock(db, &name)?;
                }
            }
            Ok(())
        })
    }

    fn apply(&self, changes: Changes) -> Result<()> {
        let bytes: u64 = changes.values().flatten().map(|page| page.len() as u64 + 32).sum();
        let (free, needed) = (files::free_bytes(&self.dir)?, FLOOR_BYTES + bytes * LOG_FACTOR);
        if free < needed {
            let message = format!("the index needs {needed} bytes of free space to write, {free} are there");
            return Err(Error::new(Kind::NoSpace, message));
        }
        self.write(changes)
    }

    fn flush(&self, batches: u64) -> Result<()> {
        let flushed = self.change("flush the index", |db| nudged(db).map(drop));
        let synced = flushed.and_then(|()| {
            self.data.sync_data().map_err(|e| Error::io("sync the index", e))?;
            files::sync_all_in(&self.dir.join("blobs"))?;
            self.dir.parent().map_or(Ok(()), |dir| files::write_flushed(dir, batches))
        });
        synced.map_err(|e| self.fail(e))
    }

    fn disk_bytes(&self) -> u64 {
        files::tree_bytes(&self.dir)
    }

    fn settle(&self) -> Result<Settled> {
        if !self.written.load(Ordering::Relaxed) {
            return Ok(Settled::Unchanged);
        }
        if files::free_bytes(&self.dir)? < space_to_open(&self.dir) {
            return Ok(Settled::NoRoom);
        }
        let mut db = self.db.write();
        let again = || start(&self.dir, self.cache_bytes, LOCK_TRIES_AGAIN);
        let again = db.take().map_or(Ok(()), shut).and_then(|()| again());
        *db = Some(again.map_err(|e| self.fail(e))?);
        Ok(Settled::Reopened)
    }

    fn distrust(&self) {
        if let Some(dir) = self.dir.parent()
            && let Err(e) = files::write_session(dir, None)
        {
            tracing::warn!("the next mount may trust the index although it should not: {e}");
        }
    }

    fn close(&self, mark: Option<&str>) -> Result<()> {
        let Some(db) = self.db.write().take() else { return Ok(()) };
        shut(db).map_err(|e| self.fail(e))?;
        self.data.sync_data().map_err(|e| Error::io("sync the index", e))?;
        let (Some(mark), Some(parent)) = (mark, self.dir.parent()) else { return Ok(()) };
        files::sync_dir(&self.dir)?;
        files::write_mark(parent, mark)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(db) = self.db.get_mut().take() {
            // Nobody is left to tell, and the next open checks everything.
            let _ = shut(db);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_settled_when_a_thread_keeps_its_tree_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(&dir.path().join("tree"), 1 << 20).unwrap();
        disk.write(Changes::from([(b"a".to_vec(), Some(b"b".to_vec()))])).unwrap();
        let kept = disk.db.read().clone();
        let keeper = std::thread::spawn(move || {
            sleep(Duration::from_secs(3));
            drop(kept);
        });
        assert!(matches!(disk.settle(), Ok(Settled::Reopened)));
        assert_eq!(disk.page(b"a").unwrap().unwrap(), b"b");
        keeper.join().unwrap();
    }
}
