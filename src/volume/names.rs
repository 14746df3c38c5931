//! The namespace: looking up, making, linking and removing.

use std::sync::Arc;

use super::ahead::ReadAhead;
use super::inode::{Inode, State};
use super::quota::Class;
use super::record::{Named, Record};
use super::types::{Attr, DirEntry, FileKind, NewNode, OpenMode};
use super::{OpenFile, Volume};
use crate::error::{Error, Kind, Result};
use crate::format::attributes::{Attributes, Link, MAX_LINKS, MAX_NAME_LEN, MAX_TARGET_LEN, is_name};
use crate::ids::{BlobId, Ino};

fn name_too_long() -> Error {
    Error::new(Kind::NameTooLong, format!("a name is at most {MAX_NAME_LEN} bytes long"))
}

pub(super) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > MAX_NAME_LEN {
        return Err(name_too_long());
    }
    if is_name(name) { Ok(()) } else { Err(Error::new(Kind::Invalid, "not a name")) }
}

impl Volume {
    /// The inode that `name` in `parent` names.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`, `NameTooLong`.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr> {
        if name.len() > MAX_NAME_LEN {
            return Err(name_too_long());
        }
        match self.absent.watch(parent, name, || self.read_name(parent, name))? {
            Some(named) => self.getattr(named.ino),
            None => Err(Error::new(Kind::NotFound, "no such name")),
        }
    }

    /// What a name stands for.
    pub(super) fn named(&self, parent: Ino, name: &[u8]) -> Result<Named> {
        match self.read_name(parent, name)? {
            Some(named) => Ok(named),
            None => Err(Error::new(Kind::NotFound, "no such name")),
        }
    }

    /// Attributes of an inode.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn getattr(&self, ino: Ino) -> Result<Attr> {
        Ok(self.inode(ino)?.state.read().record.attr())
    }

    /// Attributes of an inode, which is not brought into memory for that.
    fn attr_in_passing(&self, ino: Ino) -> Result<Attr> {
        if let Some(inode) = self.cache.get(ino) {
            return Ok(inode.state.read().record.attr());
        }
        match self.read_record(ino)? {
            Some(record) => Ok(record.attr()),
            None => Err(Kind::NotFound.into()),
        }
    }

    /// Where a symlink points.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for what is no symlink.
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        self.inode(ino)?.state.read().record.attrs.target.clone().ok_or_else(|| Kind::Invalid.into())
    }

    /// Makes a regular file and opens it. It is durable after an fsync.
    ///
    /// # Errors
    /// `Exists`, `NotFound`, `NotDirectory`, `NameTooLong`, `NoSpace`, `Poisoned`.
    pub fn create(&self, parent: Ino, name: &[u8], node: &NewNode, mode: OpenMode) -> Result<(Attr, OpenFile)> {
        let inode = self.make(parent, name, node, FileKind::Regular, |_| {})?;
        let mut state = inode.state.write();
        state.content = Some(Default::default());
        state.content_changed = true;
        state.writer = Some(Box::new(super::writer::Writer::from_start()));
        state.opens = 1;
        state.writers = u32::from(mode.write);
        let attr = state.record.attr();
        if mode.write {
            self.tracking.writing.lock().insert(inode.ino);
        } else {
            self.publish(&inode, &mut state);
        }
        drop(state);
        Ok((attr, OpenFile { inode, mode, class: Class::General, is_look: false, ahead: ReadAhead::default() }))
    }

    /// Makes a node without content of its own: fifo, socket, device, or an empty regular file.
    ///
    /// # Errors
    /// As [`Volume::create`]; `Invalid` for directories and symlinks.
    pub fn mknod(&self, parent: Ino, name: &[u8], kind: FileKind, rdev: u32, node: &NewNode) -> Result<Attr> {
        match kind {
            FileKind::Directory | FileKind::Symlink => Err(Kind::Invalid.into()),
            FileKind::Regular => {
                let (attr, file) = self.create(parent, name, node, OpenMode { write: true, ..OpenMode::default() })?;
                self.close(file);
                Ok(attr)
            }
            _ => {
                let inode = self.make(parent, name, node, kind, |attrs| attrs.rdev = rdev)?;
                self.commit_new(&inode, parent, name)
            }
        }
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// As [`Volume::create`].
    pub fn mkdir(&self, parent: Ino, name: &[u8], node: &NewNode) -> Result<Attr> {
        let inode = self.make(parent, name, node, FileKind::Directory, |_| {})?;
        let attr = self.commit_new(&inode, parent, name)?;
        self.tracking.newborn.lock().insert(inode.ino);
        Ok(attr)
    }

    /// Makes a symbolic link to `target`, of 1 to 4095 bytes.
    ///
    /// # Errors
    /// As [`Volume::create`]; `NameTooLong` for the target.
    pub fn symlink(&self, parent: Ino, name: &[u8], target: &[u8], node: &NewNode) -> Result<Attr> {
        if target.len() > MAX_TARGET_LEN {
            return Err(Error::new(Kind::NameTooLong, format!("a target is at most {MAX_TARGET_LEN} bytes long")));
        }
        if target.is_empty() {
            return Err(Kind::NotFound.into());
        }
        let inode = self.make(parent, name, node, FileKind::Symlink, |attrs| attrs.target = Some(target.to_vec()))?;
        self.commit_new(&inode, parent, name)
    }

    /// Writes an inode that was just made; when it cannot be, it is gone again.
    fn commit_new(&self, inode: &Arc<Inode>, parent: Ino, name: &[u8]) -> Result<Attr> {
        let (outcome, kind) = {
            let mut state = inode.state.write();
            let outcome = self.ballast.with_room(|| self.commit(inode, &mut state));
            (outcome.map(|()| state.record.attr()), state.record.attrs.kind)
        };
        outcome.inspect_err(|_| {
            // Where somebody was quick to put something into it, it stays, and is written when there is room.
            let _stays = match kind {
                FileKind::Directory => self.rmdir(parent, name),
                _ => self.unlink(parent, name),
            };
        })
    }

    /// Makes an inode with one name; nothing of it is in the store yet.
    fn make(
        &self,
        parent: Ino,
        name: &[u8],
        node: &NewNode,
        kind: FileKind,
        fill: impl FnOnce(&mut Attributes),
    ) -> Result<Arc<Inode>> {
        check_name(name)?;
        self.activity.note();
        self.store.latch().pass()?;
        self.wait_for_index()?;
        let _names = self.names.lock();
        let dir = self.directory(parent)?;
        if !self.absent.is_known(parent, name) && self.read_name(parent, name)?.is_some() {
            return Err(Error::new(Kind::Exists, "the name is taken"));
        }
        let media = u64::from(kind == FileKind::Regular);
        self.take_room(Class::General, 0, media)?;
        let ino = Ino(self.next_blob().0);
        let mut attrs = Attributes::new(ino, kind, self.clock.now());
        (attrs.mode, attrs.uid, attrs.gid) = (node.mode & 0o7777, node.uid, node.gid);
        {
            let above = dir.state.read();
            if above.record.attrs.mode & 0o2000 != 0 {
                attrs.gid = above.record.attrs.gid;
                if kind == FileKind::Directory {
                    attrs.mode |= 0o2000;
                }
            }
        }
        fill(&mut attrs);
        let link = Link { parent, id: self.next_seq(), name: name.to_vec(), swapped: None };
        attrs.links.push(link.clone());
        let mut state = State::new(Record::new(attrs), false);
        state.attrs_changed = true;
        let inode = self.cache.insert(ino, state);
        if let Err(e) = self.note_change(&inode, &inode.state.read()) {
            self.quota.give(0, media);
            self.tracking.young.lock().remove(&BlobId(ino.0));
            self.cache.remove(ino);
            return Err(e);
        }
        self.put_name(&link, ino, kind);
        self.took_name(&link, ino);
        self.entry_changed(&dir, i64::from(kind == FileKind::Directory));
        Ok(inode)
    }

    /// A directory that still has a name (or is the root).
    pub(super) fn directory(&self, ino: Ino) -> Result<Arc<Inode>> {
        let dir = self.inode(ino)?;
        let state = dir.state.read();
        let (kind, removed) = (state.record.attrs.kind, state.removed);
        drop(state);
        if kind != FileKind::Directory {
            return Err(Kind::NotDirectory.into());
        }
        if removed { Err(Kind::NotFound.into()) } else { Ok(dir) }
    }

    /// An entry of a directory came or went: its times change, in memory and index; its blob is told lazily.
    pub(super) fn entry_changed(&self, dir: &Arc<Inode>, subdirs: i64) {
        let now = self.clock.now();
        let mut state = dir.state.write();
        state.record.attrs.mtime = now;
        state.record.attrs.ctime = now;
        state.record.subdirs = u32::try_from((i64::from(state.record.subdirs) + subdirs).max(0)).unwrap_or(u32::MAX);
        drop(state);
        self.mark_dirty(dir);
        self.tracking.stale_dirs.lock().insert(dir.ino);
    }

    /// Gives an inode one more name.
    ///
    /// # Errors
    /// `NotPermitted` for a directory, `TooManyLinks`, and as [`Volume::create`].
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        check_name(name)?;
        let _names = self.names.lock();
        let dir = self.directory(parent)?;
        let inode = self.inode(ino)?;
        if self.read_name(parent, name)?.is_some() {
            return Err(Error::new(Kind::Exists, "the name is taken"));
        }
        let mut state = inode.state.write();
        let kind = state.record.attrs.kind;
        if kind == FileKind::Directory {
            return Err(Error::new(Kind::NotPermitted, "a directory has one name only"));
        }
        if state.removed {
            return Err(Kind::NotFound.into());
        }
        if state.record.attrs.links.len() >= MAX_LINKS {
            return Err(Error::new(Kind::TooManyLinks, format!("an inode has at most {MAX_LINKS} names")));
        }
        self.store.latch().pass()?;
        self.note_change(&inode, &state)?;
        let link = Link { parent, id: self.next_seq(), name: name.to_vec(), swapped: None };
        state.record.attrs.links.push(link.clone());
        state.record.attrs.ctime = self.clock.now();
        self.put_name(&link, ino, kind);
        self.took_name(&link, ino);
        self.names_changed(&inode, &mut state)?;
        let attr = state.record.attr();
        drop(state);
        self.entry_changed(&dir, 0);
        Ok(attr)
    }

    /// Removes a name that is no directory's; with the last one the medium. It does not come back, whatever happens.
    ///
    /// # Errors
    /// `NotFound`, `IsDirectory`, `Poisoned`.
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.removing(|| self.unlink_once(parent, name))
    }

    fn unlink_once(&self, parent: Ino, name: &[u8]) -> Result<()> {
        let names = self.names.lock();
        let dir = self.directory(parent)?;
        let named = self.named(parent, name)?;
        if named.kind == FileKind::Directory {
            return Err(Kind::IsDirectory.into());
        }
        let inode = self.inode(named.ino)?;
        if inode.state.read().record.attrs.links.len() > 1 {
            self.leave_name(named.ino)?;
        }
        self.remove_name(&inode, parent, name, None)?;
        self.entry_changed(&dir, 0);
        drop(names);
        self.reap_if_unused(&inode);
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`, `NotEmpty`, `Poisoned`.
    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.removing(|| self.rmdir_once(parent, name))
    }

    fn rmdir_once(&self, parent: Ino, name: &[u8]) -> Result<()> {
        let names = self.names.lock();
        let dir = self.directory(parent)?;
        let named = self.named(parent, name)?;
        if named.kind != FileKind::Directory {
            return Err(Kind::NotDirectory.into());
        }
        if !self.is_empty_dir(named.ino)? {
            return Err(Kind::NotEmpty.into());
        }
        let inode = self.inode(named.ino)?;
        self.remove_name(&inode, parent, name, None)?;
        self.entry_changed(&dir, -1);
        drop(names);
        self.reap_if_unused(&inode);
        Ok(())
    }

    /// Takes one name from an inode; the last takes the inode with it. The namespace lock is held.
    pub(super) fn remove_name(
        &self,
        inode: &Arc<Inode>,
        parent: Ino,
        name: &[u8],
        superseded_by: Option<Ino>,
    ) -> Result<()> {
        self.store.latch().pass()?;
        let mut state = inode.state.write();
        let at = state.record.attrs.links.iter().position(|l| l.parent == parent && l.name == name);
        let at = at.ok_or_else(|| Error::new(Kind::NotFound, "no such name"))?;
        if state.record.attrs.links.len() == 1 {
            let link = state.record.attrs.links.first().cloned();
            self.drop_inode(inode, &mut state, superseded_by)?;
            if let Some(link) = link {
                self.delete_name(&link, inode.ino);
            }
            return Ok(());
        }
        self.note_change(inode, &state)?;
        let link = state.record.attrs.links.remove(at);
        state.record.attrs.ctime = self.clock.now();
        self.delete_name(&link, inode.ino);
        self.left_name(&link, inode.ino);
        self.names_changed(inode, &mut state)
    }

    /// A removed inode that nobody has open and no kernel knows goes at once.
    pub(super) fn reap_if_unused(&self, inode: &Arc<Inode>) {
        let is_unused = {
            let state = inode.state.read();
            state.removed && state.opens == 0
        };
        if is_unused && !self.has_watcher() {
            self.forget(inode.ino);
        }
    }

    /// The parent of a directory; the root's is the root.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn parent_of(&self, dir: Ino) -> Result<Ino> {
        let inode = self.inode(dir)?;
        let state = inode.state.read();
        Ok(state.record.attrs.links.first().map_or(Ino::ROOT, |l| l.parent))
    }

    /// Entries after the cookie `after` (0: from the start), at most `limit`; without `.`, `..` and `.expired`.
    /// What was there all the time is seen exactly once, whatever comes and goes meanwhile.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`, `Damaged`, `Io`.
    pub fn readdir(&self, dir: Ino, after: u64, limit: usize, with_attrs: bool) -> Result<Vec<DirEntry>> {
        let inode = self.inode(dir)?;
        if inode.state.read().record.attrs.kind != FileKind::Directory {
            return Err(Kind::NotDirectory.into());
        }
        let mut entries = self.read_entries(dir, after, limit)?;
        if with_attrs {
            for entry in &mut entries {
                entry.attr = self.attr_in_passing(entry.ino).ok();
            }
        }
        Ok(entries)
    }

    /// Makes the names in a directory durable, removals and renames included, with all that was acknowledged before.
    ///
    /// # Errors
    /// `NotFound`, `Poisoned`, `Io`.
    pub fn fsync_dir(&self, dir: Ino) -> Result<()> {
        self.inode(dir)?;
        let changed: Vec<Ino> = {
            let (unsynced, uncommitted) = (self.tracking.unsynced.lock(), self.tracking.uncommitted.lock());
            unsynced.keys().chain(uncommitted.keys()).copied().take(super::MANY_UNSYNCED + 1).collect()
        };
        if changed.len() > super::MANY_UNSYNCED {
            return self.sync_all();
        }
        for ino in changed {
            match self.inode(ino) {
                // Removed meanwhile.
                Err(e) if e.kind() == Kind::NotFound => {}
                inode => self.sync_inode(&inode?, false)?,
            }
        }
        self.ledger.sync()
    }
}
