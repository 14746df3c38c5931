//! The journal: which inodes changed since the index was last complete, and which were removed.
//! `docs/FORMAT.md`, "Journal".

use super::codec::{Malformed, Reader, Writer};
use crate::ids::{BlobId, Ino, VolumeId};

/// First bytes of a journal.
pub const JOURNAL_MAGIC: [u8; 8] = *b"wamjrnl2";
/// Bytes of a journal's header before its code.
pub const JOURNAL_BODY_LEN: usize = 8 + 16 + 8 + 8;
/// Bytes of a journal's header.
pub const JOURNAL_HEADER_LEN: usize = JOURNAL_BODY_LEN + 16;
/// Bytes of a record before its tag.
pub const RECORD_BODY_LEN: usize = 8 + 8 + 8;
/// Bytes of a record.
pub const RECORD_LEN: usize = RECORD_BODY_LEN + 16;

/// The start of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalHeader {
    /// The volume it belongs to.
    pub volume: VolumeId,
    /// Its generation, from 1 on.
    pub generation: u64,
    /// Blobs from this number on may be missing in the index of this generation.
    pub first_new_blob: u64,
}

impl JournalHeader {
    /// Its bytes before the code.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.bytes(&JOURNAL_MAGIC).bytes(&self.volume.0).u64(self.generation).u64(self.first_new_blob);
        w.finish()
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Malformed`] naming the first field that is wrong.
    pub fn decode(bytes: &[u8]) -> Result<JournalHeader, Malformed> {
        let mut r = Reader::new(bytes);
        if r.array::<8>("journal magic")? != JOURNAL_MAGIC {
            return Err(Malformed("journal magic"));
        }
        let volume = VolumeId(r.array("volume id")?);
        let generation = r.u64("journal generation")?;
        let first_new_blob = r.number("first new blob")?;
        Ok(JournalHeader { volume, generation, first_new_blob })
    }
}

/// One entry of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// The inode may differ from what the index says.
    Touched(Ino),
    /// The inode has no name left and must not come back; its last blob is this one.
    Removed(Ino, BlobId),
    /// The blob is no longer any inode's content.
    Dropped(BlobId),
    /// The first inode's last name was taken over by the second: it is gone once that one's claim is durable.
    Superseded(Ino, Ino),
}

impl Record {
    /// Its bytes before the tag.
    #[must_use]
    pub fn encode(&self) -> [u8; RECORD_BODY_LEN] {
        let (kind, ino, blob) = match self {
            Record::Touched(ino) => (1, ino.0, 0),
            Record::Removed(ino, blob) => (2, ino.0, blob.0),
            Record::Dropped(blob) => (3, 0, blob.0),
            Record::Superseded(ino, by) => (4, ino.0, by.0),
        };
        let mut w = Writer::new();
        w.u64(kind).u64(ino).u64(blob);
        let mut out = [0; RECORD_BODY_LEN];
        out.copy_from_slice(&w.finish());
        out
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Malformed`] when it is of no known kind or tells of a number beyond the bounds.
    pub fn decode(bytes: &[u8]) -> Result<Record, Malformed> {
        let mut r = Reader::new(bytes);
        let kind = r.u64("record kind")?;
        let (ino, blob) = (Ino(r.number("inode number")?), BlobId(r.number("blob id")?));
        match kind {
            1 => Ok(Record::Touched(ino)),
            2 => Ok(Record::Removed(ino, blob)),
            3 => Ok(Record::Dropped(blob)),
            4 => Ok(Record::Superseded(ino, Ino(blob.0))),
            _ => Err(Malformed("record kind")),
        }
    }
}
