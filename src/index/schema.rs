//! What a key of each table looks like: built, read back, and nowhere else.
//!
//! Numbers are big-endian, so the order of keys is the order of the numbers. A keyed digest (`prf`) stands in for
//! anything that must not be readable on the disk.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `Meta` | name | the volume's |
//! | `Inodes` | ino (8) | attributes |
//! | `Entries` | parent ino (8), link id (8) | the directory entry |
//! | `Names` | parent ino (8), digest of the name (12) | the link id |
//! | `Ids` | digest of the media id (16), ino (8) | empty |
//! | `Ages` | class (2), seconds (8), nanoseconds (4), ino (8) | how it is listed |
//! | `Types` | digest of the MIME type (16), ino (8) | empty |

use crate::clock::Timestamp;
use crate::ids::Ino;

/// The bytes of a name's digest that a key keeps.
pub const NAME_DIGEST_LEN: usize = 12;

/// Joins the parts of a key, whose lengths add up to `N`.
fn join<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut key = [0; N];
    for (to, from) in key.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
    }
    key
}

/// Takes `N` bytes off the front of `key`.
fn take<const N: usize>(key: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = key.split_first_chunk::<N>()?;
    *key = tail;
    Some(*head)
}

/// Takes an inode number that must be the last part of `key`.
fn last_ino(mut key: &[u8]) -> Option<Ino> {
    let ino = u64::from_be_bytes(take(&mut key)?);
    key.is_empty().then_some(Ino(ino))
}

/// The key of an inode in [`Table::Inodes`](super::Table::Inodes).
#[must_use]
pub fn inode(ino: Ino) -> [u8; 8] {
    ino.0.to_be_bytes()
}

/// Reads a key of [`inode`].
#[must_use]
pub fn parse_inode(key: &[u8]) -> Option<Ino> {
    last_ino(key)
}

/// The key of the entry `link` of the directory `parent` in [`Table::Entries`](super::Table::Entries).
#[must_use]
pub fn entry(parent: Ino, link: u64) -> [u8; 16] {
    join(&[&parent.0.to_be_bytes(), &link.to_be_bytes()])
}

/// Reads a key of [`entry`]: parent and link id.
#[must_use]
pub fn parse_entry(mut key: &[u8]) -> Option<(Ino, u64)> {
    let parent = u64::from_be_bytes(take(&mut key)?);
    let link = u64::from_be_bytes(take(&mut key)?);
    key.is_empty().then_some((Ino(parent), link))
}

/// The key of a name in the directory `parent` in [`Table::Names`](super::Table::Names).
///
/// Of `digest`, a keyed digest of the name, the first [`NAME_DIGEST_LEN`] bytes count; the entry holds the whole name.
#[must_use]
pub fn name(parent: Ino, digest: &[u8; 16]) -> [u8; 8 + NAME_DIGEST_LEN] {
    join(&[&parent.0.to_be_bytes(), digest])
}

/// Reads a key of [`name`]: parent and the front of the digest.
#[must_use]
pub fn parse_name(mut key: &[u8]) -> Option<(Ino, [u8; NAME_DIGEST_LEN])> {
    let parent = u64::from_be_bytes(take(&mut key)?);
    let digest = take(&mut key)?;
    key.is_empty().then_some((Ino(parent), digest))
}

/// The key of an inode that is the medium with the given keyed digest of its id, in [`Table::Ids`](super::Table::Ids).
#[must_use]
pub fn id(digest: &[u8; 16], ino: Ino) -> [u8; 24] {
    join(&[digest, &ino.0.to_be_bytes()])
}

/// Reads a key of [`id`]: digest and inode.
#[must_use]
pub fn parse_id(mut key: &[u8]) -> Option<([u8; 16], Ino)> {
    let digest = take(&mut key)?;
    Some((digest, last_ino(key)?))
}

