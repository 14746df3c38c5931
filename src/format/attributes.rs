//! Attributes of an inode, as an attribute frame holds them. `docs/FORMAT.md`, "Attribute frame".

use std::collections::BTreeMap;

use super::codec::{Malformed, Reader, Writer};
use super::frame::MAX_META_LEN;
use super::geometry::MAX_FILE_LEN;
use crate::clock::Timestamp;
use crate::ids::{FileKind, Ino, NUMBER_END};

/// The longest name, in bytes.
pub const MAX_NAME_LEN: usize = 255;
/// The longest symlink target, in bytes (`PATH_MAX` without its NUL).
pub const MAX_TARGET_LEN: usize = 4095;
/// The longest value of an extended attribute (`XATTR_SIZE_MAX`).
pub const MAX_XATTR_LEN: usize = 65536;
/// All extended attributes of an inode together, names and values.
pub const MAX_XATTRS_LEN: usize = 1 << 20;
/// The lowest number of a link: those below are for what a directory shows of itself.
pub const FIRST_LINK: u64 = 17;
/// The most names an inode can have.
pub const MAX_LINKS: usize = 1024;
const MAX_TEXT_LEN: usize = 1024;

/// One name of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The directory it stands in.
    pub parent: Ino,
    /// Its number: ascending over the volume, never used twice; the directory is listed in this order.
    pub id: u64,
    /// The name.
    pub name: Vec<u8>,
    /// The place whose inode got this inode's earlier name, when the two were exchanged: one of the two blobs tells of
    /// both names, so that no crash leaves one of them without.
    pub swapped: Option<Swap>,
}

/// The other half of an exchange: the inode that had the new name before now has this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// The inode.
    pub ino: Ino,
    /// The directory of its new name.
    pub parent: Ino,
    /// Number of that link.
    pub id: u64,
    /// Its new name.
    pub name: Vec<u8>,
}

/// Where the end frame of the current content lies in the same blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndRef {
    /// Offset of the frame.
    pub offset: u64,
    /// Bytes of its payload.
    pub len: u32,
    /// Its frame number.
    pub frame: u64,
    /// Bytes of the content, so that they are known even when the end frame is damaged.
    pub content_len: u64,
    /// Bytes charged for it.
    pub allocated: u64,
}

/// What inspection of the bytes found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// MIME type.
    pub mime: String,
    /// `media::Kind` as a number; 0 when not known yet.
    pub kind: u8,
    /// 0 when not known yet, 1 ready, else 1 + the number of the reason.
    pub verdict: u8,
}

/// Everything about an inode but its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The inode.
    pub ino: Ino,
    /// Position of this frame in the order of all attribute frames of the volume; the highest is the truth.
    pub seq: u64,
    /// What it is.
    pub kind: FileKind,
    /// Permission, setuid, setgid and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number.
    pub rdev: u32,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of anything.
    pub ctime: Timestamp,
    /// Birth.
    pub btime: Timestamp,
    /// Last use: reading or sending.
    pub used: Timestamp,
    /// Its names; none while it waits to be removed.
    pub links: Vec<Link>,
    /// Where a symlink points.
    pub target: Option<Vec<u8>>,
    /// The MIME type somebody has set.
    pub mime_set: Option<String>,
    /// What inspection found.
    pub facts: Option<Facts>,
    /// SHA-256 of the content.
    pub digest: Option<[u8; 32]>,
    /// Since when it is held.
    pub held: Option<Timestamp>,
    /// Its own retention in seconds; `u64::MAX` is for ever.
    pub retention: Option<u64>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Its content; none for what has none.
    pub end: Option<EndRef>,
}

const T_LINK: u8 = 1;
const T_TARGET: u8 = 2;
const T_SWAP: u8 = 3;
const T_MIME_SET: u8 = 4;
const T_FACTS: u8 = 5;
const T_DIGEST: u8 = 6;
const T_HELD: u8 = 7;
const T_RETENTION: u8 = 8;
const T_XATTR: u8 = 9;
const T_END: u8 = 10;

