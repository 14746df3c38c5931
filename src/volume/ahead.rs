//! Reading ahead: a program that reads a file from front to back finds what comes next in memory.
//!
//! The kernel asks us ahead of the program, but not the disk ahead of us: its own read-ahead of the store is short, and
//! each of our reads would wait for the disk once more.

use super::Volume;
use super::inode::State;
use crate::format::content::Place;
use crate::format::frame::{APART_STRIDE, CHUNK_LEN, STRIDE};
use crate::sync::atomic::{AtomicU64, Ordering};

/// Reads of fewer bytes are not taken for those of somebody who reads on.
const LEAST_READ: usize = 128 << 10;
/// How far from where the last read ended the next one may start: several are under way at once.
const SLACK: u64 = 4 << 20;
/// Bytes asked for ahead.
const WINDOW: u64 = 8 << 20;
/// Bytes asked for at a time, at least.
const STEP: u64 = 1 << 20;

/// How far one handle has read, and what was asked for ahead of it.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    next: AtomicU64,
    asked: AtomicU64,
}

impl ReadAhead {
    /// The bytes to ask for when `offset..end` is read now. Threads that read at once may ask for the same twice.
    fn wanted(&self, offset: u64, end: u64) -> Option<(u64, u64)> {
        let next = self.next.fetch_max(end, Ordering::Relaxed);
        if offset > next + SLACK || offset + SLACK < next {
            self.next.store(end, Ordering::Relaxed);
            self.asked.store(end, Ordering::Relaxed);
            return None;
        }
        let from = self.asked.load(Ordering::Relaxed).max(end);
        let to = end.max(next) + WINDOW;
        if to < from + STEP {
            return None;
        }
        self.asked.store(to, Ordering::Relaxed);
        Some((from, to))
    }
}

impl Volume {
    /// Has the disk read what will be asked for after `offset..offset + len`, when a handle reads on.
    pub(super) fn read_ahead(&self, ahead: &ReadAhead, state: &State, offset: u64, len: usize) {
        if len < LEAST_READ {
            return;
        }
        let Some((from, to)) = ahead.wanted(offset, offset + len as u64) else { return };
        let (Some(content), Some(open)) = (&state.content, &state.blob) else { return };
        let first = from / CHUNK_LEN as u64;
        let Some(place) = content.map.find(first) else { return };
        let count = content.map.run_from(first).map_or(0, |run| run.first + run.count - first);
        let count = count.min((to - from).div_ceil(CHUNK_LEN as u64));
        if let Ok(blob) = self.blob_of(open) {
            match place {
                Place::Stored { offset, .. } => blob.will_read(offset, offset + count * STRIDE),
                Place::Apart { offset, .. } => {
                    blob.will_read(offset, offset + count * APART_STRIDE);
                    blob.will_read_contents(first * CHUNK_LEN as u64, (first + count) * CHUNK_LEN as u64);
                }
                Place::Reserved => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_on_is_read_ahead_of_in_steps() {
        let ahead = ReadAhead::default();
        let mib = |n: u64| n << 20;
        assert_eq!(ahead.wanted(0, mib(1)), Some((mib(1), mib(9))));
        // Out of order, as several threads read.
        assert_eq!(ahead.wanted(mib(2), mib(3)), Some((mib(9), mib(11))));
        assert_eq!(ahead.wanted(mib(1), mib(2)), None);
        assert_eq!(ahead.wanted(mib(3), mib(4)), Some((mib(11), mib(12))));
        // Somewhere else: nobody knows yet whether that one reads on.
        assert_eq!(ahead.wanted(mib(100), mib(101)), None);
        assert_eq!(ahead.wanted(mib(101), mib(102)), Some((mib(102), mib(110))));
    }
}