/// Seconds as bytes in the order of the numbers, those before 1970 first.
fn ordered_secs(secs: i64) -> [u8; 8] {
    (secs.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// The key of an inode of retention class `class` aged since `time`, in [`Table::Ages`](super::Table::Ages).
#[must_use]
pub fn age(class: u16, time: Timestamp, ino: Ino) -> [u8; 22] {
    join(&[&class.to_be_bytes(), &ordered_secs(time.secs), &time.nanos.to_be_bytes(), &ino.0.to_be_bytes()])
}

/// The front of the keys of all inodes of `class` aged since the second `secs`: a bound for ranges.
#[must_use]
pub fn age_bound(class: u16, secs: i64) -> [u8; 10] {
    join(&[&class.to_be_bytes(), &ordered_secs(secs)])
}

/// Reads a key of [`age`]: class, time and inode.
#[must_use]
pub fn parse_age(mut key: &[u8]) -> Option<(u16, Timestamp, Ino)> {
    let class = u16::from_be_bytes(take(&mut key)?);
    let secs = (u64::from_be_bytes(take(&mut key)?) ^ (1 << 63)).cast_signed();
    let nanos = u32::from_be_bytes(take(&mut key)?);
    Some((class, Timestamp { secs, nanos }, last_ino(key)?))
}

/// The key of an inode whose MIME type has the given keyed digest, in [`Table::Types`](super::Table::Types).
#[must_use]
pub fn mime(digest: &[u8; 16], ino: Ino) -> [u8; 24] {
    join(&[digest, &ino.0.to_be_bytes()])
}

/// Reads a key of [`mime`]: digest and inode.
#[must_use]
pub fn parse_mime(key: &[u8]) -> Option<([u8; 16], Ino)> {
    parse_id(key)
}

/// The key of one of the volume's own facts in [`Table::Meta`](super::Table::Meta).
#[must_use]
pub fn meta(name: &str) -> Vec<u8> {
    name.as_bytes().to_vec()
}

/// Reads a key of [`meta`].
#[must_use]
pub fn parse_meta(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok()
}

/// The smallest key above all keys that start with `prefix`; `None` when there is none (an empty or all-0xFF prefix).
///
/// `scan(table, Included(prefix), end.map_or(Unbounded, Excluded))` is then everything below `prefix`.
#[must_use]
pub fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time() -> impl Strategy<Value = Timestamp> {
        (any::<i64>(), 0_u32..1_000_000_000).prop_map(|(secs, nanos)| Timestamp { secs, nanos })
    }

    proptest! {
        #[test]
        fn every_key_reads_back(a in any::<u64>(), b in any::<u64>(), digest in any::<[u8; 16]>(), class in any::<u16>(), time in time()) {
            let (a, ino) = (Ino(a), Ino(b));
            prop_assert_eq!(parse_inode(&inode(ino)), Some(ino));
            prop_assert_eq!(parse_entry(&entry(a, b)), Some((a, b)));
            let name_key = name(a, &digest);
            let (parent, front) = parse_name(&name_key).unwrap();
            prop_assert_eq!(parent, a);
            prop_assert_eq!(&front[..], &digest[..NAME_DIGEST_LEN]);
            prop_assert_eq!(parse_id(&id(&digest, ino)), Some((digest, ino)));
            prop_assert_eq!(parse_mime(&mime(&digest, ino)), Some((digest, ino)));
            prop_assert_eq!(parse_age(&age(class, time, ino)), Some((class, time, ino)));
            prop_assert!(age(class, time, ino).starts_with(&age_bound(class, time.secs)));
        }

        #[test]
        fn keys_sort_as_what_they_say(a in any::<(u64, u64)>(), b in any::<(u64, u64)>(), c in any::<(u16, u64)>(), d in any::<(u16, u64)>(), s in time(), t in time()) {
            prop_assert_eq!(inode(Ino(a.0)).cmp(&inode(Ino(b.0))), a.0.cmp(&b.0));
            prop_assert_eq!(entry(Ino(a.0), a.1).cmp(&entry(Ino(b.0), b.1)), a.cmp(&b));
            let (p, q) = ((c.0, s, Ino(c.1)), (d.0, t, Ino(d.1)));
            prop_assert_eq!(age(p.0, p.1, p.2).cmp(&age(q.0, q.1, q.2)), p.cmp(&q));
        }

        #[test]
        fn other_lengths_are_no_keys(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(parse_inode(&bytes).is_some(), bytes.len() == 8);
            prop_assert_eq!(parse_entry(&bytes).is_some(), bytes.len() == 16);
            prop_assert_eq!(parse_name(&bytes).is_some(), bytes.len() == 20);
            prop_assert_eq!(parse_id(&bytes).is_some(), bytes.len() == 24);
            prop_assert_eq!(parse_age(&bytes).is_some(), bytes.len() == 22);
        }

        #[test]
        fn a_prefix_and_what_comes_after_it_enclose_its_keys(prefix in proptest::collection::vec(250_u8..=255, 0..4), rest in proptest::collection::vec(any::<u8>(), 0..4)) {
            let key = [prefix.clone(), rest].concat();
            match after(&prefix) {
                Some(end) => prop_assert!(key < end && !end.starts_with(&prefix)),
                None => prop_assert!(prefix.iter().all(|byte| *byte == 255)),
            }
        }
    }

    #[test]
    fn a_meta_key_is_its_name() {
        assert_eq!(parse_meta(&meta("totals")), Some("totals"));
        assert_eq!(parse_meta(b"\xff"), None);
    }
}
