//! Reading the truth from a blob: its newest whole attribute frame.

use std::collections::VecDeque;
use std::io::IoSliceMut;

use super::contents::Contents;
use super::frames::BlobCipher;
use super::record::{Location, Record};
use crate::crypto::{Suite, VolumeKey};
use crate::error::{Error, Kind, Result};
use crate::format::attributes::Attributes;
use crate::format::frame::{FRAME_OVERHEAD, FrameKind, HEAD_LEN, HEADER_LEN, Head, TRAILER_LEN, decode_trailer};
use crate::ids::VolumeId;
use crate::store::Blob;

/// Bytes read from the end of a blob in the hope that its newest frame lies in them.
const TAIL_LEN: u64 = 4096;
/// The most states of a blob that are looked at, from the newest on.
const MAX_STATES: usize = 65_536;

/// What a blob says.
pub(super) struct Truth {
    /// Its attributes and where they lie.
    pub record: Record,
    /// Bytes behind them that were never acknowledged.
    pub torn: u64,
}

/// What blobs are read with.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    /// The volume's key.
    pub key: &'a VolumeKey,
    /// Its suite.
    pub suite: Suite,
    /// Its id.
    pub volume: VolumeId,
}

/// Reads the newest whole attribute frame of a blob; `None` when it has none, because it was never committed.
///
/// # Errors
/// `Damaged` when the header is not the blob's own; `Io`.
pub(super) fn read(keys: Keys<'_>, blob: &dyn Blob) -> Result<Option<Truth>> {
    let len = blob.len()?;
    if len < HEADER_LEN as u64 || is_headless(blob)? {
        return Ok(None);
    }
    let cipher = BlobCipher::read(keys.key, keys.suite, keys.volume, blob)?;
    let found = match from_tail(&cipher, blob, len)? {
        Some(found) => Some(found),
        None => from_front(&cipher, blob, len)?,
    };
    Ok(found.map(|(attrs, at)| truth_of(attrs, at, len)))
}

/// What attributes at a place of a blob of `len` bytes say.
fn truth_of(attrs: Attributes, at: Location, len: u64) -> Truth {
    let mut record = Record::new(attrs);
    if let Some(end) = record.attrs.end {
        record.len = end.content_len;
        record.allocated = end.allocated;
    }
    record.location = Some(at);
    Truth { record, torn: len.saturating_sub(at.end()) }
}

/// Reads the newest attribute frame of a blob whose content is whole as well: every frame that it names is there and
/// authentic. Reads the whole content.
///
/// # Errors
/// As [`read`]; `Damaged` when the states of the blob name more frames than it can have.
pub(super) fn read_whole(keys: Keys<'_>, blob: &dyn Blob) -> Result<Option<Truth>> {
    let len = blob.len()?;
    let cipher = BlobCipher::read(keys.key, keys.suite, keys.volume, blob)?;
    let places = attributes_from_front(blob, len)?;
    let mut contents = Contents::new(len);
    if let Some((attrs, at)) = from_tail(&cipher, blob, len)?
        && places.back().is_none_or(|place| place.offset < at.offset)
        && contents.are_whole(&cipher, blob, &attrs)?
    {
        return Ok(Some(truth_of(attrs, at, len)));
    }
    for place in places.iter().rev() {
        if let Some((attrs, at)) = place.open(&cipher, blob)?
            && contents.are_whole(&cipher, blob, &attrs)?
        {
            return Ok(Some(truth_of(attrs, at, len)));
        }
    }
    Ok(None)
}

/// Whether a blob ends as one does whose last commit was written to its end.
///
/// # Errors
/// `Io`.
pub(super) fn is_finished(blob: &dyn Blob) -> Result<bool> {
    is_finished_at(blob, blob.len()?)
}

/// Whether a trailer ends at `end`.
///
/// # Errors
/// `Io`.
pub(super) fn is_finished_at(blob: &dyn Blob, end: u64) -> Result<bool> {
    let Some(from) = end.checked_sub(TRAILER_LEN as u64) else { return Ok(false) };
    let mut trailer = [0; TRAILER_LEN];
    let got = blob.read_at(&mut [IoSliceMut::new(&mut trailer)], from)?;
    Ok(got == TRAILER_LEN && decode_trailer(&trailer).is_ok())
}

