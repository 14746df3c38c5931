//! The key that seals and opens frames.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{Key, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use xxhash_rust::xxh3::Xxh3;
use zeroize::Zeroizing;

use super::{NONCE_BYTES, Suite, TAG_BYTES};
use crate::error::{Error, Kind};

/// The tag does not fit: key, nonce, associated data, content or tag is not what was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forged;

impl fmt::Display for Forged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the authentication tag does not fit")
    }
}

impl std::error::Error for Forged {}

impl From<Forged> for Error {
    fn from(forged: Forged) -> Error {
        Error::new(Kind::Damaged, forged.to_string()).with_source(forged)
    }
}

/// A derived key for the frames of one blob, or for one other purpose. Wiped on drop; may be shared between threads.
pub struct BlobKey {
    sealer: Sealer,
    /// Counts what did not open.
    forged: Option<Arc<AtomicU64>>,
}

enum Sealer {
    /// The cipher wipes its key itself. Boxed, so that moving a `BlobKey` leaves no copies of the key behind.
    Aead(Box<XChaCha20Poly1305>),
    /// The derived key goes into the checksum, so that frames of another blob are found misplaced.
    Checksum(Zeroizing<[u8; 32]>),
}

impl BlobKey {
    /// The key of `suite` with these bytes.
    pub(super) fn new(suite: Suite, key: Zeroizing<[u8; 32]>) -> BlobKey {
        let sealer = match suite {
            Suite::XChaCha20Poly1305 => Sealer::Aead(Box::new(XChaCha20Poly1305::new(<&Key>::from(&*key)))),
            Suite::Checksum => Sealer::Checksum(key),
        };
        BlobKey { sealer, forged: None }
    }

    /// The same, counting what does not open.
    pub(super) fn counted(mut self, forged: &Arc<AtomicU64>) -> BlobKey {
        self.forged = Some(Arc::clone(forged));
        self
    }

    /// Encrypts `buf` in place, binds it to `aad` and gives the tag.
    ///
    /// The nonce must never come twice under one key: draw it with [`super::nonce`]. With [`Suite::Checksum`] `buf`
    /// stays as it is.
    ///
    /// # Panics
    /// When `buf` is longer than the cipher allows (256 GiB); frames are bounded far below.
    #[must_use]
    pub fn seal(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], buf: &mut [u8]) -> [u8; TAG_BYTES] {
        let len = buf.len();
        match &self.sealer {
            Sealer::Aead(cipher) => match cipher.encrypt_inout_detached(<&XNonce>::from(nonce), aad, buf.into()) {
                Ok(tag) => tag.into(),
                Err(e) => panic!("a buffer of {len} bytes is beyond the cipher's limit: {e}"),
            },
            Sealer::Checksum(key) => checksum(key, nonce, aad, buf),
        }
    }

    /// Verifies the tag (in constant time) and decrypts `buf` in place. On failure the content of `buf` is unspecified.
    ///
    /// # Errors
    /// [`Forged`] when nonce, associated data, content or tag differ in any bit from what was sealed.
    pub fn open(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        buf: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), Forged> {
        let is_true = match &self.sealer {
            Sealer::Aead(cipher) => {
                cipher.decrypt_inout_detached(<&XNonce>::from(nonce), aad, buf.into(), <&Tag>::from(tag)).is_ok()
            }
            Sealer::Checksum(key) => checksum(key, nonce, aad, buf) == *tag,
        };
        if !is_true && let Some(forged) = &self.forged {
            forged.fetch_add(1, Ordering::Relaxed);
        }
        if is_true { Ok(()) } else { Err(Forged) }
    }
}

