//! Reading: chunks from memory, from blobs, or as holes.

use std::io::IoSliceMut;
use std::sync::Arc;

use lru::LruCache;

use super::frames::BlobCipher;
use super::inode::{OpenBlob, State};
use super::record::Location;
use super::{OpenFile, Volume};
use crate::crypto::Suite;
use crate::error::{Error, Kind, Result};
use crate::format::content::{Content, Place};
use crate::format::frame::{CHUNK_LEN, FRAME_OVERHEAD, FrameKind, HEAD_LEN, Head, TAG_LEN};
use crate::format::geometry::{Span, chunk_len, spans};
use crate::ids::BlobId;
use crate::store::Blob;
use crate::sync::Mutex;

/// Decrypted chunks kept for reads of a part of them.
const CACHED_CHUNKS: usize = 32;
/// Bytes of a blob that are read ahead when it is opened.
const FIRST_BYTES: u64 = 1 << 20;
/// The most chunks that one system call reads.
const MAX_GROUP: usize = 64;

type Plaintexts = LruCache<(BlobId, u64), Arc<Vec<u8>>>;

/// Chunks that were read in part lately.
pub(super) struct ChunkCache {
    /// By blob and frame number.
    chunks: Mutex<Plaintexts>,
}

impl ChunkCache {
    /// An empty one.
    pub fn new() -> ChunkCache {
        let most = std::num::NonZeroUsize::new(CACHED_CHUNKS).unwrap_or(std::num::NonZeroUsize::MIN);
        ChunkCache { chunks: Mutex::new(LruCache::new(most)) }
    }
}

/// A chunk to read whole, straight into the caller's buffer.
pub(super) struct Whole<'a> {
    /// The chunk.
    pub chunk: u64,
    /// The number of its frame.
    pub number: u64,
    /// Where it goes.
    pub out: &'a mut [u8],
}

impl Volume {
    /// Bytes from `offset` on; fewer than asked only at the end of the file.
    ///
    /// # Errors
    /// `BadHandle`; `Damaged` naming blob and frame; `Io`.
    pub fn read(&self, file: &OpenFile, offset: u64, buf: &mut [u8]) -> Result<usize> {
        if !file.mode.read && !file.is_look {
            return Err(Kind::BadHandle.into());
        }
        self.activity.note();
        // Not behind somebody who waits to change it: who has it now may be waiting for this answer.
        let state = file.inode.state.read_recursive();
        if let Some(writer) = &state.writer {
            writer.flight.wait();
        }
        self.read_ahead(&file.ahead, &state, offset, buf.len());
        self.read_state(&state, offset, buf).map_err(|e| self.name_medium(&state, e))
    }

    /// Says which medium a damaged frame belongs to.
    pub(super) fn name_medium(&self, state: &State, e: Error) -> Error {
        if e.kind() != Kind::Damaged {
            return e;
        }
        Error::new(Kind::Damaged, format!("medium {}: {e}", self.id_of_record(&state.record))).with_source(e)
    }

    /// Reads with the state locked and no chunk on its way.
    pub(super) fn read_state(&self, state: &State, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let len = state.record.len;
        let want = (buf.len() as u64).min(len.saturating_sub(offset)) as usize;
        let Some(mut rest) = buf.get_mut(..want) else { return Ok(0) };
        let content = self.content_of(state)?;
        let blob = match &state.blob {
            Some(open) if !open.is_new => Some((open, self.blob_of(open)?)),
            _ => None,
        };
        let mut group: Vec<Whole<'_>> = Vec::new();
        let mut group_place = Place::Reserved;
        for span in spans(offset, want as u64) {
            let (out, tail) = rest.split_at_mut(span.len);
            rest = tail;
            if let Some(dirty) = state.writer.as_ref().and_then(|w| w.dirty.get(&span.chunk)) {
                copy_part(dirty.plaintext(), span.skip, out);
                continue;
            }
            let place = content.map.find(span.chunk).unwrap_or(Place::Reserved);
            let (Place::Stored { frame, .. } | Place::Apart { frame, .. }) = place else {
                out.fill(0);
                continue;
            };
            let (open, file) = blob.as_ref().ok_or_else(|| Error::new(Kind::Damaged, "a content without a blob"))?;
            if span.len < chunk_len(len, span.chunk) {
                self.read_part(open, &**file, place, &span, out)?;
                continue;
            }
            let follows = group.last().is_some_and(|last| {
                last.out.len() == CHUNK_LEN
                    && last.chunk + 1 == span.chunk
                    && group_place.nth(group.len() as u64) == place
            });
            if !group.is_empty() && (!follows || group.len() == MAX_GROUP) {
                self.read_group(open, &**file, group_place, &mut group)?;
            }
            if group.is_empty() {
                group_place = place;
            }
            group.push(Whole { chunk: span.chunk, number: frame, out });
        }
        if let Some((open, file)) = &blob {
            self.read_group(open, &**file, group_place, &mut group)?;
        }
        Ok(want)
    }

