//! A tree of plain files: a directory, or a mounted volume.
//!
//! Every step goes through directory descriptors and follows no symbolic link, so that whoever may write into the tree
//! cannot lead a copy made by root out of it.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{self, Advice, AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::sparse::{SparseReader, SparseWriter};
use super::tree::{Attribute, Content, Losses, Meta, Source, Tree, is_carried};
use crate::cli::target::STORE_ATTRIBUTE;
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::volume::FileKind;

/// Bytes of a list of extended attributes, and of a value, at most (the kernel's own bound).
const MAX_ATTRIBUTE_BYTES: usize = 64 * 1024;

/// Makes what was written durable where the file system cannot be asked to (FUSE).
pub type Settle = Box<dyn Fn() -> Result<()>>;

/// A directory and all below it.
pub struct PlainTree {
    root: Rc<OwnedFd>,
    settle: Option<Settle>,
    /// The directory used last: entries come directory by directory.
    last: RefCell<(PathBuf, Rc<OwnedFd>)>,
}

impl PlainTree {
    /// Opens a directory; `settle` is called in the place of syncfs(2).
    ///
    /// # Errors
    /// `NotFound` or `Io` when it is not there or no directory.
    pub fn open(root: &Path, settle: Option<Settle>) -> Result<PlainTree> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = fs::openat(CWD, root, flags, Mode::empty());
        let root = Rc::new(opened.map_err(|error| {
            match error {
                Errno::NOENT | Errno::NOTDIR => {
                    Error::new(Kind::NotFound, format!("{} is not a directory", root.display()))
                        .with_source(std::io::Error::from(error))
                }
                error => failed("cannot open", error).with_context(root),
            }
        })?);
        Ok(PlainTree { last: RefCell::new((PathBuf::new(), Rc::clone(&root))), root, settle })
    }

    /// A directory of the tree.
    fn directory(&self, path: &Path) -> Result<Rc<OwnedFd>> {
        if path.as_os_str().is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if self.last.borrow().0 == path {
            return Ok(Rc::clone(&self.last.borrow().1));
        }
        let mut directory = Rc::clone(&self.root);
        for name in path.components() {
            directory = Rc::new(open_directory(directory.as_fd(), name.as_os_str())?);
        }
        *self.last.borrow_mut() = (path.to_owned(), Rc::clone(&directory));
        Ok(directory)
    }

    /// The directory of an entry, and its name there.
    fn place<'a>(&self, path: &'a Path) -> Result<(Rc<OwnedFd>, &'a OsStr)> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok((self.directory(parent)?, name)),
            _ => Err(Error::new(Kind::Invalid, "the root of a tree is no entry")),
        }
    }

    fn open_file(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let (directory, name) = self.place(path)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file =
            fs::openat(&*directory, name, flags, Mode::RUSR | Mode::WUSR).map_err(|e| failed("cannot open", e))?;
        let stat = fs::fstat(&file).map_err(|e| failed("cannot look at", e))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(file),
            _ => Err(Error::new(Kind::Busy, "it is no regular file any more; run the command again")),
        }
    }

    /// Something that extended attributes can be read from or set on.
    fn open_any(&self, path: &Path) -> Result<Rc<OwnedFd>> {
        if path.as_os_str().is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        let (directory, name) = self.place(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        fs::openat(&*directory, name, flags, Mode::empty()).map(Rc::new).map_err(|e| failed("cannot open", e))
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(parent, name, flags, Mode::empty()).map_err(|e| failed("cannot open", e))
}

fn failed(what: &str, error: Errno) -> Error {
    let error = std::io::Error::from(error);
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => Error::new(Kind::ReadOnly, format!("{what}: {error}")).with_source(error),
        _ => Error::io(what, error),
    }
}

trait WithContext {
    /// The same failure with the path it is about.
    fn with_context(self, path: &Path) -> Self;
}

impl WithContext for Error {
    fn with_context(self, path: &Path) -> Error {
        Error::new(self.kind(), format!("{}: {self}", path.display())).with_source(self)
    }
}

