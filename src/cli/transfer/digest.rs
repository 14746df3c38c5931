//! SHA-256 of what passes by.

use std::io::{Read, Write};

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Kind, Result};

/// Bytes copied at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// Copies all of `from` to `to`; the bytes and their digest.
///
/// # Errors
/// `Io` or `NoSpace`, or what the writer says.
pub fn pass(from: &mut dyn Read, to: &mut dyn Write, moved: &mut dyn FnMut(u64)) -> Result<(u64, Digest)> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut hash = Sha256::new();
    let mut total = 0_u64;
    loop {
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

/// An error of ours that came through `std::io` keeps its kind.
fn told(error: std::io::Error, what: &str) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) => Error::io(what, error),
    }
}
