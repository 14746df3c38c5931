//! Runs a sequence on a volume and on the model, and compares what both say after each operation.

use std::fmt::Debug;

use wamedia::clock::{Clock, Timestamp};
use wamedia::error::{Error, Kind};
use wamedia::ids::Ino;
use wamedia::volume::{Allocate, FileKind, NewNode, OpenFile, OpenMode, RenameMode, SetAttr, Volume, XattrMode};

use crate::bench::Bench;
use crate::choices::{open_mode, policy, xattr_name, xattr_value};
use crate::compare;
use crate::content::Content;
use crate::ops::{At, Crash, How, MODES, Of, Op, Range, name, target};
use crate::support::patterns::{assert_same, bytes};
use crate::tree::{Id, Model, New, ROOT, Said, without_privileges};

/// The longest file, in bytes.
const MAX_LEN: u64 = 1 << 46;
/// Handles that are open at once.
const MANY_HANDLES: usize = 12;

struct Handle {
    id: Id,
    mode: OpenMode,
    file: OpenFile,
}

pub struct Run {
    bench: Bench,
    model: Model,
    handles: Vec<Handle>,
    /// What is going on, for those who have to look at a failure.
    step: String,
}

pub fn run(ops: &[Op]) {
    let policy = policy(0);
    let bench = Bench::new(&policy);
    let mut model = Model::new(policy, bench.clock.now(), 0o755);
    let uid = bench.volume().getattr(Ino::ROOT).unwrap().uid;
    model.node_mut(ROOT).attrs.uid = uid;
    let mut run = Run { bench, model, handles: Vec::new(), step: String::new() };
    for (nth, op) in ops.iter().enumerate() {
        run.step = format!("step {nth}, {op:?}");
        run.apply(op);
        run.totals();
    }
    run.step = "at the end".into();
    run.compare();
    run.check();
    run.reopen(false);
}

impl Run {
    fn volume(&self) -> &Volume {
        self.bench.volume()
    }

    /// Fails when the two do not say the same; gives what they say.
    fn agree<T: Debug, W>(&self, found: Result<T, Error>, wanted: Said<W>) -> Option<(T, W)> {
        match (found, wanted) {
            (Ok(found), Ok(wanted)) => Some((found, wanted)),
            (Err(found), Err(wanted)) => {
                assert_eq!(found.kind(), wanted, "{}: {found}", self.step);
                None
            }
            (Ok(found), Err(wanted)) => panic!("{}: did {found:?}, must fail with {wanted:?}", self.step),
            (Err(found), Ok(_)) => panic!("{}: must not fail with {found:?}", self.step),
        }
    }

    fn place(&self, at: At) -> (Id, Vec<u8>) {
        match at {
            At::Taken(n) => {
                let entries = self.model.entries();
                match entries.get(usize::from(n) % entries.len().max(1)) {
                    Some((dir, name, _)) => (*dir, name.clone()),
                    None => (ROOT, name(0)),
                }
            }
            At::Name(n, number) => {
                let dirs = self.model.directories();
                (dirs[usize::from(n) % dirs.len()], name(number))
            }
            At::Odd(n, number) => {
                let all: Vec<Id> = self.model.nodes.keys().copied().collect();
                (all[usize::from(n) % all.len()], name(number))
            }
        }
    }

    /// Looks a name up on both sides.
    fn look(&self, at: At) -> Option<Id> {
        let (parent, name) = self.place(at);
        if !self.model.get(parent).is_dir() {
            return None;
        }
        let found = self.volume().lookup(Ino(parent), &name);
        let (attr, id) = self.agree(found, self.model.lookup(parent, &name))?;
        assert_eq!(attr.ino, Ino(id), "{}: looked up", self.step);
        Some(id)
    }

    fn of(&self, of: Of) -> Option<Id> {
        match of {
            Of::At(at) => self.look(at),
            Of::Handle(n) => self.nth_handle(n).map(|nth| self.handles[nth].id),
        }
    }

    fn nth_handle(&self, n: u8) -> Option<usize> {
        usize::from(n).checked_rem(self.handles.len())
    }

