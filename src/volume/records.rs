//! Sealed records of an append-only file, each bound to its volume, file and place.

use crate::crypto::{BlobKey, NONCE_BYTES, TAG_BYTES, nonce};
use crate::format::state::{RECORD_ALIGN, RECORD_HEAD_LEN, RECORD_OVERHEAD, associated_data, decode_head, encode_head};
use crate::ids::VolumeId;

/// In which file a record is.
pub(super) struct Place<'a> {
    /// The first bytes of files of its kind.
    pub magic: &'a [u8; 16],
    /// The volume.
    pub volume: VolumeId,
    /// The number of the file.
    pub generation: u64,
}

/// The bytes of a record at `position`, with what follows it up to where the next may begin.
pub(super) fn seal(key: &BlobKey, place: &Place<'_>, position: u64, content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let mut record = Vec::with_capacity(content.len() + RECORD_OVERHEAD + RECORD_ALIGN as usize);
    let nonce = nonce();
    record.extend_from_slice(&encode_head(len));
    record.extend_from_slice(&nonce);
    let begin = record.len();
    record.extend_from_slice(content);
    let bound = associated_data(place.magic, place.volume, place.generation, position, len);
    let tag = key.seal(&nonce, &bound, record.get_mut(begin..).unwrap_or_default());
    record.extend_from_slice(&tag);
    record.resize(record.len().next_multiple_of(RECORD_ALIGN as usize), 0);
    record
}

/// The content of the record that `bytes` begin with at `position`; none when there is no authentic one.
pub(super) fn open(key: &BlobKey, place: &Place<'_>, position: u64, bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, rest) = bytes.split_at_checked(RECORD_HEAD_LEN)?;
    let len = decode_head(head)?;
    let sealed = rest.get(..(len as usize).checked_add(NONCE_BYTES + TAG_BYTES)?)?;
    open_sealed(key, place, position, len, sealed)
}

/// The content of a record of `len` bytes, from what stands behind its head.
pub(super) fn open_sealed(key: &BlobKey, place: &Place<'_>, position: u64, len: u32, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let (content, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
    let mut content = content.to_vec();
    let bound = associated_data(place.magic, place.volume, place.generation, position, len);
    key.open(nonce, &bound, &mut content, tag).ok().map(|()| content)
}
