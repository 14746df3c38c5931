//! Newtypes for the numbers and names that identify things.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Kind, Result};

/// Every number of an inode, blob, link or frame lies below: a reader refuses others, so that no sum of them overflows and
/// the marks that are put above them (in `.expired`, in media ids) have room.
pub const NUMBER_END: u64 = 1 << 60;
/// A volume whose numbers have come to this is not opened: what it gives out afterwards lies below [`NUMBER_END`] for ever.
pub const NUMBER_LIMIT: u64 = NUMBER_END / 2;

/// The number of an inode: one file, directory or symlink of the volume.
///
/// Never 0. It is the id of the first blob the inode ever had, so it is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory of every volume.
    pub const ROOT: Ino = Ino(1);
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Follows a way from directory to parent, and finds out when it leads in a circle. The memory is that of two numbers.
#[derive(Debug, Default)]
pub struct Ascent {
    /// A directory passed earlier; none at first.
    mark: Option<Ino>,
    steps: u64,
    next_mark: u64,
}

impl Ascent {
    /// The way comes to `dir`.
    ///
    /// # Errors
    /// `Damaged` when it has been there before, at the latest on the third time round.
    pub fn step(&mut self, dir: Ino) -> Result<()> {
        if self.mark == Some(dir) {
            return Err(Error::new(
                Kind::Damaged,
                format!("directory {dir} lies in itself; run `wamedia rebuild-index`"),
            ));
        }
        if self.steps == self.next_mark {
            (self.mark, self.next_mark) = (Some(dir), 2 * self.steps + 1);
        }
        self.steps += 1;
        Ok(())
    }
}

/// The number of a blob, which is also its file name in the store (16 hex digits).
///
/// Numbers are given out in ascending order and never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub u64);

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The random identity of a volume, made at `init`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VolumeId(pub [u8; 16]);

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Uuid::from_bytes(self.0).hyphenated())
    }
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A medium.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A UNIX socket's name.
    Socket,
    /// A character device's name.
    CharDevice,
    /// A block device's name.
    BlockDevice,
}

impl FileKind {
    /// The number that stands for it in the format.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            FileKind::Regular => 1,
            FileKind::Directory => 2,
            FileKind::Symlink => 3,
            FileKind::Fifo => 4,
            FileKind::Socket => 5,
            FileKind::CharDevice => 6,
            FileKind::BlockDevice => 7,
        }
    }

    /// The kind a number of the format stands for.
    #[must_use]
    pub fn from_code(code: u8) -> Option<FileKind> {
        [
            FileKind::Regular,
            FileKind::Directory,
            FileKind::Symlink,
            FileKind::Fifo,
            FileKind::Socket,
            FileKind::CharDevice,
            FileKind::BlockDevice,
        ]
        .into_iter()
        .find(|kind| kind.code() == code)
    }
}

/// A media id of the WhatsApp Business API: a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaId(pub Uuid);

impl MediaId {
    /// Reads a hyphenated UUID of 36 characters; any other form is `None`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<MediaId> {
        let text = std::str::from_utf8(text).ok()?;
        if text.len() != 36 {
            return None;
        }
        Uuid::try_parse(text).ok().map(MediaId)
    }

    /// Reads the three path parts of `shared/<4 hex>/<4 hex>/<24 hex>`.
    #[must_use]
    pub fn from_shared_path(first: &[u8], second: &[u8], rest: &[u8]) -> Option<MediaId> {
        if first.len() != 4 || second.len() != 4 || rest.len() != 24 {
            return None;
        }
        let mut hex = Vec::with_capacity(32);
        for part in [first, second, rest] {
            if !part.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            hex.extend_from_slice(part);
        }
        let text = std::str::from_utf8(&hex).ok()?;
        Uuid::try_parse(text).ok().map(MediaId)
    }

    /// The parts of the path below `shared/` at which the API client keeps this medium.
    #[must_use]
    pub fn shared_path(&self) -> [String; 3] {
        let hex = self.0.simple().to_string();
        let (first, rest) = hex.split_at(4);
        let (second, rest) = rest.split_at(4);
        [first.to_owned(), second.to_owned(), rest.to_owned()]
    }
}

impl Serialize for MediaId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MediaId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<MediaId, D::Error> {
        let text = String::deserialize(deserializer)?;
        MediaId::parse(text.as_bytes()).ok_or_else(|| serde::de::Error::custom("it is no media id"))
    }
}

impl fmt::Display for MediaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.hyphenated())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_name_the_same_medium() {
        let plain = MediaId::parse(b"463eb7ec-ff4e-4d9b-b110-1879cbd411b2").unwrap();
        let path = MediaId::from_shared_path(b"463e", b"b7ec", b"ff4e4d9bb1101879cbd411b2").unwrap();
        assert_eq!(plain, path);
        assert_eq!(plain.shared_path(), ["463e", "b7ec", "ff4e4d9bb1101879cbd411b2"]);
    }

    #[test]
    fn a_way_in_a_circle_has_an_end() {
        let mut straight = Ascent::default();
        assert!((1..10_000).all(|dir| straight.step(Ino(dir)).is_ok()));
        for (before, round) in [(0, 1), (0, 2), (5, 3), (100, 7), (3, 1000)] {
            let mut ascent = Ascent::default();
            let way = (0..before).chain((before..before + round).cycle());
            let steps = way.map(|dir| ascent.step(Ino(dir + 1))).take_while(Result::is_ok).take(100_000).count();
            assert!(steps as u64 <= 3 * (before + round) + 3, "{before} {round}: {steps} steps");
        }
    }

    #[test]
    fn other_forms_are_no_media_ids() {
        for text in
            [&b""[..], b"463eb7ecff4e4d9bb1101879cbd411b2", b"463eb7ec-ff4e-4d9b-b110-1879cbd411b2.jpg", b"\xff"]
        {
            assert!(MediaId::parse(text).is_none());
        }
        assert!(MediaId::from_shared_path(b"463g", b"b7ec", b"ff4e4d9bb1101879cbd411b2").is_none());
        assert!(MediaId::from_shared_path(b"463", b"b7ec", b"ff4e4d9bb1101879cbd411b2").is_none());
    }
}
