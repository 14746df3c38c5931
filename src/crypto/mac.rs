//! HMAC-SHA-256 under a key that is wiped.

use hkdf::hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Length of a full authentication code in bytes.
pub(super) const MAC_BYTES: usize = 32;

/// A key of HMAC-SHA-256.
pub(super) struct MacKey(Zeroizing<[u8; 32]>);

impl MacKey {
    /// Takes over a derived key.
    pub fn new(key: Zeroizing<[u8; 32]>) -> MacKey {
        MacKey(key)
    }

    /// The code of a byte string.
    pub fn code(&self, bytes: &[u8]) -> [u8; MAC_BYTES] {
        self.start().chain_update(bytes).finalize().into_bytes().into()
    }

    /// Whether `code` is the code of `bytes`, compared in constant time.
    pub fn fits(&self, bytes: &[u8], code: &[u8; MAC_BYTES]) -> bool {
        self.start().chain_update(bytes).verify_slice(code).is_ok()
    }

    /// The first 16 bytes of the code of a domain and a list of parts.
    ///
    /// Each part goes in behind its length (u64), so that no two lists give the same input.
    pub fn short_code(&self, domain: u8, parts: &[&[u8]]) -> [u8; 16] {
        let mut mac = self.start().chain_update([domain]);
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        let full: [u8; MAC_BYTES] = mac.finalize().into_bytes().into();
        let mut short = [0; 16];
        short.copy_from_slice(full.split_at(16).0);
        short
    }

    fn start(&self) -> Hmac<Sha256> {
        match Hmac::new_from_slice(&*self.0) {
            Ok(mac) => mac,
            Err(_) => unreachable!("HMAC takes keys of every length"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_that_of_rfc_4231_case_1_padded() {
        // A key of RFC 4231 is 20 bytes; HMAC pads with zeros, so a 32-byte key with 12 zeros gives the same code.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let code = MacKey::new(Zeroizing::new(key)).code(b"Hi There");
        assert_eq!(code[..8], [0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53]);
        assert_eq!(code[24..], [0x26, 0xe9, 0x37, 0x6c, 0x2e, 0x32, 0xcf, 0xf7]);
    }

    #[test]
    fn lists_of_parts_are_told_apart() {
        let key = MacKey::new(Zeroizing::new([1; 32]));
        let codes = [
            key.short_code(0, &[]),
            key.short_code(1, &[]),
            key.short_code(0, &[b""]),
            key.short_code(0, &[b"", b""]),
            key.short_code(0, &[b"ab", b"c"]),
            key.short_code(0, &[b"a", b"bc"]),
            key.short_code(0, &[b"abc"]),
        ];
        for (i, a) in codes.iter().enumerate() {
            for b in &codes[..i] {
                assert_ne!(a, b);
            }
        }
    }
}