    /// The counters of the volume, which every operation keeps.
    fn totals(&self) {
        let number = |name: &str| {
            let value = self.volume().get_xattr(Ino::ROOT, format!("user.wamedia.quota.{name}").as_bytes()).unwrap();
            String::from_utf8(value).unwrap().parse::<u64>().unwrap()
        };
        let found = (number("used_bytes"), number("media"));
        assert_eq!(found, self.model.used(), "{}: bytes and media counted", self.step);
    }

    fn shows(&self, id: Id) {
        if let Some(node) = self.model.nodes.get(&id).filter(|node| !node.times_unknown) {
            let _ = node;
            compare::attributes(&self.model, id, &self.volume().getattr(Ino(id)).unwrap(), &self.step);
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Create { at, mode, how } => self.create(at, mode, how),
            Op::Mkdir { at, mode } => self.make(at, FileKind::Directory, mode, 0),
            Op::Symlink { at, target } => self.make(at, FileKind::Symlink, 5, target),
            Op::Mknod { at, kind, mode } => {
                let kinds = [FileKind::Regular, FileKind::Fifo, FileKind::Socket, FileKind::CharDevice];
                self.make(at, kinds.get(usize::from(kind)).copied().unwrap_or(FileKind::BlockDevice), mode, 0);
            }
            Op::Link { from, to } => self.link(from, to),
            Op::Unlink { at } => self.remove(at, false),
            Op::Rmdir { at } => self.remove(at, true),
            Op::Rename { from, to, flag } => self.rename(from, to, flag),
            Op::Open { at, how } => self.open(at, how),
            Op::Close { handle } => self.close(handle),
            Op::Write { handle, offset, len, seed, unprivileged } => {
                self.write(handle, offset, &bytes(u64::from(seed), len as usize), unprivileged);
            }
            Op::Read { handle, offset, len } => self.read(handle, offset, len),
            Op::Copy { from, to, offset, to_offset, len } => self.copy(from, to, offset, to_offset, len),
            Op::Allocate { handle, offset, len, what } => self.allocate(handle, offset, len, what),
            Op::Resize { of, len } => {
                let len = if len == 33 { MAX_LEN + 1 } else { u64::from(len) };
                self.setattr(of, &SetAttr { size: Some(len), drop_privileges: len % 2 == 1, ..SetAttr::default() });
            }
            Op::Chmod { of, mode } => {
                self.setattr(of, &SetAttr { mode: Some(MODES[usize::from(mode)]), ..SetAttr::default() });
            }
            Op::Chown { of, owner } => {
                let id = |n: u8| [Some(0), Some(1000), None][usize::from(n) % 3];
                let (uid, gid) = (id(owner), id(owner / 3));
                self.setattr(of, &SetAttr { uid, gid, drop_privileges: true, ..SetAttr::default() });
            }
            Op::Touch { of, secs } => {
                let at = Timestamp { secs: i64::from(secs), nanos: secs % 1_000_000_000 };
                self.setattr(of, &SetAttr { atime: Some(at), mtime: Some(at), ..SetAttr::default() });
            }
            Op::SetXattr { of, name, value, flag } => self.set_xattr(of, name, value, flag),
            Op::RemoveXattr { of, name } => self.remove_xattr(of, name),
            Op::Fsync { handle } => self.fsync(handle),
            Op::FsyncDir { at } => self.fsync_dir(at),
            Op::SyncAll => {
                self.volume().sync_all().unwrap();
                self.model.sync_all();
            }
            Op::Policy { number } => self.set_policy(number),
            Op::Advance { secs } => {
                self.bench.clock.advance(i64::from(secs));
                self.model.now = self.bench.clock.now();
            }
            Op::RemoveExpired { at } => self.remove_expired(at),
            Op::Purge { dry } => self.purge(dry),
            Op::Compare => self.compare(),
            Op::Reopen { anew } => self.reopen(anew),
            Op::Crash { how } => self.crash(how),
        }
    }

