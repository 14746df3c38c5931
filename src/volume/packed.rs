//! The bytes of a record in the index. Nearly all are of one plain kind (one name, no extended attributes) and are packed
//! to about half of what an attribute frame takes, since the index's size is that of its records; others carry the
//! attributes as a frame has them.

use super::record::{Age, Location, Record};
use crate::clock::Timestamp;
use crate::format::attributes::{Attributes, EndRef, Facts, Link};
use crate::format::codec::{Malformed, Reader, Writer};
use crate::format::frame::MAX_META_LEN;
use crate::format::geometry::MAX_FILE_LEN;
use crate::ids::{BlobId, FileKind, Ino, NUMBER_END};

/// MIME types that are one byte in the index; their places never change. 0 is for all others.
const MIMES: &[&str] = &[
    "application/octet-stream",
    "image/jpeg",
    "image/png",
    "image/webp",
    "audio/ogg",
    "audio/mpeg",
    "audio/mp4",
    "audio/aac",
    "audio/amr",
    "video/mp4",
    "video/3gpp",
    "application/pdf",
    "text/plain",
    "application/zip",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
];

const LOCATION: u64 = 1;
const AGE: u64 = 1 << 1;
const FULL: u64 = 1 << 2;
const FACTS: u64 = 1 << 3;
const DIGEST: u64 = 1 << 4;
const END: u64 = 1 << 5;
/// The content is charged with its own length.
const CHARGED_AS_LONG: u64 = 1 << 6;
/// Length and charge are those of the end frame.
const AS_COMMITTED: u64 = 1 << 7;
/// The first of the bits that say which earlier time another is equal to.
const TIMES: u32 = 8;

/// A record's bytes.
pub(super) fn encode(record: &Record) -> Vec<u8> {
    let a = &record.attrs;
    let is_plain = a.links.len() == 1
        && a.links.iter().all(|link| link.swapped.is_none())
        && a.target.is_none()
        && a.mime_set.is_none()
        && a.held.is_none()
        && a.retention.is_none()
        && a.xattrs.is_empty();
    let mut flags = u64::from(record.location.is_some()) * LOCATION + u64::from(record.age.is_some()) * AGE;
    if record.allocated == record.len {
        flags |= CHARGED_AS_LONG;
    }
    let mut w = Writer::new();
    if !is_plain {
        w.var(flags | FULL);
        lengths(&mut w, record);
        place(&mut w, record);
        w.bytes(&a.encode());
        return w.finish();
    }
    flags |= u64::from(a.facts.is_some()) * FACTS + u64::from(a.digest.is_some()) * DIGEST;
    flags |= u64::from(a.end.is_some()) * END;
    if a.end.is_some_and(|end| end.content_len == record.len && end.allocated == record.allocated) {
        flags |= AS_COMMITTED;
    }
    let times = times_of(a);
    let mut equal = 0u64;
    for (nth, time) in times.iter().enumerate().skip(1) {
        let same = times.iter().take(nth).position(|earlier| earlier == time);
        // Of five times the last has four before it, so the numbers fit three bits.
        equal |= same.map_or(0, |same| same as u64 + 1) << (3 * (nth - 1));
    }
    w.var(flags | equal << TIMES);
    lengths(&mut w, record);
    place(&mut w, record);
    w.var(a.ino.0).var(a.seq).u8(a.kind.code()).var(u64::from(a.mode)).var(u64::from(a.uid)).var(u64::from(a.gid));
    w.var(u64::from(a.rdev));
    for (nth, time) in times.iter().enumerate() {
        if nth == 0 || equal >> (3 * (nth - 1)) & 7 == 0 {
            instant(&mut w, *time);
        }
    }
    for link in &a.links {
        w.var(link.parent.0).var(link.id).var(link.name.len() as u64).bytes(&link.name);
    }
    if let Some(facts) = &a.facts {
        let known = MIMES.iter().position(|mime| *mime == facts.mime);
        w.u8(facts.kind).u8(facts.verdict).var(known.map_or(0, |nth| nth as u64 + 1));
        if known.is_none() {
            w.var(facts.mime.len() as u64).bytes(facts.mime.as_bytes());
        }
    }
    if let Some(digest) = &a.digest {
        w.bytes(digest);
    }
    if let Some(end) = a.end {
        w.var(end.offset).var(u64::from(end.len)).var(end.frame);
        if flags & AS_COMMITTED == 0 {
            w.var(end.content_len).var(end.allocated);
        }
    }
    w.finish()
}

fn lengths(w: &mut Writer, record: &Record) {
    w.var(record.len);
    if record.allocated != record.len {
        w.var(record.allocated);
    }
    w.var(u64::from(record.subdirs));
}

fn place(w: &mut Writer, record: &Record) {
    if let Some(at) = &record.location {
        w.var(at.blob.0).bytes(&at.salt).var(at.offset).var(u64::from(at.len)).var(at.frame).bytes(&at.tag);
    }
    if let Some(age) = &record.age {
        w.var(u64::from(age.class));
        instant(w, age.when);
    }
}