/// Whether the header was not written yet, nor attributes: of the first parts of a blob any may reach the file first.
fn is_headless(blob: &dyn Blob) -> Result<bool> {
    let mut header = [0; HEADER_LEN];
    blob.read_at(&mut [IoSliceMut::new(&mut header)], 0)?;
    Ok(header == [0; HEADER_LEN] && !is_finished(blob)?)
}

/// Whether the header looks as one of which the beginning or the end was never written.
///
/// # Errors
/// `Io`.
pub(super) fn has_torn_header(blob: &dyn Blob) -> Result<bool> {
    let mut header = [0; HEADER_LEN];
    blob.read_at(&mut [IoSliceMut::new(&mut header)], 0)?;
    Ok(matches!(header, [0, ..] | [.., 0]))
}

fn locate(cipher: &BlobCipher, offset: u64, head: &Head, tag: [u8; 8]) -> Location {
    Location { blob: cipher.blob, salt: cipher.salt, offset, len: head.len, frame: head.number, tag }
}

/// Looks at the trailer at the very end, and at the frame it tells of.
fn from_tail(cipher: &BlobCipher, blob: &dyn Blob, len: u64) -> Result<Option<(Attributes, Location)>> {
    let from = len.saturating_sub(TAIL_LEN);
    let mut tail = vec![0; usize::try_from(len - from).unwrap_or_default()];
    if blob.read_at(&mut [IoSliceMut::new(&mut tail)], from)? < tail.len() {
        return Ok(None);
    }
    let Some((body, trailer)) = tail.split_at_checked(tail.len().saturating_sub(TRAILER_LEN)) else { return Ok(None) };
    let Ok(payload_len) = decode_trailer(trailer) else { return Ok(None) };
    let frame_len = payload_len as usize + FRAME_OVERHEAD;
    let Some(offset) = len.checked_sub((frame_len + TRAILER_LEN) as u64).filter(|o| *o >= HEADER_LEN as u64) else {
        return Ok(None);
    };
    let frame = match body.len().checked_sub(frame_len).and_then(|start| body.get(start..)) {
        Some(frame) => frame.to_vec(),
        None => {
            let mut frame = vec![0; frame_len];
            if blob.read_at(&mut [IoSliceMut::new(&mut frame)], offset)? < frame_len {
                return Ok(None);
            }
            frame
        }
    };
    Ok(open_attributes(cipher, frame, offset))
}

fn open_attributes(cipher: &BlobCipher, frame: Vec<u8>, offset: u64) -> Option<(Attributes, Location)> {
    let head = Head::decode(frame.get(..HEAD_LEN)?).ok().filter(|h| h.kind == FrameKind::Attributes)?;
    let (payload, tag) = cipher.open_meta(frame, offset, head.number, FrameKind::Attributes).ok()?;
    Some((Attributes::decode(&payload).ok()?, locate(cipher, offset, &head, tag)))
}

