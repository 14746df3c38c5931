//! The keys of the index: names become pseudonyms, values are sealed, records carry a code.

use super::mac::MacKey;
use super::{BlobKey, NONCE_BYTES, TAG_BYTES, nonce};

/// Three keys in one: for pseudonyms, for sealed values, for codes. Wiped on drop; may be shared between threads.
///
/// In a volume without a cipher all of them work alike, but the keys are public and values lie in plain.
pub struct IndexKey {
    pseudonyms: MacKey,
    values: BlobKey,
    records: MacKey,
}

impl IndexKey {
    pub(super) fn new(pseudonyms: MacKey, values: BlobKey, records: MacKey) -> IndexKey {
        IndexKey { pseudonyms, values, records }
    }

    /// A pseudonym for `parts`: the same parts in the same domain give the same 16 bytes, which tell nothing of them.
    ///
    /// HMAC-SHA-256, cut to 16 bytes. `["ab", "c"]` and `["a", "bc"]` are different parts.
    #[must_use]
    pub fn prf(&self, domain: u8, parts: &[&[u8]]) -> [u8; 16] {
        self.pseudonyms.short_code(domain, parts)
    }

    /// Seals the value that stands under `key`: random nonce, ciphertext, tag; 40 bytes longer than `plain`.
    #[must_use]
    pub fn seal(&self, key: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce = nonce();
        let mut sealed = Vec::with_capacity(NONCE_BYTES + plain.len() + TAG_BYTES);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let (_, content) = sealed.split_at_mut(NONCE_BYTES);
        let tag = self.values.seal(&nonce, key, content);
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// Opens what [`IndexKey::seal`] made for the same `key`; anything else, or a value moved to another key, is `None`.
    #[must_use]
    pub fn open(&self, key: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let (content, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
        let mut plain = content.to_vec();
        self.values.open(nonce, key, &mut plain, tag).ok()?;
        Some(plain)
    }

    /// A code over `parts`, under a key of its own. To check one, make it again and compare.
    #[must_use]
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 16] {
        self.records.short_code(0, parts)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Suite, VolumeKey};
    use crate::ids::VolumeId;

    #[test]
    fn a_sealed_value_opens_under_its_own_key_only() {
        for (suite, volume_key) in
            [(Suite::XChaCha20Poly1305, VolumeKey::generate()), (Suite::Checksum, VolumeKey::none())]
        {
            let index = volume_key.index_key(suite, VolumeId([1; 16]));
            let sealed = index.seal(b"inode 7", b"attributes");
            assert_eq!(sealed.len(), 40 + 10);
            assert_eq!(index.open(b"inode 7", &sealed).unwrap(), b"attributes");
            assert!(index.open(b"inode 8", &sealed).is_none());
            for i in 0..sealed.len() {
                let mut flipped = sealed.clone();
                flipped[i] ^= 0x10;
                assert!(index.open(b"inode 7", &flipped).is_none());
                assert!(index.open(b"inode 7", &sealed[..i]).is_none());
            }
        }
    }

    #[test]
    fn two_seals_of_one_value_differ() {
        let index = VolumeKey::generate().index_key(Suite::XChaCha20Poly1305, VolumeId([1; 16]));
        assert_ne!(index.seal(b"k", b"value"), index.seal(b"k", b"value"));
    }

    #[test]
    fn pseudonyms_and_codes_depend_on_the_volume_and_differ_from_each_other() {
        let key = VolumeKey::generate();
        let one = key.index_key(Suite::XChaCha20Poly1305, VolumeId([1; 16]));
        let two = key.index_key(Suite::XChaCha20Poly1305, VolumeId([2; 16]));
        assert_eq!(one.prf(0, &[b"name"]), one.prf(0, &[b"name"]));
        assert_ne!(one.prf(0, &[b"name"]), two.prf(0, &[b"name"]));
        assert_ne!(one.prf(0, &[b"name"]), one.prf(1, &[b"name"]));
        assert_ne!(one.prf(0, &[b"name"]), one.mac(&[b"name"]));
    }

    #[test]
    fn the_public_key_of_a_plain_volume_gives_lasting_pseudonyms() {
        let one = VolumeKey::none().index_key(Suite::Checksum, VolumeId([1; 16]));
        let again = VolumeKey::none().index_key(Suite::Checksum, VolumeId([1; 16]));
        assert_eq!(one.prf(3, &[b"name"]), again.prf(3, &[b"name"]));
        assert_eq!(again.open(b"k", &one.seal(b"k", b"v")).unwrap(), b"v");
    }
}
