//! Room on the disk that is promised before it is written to.

use std::io::IoSlice;

use super::Volume;
use super::inode::{OpenBlob, State};
use crate::error::{Error, Kind, Result};
use crate::format::frame::STRIDE;
use crate::store::Blob;

/// What the frames of a commit take beside the chunks, at most but for many names or attributes.
pub(super) const COMMIT_LEN: u64 = 16 << 10;
/// Bytes the disk is asked for at a time beyond what is needed.
const RESERVE_STEP: u64 = 256 << 10;
/// From this length of a blob on the disk is asked for room ahead of what is written, so that it need not find some for
/// each page: as much again as there is, at most [`MOST_AHEAD`].
pub(super) const AHEAD_FROM: u64 = 8 << 20;
/// The most bytes that a blob has ahead. They are given back when it is closed, or after a crash.
const MOST_AHEAD: u64 = 64 << 20;

impl Volume {
    /// Has a disk with much room give some of it to a blob that grows large, before it is written from `from` on: a hint, by
    /// which writing a GB costs a tenth less.
    pub(super) fn reserve_ahead(&self, open: &OpenBlob, blob: &dyn Blob, from: u64, reserved: &mut u64) {
        let is_covered = open.end <= *reserved;
        if open.end < AHEAD_FROM || is_covered || open.apart.is_some() || !matches!(self.tight_room(), Ok(None)) {
            return;
        }
        let to = open.end + open.end.min(MOST_AHEAD);
        if blob.reserve(from.max(*reserved), to).is_ok() {
            *reserved = to;
        }
    }

    /// On a disk with little room: makes sure that there is some for what waits in memory, `chunks` more, and the commit,
    /// so that no program beside this one can take what was acknowledged its place.
    pub(super) fn reserve_room(&self, state: &mut State, chunks: u64) -> Result<()> {
        match self.tight_room()? {
            Some(room) => self.promise_room(state, chunks, room),
            None => Ok(()),
        }
    }

    /// Has the disk promise what waits in memory, `chunks` more, and the commit, out of `room` bytes.
    pub(super) fn promise_room(&self, state: &mut State, chunks: u64, room: u64) -> Result<()> {
        self.open_for_append(state)?;
        let (Some(writer), Some(open)) = (&mut state.writer, &mut state.blob) else { return Ok(()) };
        // The promise is for the blob.
        open.apart = None;
        let waiting = writer.dirty.values().filter(|dirty| !dirty.is_clean).count() as u64;
        let needed = open.end + (waiting + chunks) * STRIDE + COMMIT_LEN;
        if needed <= writer.reserved {
            return Ok(());
        }
        if needed - open.end.max(writer.reserved) > room {
            return Err(Error::new(Kind::NoSpace, "the disk under the store is full, but for its floor"));
        }
        let blob = if open.is_new { self.store.create(open.cipher.blob)? } else { self.blob_of(open)? };
        let reserve = |len| blob.reserve(0, len).map(|()| len);
        let mut outcome = reserve(needed + RESERVE_STEP).or_else(|_| reserve(needed));
        if open.is_new {
            outcome = outcome.and_then(|len| blob.write_at(&[IoSlice::new(&open.cipher.header())], 0).map(|()| len));
            if outcome.is_err() {
                self.store.remove(open.cipher.blob)?;
            }
            open.is_new = outcome.is_err();
        }
        writer.reserved = outcome?;
        Ok(())
    }
}
