//! Takes each operation on both sides, and compares what the calls say and what is there afterwards.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FileType, RenameFlags, XattrFlags};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::look::{Memory, Seen, View, assert_alike, is_name, shown, xattrs};
use crate::ops::{At, Crash, How, MODES, Of, Op, name, target};
use crate::side::{Side, Subject};
use crate::support::mounted::Mounted;
use crate::support::patterns::{assert_same, bytes};
use crate::support::place::Place;

/// Handles that are open at once.
const MANY_HANDLES: usize = 12;
/// A time that directories get where theirs is not known, in seconds.
const TOUCHED: u32 = 1_000_000_000;
/// More than any sequence writes.
const QUOTA: &str = "4GiB";

/// What was done, over all sequences.
#[derive(Default)]
pub struct Steps {
    sequences: AtomicU64,
    calls: AtomicU64,
    done: AtomicU64,
    remounts: AtomicU64,
    kills: AtomicU64,
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (sequences, calls, done) = (of(&self.sequences), of(&self.calls), of(&self.done));
        let (remounts, kills) = (of(&self.remounts), of(&self.kills));
        write!(f, "{sequences} sequences of {calls} calls, {done} of which succeed, {remounts} remounts, {kills} kills")
    }
}

fn count(what: &AtomicU64) {
    what.fetch_add(1, Ordering::Relaxed);
}

/// The mount and the plain directory.
struct Run<'a> {
    /// The mount first. What they have open keeps it from ending, so they go before it.
    sides: [Side; 2],
    mounted: Option<Mounted>,
    place: Place,
    memories: [Memory; 2],
    /// How each handle was opened, and whether it is a regular file.
    handles: Vec<(How, bool)>,
    /// What was seen last of both.
    view: View,
    step: String,
    steps: &'a Steps,
}

pub fn run(plain: &Path, ops: &[Op], steps: &Steps) {
    count(&steps.sequences);
    let other = TempDir::with_prefix_in("wamedia-beside-", plain).unwrap();
    let place = Place::with_volume(&["--quota", QUOTA]);
    let mounted = Mounted::start_with(&place, &["-o", "expired=hidden"]);
    let sides = [Side::new("the mount", mounted.root()), Side::new("the directory", other.path())];
    for side in &sides {
        let root = Subject::Path(Vec::new());
        side.chmod(&root, 0o755).unwrap();
        side.chown(&root, Some(0), Some(0)).unwrap();
    }
    let (memories, handles, view) = (Default::default(), Vec::new(), View::new());
    let step = String::new();
    let mut run = Run { place, mounted: Some(mounted), sides, memories, handles, view, step, steps };
    run.look(false);
    for (nth, op) in ops.iter().enumerate() {
        run.step = format!("step {nth}, {op:?}");
        run.apply(op);
        run.look(true);
    }
    run.step = "at the end".into();
    run.remount();
    run.end();
}