fn times_of(a: &Attributes) -> [Timestamp; 5] {
    [a.mtime, a.btime, a.atime, a.ctime, a.used]
}

fn instant(w: &mut Writer, time: Timestamp) {
    // Small numbers of either sign are short.
    let secs = (time.secs << 1) ^ (time.secs >> 63);
    w.var(secs.cast_unsigned()).u32(time.nanos);
}

fn read_instant(r: &mut Reader<'_>) -> Result<Timestamp, Malformed> {
    let secs = r.var("seconds")?;
    let secs = (secs >> 1).cast_signed() ^ -(secs & 1).cast_signed();
    let nanos = r.u32("nanoseconds")?;
    if nanos >= 1_000_000_000 {
        return Err(Malformed("nanoseconds"));
    }
    Ok(Timestamp { secs, nanos })
}

fn number(r: &mut Reader<'_>, what: &'static str) -> Result<u64, Malformed> {
    Some(r.var(what)?).filter(|number| *number < NUMBER_END).ok_or(Malformed(what))
}

fn small(r: &mut Reader<'_>, what: &'static str) -> Result<u32, Malformed> {
    u32::try_from(r.var(what)?).map_err(|_| Malformed(what))
}

/// Reads what [`encode`] made.
///
/// # Errors
/// [`Malformed`] naming the field.
pub(super) fn decode(bytes: &[u8]) -> Result<Record, Malformed> {
    let mut r = Reader::new(bytes);
    let flags = r.var("flags")?;
    let has = |flag: u64| flags & flag != 0;
    let len = r.var("length")?;
    let allocated = if has(CHARGED_AS_LONG) { len } else { r.var("allocated")? };
    let subdirs = small(&mut r, "subdirectories")?;
    let location = if has(LOCATION) {
        Some(Location {
            blob: BlobId(number(&mut r, "blob id")?),
            salt: r.array("salt")?,
            offset: number(&mut r, "offset")?,
            len: Some(small(&mut r, "frame length")?)
                .filter(|len| *len as usize <= MAX_META_LEN)
                .ok_or(Malformed("frame length"))?,
            frame: number(&mut r, "frame number")?,
            tag: r.array("tag")?,
        })
    } else {
        None
    };
    if len > MAX_FILE_LEN || allocated > MAX_FILE_LEN {
        return Err(Malformed("length"));
    }
    let age = if has(AGE) {
        let class = u16::try_from(r.var("class")?).map_err(|_| Malformed("class"))?;
        Some(Age { class, when: read_instant(&mut r)? })
    } else {
        None
    };
    let attrs = if has(FULL) { Attributes::decode(r.rest())? } else { plain(&mut r, flags, (len, allocated))? };
    Ok(Record { attrs, location, len, allocated, subdirs, age })
}