impl Attributes {
    /// A fresh inode of `kind`, with all times `now`.
    #[must_use]
    pub fn new(ino: Ino, kind: FileKind, now: Timestamp) -> Attributes {
        Attributes {
            ino,
            seq: 0,
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            rdev: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            used: now,
            links: Vec::new(),
            target: None,
            mime_set: None,
            facts: None,
            digest: None,
            held: None,
            retention: None,
            xattrs: BTreeMap::new(),
            end: None,
        }
    }

    /// Bytes of all extended attributes, names and values.
    #[must_use]
    pub fn xattrs_len(&self) -> usize {
        self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u64(self.ino.0).u64(self.seq).u8(self.kind.code()).u8(0).u16(0);
        w.u32(self.mode).u32(self.uid).u32(self.gid).u32(self.rdev);
        for time in [self.atime, self.mtime, self.ctime, self.btime, self.used] {
            w.i64(time.secs).u32(time.nanos);
        }
        for link in &self.links {
            field(&mut w, T_LINK, &[&link.parent.0.to_le_bytes(), &link.id.to_le_bytes(), &link.name]);
            if let Some(swap) = &link.swapped {
                let numbers = [swap.ino.0, swap.parent.0, swap.id].map(u64::to_le_bytes).concat();
                field(&mut w, T_SWAP, &[&numbers, &swap.name]);
            }
        }
        if let Some(target) = &self.target {
            field(&mut w, T_TARGET, &[target]);
        }
        if let Some(mime) = &self.mime_set {
            field(&mut w, T_MIME_SET, &[mime.as_bytes()]);
        }
        if let Some(facts) = &self.facts {
            field(&mut w, T_FACTS, &[&[facts.kind, facts.verdict], facts.mime.as_bytes()]);
        }
        if let Some(digest) = &self.digest {
            field(&mut w, T_DIGEST, &[digest]);
        }
        if let Some(held) = self.held {
            field(&mut w, T_HELD, &[&held.secs.to_le_bytes(), &held.nanos.to_le_bytes()]);
        }
        if let Some(secs) = self.retention {
            field(&mut w, T_RETENTION, &[&secs.to_le_bytes()]);
        }
        for (name, value) in &self.xattrs {
            // A name is at most 255 bytes.
            field(&mut w, T_XATTR, &[&[u8::try_from(name.len()).unwrap_or(u8::MAX)], name, value]);
        }
        if let Some(end) = self.end {
            let numbers = [end.offset, end.frame, end.content_len, end.allocated].map(u64::to_le_bytes).concat();
            field(&mut w, T_END, &[&numbers, &end.len.to_le_bytes()]);
        }
        w.finish()
    }