impl Run<'_> {
    /// Compares names and attributes; times as well unless they are not known yet.
    fn look(&mut self, with_times: bool) {
        if !with_times {
            self.memories.iter_mut().for_each(Memory::forget);
        }
        let [a, b] = &mut self.memories;
        let mut views = [a.look(&self.sides[0]), b.look(&self.sides[1])];
        if !with_times {
            views.iter_mut().for_each(forget_times_of_directories);
        }
        assert_alike([&self.sides[0], &self.sides[1]], [&views[0], &views[1]], &self.step);
        [self.view, _] = views;
    }

    /// Does something on both sides; fails when they do not say the same. Whether it succeeded.
    fn both<T: fmt::Debug + PartialEq>(&mut self, act: impl Fn(&mut Side) -> Result<T, Errno>) -> bool {
        count(&self.steps.calls);
        let [mount, plain] = &mut self.sides;
        let (found, wanted) = (act(mount), act(plain));
        assert_eq!(found, wanted, "{}: the mount says the first, the directory the second", self.step);
        if found.is_ok() {
            count(&self.steps.done);
        }
        found.is_ok()
    }

    fn names(&self) -> Vec<&Vec<u8>> {
        self.view.keys().filter(|path| is_name(path)).collect()
    }

    fn place(&self, at: At) -> Vec<u8> {
        let below = |dir: &[u8], number: u8| {
            let name = name(number);
            if dir.is_empty() { name } else { [dir, b"/", &name].concat() }
        };
        let names = self.names();
        match at {
            At::Taken(n) => {
                names.get(usize::from(n) % names.len().max(1)).map_or_else(|| name(0), |path| path.to_vec())
            }
            At::Name(n, number) => {
                let is_dir = |path: &Vec<u8>| self.kind(path) == Some(FileType::Directory);
                let dirs: Vec<Vec<u8>> =
                    std::iter::once(Vec::new()).chain(names.into_iter().filter(|path| is_dir(path)).cloned()).collect();
                below(&dirs[usize::from(n) % dirs.len()], number)
            }
            At::Odd(n, number) => {
                let nth = usize::from(n) % (names.len() + 1);
                below(nth.checked_sub(1).map_or(&[], |nth| names[nth]), number)
            }
        }
    }

    fn kind(&self, path: &[u8]) -> Option<FileType> {
        self.view.get(path).map(|seen| FileType::from_raw_mode(seen.mode))
    }

    fn of(&self, of: Of) -> Option<Subject> {
        match of {
            Of::At(at) => Some(Subject::Path(self.place(at))),
            Of::Handle(n) => self.nth(n).map(Subject::File),
        }
    }

    fn nth(&self, n: u8) -> Option<usize> {
        usize::from(n).checked_rem(self.handles.len())
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Create { at, mode, how } => self.create(at, mode, how),
            Op::Mkdir { at, mode } => {
                let path = self.place(at);
                self.both(|side| side.mkdir(&path, MODES[usize::from(mode)]));
            }
            Op::Symlink { at, target: number } => {
                let path = self.place(at);
                self.both(|side| side.symlink(&target(number), &path));
            }
            Op::Mknod { at, kind, mode } => {
                let path = self.place(at);
                let kinds = [FileType::RegularFile, FileType::Fifo, FileType::Socket, FileType::CharacterDevice];
                let kind = kinds.get(usize::from(kind)).copied().unwrap_or(FileType::BlockDevice);
                self.both(|side| side.mknod(&path, kind, MODES[usize::from(mode)], 0x103));
            }
            Op::Link { from, to } => {
                let (Some(from), to) = (self.of(from), self.place(to)) else { return };
                self.both(|side| side.link(&from, &to));
            }
            Op::Unlink { at } => self.remove(at, false),
            Op::Rmdir { at } => self.remove(at, true),
            Op::Rename { from, to, flag } => {
                let flags = [RenameFlags::empty(), RenameFlags::empty(), RenameFlags::NOREPLACE, RenameFlags::EXCHANGE];
                let (from, to) = (self.place(from), self.place(to));
                self.both(|side| side.rename(&from, &to, flags[usize::from(flag)]));
            }
            Op::Open { at, how } => self.open(at, how),
            Op::Close { handle } => self.close(handle),
            Op::Write { handle, offset, len, seed, unprivileged } => {
                let Some(nth) = self.nth(handle) else { return };
                let data = bytes(u64::from(seed), len as usize);
                self.both(|side| side.write(nth, u64::from(offset), &data, unprivileged));
                self.same_bytes(nth);
            }
            Op::Read { handle, offset, len } => self.read(handle, offset, len),
            Op::Copy { from, to, offset, to_offset, len } => {
                let (Some(from), Some(to)) = (self.nth(from), self.nth(to)) else { return };
                self.both(|side| side.copy(from, to, u64::from(offset), u64::from(to_offset), u64::from(len)));
                self.same_bytes(to);
            }
            Op::Allocate { handle, offset, len, what } => {
                let Some(nth) = self.nth(handle) else { return };
                self.both(|side| side.allocate(nth, u64::from(offset), u64::from(len), what));
                self.same_bytes(nth);
            }
            Op::Resize { of, len } => {
                let Some(of) = self.of(of) else { return };
                self.both(|side| side.resize(&of, u64::from(len)));
                if let Subject::File(nth) = of {
                    self.same_bytes(nth);
                }
            }
            Op::Chmod { of, mode } => {
                let Some(of) = self.of(of) else { return };
                self.both(|side| side.chmod(&of, MODES[usize::from(mode)]));
            }
            Op::Chown { of, owner } => {
                let Some(of) = self.of(of) else { return };
                let id = |n: u8| [Some(0), Some(1000), None][usize::from(n) % 3];
                let (uid, gid) = (id(owner), id(owner / 3));
                // Of one that asks for nothing the kernel does not tell.
                if uid.is_some() || gid.is_some() {
                    self.both(|side| side.chown(&of, uid, gid));
                }
            }
            Op::Touch { of, secs } => {
                let Some(of) = self.of(of) else { return };
                self.both(|side| side.touch(&of, secs));
            }
            Op::SetXattr { of, name, value, flag } => self.set_xattr(of, name, value, flag),
            Op::RemoveXattr { of, name } => {
                let Some(of) = self.of(of) else { return };
                self.both(|side| side.remove_xattr(&of, xattr_name(name)));
                self.same_xattrs(&of);
            }
            Op::Fsync { handle } => {
                let Some(nth) = self.nth(handle) else { return };
                self.both(|side| side.fsync(nth));
            }
            Op::FsyncDir { at } => {
                let path = self.place(at);
                self.both(|side| side.fsync_dir(&path));
            }
            Op::SyncAll => {
                self.both(|side| side.sync_all());
            }
            Op::Compare => self.compare(),
            Op::Reopen { .. } => self.remount(),
            Op::Crash { how: Crash::InPlace } => self.kill(),
            Op::Crash { .. } => self.remount(),
            // What a directory does not have.
            Op::Policy { .. } | Op::Advance { .. } | Op::RemoveExpired { .. } | Op::Purge { .. } => {}
        }
    }

    fn create(&mut self, at: At, mode: u8, how: How) {
        if self.handles.len() >= MANY_HANDLES {
            return self.close(mode);
        }
        let path = self.place(at);
        if self.both(|side| side.create(&path, MODES[usize::from(mode)], how)) {
            self.handles.push((how, true));
        }
    }

    fn open(&mut self, at: At, how: How) {
        let path = self.place(at);
        // Pipes and sockets belong to the kernel; what a device does depends on how its file system is mounted.
        let may = |kind| matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Symlink);
        if self.handles.len() >= MANY_HANDLES || !self.kind(&path).is_none_or(may) {
            return;
        }
        let is_file = self.kind(&path) == Some(FileType::RegularFile);
        if self.both(|side| side.open(&path, how)) {
            self.handles.push((how, is_file));
        }
    }

    fn close(&mut self, handle: u8) {
        let Some(nth) = self.nth(handle) else { return };
        self.handles.swap_remove(nth);
        for side in &mut self.sides {
            drop(side.files.swap_remove(nth));
        }
    }

    fn remove(&mut self, at: At, is_rmdir: bool) {
        let path = self.place(at);
        self.both(|side| side.remove(&path, is_rmdir));
    }

    fn read(&mut self, handle: u8, offset: u32, len: u32) {
        let Some(nth) = self.nth(handle) else { return };
        count(&self.steps.calls);
        let [found, wanted] = self.sides.each_ref().map(|side| side.read(nth, u64::from(offset), len as usize));
        match (found, wanted) {
            (Ok(found), Ok(wanted)) => {
                count(&self.steps.done);
                assert_same(&found, &wanted, &self.step);
            }
            (found, wanted) => {
                assert_eq!(found.map(|bytes| bytes.len()), wanted.map(|bytes| bytes.len()), "{}", self.step)
            }
        }
    }

    fn set_xattr(&mut self, of: Of, name: u8, value: u8, flag: u8) {
        let Some(of) = self.of(of) else { return };
        let flags = [XattrFlags::empty(), XattrFlags::empty(), XattrFlags::CREATE, XattrFlags::REPLACE];
        // Never the same value again, at which ext4 does nothing; what is longer may find no room in one of its inodes.
        let seed = self.steps.calls.load(Ordering::Relaxed);
        let value = if value == 7 { vec![7; 65_537] } else { bytes(seed, 1 + usize::from(value) * 7) };
        self.both(|side| side.set_xattr(&of, xattr_name(name), &value, flags[usize::from(flag)]));
        self.same_xattrs(&of);
    }

    fn same_xattrs(&self, of: &Subject) {
        if let Subject::Path(path) = of
            && self.kind(path).is_some()
        {
            let [found, wanted] = self.sides.each_ref().map(|side| xattrs(side, path));
            assert_eq!(found, wanted, "{}: attributes", self.step);
        }
    }

    fn same_bytes(&self, nth: usize) {
        if self.handles[nth].1 {
            let [found, wanted] = self.sides.each_ref().map(|side| side.bytes(nth));
            assert_same(&found, &wanted, &format!("{}: through handle {nth}", self.step));
        }
    }

    /// Everything, contents and extended attributes too.
    fn compare(&self) {
        for path in self.names() {
            if self.kind(path) == Some(FileType::RegularFile) {
                let [found, wanted] = self.sides.each_ref().map(|side| side.content(path));
                assert_same(&found, &wanted, &format!("{}: {}", self.step, shown(path)));
            }
            self.same_xattrs(&Subject::Path(path.clone()));
        }
        (0..self.handles.len()).for_each(|nth| self.same_bytes(nth));
    }

    fn start(&mut self) {
        self.mounted = Some(Mounted::start_with(&self.place, &["-o", "expired=hidden"]));
        self.sides[0].take_up();
        self.sides[1].take_up();
    }

    fn let_go(&mut self) -> Mounted {
        self.handles.clear();
        self.sides.iter_mut().for_each(Side::let_go);
        self.mounted.take().unwrap()
    }

    /// Unmounts, and mounts again.
    fn remount(&mut self) {
        count(&self.steps.remounts);
        self.compare();
        self.let_go().unmount();
        self.start();
        self.look(true);
        self.compare();
    }

    /// Syncs everything, kills the daemon, and mounts again.
    fn kill(&mut self) {
        count(&self.steps.kills);
        for nth in 0..self.handles.len() {
            self.both(|side| side.fsync(nth));
        }
        self.both(|side| side.fsync_dir(b""));
        let mounted = self.let_go();
        mounted.kill();
        self.start();
        self.look(false);
        self.compare();
        // They go on from the same ones.
        let dirs: Vec<Vec<u8>> =
            self.view.iter().filter(|(_, seen)| seen.is_dir()).map(|(path, _)| path.clone()).collect();
        for dir in dirs {
            self.both(|side| side.touch(&Subject::Path(dir.clone()), TOUCHED));
        }
    }

    /// The volume ends, and is whole.
    fn end(mut self) {
        self.let_go().unmount();
        let [key_option, key, store] = self.place.unmounted();
        let checked = self.place.run(&["check", "--read-all", &key_option, &key, &store]);
        checked.expect_success();
    }
}

/// What is derived may be earlier after a crash, as `docs/SEMANTICS.md` says.
fn forget_times_of_directories(view: &mut View) {
    view.values_mut().filter(|seen| seen.is_dir()).for_each(Seen::forget_times);
}

/// Names of attributes that mean the same on both sides, also those that cannot be.
fn xattr_name(number: u8) -> &'static [u8] {
    match number {
        0..=3 => b"user.a",
        4 | 5 => b"user.longer name",
        6 | 7 => b"trusted.t",
        8 | 9 => b"security.s",
        10 => b"user.",
        _ => b"system.x",
    }
}
