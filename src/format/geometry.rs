//! All arithmetic of offsets: byte ranges to chunks, chunks to places in a blob.

use super::frame::CHUNK_LEN;

/// The longest file, in bytes: 2^46, so that no arithmetic on offsets can overflow.
pub const MAX_FILE_LEN: u64 = 1 << 46;

const CHUNK: u64 = CHUNK_LEN as u64;

/// The part of a byte range that lies in one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The chunk.
    pub chunk: u64,
    /// Where in the chunk the part starts.
    pub skip: usize,
    /// How long it is; never 0.
    pub len: usize,
}

/// Cuts `len` bytes from `offset` on into spans, in ascending order.
///
/// The caller has bounded `offset + len` by [`MAX_FILE_LEN`].
pub fn spans(offset: u64, len: u64) -> impl Iterator<Item = Span> {
    let end = offset.saturating_add(len);
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let chunk = at / CHUNK;
        let skip = at % CHUNK;
        let take = (CHUNK - skip).min(end - at);
        at += take;
        // Both are at most CHUNK_LEN, which fits every usize.
        Some(Span { chunk, skip: skip as usize, len: take as usize })
    })
}

/// How many chunks a file of `len` bytes has.
#[must_use]
pub fn chunk_count(len: u64) -> u64 {
    len.div_ceil(CHUNK)
}

/// Bytes of plaintext in chunk `chunk` of a file of `len` bytes; 0 past its end.
#[must_use]
pub fn chunk_len(len: u64, chunk: u64) -> usize {
    let start = chunk.saturating_mul(CHUNK);
    len.saturating_sub(start).min(CHUNK) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn spans_tile_the_range_and_none_crosses_a_chunk(offset in 0..MAX_FILE_LEN / 2, len in 0u64..1 << 21) {
            let mut at = offset;
            for span in spans(offset, len) {
                prop_assert!(span.len > 0 && span.skip + span.len <= CHUNK_LEN);
                prop_assert_eq!(span.chunk * CHUNK + span.skip as u64, at);
                at += span.len as u64;
            }
            prop_assert_eq!(at, offset + len);
        }

        #[test]
        fn chunk_lengths_add_up_to_the_file(len in 0u64..1 << 24) {
            let total: u64 = (0..chunk_count(len)).map(|c| chunk_len(len, c) as u64).sum();
            prop_assert_eq!(total, len);
            prop_assert_eq!(chunk_len(len, chunk_count(len)), 0);
        }
    }
}
