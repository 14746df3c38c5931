//! The contents file beside a blob: chunks of a volume without a cipher, each at its place from byte 0.
//!
//! It is made after its blob and removed before it, so wherever names reach the disk in their order there is none without
//! a blob. It is synced before its blob is, so a durable frame tells of durable bytes.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate, fdatasync, fsync};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::own_file;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// What the name of a contents file has behind that of its blob.
pub(super) const CONTENTS_SUFFIX: &str = ".c";

/// The contents file of one blob, opened when it is first asked for.
pub(super) struct Contents {
    path: PathBuf,
    found: Mutex<Found>,
    /// Whether its name may not be durable.
    is_young: AtomicBool,
}

enum Found {
    Unknown,
    Absent,
    There(Arc<File>),
}

impl Contents {
    /// That of a blob whose file is at `blob`; a blob that is new has none.
    pub fn beside(blob: &Path, is_new: bool) -> Contents {
        let found = if is_new { Found::Absent } else { Found::Unknown };
        Contents { path: path_beside(blob), found: Mutex::new(found), is_young: AtomicBool::new(true) }
    }

    /// Makes it, empty. In the place of a new blob's what a crash has left of an earlier one goes; any other is not touched.
    pub fn make(&self) -> io::Result<()> {
        let mut found = self.found.lock();
        if matches!(*found, Found::Absent) {
            match std::fs::remove_file(&self.path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        let file = own_file::open(&self.path, File::options().read(true).write(true).create_new(true))?;
        *found = Found::There(Arc::new(file));
        Ok(())
    }

    /// Its file; none when there is none.
    pub fn file(&self) -> io::Result<Option<Arc<File>>> {
        let mut found = self.found.lock();
        if matches!(*found, Found::Unknown) {
            let opened = match own_file::open(&self.path, File::options().read(true).write(true)) {
                // A store on a read-only file system can still be read.
                Err(e) if e.kind() == ErrorKind::ReadOnlyFilesystem => {
                    own_file::open(&self.path, File::options().read(true))
                }
                other => other,
            };
            *found = match opened {
                Ok(file) => Found::There(Arc::new(file)),
                Err(e) if e.kind() == ErrorKind::NotFound => Found::Absent,
                Err(e) => return Err(e),
            };
        }
        Ok(match &*found {
            Found::There(file) => Some(Arc::clone(file)),
            Found::Unknown | Found::Absent => None,
        })
    }

    /// Makes its bytes and its name durable, if there is one; `dir` has to be synced for the name, where it is given.
    pub fn sync(&self, dir: Option<&Path>) -> io::Result<()> {
        let Some(file) = self.file()? else { return Ok(()) };
        if !self.is_young.load(Ordering::Acquire) {
            return Ok(fdatasync(&file)?);
        }
        fsync(&file)?;
        if let Some(dir) = dir {
            File::open(dir)?.sync_all()?;
        }
        self.is_young.store(false, Ordering::Release);
        Ok(())
    }
}

/// The path of the contents file of a blob's file.
pub(super) fn path_beside(blob: &Path) -> PathBuf {
    let mut path = blob.as_os_str().to_owned();
    path.push(CONTENTS_SUFFIX);
    PathBuf::from(path)
}

/// A contents file as programs see it that read by the kernel alone. Nothing that is done here is made durable.
#[derive(Clone, Debug)]
pub struct View(Arc<File>);

impl View {
    pub(super) fn new(file: Arc<File>) -> View {
        View(file)
    }

    /// Has the disk promise room for `len` bytes from `offset` on.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub fn make_room(&self, offset: u64, len: u64) -> Result<()> {
        let Some(len) = NonZeroU64::new(len) else { return Ok(()) };
        match fallocate(&self.0, FallocateFlags::KEEP_SIZE, offset, len.get()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(e) => Err(named(e.into())),
        }
    }

    /// Shows `data` at `offset`.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.0.write_all_at(data, offset).map_err(named)
    }

    /// Shows it with another length.
    ///
    /// # Errors
    /// `Io`.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.0.set_len(len).map_err(named)
    }

    /// Shows the bytes `from..to`, which are not beyond its end, as zeros.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub fn clear(&self, from: u64, to: u64) -> Result<()> {
        let Some(len) = NonZeroU64::new(to.saturating_sub(from)) else { return Ok(()) };
        match fallocate(&self.0, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, from, len.get()) {
            Err(Errno::OPNOTSUPP) => self.write_zeros(from, to),
            other => other.map_err(|e| named(e.into())),
        }
    }

    fn write_zeros(&self, from: u64, to: u64) -> Result<()> {
        let zeros = vec![0; 64 << 10];
        let mut at = from;
        while at < to {
            let step = usize::try_from(to - at).unwrap_or(usize::MAX).min(zeros.len());
            self.write(at, zeros.get(..step).unwrap_or_default())?;
            at += step as u64;
        }
        Ok(())
    }
}

impl AsFd for View {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn named(e: io::Error) -> Error {
    Error::io("a contents file that is read through", e)
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, IoSliceMut};

    use crate::error::Kind;
    use crate::ids::BlobId;
    use crate::store::{DirStore, Store};

    #[test]
    fn a_contents_file_goes_with_its_blob_and_is_never_taken_for_a_strays() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("blobs");
        let open = || DirStore::open(&root).unwrap().with_contents();
        let store = open();
        let blob = store.create(BlobId(7)).unwrap();
        assert_eq!(blob.contents_len().unwrap(), None);
        assert_eq!(blob.write_contents_at(&[IoSlice::new(b"x")], 0).unwrap_err().kind(), Kind::Damaged);
        let path = root.join("0000000000000/0000000000000007.c");
        std::fs::write(&path, "what a crash has left").unwrap();
        blob.make_contents().unwrap();
        assert_eq!(blob.contents_len().unwrap(), Some(0));
        blob.write_contents_at(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")], 3).unwrap();
        blob.sync().unwrap();

        let store = open();
        let blob = store.open(BlobId(7)).unwrap().unwrap();
        assert!(blob.make_contents().is_err(), "one that may be told of is not made anew");
        let mut out = [9; 9];
        assert_eq!(blob.read_contents_at(&mut [IoSliceMut::new(&mut out)], 1).unwrap(), 6);
        assert_eq!(&out[..6], b"\0\0abcd");

        std::fs::remove_file(root.join("0000000000000/0000000000000007")).unwrap();
        let (store, mut listed) = (open(), Vec::new());
        let mut note = |id| {
            listed.push(id);
            Ok(())
        };
        store.list(BlobId(0), &mut note).unwrap();
        assert_eq!(listed, [BlobId(7)]);
        assert!(store.open(BlobId(7)).unwrap().is_none() && store.has(BlobId(7)).unwrap());
        store.remove(BlobId(7)).unwrap();
        assert!(!store.has(BlobId(7)).unwrap() && !path.exists());
    }
}