    /// Reads the payload of an attribute frame.
    ///
    /// # Errors
    /// [`Malformed`] naming the first field that is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Attributes, Malformed> {
        let mut r = Reader::new(bytes);
        let ino = Ino(r.u64("inode number")?);
        let seq = r.u64("sequence number")?;
        let kind = FileKind::from_code(r.u8("file kind")?).ok_or(Malformed("file kind"))?;
        r.zeros(3, "reserved bytes of the attributes")?;
        let mut a = Attributes::new(ino, kind, Timestamp::default());
        a.seq = seq;
        a.mode = r.u32("mode")?;
        a.uid = r.u32("uid")?;
        a.gid = r.u32("gid")?;
        a.rdev = r.u32("device number")?;
        for time in [&mut a.atime, &mut a.mtime, &mut a.ctime, &mut a.btime, &mut a.used] {
            *time = timestamp(&mut r)?;
        }
        while !r.is_empty() {
            let tag = r.u8("field tag")?;
            let len = r.u32("field length")?;
            let value = r.bytes(len as usize, "field")?;
            decode_field(&mut a, tag, value)?;
        }
        a.expect_sound()?;
        Ok(a)
    }

    /// Refuses what no inode can be, whoever says so: numbers and lengths beyond the limits, fields that do not go with the
    /// kind, and names that would make the tree none.
    ///
    /// # Errors
    /// [`Malformed`] naming the first field that is wrong.
    pub fn expect_sound(&self) -> Result<(), Malformed> {
        let is_number = |number: u64| number > 0 && number < NUMBER_END;
        let is_directory = self.kind == FileKind::Directory;
        let expect = |holds: bool, what| if holds { Ok(()) } else { Err(Malformed(what)) };
        expect(is_number(self.ino.0), "inode number")?;
        expect(self.seq < NUMBER_END, "sequence number")?;
        expect(self.mode <= 0o7777, "mode")?;
        expect(self.ino != Ino::ROOT || (is_directory && self.links.is_empty()), "root directory")?;
        // A directory with two names could lie in itself.
        expect(self.links.len() <= if is_directory { 1 } else { MAX_LINKS }, "names")?;
        let is_place = |parent: Ino, id: u64, name: &[u8]| {
            is_number(parent.0) && (FIRST_LINK..NUMBER_END).contains(&id) && is_name(name)
        };
        for link in &self.links {
            expect(is_place(link.parent, link.id, &link.name), "link")?;
            let swap = link.swapped.as_ref();
            expect(swap.is_none_or(|s| is_number(s.ino.0) && is_place(s.parent, s.id, &s.name)), "exchange")?;
        }
        let mut places: Vec<_> = self.links.iter().map(|link| (link.parent, &link.name)).collect();
        places.sort_unstable();
        expect(places.windows(2).all(|pair| matches!(pair, [a, b] if a != b)), "two links of one name")?;
        expect(self.target.is_some() == (self.kind == FileKind::Symlink), "symlink target")?;
        expect(self.xattrs_len() <= MAX_XATTRS_LEN, "extended attributes")?;
        let Some(end) = self.end else { return Ok(()) };
        expect(self.kind == FileKind::Regular, "content")?;
        expect(end.offset < NUMBER_END && end.frame < NUMBER_END, "end offset")?;
        expect(end.len > 0 && end.len as usize <= MAX_META_LEN, "end length")?;
        expect(end.content_len <= MAX_FILE_LEN && end.allocated <= MAX_FILE_LEN, "content length")
    }
}

fn field(w: &mut Writer, tag: u8, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|p| p.len()).sum();
    // Every field is bounded far below 4 GiB by the limits above.
    w.u8(tag).u32(u32::try_from(len).unwrap_or(u32::MAX));
    for part in parts {
        w.bytes(part);
    }
}

fn timestamp(r: &mut Reader<'_>) -> Result<Timestamp, Malformed> {
    let secs = r.i64("seconds")?;
    let nanos = r.u32("nanoseconds")?;
    if nanos >= 1_000_000_000 {
        return Err(Malformed("nanoseconds"));
    }
    Ok(Timestamp { secs, nanos })
}

fn text(bytes: &[u8], what: &'static str) -> Result<String, Malformed> {
    if bytes.len() > MAX_TEXT_LEN {
        return Err(Malformed(what));
    }
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed(what))
}

/// Whether `name` can stand in a directory.
#[must_use]
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME_LEN
        && name != b"."
        && name != b".."
        && !name.iter().any(|b| matches!(b, 0 | b'/'))
}

