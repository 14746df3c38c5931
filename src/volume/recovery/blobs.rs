//! What single blobs say, and how far that is to be believed.

use std::io::IoSlice;
use std::ops::Bound;

use super::{REPLACED, Recovery};
use crate::error::{Kind, Result};
use crate::format::frame::{TRAILER_LEN, encode_trailer};
use crate::ids::{BlobId, Ino};
use crate::index::{Table, schema};
use crate::store::Blob;
use crate::volume::record::Record;
use crate::volume::room::AHEAD_FROM;
use crate::volume::truth::{self, Truth};

/// What was found in a blob.
pub(super) enum Found {
    /// A state of an inode that is whole.
    Truth(Box<Truth>),
    /// No blob, or one of which nothing was ever committed.
    Nothing,
    /// Something else than what was written.
    Damaged,
}

impl Found {
    /// The state of the inode, when there is one.
    pub(super) fn into_record(self) -> Option<Record> {
        match self {
            Found::Truth(truth) => Some(truth.record),
            Found::Nothing | Found::Damaged => None,
        }
    }
}

impl Recovery<'_> {
    /// Whether a blob may have lost a part of what was written to it: it is new, or its inode (where that is known) was
    /// touched since everything was last durable.
    fn is_doubtful(&self, id: BlobId, ino: Option<Ino>) -> bool {
        let journals = self.journals;
        let is_new = id.0 >= journals.first_new_blob && journals.first_new_blob > 0;
        !journals.same_session && (is_new || ino.is_some_and(|ino| journals.touched.contains(&ino)))
    }

    /// Whether a blob that cannot be opened is one whose first bytes a power loss kept from the disk, so that nothing of it
    /// was ever durable.
    fn is_torn_at_birth(&self, id: BlobId, blob: &dyn Blob) -> Result<bool> {
        Ok(self.is_doubtful(id, None) && truth::has_torn_header(blob)?)
    }

    /// Looks at a blob; `ino` is the inode that it is thought to be of.
    pub(super) fn look_at(&mut self, id: BlobId, ino: Option<Ino>) -> Result<Found> {
        self.next_blob = self.next_blob.max(id.0 + 1);
        let blob = match self.volume.store.open(id) {
            Ok(Some(blob)) => blob,
            Ok(None) => return Ok(Found::Nothing),
            Err(e) if e.kind() == Kind::Damaged => {
                self.notes.push(e.to_string());
                return Ok(Found::Damaged);
            }
            Err(e) => return Err(e),
        };
        let keys = self.volume.keys();
        let mut found = truth::read(keys, &*blob);
        let of = found.as_ref().ok().and_then(|truth| truth.as_ref()).map(|truth| truth.record.attrs.ino).or(ino);
        if self.is_doubtful(id, of) && matches!(found, Ok(Some(_))) {
            found = truth::read_whole(keys, &*blob);
        }
        match found {
            Ok(Some(truth)) => {
                self.saw(&truth.record.attrs);
                Ok(Found::Truth(Box::new(truth)))
            }
            Ok(None) if self.journals.same_session && truth::is_finished(&*blob)? => {
                self.notes.push(truth::no_attributes(&*blob).to_string());
                Ok(Found::Damaged)
            }
            Ok(None) => Ok(Found::Nothing),
            Err(e) if e.kind() == Kind::Damaged && self.is_torn_at_birth(id, &*blob)? => Ok(Found::Nothing),
            Err(e) if e.kind() == Kind::Damaged => {
                self.notes.push(e.to_string());
                Ok(Found::Damaged)
            }
            Err(e) => Err(e),
        }
    }

    /// Has a new blob removed that says nothing.
    pub(super) fn drop_uncommitted(&mut self, id: BlobId) {
        self.notes.push(format!("blob {id}: removed, since nothing of it was ever committed"));
        self.gone.push(id);
    }

    /// Gives a blob the end of a state that is the truth now: cuts off what lies behind it, gives back the room that a large
    /// one had ahead, and writes its trailer again where the frame is whole and the trailer is not.
    pub(super) fn cut_behind(&mut self, truth: &Truth) -> Result<()> {
        let Some(at) = truth.record.location else { return Ok(()) };
        let Some(blob) = self.volume.store.open(at.blob)? else { return Ok(()) };
        if truth.torn > 0 || at.end() >= AHEAD_FROM {
            blob.cut(at.end())?;
        }
        if truth.torn > 0 {
            self.notes.push(format!("blob {}: {} bytes that were never synced were cut off", at.blob, truth.torn));
        }
        if !truth::is_finished_at(&*blob, at.end())? {
            blob.write_at(&[IoSlice::new(&encode_trailer(at.len))], at.end() - TRAILER_LEN as u64)?;
            self.notes.push(format!("blob {}: its trailer was written again", at.blob));
        }
        Ok(())
    }

    /// Takes the notes of blobs that the index gave up for others, which may not have become durable.
    pub(super) fn take_replaced(&mut self) -> Result<Vec<BlobId>> {
        let from = schema::meta(REPLACED);
        let to = schema::after(&from);
        let to = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.volume.index.scan(Table::Meta, Bound::Included(&from), to, usize::MAX)?;
        for (key, _) in &found {
            self.volume.index.delete(Table::Meta, key);
        }
        let ids = found.into_iter().filter_map(|(_, value)| value.try_into().ok());
        Ok(ids.map(|bytes| BlobId(u64::from_le_bytes(bytes))).collect())
    }

    /// Whether the blob that an index record names must still say what the record says: then anything older is damage.
    pub(super) fn is_certain(&self, old: &Record) -> bool {
        old.location.is_some() && (self.journals.same_session || old.attrs.seq < self.durable_seq)
    }
}
