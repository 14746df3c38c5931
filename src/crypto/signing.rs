//! Signatures that whoever has the public key can check: Ed25519 (RFC 8032).

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::{Suite, VolumeKey};
use crate::ids::VolumeId;

/// Length of a public key in bytes.
pub const PUBLIC_KEY_BYTES: usize = 32;
/// Length of a signature in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// A key that signs, derived from the volume key for one purpose. Make it for one signature and drop it: its inner form is
/// not wiped.
pub struct SigningKey(Ed25519KeyPair);

impl VolumeKey {
    /// The signing key for one purpose, which `label` names. No two purposes share a label.
    ///
    /// # Panics
    /// As [`VolumeKey::blob_key`].
    #[must_use]
    pub fn signing_key(&self, suite: Suite, volume: VolumeId, label: &'static str) -> SigningKey {
        let seed = self.sub_bytes(suite, volume, label);
        match Ed25519KeyPair::from_seed_unchecked(&*seed) {
            Ok(pair) => SigningKey(pair),
            Err(_) => unreachable!("every 32 bytes are the seed of an Ed25519 key"),
        }
    }
}

impl SigningKey {
    /// What others check its signatures with.
    #[must_use]
    pub fn public_key(&self) -> [u8; PUBLIC_KEY_BYTES] {
        let mut key = [0; PUBLIC_KEY_BYTES];
        key.copy_from_slice(self.0.public_key().as_ref());
        key
    }

    /// Signs a message. The same message gets the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }
}

/// Whether the holder of the key behind `public_key` has signed this message.
#[must_use]
pub fn is_signed(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public_key).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIPHER: Suite = Suite::XChaCha20Poly1305;

    #[test]
    fn a_signature_fits_its_message_and_its_volume_alone() {
        let key = VolumeKey::generate();
        let one = key.signing_key(CIPHER, VolumeId([1; 16]), "erasure");
        let two = key.signing_key(CIPHER, VolumeId([2; 16]), "erasure");
        let signature = one.sign(b"gone");
        assert!(is_signed(&one.public_key(), b"gone", &signature));
        assert!(!is_signed(&one.public_key(), b"gonf", &signature));
        assert!(!is_signed(&two.public_key(), b"gone", &signature));
        assert!(!is_signed(&one.public_key()[..31], b"gone", &signature));
        for bit in 0..SIGNATURE_BYTES * 8 {
            let mut flipped = signature;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_signed(&one.public_key(), b"gone", &flipped), "bit {bit}");
        }
    }

    #[test]
    fn the_same_volume_key_signs_with_the_same_key() {
        let key = VolumeKey::generate();
        let make = || key.signing_key(CIPHER, VolumeId([1; 16]), "erasure").public_key();
        assert_eq!(make(), make());
    }
}
