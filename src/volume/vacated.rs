//! Names that were left by one inode and taken by another.
//!
//! Which of two inodes has a name is told by their blobs. If the one that took the name is durable and the one that left it
//! is not, a power loss would leave the second without any name; so the leaver is synced with the taker.

use std::sync::Arc;

use super::inode::Inode;
use super::{MANY_UNSYNCED, Volume};
use crate::error::Result;
use crate::format::attributes::Link;
use crate::ids::Ino;

/// Names kept before those that do not matter any more are dropped.
const MANY_NAMES: usize = 1024;

impl Volume {
    /// An inode has left a name for another one.
    pub(super) fn left_name(&self, link: &Link, ino: Ino) {
        let mut vacated = self.tracking.vacated.lock();
        vacated.insert((link.parent, link.name.clone()), ino);
        if vacated.len() > MANY_NAMES {
            vacated.retain(|_, ino| self.is_unsynced(*ino));
        }
    }

    /// An inode has got a name.
    pub(super) fn took_name(&self, link: &Link, ino: Ino) {
        let mut vacated = self.tracking.vacated.lock();
        if vacated.is_empty() {
            return;
        }
        let leaver = vacated.remove(&(link.parent, link.name.clone()));
        drop(vacated);
        if let Some(leaver) = leaver.filter(|leaver| *leaver != ino && self.is_unsynced(*leaver)) {
            self.tracking.leavers.lock().entry(ino).or_default().push(leaver);
        }
    }

    /// Makes durable that those have left whose names an inode, and they in turn, have got.
    pub(super) fn sync_leavers(&self, inode: &Arc<Inode>) -> Result<()> {
        let mut order: Vec<Ino> = self.tracking.leavers.lock().remove(&inode.ino).unwrap_or_default();
        let mut nth = 0;
        while let Some(ino) = order.get(nth).copied() {
            order.extend(self.tracking.leavers.lock().remove(&ino).unwrap_or_default());
            nth += 1;
        }
        if order.len() > MANY_UNSYNCED {
            return self.sync_all();
        }
        for ino in order.into_iter().rev() {
            // One that is gone has nothing to say.
            if let Ok(leaver) = self.inode(ino) {
                self.sync_alone(&leaver, false)?;
            }
        }
        Ok(())
    }

    /// Everything that was committed is durable: what it left does not matter any more.
    pub(super) fn forget_leavers(&self) {
        self.tracking.vacated.lock().retain(|_, ino| self.is_unsynced(*ino));
        self.tracking.leavers.lock().retain(|_, leavers| leavers.iter().any(|ino| self.is_unsynced(*ino)));
    }
}
