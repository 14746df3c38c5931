//! A disk that records: a file system in memory, served with FUSE, that logs every change in the order in which it is
//! asked for, and fails where it is told to. Its files are opened for direct I/O, so that each write arrives at once.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;

use crate::faults::{Answer, Call, Faults};
use crate::tree::{Node, Op, ROOT, Tree};

/// The file through which the program under test says how far it is.
pub const MARKS: &str = "marks";
/// Number of that file, which is in no directory.
const MARKS_NODE: u64 = 2;
/// Nothing is remembered by the kernel.
const NO_TTL: Duration = Duration::ZERO;
/// Size of the disk, in blocks of 4 KiB: so little that each write is preceded by a promise, as on a disk in use.
const BLOCKS: u64 = 1 << 17;
/// The size that a disk tells that promises nothing: so much that nobody asks it to.
const MANY_BLOCKS: u64 = 1 << 20;

/// What the disk holds and has seen.
pub struct State {
    pub tree: Tree,
    pub log: Vec<Op>,
    pub faults: Faults,
    /// Whether it is so large that nobody asks for a promise.
    pub is_large: bool,
    /// Up to where a file has been promised room.
    promised: HashMap<u64, u64>,
    next: u64,
}

impl State {
    fn is_promised(&self, node: u64, end: u64) -> bool {
        self.promised.get(&node).is_some_and(|promised| end <= *promised)
    }

    /// A file was cut off: what was promised behind its end is free again.
    fn cut_off(&mut self, node: u64, len: u64) {
        self.promised.entry(node).and_modify(|promised| *promised = len.min(*promised));
    }

    fn change(&mut self, op: Op) {
        self.tree.apply(&op);
        self.log.push(op);
    }
}

/// A mounted disk; gone when dropped.
pub struct Disk {
    pub state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
    root: PathBuf,
}

impl Disk {
    /// Mounts a disk that holds `tree`, durably, on the empty directory `root`.
    pub fn mount(tree: Tree, root: &Path) -> Disk {
        let next = tree.nodes.keys().max().copied().unwrap_or(0).max(MARKS_NODE) + 1;
        let state =
            State { tree, log: Vec::new(), faults: Faults::default(), is_large: false, promised: HashMap::new(), next };
        let state = Arc::new(Mutex::new(state));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("recording".into())];
        let session = fuser::spawn_mount(Served(Arc::clone(&state)), root, &config).expect("the recording disk mounts");
        Disk { state, session: Some(session), root: root.to_owned() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What it holds and has logged since the mount or the last call.
    pub fn take(&self) -> (Tree, Vec<Op>) {
        let mut state = self.state.lock();
        (state.tree.clone(), std::mem::take(&mut state.log))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let _gone = session.umount_and_join();
        }
    }
}

struct Served(Arc<Mutex<State>>);

fn text(name: &OsStr) -> String {
    name.to_str().expect("a store has plain names").to_owned()
}

