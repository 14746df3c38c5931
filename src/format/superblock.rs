//! The superblock: what a volume is, and the key slots that open it. The layout is that of "Superblock" in `docs/FORMAT.md`.
//!
//! Pure bytes to structure and back. What the slots hold is made and opened in `crypto`.

mod bytes;
mod malformed;
mod pick;
#[cfg(test)]
mod tests;

pub use bytes::SUPERBLOCK_BYTES;
pub use malformed::Malformed;
pub use pick::pick;

pub(crate) use bytes::slot_aad;

use crate::crypto::{KdfCost, SlotKind, Suite};
use crate::ids::VolumeId;

/// The version of the format that this build reads and writes.
pub const FORMAT_VERSION: u16 = 1;
/// Binary logarithm of the chunk size: chunks are 64 KiB.
pub const CHUNK_LOG2: u8 = 16;
/// Most key slots of a volume.
pub const MAX_SLOTS: u8 = 8;
/// Longest label of a key slot in bytes.
pub const MAX_LABEL_BYTES: usize = 64;

/// What a volume is: its id, its cipher, and the slots its key is wrapped in.
///
/// Whatever is decoded keeps these rules: slots ascend by id, each id is below [`MAX_SLOTS`], costs and labels are within
/// their bounds, and there is a slot exactly when there is a cipher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    pub(crate) suite: Suite,
    pub(crate) volume: VolumeId,
    pub(crate) generation: u64,
    pub(crate) slots: Vec<Slot>,
    pub(crate) mac: [u8; 32],
}

/// One key slot: the volume key, wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub(crate) id: u8,
    pub(crate) kind: SlotKind,
    pub(crate) cost: KdfCost,
    pub(crate) salt: [u8; 32],
    pub(crate) nonce: [u8; 24],
    pub(crate) wrapped: [u8; 32],
    pub(crate) tag: [u8; 16],
    pub(crate) label: String,
}

impl Superblock {
    /// The volume's id.
    #[must_use]
    pub fn volume(&self) -> VolumeId {
        self.volume
    }

    /// How the volume's frames are protected.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Counts the changes, from 1; of two valid copies the one with the higher number holds.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The key slots in use, ascending by id.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

impl Slot {
    /// Its place in the superblock: 0 to 7. A removed slot's number may be given out again.
    #[must_use]
    pub fn id(&self) -> u8 {
        self.id
    }

    /// What opens it.
    #[must_use]
    pub fn kind(&self) -> SlotKind {
        self.kind
    }

    /// What one try of its passphrase costs; [`KdfCost::NONE`] when it is no passphrase.
    #[must_use]
    pub fn cost(&self) -> KdfCost {
        self.cost
    }

    /// What the operator calls it: the name of a credential, else free text. At most [`MAX_LABEL_BYTES`], no control characters.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

/// Whether a text may be the label of a slot.
pub(crate) fn is_label(text: &str) -> bool {
    text.len() <= MAX_LABEL_BYTES && !text.contains(char::is_control)
}
