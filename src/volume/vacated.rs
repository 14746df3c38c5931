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
            self.tracking.leavers.lock().entry(ino).or_default().push((link.id, leaver));
        }
    }

    /// Makes durable that those have left whose names an inode, and they in turn, have got. They stay in mind until that is
    /// done: a sync that failed may be tried again, and one beside this one must not be done before.
    pub(super) fn sync_leavers(&self, inode: &Arc<Inode>) -> Result<()> {
        let mut takers = vec![inode.ino];
        let mut done = Vec::new();
        let mut nth = 0;
        while let Some(taker) = takers.get(nth).copied() {
            for (link, leaver) in self.tracking.leavers.lock().get(&taker).into_iter().flatten() {
                done.push((taker, *link));
                if !takers.contains(leaver) {
                    takers.push(*leaver);
                }
            }
            if takers.len() > MANY_UNSYNCED {
                return self.sync_all();
            }
            nth += 1;
        }
        for ino in takers.into_iter().skip(1).rev() {
            // One that is gone has nothing to say.
            if let Ok(leaver) = self.inode(ino) {
                self.sync_alone(&leaver, false)?;
            }
        }
        let mut leavers = self.tracking.leavers.lock();
        for (taker, link) in done {
            if let Some(of_taker) = leavers.get_mut(&taker) {
                of_taker.retain(|(at, _)| *at != link);
                if of_taker.is_empty() {
                    leavers.remove(&taker);
                }
            }
        }
        Ok(())
    }

    /// Everything that was committed is durable: what it left does not matter any more.
    pub(super) fn forget_leavers(&self) {
        self.tracking.vacated.lock().retain(|_, ino| self.is_unsynced(*ino));
        self.tracking.leavers.lock().retain(|_, leavers| leavers.iter().any(|(_, ino)| self.is_unsynced(*ino)));
    }
}
