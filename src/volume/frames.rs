//! Sealing frames into, and opening them from, one blob.

use std::io::IoSliceMut;

use crate::crypto::{BlobKey, Suite, VolumeKey, nonce};
use crate::error::{Error, Kind, Result};
use crate::format::frame::{
    CHUNK_LEN, FRAME_OVERHEAD, FrameKind, HEAD_LEN, HEADER_BODY_LEN, HEADER_LEN, Head, Header, TAG_LEN,
};
use crate::ids::{BlobId, VolumeId};
use crate::store::Blob;

/// The key of one blob together with what its frames are bound to.
pub(super) struct BlobCipher {
    /// The blob.
    pub blob: BlobId,
    /// The salt its key was derived with.
    pub salt: [u8; 24],
    suite: Suite,
    volume: VolumeId,
    key: BlobKey,
}

/// A sealed frame and the first bytes of its tag.
pub(super) struct SealedFrame {
    /// The whole frame.
    pub bytes: Vec<u8>,
    /// First bytes of the tag.
    pub tag: [u8; 8],
}

fn head_of_tag(tag: &[u8; TAG_LEN]) -> [u8; 8] {
    let mut head = [0; 8];
    head.copy_from_slice(&tag[..8]);
    head
}

impl BlobCipher {
    /// The cipher of blob `blob`.
    pub fn new(key: &VolumeKey, suite: Suite, volume: VolumeId, blob: BlobId, salt: [u8; 24]) -> BlobCipher {
        BlobCipher { blob, salt, suite, volume, key: key.blob_key(suite, volume, blob, &salt) }
    }

    /// The header of the blob, with its tag. The nonce is zero: it is used once under this key, for this alone.
    pub fn header(&self) -> Vec<u8> {
        let header = Header { suite: self.suite as u8, volume: self.volume, blob: self.blob, salt: self.salt };
        let mut bytes = header.encode().to_vec();
        let tag = self.key.seal(&[0; 24], &bytes, &mut []);
        bytes.extend_from_slice(&tag);
        bytes
    }

    /// Reads the header of `blob` and derives its cipher.
    pub fn read(key: &VolumeKey, suite: Suite, volume: VolumeId, blob: &dyn Blob) -> Result<BlobCipher> {
        let mut bytes = [0; HEADER_LEN];
        let damaged = |why: String| Error::new(Kind::Damaged, format!("blob {}: {why}", blob.id()));
        if blob.read_at(&mut [IoSliceMut::new(&mut bytes)], 0)? < HEADER_LEN {
            return Err(damaged("shorter than its header".into()));
        }
        let (body, tag) = bytes.split_at(HEADER_BODY_LEN);
        let header = Header::decode(body).map_err(|e| damaged(e.to_string()))?;
        if header.volume != volume || header.blob != blob.id() || header.suite != suite as u8 {
            return Err(damaged("its header is another blob's".into()));
        }
        let cipher = BlobCipher::new(key, suite, volume, header.blob, header.salt);
        let mut tag_bytes = [0; TAG_LEN];
        tag_bytes.copy_from_slice(tag);
        cipher.key.open(&[0; 24], body, &mut [], &tag_bytes).map_err(|_| damaged("its header is forged".into()))?;
        Ok(cipher)
    }

    /// Seals a payload that is no chunk, to stand at `offset`.
    pub fn seal_meta(&self, kind: FrameKind, offset: u64, number: u64, payload: &[u8]) -> SealedFrame {
        let mut bytes = vec![0; HEAD_LEN];
        bytes.reserve_exact(payload.len() + TAG_LEN);
        bytes.extend_from_slice(payload);
        let tag = self.seal(kind, offset, number, 0, &mut bytes);
        SealedFrame { bytes, tag }
    }

    /// Seals `frame` in place, to stand at `offset`: room for a head, then the payload; the tag is put behind.
    pub fn seal(&self, kind: FrameKind, offset: u64, number: u64, chunk: u64, frame: &mut Vec<u8>) -> [u8; 8] {
        let (space, payload) = frame.split_at_mut(HEAD_LEN);
        let (head, tag) = self.seal_payload(kind, offset, number, chunk, payload);
        space.copy_from_slice(&head.encode());
        frame.extend_from_slice(&tag);
        head_of_tag(&tag)
    }