fn meta(stat: &Stat) -> Meta {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        _ => FileKind::Regular,
    };
    Meta {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        atime: timestamp(stat.st_atime, stat.st_atime_nsec),
        mtime: timestamp(stat.st_mtime, stat.st_mtime_nsec),
        identity: (stat.st_dev, stat.st_ino),
        nlink: stat.st_nlink,
    }
}

fn timestamp<N: TryInto<u32>>(secs: i64, nanos: N) -> Timestamp {
    Timestamp { secs, nanos: nanos.try_into().unwrap_or(0) }
}

fn timestamps(meta: &Meta) -> Timestamps {
    let spec = |at: Timestamp| Timespec { tv_sec: at.secs, tv_nsec: at.nanos.into() };
    Timestamps { last_access: spec(meta.atime), last_modification: spec(meta.mtime) }
}

/// Sets owner, attributes, mode and times of something open, in the order in which one does not undo another.
fn dress(file: BorrowedFd<'_>, meta: &Meta, attributes: &[Attribute]) -> Result<Losses> {
    let owner = lose_owner(fs::fchown(file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid))))?;
    let mut lost = 0;
    for (name, value) in attributes {
        match fs::fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS | Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => lost += 1,
            Err(error) => return Err(failed("cannot set an extended attribute", error)),
        }
    }
    fs::fchmod(file, Mode::from_raw_mode(meta.mode)).map_err(|e| failed("cannot set the mode", e))?;
    fs::futimens(file, &timestamps(meta)).map_err(|e| failed("cannot set the times", e))?;
    Ok(Losses { owner, attributes: lost })
}

/// Whether the owner could not be kept, which is the lot of everybody but root.
fn lose_owner(changed: rustix::io::Result<()>) -> Result<bool> {
    match changed {
        Ok(()) => Ok(false),
        Err(Errno::PERM | Errno::INVAL) => Ok(true),
        Err(error) => Err(failed("cannot set the owner", error)),
    }
}

/// The same for something that cannot be opened.
fn dress_unopened(directory: BorrowedFd<'_>, name: &OsStr, meta: &Meta) -> Result<Losses> {
    let (uid, gid) = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
    let owner = lose_owner(fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW))?;
    fs::utimensat(directory, name, &timestamps(meta), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| failed("cannot set the times", e))?;
    Ok(Losses { owner, attributes: 0 })
}

/// Gives a node that was just made the mode that the umask kept from it; not a link that took its place meanwhile.
fn undo_umask(directory: BorrowedFd<'_>, name: &OsStr, meta: &Meta) -> Result<()> {
    let failed = |error| failed("cannot set the mode", error);
    let node = fs::openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed)?;
    let found = self::meta(&fs::fstat(&node).map_err(failed)?);
    if found.kind != meta.kind {
        return Err(Error::new(Kind::Busy, "something else took its place; run the command again"));
    }
    let path = format!("/proc/self/fd/{}", node.as_raw_fd());
    fs::chmod(path, Mode::from_raw_mode(meta.mode)).map_err(failed)
}

fn read_attributes(file: BorrowedFd<'_>) -> Result<Vec<Attribute>> {
    let mut names = vec![0; MAX_ATTRIBUTE_BYTES];
    let length = match fs::flistxattr(file, names.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(failed("cannot list extended attributes", error)),
    };
    names.truncate(length);
    let mut attributes = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| is_carried(name)) {
        let mut value = vec![0; MAX_ATTRIBUTE_BYTES];
        match fs::fgetxattr(file, OsStr::from_bytes(name), value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                attributes.push((name.to_vec(), value));
            }
            Err(Errno::NODATA) => {}
            Err(error) => return Err(failed("cannot read an extended attribute", error)),
        }
    }
    Ok(attributes)
}

impl Tree for PlainTree {
    fn stat(&self, path: &Path) -> Result<Option<Meta>> {
        if path.as_os_str().is_empty() {
            return fs::fstat(&*self.root).map(|stat| Some(meta(&stat))).map_err(|e| failed("cannot look at", e));
        }
        let (directory, name) = self.place(path)?;
        match fs::statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(meta(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("cannot look at", error)),
        }
    }

