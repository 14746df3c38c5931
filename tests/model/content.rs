//! What a file holds: its bytes, and which chunks are no holes, since those are charged.

use std::collections::BTreeSet;

/// The smallest thing that can be a hole, in bytes.
pub const CHUNK: u64 = 65_536;

/// The content of a regular file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content {
    pub bytes: Vec<u8>,
    chunks: BTreeSet<u64>,
}

/// Bytes of chunk `chunk` in a file of `len`.
fn held(len: u64, chunk: u64) -> u64 {
    len.saturating_sub(chunk * CHUNK).min(CHUNK)
}

impl Content {
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Bytes charged: all of a chunk that is no hole, but the last only as far as the file reaches.
    pub fn charge(&self) -> u64 {
        let last = self.len().div_ceil(CHUNK).checked_sub(1).filter(|last| self.chunks.contains(last));
        self.chunks.len() as u64 * CHUNK - last.map_or(0, |last| CHUNK - held(self.len(), last))
    }

    fn grow(&mut self, len: u64) {
        if len > self.len() {
            self.bytes.resize(len as usize, 0);
        }
    }

    /// With `data` at `offset`.
    pub fn written(&self, offset: u64, data: &[u8]) -> Content {
        let mut new = self.clone();
        if data.is_empty() {
            return new;
        }
        let end = offset + data.len() as u64;
        new.grow(end);
        new.bytes[offset as usize..end as usize].copy_from_slice(data);
        new.chunks.extend(offset / CHUNK..end.div_ceil(CHUNK));
        new
    }

    /// Cut, or extended with a hole.
    pub fn resized(&self, len: u64) -> Content {
        let mut new = self.clone();
        if len < self.len() {
            new.chunks.retain(|chunk| *chunk < len.div_ceil(CHUNK));
        }
        if len == 0 {
            new.chunks.clear();
        }
        new.bytes.resize(len as usize, 0);
        new
    }

    /// With room promised for a range.
    pub fn reserved(&self, offset: u64, len: u64, keeping: bool) -> Content {
        let mut new = self.clone();
        new.chunks.extend(offset / CHUNK..(offset + len).div_ceil(CHUNK));
        if !keeping {
            new.grow(offset + len);
        }
        new
    }

    /// With a range of zeros, for which room is promised.
    pub fn zeroed(&self, offset: u64, len: u64, keeping: bool) -> Content {
        let mut new = self.reserved(offset, len, keeping);
        new.clear(offset, len);
        new
    }

    /// With a hole.
    pub fn punched(&self, offset: u64, len: u64) -> Content {
        let mut new = self.clone();
        new.clear(offset, len);
        let end = offset + len;
        new.chunks.retain(|chunk| {
            let there = held(self.len(), *chunk);
            let from = chunk * CHUNK;
            let reaches = if there == 0 { CHUNK } else { there };
            // What is of no use any more: all of a chunk, or all that the file has of it.
            !(offset <= from && from + reaches <= end)
        });
        new
    }

    fn clear(&mut self, offset: u64, len: u64) {
        let (from, to) = (offset.min(self.len()), (offset + len).min(self.len()));
        self.bytes[from as usize..to as usize].fill(0);
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sum = self.bytes.iter().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        write!(f, "{} bytes (sum {sum:x}) in chunks {:?}", self.bytes.len(), self.chunks)
    }
}
