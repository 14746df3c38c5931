//! The mount table (`/proc/self/mountinfo`): what is mounted where, without touching a file system that may not answer.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The type that mounts of wamedia have.
pub const FS_TYPE: &str = "fuse.wamedia";

const TABLE: &str = "/proc/self/mountinfo";

/// The device number of a mounted file system: its name below `/sys/class/bdi`, its minor below
/// `/sys/fs/fuse/connections`. Used again by the kernel once the file system is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    /// Major number; 0 for file systems without a disk.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// The number of the mount.
    pub id: u64,
    /// The number of the mount it lies upon.
    pub parent: u64,
    /// The device number of the file system.
    pub device: Device,
    /// The directory of the file system that is shown: `/` unless a part is bind-mounted.
    pub root: PathBuf,
    /// Where it is mounted.
    pub path: PathBuf,
    /// The type: [`FS_TYPE`] for a volume.
    pub fs_type: String,
    /// The source: `fsname=` of the mount options.
    pub source: String,
}

/// All mounts of wamedia that this process can see, bind mounts of them included (these have the same device).
///
/// # Errors
/// [`crate::error::Kind::Io`] when the mount table cannot be read.
pub fn find_mounts() -> Result<Vec<MountEntry>> {
    let mut mounts = read_table()?;
    mounts.retain(|mount| mount.fs_type == FS_TYPE);
    Ok(mounts)
}

/// The whole mount table.
pub(super) fn read_table() -> Result<Vec<MountEntry>> {
    let table = fs::read(TABLE).map_err(|e| Error::io(format_args!("reading {TABLE}"), e))?;
    Ok(table.split(|&byte| byte == b'\n').filter_map(parse_line).collect())
}

/// The mount that one meets at exactly this path: of several upon each other, the topmost.
pub(super) fn top_at<'a>(table: &'a [MountEntry], path: &Path) -> Option<&'a MountEntry> {
    let here = || table.iter().filter(|mount| mount.path == path);
    here().find(|mount| !here().any(|other| other.parent == mount.id && other.id != mount.id))
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`; `None` when a line is not like that.
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut words = line.split(|&byte| byte == b' ');
    let id = number(words.next()?)?;
    let parent = number(words.next()?)?;
    let mut device = words.next()?.split(|&byte| byte == b':');
    let device = Device {
        major: u32::try_from(number(device.next()?)?).ok()?,
        minor: u32::try_from(number(device.next()?)?).ok()?,
    };
    let root = path(words.next()?);
    let target = path(words.next()?);
    let mut words = words.skip_while(|&word| word != b"-").skip(1);
    let fs_type = text(words.next()?);
    let source = text(words.next()?);
    Some(MountEntry { id, parent, device, root, path: target, fs_type, source })
}

fn number(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn path(word: &[u8]) -> PathBuf {
    PathBuf::from(unescape(word))
}

fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(unescape(word).as_bytes()).into_owned()
}

/// Undoes `\040` and the like, with which the kernel writes blanks, line breaks and backslashes.
fn unescape(word: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    loop {
        match rest {
            [] => break,
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            [byte, tail @ ..] => {
                plain.push(*byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[u8] = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        80 27 0:50 / /mnt/wa\\040media rw,nosuid,nodev shared:3 master:1 - fuse.wamedia what\\134ever rw,user_id=0\n\
        81 80 0:51 / /mnt/wa\\040media rw - tmpfs none rw\n\
        bad line\n";

    fn table() -> Vec<MountEntry> {
        LINES.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
    }

    #[test]
    fn blanks_and_backslashes_are_read_back() {
        let table = table();
        assert_eq!(table.len(), 3);
        assert_eq!(table[1].path, Path::new("/mnt/wa media"));
        assert_eq!(table[1].source, "what\\ever");
        assert_eq!(table[1].fs_type, FS_TYPE);
        assert_eq!(table[1].device.to_string(), "0:50");
    }

    #[test]
    fn of_mounts_upon_each_other_the_topmost_counts() {
        let table = table();
        assert_eq!(top_at(&table, Path::new("/mnt/wa media")).unwrap().fs_type, "tmpfs");
        assert_eq!(top_at(&table, Path::new("/")).unwrap().id, 27);
        assert!(top_at(&table, Path::new("/mnt")).is_none());
    }

    #[test]
    fn the_table_of_this_machine_can_be_read() {
        assert!(read_table().unwrap().iter().any(|mount| mount.path == Path::new("/")));
    }
}
