//! The requests of the kernel, one short method each: convert, ask the volume once, reply.
//!
//! What is left to the kernel: permissions (`default_permissions` is always on), locks, `.` and `..`. A request that
//! `fuser` does not know, such as the one behind `O_TMPFILE`, is answered with `ENOSYS` there, and the kernel makes
//! `EOPNOTSUPP` of it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyBmap,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek,
    ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::error::{Error, Kind};
use crate::ids::Ino;
use crate::volume::origin::Way;
use crate::volume::{NewNode, OpenMode, Operation, RenameMode, SetAttr, Volume};

use super::adapter::{Answer, GENERATION, TTL_NONE, WamediaFs, attr_ttl, may_add, may_take, reply_done, reply_sized};
use super::agreement::Agreement;
use super::convert::{allocation, file_attr, node_kind, open_mode, rename_mode, seek_target, time_or_now, xattr_mode};
use super::expired::{self, ExpiredListing};
use super::handles::{FileGuard, Handle};
use super::opening::open_flags;
use super::reach::Caller;
use super::takeover::is_resent;

/// Most bytes that one request copies within the volume; callers go on where it ended.
const MAX_COPY: u64 = 64 << 20;

/// Most bytes of a list of attribute names, as the kernel has it.
const MAX_XATTR_LIST: usize = 65_536;

/// Names are as long as in other file systems of Linux.
const NAME_MAX: u32 = 255;

fn ino(number: INodeNo) -> Ino {
    expired::real(number)
}

/// Refuses to change an entry of `.expired`.
fn may_change(number: INodeNo) -> Answer<()> {
    if ino(number) == expired::INO || expired::is_alias(number) { Err(Errno::EROFS) } else { Ok(()) }
}

fn new_node(req: &Request, mode: u32) -> NewNode {
    NewNode { mode: mode & 0o7777, uid: req.uid(), gid: req.gid() }
}

