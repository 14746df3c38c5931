//! Journal files, `journal.<generation>`, `state.<generation>` and `audit.<generation>`, appended to record by record.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::latch::Latch;
use crate::error::{Error, Result};
use crate::own_file;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// What a journal is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// Which inodes changed since the index was last complete: `journal.`
    Changes,
    /// Small facts that are kept beside the media: `state.`
    State,
    /// What was removed, and by whom: `audit.`
    Audit,
}

impl Series {
    /// What the names of its files begin with.
    fn prefix(self) -> &'static str {
        match self {
            Series::Changes => "journal.",
            Series::State => "state.",
            Series::Audit => "audit.",
        }
    }

    /// The generation that a file's name tells; none for a name that no journal of ours has, such as that of a copy.
    pub(super) fn generation_of(self, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(self.prefix())?;
        let generation = u64::from_str_radix(digits, 16).ok()?;
        (digits == format!("{generation:016x}")).then_some(generation)
    }

    fn path(self, store: &Path, generation: u64) -> PathBuf {
        store.join(format!("{}{generation:016x}", self.prefix()))
    }
}
/// The longest journal that is read back, in bytes; a longer one means that the index is made anew.
pub const MAX_JOURNAL_LEN: u64 = 256 << 20;

/// Bytes of the disk that a journal takes at a time, ahead of what is written: room for some 26,000 removals, each of
/// which gives more back.
const ROOM: u64 = 1 << 20;
/// What is enough to begin with on a disk that has no more.
const LEAST_ROOM: u64 = 64 << 10;
/// Bytes written after which a disk that had no room is asked again: being asked costs a full disk much.
const ASK_AGAIN: u64 = 16 << 10;

/// A journal that is being written.
pub struct JournalFile {
    file: File,
    path: PathBuf,
    latch: Arc<Latch>,
    tail: Mutex<Tail>,
    synced: AtomicU64,
}

/// The end of a journal.
struct Tail {
    /// Bytes written.
    len: u64,
    /// From where on the disk is asked for more room.
    ask_at: u64,
    /// Up to where the disk has promised room.
    promised: u64,
}

/// Takes room of the disk up to `end`.
fn take_room(file: &File, end: u64) -> rustix::io::Result<()> {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, end)
}

impl JournalFile {
    /// Starts the journal of `generation` with `header`, in place of one that was left there.
    ///
    /// # Errors
    /// `Io`, `NoSpace`.
    pub fn create(
        series: Series,
        store: &Path,
        generation: u64,
        header: &[u8],
        latch: Arc<Latch>,
    ) -> Result<JournalFile> {
        let path = series.path(store, generation);
        let named = |e| Error::io(path.display(), e);
        let begin = || {
            let mut file = own_file::open(&path, File::options().read(true).write(true).create(true).truncate(true))?;
            // So that removals can be told on a disk that is full.
            let room = [ROOM, LEAST_ROOM].into_iter().find(|room| take_room(&file, *room).is_ok()).unwrap_or(0);
            file.write_all(header)?;
            file.sync_all()?;
            File::open(store)?.sync_all()?;
            Ok((file, room))
        };
        let (file, promised) = begin().map_err(|e| {
            // One without a header says nothing, and the next open removes it where this fails.
            let _stays = std::fs::remove_file(&path);
            named(e)
        })?;
        let len = header.len() as u64;
        let tail = Mutex::new(Tail { len, ask_at: promised / 2, promised });
        Ok(JournalFile { file, path, latch, tail, synced: AtomicU64::new(len) })
    }

    /// Goes on with the journal of `generation` from `len` on: what lies behind was never whole.
    ///
    /// # Errors
    /// `Io`.
    pub fn resume(series: Series, store: &Path, generation: u64, len: u64, latch: Arc<Latch>) -> Result<JournalFile> {
        let path = series.path(store, generation);
        let file =
            own_file::open(&path, File::options().read(true).write(true)).map_err(|e| Error::io(path.display(), e))?;
        let tail = Mutex::new(Tail { len, ask_at: 0, promised: 0 });
        Ok(JournalFile { file, path, latch, tail, synced: AtomicU64::new(0) })
    }

    /// Goes on with the journal of `generation` at its end.
    ///
    /// # Errors
    /// `Io`.
    pub fn reopen(series: Series, store: &Path, generation: u64, latch: Arc<Latch>) -> Result<JournalFile> {
        let path = series.path(store, generation);
        let len = std::fs::symlink_metadata(&path).map_err(|e| Error::io(path.display(), e))?.len();
        JournalFile::resume(series, store, generation, len, latch)
    }