/// Hops from head to head; the last attribute frame that is whole counts.
fn from_front(cipher: &BlobCipher, blob: &dyn Blob, len: u64) -> Result<Option<(Attributes, Location)>> {
    for place in attributes_from_front(blob, len)?.iter().rev() {
        if let Some(found) = place.open(cipher, blob)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Where an attribute frame may be.
struct Place {
    offset: u64,
    len: usize,
}

impl Place {
    /// The attributes there, when the frame is whole.
    fn open(&self, cipher: &BlobCipher, blob: &dyn Blob) -> Result<Option<(Attributes, Location)>> {
        let mut frame = vec![0; self.len];
        if blob.read_at(&mut [IoSliceMut::new(&mut frame)], self.offset)? < frame.len() {
            return Ok(None);
        }
        Ok(open_attributes(cipher, frame, self.offset))
    }
}

/// Hops from head to head; gives the places of the newest [`MAX_STATES`] attribute frames, in order.
fn attributes_from_front(blob: &dyn Blob, len: u64) -> Result<VecDeque<Place>> {
    let mut offset = HEADER_LEN as u64;
    let mut found = VecDeque::new();
    while offset < len {
        let mut bytes = [0; HEAD_LEN];
        if blob.read_at(&mut [IoSliceMut::new(&mut bytes)], offset)? < HEAD_LEN {
            break;
        }
        let Ok(head) = Head::decode(&bytes) else { break };
        let frame_len = head.frame_len();
        if head.kind == FrameKind::Attributes {
            if found.len() == MAX_STATES {
                found.pop_front();
            }
            // At most MAX_META_LEN and what a frame adds.
            found.push_back(Place { offset, len: usize::try_from(frame_len).unwrap_or_default() });
            offset += TRAILER_LEN as u64;
        }
        offset += frame_len;
    }
    Ok(found)
}

/// A failure that says that a blob has no whole attributes.
pub(super) fn no_attributes(blob: &dyn Blob) -> Error {
    Error::new(Kind::Damaged, format!("blob {}: no whole attributes are left in it", blob.id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::KeySource;
    use crate::format::content::{Content, Place};
    use crate::ids::BlobId;
    use crate::store::{DirStore, Store};

    /// The bytes of a fenced block of the format document: an offset, then hexadecimal words.
    fn example(name: &str) -> Vec<u8> {
        let page = include_str!("../../docs/FORMAT.md");
        let block = page.split(&format!("```{name}\n")).nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let digits: String = block.lines().flat_map(|line| line.split_whitespace().skip(1)).collect();
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    }

    fn key_of_the_examples() -> (VolumeKey, VolumeId) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, (0x40..0x60).map(|byte| format!("{byte:02x}")).collect::<String>()).unwrap();
        let block = example("superblock-example");
        // Rows of zeros are left out of the page, so the rows are put where their offsets say.
        let page = include_str!("../../docs/FORMAT.md");
        let rows = page.split("```superblock-example\n").nth(1).and_then(|r| r.split("```").next()).unwrap();
        let mut bytes = vec![0; 4096];
        for (row, words) in rows.lines().zip(block.chunks(16)) {
            let at = usize::from_str_radix(&row[..4], 16).unwrap();
            bytes[at..at + 16].copy_from_slice(words);
        }
        let superblock = crate::format::superblock::Superblock::decode(&bytes).unwrap();
        let (key, _) = superblock.unlock(&[KeySource::key_file(&path).unwrap()]).unwrap();
        (key, superblock.volume())
    }

    /// A blob with the number of the example, and the directory it is gone with.
    fn empty_blob() -> (tempfile::TempDir, std::sync::Arc<dyn Blob>) {
        let dir = tempfile::tempdir().unwrap();
        let blob = DirStore::open(&dir.path().join("blobs")).unwrap().create(BlobId(5)).unwrap();
        (dir, blob)
    }

    #[test]
    fn the_blob_of_the_format_document_is_read_as_it_says() {
        let (key, volume) = key_of_the_examples();
        let keys = Keys { key: &key, suite: Suite::XChaCha20Poly1305, volume };
        let (_dir, blob) = empty_blob();
        let bytes = example("blob-example");
        blob.write_at(&[std::io::IoSlice::new(&bytes)], 0).unwrap();
        let truth = read(keys, &*blob).unwrap().unwrap();
        assert_eq!(truth.torn, 0);
        let attrs = &truth.record.attrs;
        assert_eq!((attrs.ino.0, attrs.seq, attrs.mode, attrs.uid, attrs.gid), (5, 9, 0o640, 1000, 1001));
        assert_eq!((attrs.links[0].name.as_slice(), attrs.links[0].id), (&b"note.txt"[..], 17));
        assert_eq!((attrs.mtime.secs, attrs.mtime.nanos, attrs.used.secs), (1, 2, 3));
        let end = attrs.end.unwrap();
        let cipher = BlobCipher::read(&key, Suite::XChaCha20Poly1305, volume, &*blob).unwrap();
        let (payload, _) = cipher.read_meta(&*blob, end.offset, end.len, end.frame, FrameKind::End).unwrap();
        let content = Content::decode(&payload, end.offset, end.frame).unwrap();
        assert_eq!(content.len, 7);
        assert_eq!(content.digest, attrs.digest);
        assert_eq!(cipher.read_chunk(&*blob, 80, 0, 0).unwrap(), b"wamedia");
    }

    #[test]
    fn a_chunk_that_lies_apart_is_read_as_the_format_document_says() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirStore::open(&dir.path().join("blobs")).unwrap().with_contents();
        let blob = store.create(BlobId(1)).unwrap();
        blob.make_contents().unwrap();
        let salt = std::array::from_fn(|nth| 0xe0 + nth as u8);
        let cipher = BlobCipher::new(&VolumeKey::none(), Suite::Checksum, key_of_the_examples().1, BlobId(1), salt);
        let frame = example("apart-example");
        blob.write_at(&[std::io::IoSlice::new(&frame)], 0x150).unwrap();
        blob.write_contents_at(&[std::io::IoSlice::new(b"wamedia")], 0x30000).unwrap();
        let place = Place::Apart { offset: 0x150, frame: 4 };
        assert_eq!(cipher.read_place(&*blob, place, 3).unwrap(), b"wamedia");
        for (offset, number, chunk) in [(0x150, 4, 2), (0x150, 5, 3), (0x151, 4, 3)] {
            let place = Place::Apart { offset, frame: number };
            assert_eq!(cipher.read_place(&*blob, place, chunk).unwrap_err().kind(), Kind::Damaged);
        }
        assert_eq!(cipher.read_chunk(&*blob, 0x150, 4, 3).unwrap_err().kind(), Kind::Damaged, "no data frame");
        for at in 0..frame.len() as u64 + 7 {
            let mut byte = [0];
            let flip = |byte: [u8; 1]| [byte[0] ^ 0x20];
            if let Some(at) = at.checked_sub(frame.len() as u64) {
                blob.read_contents_at(&mut [IoSliceMut::new(&mut byte)], 0x30000 + at).unwrap();
                blob.write_contents_at(&[std::io::IoSlice::new(&flip(byte))], 0x30000 + at).unwrap();
            } else {
                blob.read_at(&mut [IoSliceMut::new(&mut byte)], 0x150 + at).unwrap();
                blob.write_at(&[std::io::IoSlice::new(&flip(byte))], 0x150 + at).unwrap();
            }
            assert_eq!(cipher.read_place(&*blob, place, 3).unwrap_err().kind(), Kind::Damaged, "byte {at}");
            if let Some(at) = at.checked_sub(frame.len() as u64) {
                blob.write_contents_at(&[std::io::IoSlice::new(&byte)], 0x30000 + at).unwrap();
            } else {
                blob.write_at(&[std::io::IoSlice::new(&byte)], 0x150 + at).unwrap();
            }
        }
        assert_eq!(cipher.read_place(&*blob, place, 3).unwrap(), b"wamedia");
    }

    #[test]
    fn a_blob_whose_header_was_not_written_yet_says_nothing_unless_it_was_committed() {
        let (key, volume) = key_of_the_examples();
        let keys = Keys { key: &key, suite: Suite::XChaCha20Poly1305, volume };
        let (_dir, blob) = empty_blob();
        blob.write_at(&[std::io::IoSlice::new(&[7; 5000])], 90).unwrap();
        assert!(read(keys, &*blob).unwrap().is_none());
        let mut bytes = example("blob-example");
        bytes[..HEADER_LEN].fill(0);
        blob.cut(0).unwrap();
        blob.write_at(&[std::io::IoSlice::new(&bytes)], 0).unwrap();
        assert_eq!(read(keys, &*blob).err().unwrap().kind(), Kind::Damaged);
    }

    #[test]
    fn every_byte_of_a_blob_is_authenticated() {
        let (key, volume) = key_of_the_examples();
        let keys = Keys { key: &key, suite: Suite::XChaCha20Poly1305, volume };
        let (_dir, blob) = empty_blob();
        let bytes = example("blob-example");
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x20;
            blob.write_at(&[std::io::IoSlice::new(&flipped)], 0).unwrap();
            let whole = read(keys, &*blob).ok().flatten().is_some_and(|truth| {
                let attrs = &truth.record.attrs;
                let Ok(cipher) = BlobCipher::read(&key, Suite::XChaCha20Poly1305, volume, &*blob) else { return false };
                let end = attrs.end.unwrap();
                let end = cipher.read_meta(&*blob, end.offset, end.len, end.frame, FrameKind::End);
                end.is_ok() && cipher.read_chunk(&*blob, 80, 0, 0).is_ok()
            });
            // The trailer alone is a hint: without it the frame is found from the front.
            let is_trailer = at >= bytes.len() - TRAILER_LEN;
            assert_eq!(whole, is_trailer, "byte {at}");
        }
    }
}