    fn new_node(&self, mode: u8) -> NewNode {
        NewNode { mode: MODES[usize::from(mode)], uid: 1000, gid: u32::from(mode) }
    }

    fn new_of(node: &NewNode, kind: FileKind, target: Vec<u8>, rdev: u32) -> New {
        New { kind, mode: node.mode, uid: node.uid, gid: node.gid, rdev, target }
    }

    fn create(&mut self, at: At, mode: u8, how: How) {
        if self.handles.len() >= MANY_HANDLES {
            return self.close(mode);
        }
        let ((parent, name), node) = (self.place(at), self.new_node(mode));
        let mode = open_mode(how);
        let found = self.volume().create(Ino(parent), &name, &node, mode);
        let wanted = self.model.may_make(parent, &name, FileKind::Regular);
        let found = found.map(|(attr, file)| (attr.ino.0, Shut(file)));
        let Some(((id, file), ())) = self.agree(found, wanted) else { return };
        self.model.make(id, parent, &name, &Run::new_of(&node, FileKind::Regular, Vec::new(), 0));
        let made = self.model.node_mut(id);
        made.opens = 1;
        made.writers = u32::from(mode.write);
        if !mode.write {
            self.model.commit(id);
        }
        self.handles.push(Handle { id, mode, file: file.0 });
        self.shows(id);
    }

    fn make(&mut self, at: At, kind: FileKind, mode: u8, number: u8) {
        let ((parent, name), node) = (self.place(at), self.new_node(mode));
        let target = if kind == FileKind::Symlink { target(number) } else { Vec::new() };
        let is_device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
        let rdev = if is_device { 0x103 } else { 0 };
        let found = match kind {
            FileKind::Directory => self.volume().mkdir(Ino(parent), &name, &node),
            FileKind::Symlink => self.volume().symlink(Ino(parent), &name, &target, &node),
            _ => self.volume().mknod(Ino(parent), &name, kind, rdev, &node),
        };
        let fits = if target.len() > 4095 { Err(Kind::NameTooLong) } else { Ok(()) };
        let wanted = fits.and_then(|()| self.model.may_make(parent, &name, kind));
        let Some((attr, ())) = self.agree(found, wanted) else { return };
        self.model.make(attr.ino.0, parent, &name, &Run::new_of(&node, kind, target, rdev));
        self.model.commit(attr.ino.0);
        self.shows(attr.ino.0);
    }

    fn link(&mut self, from: Of, to: At) {
        let Some(id) = self.of(from) else { return };
        let (parent, name) = self.place(to);
        let found = self.volume().link(Ino(id), Ino(parent), &name);
        let wanted = self.model.link(id, parent, &name);
        self.agree(found, wanted);
        self.shows(id);
    }

    fn remove(&mut self, at: At, is_rmdir: bool) {
        let (parent, name) = self.place(at);
        let volume = self.volume();
        let found = if is_rmdir { volume.rmdir(Ino(parent), &name) } else { volume.unlink(Ino(parent), &name) };
        let wanted = self.model.remove(parent, &name, is_rmdir);
        self.agree(found, wanted);
    }

    fn rename(&mut self, from: At, to: At, flag: u8) {
        let mode = [RenameMode::Replace, RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange];
        let mode = mode[usize::from(flag)];
        let ((from, from_name), (to, to_name)) = (self.place(from), self.place(to));
        let found = self.volume().rename(Ino(from), &from_name, Ino(to), &to_name, mode);
        let wanted = self.model.rename((from, &from_name), (to, &to_name), mode);
        self.agree(found, wanted);
        for dir in [from, to] {
            self.shows(dir);
        }
    }