    /// Seals a payload in place; gives the head and the tag of its frame, which is to stand at `offset`.
    pub fn seal_payload(
        &self,
        kind: FrameKind,
        offset: u64,
        number: u64,
        chunk: u64,
        payload: &mut [u8],
    ) -> (Head, [u8; TAG_LEN]) {
        // Payloads are bounded by MAX_META_LEN.
        let head = Head { kind, len: u32::try_from(payload.len()).unwrap_or(u32::MAX), number, chunk, nonce: nonce() };
        let aad = head.aad(self.suite as u8, self.volume, self.blob, offset);
        let tag = self.key.seal(&head.nonce, &aad, payload);
        (head, tag)
    }

    /// The suite of the volume.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Opens a frame that stands at `offset` in place; `payload` becomes plaintext.
    pub fn open(&self, offset: u64, head: &Head, payload: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<()> {
        let aad = head.aad(self.suite as u8, self.volume, self.blob, offset);
        self.key.open(&head.nonce, &aad, payload, tag).map_err(|_| self.damaged(head.number, "is not what was written"))
    }

    /// A failure that names the blob and the frame.
    pub fn damaged(&self, frame: u64, what: &str) -> Error {
        Error::new(Kind::Damaged, format!("blob {}, frame {frame}: {what}", self.blob))
    }

    /// Reads and opens the meta frame at `offset`, of `len` bytes of payload; gives its payload and tag.
    pub fn read_meta(
        &self,
        blob: &dyn Blob,
        offset: u64,
        len: u32,
        number: u64,
        kind: FrameKind,
    ) -> Result<(Vec<u8>, [u8; 8])> {
        let mut bytes = vec![0; len as usize + FRAME_OVERHEAD];
        if blob.read_at(&mut [IoSliceMut::new(&mut bytes)], offset)? < bytes.len() {
            return Err(self.damaged(number, "is cut off"));
        }
        self.open_meta(bytes, offset, number, kind)
    }

    /// Opens a meta frame that was read whole from `offset`.
    pub fn open_meta(
        &self,
        mut bytes: Vec<u8>,
        offset: u64,
        number: u64,
        kind: FrameKind,
    ) -> Result<(Vec<u8>, [u8; 8])> {
        let (head, rest) = bytes.split_at_mut_checked(HEAD_LEN).ok_or_else(|| self.damaged(number, "is cut off"))?;
        let head = Head::decode(head).map_err(|e| self.damaged(number, &e.to_string()))?;
        if head.kind != kind || head.number != number || head.len as usize + TAG_LEN != rest.len() {
            return Err(self.damaged(number, "is another frame"));
        }
        let (payload, tag) = rest.split_at_mut(head.len as usize);
        let mut tag_bytes = [0; TAG_LEN];
        tag_bytes.copy_from_slice(tag);
        self.open(offset, &head, payload, &tag_bytes)?;
        let payload_end = HEAD_LEN + head.len as usize;
        bytes.truncate(payload_end);
        bytes.drain(..HEAD_LEN);
        Ok((bytes, head_of_tag(&tag_bytes)))
    }

    /// Reads the chunk whose frame starts at `offset` and is number `number`; its plaintext, at most a chunk long.
    pub fn read_chunk(&self, blob: &dyn Blob, offset: u64, number: u64, chunk: u64) -> Result<Vec<u8>> {
        let (mut head, mut bytes) = ([0; HEAD_LEN], vec![0; CHUNK_LEN + TAG_LEN]);
        let got = blob.read_at(&mut [IoSliceMut::new(&mut head), IoSliceMut::new(&mut bytes)], offset)?;
        bytes.truncate(got.saturating_sub(HEAD_LEN));
        let head = Head::decode(head.get(..got.min(HEAD_LEN)).unwrap_or_default());
        let head = head.map_err(|e| self.damaged(number, &e.to_string()))?;
        self.expect_chunk(&head, number, chunk)?;
        let len = head.len as usize;
        let (payload, rest) = bytes.split_at_mut_checked(len).ok_or_else(|| self.damaged(number, "is cut off"))?;
        let tag = rest.first_chunk::<TAG_LEN>().ok_or_else(|| self.damaged(number, "is cut off"))?;
        self.open(offset, &head, payload, tag)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    /// Refuses a head that is not that of chunk `chunk` in frame `number`.
    pub fn expect_chunk(&self, head: &Head, number: u64, chunk: u64) -> Result<()> {
        if head.kind == FrameKind::Data {
            self.expect_of(head, number, chunk)
        } else {
            Err(self.damaged(number, "is another frame"))
        }
    }

    /// Refuses a head of another frame or chunk.
    pub fn expect_of(&self, head: &Head, number: u64, chunk: u64) -> Result<()> {
        if head.number == number && head.chunk == chunk {
            Ok(())
        } else {
            Err(self.damaged(number, "is another frame"))
        }
    }
}
