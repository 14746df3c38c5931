//! Journal files: `journal.<generation>`, appended to record by record.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::latch::Latch;
use crate::error::{Error, Result};

/// The longest journal that is read back, in bytes; a longer one means that the index is made anew.
pub const MAX_JOURNAL_LEN: u64 = 256 << 20;

/// Bytes of the disk that a journal takes at its start.
const ROOM: u64 = 64 << 10;

/// A journal that is being written.
pub struct JournalFile {
    file: File,
    path: PathBuf,
    latch: Arc<Latch>,
    len: Mutex<u64>,
    synced: AtomicU64,
}

impl JournalFile {
    fn path(store: &Path, generation: u64) -> PathBuf {
        store.join(format!("journal.{generation:016x}"))
    }

    /// Starts the journal of `generation` with `header`, in place of one that was left there.
    ///
    /// # Errors
    /// `Io`, `NoSpace`.
    pub fn create(store: &Path, generation: u64, header: &[u8], latch: Arc<Latch>) -> Result<JournalFile> {
        let path = JournalFile::path(store, generation);
        let named = |e| Error::io(path.display(), e);
        let mut file =
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(named)?;
        // Room for the first records, so that removals can be told on a disk that is full. One without is as good
        // while there is room.
        let _best_effort = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, ROOM);
        file.write_all(header).map_err(named)?;
        file.sync_all().map_err(named)?;
        File::open(store).and_then(|dir| dir.sync_all()).map_err(named)?;
        let len = header.len() as u64;
        Ok(JournalFile { file, path, latch, len: Mutex::new(len), synced: AtomicU64::new(len) })
    }

    /// Goes on with the journal of `generation` from `len` on: what lies behind was never whole.
    ///
    /// # Errors
    /// `Io`.
    pub fn resume(store: &Path, generation: u64, len: u64, latch: Arc<Latch>) -> Result<JournalFile> {
        let path = JournalFile::path(store, generation);
        let file = File::options().write(true).open(&path).map_err(|e| Error::io(path.display(), e))?;
        Ok(JournalFile { file, path, latch, len: Mutex::new(len), synced: AtomicU64::new(0) })
    }

    /// The generations that have a journal, in ascending order.
    ///
    /// # Errors
    /// `Io`.
    pub fn generations(store: &Path) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(store).map_err(|e| Error::io(store.display(), e))? {
            let name = entry.map_err(|e| Error::io(store.display(), e))?.file_name();
            let number = name.to_str().and_then(|n| n.strip_prefix("journal.")).map(|n| u64::from_str_radix(n, 16));
            found.extend(number.and_then(std::result::Result::ok));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Reads the journal of `generation`; `None` when it is longer than any journal gets.
    ///
    /// # Errors
    /// `Io`.
    pub fn read(store: &Path, generation: u64) -> Result<Option<Vec<u8>>> {
        let path = JournalFile::path(store, generation);
        let named = |e| Error::io(path.display(), e);
        let file = File::open(&path).map_err(named)?;
        let len = file.metadata().map_err(named)?.len();
        if len > MAX_JOURNAL_LEN {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        file.read_exact_at(&mut bytes, 0).map_err(named)?;
        Ok(Some(bytes))
    }

    /// Removes the journal of `generation` if it is there.
    ///
    /// # Errors
    /// `Io`.
    pub fn remove(store: &Path, generation: u64) -> Result<()> {
        let path = JournalFile::path(store, generation);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path.display(), e)),
            _ => Ok(()),
        }
    }

    /// Appends the record that `make` gives for its position (counted in bytes from the start of the file).
    /// It outlives this process at once, and a power loss after [`JournalFile::sync`].
    ///
    /// # Errors
    /// `NoSpace`, `Poisoned`; `Io`, which poisons.
    pub fn append(&self, make: impl FnOnce(u64) -> Vec<u8>) -> Result<()> {
        self.latch.pass()?;
        let mut len = self.len.lock();
        let record = make(*len);
        let done = self.file.write_all_at(&record, *len).map_err(|e| Error::io(self.path.display(), e));
        self.latch.watch(done)?;
        *len += record.len() as u64;
        Ok(())
    }

    /// Makes all records appended so far durable; costs nothing when they are.
    ///
    /// # Errors
    /// `Poisoned`; `Io`, which poisons.
    pub fn sync(&self) -> Result<()> {
        let len = *self.len.lock();
        if self.synced.load(Ordering::Acquire) >= len {
            return Ok(());
        }
        self.latch.pass()?;
        let done = rustix::fs::fdatasync(&self.file).map_err(|e| Error::io(self.path.display(), e.into()));
        self.latch.watch(done)?;
        self.synced.fetch_max(len, Ordering::AcqRel);
        Ok(())
    }
}