fn plain(r: &mut Reader<'_>, flags: u64, (len, allocated): (u64, u64)) -> Result<Attributes, Malformed> {
    let has = |flag: u64| flags & flag != 0;
    let (ino, seq) = (Ino(r.var("inode number")?), r.var("sequence number")?);
    let kind = FileKind::from_code(r.u8("file kind")?).ok_or(Malformed("file kind"))?;
    let mut a = Attributes::new(ino, kind, Timestamp::default());
    a.seq = seq;
    a.mode = small(r, "mode")?;
    a.uid = small(r, "uid")?;
    a.gid = small(r, "gid")?;
    a.rdev = small(r, "device number")?;
    let mut times = [Timestamp::default(); 5];
    for nth in 0..times.len() {
        let same = if nth == 0 { 0 } else { flags >> (TIMES + 3 * (nth as u32 - 1)) & 7 };
        let time = match usize::try_from(same).unwrap_or_default().checked_sub(1) {
            None => read_instant(r)?,
            Some(earlier) => times.get(..nth).and_then(|t| t.get(earlier)).copied().ok_or(Malformed("time"))?,
        };
        if let Some(place) = times.get_mut(nth) {
            *place = time;
        }
    }
    [a.mtime, a.btime, a.atime, a.ctime, a.used] = times;
    let (parent, id) = (Ino(r.var("parent")?), r.var("link id")?);
    let name_len = small(r, "name length")?;
    let name = r.bytes(name_len as usize, "name")?.to_vec();
    a.links.push(Link { parent, id, name, swapped: None });
    if has(FACTS) {
        let (kind, verdict) = (r.u8("media kind")?, r.u8("verdict")?);
        let known = usize::try_from(r.var("MIME type")?).map_err(|_| Malformed("MIME type"))?;
        let mime = match known.checked_sub(1) {
            Some(nth) => (*MIMES.get(nth).ok_or(Malformed("MIME type"))?).to_owned(),
            None => {
                let len = small(r, "MIME type")?;
                let text = r.bytes(len as usize, "MIME type")?;
                std::str::from_utf8(text).map_err(|_| Malformed("MIME type"))?.to_owned()
            }
        };
        a.facts = Some(Facts { mime, kind, verdict });
    }
    if has(DIGEST) {
        a.digest = Some(r.array("digest")?);
    }
    if has(END) {
        let (offset, end_len, frame) = (r.var("end")?, small(r, "end")?, r.var("end")?);
        let (content_len, allocated) =
            if has(AS_COMMITTED) { (len, allocated) } else { (r.var("end")?, r.var("end")?) };
        a.end = Some(EndRef { offset, len: end_len, frame, content_len, allocated });
    }
    a.expect_sound()?;
    if r.is_empty() { Ok(a) } else { Err(Malformed("bytes behind the record")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time() -> impl Strategy<Value = Timestamp> {
        (prop_oneof![Just(0i64), 1_700_000_000i64..1_700_000_003, any::<i64>()], 0u32..3)
            .prop_map(|(secs, nanos)| Timestamp { secs, nanos })
    }

    prop_compose! {
        fn record()(
            times in proptest::array::uniform6(time()),
            numbers in proptest::array::uniform5(0..NUMBER_END),
            lengths in proptest::array::uniform2(0..=MAX_FILE_LEN),
            frame_len in 1..=MAX_META_LEN as u32,
            small in proptest::array::uniform5(any::<u32>()),
            choices in any::<[bool; 10]>(),
            name in proptest::collection::vec(any::<u8>(), 1..40),
            mime in prop_oneof![Just("image/jpeg".to_owned()), Just("x/y".to_owned())],
            digest in any::<[u8; 32]>(),
        ) -> Record {
            let mut a = Attributes::new(Ino(numbers[0] | 2), FileKind::Regular, times[0]);
            [a.mtime, a.btime, a.atime, a.ctime, a.used] = [times[1], times[2], times[3], times[4], times[0]];
            (a.seq, a.mode, a.uid, a.gid, a.rdev) = (numbers[1], small[0] & 0o7777, small[1], small[2], small[3]);
            let name = name.into_iter().map(|b| if b == 0 || b == b'/' { b'x' } else { b }).collect::<Vec<_>>();
            let name = if name == b"." || name == b".." { b"y".to_vec() } else { name };
            let link = Link { parent: Ino(numbers[2] | 1), id: numbers[3].max(17), name, swapped: None };
            a.links.push(link.clone());
            if choices[0] {
                a.links.push(Link { parent: Ino(link.parent.0 ^ 2), ..link });
            }
            a.facts = choices[1].then_some(Facts { mime, kind: 3, verdict: 200 });
            a.digest = choices[2].then_some(digest);
            a.held = choices[3].then_some(times[5]);
            if choices[4] {
                a.xattrs.insert(b"user.x".to_vec(), b"y".to_vec());
            }
            let (len, allocated) = (lengths[0], if choices[5] { lengths[0] } else { lengths[1] });
            let (content_len, charged) = if choices[6] { (len, allocated) } else { (7, 8) };
            a.end = choices[7].then_some(EndRef {
                offset: numbers[2], len: frame_len, frame: numbers[1], content_len, allocated: charged,
            });
            let location = choices[8].then_some(Location {
                blob: BlobId(numbers[0]), salt: [3; 24], offset: numbers[1], len: frame_len, frame: numbers[2], tag: [9; 8],
            });
            let age = choices[9].then_some(Age { class: u16::MAX, when: times[5] });
            Record { attrs: a, location, len, allocated, subdirs: small[3], age }
        }
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_packed(record in record()) {
            prop_assert_eq!(decode(&encode(&record)).unwrap(), record);
        }

        #[test]
        fn other_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _either = decode(&bytes);
        }
    }

    #[test]
    fn the_record_of_a_common_medium_is_short() {
        let at = |secs, nanos| Timestamp { secs, nanos };
        let mut a = Attributes::new(Ino(1_000_000), FileKind::Regular, at(1_790_000_000, 123_456_789));
        (a.mtime, a.ctime) = (at(1_790_000_000, 223_456_789), at(1_790_000_000, 223_456_789));
        (a.seq, a.mode, a.uid, a.gid) = (2_000_000, 0o644, 1000, 1000);
        a.links.push(Link { parent: Ino(70_000), id: 1_999_999, name: vec![b'a'; 24], swapped: None });
        a.facts = Some(Facts { mime: "image/jpeg".into(), kind: 1, verdict: 1 });
        a.digest = Some([7; 32]);
        let (len, allocated) = (150_000, 150_000);
        a.end = Some(EndRef { offset: 150_272, len: 92, frame: 3, content_len: len, allocated });
        let location =
            Location { blob: BlobId(1_000_000), salt: [1; 24], offset: 150_428, len: 291, frame: 4, tag: [2; 8] };
        let age = Some(Age { class: 0, when: a.mtime });
        let record = Record { attrs: a, location: Some(location), len, allocated, subdirs: 0, age };
        let packed = encode(&record);
        assert_eq!(decode(&packed).unwrap(), record);
        assert!(packed.len() <= 180, "{} bytes", packed.len());
    }
}