    fn open(&mut self, at: At, how: How) {
        if self.handles.len() >= MANY_HANDLES {
            return;
        }
        let Some(id) = self.look(at) else { return };
        let mode = open_mode(how);
        let found = self.volume().open_file(Ino(id), mode).map(Shut);
        let wanted = match self.model.get(id).kind {
            FileKind::Regular => Ok(()),
            FileKind::Directory => Err(Kind::IsDirectory),
            _ => Err(Kind::Invalid),
        };
        let Some((file, ())) = self.agree(found, wanted) else { return };
        let node = self.model.node_mut(id);
        node.opens += 1;
        node.writers += u32::from(mode.write);
        if mode.truncate && node.content.len() > 0 {
            self.model.set_content(id, Content::default(), false).unwrap();
            self.model.written(id);
        }
        self.handles.push(Handle { id, mode, file: file.0 });
        self.shows(id);
    }

    fn close(&mut self, handle: u8) {
        let Some(nth) = self.nth_handle(handle) else { return };
        let Handle { id, mode, file } = self.handles.swap_remove(nth);
        self.volume().close(file);
        let node = self.model.node_mut(id);
        node.opens -= 1;
        node.writers -= u32::from(mode.write);
        if node.writers == 0 {
            self.model.commit(id);
        }
        self.model.forget_if_unused(id);
        self.shows(id);
    }

    fn write(&mut self, handle: u8, offset: u32, data: &[u8], unprivileged: bool) {
        let Some(nth) = self.nth_handle(handle) else { return };
        // A few go beyond every end.
        let offset = if offset == 299 { MAX_LEN - 1 } else { u64::from(offset) };
        let Handle { id, mode, file } = &self.handles[nth];
        let (id, mode) = (*id, *mode);
        let found = self.volume().write(file, offset, data, unprivileged);
        let content = &self.model.get(id).content;
        let at = if mode.append { content.len() } else { offset };
        let wanted = match () {
            () if !mode.write => Err(Kind::BadHandle),
            () if !data.is_empty() && at + data.len() as u64 > MAX_LEN => Err(Kind::TooLarge),
            () if data.is_empty() => Ok(()),
            () => {
                let new = content.written(at, data);
                self.model.set_content(id, new, false).map(|()| self.content_changed(id, unprivileged))
            }
        };
        self.agree(found, wanted);
        self.shows(id);
    }

    fn content_changed(&mut self, id: Id, drop_privileges: bool) {
        let attrs = &mut self.model.node_mut(id).attrs;
        if drop_privileges {
            attrs.mode = without_privileges(attrs.mode);
        }
        self.model.written(id);
    }

    fn read(&mut self, handle: u8, offset: u32, len: u32) {
        let Some(nth) = self.nth_handle(handle) else { return };
        let Handle { id, mode, file } = &self.handles[nth];
        let mut out = vec![0xEE; len as usize];
        let found = self.volume().read(file, u64::from(offset), &mut out);
        let all = &self.model.get(*id).content.bytes;
        let wanted = if mode.read { Ok(all.get(offset as usize..).unwrap_or_default()) } else { Err(Kind::BadHandle) };
        if let Some((got, there)) = self.agree(found, wanted) {
            let there = &there[..there.len().min(len as usize)];
            assert_same(&out[..got], there, &format!("{}: inode {id}", self.step));
        }
    }

    fn copy(&mut self, from: u8, to: u8, offset: u32, to_offset: u32, len: u32) {
        let (Some(a), Some(b)) = (self.nth_handle(from), self.nth_handle(to)) else { return };
        // The kernel refuses what overlaps, and what is not open for this.
        let (source, target) = (&self.handles[a], &self.handles[b]);
        if source.id == target.id || !source.mode.read || !target.mode.write || target.mode.append {
            return;
        }
        let (offset, to_offset) = (u64::from(offset), u64::from(to_offset));
        let found = self.volume().copy_range(&source.file, offset, &target.file, to_offset, u64::from(len));
        let (id, all) = (target.id, &self.model.get(source.id).content.bytes);
        let part = all.get(offset as usize..).unwrap_or_default();
        let part = part[..part.len().min(len as usize)].to_vec();
        // It is done in steps of 1 MiB, and ends with the first that does not fit.
        let mut done = 0;
        let mut wanted = Ok(0);
        for step in part.chunks(1 << 20) {
            let new = self.model.get(id).content.written(to_offset + done, step);
            match self.model.set_content(id, new, false) {
                Ok(()) => done += step.len() as u64,
                Err(e) if done == 0 => wanted = Err(e),
                Err(_) => {}
            }
            if wanted.is_err() || done % (1 << 20) != 0 {
                break;
            }
        }
        if done > 0 {
            self.content_changed(id, false);
        }
        if let Some((found, _)) = self.agree(found, wanted) {
            assert_eq!(found, done, "{}: bytes copied", self.step);
        }
        self.shows(id);
    }

