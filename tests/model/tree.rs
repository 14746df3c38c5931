//! The model of a volume's tree: what POSIX says of names, attributes and handles, and what is charged.

use std::collections::{BTreeMap, BTreeSet};

use wamedia::clock::Timestamp;
use wamedia::error::Kind;
use wamedia::volume::{FileKind, Policy, RenameMode, ReserveAmount};

use crate::content::Content;
use crate::durable::{Kept, Victim};

/// What the model says of an operation.
pub type Said<T> = Result<T, Kind>;
/// The number of an inode, as the volume gave it.
pub type Id = u64;

pub const ROOT: Id = 1;

/// What an attribute frame tells and a handle may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attrs {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub mime: Option<Vec<u8>>,
    pub held: Option<Timestamp>,
    pub retention: Option<u64>,
}

/// One inode.
#[derive(Clone, Debug)]
pub struct Node {
    pub kind: FileKind,
    pub attrs: Attrs,
    pub rdev: u32,
    pub target: Vec<u8>,
    pub content: Content,
    pub names: BTreeSet<(Id, Vec<u8>)>,
    pub children: BTreeMap<Vec<u8>, Id>,
    pub opens: u32,
    pub writers: u32,
    pub kept: Kept,
    /// A directory whose times a crash may have put back.
    pub times_unknown: bool,
}

impl Node {
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    pub fn is_medium(&self) -> bool {
        self.kind == FileKind::Regular
    }

    /// Whether it can still be used, by a name or a handle.
    pub fn is_named(&self, id: Id) -> bool {
        id == ROOT || !self.names.is_empty()
    }
}

/// The whole volume.
pub struct Model {
    pub nodes: BTreeMap<Id, Node>,
    pub victims: Vec<Victim>,
    pub policy: Policy,
    pub now: Timestamp,
}

/// What a new inode starts with.
pub struct New {
    pub kind: FileKind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    pub target: Vec<u8>,
}

fn check_name(name: &[u8]) -> Said<()> {
    if name.len() > 255 { Err(Kind::NameTooLong) } else { Ok(()) }
}

/// A mode without the bits that a change of content or owner takes.
pub fn without_privileges(mode: u32) -> u32 {
    let mode = mode & !0o4000;
    if mode & 0o010 != 0 { mode & !0o2000 } else { mode }
}

impl Model {
    /// An empty volume with a root of this mode and owner 0.
    pub fn new(policy: Policy, now: Timestamp, root_mode: u32) -> Model {
        let mut model = Model { nodes: BTreeMap::new(), victims: Vec::new(), policy, now };
        let new = New { kind: FileKind::Directory, mode: root_mode, uid: 0, gid: 0, rdev: 0, target: Vec::new() };
        model.nodes.insert(ROOT, model.node(&new));
        model.node_mut(ROOT).times_unknown = true;
        model
    }

    fn node(&self, new: &New) -> Node {
        let attrs = Attrs {
            mode: new.mode,
            uid: new.uid,
            gid: new.gid,
            mtime: self.now,
            ctime: self.now,
            xattrs: BTreeMap::new(),
            mime: None,
            held: None,
            retention: None,
        };
        Node {
            kind: new.kind,
            attrs,
            rdev: new.rdev,
            target: new.target.clone(),
            content: Content::default(),
            names: BTreeSet::new(),
            children: BTreeMap::new(),
            opens: 0,
            writers: 0,
            kept: Kept::default(),
            times_unknown: false,
        }
    }

    pub fn get(&self, id: Id) -> &Node {
        &self.nodes[&id]
    }

    pub fn node_mut(&mut self, id: Id) -> &mut Node {
        self.nodes.get_mut(&id).expect("an inode of the model")
    }

    /// A directory that has a name.
    fn directory(&self, id: Id) -> Said<&Node> {
        let node = self.nodes.get(&id).ok_or(Kind::NotFound)?;
        if node.is_dir() { Ok(node) } else { Err(Kind::NotDirectory) }
    }

    pub fn lookup(&self, parent: Id, name: &[u8]) -> Said<Id> {
        check_name(name)?;
        self.get(parent).children.get(name).copied().ok_or(Kind::NotFound)
    }

    /// Whether something can be made there.
    pub fn may_make(&self, parent: Id, name: &[u8], kind: FileKind) -> Said<()> {
        check_name(name)?;
        if self.directory(parent)?.children.contains_key(name) {
            return Err(Kind::Exists);
        }
        let full = self.policy.max_media.is_some_and(|max| self.used().1 >= max);
        if kind == FileKind::Regular && full { Err(Kind::NoSpace) } else { Ok(()) }
    }

