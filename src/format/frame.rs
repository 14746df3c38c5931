//! Header and frames of a blob: `docs/FORMAT.md`, "Blob".

use super::codec::{Malformed, Reader, Writer};
use crate::ids::{BlobId, VolumeId};

/// The version every blob of this build says.
pub const BLOB_VERSION: u16 = 1;
/// First bytes of a blob.
pub const BLOB_MAGIC: [u8; 8] = *b"wamblob1";
/// Bytes of plaintext in a chunk, but for the last of a file.
pub const CHUNK_LEN: usize = 65536;
/// Binary logarithm of [`CHUNK_LEN`], as the header says it.
pub const CHUNK_LOG2: u8 = 16;
/// Bytes of a blob header.
pub const HEADER_LEN: usize = 80;
/// Bytes of the header that its tag covers.
pub const HEADER_BODY_LEN: usize = HEADER_LEN - TAG_LEN;
/// Bytes before the payload of a frame.
pub const HEAD_LEN: usize = 48;
/// Bytes of the head that are bound as associated data; the nonce follows them.
pub const HEAD_BOUND_LEN: usize = 24;
/// Bytes of a nonce.
pub const NONCE_LEN: usize = 24;
/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;
/// What a frame adds to its payload.
pub const FRAME_OVERHEAD: usize = HEAD_LEN + TAG_LEN;
/// Bytes from one full data frame to the next.
pub const STRIDE: u64 = (CHUNK_LEN + FRAME_OVERHEAD) as u64;
/// Bytes from one frame to the next where chunks lie apart: such a frame is a head and a tag.
pub const APART_STRIDE: u64 = FRAME_OVERHEAD as u64;
/// The largest payload of an attribute or end frame.
pub const MAX_META_LEN: usize = 4 << 20;
/// Bytes behind every attribute frame that tell where it starts.
pub const TRAILER_LEN: usize = 16;
const TRAILER_MAGIC: [u8; 8] = *b"wamtrail";
/// Bytes of associated data.
pub const AAD_LEN: usize = 16 + 8 + 8 + 2 + 1 + 1 + HEAD_BOUND_LEN;

const _: () = assert!(CHUNK_LEN == 1 << CHUNK_LOG2);
const _: () = assert!(HEAD_BOUND_LEN + NONCE_LEN == HEAD_LEN);
const _: () = assert!(HEADER_BODY_LEN == 8 + 2 + 1 + 1 + 4 + 16 + 8 + 24);

/// The start of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Cipher suite, as `crypto::Suite` numbers them.
    pub suite: u8,
    /// The volume it belongs to.
    pub volume: VolumeId,
    /// Its number.
    pub blob: BlobId,
    /// Random bytes its key is derived with.
    pub salt: [u8; 24],
}

impl Header {
    /// The bytes before the tag.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BODY_LEN] {
        let mut w = Writer::new();
        w.bytes(&BLOB_MAGIC).u16(BLOB_VERSION).u8(self.suite).u8(CHUNK_LOG2).u32(0);
        w.bytes(&self.volume.0).u64(self.blob.0).bytes(&self.salt);
        let mut out = [0; HEADER_BODY_LEN];
        out.copy_from_slice(&w.finish());
        out
    }

    /// Reads the bytes before the tag; the tag is for the caller to check.
    ///
    /// # Errors
    /// [`Malformed`] naming the first field that is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Header, Malformed> {
        let mut r = Reader::new(bytes);
        if r.array::<8>("blob magic")? != BLOB_MAGIC {
            return Err(Malformed("blob magic"));
        }
        if r.u16("blob version")? != BLOB_VERSION {
            return Err(Malformed("blob version"));
        }
        let suite = r.u8("cipher suite")?;
        if r.u8("chunk size")? != CHUNK_LOG2 {
            return Err(Malformed("chunk size"));
        }
        r.zeros(4, "reserved bytes of the blob header")?;
        let volume = VolumeId(r.array("volume id")?);
        let blob = BlobId(r.number("blob id")?);
        let salt = r.array("salt")?;
        Ok(Header { suite, volume, blob, salt })
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A chunk of plaintext.
    Data,
    /// Attributes of the inode.
    Attributes,
    /// The end mark: length, digest and the place of each chunk.
    End,
    /// A chunk of plaintext that lies apart: its payload is not in the blob, but at its place in the contents file.
    Apart,
}

impl FrameKind {
    fn code(self) -> u8 {
        match self {
            FrameKind::Data => 1,
            FrameKind::Attributes => 2,
            FrameKind::End => 3,
            FrameKind::Apart => 4,
        }
    }

