//! Blobs as files, 4096 numbers to a directory.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::num::{NonZeroU64, NonZeroUsize};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lru::LruCache;
use rustix::fs::{fdatasync, fsync, syncfs};
use rustix::io::{preadv, pwritev};

use super::apart::{self, CONTENTS_SUFFIX, Contents, View};
use super::latch::Latch;
use super::unsynced::Unsynced;
use super::{Blob, Space, Store};
use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, NUMBER_LIMIT};
use crate::own_file;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Binary logarithm of how many blob numbers share a directory.
pub(super) const DIR_SHIFT: u32 = 12;
/// Digits of a directory's name.
pub(super) const DIR_DIGITS: usize = 13;
/// Digits of a blob's name.
pub(super) const BLOB_DIGITS: usize = 16;
/// How many blobs are kept open.
const OPEN_BLOBS: usize = 256;
/// The most buffers one system call takes (`IOV_MAX`).
const IOV_MAX: usize = 1024;

/// Blobs in a directory of the local file system.
pub struct DirStore {
    root: PathBuf,
    root_file: File,
    latch: Arc<Latch>,
    open: Mutex<LruCache<BlobId, Arc<DirBlob>>>,
    names_follow_sync: bool,
    /// What `syncfs(2)` would have to make durable; none where it does.
    unsynced: Option<Arc<Unsynced>>,
    /// Whether blobs may have contents files.
    has_contents: bool,
}

/// Whether `fsync` of a young file makes its directory entry durable too, as it does where both are in one journal.
fn names_follow_sync(root: &File) -> bool {
    const EXT: u64 = 0xEF53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683E;
    // The magic number is an unsigned 32-bit value in a field of the platform's choice.
    rustix::fs::fstatfs(root).is_ok_and(|fs| matches!((fs.f_type as u64) & 0xFFFF_FFFF, EXT | XFS | BTRFS))
}

/// Whether `syncfs(2)` reaches the disk. FUSE does not tell its servers of it: it succeeds and nothing is durable.
fn syncfs_is_heard(root: &File) -> bool {
    const FUSE: u64 = 0x6573_5546;
    rustix::fs::fstatfs(root).is_ok_and(|fs| (fs.f_type as u64) & 0xFFFF_FFFF != FUSE)
}

impl DirStore {
    /// Opens the blobs below `root`, which is made if it is not there.
    ///
    /// # Errors
    /// `Invalid` when a directory of blobs is a symbolic link; `Io`, `NoSpace`.
    pub fn open(root: &Path) -> Result<DirStore> {
        make_dir(root)?;
        expect_no_links(root)?;
        let root_file = File::open(root).map_err(|e| Error::io(root.display(), e))?;
        Ok(DirStore {
            root: root.to_owned(),
            names_follow_sync: names_follow_sync(&root_file),
            unsynced: (!syncfs_is_heard(&root_file)).then(Arc::default),
            root_file,
            latch: Arc::default(),
            open: Mutex::new(LruCache::new(NonZeroUsize::new(OPEN_BLOBS).unwrap_or(NonZeroUsize::MIN))),
            has_contents: false,
        })
    }

    /// The same store, of a volume whose blobs may have contents files beside them.
    #[must_use]
    pub fn with_contents(mut self) -> DirStore {
        self.has_contents = true;
        self
    }

    fn dir(&self, id: BlobId) -> PathBuf {
        self.root.join(format!("{:013x}", id.0 >> DIR_SHIFT))
    }

    fn path(&self, id: BlobId) -> PathBuf {
        self.dir(id).join(id.to_string())
    }

