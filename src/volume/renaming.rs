//! Renaming and exchanging names.

use std::sync::Arc;

use super::Volume;
use super::inode::Inode;
use super::names::check_name;
use super::record::Named;
use super::types::{FileKind, RenameMode};
use crate::error::{Error, Kind, Result};
use crate::format::attributes::{Link, Swap};
use crate::ids::{Ascent, Ino};

/// One side of an exchange.
struct Place<'a> {
    inode: &'a Arc<Inode>,
    dir: &'a Arc<Inode>,
    name: &'a [u8],
}

/// The link an inode gets at `to`, number `id`; the inode that was there gets the name of `from` under `other_id`.
fn exchanged(to: &Place<'_>, id: u64, from: &Place<'_>, other_id: u64) -> Link {
    let swap = Swap { ino: to.inode.ino, parent: from.dir.ino, id: other_id, name: from.name.to_vec() };
    Link { parent: to.dir.ino, id, name: to.name.to_vec(), swapped: Some(swap) }
}

impl Volume {
    /// Renames; a target that is replaced is gone only when the new name is durable.
    ///
    /// # Errors
    /// `NotFound`, `Exists` (no replacing), `NotDirectory`, `IsDirectory`, `NotEmpty`, `Invalid` for a directory into
    /// itself, `NameTooLong`, `Poisoned`.
    pub fn rename(&self, parent: Ino, name: &[u8], new_parent: Ino, new_name: &[u8], mode: RenameMode) -> Result<()> {
        check_name(new_name)?;
        self.store.latch().pass()?;
        let names = self.names.lock();
        let from_dir = self.directory(parent)?;
        let to_dir = self.directory(new_parent)?;
        let from = self.named(parent, name)?;
        let target = self.read_name(new_parent, new_name)?;
        if from.kind == FileKind::Directory && self.is_within(new_parent, from.ino)? {
            return Err(Error::new(Kind::Invalid, "a directory cannot be moved into itself"));
        }
        let inode = self.inode(from.ino)?;
        self.expect_durable(&to_dir, &inode)?;
        let target = match (target, mode) {
            (Some(_), RenameMode::NoReplace) => return Err(Kind::Exists.into()),
            (None, RenameMode::Exchange) => return Err(Kind::NotFound.into()),
            (Some(to), RenameMode::Exchange | RenameMode::Replace) if to.ino == from.ino => return Ok(()),
            (Some(to), RenameMode::Exchange) => {
                if to.kind == FileKind::Directory && self.is_within(parent, to.ino)? {
                    return Err(Error::new(Kind::Invalid, "a directory cannot be moved into itself"));
                }
                let other = self.inode(to.ino)?;
                self.expect_durable(&from_dir, &other)?;
                self.leave_name(from.ino)?;
                self.leave_name(to.ino)?;
                return self.exchange(
                    Place { inode: &inode, dir: &from_dir, name },
                    Place { inode: &other, dir: &to_dir, name: new_name },
                );
            }
            (Some(to), RenameMode::Replace) => {
                self.check_replaceable(&from, &to)?;
                Some(to)
            }
            (None, _) => None,
        };
        self.leave_name(from.ino)?;
        let victim = target.map(|to| self.inode(to.ino)).transpose()?;
        let is_dir = i64::from(from.kind == FileKind::Directory);
        if victim.is_some() {
            self.require_room_to_commit()?;
            // The record follows the frame: without room for it the frame would stand on the disk alone.
            self.ledger.make_room()?;
        }
        let link = Link { parent: new_parent, id: self.next_seq(), name: new_name.to_vec(), swapped: None };
        self.move_name(&inode, parent, name, link)?;
        if victim.is_some() {
            // Also when it is open for writing: the blob has to claim the name before the one that had it goes.
            let committed = self.commit_names(&inode, &mut inode.state.write());
            committed
                .or_else(|e| self.take_back(&inode, (parent, name), (new_parent, new_name), victim.as_ref(), e))?;
        }
        if let Some(victim) = &victim
            && victim.state.read().record.attrs.links.len() == 1
        {
            let removed = self.remove_name(victim, new_parent, new_name, Some(inode.ino));
            removed.or_else(|e| self.take_back(&inode, (parent, name), (new_parent, new_name), Some(victim), e))?;
        }
        self.entry_changed(&from_dir, -is_dir);
        self.entry_changed(&to_dir, is_dir - i64::from(target.is_some_and(|t| t.kind == FileKind::Directory)));
        if let Some(victim) = victim.as_ref().filter(|v| !v.state.read().removed) {
            // Another name keeps it: it may say that it lost this one only after the new holder is durable.
            self.sync_inode(&inode, true)?;
            // Nor may those come back from which it had taken the name itself.
            self.settle_victims(victim.ino)?;
            self.remove_name(victim, new_parent, new_name, None)?;
        }
        self.rename_done(&inode, from.kind)?;
        drop(names);
        if let Some(victim) = victim {
            self.reap_if_unused(&victim);
        }
        Ok(())
    }

