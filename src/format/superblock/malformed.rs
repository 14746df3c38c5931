//! Why bytes are no superblock.

use thiserror::Error;

use crate::error::{Error as Failure, Kind};

/// Why bytes are no superblock of this build.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// Cut off or longer.
    #[error("it has {0} bytes instead of 4096")]
    Length(usize),
    /// Something else, or nothing, lies there.
    #[error("it does not begin as a superblock does")]
    Magic,
    /// Changed since it was written.
    #[error("its checksum does not fit")]
    Checksum,
    /// Written by another version of this program.
    #[error("it has format version {0}, and this build knows version 1")]
    Version(u16),
    /// A cipher suite of another version of this program.
    #[error("it has cipher suite {0}, which this build does not know")]
    Suite(u8),
    /// A chunk size that format version 1 does not have.
    #[error("its chunks are of 2^{0} bytes instead of 2^16")]
    ChunkSize(u8),
    /// Bytes that must be zero are not.
    #[error("a reserved byte at {0} or after it is not zero")]
    Reserved(usize),
    /// Generations count from 1.
    #[error("its generation is 0")]
    Generation,
    /// A slot breaks a rule.
    #[error("key slot {id}: {fault}")]
    Slot {
        /// The slot's place.
        id: u8,
        /// The rule.
        fault: &'static str,
    },
    /// A volume with a cipher must have a key slot, one without must have none.
    #[error("it has {0} key slots, which does not go with its cipher suite")]
    SlotCount(usize),
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Failure {
        let kind = match malformed {
            Malformed::Version(_) | Malformed::Suite(_) => Kind::Version,
            _ => Kind::Damaged,
        };
        Failure::new(kind, format!("the superblock cannot be used: {malformed}")).with_source(malformed)
    }
}
