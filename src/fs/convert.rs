//! Between the kernel's words and ours. Pure functions.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, OpenFlags, RenameFlags, TimeOrNow};

use crate::clock::Timestamp;
use crate::ids::Ino;
use crate::volume::{Allocate, Attr, FileKind, OpenMode, RenameMode, Seek, XattrMode};

/// What `stat` shows as the best size for one read or write: a whole request.
const BLOCK_SIZE: u32 = 1 << 20;

/// The attributes of an inode as the kernel takes them.
pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: system_time(attr.btime),
        kind: file_type(attr.kind),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// What stands for `.` and `..` in a listing with attributes: the kernel looks at their number and type only.
pub(super) fn dot_attr(ino: Ino) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino.0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::Directory,
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// What `mknod` asks for; `None` for a type that it cannot make.
pub(super) fn node_kind(mode: u32) -> Option<FileKind> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Some(FileKind::Regular),
        libc::S_IFIFO => Some(FileKind::Fifo),
        libc::S_IFSOCK => Some(FileKind::Socket),
        libc::S_IFCHR => Some(FileKind::CharDevice),
        libc::S_IFBLK => Some(FileKind::BlockDevice),
        _ => None,
    }
}

/// A time for the kernel; one that the machine cannot express becomes 1970.
fn system_time(time: Timestamp) -> SystemTime {
    let whole = if time.secs >= 0 {
        UNIX_EPOCH.checked_add(Duration::from_secs(time.secs.unsigned_abs()))
    } else {
        UNIX_EPOCH.checked_sub(Duration::from_secs(time.secs.unsigned_abs()))
    };
    whole.and_then(|whole| whole.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(UNIX_EPOCH)
}

/// A time from the kernel.
///
/// Before 1970, `fuser` puts whole seconds and nanoseconds on the same side (1.5 s before, which is -2 s + 0.5 s,
/// arrives as 2.5 s before), so the two are taken apart again instead of using the sum.
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(_) => Timestamp::from_system(time),
        Err(before) => {
            let parts = before.duration();
            let secs = i64::try_from(parts.as_secs()).map_or(i64::MIN, |secs| -secs);
            Timestamp { secs, nanos: parts.subsec_nanos() }
        }
    }
}

/// A time of `utimensat`; `now` serves `UTIME_NOW`.
pub(super) fn time_or_now(time: TimeOrNow, now: impl FnOnce() -> Timestamp) -> Timestamp {
    match time {
        TimeOrNow::SpecificTime(time) => timestamp(time),
        TimeOrNow::Now => now(),
    }
}

pub(super) fn open_mode(flags: OpenFlags) -> OpenMode {
    let access = flags.0 & libc::O_ACCMODE;
    OpenMode {
        read: access == libc::O_RDONLY || access == libc::O_RDWR,
        write: access == libc::O_WRONLY || access == libc::O_RDWR,
        append: flags.0 & libc::O_APPEND != 0,
        truncate: flags.0 & libc::O_TRUNC != 0,
    }
}

/// What `renameat2` asks for; `None` for what nobody but overlay file systems has (`RENAME_WHITEOUT`).
pub(super) fn rename_mode(flags: RenameFlags) -> Option<RenameMode> {
    if flags.is_empty() {
        Some(RenameMode::Replace)
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Some(RenameMode::NoReplace)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Some(RenameMode::Exchange)
    } else {
        None
    }
}

/// What `fallocate` asks for; `None` for what a volume does not do (collapsing, inserting, unsharing).
pub(super) fn allocation(mode: i32) -> Option<Allocate> {
    let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
    match mode & !libc::FALLOC_FL_KEEP_SIZE {
        0 => Some(Allocate::Reserve { keep_size }),
        libc::FALLOC_FL_PUNCH_HOLE if keep_size => Some(Allocate::PunchHole),
        libc::FALLOC_FL_ZERO_RANGE => Some(Allocate::ZeroRange { keep_size }),
        _ => None,
    }
}

/// What `lseek` looks for; `None` for positions that the kernel computes itself.
pub(super) fn seek_target(whence: i32) -> Option<Seek> {
    match whence {
        libc::SEEK_DATA => Some(Seek::Data),
        libc::SEEK_HOLE => Some(Seek::Hole),
        _ => None,
    }
}

/// What `setxattr` asks for; `None` for flags that do not go together.
pub(super) fn xattr_mode(flags: i32) -> Option<XattrMode> {
    match flags {
        0 => Some(XattrMode::Any),
        libc::XATTR_CREATE => Some(XattrMode::Create),
        libc::XATTR_REPLACE => Some(XattrMode::Replace),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How fuser makes a time from the two numbers of a request.
    fn as_fuser_does(secs: i64, nanos: u32) -> SystemTime {
        let whole = Duration::new(secs.unsigned_abs(), nanos);
        if secs >= 0 { UNIX_EPOCH + whole } else { UNIX_EPOCH - whole }
    }

    #[test]
    fn times_before_1970_arrive_as_they_were_sent() {
        for (secs, nanos) in [(-2, 500_000_000), (-1, 0), (-1, 999_999_999), (0, 1), (5, 7), (i64::MIN, 0)] {
            assert_eq!(timestamp(as_fuser_does(secs, nanos)), Timestamp { secs, nanos });
        }
    }

    #[test]
    fn times_go_out_as_the_kernel_counts_them() {
        let half_before = system_time(Timestamp { secs: -1, nanos: 500_000_000 });
        assert_eq!(half_before, UNIX_EPOCH - Duration::from_millis(500));
        let extreme = system_time(Timestamp { secs: i64::MAX, nanos: 999_999_999 });
        assert!(extreme >= UNIX_EPOCH);
        assert!(system_time(Timestamp { secs: i64::MIN, nanos: 0 }) < UNIX_EPOCH);
    }

    #[test]
    fn fallocate_modes_that_a_volume_does_not_do_are_none() {
        use libc::{FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE};
        assert_eq!(allocation(0), Some(Allocate::Reserve { keep_size: false }));
        assert_eq!(allocation(FALLOC_FL_KEEP_SIZE), Some(Allocate::Reserve { keep_size: true }));
        assert_eq!(allocation(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), Some(Allocate::PunchHole));
        assert_eq!(allocation(FALLOC_FL_ZERO_RANGE), Some(Allocate::ZeroRange { keep_size: false }));
        assert_eq!(allocation(FALLOC_FL_PUNCH_HOLE), None);
        assert_eq!(allocation(FALLOC_FL_COLLAPSE_RANGE), None);
        assert_eq!(allocation(FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE), None);
    }

    #[test]
    fn rename_flags_other_than_noreplace_and_exchange_are_refused() {
        assert_eq!(rename_mode(RenameFlags::RENAME_WHITEOUT), None);
        assert_eq!(rename_mode(RenameFlags::from_bits_retain(8)), None);
        assert_eq!(rename_mode(RenameFlags::RENAME_NOREPLACE | RenameFlags::RENAME_EXCHANGE), None);
        assert_eq!(rename_mode(RenameFlags::empty()), Some(RenameMode::Replace));
    }

    #[test]
    fn open_flags_say_what_a_handle_is_good_for() {
        let mode = open_mode(OpenFlags(libc::O_WRONLY | libc::O_APPEND));
        assert!(!mode.read && mode.write && mode.append && !mode.truncate);
        let mode = open_mode(OpenFlags(libc::O_ACCMODE));
        assert!(!mode.read && !mode.write);
    }
}
