//! Reading and writing of little-endian fields with every bound checked.

use std::fmt;

use crate::ids::NUMBER_END;

/// Bytes that are not of the format; the text names the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not of the format: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Takes fields off the front of a byte slice.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Takes `count` bytes.
    ///
    /// # Errors
    /// [`Malformed`] naming `what` when fewer are left; the same for all that follow.
    pub fn bytes(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed(what))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes an array.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        self.bytes(N, what)?.try_into().map_err(|_| Malformed(what))
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    /// Takes a 16-bit number.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    /// Takes a 32-bit number.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// Takes a 64-bit number.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Takes a 64-bit number below [`NUMBER_END`].
    ///
    /// # Errors
    /// As [`Reader::bytes`], and when it is not below that.
    pub fn number(&mut self, what: &'static str) -> Result<u64, Malformed> {
        Some(self.u64(what)?).filter(|number| *number < NUMBER_END).ok_or(Malformed(what))
    }

    /// Takes a signed 64-bit number.
    ///
    /// # Errors
    /// As [`Reader::bytes`].
    pub fn i64(&mut self, what: &'static str) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.array(what)?))
    }

    /// Takes a number of variable length: seven bits a byte, the lowest first, as long as the highest bit is set (LEB128).
    ///
    /// # Errors
    /// As [`Reader::bytes`], and when it does not fit 64 bits.
    pub fn var(&mut self, what: &'static str) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Malformed(what));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed(what))
    }

    /// Takes `count` bytes that must all be zero.
    ///
    /// # Errors
    /// As [`Reader::bytes`], and when one of them is not zero.
    pub fn zeros(&mut self, count: usize, what: &'static str) -> Result<(), Malformed> {
        if self.bytes(count, what)?.iter().all(|b| *b == 0) { Ok(()) } else { Err(Malformed(what)) }
    }

    /// Whether everything has been taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been taken.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Puts fields behind one another.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty one.
    #[must_use]
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Puts bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Puts one byte.
    pub fn u8(&mut self, value: u8) -> &mut Writer {
        self.bytes(&[value])
    }

    /// Puts a 16-bit number.
    pub fn u16(&mut self, value: u16) -> &mut Writer {
        self.bytes(&value.to_le_bytes())
    }

    /// Puts a 32-bit number.
    pub fn u32(&mut self, value: u32) -> &mut Writer {
        self.bytes(&value.to_le_bytes())
    }

    /// Puts a 64-bit number.
    pub fn u64(&mut self, value: u64) -> &mut Writer {
        self.bytes(&value.to_le_bytes())
    }

    /// Puts a signed 64-bit number.
    pub fn i64(&mut self, value: i64) -> &mut Writer {
        self.bytes(&value.to_le_bytes())
    }

    /// Puts a number of variable length, as [`Reader::var`] takes it.
    pub fn var(&mut self, mut value: u64) -> &mut Writer {
        while value >= 0x80 {
            // The lower seven bits.
            self.u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.u8((value & 0x7f) as u8)
    }

    /// What was put.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}
