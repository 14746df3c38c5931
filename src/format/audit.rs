//! The audit log: what was removed, when, by whom and by which way. `docs/FORMAT.md`, "Audit log".

use super::codec::{Malformed, Reader, Writer};
use crate::clock::Timestamp;
use crate::ids::{FileKind, Ino};

/// First bytes of a file of the audit log.
pub const AUDIT_MAGIC: [u8; 16] = *b"wamaudt1\0\0\0\0\0\0\0\0";
/// Bytes of a path that are kept: its end, where the name is.
pub const MAX_PATH_LEN: usize = 4096;
/// Bytes of an actor's name that are kept.
pub const MAX_NAME_LEN: usize = 128;

const REMOVAL: u8 = 1;
const MISSED: u8 = 2;
const HAS_UID: u8 = 1;
const HAS_PID: u8 = 2;
const HAS_DIGEST: u8 = 4;
const HAS_SUCCESSOR: u8 = 8;
const HAS_ID: u8 = 16;
const ALL_FLAGS: u8 = 31;

/// What one record tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Something was removed.
    Removal(Removal),
    /// So many removals were made before this without a record, since the disk had no room for one.
    Missed(u64),
}

/// What a record says of those before it: they were durable, from one number to another, when it was written. What a crash of
/// power takes of the others is no damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The first.
    pub first: u64,
    /// The last; below the first when there is none.
    pub last: u64,
}

/// A removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// When.
    pub at: Timestamp,
    /// By which way, as a number.
    pub way: u8,
    /// What was removed.
    pub kind: FileKind,
    /// Its inode.
    pub ino: Ino,
    /// Its media id; none where that follows from the inode.
    pub id: Option<[u8; 16]>,
    /// Bytes of its content.
    pub size: u64,
    /// How many names went with it.
    pub names: u32,
    /// SHA-256 of its content, where it was known.
    pub digest: Option<[u8; 32]>,
    /// The inode that has its name now.
    pub successor: Option<Ino>,
    /// The user who asked.
    pub uid: Option<u32>,
    /// The process that asked.
    pub pid: Option<u32>,
    /// The program or token that asked.
    pub name: Vec<u8>,
    /// Its first path from the root.
    pub path: Vec<u8>,
}

/// The bytes of a record's content; what is too long of name and path is left out.
#[must_use]
pub fn encode(number: u64, claim: Claim, entry: &Entry) -> Vec<u8> {
    let mut w = Writer::new();
    let removal = match entry {
        Entry::Missed(count) => {
            w.u8(MISSED).u64(number).var(claim.first).var(claim.last).u64(*count);
            return w.finish();
        }
        Entry::Removal(removal) => removal,
    };
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let flags = flag(removal.uid.is_some(), HAS_UID)
        | flag(removal.pid.is_some(), HAS_PID)
        | flag(removal.digest.is_some(), HAS_DIGEST)
        | flag(removal.successor.is_some(), HAS_SUCCESSOR)
        | flag(removal.id.is_some(), HAS_ID);
    w.u8(REMOVAL).u64(number).var(claim.first).var(claim.last);
    w.i64(removal.at.secs).u32(removal.at.nanos);
    w.u8(removal.way).u8(removal.kind.code()).u8(flags);
    w.u64(removal.ino.0).u64(removal.size).u32(removal.names);
    removal.uid.into_iter().chain(removal.pid).for_each(|number| {
        w.u32(number);
    });
    removal.id.iter().for_each(|id| {
        w.bytes(id);
    });
    removal.digest.iter().for_each(|digest| {
        w.bytes(digest);
    });
    removal.successor.iter().for_each(|ino| {
        w.u64(ino.0);
    });
    let name = removal.name.get(..removal.name.len().min(MAX_NAME_LEN)).unwrap_or_default();
    let path = removal.path.get(removal.path.len().saturating_sub(MAX_PATH_LEN)..).unwrap_or_default();
    w.u8(u8::try_from(name.len()).unwrap_or(0)).bytes(name);
    w.u16(u16::try_from(path.len()).unwrap_or(0)).bytes(path);
    w.finish()
}