    fn make_file(&self, id: BlobId) -> Result<File> {
        let path = self.path(id);
        let open = || File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let made = match open() {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                make_dir(&self.dir(id))?;
                let synced = fsync(&self.root_file).map_err(|e| Error::io(self.root.display(), e.into()));
                self.latch.watch_sync(synced)?;
                open()
            }
            other => other,
        };
        made.map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Error::new(Kind::Exists, format!("blob {id} is there already")).with_source(e),
            _ => Error::io(path.display(), e),
        })
    }

    /// Syncs every blob that was written, and every directory that a blob was removed from, since their last sync.
    fn sync_each(&self, unsynced: &Unsynced) -> Result<()> {
        for id in unsynced.blobs() {
            if let Some(blob) = self.open(id)? {
                blob.sync()?;
            }
        }
        for dir in unsynced.take_dirs() {
            let path = self.dir(BlobId(dir << DIR_SHIFT));
            let synced = File::open(&path).and_then(|dir| dir.sync_all());
            self.latch.watch_sync(synced.map_err(|e| Error::io(path.display(), e)))?;
        }
        Ok(())
    }

    fn remove_contents(&self, id: BlobId) -> Result<()> {
        let path = apart::path_beside(&self.path(id));
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => self.latch.watch(Err(Error::io(path.display(), e))),
            _ => Ok(()),
        }
    }

    fn keep(&self, blob: DirBlob) -> Arc<DirBlob> {
        let blob = Arc::new(blob);
        // The file that falls out is closed after the lock is released.
        let _fallen = self.open.lock().push(blob.id, Arc::clone(&blob));
        blob
    }

    fn blob(&self, id: BlobId, file: File, is_new: bool) -> DirBlob {
        DirBlob {
            contents: self.has_contents.then(|| Contents::beside(&self.path(id), is_new)),
            id,
            file,
            latch: Arc::clone(&self.latch),
            name_is_young: AtomicBool::new(true),
            dir: (!self.names_follow_sync).then(|| self.dir(id)),
            unsynced: self.unsynced.clone(),
        }
    }
}

/// Refuses directories that lie elsewhere: what is written there would be written out of the store, and a repair would take
/// what lies there for its own.
fn expect_no_links(root: &Path) -> Result<()> {
    let named = |e| Error::io(root.display(), e);
    let refuse = |path: &Path| {
        let what = format!("{} is a symbolic link; put the directory in its place that it leads to", path.display());
        Err(Error::new(Kind::Invalid, what))
    };
    if std::fs::symlink_metadata(root).map_err(named)?.is_symlink() {
        return refuse(root);
    }
    for entry in std::fs::read_dir(root).map_err(named)? {
        let entry = entry.map_err(named)?;
        if number_of(&entry.file_name(), DIR_DIGITS).is_some() && entry.file_type().map_err(named)?.is_symlink() {
            return refuse(&entry.path());
        }
    }
    Ok(())
}

fn make_dir(path: &Path) -> Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(Error::io(path.display(), e)),
        _ => Ok(()),
    }
}

impl Store for DirStore {
    fn create(&self, id: BlobId) -> Result<Arc<dyn Blob>> {
        self.latch.pass()?;
        let file = self.latch.watch(self.make_file(id))?;
        Ok(self.keep(self.blob(id, file, true)))
    }

    fn open(&self, id: BlobId) -> Result<Option<Arc<dyn Blob>>> {
        if let Some(blob) = self.open.lock().get(&id) {
            return Ok(Some(Arc::clone(blob) as Arc<dyn Blob>));
        }
        let path = self.path(id);
        let opened = match own_file::open(&path, File::options().read(true).write(true)) {
            // A store on a read-only file system can still be read.
            Err(e) if e.kind() == ErrorKind::ReadOnlyFilesystem => own_file::open(&path, File::options().read(true)),
            other => other,
        };
        match opened {
            Ok(file) => Ok(Some(self.keep(self.blob(id, file, false)))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) if e.kind() == ErrorKind::InvalidData => {
                Err(Error::new(Kind::Damaged, format!("blob {id}: {e}")).with_source(e))
            }
            Err(e) => Err(Error::io(path.display(), e)),
        }
    }

    fn has(&self, id: BlobId) -> Result<bool> {
        let blob = self.path(id);
        let is_there = |path: &Path| path.try_exists().map_err(|e| Error::io(path.display(), e));
        Ok(is_there(&blob)? || (self.has_contents && is_there(&apart::path_beside(&blob))?))
    }