    /// The generations that have a journal, in ascending order.
    ///
    /// # Errors
    /// `Io`.
    pub fn generations(series: Series, store: &Path) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(store).map_err(|e| Error::io(store.display(), e))? {
            let name = entry.map_err(|e| Error::io(store.display(), e))?.file_name();
            found.extend(name.to_str().and_then(|name| series.generation_of(name)));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Reads the journal of `generation`; `None` when it is longer than any journal gets.
    ///
    /// # Errors
    /// `Io`.
    pub fn read(series: Series, store: &Path, generation: u64) -> Result<Option<Vec<u8>>> {
        let path = series.path(store, generation);
        let named = |e| Error::io(path.display(), e);
        own_file::read(&path, MAX_JOURNAL_LEN).map_err(named)
    }

    /// Removes the journal of `generation` if it is there.
    ///
    /// # Errors
    /// `Io`.
    pub fn remove(series: Series, store: &Path, generation: u64) -> Result<()> {
        let path = series.path(store, generation);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path.display(), e)),
            _ => Ok(()),
        }
    }

    fn ask(&self, tail: &mut Tail, more: u64) -> rustix::io::Result<()> {
        let outcome = take_room(&self.file, tail.len + more);
        match outcome {
            Ok(()) => (tail.promised, tail.ask_at) = (tail.len + more, tail.len + (more / 2).max(ASK_AGAIN)),
            Err(_) => tail.ask_at = tail.len + ASK_AGAIN,
        }
        outcome
    }

    /// Makes sure that the next `bytes` of records find room, whatever becomes of the disk meanwhile. A file system that
    /// promises no room to anybody is believed to have some.
    ///
    /// # Errors
    /// `NoSpace`; `Io`.
    pub fn make_room(&self, bytes: u64) -> Result<()> {
        let mut tail = self.tail.lock();
        if tail.len + bytes <= tail.promised {
            return Ok(());
        }
        match self.ask(&mut tail, ROOM).or_else(|_| self.ask(&mut tail, bytes)) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(e) => Err(Error::io(self.path.display(), e.into())),
        }
    }

    /// Appends the record that `make` gives for its position (counted in bytes from the start of the file), which this
    /// gives back.
    /// It outlives this process at once, and a power loss after [`JournalFile::sync`].
    ///
    /// # Errors
    /// `NoSpace`, `Poisoned`; `Io`, which poisons.
    pub fn append(&self, make: impl FnOnce(u64) -> Vec<u8>) -> Result<u64> {
        self.latch.pass()?;
        let mut tail = self.tail.lock();
        let record = make(tail.len);
        if tail.len >= tail.ask_at {
            // Best effort: a journal without is as good while the disk has some.
            let _refused = self.ask(&mut tail, ROOM);
        }
        let done = self.file.write_all_at(&record, tail.len).map_err(|e| Error::io(self.path.display(), e));
        self.latch.watch(done)?;
        let position = tail.len;
        tail.len += record.len() as u64;
        Ok(position)
    }

    /// Reads back `len` bytes of what was appended at `position`.
    ///
    /// # Errors
    /// `Io`.
    pub fn read_at(&self, position: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let done = self.file.read_exact_at(&mut bytes, position);
        done.map(|()| bytes).map_err(|e| Error::io(self.path.display(), e))
    }

    /// Where the next record goes: bytes written.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.tail.lock().len
    }

    /// Makes all records appended so far durable; costs nothing when they are.
    ///
    /// # Errors
    /// `Poisoned`; `Io`, which poisons.
    pub fn sync(&self) -> Result<()> {
        self.sync_to(self.end())
    }

    /// Whether the records before `len`, a position, are durable.
    #[must_use]
    pub fn is_synced_to(&self, len: u64) -> bool {
        self.synced.load(Ordering::Acquire) >= len
    }

    /// Makes the records before `len`, a position, durable.
    ///
    /// # Errors
    /// As [`JournalFile::sync`].
    pub fn sync_to(&self, len: u64) -> Result<()> {
        if self.is_synced_to(len) {
            return Ok(());
        }
        self.latch.pass()?;
        let done = rustix::fs::fdatasync(&self.file).map_err(|e| Error::io(self.path.display(), e.into()));
        self.latch.watch_sync(done)?;
        self.synced.fetch_max(len, Ordering::AcqRel);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_was_made_is_the_journals_own() {
        use std::os::unix::fs::MetadataExt;

        let store = tempfile::tempdir().unwrap();
        std::fs::write(Series::Changes.path(store.path(), 1), [7; 100]).unwrap();
        let journal = JournalFile::resume(Series::Changes, store.path(), 1, 100, Arc::default()).unwrap();
        let taken = || std::fs::metadata(Series::Changes.path(store.path(), 1)).unwrap().blocks() * 512;
        assert!(taken() < ROOM);
        journal.make_room(640).unwrap();
        assert!(taken() >= 100 + ROOM);
        assert_eq!(std::fs::metadata(Series::Changes.path(store.path(), 1)).unwrap().len(), 100);
    }

    #[test]
    fn only_names_of_full_width_are_journals() {
        let store = tempfile::tempdir().unwrap();
        for name in ["journal.9999", "journal.000000000000000A", "journal.+000000000000001", "journal.", "journal.old"]
        {
            std::fs::write(store.path().join(name), "").unwrap();
        }
        std::fs::write(Series::Changes.path(store.path(), 0x1f), "").unwrap();
        assert_eq!(JournalFile::generations(Series::Changes, store.path()).unwrap(), [0x1f]);
    }
}