/// Reads the content of a record: its number, what it says of those before it, and what it tells.
///
/// # Errors
/// [`Malformed`] naming the first field that is wrong.
pub fn decode(bytes: &[u8]) -> Result<(u64, Claim, Entry), Malformed> {
    let mut r = Reader::new(bytes);
    let what = r.u8("what")?;
    let number = r.u64("number")?;
    let claim = Claim { first: r.var("first durable")?, last: r.var("last durable")? };
    let entry = match what {
        MISSED => Entry::Missed(r.u64("count")?),
        REMOVAL => Entry::Removal(decode_removal(&mut r)?),
        _ => return Err(Malformed("what")),
    };
    if r.is_empty() { Ok((number, claim, entry)) } else { Err(Malformed("length")) }
}

fn decode_removal(r: &mut Reader<'_>) -> Result<Removal, Malformed> {
    let (secs, nanos) = (r.i64("time")?, r.u32("time")?);
    if nanos >= 1_000_000_000 {
        return Err(Malformed("time"));
    }
    let way = r.u8("way")?;
    let kind = FileKind::from_code(r.u8("kind")?).ok_or(Malformed("kind"))?;
    let flags = r.u8("flags")?;
    if flags & !ALL_FLAGS != 0 {
        return Err(Malformed("flags"));
    }
    let has = |flag: u8| flags & flag != 0;
    let (ino, size, names) = (Ino(r.u64("inode")?), r.u64("size")?, r.u32("names")?);
    let uid = if has(HAS_UID) { Some(r.u32("user")?) } else { None };
    let pid = if has(HAS_PID) { Some(r.u32("process")?) } else { None };
    let id = if has(HAS_ID) { Some(r.array("id")?) } else { None };
    let digest = if has(HAS_DIGEST) { Some(r.array("digest")?) } else { None };
    let successor = if has(HAS_SUCCESSOR) { Some(Ino(r.u64("successor")?)) } else { None };
    let len = usize::from(r.u8("name")?);
    let name = r.bytes(len, "name")?.to_vec();
    let len = usize::from(r.u16("path")?);
    let path = r.bytes(len, "path")?.to_vec();
    let at = Timestamp { secs, nanos };
    Ok(Removal { at, way, kind, ino, id, size, names, digest, successor, uid, pid, name, path })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn removal()(
            secs in any::<i64>(), nanos in 0..1_000_000_000u32, way in any::<u8>(), kind in 1..8u8, ino in any::<u64>(),
            id in any::<Option<[u8; 16]>>(), size in any::<u64>(), names in any::<u32>(),
            digest in any::<Option<[u8; 32]>>(), successor in any::<Option<u64>>(), uid in any::<Option<u32>>(),
            pid in any::<Option<u32>>(), name in proptest::collection::vec(any::<u8>(), 0..=MAX_NAME_LEN),
            path in proptest::collection::vec(any::<u8>(), 0..300),
        ) -> Removal {
            let kind = FileKind::from_code(kind).unwrap();
            let at = Timestamp { secs, nanos };
            let successor = successor.map(Ino);
            Removal { at, way, kind, ino: Ino(ino), id, size, names, digest, successor, uid, pid, name, path }
        }
    }

    proptest! {
        #[test]
        fn an_entry_is_read_as_it_was_written(number in any::<u64>(), removal in removal(), missed in any::<u64>(), claim in any::<(u64, u64)>()) {
            let claim = Claim { first: claim.0, last: claim.1 };
            for entry in [Entry::Removal(removal), Entry::Missed(missed)] {
                let bytes = encode(number, claim, &entry);
                prop_assert_eq!(decode(&bytes).unwrap(), (number, claim, entry));
                for cut in 0..bytes.len() {
                    prop_assert!(decode(&bytes[..cut]).is_err());
                }
                prop_assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
            }
        }

        #[test]
        fn other_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _any = decode(&bytes);
        }
    }

    #[test]
    fn of_a_long_path_the_end_is_kept() {
        let mut path = vec![b'd'; MAX_PATH_LEN];
        path.extend_from_slice(b"/photo.jpg");
        let removal = Removal {
            at: Timestamp::default(),
            way: 1,
            kind: FileKind::Regular,
            ino: Ino(7),
            id: None,
            size: 0,
            names: 1,
            digest: None,
            successor: None,
            uid: None,
            pid: None,
            name: vec![b'n'; 1000],
            path,
        };
        let (_, _, entry) = decode(&encode(1, Claim { first: 1, last: 0 }, &Entry::Removal(removal))).unwrap();
        let Entry::Removal(read) = entry else { panic!("another entry") };
        assert_eq!((read.path.len(), read.name.len()), (MAX_PATH_LEN, MAX_NAME_LEN));
        assert!(read.path.ends_with(b"/photo.jpg"));
    }
}