fn decode_field(a: &mut Attributes, tag: u8, value: &[u8]) -> Result<(), Malformed> {
    let mut r = Reader::new(value);
    match tag {
        T_LINK => {
            let parent = Ino(r.u64("parent")?);
            let id = r.u64("link id")?;
            let name = r.rest().to_vec();
            if !is_name(&name) || a.links.len() >= MAX_LINKS {
                return Err(Malformed("link"));
            }
            a.links.push(Link { parent, id, name, swapped: None });
            return Ok(());
        }
        T_SWAP => {
            let (ino, parent) = (Ino(r.u64("exchanged inode")?), Ino(r.u64("exchanged parent")?));
            let id = r.u64("exchanged link")?;
            let name = r.rest().to_vec();
            let link = a.links.last_mut().ok_or(Malformed("exchange without a link"))?;
            if !is_name(&name) || link.swapped.is_some() {
                return Err(Malformed("exchange"));
            }
            link.swapped = Some(Swap { ino, parent, id, name });
            return Ok(());
        }
        T_TARGET => {
            if value.is_empty() || value.len() > MAX_TARGET_LEN {
                return Err(Malformed("symlink target"));
            }
            a.target = Some(value.to_vec());
            return Ok(());
        }
        T_MIME_SET => {
            a.mime_set = Some(text(value, "MIME type")?);
            return Ok(());
        }
        T_FACTS => {
            let (kind, verdict) = (r.u8("media kind")?, r.u8("verdict")?);
            a.facts = Some(Facts { kind, verdict, mime: text(r.rest(), "MIME type")? });
            return Ok(());
        }
        T_XATTR => {
            let len = r.u8("length of an attribute name")?;
            let name = r.bytes(usize::from(len), "attribute name")?;
            if name.is_empty() || r.rest().len() > MAX_XATTR_LEN {
                return Err(Malformed("extended attribute"));
            }
            a.xattrs.insert(name.to_vec(), r.rest().to_vec());
            return Ok(());
        }
        T_DIGEST => a.digest = Some(r.array("digest")?),
        T_HELD => a.held = Some(timestamp(&mut r)?),
        T_RETENTION => a.retention = Some(r.u64("retention")?),
        T_END => {
            a.end = Some(EndRef {
                offset: r.u64("end offset")?,
                frame: r.u64("end frame")?,
                content_len: r.u64("content length")?,
                allocated: r.u64("allocated bytes")?,
                len: r.u32("end length")?,
            });
        }
        _ => return Err(Malformed("field tag")),
    }
    if r.is_empty() { Ok(()) } else { Err(Malformed("field length")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Attributes {
        let mut a = Attributes::new(Ino(7), FileKind::Regular, Timestamp { secs: -5, nanos: 999_999_999 });
        a.seq = 9;
        a.mode = 0o6755;
        a.links = vec![
            Link { parent: Ino(1), id: 33, name: b"a\xff".to_vec(), swapped: None },
            Link {
                parent: Ino(2),
                id: 34,
                name: vec![b'x'; 255],
                swapped: Some(Swap { ino: Ino(3), parent: Ino(1), id: 35, name: b"b".to_vec() }),
            },
        ];
        a.mime_set = Some("image/jpeg".into());
        a.facts = Some(Facts { mime: "audio/ogg; codecs=opus".into(), kind: 1, verdict: 3 });
        a.digest = Some([4; 32]);
        a.held = Some(Timestamp { secs: 1, nanos: 2 });
        a.retention = Some(u64::MAX);
        a.xattrs.insert(b"user.a".to_vec(), vec![]);
        a.xattrs.insert(b"user.b".to_vec(), vec![1; 65536]);
        a.end = Some(EndRef { offset: 80, len: 64, frame: 2, content_len: 7, allocated: 7 });
        a
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let a = sample();
        assert_eq!(Attributes::decode(&a.encode()).unwrap(), a);
    }

    #[test]
    fn every_cut_is_refused_or_shorter() {
        let a = sample();
        let bytes = a.encode();
        for cut in 0..bytes.len().min(700) {
            if let Ok(shorter) = Attributes::decode(&bytes[..cut]) {
                assert_ne!(shorter, a);
            }
        }
    }

    proptest! {
        #[test]
        fn flipped_bytes_never_panic(at in 0usize..400, flip in 1u8..) {
            let mut bytes = sample().encode();
            bytes[at] ^= flip;
            let _ = Attributes::decode(&bytes);
        }
    }
}