    /// Reads whole chunks that lie behind one another with one system call, each decrypted in place.
    fn read_group(&self, open: &OpenBlob, file: &dyn Blob, place: Place, group: &mut Vec<Whole<'_>>) -> Result<()> {
        let at = match place {
            Place::Stored { offset, .. } if !group.is_empty() => offset,
            Place::Apart { offset, .. } => return self.read_apart_group(open, file, offset, group),
            _ => return Ok(()),
        };
        let mut heads = vec![[0u8; HEAD_LEN]; group.len()];
        let mut tags = vec![[0u8; TAG_LEN]; group.len()];
        let mut bufs = Vec::with_capacity(group.len() * 3);
        for ((whole, head), tag) in group.iter_mut().zip(&mut heads).zip(&mut tags) {
            bufs.push(IoSliceMut::new(head));
            bufs.push(IoSliceMut::new(whole.out));
            bufs.push(IoSliceMut::new(tag));
        }
        let mut got = file.read_at(&mut bufs, at)?;
        drop(bufs);
        let mut offset = at;
        for ((whole, head), tag) in group.drain(..).zip(&heads).zip(&tags) {
            let parsed = Head::decode(head).map_err(|e| open.cipher.damaged(whole.number, &e.to_string()))?;
            open.cipher.expect_chunk(&parsed, whole.number, whole.chunk)?;
            let frame_len = whole.out.len() + FRAME_OVERHEAD;
            if parsed.len as usize == whole.out.len() && got >= frame_len {
                open.cipher.open(offset, &parsed, whole.out, tag)?;
            } else if (parsed.len as usize) < whole.out.len() {
                // A chunk that was last when it was sealed, and the file has grown since: zeros follow.
                let plain = open.cipher.read_chunk(file, offset, whole.number, whole.chunk)?;
                copy_part(&plain, 0, whole.out);
            } else {
                return Err(open.cipher.damaged(whole.number, "is cut off or too long"));
            }
            got = got.saturating_sub(frame_len);
            offset += frame_len as u64;
        }
        Ok(())
    }

    /// Reads a part of a chunk, by way of the cache.
    fn read_part(&self, open: &OpenBlob, file: &dyn Blob, place: Place, span: &Span, out: &mut [u8]) -> Result<()> {
        copy_part(&self.plain_chunk(open, file, place, span.chunk)?, span.skip, out);
        Ok(())
    }

    /// A chunk's plaintext, from the cache or into it.
    pub(super) fn plain_chunk(
        &self,
        open: &OpenBlob,
        file: &dyn Blob,
        place: Place,
        chunk: u64,
    ) -> Result<Arc<Vec<u8>>> {
        let (Place::Stored { frame, .. } | Place::Apart { frame, .. }) = place else { return Ok(Arc::default()) };
        let key = (open.cipher.blob, frame);
        if let Some(plain) = self.chunks.chunks.lock().get(&key) {
            return Ok(Arc::clone(plain));
        }
        let plain = Arc::new(open.cipher.read_place(file, place, chunk)?);
        self.chunks.chunks.lock().put(key, Arc::clone(&plain));
        Ok(plain)
    }