    /// Makes an inode, which the volume has given this number.
    pub fn make(&mut self, id: Id, parent: Id, name: &[u8], new: &New) {
        let mut node = self.node(new);
        let above = &self.get(parent).attrs;
        if above.mode & 0o2000 != 0 {
            node.attrs.gid = above.gid;
            node.attrs.mode |= if node.is_dir() { 0o2000 } else { 0 };
        }
        assert!(self.nodes.insert(id, node).is_none(), "inode {id} was there already");
        self.put_name(id, parent, name);
        self.entry_changed(parent);
        if new.kind != FileKind::Regular {
            self.commit(id);
        }
    }

    fn put_name(&mut self, id: Id, parent: Id, name: &[u8]) {
        self.node_mut(parent).children.insert(name.to_vec(), id);
        self.node_mut(id).names.insert((parent, name.to_vec()));
    }

    fn take_name(&mut self, id: Id, parent: Id, name: &[u8]) {
        self.node_mut(parent).children.remove(name);
        self.node_mut(id).names.remove(&(parent, name.to_vec()));
    }

    fn entry_changed(&mut self, dir: Id) {
        let now = self.now;
        let attrs = &mut self.node_mut(dir).attrs;
        (attrs.mtime, attrs.ctime) = (now, now);
    }

    pub fn link(&mut self, id: Id, parent: Id, name: &[u8]) -> Said<()> {
        check_name(name)?;
        self.directory(parent)?;
        if self.get(parent).children.contains_key(name) {
            return Err(Kind::Exists);
        }
        if self.get(id).is_dir() {
            return Err(Kind::NotPermitted);
        }
        if !self.get(id).is_named(id) {
            return Err(Kind::NotFound);
        }
        self.put_name(id, parent, name);
        self.node_mut(id).attrs.ctime = self.now;
        self.entry_changed(parent);
        self.names_changed(id);
        Ok(())
    }

    pub fn remove(&mut self, parent: Id, name: &[u8], is_rmdir: bool) -> Said<()> {
        let node = self.directory(parent)?.children.get(name).copied().ok_or(Kind::NotFound)?;
        match (self.get(node).is_dir(), is_rmdir) {
            (true, false) => return Err(Kind::IsDirectory),
            (false, true) => return Err(Kind::NotDirectory),
            (true, true) if !self.get(node).children.is_empty() => return Err(Kind::NotEmpty),
            _ => {}
        }
        self.drop_name(node, parent, name);
        self.entry_changed(parent);
        Ok(())
    }

    /// Takes one name; nobody else gets it.
    fn drop_name(&mut self, id: Id, parent: Id, name: &[u8]) {
        if self.get(id).names.len() > 1 {
            self.leaves(id);
        }
        self.take_name(id, parent, name);
        self.node_mut(id).attrs.ctime = self.now;
        if self.get(id).names.is_empty() {
            self.victims.retain(|victim| victim.by != id);
            self.forget_if_unused(id);
        } else {
            self.names_changed(id);
        }
    }

    /// Removes a medium with all its names.
    pub fn remove_all(&mut self, id: Id) {
        for (parent, name) in self.get(id).names.clone() {
            self.take_name(id, parent, &name);
            self.entry_changed(parent);
        }
        self.node_mut(id).attrs.ctime = self.now;
        self.victims.retain(|victim| victim.by != id);
        self.forget_if_unused(id);
    }

    pub fn forget_if_unused(&mut self, id: Id) {
        let node = self.get(id);
        if id != ROOT && node.names.is_empty() && node.opens == 0 {
            self.nodes.remove(&id);
        }
    }

    pub fn rename(&mut self, from: (Id, &[u8]), to: (Id, &[u8]), mode: RenameMode) -> Said<()> {
        check_name(to.1)?;
        self.directory(from.0)?;
        self.directory(to.0)?;
        let id = self.get(from.0).children.get(from.1).copied().ok_or(Kind::NotFound)?;
        let other = self.get(to.0).children.get(to.1).copied();
        if self.get(id).is_dir() && self.is_within(to.0, id) {
            return Err(Kind::Invalid);
        }
        match (other, mode) {
            (Some(_), RenameMode::NoReplace) => return Err(Kind::Exists),
            (None, RenameMode::Exchange) => return Err(Kind::NotFound),
            (Some(other), RenameMode::Exchange) => return self.exchange((from, id), (to, other)),
            (Some(other), _) if other == id => return Ok(()),
            (Some(other), _) => self.check_replaceable(id, other)?,
            (None, _) => {}
        }
        self.leaves(id);
        self.take_name(id, from.0, from.1);
        if let Some(other) = other {
            self.replaced(other, to, id);
        }
        self.put_name(id, to.0, to.1);
        self.node_mut(id).attrs.ctime = self.now;
        self.entry_changed(from.0);
        self.entry_changed(to.0);
        self.names_changed(id);
        if other.is_some_and(|other| self.nodes.get(&other).is_some_and(|node| !node.names.is_empty())) {
            // "A rename over one of several names of a file syncs the new holder first."
            self.commit(id);
        }
        Ok(())
    }

