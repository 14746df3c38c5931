//! Media ids that need no table: an inode number and a code over it, folded into a UUID of version 8 (RFC 9562).
//!
//! `code = PRF(ino)`, 62 bits; `low = ino XOR PRF(code)`, 60 bits. Whoever has the key turns the id back into the inode;
//! to everybody else it is random.

use uuid::Uuid;

use crate::crypto::IndexKey;
use crate::ids::{Ino, MediaId};

const CODE: u8 = 4;
const PAD: u8 = 5;
const LOW_BITS: u64 = (1 << 60) - 1;
const CODE_BITS: u64 = (1 << 62) - 1;

fn prf(key: &IndexKey, domain: u8, value: u64) -> u64 {
    let code = key.prf(domain, &[&value.to_le_bytes()]);
    code.iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b))
}

/// The id of an inode.
pub(super) fn of(key: &IndexKey, ino: Ino) -> MediaId {
    let code = prf(key, CODE, ino.0) & CODE_BITS;
    let low = (ino.0 ^ prf(key, PAD, code)) & LOW_BITS;
    let high = (low >> 12) << 16 | 0x8000 | (low & 0xFFF);
    MediaId(Uuid::from_u64_pair(high, 1 << 63 | code))
}

/// The inode an id was made for, when it was made here.
pub(super) fn ino_of(key: &IndexKey, id: &MediaId) -> Option<Ino> {
    let (high, rest) = id.0.as_u64_pair();
    if high & 0xF000 != 0x8000 || rest >> 62 != 0b10 {
        return None;
    }
    let code = rest & CODE_BITS;
    let low = (high >> 16) << 12 | (high & 0xFFF);
    let ino = Ino((low ^ prf(key, PAD, code)) & LOW_BITS);
    (prf(key, CODE, ino.0) & CODE_BITS == code).then_some(ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Suite, VolumeKey};
    use crate::ids::VolumeId;

    #[test]
    fn an_id_leads_back_to_its_inode_under_its_key_only() {
        let key = VolumeKey::generate().index_key(Suite::XChaCha20Poly1305, VolumeId([1; 16]));
        let other = VolumeKey::generate().index_key(Suite::XChaCha20Poly1305, VolumeId([1; 16]));
        for n in [1, 2, 77, 1 << 40, LOW_BITS] {
            let id = of(&key, Ino(n));
            assert_eq!(id.0.get_version_num(), 8);
            assert_eq!(ino_of(&key, &id), Some(Ino(n)));
            assert_eq!(ino_of(&other, &id), None);
        }
        assert_eq!(ino_of(&key, &MediaId(Uuid::new_v4())), None);
    }
}
