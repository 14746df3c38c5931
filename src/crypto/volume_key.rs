//! The key all others derive from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::mac::MacKey;
use super::memory::KeyPage;
use super::{BlobKey, IndexKey, Suite};
use crate::clock;
use crate::ids::{BlobId, VolumeId};

/// The 32 random bytes above all other keys of a volume.
///
/// No `Debug`, no `Clone`. Lies in a page of its own, locked in memory where the kernel allows it, and is wiped on drop.
pub struct VolumeKey {
    page: KeyPage,
    /// Counts what the keys derived from this one did not open.
    forged: Arc<AtomicU64>,
}

impl VolumeKey {
    /// Makes a new random key.
    ///
    /// # Panics
    /// When the kernel has no randomness to give.
    #[must_use]
    pub fn generate() -> VolumeKey {
        let mut page = KeyPage::zeroed();
        clock::random_bytes(page.bytes_mut());
        VolumeKey::of(page)
    }

    /// The key of every volume without a cipher: 32 zero bytes, known to all. It hides nothing and proves nothing.
    #[must_use]
    pub fn none() -> VolumeKey {
        VolumeKey::of(KeyPage::zeroed())
    }

    fn of(page: KeyPage) -> VolumeKey {
        VolumeKey { page, forged: Arc::default() }
    }

    /// How often a key derived from this one was given bytes that it had not sealed.
    #[must_use]
    pub fn forged(&self) -> u64 {
        self.forged.load(Ordering::Relaxed)
    }

    /// Whether this is the public key of [`VolumeKey::none`].
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.page.bytes().iter().fold(0, |all, byte| all | byte) == 0
    }

    /// The key for the frames of one blob. `salt` is the random one in the blob's header.
    ///
    /// # Panics
    /// When a cipher is asked for and this is the public key: the mistake of a program, which would encrypt for all to read.
    #[must_use]
    pub fn blob_key(&self, suite: Suite, volume: VolumeId, blob: BlobId, salt: &[u8; 24]) -> BlobKey {
        let blob = blob.0.to_le_bytes();
        let key = self.derive(suite, Some(salt), &[b"wamedia v1 blob", &[suite.as_u8()], &volume.0, &blob]);
        BlobKey::new(suite, key).counted(&self.forged)
    }

    /// The key for one other purpose, which `label` names: "policy", for one. No two purposes share a label.
    ///
    /// # Panics
    /// As [`VolumeKey::blob_key`].
    #[must_use]
    pub fn sub_key(&self, suite: Suite, volume: VolumeId, label: &'static str) -> BlobKey {
        BlobKey::new(suite, self.sub_bytes(suite, volume, label)).counted(&self.forged)
    }

    /// The keys of the index: its labels are "index-prf", "index-seal" and "index-mac".
    ///
    /// # Panics
    /// As [`VolumeKey::blob_key`].
    #[must_use]
    pub fn index_key(&self, suite: Suite, volume: VolumeId) -> IndexKey {
        IndexKey::new(
            self.mac_key(suite, volume, "index-prf"),
            self.sub_key(suite, volume, "index-seal"),
            self.mac_key(suite, volume, "index-mac"),
        )
    }

    pub(super) fn mac_key(&self, suite: Suite, volume: VolumeId, label: &'static str) -> MacKey {
        MacKey::new(self.sub_bytes(suite, volume, label))
    }

    pub(super) fn sub_bytes(&self, suite: Suite, volume: VolumeId, label: &'static str) -> Zeroizing<[u8; 32]> {
        self.derive(suite, None, &[b"wamedia v1 sub", &[suite.as_u8()], &volume.0, label.as_bytes()])
    }

    fn derive(&self, suite: Suite, salt: Option<&[u8]>, context: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        assert!(suite == Suite::Checksum || !self.is_public(), "the public key cannot serve a cipher");
        hkdf_sha256(self.page.bytes(), salt, context)
    }

    /// The bytes to wrap in a key slot.
    pub(super) fn expose(&self) -> &[u8; 32] {
        self.page.bytes()
    }

    /// Unwraps into a page that is locked already: `unwrap` gets the wrapped bytes there and opens them in place.
    pub(super) fn unwrapped<E>(
        wrapped: &[u8; 32],
        unwrap: impl FnOnce(&mut [u8; 32]) -> Result<(), E>,
    ) -> Result<VolumeKey, E> {
        let mut page = KeyPage::zeroed();
        page.bytes_mut().copy_from_slice(wrapped);
        unwrap(page.bytes_mut())?;
        Ok(VolumeKey::of(page))
    }
}

