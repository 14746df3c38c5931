//! One of the two sides: a directory, the files that are open below it, and the system calls.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::{Errno, Result};

use crate::ops::{How, Range};

/// Permissions are those of the mode that is asked for: the process has no umask.
fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits)
}

/// One side.
pub struct Side {
    pub name: &'static str,
    pub root: PathBuf,
    dir: OwnedFd,
    pub files: Vec<File>,
}

/// What a call is about: a path below the root, or an open file by its number.
#[derive(Clone, Debug)]
pub enum Subject {
    Path(Vec<u8>),
    File(usize),
}

fn relative(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(if path.is_empty() { b"." } else { path }))
}

/// Where the kernel shows an open file, for calls that take paths alone.
fn of_file(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn flags_of(how: How) -> OFlags {
    let flags = match how {
        How::Read => OFlags::RDONLY,
        How::Write => OFlags::WRONLY,
        How::Both => OFlags::RDWR,
        How::Append => OFlags::WRONLY | OFlags::APPEND,
        How::Anew => OFlags::RDWR | OFlags::TRUNC,
    };
    flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK
}

impl Side {
    pub fn new(name: &'static str, root: &Path) -> Side {
        Side { name, root: root.to_owned(), dir: open_dir(root), files: Vec::new() }
    }

    /// Lets go of everything, so that a mount can end.
    pub fn let_go(&mut self) {
        self.files.clear();
        self.dir = open_dir(Path::new("/"));
    }

    /// Begins anew after [`Side::let_go`].
    pub fn take_up(&mut self) {
        self.dir = open_dir(&self.root);
    }

    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The path by which a call that knows no directory finds something below the root; a last link is not followed by those
    /// that have a choice.
    pub fn full(&self, path: &[u8]) -> PathBuf {
        self.root.join(relative(path))
    }

    pub fn create(&mut self, path: &[u8], bits: u32, how: How) -> Result<()> {
        let flags = flags_of(how) | OFlags::CREATE | OFlags::EXCL;
        let made = rustix::fs::openat(&self.dir, relative(path), flags, mode(bits))?;
        self.files.push(made.into());
        Ok(())
    }

    pub fn open(&mut self, path: &[u8], how: How) -> Result<()> {
        let opened = rustix::fs::openat(&self.dir, relative(path), flags_of(how), Mode::empty())?;
        self.files.push(opened.into());
        Ok(())
    }

    pub fn mkdir(&self, path: &[u8], bits: u32) -> Result<()> {
        rustix::fs::mkdirat(&self.dir, relative(path), mode(bits))
    }

    pub fn symlink(&self, target: &[u8], path: &[u8]) -> Result<()> {
        rustix::fs::symlinkat(OsStr::from_bytes(target), &self.dir, relative(path))
    }

    pub fn mknod(&self, path: &[u8], kind: FileType, bits: u32, device: u64) -> Result<()> {
        rustix::fs::mknodat(&self.dir, relative(path), kind, mode(bits), device)
    }

    pub fn link(&self, from: &Subject, to: &[u8]) -> Result<()> {
        let to = relative(to);
        match from {
            Subject::Path(from) => rustix::fs::linkat(&self.dir, relative(from), &self.dir, to, AtFlags::empty()),
            Subject::File(nth) => rustix::fs::linkat(&self.files[*nth], "", &self.dir, to, AtFlags::EMPTY_PATH),
        }
    }

    pub fn remove(&self, path: &[u8], is_rmdir: bool) -> Result<()> {
        let flags = if is_rmdir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(&self.dir, relative(path), flags)
    }

    pub fn rename(&self, from: &[u8], to: &[u8], flags: RenameFlags) -> Result<()> {
        rustix::fs::renameat_with(&self.dir, relative(from), &self.dir, relative(to), flags)
    }

    /// Writes all of it, and says how much that was.
    pub fn write(&self, nth: usize, offset: u64, bytes: &[u8], unprivileged: bool) -> Result<u64> {
        let write = || {
            let mut done = 0;
            while done < bytes.len() {
                match rustix::io::pwrite(&self.files[nth], &bytes[done..], offset + done as u64)? {
                    0 => break,
                    more => done += more,
                }
            }
            // What is empty is asked for all the same.
            if bytes.is_empty() {
                rustix::io::pwrite(&self.files[nth], bytes, offset)?;
            }
            Ok(done as u64)
        };
        if unprivileged { as_nobody(write) } else { write() }
    }

    pub fn read(&self, nth: usize, offset: u64, len: usize) -> Result<Vec<u8>> {
        read(&self.files[nth], offset, len)
    }

    /// The whole of a file, however it was opened.
    pub fn bytes(&self, nth: usize) -> Vec<u8> {
        fs::read(of_file(&self.files[nth])).unwrap_or_else(|e| panic!("{}: reading handle {nth}: {e}", self.name))
    }

    /// The whole of a regular file by its name.
    pub fn content(&self, path: &[u8]) -> Vec<u8> {
        fs::read(self.full(path)).unwrap_or_else(|e| panic!("{}: reading {path:?}: {e}", self.name))
    }

    /// Copies until nothing is left, and says how much that was.
    pub fn copy(&self, from: usize, to: usize, offset: u64, to_offset: u64, len: u64) -> Result<u64> {
        let (mut offset, mut to_offset, mut done) = (offset, to_offset, 0);
        while done < len {
            let (source, target) = (&self.files[from], &self.files[to]);
            let left = usize::try_from(len - done).unwrap();
            match rustix::fs::copy_file_range(source, Some(&mut offset), target, Some(&mut to_offset), left)? {
                0 => break,
                more => done += more as u64,
            }
        }
        Ok(done)
    }

    pub fn allocate(&self, nth: usize, offset: u64, len: u64, what: Range) -> Result<()> {
        let flags = match what {
            Range::Reserve => FallocateFlags::empty(),
            Range::ReserveKeeping => FallocateFlags::KEEP_SIZE,
            Range::Punch => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            Range::Zero => FallocateFlags::ZERO_RANGE,
            Range::ZeroKeeping => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        };
        rustix::fs::fallocate(&self.files[nth], flags, offset, len)
    }

    pub fn resize(&self, of: &Subject, len: u64) -> Result<()> {
        match of {
            Subject::File(nth) => rustix::fs::ftruncate(&self.files[*nth], len),
            Subject::Path(path) => truncate(&self.full(path), len),
        }
    }

    pub fn chmod(&self, of: &Subject, bits: u32) -> Result<()> {
        match of {
            Subject::File(nth) => rustix::fs::fchmod(&self.files[*nth], mode(bits)),
            Subject::Path(path) => rustix::fs::chmodat(&self.dir, relative(path), mode(bits), AtFlags::empty()),
        }
    }

    pub fn chown(&self, of: &Subject, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match of {
            Subject::File(nth) => rustix::fs::fchown(&self.files[*nth], uid, gid),
            Subject::Path(path) => rustix::fs::chownat(&self.dir, relative(path), uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    pub fn touch(&self, of: &Subject, secs: u32) -> Result<()> {
        let at = Timespec { tv_sec: i64::from(secs), tv_nsec: i64::from(secs % 1_000_000_000) };
        let times = Timestamps { last_access: at, last_modification: at };
        match of {
            Subject::File(nth) => rustix::fs::futimens(&self.files[*nth], &times),
            Subject::Path(path) => rustix::fs::utimensat(&self.dir, relative(path), &times, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    pub fn set_xattr(&self, of: &Subject, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        let name = OsStr::from_bytes(name);
        match of {
            Subject::File(nth) => rustix::fs::fsetxattr(&self.files[*nth], name, value, flags),
            Subject::Path(path) => rustix::fs::lsetxattr(self.full(path), name, value, flags),
        }
    }

    pub fn remove_xattr(&self, of: &Subject, name: &[u8]) -> Result<()> {
        let name = OsStr::from_bytes(name);
        match of {
            Subject::File(nth) => rustix::fs::fremovexattr(&self.files[*nth], name),
            Subject::Path(path) => rustix::fs::lremovexattr(self.full(path), name),
        }
    }

    pub fn fsync(&self, nth: usize) -> Result<()> {
        rustix::fs::fsync(&self.files[nth])
    }

    pub fn fsync_dir(&self, path: &[u8]) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::fsync(rustix::fs::openat(&self.dir, relative(path), flags, Mode::empty())?)
    }

    pub fn sync_all(&self) -> Result<()> {
        rustix::fs::syncfs(&self.dir)
    }
}

fn open_dir(path: &Path) -> OwnedFd {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn read(file: &File, offset: u64, len: usize) -> Result<Vec<u8>> {
    let (mut bytes, mut done) = (vec![0xEE; len], 0);
    while done < len {
        match rustix::io::pread(file, &mut bytes[done..], offset + done as u64)? {
            0 => break,
            more => done += more,
        }
    }
    if len == 0 {
        rustix::io::pread(file, &mut [0_u8; 0][..], offset)?;
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Changes a length by name, which is a request without a handle.
fn truncate(path: &Path, len: u64) -> Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    #[expect(unsafe_code, reason = "truncate(2) has no safe form")]
    // SAFETY: the path is a string that ends with zero and lives as long as the call.
    let done = unsafe { libc::truncate(path.as_ptr(), i64::try_from(len).unwrap()) };
    if done == 0 { Ok(()) } else { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()) }
}

/// Does something without the rights of root over files.
fn as_nobody<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    let change = |id: u32| {
        #[expect(unsafe_code, reason = "setfsuid(2) has no safe form")]
        // SAFETY: it changes the calling thread's own id for file systems and touches no memory.
        let _before = unsafe { libc::setfsuid(id) };
    };
    change(1000);
    let outcome = act();
    change(0);
    outcome
}