    fn remove(&self, id: BlobId) -> Result<()> {
        self.latch.pass()?;
        let _closed = self.open.lock().pop(&id);
        if self.has_contents {
            self.remove_contents(id)?;
        }
        match std::fs::remove_file(self.path(id)) {
            // None of ours: `check` names it, and the volume goes on.
            Err(e) if e.kind() == ErrorKind::IsADirectory => {
                tracing::warn!("a directory lies in the place of blob {id}")
            }
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return self.latch.watch(Err(Error::io(self.path(id).display(), e)));
            }
            _ => {}
        }
        if let Some(unsynced) = &self.unsynced {
            unsynced.left(id, id.0 >> DIR_SHIFT);
        }
        Ok(())
    }

    fn list(&self, from: BlobId, visit: &mut dyn FnMut(BlobId) -> Result<()>) -> Result<()> {
        for dir in numbers_in(&self.root, DIR_DIGITS, "")? {
            if dir < from.0 >> DIR_SHIFT {
                continue;
            }
            let suffix = if self.has_contents { CONTENTS_SUFFIX } else { "" };
            for number in numbers_in(&self.dir(BlobId(dir << DIR_SHIFT)), BLOB_DIGITS, suffix)? {
                // No volume gives out a number beyond the limit, so that is none of ours.
                if number >= from.0 && number >> DIR_SHIFT == dir && number < NUMBER_LIMIT {
                    visit(BlobId(number))?;
                }
            }
        }
        Ok(())
    }

    fn sync_all(&self) -> Result<()> {
        self.latch.pass()?;
        if let Some(unsynced) = &self.unsynced {
            return self.sync_each(unsynced);
        }
        let done = syncfs(&self.root_file).map_err(|e| Error::io(format!("sync of {}", self.root.display()), e.into()));
        self.latch.watch_sync(done)
    }

    fn space(&self) -> Result<Space> {
        let fs = rustix::fs::fstatvfs(&self.root_file).map_err(|e| Error::io(self.root.display(), e.into()))?;
        Ok(Space { total: fs.f_blocks.saturating_mul(fs.f_frsize), free: fs.f_bavail.saturating_mul(fs.f_frsize) })
    }

    fn latch(&self) -> &Arc<Latch> {
        &self.latch
    }
}

/// The number that a name of so many digits tells, written as we write it.
pub(super) fn number_of(name: &OsStr, digits: usize) -> Option<u64> {
    let name = name.to_str()?;
    let number = u64::from_str_radix(name, 16).ok()?;
    (name == format!("{number:0digits$x}")).then_some(number)
}

/// The names of a directory that are hexadecimal numbers, also those with `suffix` behind, each once and in ascending
/// order; others are none of ours.
fn numbers_in(dir: &Path, digits: usize, suffix: &str) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        // What only looks like a directory of ours, or went meanwhile.
        Err(e) if matches!(e.kind(), ErrorKind::NotADirectory | ErrorKind::NotFound) => return Ok(numbers),
        other => other.map_err(|e| Error::io(dir.display(), e))?,
    };
    for entry in entries {
        let name = entry.map_err(|e| Error::io(dir.display(), e))?.file_name();
        numbers.extend(number_of(without_suffix(&name, suffix), digits));
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// A name without what may stand behind it.
pub(super) fn without_suffix<'a>(name: &'a OsStr, suffix: &str) -> &'a OsStr {
    let bare = name.to_str().and_then(|name| name.strip_suffix(suffix));
    bare.map_or(name, OsStr::new)
}

struct DirBlob {
    id: BlobId,
    file: File,
    latch: Arc<Latch>,
    name_is_young: AtomicBool,
    /// The directory to sync for the name; none where the sync of the file does it.
    dir: Option<PathBuf>,
    unsynced: Option<Arc<Unsynced>>,
    /// None where the store has no contents files.
    contents: Option<Contents>,
}

impl DirBlob {
    /// Keeps in mind that a change that is over is not durable.
    fn is_changed(&self) {
        if let Some(unsynced) = &self.unsynced {
            unsynced.changed(self.id);
        }
    }

