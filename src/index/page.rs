//! The bytes of a page: a run of neighbouring records of one table, sealed together as one value of the store below.
//!
//! ```text
//! page   = format (1) | len(low) | low | record*
//! record = shared | rest | len(value) | key[shared..] (rest bytes) | value
//! ```
//!
//! Lengths are LEB128 numbers. `shared` says how many bytes a key has in common with the key before it (the first
//! record's with `low`). `low` is the smallest key the page may hold; the page's name says where it ends (exclusive).
//! So a page that is missing shows: its neighbours no longer touch.

use crate::error::{Error, Kind, Result};

/// The first byte of every page.
const FORMAT: u8 = 1;

/// One record: key without its table byte, value.
pub(super) type Record = (Vec<u8>, Vec<u8>);

/// Appends `number` as LEB128.
pub(super) fn push_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a LEB128 number off the front of `rest`.
pub(super) fn take_number(rest: &mut &[u8]) -> Option<usize> {
    let mut number = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        let bits = usize::from(byte & 0x7f);
        if bits.leading_zeros() < shift {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Takes `len` bytes off the front of `rest`.
fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

/// How many bytes `a` and `b` have in common at their front.
fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// How many bytes a LEB128 number takes.
fn number_len(number: usize) -> usize {
    (usize::BITS - number.leading_zeros()).max(1).div_ceil(7) as usize
}

/// How many bytes a record takes after a record with the key `before`.
pub(super) fn record_len(before: &[u8], (key, value): &Record) -> usize {
    let shared = shared_len(before, key);
    let rest = key.len() - shared;
    number_len(shared) + number_len(rest) + number_len(value.len()) + rest + value.len()
}

/// Writes a page of `records`, which ascend and are not below `low`.
pub(super) fn encode(low: &[u8], records: &[Record]) -> Vec<u8> {
    let mut out = vec![FORMAT];
    push_number(&mut out, low.len());
    out.extend_from_slice(low);
    let mut before = low;
    for (key, value) in records {
        let shared = shared_len(before, key);
        let rest = key.get(shared..).unwrap_or_default();
        push_number(&mut out, shared);
        push_number(&mut out, rest.len());
        push_number(&mut out, value.len());
        out.extend_from_slice(rest);
        out.extend_from_slice(value);
        before = key;
    }
    out
}

/// The error for bytes that are no page.
fn damaged() -> Error {
    Error::new(Kind::Damaged, "a page of the index does not have the form of one")
}

/// Reads the records of a page in order.
pub(super) struct Reader<'a> {
    low: &'a [u8],
    rest: &'a [u8],
    key: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// Starts to read `page`.
    ///
    /// # Errors
    /// `Damaged` when it does not start like a page.
    pub(super) fn new(page: &'a [u8]) -> Result<Reader<'a>> {
        let mut rest = page;
        if take(&mut rest, 1) != Some(&[FORMAT]) {
            return Err(damaged());
        }
        let low = take_number(&mut rest).and_then(|len| take(&mut rest, len)).ok_or_else(damaged)?;
        Ok(Reader { low, rest, key: low.to_vec() })
    }

    /// The smallest key the page may hold.
    pub(super) fn low(&self) -> &'a [u8] {
        self.low
    }

    /// Moves to the next record and returns its value; its key is then in [`Reader::key`].
    ///
    /// # Errors
    /// `Damaged` when the bytes are no record.
    pub(super) fn next(&mut self) -> Result<Option<&'a [u8]>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.step().map(Some).ok_or_else(damaged)
    }

    /// The key of the record that [`Reader::next`] moved to.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    fn step(&mut self) -> Option<&'a [u8]> {
        let shared = take_number(&mut self.rest)?;
        let key_rest = take_number(&mut self.rest)?;
        let value_len = take_number(&mut self.rest)?;
        if shared > self.key.len() {
            return None;
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(take(&mut self.rest, key_rest)?);
        take(&mut self.rest, value_len)
    }
}

/// Reads bytes as a page; how many records it has, for who tries arbitrary ones.
#[doc(hidden)]
#[must_use]
pub fn decode_page(bytes: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(bytes).ok()?;
    let mut count = 0;
    while reader.next().ok()?.is_some() {
        count += 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    fn read(page: &[u8]) -> Result<(Vec<u8>, Vec<Record>)> {
        let mut reader = Reader::new(page)?;
        let mut records = Vec::new();
        while let Some(value) = reader.next()? {
            records.push((reader.key().to_vec(), value.to_vec()));
        }
        Ok((reader.low().to_vec(), records))
    }

    proptest! {
        #[test]
        fn a_page_reads_back_as_it_was_written(map in btree_map(vec(0_u8..4, 0..40), vec(any::<u8>(), 0..300), 0..30)) {
            let records: Vec<Record> = map.into_iter().collect();
            let low = records.first().map(|(key, _)| key[..key.len() / 2].to_vec()).unwrap_or_default();
            let page = encode(&low, &records);
            let mut len = 2 + low.len();
            let mut before = &low;
            for record in &records {
                len += record_len(before, record);
                before = &record.0;
            }
            prop_assert_eq!(page.len(), len);
            let (read_low, read_records) = read(&page).unwrap();
            prop_assert_eq!(read_low, low);
            prop_assert_eq!(read_records, records);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let mut page = vec![FORMAT];
            page.extend_from_slice(&bytes);
            let _ = read(&page);
        }

        #[test]
        fn numbers_read_back(number in any::<usize>()) {
            let mut out = Vec::new();
            push_number(&mut out, number);
            prop_assert_eq!(out.len(), number_len(number));
            let mut rest = out.as_slice();
            prop_assert_eq!(take_number(&mut rest), Some(number));
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_cut_page_is_damaged() {
        let page = encode(b"a", &[(b"ab".to_vec(), b"value".to_vec())]);
        for cut in 0..page.len() {
            if cut == 3 {
                continue; // exactly the page without its record
            }
            assert_eq!(read(&page[..cut]).unwrap_err().kind(), Kind::Damaged, "cut at {cut}");
        }
    }

    #[test]
    fn a_number_that_never_ends_or_overflows_is_refused() {
        assert_eq!(take_number(&mut [0x80_u8; 20].as_slice()), None);
        assert_eq!(take_number(&mut [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f].as_slice()), None);
    }
}