    /// Whether it is of a chunk.
    fn is_chunk(self) -> bool {
        matches!(self, FrameKind::Data | FrameKind::Apart)
    }

    fn from_code(code: u8) -> Option<FrameKind> {
        let all = [FrameKind::Data, FrameKind::Attributes, FrameKind::End, FrameKind::Apart];
        all.into_iter().find(|k| k.code() == code)
    }
}

/// The clear start of a frame; all of it but the nonce is bound into the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the frame holds.
    pub kind: FrameKind,
    /// Bytes of payload, wherever they lie.
    pub len: u32,
    /// Position in the order of writing, from 0.
    pub number: u64,
    /// Chunk number for a data frame, else 0.
    pub chunk: u64,
    /// Random; never used twice under a blob's key.
    pub nonce: [u8; NONCE_LEN],
}

impl Head {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEAD_LEN] {
        let mut out = [0; HEAD_LEN];
        let (bound, nonce) = out.split_at_mut(HEAD_BOUND_LEN);
        bound.copy_from_slice(&self.bound());
        nonce.copy_from_slice(&self.nonce);
        out
    }

    fn bound(&self) -> [u8; HEAD_BOUND_LEN] {
        let mut w = Writer::new();
        w.u8(self.kind.code()).u8(0).u16(0).u32(self.len).u64(self.number).u64(self.chunk);
        let mut out = [0; HEAD_BOUND_LEN];
        out.copy_from_slice(&w.finish());
        out
    }

    /// Reads a head and bounds its length.
    ///
    /// # Errors
    /// [`Malformed`] naming the first field that is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Head, Malformed> {
        let mut r = Reader::new(bytes);
        let kind = FrameKind::from_code(r.u8("frame kind")?).ok_or(Malformed("frame kind"))?;
        r.zeros(3, "reserved bytes of the frame head")?;
        let len = r.u32("frame length")?;
        let most = if kind.is_chunk() { CHUNK_LEN } else { MAX_META_LEN };
        if len == 0 || len as usize > most {
            return Err(Malformed("frame length"));
        }
        let number = r.number("frame number")?;
        let chunk = r.u64("chunk number")?;
        if !kind.is_chunk() && chunk != 0 {
            return Err(Malformed("chunk number"));
        }
        let nonce = r.array("nonce")?;
        Ok(Head { kind, len, number, chunk, nonce })
    }

    /// Bytes of the whole frame in the blob.
    #[must_use]
    pub fn frame_len(&self) -> u64 {
        let payload = if self.kind == FrameKind::Apart { 0 } else { u64::from(self.len) };
        payload + FRAME_OVERHEAD as u64
    }

    /// What the tag binds the payload to: volume, blob, offset in it, version, suite, chunk size, and this head.
    #[must_use]
    pub fn aad(&self, suite: u8, volume: VolumeId, blob: BlobId, offset: u64) -> [u8; AAD_LEN] {
        let mut out = [0; AAD_LEN];
        let (place, head) = out.split_at_mut(AAD_LEN - HEAD_BOUND_LEN);
        let mut w = Writer::new();
        w.bytes(&volume.0).u64(blob.0).u64(offset).u16(BLOB_VERSION).u8(suite).u8(CHUNK_LOG2);
        place.copy_from_slice(&w.finish());
        head.copy_from_slice(&self.bound());
        out
    }
}

/// The bytes behind an attribute frame with `len` bytes of payload: so that the newest is found from the end of a blob.
/// They are a hint only; the frame itself is authenticated.
#[must_use]
pub fn encode_trailer(len: u32) -> [u8; TRAILER_LEN] {
    let mut out = [0; TRAILER_LEN];
    let mut w = Writer::new();
    w.bytes(&TRAILER_MAGIC).u32(len).u32(0);
    out.copy_from_slice(&w.finish());
    out
}

/// Reads a trailer: bytes of payload of the attribute frame before it.
///
/// # Errors
/// [`Malformed`] when it is none.
pub fn decode_trailer(bytes: &[u8]) -> Result<u32, Malformed> {
    let mut r = Reader::new(bytes);
    if r.array::<8>("trailer magic")? != TRAILER_MAGIC {
        return Err(Malformed("trailer magic"));
    }
    let len = r.u32("trailer length")?;
    r.zeros(4, "reserved bytes of the trailer")?;
    if len == 0 || len as usize > MAX_META_LEN { Err(Malformed("trailer length")) } else { Ok(len) }
}
