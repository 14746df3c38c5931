//! The head: one record that says what all pages together must be, changed in the same batch as they are.
//!
//! It holds the sum of a digest of every page. After a crash the pages are summed up again: if sled lost, mixed or
//! brought back any of them, the sums differ. The digest finds accidents; against people stands the seal of each page.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

/// The format of the head, the pages and their names. A new one makes older indexes unusable, so they are rebuilt.
const FORMAT: u8 = 1;

/// How many bytes a head takes.
const LEN: usize = 1 + 16 + 8 + 8 + 8;

/// What one page adds to the head.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    digest: u128,
    bytes: u64,
}

impl Mark {
    /// The mark of a sealed page.
    pub(super) fn of(name: &[u8], sealed: &[u8]) -> Mark {
        Mark { digest: xxh3_128_with_seed(sealed, xxh3_64(name)), bytes: (name.len() + sealed.len()) as u64 }
    }
}

/// All pages together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    sum: u128,
    /// How many pages there are.
    pub(super) pages: u64,
    /// The bytes of their names and sealed contents.
    pub(super) bytes: u64,
    /// How many batches made them.
    pub(super) batches: u64,
}

impl Head {
    /// Counts a page in.
    pub(super) fn add(&mut self, mark: Mark) {
        self.sum = self.sum.wrapping_add(mark.digest);
        self.pages = self.pages.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(mark.bytes);
    }

    /// Counts a page out.
    pub(super) fn remove(&mut self, mark: Mark) {
        self.sum = self.sum.wrapping_sub(mark.digest);
        self.pages = self.pages.wrapping_sub(1);
        self.bytes = self.bytes.wrapping_sub(mark.bytes);
    }

    /// Whether `other` is of the same pages, whatever the number of batches.
    pub(super) fn same_pages(&self, other: &Head) -> bool {
        Head { batches: self.batches, ..*other } == *self
    }

    /// A text that names this state; two states have the same with negligible probability.
    pub(super) fn fingerprint(&self) -> String {
        format!("{FORMAT} {:032x} {} {} {}\n", self.sum, self.pages, self.bytes, self.batches)
    }

    /// The head as a record.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEN);
        out.push(FORMAT);
        out.extend_from_slice(&self.sum.to_be_bytes());
        out.extend_from_slice(&self.pages.to_be_bytes());
        out.extend_from_slice(&self.bytes.to_be_bytes());
        out.extend_from_slice(&self.batches.to_be_bytes());
        out
    }

    /// Reads a head; `None` when it is of another format.
    pub(super) fn decode(record: &[u8]) -> Option<Head> {
        let (format, rest) = record.split_first()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let (pages, rest) = rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_first_chunk()?;
        let batches = rest.try_into().ok()?;
        (*format == FORMAT).then_some(Head {
            sum: u128::from_be_bytes(*sum),
            pages: u64::from_be_bytes(*pages),
            bytes: u64::from_be_bytes(*bytes),
            batches: u64::from_be_bytes(batches),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_does_not_depend_on_the_order() {
        let marks = [Mark::of(b"a", b"1"), Mark::of(b"b", b"2"), Mark::of(b"c", b"3")];
        let (mut up, mut down) = (Head::default(), Head::default());
        marks.iter().for_each(|mark| up.add(*mark));
        marks.iter().rev().for_each(|mark| down.add(*mark));
        assert_eq!(up, down);
        marks.iter().for_each(|mark| up.remove(*mark));
        assert_eq!(up, Head::default());
    }

    #[test]
    fn two_pages_that_changed_places_do_not_sum_up() {
        let (mut right, mut wrong) = (Head::default(), Head::default());
        right.add(Mark::of(b"a", b"1"));
        right.add(Mark::of(b"b", b"2"));
        wrong.add(Mark::of(b"a", b"2"));
        wrong.add(Mark::of(b"b", b"1"));
        assert_ne!(right, wrong);
    }

    #[test]
    fn a_head_reads_back_and_another_format_does_not() {
        let mut head = Head::default();
        head.add(Mark::of(b"a", b"1"));
        let mut record = head.encode();
        assert_eq!(Head::decode(&record), Some(head));
        assert_eq!(Head::decode(&record[..LEN - 1]), None);
        record[0] += 1;
        assert_eq!(Head::decode(&record), None);
        assert_eq!(Head::decode(b""), None);
    }
}