    fn named<T>(&self, outcome: rustix::io::Result<T>) -> Result<T> {
        outcome.map_err(|e| Error::io(format!("blob {}", self.id), e.into()))
    }

    fn of_contents<T>(&self, outcome: std::io::Result<T>) -> Result<T> {
        outcome.map_err(|e| match e.kind() {
            ErrorKind::InvalidData => {
                Error::new(Kind::Damaged, format!("the contents of blob {}: {e}", self.id)).with_source(e)
            }
            _ => Error::io(format!("the contents of blob {}", self.id), e),
        })
    }

    /// The contents file, if there is one.
    fn contents(&self) -> Result<Option<Arc<File>>> {
        let Some(contents) = &self.contents else { return Ok(None) };
        self.of_contents(contents.file())
    }

    /// The contents file, which must be there.
    fn expect_contents(&self) -> Result<Arc<File>> {
        let missing = || Error::new(Kind::Damaged, format!("the contents file of blob {} is missing", self.id));
        self.contents()?.ok_or_else(missing)
    }

    fn sync_file(&self) -> Result<()> {
        if let Some(contents) = &self.contents {
            self.of_contents(contents.sync(self.dir.as_deref()))?;
        }
        if !self.name_is_young.load(Ordering::Acquire) {
            return self.named(fdatasync(&self.file));
        }
        self.named(fsync(&self.file))?;
        if let Some(dir) = &self.dir {
            let dir_file = File::open(dir).map_err(|e| Error::io(dir.display(), e))?;
            self.named(fsync(&dir_file))?;
        }
        self.name_is_young.store(false, Ordering::Release);
        Ok(())
    }
}