    fn check_replaceable(&self, id: Id, other: Id) -> Said<()> {
        match (self.get(id).is_dir(), self.get(other).is_dir()) {
            (true, false) => Err(Kind::NotDirectory),
            (false, true) => Err(Kind::IsDirectory),
            (true, true) if !self.get(other).children.is_empty() => Err(Kind::NotEmpty),
            _ => Ok(()),
        }
    }

    /// `other` loses a name to `by`.
    fn replaced(&mut self, other: Id, (parent, name): (Id, &[u8]), by: Id) {
        let before = self.get(other).clone();
        self.take_name(other, parent, name);
        self.node_mut(other).attrs.ctime = self.now;
        if before.names.len() > 1 {
            self.victims.retain(|victim| victim.by != other);
            self.names_changed(other);
            return;
        }
        self.superseded(other, before, by);
        self.forget_if_unused(other);
    }

    fn exchange(&mut self, (a_at, a): ((Id, &[u8]), Id), (b_at, b): ((Id, &[u8]), Id)) -> Said<()> {
        if self.get(b).is_dir() && self.is_within(a_at.0, b) {
            return Err(Kind::Invalid);
        }
        if a == b {
            return Ok(());
        }
        for id in [a, b] {
            self.leaves(id);
        }
        self.take_name(a, a_at.0, a_at.1);
        self.take_name(b, b_at.0, b_at.1);
        self.put_name(a, b_at.0, b_at.1);
        self.put_name(b, a_at.0, a_at.1);
        for id in [a, b] {
            self.node_mut(id).attrs.ctime = self.now;
            self.names_changed(id);
        }
        self.entry_changed(a_at.0);
        self.entry_changed(b_at.0);
        Ok(())
    }

    /// Whether `id` is `top` or lies below it.
    fn is_within(&self, id: Id, top: Id) -> bool {
        let mut at = id;
        loop {
            if at == top {
                return true;
            }
            match self.get(at).names.first() {
                Some((parent, _)) => at = *parent,
                None => return false,
            }
        }
    }

    /// Replaces a content, when there is room for it.
    pub fn set_content(&mut self, id: Id, content: Content, class_may_all: bool) -> Said<()> {
        let (before, after) = (self.get(id).content.charge(), content.charge());
        let reserve = if class_may_all { 0 } else { reserved(&self.policy) };
        let max = self.policy.max_bytes.map(|max| max.saturating_sub(reserve));
        if after > before && max.is_some_and(|max| self.used().0 + after - before > max) {
            return Err(Kind::NoSpace);
        }
        self.node_mut(id).content = content;
        let now = self.now;
        let attrs = &mut self.node_mut(id).attrs;
        (attrs.mtime, attrs.ctime) = (now, now);
        Ok(())
    }

    /// Bytes charged and media counted: what has a name or a handle.
    pub fn used(&self) -> (u64, u64) {
        let media = self.nodes.values().filter(|node| node.is_medium());
        media.fold((0, 0), |(bytes, count), node| (bytes + node.content.charge(), count + 1))
    }

    pub fn nlink(&self, id: Id) -> u32 {
        let node = self.get(id);
        if node.is_dir() {
            2 + node.children.values().filter(|child| self.get(**child).is_dir()).count() as u32
        } else {
            node.names.len() as u32
        }
    }

    /// All names, sorted: (directory, name, what it names).
    pub fn entries(&self) -> Vec<(Id, Vec<u8>, Id)> {
        let of = |(dir, node): (&Id, &Node)| {
            let dir = *dir;
            node.children.iter().map(move |(name, id)| (dir, name.clone(), *id)).collect::<Vec<_>>()
        };
        self.nodes.iter().flat_map(of).collect()
    }

    pub fn directories(&self) -> Vec<Id> {
        self.nodes.iter().filter(|(_, node)| node.is_dir()).map(|(id, _)| *id).collect()
    }
}

fn reserved(policy: &Policy) -> u64 {
    let max = policy.max_bytes.unwrap_or(0);
    let of = |amount| match amount {
        ReserveAmount::Bytes(bytes) => bytes,
        ReserveAmount::Percent(percent) => max / 100 * u64::from(percent),
    };
    policy.reserves.iter().map(|reserve| of(reserve.amount)).sum()
}
