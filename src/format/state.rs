//! The state log: small facts kept beside the media, as batches of changes. `docs/FORMAT.md`, "State log".

use super::codec::{Malformed, Reader, Writer};
use crate::ids::VolumeId;

/// First bytes of a state log.
pub const STATE_MAGIC: [u8; 16] = *b"wamstat1\0\0\0\0\0\0\0\0";
/// First bytes of a record.
const RECORD_MAGIC: [u8; 4] = *b"wrec";
/// Records begin at multiples of this, in bytes.
pub const RECORD_ALIGN: u64 = 16;
/// Bytes of a record before its nonce.
pub const RECORD_HEAD_LEN: usize = 8;
/// Bytes of a record beside its content: head, nonce and tag.
pub const RECORD_OVERHEAD: usize = RECORD_HEAD_LEN + 24 + 16;
/// Bytes a batch may have.
pub const MAX_BATCH_LEN: usize = 4 << 20;
/// Bytes a key may have.
pub const MAX_KEY_LEN: usize = 512;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key of a table has this value from now on.
    Put {
        /// The table.
        table: u8,
        /// The key, at most [`MAX_KEY_LEN`] bytes.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// The key of a table has no value from now on.
    Delete {
        /// The table.
        table: u8,
        /// The key.
        key: Vec<u8>,
    },
    /// Everything that the generation before this one held has been written before.
    Whole,
}

/// Where a value lies in the content of its record: `None` for a change without one.
pub type ValuePlace = Option<(u32, u32)>;

/// The bytes of a batch.
///
/// # Errors
/// [`Malformed`] for a key or a batch that is too long.
pub fn encode_batch(changes: &[Change]) -> Result<Vec<u8>, Malformed> {
    let mut w = Writer::new();
    for change in changes {
        match change {
            Change::Put { table, key, value } => {
                w.u8(1).u8(*table).u16(key_len(key)?).bytes(key);
                w.u32(u32::try_from(value.len()).map_err(|_| Malformed("value length"))?).bytes(value);
            }
            Change::Delete { table, key } => {
                w.u8(2).u8(*table).u16(key_len(key)?).bytes(key);
            }
            Change::Whole => {
                w.u8(3);
            }
        }
    }
    let bytes = w.finish();
    if bytes.len() > MAX_BATCH_LEN { Err(Malformed("batch length")) } else { Ok(bytes) }
}

fn key_len(key: &[u8]) -> Result<u16, Malformed> {
    match u16::try_from(key.len()) {
        Ok(len) if key.len() <= MAX_KEY_LEN => Ok(len),
        _ => Err(Malformed("key length")),
    }
}

/// Reads a batch; with each change comes the place of its value in `bytes` (offset, length).
///
/// # Errors
/// [`Malformed`] naming the first field that is wrong.
pub fn decode_batch(bytes: &[u8]) -> Result<Vec<(Change, ValuePlace)>, Malformed> {
    let mut changes = Vec::new();
    let mut r = Reader::new(bytes);
    while !r.is_empty() {
        let kind = r.u8("change kind")?;
        if kind == 3 {
            changes.push((Change::Whole, None));
            continue;
        }
        let table = r.u8("table")?;
        let len = usize::from(r.u16("key length")?);
        if len > MAX_KEY_LEN {
            return Err(Malformed("key length"));
        }
        let key = r.bytes(len, "key")?.to_vec();
        match kind {
            1 => {
                let len = r.u32("value length")?;
                let at = bytes.len() - r.rest().len();
                let value = r.bytes(usize::try_from(len).map_err(|_| Malformed("value length"))?, "value")?.to_vec();
                let at = u32::try_from(at).map_err(|_| Malformed("value"))?;
                changes.push((Change::Put { table, key, value }, Some((at, len))));
            }
            2 => changes.push((Change::Delete { table, key }, None)),
            _ => return Err(Malformed("change kind")),
        }
    }
    Ok(changes)
}

/// The first bytes of a record whose content has `len` bytes.
#[must_use]
pub fn encode_head(len: u32) -> [u8; RECORD_HEAD_LEN] {
    let mut head = [0; RECORD_HEAD_LEN];
    let (magic, rest) = head.split_at_mut(4);
    magic.copy_from_slice(&RECORD_MAGIC);
    rest.copy_from_slice(&len.to_le_bytes());
    head
}

/// The length of the content that a record's first bytes tell; none for bytes that no record begins with.
#[must_use]
pub fn decode_head(head: &[u8]) -> Option<u32> {
    let rest = head.strip_prefix(&RECORD_MAGIC)?;
    let len = u32::from_le_bytes(*rest.first_chunk()?);
    (usize::try_from(len).ok()? <= MAX_BATCH_LEN).then_some(len)
}

/// Bytes of the file that a record with a content of `len` bytes takes.
#[must_use]
pub fn record_len(len: u32) -> u64 {
    (u64::from(len) + RECORD_OVERHEAD as u64).next_multiple_of(RECORD_ALIGN)
}

/// What a record is bound to: the kind of its file, its volume, generation, place and length.
#[must_use]
pub fn associated_data(magic: &[u8; 16], volume: VolumeId, generation: u64, position: u64, len: u32) -> Vec<u8> {
    let mut w = Writer::new();
    w.bytes(magic).bytes(&volume.0).u64(generation).u64(position).u32(len);
    w.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = Change> {
        let key = || proptest::collection::vec(any::<u8>(), 0..20);
        prop_oneof![
            (any::<u8>(), key(), proptest::collection::vec(any::<u8>(), 0..200))
                .prop_map(|(table, key, value)| Change::Put { table, key, value }),
            (any::<u8>(), key()).prop_map(|(table, key)| Change::Delete { table, key }),
            Just(Change::Whole),
        ]
    }

    proptest! {
        #[test]
        fn a_batch_is_read_as_it_was_written(changes in proptest::collection::vec(change(), 0..10)) {
            let bytes = encode_batch(&changes).unwrap();
            let read = decode_batch(&bytes).unwrap();
            prop_assert_eq!(read.iter().map(|(change, _)| change.clone()).collect::<Vec<_>>(), changes.clone());
            for (change, place) in read {
                if let (Change::Put { value, .. }, Some((at, len))) = (change, place) {
                    prop_assert_eq!(&bytes[at as usize..][..len as usize], &value);
                }
            }
            for cut in 0..bytes.len() {
                if let Ok(read) = decode_batch(&bytes[..cut]) {
                    prop_assert!(read.len() < changes.len(), "a cut batch has lost changes");
                }
            }
        }

        #[test]
        fn other_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _any = decode_batch(&bytes);
            let _any = decode_head(&bytes);
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let put = |key: usize, value: usize| Change::Put { table: 0, key: vec![0; key], value: vec![0; value] };
        assert_eq!(encode_batch(&[put(MAX_KEY_LEN + 1, 0)]), Err(Malformed("key length")));
        assert_eq!(encode_batch(&[put(1, MAX_BATCH_LEN)]), Err(Malformed("batch length")));
        assert_eq!(decode_head(&encode_head(7)), Some(7));
        assert_eq!(decode_head(&encode_head(u32::MAX)), None);
        assert_eq!(record_len(0) % RECORD_ALIGN, 0);
    }
}
