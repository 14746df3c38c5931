//! Key-encryption keys: what a passphrase or a key is stretched into to wrap the volume key.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::{Zeroize, Zeroizing};

use super::volume_key::hkdf_sha256;
use super::{BlobKey, KeySource, SlotKind, Suite};
use crate::error::{Error, Kind, Result};
use crate::ids::VolumeId;

/// What one try of a passphrase costs: the parameters of Argon2id, version 0x13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdfCost {
    /// Memory in KiB: at least `8 * p`, at most [`KdfCost::MAX_M_KIB`].
    pub m_kib: u32,
    /// Passes over the memory: 1 to [`KdfCost::MAX_T`].
    pub t: u32,
    /// Lanes: 1 to [`KdfCost::MAX_P`]. They are computed one after the other.
    pub p: u32,
}

impl KdfCost {
    /// What a new passphrase gets: 64 MiB, three passes, one lane; about 0.2 s on one core (RFC 9106, section 4).
    pub const DEFAULT: KdfCost = KdfCost { m_kib: 64 * 1024, t: 3, p: 1 };
    /// The cost of a slot that needs no stretching.
    pub const NONE: KdfCost = KdfCost { m_kib: 0, t: 0, p: 0 };
    /// Most memory a slot may ask for: 1 GiB.
    pub const MAX_M_KIB: u32 = 1024 * 1024;
    /// Most passes.
    pub const MAX_T: u32 = 64;
    /// Most lanes.
    pub const MAX_P: u32 = 16;

    /// Whether the parameters are within the bounds above.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        (1..=KdfCost::MAX_P).contains(&self.p)
            && (1..=KdfCost::MAX_T).contains(&self.t)
            && (8 * self.p..=KdfCost::MAX_M_KIB).contains(&self.m_kib)
    }
}

/// Makes the key that wraps the volume key in a slot with this salt and cost.
///
/// # Errors
/// `Invalid` for an empty passphrase, a key that is not 32 bytes or a cost out of bounds; `Io` when there is no memory
/// for Argon2id.
pub(super) fn derive(source: &KeySource, volume: VolumeId, salt: &[u8; 32], cost: KdfCost) -> Result<BlobKey> {
    let secret = source.secret().expose();
    let key = match source.kind() {
        SlotKind::Passphrase if secret.is_empty() => return Err(Error::new(Kind::Invalid, "the passphrase is empty")),
        SlotKind::Passphrase => stretch(secret, salt, cost)?,
        SlotKind::KeyFile | SlotKind::Credential if secret.len() != 32 => {
            return Err(Error::new(Kind::Invalid, format!("{source}: a key has 32 bytes, not {}", secret.len())));
        }
        SlotKind::KeyFile | SlotKind::Credential => hkdf_sha256(secret, Some(salt), &[b"wamedia v1 kek", &volume.0]),
    };
    Ok(BlobKey::new(Suite::XChaCha20Poly1305, key))
}

/// Argon2id to 32 bytes.
fn stretch(passphrase: &[u8], salt: &[u8; 32], cost: KdfCost) -> Result<Zeroizing<[u8; 32]>> {
    if !cost.is_bounded() {
        return Err(Error::new(Kind::Invalid, format!("Argon2id parameters out of bounds: {cost:?}")));
    }
    let refused = |e: argon2::Error| Error::new(Kind::Invalid, format!("Argon2id refuses {cost:?}: {e}"));
    let params = Params::new(cost.m_kib, cost.t, cost.p, Some(32)).map_err(refused)?;
    let mut memory = Memory::with_blocks(params.block_count())?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase, salt, &mut *key, &mut memory.0)
        .map_err(refused)?;
    Ok(key)
}

/// The working memory of Argon2id, wiped on drop.
struct Memory(Vec<Block>);

impl Memory {
    /// Asks for the memory, where a plain allocation would abort: how much it is stands in a file.
    fn with_blocks(count: usize) -> Result<Memory> {
        let mut blocks = Vec::new();
        if let Err(e) = blocks.try_reserve_exact(count) {
            return Err(Error::new(Kind::Io, format!("no memory for Argon2id ({count} KiB)")).with_source(e));
        }
        blocks.resize(count, Block::default());
        Ok(Memory(blocks))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Zeroize::zeroize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_bounded_on_both_sides() {
        let ok = KdfCost { m_kib: 8, t: 1, p: 1 };
        for (cost, bounded) in [
            (ok, true),
            (KdfCost::DEFAULT, true),
            (KdfCost::NONE, false),
            (KdfCost { m_kib: 7, ..ok }, false),
            (KdfCost { m_kib: KdfCost::MAX_M_KIB, ..ok }, true),
            (KdfCost { m_kib: KdfCost::MAX_M_KIB + 1, ..ok }, false),
            (KdfCost { t: 0, ..ok }, false),
            (KdfCost { t: 64, ..ok }, true),
            (KdfCost { t: 65, ..ok }, false),
            (KdfCost { p: 0, ..ok }, false),
            (KdfCost { m_kib: 128, p: 16, ..ok }, true),
            (KdfCost { m_kib: 127, p: 16, ..ok }, false),
            (KdfCost { m_kib: 1024, p: 17, ..ok }, false),
            (KdfCost { m_kib: u32::MAX, t: u32::MAX, p: u32::MAX }, false),
        ] {
            assert_eq!(cost.is_bounded(), bounded, "{cost:?}");
        }
    }

    #[test]
    fn argon2id_gives_the_answer_of_the_reference_program() {
        // Password "password", salt "somesalt", two passes over 256 KiB, one lane: from the reference program's own tests.
        let params = Params::new(256, 2, 1, Some(32)).unwrap();
        let mut out = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(b"password", b"somesalt", &mut out)
            .unwrap();
        assert_eq!(out[..8], [0x9d, 0xfe, 0xb9, 0x10, 0xe8, 0x0b, 0xad, 0x03]);
    }

    #[test]
    fn an_empty_passphrase_and_a_short_key_wrap_nothing() {
        use crate::crypto::Secret;
        let cost = KdfCost { m_kib: 8, t: 1, p: 1 };
        for source in [
            KeySource::Passphrase(Secret::new(vec![])),
            KeySource::KeyFile { path: "k".into(), secret: Secret::new(vec![1; 31]) },
        ] {
            let refusal = derive(&source, VolumeId([0; 16]), &[0; 32], cost).err().unwrap();
            assert_eq!(refusal.kind(), Kind::Invalid);
        }
    }
}