    fn allocate(&mut self, handle: u8, offset: u32, len: u32, what: Range) {
        let Some(nth) = self.nth_handle(handle) else { return };
        let Handle { id, mode, file } = &self.handles[nth];
        let (id, mode, offset, len) = (*id, *mode, u64::from(offset), u64::from(len));
        let asked = match what {
            Range::Reserve => Allocate::Reserve { keep_size: false },
            Range::ReserveKeeping => Allocate::Reserve { keep_size: true },
            Range::Punch => Allocate::PunchHole,
            Range::Zero => Allocate::ZeroRange { keep_size: false },
            Range::ZeroKeeping => Allocate::ZeroRange { keep_size: true },
        };
        let found = self.volume().allocate(file, offset, len, asked);
        let content = &self.model.get(id).content;
        let wanted = match () {
            () if !mode.write => Err(Kind::BadHandle),
            () if len == 0 => Err(Kind::Invalid),
            () => {
                let new = match what {
                    Range::Reserve => content.reserved(offset, len, false),
                    Range::ReserveKeeping => content.reserved(offset, len, true),
                    Range::Punch => content.punched(offset, len),
                    Range::Zero => content.zeroed(offset, len, false),
                    Range::ZeroKeeping => content.zeroed(offset, len, true),
                };
                self.model.set_content(id, new, false).map(|()| self.content_changed(id, false))
            }
        };
        self.agree(found, wanted);
        self.shows(id);
    }

    fn setattr(&mut self, of: Of, change: &SetAttr) {
        let Some(id) = self.of(of) else { return };
        let found = self.volume().setattr(Ino(id), change);
        let node = self.model.get(id);
        let wanted = match (change.size, node.kind) {
            (None, _) => Ok(()),
            (Some(_), FileKind::Directory) => Err(Kind::IsDirectory),
            (Some(len), FileKind::Regular) if len > MAX_LEN => Err(Kind::TooLarge),
            (Some(len), FileKind::Regular) => {
                let new = node.content.resized(len);
                self.model.set_content(id, new, false)
            }
            (Some(_), _) => Err(Kind::Invalid),
        };
        if self.agree(found, wanted).is_some() {
            let now = self.model.now;
            let node = self.model.node_mut(id);
            let is_dir = node.is_dir();
            let attrs = &mut node.attrs;
            attrs.uid = change.uid.unwrap_or(attrs.uid);
            attrs.gid = change.gid.unwrap_or(attrs.gid);
            attrs.mtime = change.mtime.unwrap_or(attrs.mtime);
            attrs.ctime = now;
            match change.mode {
                Some(mode) => attrs.mode = mode,
                None if change.drop_privileges && !is_dir => attrs.mode = without_privileges(attrs.mode),
                None => {}
            }
            self.model.changed(id);
        }
        self.shows(id);
    }

    fn set_xattr(&mut self, of: Of, name: u8, value: u8, flag: u8) {
        let Some(id) = self.of(of) else { return };
        let name = xattr_name(name);
        let value = xattr_value(name, value);
        let mode = [XattrMode::Any, XattrMode::Any, XattrMode::Create, XattrMode::Replace][usize::from(flag)];
        let found = self.volume().set_xattr(Ino(id), name, &value, mode);
        let now = self.model.now;
        let wanted = crate::xattrs::set(self.model.node_mut(id), name, &value, mode, now);
        self.xattr_changed(id, name, found, wanted);
    }

    fn remove_xattr(&mut self, of: Of, name: u8) {
        let Some(id) = self.of(of) else { return };
        let name = xattr_name(name);
        let found = self.volume().remove_xattr(Ino(id), name);
        let wanted = crate::xattrs::remove(self.model.node_mut(id), name);
        self.xattr_changed(id, name, found, wanted);
    }