fn write_all(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> rustix::io::Result<()> {
    let mut at = offset;
    for part in bufs.chunks(IOV_MAX) {
        let total: usize = part.iter().map(|b| b.len()).sum();
        let mut done = 0;
        while done < total {
            let written = match pwritev(file, &skip(part, done), at) {
                Err(rustix::io::Errno::INTR) => 0,
                Ok(0) => return Err(rustix::io::Errno::IO),
                other => other?,
            };
            done += written;
            at += written as u64;
        }
    }
    Ok(())
}

/// Reads into the buffers one after the other; fewer bytes only at the end of the file.
fn read_all(file: &File, bufs: &mut [IoSliceMut<'_>], offset: u64) -> rustix::io::Result<usize> {
    let mut total = 0;
    let mut rest = bufs;
    while !rest.is_empty() {
        let group = rest.len().min(IOV_MAX);
        let wanted: usize = rest.iter().take(group).map(|b| b.len()).sum();
        let got = match preadv(file, &mut rest[..group], offset + total as u64) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        total += got;
        if got == wanted {
            rest = &mut rest[group..];
        } else if got == 0 {
            break;
        } else {
            IoSliceMut::advance_slices(&mut rest, got);
        }
    }
    Ok(total)
}

fn reserve(file: &File, from: u64, to: u64) -> rustix::io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, from, to.saturating_sub(from)) {
        // Where the file system makes no promises, writing is what shows whether there is room.
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

fn advise(file: &File, from: u64, to: u64, advice: rustix::fs::Advice) {
    if let Some(len) = NonZeroU64::new(to.saturating_sub(from)) {
        let _hint = rustix::fs::fadvise(file, from, Some(len), advice);
    }
}

#[expect(unsafe_code, reason = "sync_file_range(2) has no safe wrapper among our crates")]
fn begin_sync(file: &File, from: u64, to: u64) {
    let (Ok(from), Ok(len)) = (i64::try_from(from), i64::try_from(to.saturating_sub(from))) else { return };
    // SAFETY: the descriptor is open as long as `file` lives, and no memory is touched. A failure is one of the hint
    // alone: the sync that counts tells of it again.
    unsafe { libc::sync_file_range(file.as_raw_fd(), from, len, libc::SYNC_FILE_RANGE_WRITE) };
}

/// The buffers without their first `done` bytes.
fn skip<'a>(bufs: &'a [IoSlice<'a>], mut done: usize) -> Vec<IoSlice<'a>> {
    let mut rest = Vec::with_capacity(bufs.len());
    for buf in bufs {
        let cut = done.min(buf.len());
        done -= cut;
        rest.extend(buf.get(cut..).filter(|b| !b.is_empty()).map(IoSlice::new));
    }
    rest
}

impl Blob for DirBlob {
    fn id(&self) -> BlobId {
        self.id
    }

    fn len(&self) -> Result<u64> {
        let meta = self.file.metadata().map_err(|e| Error::io(format!("blob {}", self.id), e))?;
        Ok(meta.len())
    }

    fn read_at(&self, bufs: &mut [IoSliceMut<'_>], offset: u64) -> Result<usize> {
        self.named(read_all(&self.file, bufs, offset))
    }

    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> Result<()> {
        self.latch.pass()?;
        let done = self.latch.watch(self.named(write_all(&self.file, bufs, offset)));
        self.is_changed();
        done
    }

    fn reserve(&self, from: u64, to: u64) -> Result<()> {
        self.latch.pass()?;
        self.named(reserve(&self.file, from, to))
    }

    fn cut(&self, len: u64) -> Result<()> {
        self.latch.pass()?;
        let done = self.latch.watch(self.named(rustix::fs::ftruncate(&self.file, len)));
        self.is_changed();
        done
    }

    fn make_contents(&self) -> Result<()> {
        self.latch.pass()?;
        let contents = self.contents.as_ref().ok_or_else(|| Error::new(Kind::Invalid, "no contents files here"))?;
        self.latch.watch(self.of_contents(contents.make()))
    }

    fn view(&self) -> Result<Option<View>> {
        Ok(self.contents()?.map(View::new))
    }

    fn contents_len(&self) -> Result<Option<u64>> {
        let Some(file) = self.contents()? else { return Ok(None) };
        Ok(Some(self.of_contents(file.metadata())?.len()))
    }

    fn read_contents_at(&self, bufs: &mut [IoSliceMut<'_>], offset: u64) -> Result<usize> {
        let Some(file) = self.contents()? else { return Ok(0) };
        self.of_contents(read_all(&file, bufs, offset).map_err(Into::into))
    }

    fn write_contents_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> Result<()> {
        self.latch.pass()?;
        let file = self.expect_contents()?;
        let done = self.latch.watch(self.of_contents(write_all(&file, bufs, offset).map_err(Into::into)));
        self.is_changed();
        done
    }

    fn reserve_contents(&self, len: u64) -> Result<()> {
        self.latch.pass()?;
        self.of_contents(reserve(&*self.expect_contents()?, 0, len).map_err(Into::into))
    }

    fn will_read(&self, from: u64, to: u64) {
        advise(&self.file, from, to, rustix::fs::Advice::WillNeed);
    }

    fn will_read_contents(&self, from: u64, to: u64) {
        if let Ok(Some(file)) = self.contents() {
            advise(&file, from, to, rustix::fs::Advice::WillNeed);
        }
    }

    fn will_come_from_disk(&self, from: u64, to: u64) {
        advise(&self.file, from, to, rustix::fs::Advice::DontNeed);
    }

    fn contents_will_come_from_disk(&self, from: u64, to: u64) {
        if let Ok(Some(file)) = self.contents() {
            advise(&file, from, to, rustix::fs::Advice::DontNeed);
        }
    }

    fn begin_sync(&self, from: u64, to: u64) {
        begin_sync(&self.file, from, to);
    }

    fn begin_contents_sync(&self, from: u64, to: u64) {
        if let Ok(Some(file)) = self.contents() {
            begin_sync(&file, from, to);
        }
    }

    fn sync(&self) -> Result<()> {
        self.latch.pass()?;
        let changes = self.unsynced.as_ref().and_then(|unsynced| unsynced.changes_of(self.id));
        self.latch.watch_sync(self.sync_file())?;
        if let Some((unsynced, changes)) = self.unsynced.as_ref().zip(changes) {
            unsynced.synced(self.id, changes);
        }
        Ok(())
    }
}
