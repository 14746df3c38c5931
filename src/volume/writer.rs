//! What was written to one file and is not in its blob yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::sealer::{Buffer, Flight, Lane};
use crate::format::frame::{CHUNK_LEN, FRAME_OVERHEAD, HEAD_LEN};

/// The most chunks of one file that wait in memory for more writes.
pub(super) const MAX_DIRTY_CHUNKS: usize = 32;

/// With a write of so many bytes a chunk will hardly stay much shorter than a whole one.
const LARGE_WRITE: usize = CHUNK_LEN / 4;

/// A chunk in memory, in the layout of its frame.
pub(super) struct Dirty {
    /// Room for the head, then the plaintext.
    pub frame: Buffer,
    /// Whether a frame of the blob says the same.
    pub is_clean: bool,
}

impl Dirty {
    /// The plaintext; what a chunk has beyond it reads as zeros.
    pub fn plaintext(&self) -> &[u8] {
        self.frame.get(HEAD_LEN..).unwrap_or_default()
    }

    /// Puts `data` at `skip`, with zeros before it where nothing was.
    pub fn put(&mut self, skip: usize, data: &[u8]) {
        let (start, end) = (HEAD_LEN + skip, HEAD_LEN + skip + data.len());
        if data.len() >= LARGE_WRITE {
            // All that the frame will take, the tag behind it too, so that it is never moved.
            let used = self.frame.len();
            self.frame.reserve_exact((CHUNK_LEN + FRAME_OVERHEAD).saturating_sub(used));
        }
        if self.frame.len() < start {
            self.frame.resize(start, 0);
        }
        if self.frame.len() == start {
            self.frame.extend_from_slice(data);
        } else {
            if self.frame.len() < end {
                self.frame.resize(end, 0);
            }
            if let Some(place) = self.frame.get_mut(start..end) {
                place.copy_from_slice(data);
            }
        }
        self.is_clean = false;
    }

    /// Makes `len` bytes from `skip` on read as zeros.
    pub fn clear(&mut self, skip: usize, len: usize) {
        let from = (HEAD_LEN + skip).min(self.frame.len());
        let to = (HEAD_LEN + skip + len).min(self.frame.len());
        if to == self.frame.len() {
            self.frame.truncate(from);
        } else if let Some(place) = self.frame.get_mut(from..to) {
            place.fill(0);
        }
        self.is_clean = false;
    }

    /// Whether a whole chunk is here.
    pub fn is_full(&self) -> bool {
        self.frame.len() == HEAD_LEN + CHUNK_LEN
    }
}

/// The unpublished state of a file.
#[derive(Default)]
pub(super) struct Writer {
    /// Chunks in memory, by number.
    pub dirty: BTreeMap<u64, Dirty>,
    /// Chunks on their way into the blob.
    pub flight: Arc<Flight>,
    /// The running digest.
    pub lane: Arc<Lane>,
    /// The next chunk the digest waits for; none when the file was not written front to back.
    pub next_hashed: Option<u64>,
    /// Where a write that continues the last one would start.
    pub next_offset: u64,
    /// Up to where the disk has promised room for the blob; 0 while it has much.
    pub reserved: u64,
    /// The first bytes of chunk 0, when it has left memory.
    pub head: Option<Vec<u8>>,
}

impl Writer {
    /// For a file whose content is empty: its digest runs along.
    pub fn from_start() -> Writer {
        Writer { next_hashed: Some(0), ..Writer::default() }
    }

    /// Notes that chunk `chunk` changes: a digest that has passed it is void.
    pub fn changing(&mut self, chunk: u64) {
        if self.next_hashed.is_some_and(|next| chunk < next) {
            self.next_hashed = None;
        }
    }
}
