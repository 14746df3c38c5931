//! Keys, key slots, derivation and authenticated encryption.
//!
//! One random [`VolumeKey`] stands above all else. Every other key is derived from it with HKDF-SHA-256, one per
//! purpose, and the volume key itself lies in the superblock only wrapped by a key slot ([`KeySource`] opens one).
//! Nothing here knows a file, but for [`KeySource`], which reads what the operator keeps a key in.
//!
//! No type that holds a key has `Debug`, `Clone` or `Serialize`; each is wiped when it is dropped. What wiping cannot
//! reach (registers, stack frames of the ciphers, a hibernation image) is the business of the host:
//! call [`forbid_core_dumps`] first, and keep swap encrypted or off.

mod blob_key;
mod index_key;
mod kek;
mod mac;
mod memory;
mod secret;
mod signing;
mod slots;
mod source;
mod suite;
mod volume_key;

pub use blob_key::{BlobKey, Forged};
pub use index_key::IndexKey;
pub use kek::KdfCost;
pub use memory::forbid_core_dumps;
pub use secret::Secret;
pub use signing::{PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SigningKey, is_signed};
pub use source::{KeySource, MAX_PASSPHRASE_BYTES, make_key_file};
pub use suite::{SlotKind, Suite};
pub use volume_key::VolumeKey;

/// What holds the key slots: made, opened and changed by this module, laid out by the format.
pub use crate::format::superblock::{MAX_SLOTS, Slot, Superblock};

use crate::clock;

/// Length of a nonce in bytes: 192 bits, wide enough to be drawn at random for the life of any key.
pub const NONCE_BYTES: usize = 24;
/// Length of a tag in bytes.
pub const TAG_BYTES: usize = 16;

/// Draws a fresh nonce from the operating system.
///
/// It is asked each time, about half a microsecond, rather than a generator of our own: such a generator's state would
/// be copied by `fork` and by a snapshot of the virtual machine, and both copies would give the same nonces.
///
/// # Panics
/// When the kernel has no randomness to give.
#[must_use]
pub fn nonce() -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    clock::random_bytes(&mut nonce);
    nonce
}
