//! Places in a listing, as text.

use crate::error::{Error, Kind, Result};

/// Writes a cursor as hex.
#[must_use]
pub fn cursor_text(cursor: &[u8]) -> String {
    let mut text = String::with_capacity(cursor.len() * 2);
    for byte in cursor {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
    text
}

/// Reads a cursor from hex.
///
/// # Errors
/// [`Kind::Invalid`] when it is not hex.
pub fn cursor_bytes(text: &str) -> Result<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => {
            Ok(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
        }
        _ => Err(Error::new(Kind::Invalid, "the cursor is not one that a listing gave")),
    }
}
