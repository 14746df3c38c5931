//! Inodes in memory: what is open, changed or was used of late.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::frames::BlobCipher;
use super::passing::Seen;
use super::record::{Record, Totals};
use super::writer::Writer;
use crate::format::content::Content;
use crate::format::frame::HEADER_LEN;
use crate::ids::{BlobId, Ino};
use crate::sync::{Mutex, RwLock};

/// An inode in memory. While anybody holds the `Arc`, it is the only one for its number.
pub(super) struct Inode {
    /// Its number.
    pub ino: Ino,
    /// Lock 2 (see ARCHITECTURE.md): taken after the namespace lock, held while the store is read or written for it.
    pub state: RwLock<State>,
}

/// A blob that is being read or appended to.
#[derive(Clone)]
pub(super) struct OpenBlob {
    /// Its key.
    pub cipher: Arc<BlobCipher>,
    /// Where the next frame goes.
    pub end: u64,
    /// The number of the next frame.
    pub next_frame: u64,
    /// Whether its header is still to be written.
    pub is_new: bool,
    /// The next chunk that may go apart; none when all goes into the blob.
    pub apart: Option<u64>,
    /// Bytes of its contents file; 0 when there is none.
    pub contents_len: u64,
}

impl OpenBlob {
    /// A blob that does not exist yet.
    pub fn new(cipher: BlobCipher) -> OpenBlob {
        let cipher = Arc::new(cipher);
        OpenBlob { cipher, end: HEADER_LEN as u64, next_frame: 0, is_new: true, apart: None, contents_len: 0 }
    }
}

/// All that is known of an inode now.
pub(super) struct State {
    /// What the index shall say.
    pub record: Record,
    /// What the index says; none when it says nothing.
    pub indexed: Option<Record>,
    /// Its content; none when it was not read from the blob yet.
    pub content: Option<Content>,
    /// Its blob; none when it was not opened yet, or does not exist yet.
    pub blob: Option<OpenBlob>,
    /// What was written and not yet committed.
    pub writer: Option<Box<Writer>>,
    /// Attributes that no frame has yet.
    pub attrs_changed: bool,
    /// Content that no end frame has yet.
    pub content_changed: bool,
    /// Earlier blobs of it, to be removed when the newest is durable.
    pub replaced: Vec<BlobId>,
    /// Open handles.
    pub opens: u32,
    /// Open handles that may write.
    pub writers: u32,
    /// Its last name is gone.
    pub removed: bool,
    /// Its quota was given back.
    pub uncharged: bool,
    /// What programs see of it that read by the kernel alone.
    pub view: Option<Seen>,
}

impl State {
    /// A state that starts from `record`.
    pub fn new(record: Record, indexed: bool) -> State {
        State {
            indexed: indexed.then(|| record.clone()),
            record,
            content: None,
            blob: None,
            writer: None,
            attrs_changed: false,
            content_changed: false,
            replaced: Vec::new(),
            opens: 0,
            writers: 0,
            removed: false,
            uncharged: false,
            view: None,
        }
    }

    /// Whether nobody has it open for writing any more who would publish what was changed meanwhile.
    pub fn has_unpublished(&self) -> bool {
        self.writers == 0 && !self.removed && (self.writer.is_some() || self.attrs_changed)
    }

    /// Whether something was changed that no frame says yet.
    pub fn is_uncommitted(&self) -> bool {
        self.attrs_changed || self.content_changed
    }
}

/// The inodes in memory, least recently used ones dropped when there are too many and nobody holds them.
pub(super) struct InodeCache {
    inodes: Mutex<LruCache<Ino, Arc<Inode>>>,
    capacity: usize,
}

impl InodeCache {
    /// A cache that keeps `capacity` inodes which nobody holds.
    pub fn new(capacity: usize) -> InodeCache {
        InodeCache { inodes: Mutex::new(LruCache::unbounded()), capacity: capacity.max(NonZeroUsize::MIN.get()) }
    }

    /// The inode, when it is in memory.
    pub fn get(&self, ino: Ino) -> Option<Arc<Inode>> {
        self.inodes.lock().get(&ino).cloned()
    }

    /// Puts an inode in, unless another thread was faster; gives the one that is in.
    pub fn insert(&self, ino: Ino, state: State) -> Arc<Inode> {
        let mut dropped = Vec::new();
        let mut inodes = self.inodes.lock();
        let inode = Arc::clone(inodes.get_or_insert(ino, || Arc::new(Inode { ino, state: RwLock::new(state) })));
        // Two for each that comes, so that those nobody holds any more are all met in time.
        for _ in 0..2 {
            if inodes.len() <= self.capacity {
                break;
            }
            if let Some((old, held)) = inodes.pop_lru() {
                // Only this lock gives out new holders, so a count of one stays one.
                if Arc::strong_count(&held) > 1 {
                    inodes.push(old, held);
                } else {
                    dropped.push(held);
                }
            }
        }
        drop(inodes);
        inode
    }

    /// Forgets all inodes; to be called while nobody holds one.
    pub fn clear(&self) {
        let _dropped = std::mem::replace(&mut *self.inodes.lock(), LruCache::unbounded());
    }

    /// Forgets an inode whose number will not be seen again.
    pub fn remove(&self, ino: Ino) {
        let _dropped = self.inodes.lock().pop(&ino);
    }
}

/// Replaces what `totals` counted of an inode.
pub(super) fn recount(totals: &mut Totals, old: Option<&Record>, new: Option<&Record>) {
    if let Some(old) = old {
        totals.count(old, -1);
    }
    if let Some(new) = new {
        totals.count(new, 1);
    }
}
