//! What the index holds of an inode: its attributes, where its blob's newest frame lies, and what was counted of it.

use crate::clock::Timestamp;
use crate::format::attributes::{Attributes, FIRST_LINK};
use crate::format::codec::{Malformed, Reader, Writer};
use crate::format::frame::{FRAME_OVERHEAD, TRAILER_LEN};
use crate::ids::{BlobId, FileKind, Ino, NUMBER_END};

use super::packed;
use super::types::Attr;

/// Version of the records below; another one means that the index is made anew.
pub(super) const RECORD_VERSION: u64 = 3;

/// Where the truth about an inode lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// The blob.
    pub blob: BlobId,
    /// Its salt, so that its key can be derived without reading it.
    pub salt: [u8; 24],
    /// Offset of its newest attribute frame.
    pub offset: u64,
    /// Bytes of that frame's payload.
    pub len: u32,
    /// Number of that frame.
    pub frame: u64,
    /// First bytes of that frame's tag: a blob put back in an older version, or with another frame there, is found out.
    pub tag: [u8; 8],
}

impl Location {
    /// Whether it lies behind `other` in the same file.
    #[must_use]
    pub fn is_behind(&self, other: &Location) -> bool {
        self.blob == other.blob && self.salt == other.salt && self.offset >= other.end() && self.frame > other.frame
    }

    /// Where the blob ends when nothing was appended since.
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.len) + (FRAME_OVERHEAD + TRAILER_LEN) as u64
    }
}

/// Where a medium stands among those that age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Age {
    /// The number of the retention rule; [`Age::OWN`] when `when` is the moment its own retention ends.
    pub class: u16,
    /// From when its age counts.
    pub when: Timestamp,
}

impl Age {
    /// The class of media that have a retention of their own.
    pub const OWN: u16 = u16::MAX;
}

/// All that the index knows of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Its attributes.
    pub attrs: Attributes,
    /// Its blob; none until it was written for the first time.
    pub location: Option<Location>,
    /// Bytes of content.
    pub len: u64,
    /// Bytes charged to the quota: content that is no hole, and promised room.
    pub allocated: u64,
    /// Subdirectories, for a directory.
    pub subdirs: u32,
    /// Its place among those that age, for a medium that is not held.
    pub age: Option<Age>,
}

impl Record {
    /// A record of something new.
    pub fn new(attrs: Attributes) -> Record {
        Record { attrs, location: None, len: 0, allocated: 0, subdirs: 0, age: None }
    }

    /// Whether it is a medium.
    pub fn is_medium(&self) -> bool {
        self.attrs.kind == FileKind::Regular
    }

    /// The MIME type it goes by: what was set, else what the bytes say.
    pub fn mime(&self) -> Option<&str> {
        let found = self.attrs.facts.as_ref().map(|f| f.mime.as_str());
        self.attrs.mime_set.as_deref().or(found)
    }

    /// Its attributes as `stat(2)` shows them.
    pub fn attr(&self) -> Attr {
        let a = &self.attrs;
        let names = u32::try_from(a.links.len()).unwrap_or(u32::MAX);
        Attr {
            ino: a.ino,
            kind: a.kind,
            mode: a.mode,
            nlink: if a.kind == FileKind::Directory && (names > 0 || a.ino == Ino::ROOT) {
                self.subdirs.saturating_add(2)
            } else {
                names
            },
            uid: a.uid,
            gid: a.gid,
            rdev: a.rdev,
            size: match &a.target {
                Some(target) => target.len() as u64,
                None => self.len,
            },
            blocks: self.allocated.div_ceil(512),
            atime: a.atime,
            mtime: a.mtime,
            ctime: a.ctime,
            btime: a.btime,
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        packed::encode(self)
    }

    /// Reads what [`Record::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Record, Malformed> {
        packed::decode(bytes)
    }
}

/// A name as the table of names has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The inode.
    pub ino: Ino,
    /// The number of the link.
    pub link: u64,
    /// What the inode is.
    pub kind: FileKind,
}

impl Named {
    /// Its bytes, followed by `name` where the table of entries keeps it.
    pub fn encode(&self, name: &[u8]) -> Vec<u8> {
        let mut w = Writer::new();
        w.var(self.ino.0).var(self.link).u8(self.kind.code()).bytes(name);
        w.finish()
    }