    /// What moves into a directory must not lose its old name for it while power may still take the directory away.
    fn expect_durable(&self, dir: &Arc<Inode>, moved: &Inode) -> Result<()> {
        let is_newborn = self.tracking.newborn.lock().contains(&dir.ino);
        if is_newborn && moved.state.read().record.location.is_some() { self.sync_alone(dir, false) } else { Ok(()) }
    }

    /// Gives both their names again after a rename over another inode has failed with `e`.
    fn take_back(
        &self,
        inode: &Arc<Inode>,
        (parent, name): (Ino, &[u8]),
        (new_parent, new_name): (Ino, &[u8]),
        victim: Option<&Arc<Inode>>,
        e: Error,
    ) -> Result<()> {
        let link = Link { parent, id: self.next_seq(), name: name.to_vec(), swapped: None };
        // In memory it is done whatever becomes of it on the disk, where the old frame may still stand.
        let _written = self.move_name(inode, new_parent, new_name, link);
        if let Some(victim) = victim {
            let state = victim.state.read();
            let links = state.record.attrs.links.iter();
            for link in links.filter(|link| link.parent == new_parent && link.name == new_name) {
                self.put_name(link, victim.ino, state.record.attrs.kind);
            }
        }
        Err(e)
    }

    /// An inode is about to leave a name it has taken over from another: that one must not come back to it, so this one
    /// has to be durable now. A content that is being written stays out of that, unless there is no other. So has the other
    /// half of an exchange, of which the next frame of this one does not tell.
    pub(super) fn leave_name(&self, ino: Ino) -> Result<()> {
        let inode = self.inode(ino)?;
        let others: Vec<Ino> = {
            let state = inode.state.read();
            state.record.attrs.links.iter().filter_map(|link| Some(link.swapped.as_ref()?.ino)).collect()
        };
        for other in others.into_iter().filter(|other| self.is_unsynced(*other)) {
            if let Ok(other) = self.inode(other) {
                self.sync_alone(&other, false)?;
            }
        }
        if !self.has_victims(ino) {
            return Ok(());
        }
        let is_new = inode.state.read().record.location.is_none();
        self.sync_inode(&inode, is_new)?;
        self.settle_victims(ino).map(|_any| ())
    }

    fn check_replaceable(&self, from: &Named, to: &Named) -> Result<()> {
        match (from.kind == FileKind::Directory, to.kind == FileKind::Directory) {
            (true, false) => Err(Kind::NotDirectory.into()),
            (false, true) => Err(Kind::IsDirectory.into()),
            (true, true) if !self.is_empty_dir(to.ino)? => Err(Kind::NotEmpty.into()),
            _ => Ok(()),
        }
    }

    /// Replaces one name of an inode by another, in memory, index and blob.
    fn move_name(&self, inode: &Arc<Inode>, parent: Ino, name: &[u8], new: Link) -> Result<()> {
        let mut state = inode.state.write();
        self.note_change(inode, &state)?;
        let kind = state.record.attrs.kind;
        let Some(link) = state.record.attrs.links.iter_mut().find(|l| l.parent == parent && l.name == name) else {
            return Err(Error::new(Kind::NotFound, "no such name"));
        };
        let old = std::mem::replace(link, new.clone());
        state.record.attrs.ctime = self.clock.now();
        self.delete_name(&old, inode.ino);
        self.put_name(&new, inode.ino, kind);
        self.took_name(&new, inode.ino);
        self.left_name(&old, inode.ino);
        self.names_changed(inode, &mut state)
    }

    /// Exchanges two names. Each of the two blobs tells of both, so that no crash leaves one without a name.
    fn exchange(&self, a: Place<'_>, b: Place<'_>) -> Result<()> {
        let (a_kind, b_kind) = (a.inode.state.read().record.attrs.kind, b.inode.state.read().record.attrs.kind);
        let (a_id, b_id) = (self.next_seq(), self.next_seq());
        let moved = self.move_name(a.inode, a.dir.ino, a.name, exchanged(&b, a_id, &a, b_id));
        let moved = moved.and_then(|()| self.move_name(b.inode, b.dir.ino, b.name, exchanged(&a, b_id, &b, a_id)));
        moved.or_else(|e| {
            let link = Link { parent: b.dir.ino, id: self.next_seq(), name: b.name.to_vec(), swapped: None };
            // There is nothing to do when it had not moved yet.
            let _back = self.move_name(b.inode, a.dir.ino, a.name, link);
            self.take_back(a.inode, (a.dir.ino, a.name), (b.dir.ino, b.name), Some(b.inode), e)
        })?;
        let delta = i64::from(b_kind == FileKind::Directory) - i64::from(a_kind == FileKind::Directory);
        self.entry_changed(a.dir, delta);
        self.entry_changed(b.dir, -delta);
        self.rename_done(a.inode, a_kind)?;
        self.rename_done(b.inode, b_kind)
    }

    /// Whether `ino` is `top` or lies below it.
    fn is_within(&self, ino: Ino, top: Ino) -> Result<bool> {
        let mut at = ino;
        let mut ascent = Ascent::default();
        loop {
            if at == top {
                return Ok(true);
            }
            let above = self.parent_of(at)?;
            if above == at {
                return Ok(false);
            }
            ascent.step(above)?;
            at = above;
        }
    }
}