/// XXH3-128 (seed 0, little-endian) of key, nonce, length of the associated data (u64), associated data, content.
fn checksum(key: &[u8; 32], nonce: &[u8; NONCE_BYTES], aad: &[u8], buf: &[u8]) -> [u8; TAG_BYTES] {
    let mut hash = Xxh3::new();
    hash.update(key);
    hash.update(nonce);
    hash.update(&(aad.len() as u64).to_le_bytes());
    hash.update(aad);
    hash.update(buf);
    hash.digest128().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITES: [Suite; 2] = [Suite::XChaCha20Poly1305, Suite::Checksum];

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    fn key(suite: Suite, byte: u8) -> BlobKey {
        BlobKey::new(suite, Zeroizing::new([byte; 32]))
    }

    #[test]
    fn xchacha_gives_the_known_answer_of_the_draft() {
        // draft-irtf-cfrg-xchacha-03, A.3.1
        let secret: [u8; 32] = std::array::from_fn(|i| 0x80 + i as u8);
        let nonce: [u8; 24] = std::array::from_fn(|i| 0x40 + i as u8);
        let aad = hex("50515253c0c1c2c3c4c5c6c7");
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let sealed = hex(concat!(
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb",
            "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452",
            "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9",
            "21f9664c97637da9768812f615c68b13b52e",
        ));
        let key = BlobKey::new(Suite::XChaCha20Poly1305, Zeroizing::new(secret));
        let mut buf = plain.to_vec();
        let tag = key.seal(&nonce, &aad, &mut buf);
        assert_eq!(buf, sealed);
        assert_eq!(tag.to_vec(), hex("c0875924c1c7987947deafd8780acf49"));
        key.open(&nonce, &aad, &mut buf, &tag).unwrap();
        assert_eq!(buf, plain);
    }

    #[test]
    fn what_was_sealed_opens_at_every_length() {
        for suite in SUITES {
            let key = key(suite, 3);
            for len in [0, 1, 15, 16, 63, 64, 65, 240, 241, 1023, 65_536] {
                let plain: Vec<u8> = (0..len).map(|i| i as u8).collect();
                let mut buf = plain.clone();
                let tag = key.seal(&[9; 24], b"place", &mut buf);
                assert_eq!(buf == plain, suite == Suite::Checksum || len == 0);
                key.open(&[9; 24], b"place", &mut buf, &tag).unwrap();
                assert_eq!(buf, plain);
            }
        }
    }

    #[test]
    fn any_flipped_bit_of_nonce_aad_content_or_tag_is_found() {
        for suite in SUITES {
            let key = key(suite, 3);
            let (nonce, aad) = ([9; 24], *b"volume, blob, frame");
            let mut sealed = *b"forty bytes of a chunk, give or take one";
            let tag = key.seal(&nonce, &aad, &mut sealed);
            let mut whole = [&nonce[..], &aad, &sealed, &tag].concat();
            for bit in 0..whole.len() * 8 {
                whole[bit / 8] ^= 1 << (bit % 8);
                let (n, rest) = whole.split_first_chunk::<24>().unwrap();
                let (a, rest) = rest.split_at(aad.len());
                let (c, t) = rest.split_last_chunk::<16>().unwrap();
                assert_eq!(key.open(n, a, &mut c.to_vec(), t), Err(Forged), "{suite:?}, bit {bit}");
                whole[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn another_key_or_a_moved_border_between_aad_and_content_is_found() {
        for suite in SUITES {
            let mut buf = *b"content";
            let tag = key(suite, 3).seal(&[9; 24], b"aad", &mut buf);
            assert_eq!(key(suite, 4).open(&[9; 24], b"aad", &mut { buf }, &tag), Err(Forged));
            let shifted = [&b"aad"[..], &buf[..1]].concat();
            assert_eq!(key(suite, 3).open(&[9; 24], &shifted, &mut { buf }[1..], &tag), Err(Forged));
        }
    }

    #[test]
    fn zeros_are_never_a_sealed_frame() {
        for suite in SUITES {
            for len in [0, 16, 4096] {
                let mut zeros = vec![0; len];
                assert_eq!(key(suite, 0).open(&[0; 24], b"", &mut zeros, &[0; 16]), Err(Forged));
            }
        }
    }

    #[test]
    fn a_blob_key_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<BlobKey>();
    }
}
