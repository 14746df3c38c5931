//! A view of a medium that is read page by page, within a budget, and remembers the reader's own failures.

use std::io::{self, BufRead, ErrorKind, Read, Seek, SeekFrom};

/// What is fetched at a time, at multiples of itself.
const PAGE_BYTES: u64 = 64 * 1024;

/// What one examination may fetch in all. No medium within its kind's limit comes near it; one made to send the
/// parsers back and forth ends here.
const BUDGET_BYTES: u64 = 64 * 1024 * 1024;

/// A buffered, bounded reader of `len` bytes.
pub(super) struct Window<R> {
    reader: R,
    len: u64,
    position: u64,
    page: Vec<u8>,
    page_at: Option<u64>,
    budget: u64,
    failure: Option<io::Error>,
}

impl<R: Read + Seek> Window<R> {
    /// A view of the first `len` bytes of `reader`, from its beginning.
    pub fn new(reader: R, len: u64) -> Window<R> {
        Window { reader, len, position: 0, page: Vec::new(), page_at: None, budget: BUDGET_BYTES, failure: None }
    }

    /// How many bytes the medium has.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The bytes from `at` on, `count` of them or fewer where the medium ends; the position is behind them then.
    pub fn bytes_at(&mut self, at: u64, count: usize) -> io::Result<Vec<u8>> {
        self.position = at;
        let mut bytes = Vec::new();
        self.by_ref().take(count as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Exactly `N` bytes from `at` on; a medium that ends before them is `UnexpectedEof`.
    pub fn array_at<const N: usize>(&mut self, at: u64) -> io::Result<[u8; N]> {
        self.position = at;
        let mut array = [0; N];
        self.read_exact(&mut array)?;
        Ok(array)
    }

    /// The first failure of the reader itself, if it had one.
    pub fn into_failure(self) -> Option<io::Error> {
        self.failure
    }

    fn fetch(&mut self, page_at: u64) -> io::Result<()> {
        let wanted = PAGE_BYTES.min(self.len.saturating_sub(page_at));
        self.budget = self
            .budget
            .checked_sub(wanted)
            .ok_or_else(|| io::Error::other("too much had to be read to examine a medium"))?;
        self.page.clear();
        self.page_at = None;
        let fetched = self.reader.seek(SeekFrom::Start(page_at)).and_then(|_| {
            // `read_to_end` would grow the page past its size to probe for the end.
            self.page.reserve_exact(usize::try_from(wanted).unwrap_or(0));
            self.reader.by_ref().take(wanted).read_to_end(&mut self.page)
        });
        match fetched {
            Ok(_) => {
                self.page_at = Some(page_at);
                Ok(())
            }
            Err(error) => {
                let kind = error.kind();
                self.failure.get_or_insert(error);
                Err(kind.into())
            }
        }
    }
}

impl<R: Read + Seek> BufRead for Window<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position >= self.len {
            return Ok(&[]);
        }
        let within = self.position % PAGE_BYTES;
        let page_at = self.position - within;
        if self.page_at != Some(page_at) {
            self.fetch(page_at)?;
        }
        let within = usize::try_from(within).unwrap_or(usize::MAX);
        Ok(self.page.get(within..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.position = self.position.saturating_add(count as u64);
    }
}

impl<R: Read + Seek> Read for Window<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let count = available.read(buf)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R> Seek for Window<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = target.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::hostile_tests::Padded;
    use std::io::Cursor;

    #[test]
    fn pages_are_joined_and_the_end_is_the_given_one() {
        let bytes: Vec<u8> = (0..200_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut window = Window::new(Cursor::new(&bytes), 150_000);
        assert_eq!(window.bytes_at(65_530, 70_000).unwrap(), bytes[65_530..135_530]);
        assert_eq!(window.bytes_at(149_999, 10).unwrap(), bytes[149_999..150_000]);
        assert_eq!(window.seek(SeekFrom::End(-2)).unwrap(), 149_998);
        assert_eq!(window.read(&mut [0; 8]).unwrap(), 2);
        assert_eq!(window.seek(SeekFrom::Start(u64::MAX)).unwrap(), u64::MAX);
        assert_eq!(window.read(&mut [0; 8]).unwrap(), 0);
        assert!(window.seek(SeekFrom::Current(1)).is_err());
        assert!(window.into_failure().is_none());
    }

    #[test]
    fn a_reader_shorter_than_promised_just_ends() {
        let mut window = Window::new(Cursor::new([7; 10]), 1000);
        assert_eq!(window.bytes_at(4, 100).unwrap(), [7; 6]);
        assert!(window.array_at::<4>(8).is_err());
        assert!(window.into_failure().is_none());
    }

    #[test]
    fn the_budget_ends_reading_without_blaming_the_reader() {
        let mut window = Window::new(Padded::new(b""), u64::MAX);
        let mut at = 0;
        while window.array_at::<1>(at).is_ok() {
            at += PAGE_BYTES;
        }
        assert_eq!(at, BUDGET_BYTES);
        assert!(window.into_failure().is_none());
    }
}
