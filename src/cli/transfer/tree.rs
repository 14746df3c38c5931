//! What a copy needs of the tree it reads and of the tree it writes.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::Path;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::volume::FileKind;

/// The attributes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: FileKind,
    /// Permission, setuid, setgid and sticky bits (0o7777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, else 0.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last write.
    pub mtime: Timestamp,
    /// Which inode it is in its tree: two names with one identity are hard links.
    pub identity: (u64, u64),
    /// Names of the inode.
    pub nlink: u64,
}

/// An extended attribute: name and value.
pub type Attribute = (Vec<u8>, Vec<u8>);

/// The content of a file, from its beginning on.
pub trait Source: Read {
    /// Passes over a hole that begins here; its bytes, 0 where there are data or the file ends.
    ///
    /// # Errors
    /// `Io`.
    fn skip_hole(&mut self) -> Result<u64>;
}

/// Takes the content of a file, from its beginning on.
pub trait Sink: Write {
    /// Leaves a hole.
    ///
    /// # Errors
    /// What the file system or the volume says.
    fn leave_hole(&mut self, bytes: u64) -> Result<()>;
}

/// Gives the content of a file to the writer.
pub type Content<'a> = &'a mut dyn FnMut(&mut dyn Sink) -> Result<()>;

/// What could not be kept of an entry that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Owner or group.
    pub owner: bool,
    /// Extended attributes.
    pub attributes: u64,
}

/// A tree of files. Paths are relative to its root, without `.` and `..`; the empty path is the root. All methods may block.
///
/// # Errors
/// Each method gives what the file system or the volume says; `NoSpace`, `Poisoned` and `ReadOnly` mean that no further
/// write can succeed.
pub trait Tree {
    /// The attributes of an entry itself, not of what a symbolic link points to; `None` when it is not there.
    fn stat(&self, path: &Path) -> Result<Option<Meta>>;
    /// The names in a directory, sorted.
    fn list(&self, directory: &Path) -> Result<Vec<OsString>>;
    /// What a symbolic link points to.
    fn read_link(&self, path: &Path) -> Result<OsString>;
    /// The extended attributes of a file or directory that a copy carries over (`is_carried`).
    fn attributes(&self, path: &Path) -> Result<Vec<Attribute>>;
    /// The content of a file; `fresh` asks for what is stored rather than what is cached.
    fn open(&self, path: &Path, fresh: bool) -> Result<Box<dyn Source + '_>>;
    /// Whether it is a volume, whose `.expired` shows what is elsewhere in it too.
    fn is_volume(&self) -> bool;

    /// Writes a file with its attributes, in the place of what is there.
    fn put_file(&self, path: &Path, meta: &Meta, attributes: &[Attribute], content: Content<'_>) -> Result<Losses>;
    /// Makes a directory that its maker can write to; [`Tree::finish_directory`] gives it its attributes.
    fn make_directory(&self, path: &Path) -> Result<()>;
    /// Sets the attributes of a directory once its entries are written.
    fn finish_directory(&self, path: &Path, meta: &Meta, attributes: &[Attribute]) -> Result<Losses>;
    /// Makes a symbolic link.
    fn put_symlink(&self, path: &Path, meta: &Meta, target: &OsString) -> Result<Losses>;
    /// Makes a pipe, socket or device.
    fn put_node(&self, path: &Path, meta: &Meta) -> Result<Losses>;
    /// Makes a further name for a file.
    fn put_link(&self, path: &Path, existing: &Path) -> Result<()>;
    /// Removes anything but a directory.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Makes all that was written durable.
    fn settle(&self) -> Result<()>;
}

/// Whether a copy carries an extended attribute over: those of users, and of wamedia's own those that can be set.
#[must_use]
pub fn is_carried(name: &[u8]) -> bool {
    match name.strip_prefix(b"user.wamedia.") {
        Some(own) => matches!(own, b"hold" | b"retention"),
        None => name.starts_with(b"user."),
    }
}