    /// The content, which must have been loaded.
    pub(super) fn content_of<'a>(&self, state: &'a State) -> Result<&'a Content> {
        state.content.as_ref().ok_or_else(|| Error::new(Kind::Io, "the content was not loaded"))
    }

    /// The open file of a blob.
    pub(super) fn blob_of(&self, open: &OpenBlob) -> Result<Arc<dyn Blob>> {
        self.store
            .open(open.cipher.blob)?
            .ok_or_else(|| Error::new(Kind::Damaged, format!("blob {} is missing from the store", open.cipher.blob)))
    }

    /// The blob that a committed frame lies in, as it was when nothing had been appended behind that frame.
    pub(super) fn committed_blob(&self, at: &Location) -> OpenBlob {
        let cipher = BlobCipher::new(&self.key, self.suite, self.id, at.blob, at.salt);
        let (cipher, end, next_frame) = (Arc::new(cipher), at.end(), at.frame + 1);
        OpenBlob { cipher, end, next_frame, is_new: false, apart: None, contents_len: 0 }
    }

    /// Opens the blob of an inode and reads where its content is, unless that was done.
    ///
    /// The newest frame must be the one the index knows: an older version of the blob is refused.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub(super) fn load(&self, state: &mut State) -> Result<()> {
        if state.content.is_some() {
            return Ok(());
        }
        let Some(at) = state.record.location else {
            state.content = Some(Content::default());
            return Ok(());
        };
        let mut open = self.committed_blob(&at);
        let file = self.blob_of(&open)?;
        if self.suite == Suite::Checksum {
            open.contents_len = file.contents_len()?.unwrap_or_default();
        }
        if file.len()? < at.end() {
            return Err(open
                .cipher
                .damaged(at.frame, "is missing: the blob is cut off or was put back in an older version"));
        }
        // The first bytes of the content are hardly ever left out by who opens it.
        file.will_read(0, at.end().min(FIRST_BYTES));
        let content = match state.record.attrs.end {
            Some(end) if state.record.is_medium() => {
                let (from, to) = (end.offset.min(at.offset), at.end());
                let is_close = to - from <= (CHUNK_LEN as u64);
                let bytes = if is_close { read_range(&*file, from, to)? } else { read_range(&*file, at.offset, to)? };
                let attr_from = (at.offset - if is_close { from } else { at.offset }) as usize;
                self.expect_newest(&open, bytes.get(attr_from..).unwrap_or_default(), &at)?;
                let (payload, _) = open.cipher.read_meta(&*file, end.offset, end.len, end.frame, FrameKind::End)?;
                let content = Content::decode(&payload, end.offset, end.frame)
                    .map_err(|e| open.cipher.damaged(end.frame, &e.to_string()))?;
                if content.len != state.record.len {
                    return Err(open.cipher.damaged(end.frame, "tells another length than the index"));
                }
                content
            }
            _ => {
                let bytes = read_range(&*file, at.offset, at.end())?;
                self.expect_newest(&open, &bytes, &at)?;
                Content::default()
            }
        };
        state.content = Some(content);
        state.blob = Some(open);
        Ok(())
    }

    fn expect_newest(&self, open: &OpenBlob, bytes: &[u8], at: &Location) -> Result<()> {
        let frame = bytes.get(..at.len as usize + FRAME_OVERHEAD);
        let frame = frame.ok_or_else(|| open.cipher.damaged(at.frame, "is cut off"))?;
        let (_, found) = open.cipher.open_meta(frame.to_vec(), at.offset, at.frame, FrameKind::Attributes)?;
        if found == at.tag {
            Ok(())
        } else {
            Err(open
                .cipher
                .damaged(at.frame, "is not the one the index knows: another version of the blob was put there"))
        }
    }
}

fn read_range(file: &dyn Blob, from: u64, to: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(0)];
    let got = file.read_at(&mut [IoSliceMut::new(&mut bytes)], from)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// Copies what `plain` has from `skip` on into `out`; zeros where it has nothing.
pub(super) fn copy_part(plain: &[u8], skip: usize, out: &mut [u8]) {
    let part = plain.get(skip..).unwrap_or_default();
    let len = part.len().min(out.len());
    let (filled, zeros) = out.split_at_mut(len);
    filled.copy_from_slice(part.get(..len).unwrap_or_default());
    zeros.fill(0);
}