fn attr_of(tree: &Tree, ino: u64) -> Option<FileAttr> {
    let (kind, size, perm) = match tree.nodes.get(&ino) {
        Some(Node::File(bytes)) => (FileType::RegularFile, bytes.len() as u64, 0o600),
        Some(Node::Dir(_)) => (FileType::Directory, 0, 0o700),
        None if ino == MARKS_NODE => (FileType::RegularFile, 0, 0o600),
        None => return None,
    };
    Some(FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

/// Replies with an error unless the call may go on.
macro_rules! allow {
    ($state:expr, $call:expr, $reply:expr) => {
        match $state.faults.ask($call) {
            Answer::GoOn => {}
            Answer::Short => {}
            Answer::Fail(errno) => return $reply.error(Errno::from_i32(errno)),
        }
    };
}

impl Filesystem for Served {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let _already = config.add_capabilities(InitFlags::FUSE_ATOMIC_O_TRUNC);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = self.0.lock();
        let found = match state.tree.entries(parent.0).and_then(|entries| entries.get(&text(name))) {
            None if parent.0 == ROOT && name == MARKS => Some(MARKS_NODE),
            found => found.copied(),
        };
        match found.and_then(|ino| attr_of(&state.tree, ino)) {
            Some(attr) => reply.entry(&NO_TTL, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attr_of(&self.0.lock().tree, ino.0) {
            Some(attr) => reply.attr(&NO_TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.0.lock();
        if let Some(len) = size.filter(|_| ino.0 != MARKS_NODE) {
            allow!(state, Call::Write, reply);
            if state.tree.bytes(ino.0).map(|bytes| bytes.len() as u64) != Some(len) {
                state.change(Op::Resize { node: ino.0, len });
                state.cut_off(ino.0, len);
            }
        }
        match attr_of(&state.tree, ino.0) {
            Some(attr) => reply.attr(&NO_TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let mut state = self.0.lock();
        allow!(state, Call::Name, reply);
        if state.tree.entries(parent.0).is_some_and(|entries| entries.contains_key(&text(name))) {
            return reply.error(Errno::EEXIST);
        }
        let node = state.next;
        state.next += 1;
        state.change(Op::Mkdir { parent: parent.0, name: text(name), node });
        reply.entry(&NO_TTL, &attr_of(&state.tree, node).expect("it was made"), Generation(0));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = self.0.lock();
        allow!(state, Call::Unlink, reply);
        let Some(node) = state.tree.entries(parent.0).and_then(|entries| entries.get(&text(name)).copied()) else {
            return reply.error(Errno::ENOENT);
        };
        state.change(Op::Unlink { parent: parent.0, name: text(name), node });
        reply.ok();
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.unlink(req, parent, name, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.0.lock();
        allow!(state, Call::Name, reply);
        let Some(node) = state.tree.entries(parent.0).and_then(|entries| entries.get(&text(name)).copied()) else {
            return reply.error(Errno::ENOENT);
        };
        state.change(Op::Rename { from: (parent.0, text(name)), to: (newparent.0, text(newname)), node });
        reply.ok();
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mut state = self.0.lock();
        if flags.0 & libc::O_TRUNC != 0 && state.tree.bytes(ino.0).is_some_and(|bytes| !bytes.is_empty()) {
            allow!(state, Call::Write, reply);
            state.change(Op::Resize { node: ino.0, len: 0 });
            state.cut_off(ino.0, 0);
        } else if flags.0 & libc::O_ACCMODE != libc::O_RDONLY && ino.0 != MARKS_NODE {
            allow!(state, Call::OpenToWrite, reply);
        }
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut state = self.0.lock();
        allow!(state, Call::Name, reply);
        let node = state.next;
        state.next += 1;
        state.change(Op::Create { parent: parent.0, name: text(name), node });
        let attr = attr_of(&state.tree, node).expect("it was made");
        reply.created(&NO_TTL, &attr, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = self.0.lock();
        let answer = state.faults.ask(Call::Read);
        if let Answer::Fail(errno) = answer {
            return reply.error(Errno::from_i32(errno));
        }
        let Some(bytes) = state.tree.bytes(ino.0) else { return reply.error(Errno::EISDIR) };
        let from = bytes.len().min(usize::try_from(offset).unwrap_or(usize::MAX));
        let mut to = bytes.len().min(from + size as usize);
        if answer == Answer::Short && to - from > 1 {
            to = from + (to - from) / 2;
        }
        reply.data(&bytes[from..to]);
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.0.lock();
        let mut len = bytes.len();
        if ino.0 == MARKS_NODE {
            state.log.push(Op::Mark(String::from_utf8_lossy(bytes).into_owned()));
            return reply.written(u32::try_from(len).expect("a mark is short"));
        }
        let is_promised = state.is_promised(ino.0, offset + len as u64);
        let answer = if is_promised { state.faults.ask_promised() } else { state.faults.ask(Call::Write) };
        match answer {
            Answer::GoOn => {}
            Answer::Short => len = len.div_ceil(2),
            // What failed may have been done in part.
            Answer::Fail(libc::EIO) => len /= 2,
            Answer::Fail(_) => len = 0,
        }
        if len > 0 {
            state.change(Op::Write { node: ino.0, at: offset, bytes: Arc::new(bytes[..len].to_vec()) });
        }
        match answer {
            Answer::Fail(errno) => reply.error(Errno::from_i32(errno)),
            _ => reply.written(u32::try_from(len).expect("a write is at most 16 MiB")),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let mut state = self.0.lock();
        if let Answer::Fail(errno) = state.faults.ask(Call::Sync) {
            state.log.push(Op::FailedSync { node: ino.0 });
            return reply.error(Errno::from_i32(errno));
        }
        state.log.push(Op::Sync { node: ino.0 });
        reply.ok();
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut state = self.0.lock();
        allow!(state, Call::Read, reply);
        let Some(entries) = state.tree.entries(ino.0) else { return reply.error(Errno::ENOTDIR) };
        for (nth, (name, node)) in entries.iter().enumerate().skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            let kind = attr_of(&state.tree, *node).map_or(FileType::RegularFile, |attr| attr.kind);
            if reply.add(INodeNo(*node), nth as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let mut state = self.0.lock();
        if let Answer::Fail(errno) = state.faults.ask(Call::Sync) {
            state.log.push(Op::FailedSync { node: ino.0 });
            return reply.error(Errno::from_i32(errno));
        }
        state.log.push(Op::SyncDir { node: ino.0 });
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let state = self.0.lock();
        let used: u64 = state.tree.nodes.keys().count() as u64;
        let blocks = if state.is_large || state.faults.is_tight() { MANY_BLOCKS } else { BLOCKS };
        let free = if state.faults.is_full() { 0 } else { blocks - used.min(blocks) };
        reply.statfs(blocks, free, free, 1 << 20, 1 << 20, 4096, 255, 4096);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mut state = self.0.lock();
        if state.faults.is_tight() {
            return reply.error(Errno::ENOSPC);
        }
        allow!(state, Call::Allocate, reply);
        let (end, len) = (offset + length, state.tree.bytes(ino.0).map_or(0, |bytes| bytes.len() as u64));
        if mode & libc::FALLOC_FL_KEEP_SIZE == 0 && end > len {
            state.change(Op::Resize { node: ino.0, len: end });
        }
        let promised = state.promised.entry(ino.0).or_default();
        *promised = end.max(*promised);
        reply.ok();
    }
}
