//! Contents apart: in a volume without a cipher the chunks of a large medium that is written front to back lie in a file of
//! their own beside the blob, each at its place, so that the kernel can read them by itself. Their frames, in the blob, have
//! everything but the payload.
//!
//! Each place of a contents file is written once: a chunk that is changed later goes into the blob as any other. So what a
//! committed frame tells of is there as long as the frame counts, and a crash at any line leaves what one of a blob leaves.

use std::io::{IoSlice, IoSliceMut};

use super::Volume;
use super::frames::BlobCipher;
use super::inode::{OpenBlob, State};
use super::reading::{Whole, copy_part};
use super::sealer::{Batch, Buffer};
use crate::crypto::Suite;
use crate::error::{Error, Kind, Result};
use crate::format::content::Place;
use crate::format::frame::{APART_STRIDE, CHUNK_LEN, FRAME_OVERHEAD, FrameKind, HEAD_LEN, Head, TAG_LEN};
use crate::store::Blob;

const CHUNK: u64 = CHUNK_LEN as u64;
/// Chunks of a new content that wait in memory before they go apart; of a medium that has fewer all go into the blob.
pub(super) const LEAST_CHUNKS: usize = 16;

/// A chunk that lies apart, sealed.
pub(super) struct ApartChunk {
    /// The chunk.
    pub chunk: u64,
    /// Its bytes, behind room for a head.
    pub bytes: Buffer,
}

/// Writes chunks that follow one another, each behind room for a head, into the contents file.
pub(super) fn write_apart<'a>(blob: &dyn Blob, chunks: impl Iterator<Item = (u64, &'a Buffer)>) -> Result<()> {
    let mut chunks = chunks.peekable();
    let Some(&(first, _)) = chunks.peek() else { return Ok(()) };
    let bufs: Vec<IoSlice<'_>> =
        chunks.map(|(_, bytes)| IoSlice::new(bytes.get(HEAD_LEN..).unwrap_or_default())).collect();
    blob.write_contents_at(&bufs, first * CHUNK)
}

/// Has the disk begin with the contents of a batch when a whole stretch of `stretch` bytes is behind them.
pub(super) fn begin_contents_sync(batch: &Batch, stretch: u64) {
    let apart = || batch.chunks.iter().filter(|pending| pending.apart.is_some()).map(|pending| pending.chunk);
    let (Some(first), Some(last)) = (apart().next(), apart().next_back()) else { return };
    let (from, to) = (first * CHUNK, (last + 1) * CHUNK / stretch * stretch);
    if from / stretch != to / stretch {
        batch.blob.begin_contents_sync(to.saturating_sub(stretch), to);
    }
}

/// Writes those of a batch that lie apart into the contents file.
pub(super) fn write_batch_apart(batch: &Batch) -> Result<()> {
    let apart = batch.chunks.iter().filter(|pending| pending.apart.is_some());
    write_apart(&*batch.blob, apart.map(|pending| (pending.chunk, &pending.frame)))
}

impl OpenBlob {
    /// Whether `chunk` goes apart; it has its place there then. The first that does not ends it for this blob.
    pub fn goes_apart(&mut self, chunk: u64, len: usize) -> bool {
        let goes = self.apart == Some(chunk);
        self.apart = goes.then_some(chunk + 1);
        if goes {
            self.contents_len = self.contents_len.max(chunk * CHUNK + len as u64);
        }
        goes
    }
}

impl BlobCipher {
    /// Seals a chunk that lies apart; gives its frame, which is to stand at `offset`.
    pub fn seal_apart(&self, offset: u64, number: u64, chunk: u64, plain: &mut [u8]) -> [u8; FRAME_OVERHEAD] {
        let (head, tag) = self.seal_payload(FrameKind::Apart, offset, number, chunk, plain);
        let mut frame = [0; FRAME_OVERHEAD];
        let (space, rest) = frame.split_at_mut(HEAD_LEN);
        space.copy_from_slice(&head.encode());
        rest.copy_from_slice(&tag);
        frame
    }

    /// The plaintext of the chunk at `place`, at most a chunk long; nothing where only room is promised.
    pub fn read_place(&self, blob: &dyn Blob, place: Place, chunk: u64) -> Result<Vec<u8>> {
        match place {
            Place::Stored { offset, frame } => self.read_chunk(blob, offset, frame, chunk),
            Place::Apart { offset, frame } => self.read_apart(blob, offset, frame, chunk),
            Place::Reserved => Ok(Vec::new()),
        }
    }

    fn read_apart(&self, blob: &dyn Blob, offset: u64, number: u64, chunk: u64) -> Result<Vec<u8>> {
        let mut frame = [0; FRAME_OVERHEAD];
        let got = blob.read_at(&mut [IoSliceMut::new(&mut frame)], offset)?;
        let (head, tag) = self.expect_apart(frame.get(..got).unwrap_or_default(), number, chunk)?;
        let mut plain = vec![0; head.len as usize];
        if blob.read_contents_at(&mut [IoSliceMut::new(&mut plain)], chunk * CHUNK)? < plain.len() {
            return Err(self.damaged(number, "has no contents: their file is missing or cut off"));
        }
        self.open(offset, &head, &mut plain, &tag)?;
        Ok(plain)
    }