    fn xattr_changed(&mut self, id: Id, name: &[u8], found: Result<(), Error>, wanted: Said<()>) {
        if self.agree(found, wanted).is_some() {
            self.model.node_mut(id).attrs.ctime = self.model.now;
            self.model.changed(id);
            if name.starts_with(b"user.wamedia.") {
                // "Durable on return."
                self.model.commit_names(id);
            }
        }
        self.shows(id);
        if self.model.get(id).is_named(id) {
            let attrs = compare::read_attrs(self.volume(), id);
            let node = self.model.get(id);
            assert_eq!((&attrs.xattrs, &attrs.mime), (&node.attrs.xattrs, &node.attrs.mime), "{}", self.step);
        }
    }

    fn fsync(&mut self, handle: u8) {
        let Some(nth) = self.nth_handle(handle) else { return };
        let Handle { id, file, .. } = &self.handles[nth];
        self.volume().fsync(file, false).unwrap();
        self.model.commit(*id);
    }

    fn fsync_dir(&mut self, at: At) {
        let Some(id) = self.look(at) else { return };
        self.volume().fsync_dir(Ino(id)).unwrap();
        self.model.sync_all();
    }

    fn set_policy(&mut self, number: u8) {
        let new = policy(number);
        let found = self.volume().set_policy(new.clone());
        let wanted = if number == 6 { Err(Kind::Invalid) } else { Ok(()) };
        if self.agree(found, wanted).is_some() {
            self.model.policy = new;
        }
    }

    fn remove_expired(&mut self, at: At) {
        let Some(id) = self.look(at) else { return };
        let found = self.volume().remove_expired(Ino(id));
        let wanted = if self.model.is_expired(id) { Ok(()) } else { Err(Kind::NotExpired) };
        if self.agree(found, wanted).is_some() {
            self.model.remove_all(id);
        }
    }

    fn purge(&mut self, dry: bool) {
        let report = self.volume().purge(dry, None, &mut |_| {}).unwrap();
        let expired = self.model.expired();
        let bytes: u64 = expired.iter().map(|id| self.model.get(*id).content.len()).sum();
        assert_eq!((report.media, report.bytes, report.kept), (expired.len() as u64, bytes, 0), "{}", self.step);
        if !dry {
            expired.into_iter().for_each(|id| self.model.remove_all(id));
        }
    }

    fn compare(&mut self) {
        compare::whole(self.bench.volume(), &mut self.model, &self.step);
    }

    /// Index and store fit together, and every byte is whole.
    fn check(&mut self) {
        let report = self.volume().check(true, &mut |_, _| {}).unwrap();
        assert_eq!(report.findings, [], "{}: check", self.step);
        // It makes all names durable.
        self.model.sync_all();
    }

    fn reopen(&mut self, anew: bool) {
        // "Nobody will close what is still open: this is its close."
        let open: Vec<Id> = std::mem::take(&mut self.handles).into_iter().map(|handle| handle.id).collect();
        self.bench.reopen(anew);
        for id in open {
            let node = self.model.node_mut(id);
            (node.opens, node.writers) = (0, 0);
        }
        let all: Vec<Id> = self.model.nodes.keys().copied().collect();
        for id in all {
            self.model.commit(id);
            self.model.forget_if_unused(id);
        }
        self.model.victims.clear();
        self.compare();
        self.check();
    }

    fn crash(&mut self, how: Crash) {
        self.handles.clear();
        self.bench.crash(how);
        self.model.crash();
        let recovery = self.volume().status().unwrap().recovery;
        let when = format!("{} (recovery said {recovery:?})", self.step);
        compare::settle(self.bench.volume(), &mut self.model, &when);
        compare::whole(self.bench.volume(), &mut self.model, &when);
        self.check();
    }
}

/// An open file, which has nothing to say.
struct Shut(OpenFile);

impl Debug for Shut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a handle")
    }
}
