//! The place of a volume's bytes: blobs in a directory, and the few files beside them.
//!
//! Nothing in here knows a file name of the volume, an attribute, a policy or the index.

mod apart;
mod ballast;
mod directory;
mod journal;
mod latch;
mod layout;
mod lock;
mod overlay;
mod quarantine;
mod strangers;
mod unsynced;

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

pub use apart::View;
pub use ballast::Ballast;
pub use directory::DirStore;
pub use journal::{JournalFile, Series};
pub use latch::Latch;
pub use layout::{INDEX_DIR, Layout, mend_superblock, read_superblock, superblock_copies, write_superblock};
pub use lock::StoreLock;
pub use overlay::{is_read_only, lay_memory_over};
pub use quarantine::{QUARANTINE_DIR, Quarantine};
pub use strangers::strangers;

use crate::error::Result;
use crate::ids::BlobId;

/// Room on the backing file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Its size.
    pub total: u64,
    /// What an unprivileged writer can still use.
    pub free: u64,
}

/// Blobs by number.
///
/// Every method may block on the disk. After a write or sync has failed the store is poisoned
/// ([`Latch`]): what changes it fails with `Kind::Poisoned`, reading goes on.
pub trait Store: Send + Sync {
    /// Makes an empty blob; its name is durable once the blob was synced.
    ///
    /// # Errors
    /// `NoSpace`, `Poisoned`, `Io`; `Exists` when the number is taken.
    fn create(&self, id: BlobId) -> Result<Arc<dyn Blob>>;

    /// Opens a blob; `None` when there is none.
    ///
    /// # Errors
    /// `Io`.
    fn open(&self, id: BlobId) -> Result<Option<Arc<dyn Blob>>>;

    /// Whether there is anything of this number: a blob, or what a crash left of one.
    ///
    /// # Errors
    /// `Io`.
    fn has(&self, id: BlobId) -> Result<bool>;

    /// Removes a blob if it is there, and its contents file before it; durable after [`Store::sync_all`].
    ///
    /// # Errors
    /// `Poisoned`, `Io`.
    fn remove(&self, id: BlobId) -> Result<()>;

    /// Calls `visit` with every blob from number `from` on, in ascending order.
    ///
    /// # Errors
    /// `Io`, and whatever `visit` returns.
    fn list(&self, from: BlobId, visit: &mut dyn FnMut(BlobId) -> Result<()>) -> Result<()>;

    /// Makes everything written, created and removed so far durable (`syncfs(2)`).
    ///
    /// # Errors
    /// `Poisoned`, `Io`; a failure poisons.
    fn sync_all(&self) -> Result<()>;

    /// Room on the backing file system.
    ///
    /// # Errors
    /// `Io`.
    fn space(&self) -> Result<Space>;

    /// Whether, and why, the store is poisoned.
    fn latch(&self) -> &Arc<Latch>;
}

/// One blob: bytes at offsets.
pub trait Blob: Send + Sync {
    /// Its number.
    fn id(&self) -> BlobId;

    /// Its length in bytes.
    ///
    /// # Errors
    /// `Io`.
    fn len(&self) -> Result<u64>;

    /// Whether it has no bytes.
    ///
    /// # Errors
    /// `Io`.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads into the buffers one after the other; fewer bytes only at the end of the blob.
    ///
    /// # Errors
    /// `Io`.
    fn read_at(&self, bufs: &mut [IoSliceMut<'_>], offset: u64) -> Result<usize>;

    /// Writes all buffers one after the other.
    ///
    /// # Errors
    /// `NoSpace`, `Poisoned`; `Io`, which poisons.
    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> Result<()>;

    /// Has the disk promise room for the bytes `from..to`; its length stays. What is beyond its length is given back
    /// by [`Blob::cut`].
    ///
    /// # Errors
    /// `NoSpace`, `Poisoned`, `Io`; nothing has changed.
    fn reserve(&self, from: u64, to: u64) -> Result<()>;

    /// Cuts it to `len` bytes, for recovery, or to its own length.
    ///
    /// # Errors
    /// `Poisoned`; `Io`, which poisons.
    fn cut(&self, len: u64) -> Result<()>;

    /// Makes its contents file, empty; its name is durable once the blob was synced.
    ///
    /// # Errors
    /// `Invalid` where the store has none; `NoSpace`, `Poisoned`, `Io`.
    fn make_contents(&self) -> Result<()>;

    /// Its contents file, to be shown as it is; `None` when there is none.
    ///
    /// # Errors
    /// `Io`; `Damaged` when something else is in its place.
    fn view(&self) -> Result<Option<View>>;

    /// Bytes of its contents file; `None` when there is none.
    ///
    /// # Errors
    /// `Io`.
    fn contents_len(&self) -> Result<Option<u64>>;

    /// Reads from its contents file as [`Blob::read_at`] does; nothing when there is none.
    ///
    /// # Errors
    /// `Io`.
    fn read_contents_at(&self, bufs: &mut [IoSliceMut<'_>], offset: u64) -> Result<usize>;

    /// Writes to its contents file as [`Blob::write_at`] does. [`Blob::sync`] makes it durable, before the blob itself.
    ///
    /// # Errors
    /// Those of [`Blob::write_at`]; `Io` when there is none.
    fn write_contents_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> Result<()>;

    /// Has the disk promise room for the first `len` bytes of its contents file.
    ///
    /// # Errors
    /// Those of [`Blob::reserve`].
    fn reserve_contents(&self, len: u64) -> Result<()>;

    /// [`Blob::will_read`] of its contents file.
    fn will_read_contents(&self, from: u64, to: u64);

    /// [`Blob::will_come_from_disk`] of its contents file.
    fn contents_will_come_from_disk(&self, from: u64, to: u64);

    /// [`Blob::begin_sync`] of its contents file.
    fn begin_contents_sync(&self, from: u64, to: u64);

    /// Has the disk read the bytes `from..to` ahead, so that a read of them soon waits for less: a hint.
    fn will_read(&self, from: u64, to: u64);

    /// Has the next read of the bytes `from..to` come from the disk, if they are there: a hint.
    fn will_come_from_disk(&self, _from: u64, _to: u64) {}

    /// Has the disk begin with the bytes `from..to`, so that a later sync waits for less: a hint.
    fn begin_sync(&self, from: u64, to: u64);

    /// Makes its bytes and its name durable, those of its contents file before.
    ///
    /// # Errors
    /// `Poisoned`; `Io`, which poisons.
    fn sync(&self) -> Result<()>;
}