    /// Reads it, and the name that may follow.
    pub fn decode(bytes: &[u8]) -> Result<(Named, &[u8]), Malformed> {
        let mut r = Reader::new(bytes);
        let (ino, link) = (Ino(r.var("inode")?), r.var("link id")?);
        if ino.0 >= NUMBER_END || !(FIRST_LINK..NUMBER_END).contains(&link) {
            return Err(Malformed("number of a name"));
        }
        let kind = FileKind::from_code(r.u8("kind")?).ok_or(Malformed("kind"))?;
        Ok((Named { ino, link, kind }, r.rest()))
    }
}

/// Counters of the volume: exactly the sum of the records the index holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Bytes charged to the quota.
    pub bytes: u64,
    /// Media.
    pub media: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Everything else.
    pub others: u64,
    /// Held media.
    pub held: u64,
    /// Media and their bytes by WhatsApp kind; the last is for those not known yet.
    pub by_kind: [(u64, u64); Totals::KINDS],
}

impl Totals {
    /// WhatsApp's kinds, and one for what is not known.
    pub const KINDS: usize = 6;

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u64(self.bytes).u64(self.media).u64(self.directories).u64(self.others).u64(self.held);
        for (count, bytes) in self.by_kind {
            w.u64(count).u64(bytes);
        }
        w.finish()
    }

    /// Reads what [`Totals::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Totals, Malformed> {
        let mut r = Reader::new(bytes);
        let mut t = Totals {
            bytes: r.u64("bytes")?,
            media: r.u64("media")?,
            directories: r.u64("directories")?,
            others: r.u64("others")?,
            held: r.u64("held")?,
            by_kind: Default::default(),
        };
        for slot in &mut t.by_kind {
            *slot = (r.u64("count")?, r.u64("bytes")?);
        }
        Ok(t)
    }

    /// Counts a record in (`sign` 1) or out (`sign` -1).
    pub fn count(&mut self, record: &Record, sign: i64) {
        let add = |n: &mut u64, by: u64| {
            *n = if sign > 0 { n.wrapping_add(by) } else { n.wrapping_sub(by) };
        };
        add(&mut self.bytes, record.allocated);
        match record.attrs.kind {
            FileKind::Regular => {
                add(&mut self.media, 1);
                if record.attrs.held.is_some() {
                    add(&mut self.held, 1);
                }
                let kind = record.attrs.facts.as_ref().map_or(0, |f| usize::from(f.kind));
                let slot = if kind == 0 || kind >= Totals::KINDS { Totals::KINDS - 1 } else { kind - 1 };
                if let Some((count, bytes)) = self.by_kind.get_mut(slot) {
                    add(count, 1);
                    add(bytes, record.len);
                }
            }
            FileKind::Directory => add(&mut self.directories, 1),
            _ => add(&mut self.others, 1),
        }
    }
}

/// Reads bytes as each kind of value the index has; for who tries arbitrary ones.
#[doc(hidden)]
#[must_use]
pub fn decode_index_values(bytes: &[u8]) -> [bool; 3] {
    let record = Record::decode(bytes);
    if let Ok(record) = &record {
        let _shown = record.attr();
        debug_assert_eq!(Record::decode(&record.encode()).as_ref(), Ok(record));
    }
    [record.is_ok(), Named::decode(bytes).is_ok(), Totals::decode(bytes).is_ok()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_decoded_as_they_were_encoded() {
        let now = Timestamp { secs: 5, nanos: 6 };
        let mut record = Record::new(Attributes::new(Ino(9), FileKind::Regular, now));
        assert_eq!(Record::decode(&record.encode()).unwrap(), record);
        record.location = Some(Location { blob: BlobId(3), salt: [1; 24], offset: 80, len: 9, frame: 4, tag: [2; 8] });
        record.age = Some(Age { class: 3, when: now });
        assert_eq!(Record::decode(&record.encode()).unwrap(), record);
    }

    #[test]
    fn what_was_counted_in_is_counted_out() {
        let mut totals = Totals::default();
        let mut record = Record::new(Attributes::new(Ino(9), FileKind::Regular, Timestamp::default()));
        record.allocated = 77;
        totals.count(&record, 1);
        assert_eq!((totals.bytes, totals.media), (77, 1));
        totals.count(&record, -1);
        assert_eq!(totals, Totals::default());
        assert_eq!(Totals::decode(&totals.encode()).unwrap(), totals);
    }
}