    fn list(&self, directory: &Path) -> Result<Vec<OsString>> {
        let directory = self.directory(directory)?;
        let entries = Dir::read_from(&*directory).map_err(|e| failed("cannot list", e))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| failed("cannot list", e))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn read_link(&self, path: &Path) -> Result<OsString> {
        let (directory, name) = self.place(path)?;
        let target = fs::readlinkat(&*directory, name, Vec::new()).map_err(|e| failed("cannot read the link", e))?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    fn attributes(&self, path: &Path) -> Result<Vec<Attribute>> {
        read_attributes(self.open_any(path)?.as_fd())
    }

    fn open(&self, path: &Path, fresh: bool) -> Result<Box<dyn Source + '_>> {
        let file = self.open_file(path, OFlags::RDONLY)?;
        let advice = if fresh { Advice::DontNeed } else { Advice::Sequential };
        fs::fadvise(&file, 0, None, advice).map_err(|e| failed("cannot read", e))?;
        Ok(Box::new(SparseReader::new(File::from(file))?))
    }

    fn put_file(&self, path: &Path, meta: &Meta, attributes: &[Attribute], content: Content<'_>) -> Result<Losses> {
        let opened = self.open_file(path, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
        let mut writer = SparseWriter::new(File::from(opened));
        match content(&mut writer).and_then(|()| writer.finish()) {
            Ok(file) => dress(file.as_fd(), meta, attributes),
            Err(error) => {
                // The first failure is the one to tell; what is left has a time that does not fit, and is written again.
                let _ = self.remove(path);
                Err(error)
            }
        }
    }

    fn is_volume(&self) -> bool {
        self.settle.is_some() || fs::fgetxattr(&*self.root, STORE_ATTRIBUTE, &mut [0_u8; 0][..]).is_ok()
    }

    fn make_directory(&self, path: &Path) -> Result<()> {
        let (directory, name) = self.place(path)?;
        fs::mkdirat(&*directory, name, Mode::RWXU).map_err(|e| failed("cannot make the directory", e))
    }

    fn finish_directory(&self, path: &Path, meta: &Meta, attributes: &[Attribute]) -> Result<Losses> {
        dress(self.directory(path)?.as_fd(), meta, attributes)
    }

    fn put_symlink(&self, path: &Path, meta: &Meta, target: &OsString) -> Result<Losses> {
        let (directory, name) = self.place(path)?;
        fs::symlinkat(target, &*directory, name).map_err(|e| failed("cannot make the link", e))?;
        dress_unopened(directory.as_fd(), name, meta)
    }

    fn put_node(&self, path: &Path, meta: &Meta) -> Result<Losses> {
        let kind = match meta.kind {
            FileKind::Fifo => FileType::Fifo,
            FileKind::Socket => FileType::Socket,
            FileKind::CharDevice => FileType::CharacterDevice,
            FileKind::BlockDevice => FileType::BlockDevice,
            _ => return Err(Error::new(Kind::Invalid, "it is no pipe, socket or device")),
        };
        let (directory, name) = self.place(path)?;
        let mode = Mode::from_raw_mode(meta.mode);
        fs::mknodat(&*directory, name, kind, mode, meta.rdev).map_err(|e| failed("cannot make the node", e))?;
        let losses = dress_unopened(directory.as_fd(), name, meta)?;
        undo_umask(directory.as_fd(), name, meta)?;
        Ok(losses)
    }

    fn put_link(&self, path: &Path, existing: &Path) -> Result<()> {
        let (to_directory, to_name) = self.place(path)?;
        let (from_directory, from_name) = self.place(existing)?;
        fs::linkat(&*from_directory, from_name, &*to_directory, to_name, AtFlags::empty())
            .map_err(|e| failed("cannot make the hard link", e))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let (directory, name) = self.place(path)?;
        fs::unlinkat(&*directory, name, AtFlags::empty()).map_err(|e| failed("cannot remove", e))
    }

    fn settle(&self) -> Result<()> {
        match &self.settle {
            Some(settle) => settle(),
            None => fs::syncfs(&*self.root).map_err(|e| failed("cannot make it durable", e)),
        }
    }
}
