//! SHA-256 of what passes by.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use super::tree::{Sink, Source};
use crate::error::{Error, Kind, Result};

/// Bytes copied at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// Takes content that is only read for its digest.
pub struct Nowhere;

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Nowhere {
    fn leave_hole(&mut self, _bytes: u64) -> Result<()> {
        Ok(())
    }
}

/// Copies all of `from` to `to`, holes as holes; the bytes and their digest.
///
/// # Errors
/// `Io` or `NoSpace`, or what the writer says.
pub fn pass(from: &mut dyn Source, to: &mut dyn Sink, moved: &mut dyn FnMut(u64)) -> Result<(u64, Digest)> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut hash = Sha256::new();
    let mut total = 0_u64;
    loop {
        let hole = from.skip_hole()?;
        if hole > 0 {
            buffer.fill(0);
            add_zeros(&mut hash, hole, &buffer);
            to.leave_hole(hole)?;
            total = total.saturating_add(hole);
            moved(hole);
        }
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok((total, hash.finalize().into())),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(told(error, "cannot read")),
        };
        let bytes = buffer.get(..count).ok_or_else(|| Error::new(Kind::Io, "a read gave more than was asked"))?;
        hash.update(bytes);
        to.write_all(bytes).map_err(|error| told(error, "cannot write"))?;
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        total = total.saturating_add(count);
        moved(count);
    }
}

/// Adds as many zeros as a hole has bytes: two files with the same bytes have the same digest, wherever their holes are.
fn add_zeros(hash: &mut Sha256, count: u64, zeros: &[u8]) {
    let mut left = count;
    while left > 0 {
        let part = zeros.get(..usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len())).unwrap_or(zeros);
        hash.update(part);
        left = left.saturating_sub(u64::try_from(part.len()).unwrap_or(left));
    }
}

/// An error of ours that came through `std::io` keeps its kind.
fn told(error: std::io::Error, what: &str) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) => Error::io(what, error),
    }
}