impl Filesystem for WamediaFs {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let agreement = Agreement::reach(config, self.passes_through);
        if agreement.passes_through() {
            self.passing.begin();
        }
        let _once = self.agreement.set(agreement);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _entered = self.enter();
        let (dir, name) = (ino(parent), name.as_bytes());
        if dir == expired::INO {
            return self.expired_entry(&Caller::of(req), name, reply);
        }
        if expired::is_named(dir, name) {
            return match self.ask(Operation::Lookup, dir, expired::attributes) {
                Ok(attr) => reply.entry(&TTL_NONE, &attr, GENERATION),
                Err(errno) => reply.error(errno),
            };
        }
        self.entry(Operation::Lookup, parent, reply, |volume| volume.lookup(dir, name));
    }

    fn forget(&self, _: &Request, number: INodeNo, nlookup: u64) {
        let _entered = self.enter();
        self.references.give_back(ino(number), nlookup, |ino| self.forgotten(ino));
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let _entered = self.enter();
        let is_alias = expired::is_alias(number);
        let number = ino(number);
        let answer = if number == expired::INO {
            self.ask_inode(Operation::Getattr, number, expired::attributes).map(|attr| (TTL_NONE, attr))
        } else if is_alias {
            let attr = self.ask_inode(Operation::Getattr, number, |volume| volume.getattr(number));
            attr.map(|attr| (TTL_NONE, expired::entry_attributes(&attr)))
        } else {
            self.ask_inode(Operation::Getattr, number, |volume| volume.getattr(number))
                .map(|attr| (attr_ttl(&attr), file_attr(&attr)))
        };
        match answer {
            Ok((ttl, attr)) => reply.attr(&ttl, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _entered = self.enter();
        if let Err(errno) = may_change(number) {
            return reply.error(errno);
        }
        let number = ino(number);
        let now = || self.volume.now();
        let change = SetAttr {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(|time| time_or_now(time, now)),
            mtime: mtime.map(|time| time_or_now(time, now)),
            // The kernel says for a truncation whether the caller lacks CAP_FSETID, but fuser does not hand that on;
            // root has it, nearly nobody else does. Changing the owner clears the bits for everybody.
            drop_privileges: (size.is_some() && req.uid() != 0) || uid.is_some() || gid.is_some(),
        };
        match self.ask_inode(Operation::Setattr, number, |volume| volume.setattr(number, &change)) {
            Ok(attr) => reply.attr(&attr_ttl(&attr), &file_attr(&attr)),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        let _entered = self.enter();
        match self.ask_inode(Operation::Readlink, ino(number), |volume| volume.readlink(ino(number))) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let _entered = self.enter();
        let (dir, name) = (ino(parent), name.as_bytes());
        if let Err(errno) = may_add(dir, name) {
            return reply.error(errno);
        }
        let Some(kind) = node_kind(mode) else { return reply.error(Errno::EINVAL) };
        self.entry(Operation::Mknod, parent, reply, |volume| volume.mknod(dir, name, kind, rdev, &new_node(req, mode)));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let _entered = self.enter();
        let (dir, name) = (ino(parent), name.as_bytes());
        if let Err(errno) = may_add(dir, name) {
            return reply.error(errno);
        }
        self.entry(Operation::Mkdir, parent, reply, |volume| volume.mkdir(dir, name, &new_node(req, mode)));
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let _entered = self.enter();
        let (dir, name, target) = (ino(parent), name.as_bytes(), target.as_os_str().as_bytes());
        if let Err(errno) = may_add(dir, name) {
            return reply.error(errno);
        }
        self.entry(Operation::Symlink, parent, reply, |volume| {
            volume.symlink(dir, name, target, &new_node(req, 0o777))
        });
    }

    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _entered = self.enter();
        let (dir, name) = (ino(parent), name.as_bytes());
        if let Err(errno) = may_add(dir, name).and_then(|()| may_change(number)) {
            return reply.error(errno);
        }
        self.entry(Operation::Link, parent, reply, |volume| volume.link(ino(number), dir, name));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _entered = self.enter();
        let (dir, name) = (ino(parent), name.as_bytes());
        let answer = if dir == expired::INO {
            self.ask_for(req, Way::Expired, Operation::Unlink, dir, |volume| {
                let medium = volume.expired_by_name(name)?.ino;
                Caller::of(req).expect_unlink(volume, medium)?;
                volume.remove_expired(medium)
            })
        } else {
            self.ask_for(req, Way::Mount, Operation::Unlink, dir, |volume| volume.unlink(dir, name))
        };
        reply_done(reply, answer);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _entered = self.enter();
        let (dir, name) = (ino(parent), name.as_bytes());
        let remove = || self.ask_for(req, Way::Mount, Operation::Rmdir, dir, |volume| volume.rmdir(dir, name));
        reply_done(reply, may_take(dir, name).and_then(|()| remove()));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _entered = self.enter();
        let (from, name, to, new_name) = (ino(parent), name.as_bytes(), ino(new_parent), new_name.as_bytes());
        let Some(mode) = rename_mode(flags) else { return reply.error(Errno::EINVAL) };
        if mode == RenameMode::Exchange && is_resent(req) {
            // An earlier process may have done it, and a second time would undo it.
            return reply.error(Errno::EIO);
        }
        let allowed = may_take(from, name).and_then(|()| may_take(to, new_name));
        let rename = |volume: &Volume| volume.rename(from, name, to, new_name, mode);
        reply_done(reply, allowed.and_then(|()| self.ask_for(req, Way::Mount, Operation::Rename, from, rename)));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let _entered = self.enter();
        let (dir, name) = (ino(parent), name.as_bytes());
        if let Err(errno) = may_add(dir, name) {
            return reply.error(errno);
        }
        let telling = self.references.telling();
        let how = OpenMode { truncate: false, ..open_mode(OpenFlags(flags)) };
        match self.ask(Operation::Create, dir, |volume| volume.create(dir, name, &new_node(req, mode), how)) {
            Ok((attr, file)) => {
                telling.told(attr.ino);
                drop(telling);
                let mut guard = FileGuard::new(self.volume.clone(), file);
                guard.goes_by(self.passing.created(attr.ino, how));
                let number = self.handles.insert(Handle::File(guard));
                reply.created(&attr_ttl(&attr), &file_attr(&attr), GENERATION, number, open_flags(how));
            }
            // Somebody else made the name a moment ago by another way than the mount. The kernel then looks again and
            // opens what it finds, with the permission checks that a creation goes without.
            Err(errno) if errno.code() == libc::EEXIST && flags & libc::O_EXCL == 0 => reply.error(Errno::ESTALE),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, req: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let _entered = self.enter();
        self.open_medium(req, number, flags, reply);
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _entered = self.enter();
        self.read_file(number, handle, offset, size, |answer| match answer {
            Ok(bytes) => reply.data(bytes),
            Err(errno) => reply.error(errno),
        });
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        bytes: &[u8],
        write_flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _entered = self.enter();
        let drop_privileges = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let answer = self.ask_file(Operation::Write, number, handle, |volume, file| {
            volume.write(file, offset, bytes, drop_privileges)
        });
        match answer.and_then(|()| u32::try_from(bytes.len()).map_err(|_| Errno::EINVAL)) {
            Ok(length) => {
                self.volume.meter().written(u64::from(length));
                reply.written(length);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Writes have been accepted or refused by the time `close` is called; the kernel asks no second time.
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let _entered = self.enter();
        let guard = self.handles.remove(handle);
        let answer = self.ask(Operation::Release, ino(number), |_| {
            drop(guard);
            Ok(())
        });
        reply_done(reply, answer);
    }

    fn fsync(&self, _: &Request, number: INodeNo, handle: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let _entered = self.enter();
        let synced = self.ask_file(Operation::Fsync, number, handle, |volume, file| volume.fsync(file, datasync));
        reply_done(reply, synced.and_then(|()| self.expect_safe(ino(number))));
    }

    fn fallocate(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let _entered = self.enter();
        let Some(what) = allocation(mode) else { return reply.error(Errno::EOPNOTSUPP) };
        let answer = self
            .ask_file(Operation::Fallocate, number, handle, |volume, file| volume.allocate(file, offset, length, what));
        reply_done(reply, answer);
    }

    fn lseek(&self, _: &Request, number: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let _entered = self.enter();
        let Some(what) = seek_target(whence) else { return reply.error(Errno::EINVAL) };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        let answer = self.ask_file(Operation::Lseek, number, handle, |volume, file| volume.seek(file, offset, what));
        match answer.and_then(|found| i64::try_from(found).map_err(|_| Errno::EOVERFLOW)) {
            Ok(found) => reply.offset(found),
            Err(errno) => reply.error(errno),
        }
    }

    fn copy_file_range(
        &self,
        _: &Request,
        source: INodeNo,
        from: FileHandle,
        from_offset: u64,
        number: INodeNo,
        to: FileHandle,
        to_offset: u64,
        length: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let _entered = self.enter();
        let length = length.min(MAX_COPY);
        let answer = self.handle(source, from).and_then(|source| {
            let Handle::File(guard) = &*source else { return Err(Errno::EBADF) };
            let source = guard.file().ok_or(Errno::EBADF)?;
            self.ask_file(Operation::CopyFileRange, number, to, |volume, target| {
                volume.copy_range(source, from_offset, target, to_offset, length)
            })
        });
        match answer.and_then(|copied| u32::try_from(copied).map_err(|_| Errno::EIO)) {
            Ok(copied) => reply.written(copied),
            Err(errno) => reply.error(errno),
        }
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let _entered = self.enter();
        let handle = match ino(number) {
            expired::INO => Handle::Expired(ExpiredListing::default()),
            dir => Handle::Directory(dir),
        };
        reply.opened(self.handles.insert(handle), FopenFlags::empty());
    }

    fn readdir(&self, req: &Request, number: INodeNo, handle: FileHandle, offset: u64, reply: ReplyDirectory) {
        let _entered = self.enter();
        self.list(&Caller::of(req), (number, handle, offset), reply);
    }

    fn readdirplus(&self, req: &Request, number: INodeNo, handle: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        let _entered = self.enter();
        self.list_with_attrs(&Caller::of(req), (number, handle, offset), reply);
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        let _entered = self.enter();
        self.handles.remove(handle);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        let _entered = self.enter();
        let answer = self.handle(number, handle).and_then(|handle| match *handle {
            Handle::Directory(dir) => self.ask(Operation::Fsyncdir, dir, |volume| volume.fsync_dir(dir)),
            // Removing expired media is durable or not like any other removal; this directory has nothing of its own.
            Handle::Expired(_) => Ok(()),
            Handle::File(_) => Err(Errno::EBADF),
        });
        reply_done(reply, answer);
    }

    fn statfs(&self, _: &Request, number: INodeNo, reply: ReplyStatfs) {
        let _entered = self.enter();
        match self.ask(Operation::Statfs, ino(number), Volume::statfs) {
            Ok(s) => {
                reply.statfs(
                    s.blocks,
                    s.free,
                    s.available,
                    s.files,
                    s.files_free,
                    s.block_size,
                    NAME_MAX,
                    s.block_size,
                );
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn setxattr(
        &self,
        _: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let _entered = self.enter();
        if let Err(errno) = may_change(number) {
            return reply.error(errno);
        }
        let number = ino(number);
        let Some(mode) = xattr_mode(flags) else { return reply.error(Errno::EINVAL) };
        let name = name.as_bytes();
        reply_done(
            reply,
            self.ask_inode(Operation::Setxattr, number, |volume| volume.set_xattr(number, name, value, mode)),
        );
    }

    fn getxattr(&self, _: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let _entered = self.enter();
        let number = ino(number);
        let answer = if number == expired::INO {
            Err(Errno::NO_XATTR)
        } else {
            self.ask_inode(Operation::Getxattr, number, |volume| volume.get_xattr(number, name.as_bytes()))
        };
        reply_sized(reply, size, answer);
    }

    fn listxattr(&self, _: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let _entered = self.enter();
        let number = ino(number);
        let answer = if number == expired::INO {
            Ok(vec![])
        } else {
            self.ask_inode(Operation::Listxattr, number, |volume| {
                let mut list = vec![];
                for name in volume.list_xattr(number)? {
                    list.extend_from_slice(&name);
                    list.push(0);
                }
                if list.len() > MAX_XATTR_LIST { Err(Error::from(Kind::TooBig)) } else { Ok(list) }
            })
        };
        reply_sized(reply, size, answer);
    }

    fn removexattr(&self, _: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _entered = self.enter();
        if let Err(errno) = may_change(number) {
            return reply.error(errno);
        }
        let number = ino(number);
        reply_done(
            reply,
            self.ask_inode(Operation::Removexattr, number, |volume| volume.remove_xattr(number, name.as_bytes())),
        );
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn bmap(&self, _: &Request, _: INodeNo, _: u32, _: u64, reply: ReplyBmap) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }
}