    /// Reads the frame of a chunk that lies apart.
    fn expect_apart(&self, frame: &[u8], number: u64, chunk: u64) -> Result<(Head, [u8; TAG_LEN])> {
        let cut = || self.damaged(number, "is cut off");
        let (head, tag) = frame.split_at_checked(HEAD_LEN).ok_or_else(cut)?;
        let tag = *tag.first_chunk::<TAG_LEN>().ok_or_else(cut)?;
        let head = Head::decode(head).map_err(|e| self.damaged(number, &e.to_string()))?;
        if head.kind == FrameKind::Apart && self.suite() == Suite::Checksum {
            self.expect_of(&head, number, chunk)?;
            return Ok((head, tag));
        }
        Err(self.damaged(number, "is another frame"))
    }
}

impl Volume {
    /// Whether a content that is being written from its front is held back until so many chunks are here that it goes apart.
    pub(super) fn is_held_back(&self, state: &State) -> bool {
        let Some(writer) = state.writer.as_ref().filter(|_| self.contents_apart) else { return false };
        writer.dirty.contains_key(&0)
            && writer.reserved == 0
            && state.blob.as_ref().is_none_or(|open| open.contents_len == 0)
    }

    /// Begins a contents file beside a blob that has none, for a content whose first chunks are leaving memory and that has
    /// no room promised. Without it all goes into the blob.
    ///
    /// A crash before a frame of it is committed leaves a contents file that nothing tells of: it goes with its blob.
    pub(super) fn begin_apart(&self, open: &mut OpenBlob, blob: &dyn Blob, reserved: u64, leaving: &[u64]) {
        let is_front = leaving.first() == Some(&0) && leaving.len() >= LEAST_CHUNKS;
        let has_none = open.apart.is_none() && open.contents_len == 0;
        if !self.contents_apart || !is_front || !has_none || reserved > 0 {
            return;
        }
        match blob.make_contents() {
            Ok(()) => open.apart = Some(0),
            Err(e) => tracing::debug!("blob {} gets no contents file: {e}", open.cipher.blob),
        }
    }

    /// Reads whole chunks that lie apart behind one another, each verified in place; their frames begin at `at`.
    pub(super) fn read_apart_group(
        &self,
        open: &OpenBlob,
        file: &dyn Blob,
        at: u64,
        group: &mut Vec<Whole<'_>>,
    ) -> Result<()> {
        let Some(first) = group.first().map(|whole| whole.chunk) else { return Ok(()) };
        let mut frames = vec![0u8; group.len() * FRAME_OVERHEAD];
        let got_frames = file.read_at(&mut [IoSliceMut::new(&mut frames)], at)?;
        let mut bufs: Vec<IoSliceMut<'_>> = group.iter_mut().map(|whole| IoSliceMut::new(whole.out)).collect();
        let mut got = file.read_contents_at(&mut bufs, first * CHUNK)?;
        drop(bufs);
        frames.truncate(got_frames);
        let mut frames = frames.chunks(FRAME_OVERHEAD);
        let mut offset = at;
        for whole in group.drain(..) {
            let frame = frames.next().unwrap_or_default();
            let (head, tag) = open.cipher.expect_apart(frame, whole.number, whole.chunk)?;
            if head.len as usize == whole.out.len() && got >= whole.out.len() {
                open.cipher.open(offset, &head, whole.out, &tag)?;
            } else if (head.len as usize) < whole.out.len() {
                // A chunk that was last when it was sealed, and the file has grown since: zeros follow.
                copy_part(&open.cipher.read_apart(file, offset, whole.number, whole.chunk)?, 0, whole.out);
            } else {
                return Err(open.cipher.damaged(whole.number, "has no contents: their file is missing or cut off"));
            }
            got = got.saturating_sub(whole.out.len());
            offset += APART_STRIDE;
        }
        Ok(())
    }

    /// What is wrong with the contents file of an inode, as far as its length tells.
    pub(super) fn contents_problem(&self, state: &State) -> Option<String> {
        let needed = state.content.as_ref()?.map.apart_end()?;
        let open = state.blob.as_ref()?;
        let found = self.blob_of(open).and_then(|blob| blob.contents_len());
        match found {
            Ok(Some(len)) if len > needed => None,
            Ok(Some(len)) => Some(format!("its contents file is cut off after {len} bytes")),
            Ok(None) => Some("its contents file is missing from the store".to_owned()),
            Err(e) => Some(e.to_string()),
        }
    }

    /// Makes a blob with a contents file for `len` bytes in `chunks` chunks that are all to go apart, with room promised for
    /// both. What is written to them then does not fail for want of room.
    ///
    /// # Errors
    /// `NoSpace`, `Poisoned`, `Io`; there is no blob then.
    pub(super) fn prepare_apart(&self, state: &mut State, len: u64, chunks: u64, rest: u64) -> Result<()> {
        self.open_for_append(state)?;
        let Some(open) = state.blob.as_mut().filter(|open| open.is_new) else {
            return Err(Error::new(Kind::Invalid, "contents go apart in a new blob alone"));
        };
        let blob = self.store.create(open.cipher.blob)?;
        let header = open.cipher.header();
        let outcome = blob
            .make_contents()
            .and_then(|()| blob.reserve_contents(len))
            .and_then(|()| blob.reserve(0, open.end + chunks * APART_STRIDE + rest))
            .and_then(|()| blob.write_at(&[IoSlice::new(&header)], 0));
        if let Err(e) = outcome {
            self.store.remove(open.cipher.blob)?;
            return Err(e);
        }
        (open.is_new, open.apart) = (false, Some(0));
        if let Some(writer) = &mut state.writer {
            writer.reserved = open.end + chunks * APART_STRIDE + rest;
        }
        Ok(())
    }
}