/// HKDF-SHA-256 (RFC 5869) to 32 bytes; the context's pieces are joined as they are.
pub(super) fn hkdf_sha256(secret: &[u8], salt: Option<&[u8]>, context: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    match Hkdf::<Sha256>::new(salt, secret).expand_multi_info(context, &mut *key) {
        Ok(()) => key,
        Err(_) => unreachable!("HKDF-SHA-256 gives 32 bytes for every input"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIPHER: Suite = Suite::XChaCha20Poly1305;
    const VOLUME: VolumeId = VolumeId([1; 16]);

    /// Two keys are the same when one opens what the other sealed.
    fn same(a: &BlobKey, b: &BlobKey) -> bool {
        let mut buf = *b"probe";
        let tag = a.seal(&[0; 24], b"", &mut buf);
        b.open(&[0; 24], b"", &mut buf, &tag).is_ok()
    }

    #[test]
    fn every_purpose_volume_blob_and_salt_has_its_own_key() {
        for (suite, key) in [(CIPHER, VolumeKey::generate()), (Suite::Checksum, VolumeKey::none())] {
            let make = || {
                vec![
                    key.blob_key(suite, VOLUME, BlobId(1), &[0; 24]),
                    key.blob_key(suite, VOLUME, BlobId(2), &[0; 24]),
                    key.blob_key(suite, VOLUME, BlobId(1), &[1; 24]),
                    key.blob_key(suite, VolumeId([2; 16]), BlobId(1), &[0; 24]),
                    key.sub_key(suite, VOLUME, "policy"),
                    key.sub_key(suite, VOLUME, "superblock"),
                    key.sub_key(suite, VOLUME, ""),
                    key.sub_key(suite, VolumeId([2; 16]), "policy"),
                ]
            };
            for (i, a) in make().iter().enumerate() {
                for (j, b) in make().iter().enumerate() {
                    assert_eq!(same(a, b), i == j, "{suite:?}: key {i} and key {j}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_open_is_counted() {
        let key = VolumeKey::generate();
        let policy = key.sub_key(CIPHER, VOLUME, "policy");
        let mut buf = *b"probe";
        let tag = policy.seal(&[0; 24], b"", &mut buf);
        assert!(key.blob_key(CIPHER, VOLUME, BlobId(1), &[0; 24]).open(&[0; 24], b"", &mut buf.clone(), &tag).is_err());
        assert!(policy.open(&[0; 24], b"x", &mut buf.clone(), &tag).is_err());
        policy.open(&[0; 24], b"", &mut buf, &tag).unwrap();
        assert_eq!(key.forged(), 2);
    }

    #[test]
    fn two_volume_keys_give_different_keys() {
        let (one, two) = (VolumeKey::generate(), VolumeKey::generate());
        assert!(!same(&one.sub_key(CIPHER, VOLUME, "policy"), &two.sub_key(CIPHER, VOLUME, "policy")));
    }

    #[test]
    #[should_panic(expected = "public key")]
    fn the_public_key_never_serves_a_cipher() {
        let _ = VolumeKey::none().sub_key(CIPHER, VOLUME, "policy");
    }

    #[test]
    fn hkdf_gives_the_known_answer_of_rfc_5869() {
        // RFC 5869, A.1, cut to the 32 bytes made here.
        let secret = [0x0b; 22];
        let salt: [u8; 13] = std::array::from_fn(|i| i as u8);
        let context: [u8; 10] = std::array::from_fn(|i| 0xf0 + i as u8);
        let key = hkdf_sha256(&secret, Some(&salt), &[&context[..3], &context[3..]]);
        assert_eq!(key[..8], [0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a]);
        assert_eq!(key[24..], [0x5d, 0xb0, 0x2d, 0x56, 0xec, 0xc4, 0xc5, 0xbf]);
    }
}
