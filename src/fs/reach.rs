//! Who may reach a medium by its own path. `.expired` shows and removes no more than that path would let its caller.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use fuser::Request;

use crate::error::{Error, Kind, Result};
use crate::ids::{Ascent, Ino};
use crate::volume::{Attr, Volume};

const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;
const STICKY: u32 = 0o1000;

/// Who asks, and what was found out about it for one request.
pub(super) struct Caller {
    uid: u32,
    gid: u32,
    pid: u32,
    /// Its other groups, read when they matter; none when they cannot be.
    groups: OnceCell<Option<Vec<u32>>>,
    /// Directories it can or cannot come to and pass through.
    passed: RefCell<HashMap<Ino, bool>>,
}

impl Caller {
    /// Who made a request.
    pub(super) fn of(request: &Request) -> Caller {
        Caller::new(request.uid(), request.gid(), request.pid())
    }

    fn new(uid: u32, gid: u32, pid: u32) -> Caller {
        Caller { uid, gid, pid, groups: OnceCell::new(), passed: RefCell::default() }
    }

    fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Whether it can come to a medium by one of its names.
    pub(super) fn reaches(&self, volume: &Volume, medium: Ino) -> Result<bool> {
        if self.is_root() {
            return Ok(true);
        }
        self.reaches_one_of(volume, &volume.holders_of(medium)?)
    }

    /// Whether it can come to what has a name in each of these directories, by one of them.
    pub(super) fn reaches_one_of(&self, volume: &Volume, parents: &[Ino]) -> Result<bool> {
        if self.is_root() {
            return Ok(true);
        }
        for dir in parents {
            if self.passes(volume, *dir)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Refuses who could not come to a medium.
    ///
    /// # Errors
    /// [`Kind::AccessDenied`].
    pub(super) fn expect_reach(&self, volume: &Volume, medium: Ino) -> Result<()> {
        if self.reaches(volume, medium)? { Ok(()) } else { Err(denied()) }
    }

    /// Refuses who could not unlink each name of a medium, since its removal takes all of them.
    ///
    /// # Errors
    /// [`Kind::AccessDenied`]; [`Kind::NotPermitted`] where a directory lets only owners remove.
    pub(super) fn expect_unlink(&self, volume: &Volume, medium: Ino) -> Result<()> {
        if self.is_root() {
            return Ok(());
        }
        let owner = volume.getattr(medium)?.uid;
        for dir in volume.holders_of(medium)? {
            let attr = volume.getattr(dir)?;
            if !self.passes(volume, dir)? || !self.is_let(&attr, WRITE | SEARCH) {
                return Err(denied());
            }
            if attr.mode & STICKY != 0 && self.uid != attr.uid && self.uid != owner {
                return Err(Error::new(Kind::NotPermitted, "the medium's directory lets only owners remove from it"));
            }
        }
        Ok(())
    }

    /// Whether it may search a directory and all above it.
    fn passes(&self, volume: &Volume, dir: Ino) -> Result<bool> {
        let (mut at, mut below, mut ascent) = (dir, Vec::new(), Ascent::default());
        let passes = loop {
            if let Some(known) = self.passed.borrow().get(&at) {
                break *known;
            }
            below.push(at);
            if !self.is_let(&volume.getattr(at)?, SEARCH) {
                break false;
            }
            if at == Ino::ROOT {
                break true;
            }
            at = volume.parent_of(at)?;
            ascent.step(at)?;
        };
        self.passed.borrow_mut().extend(below.into_iter().map(|dir| (dir, passes)));
        Ok(passes)
    }

    /// What the mode bits say. Groups are asked for only where they make a difference.
    fn is_let(&self, attr: &Attr, wanted: u32) -> bool {
        let is_let = |shift: u32| attr.mode >> shift & wanted == wanted;
        if self.uid == attr.uid {
            return is_let(6);
        }
        let (group, others) = (is_let(3), is_let(0));
        if group == others || self.gid == attr.gid {
            return group;
        }
        let groups = self.groups.get_or_init(|| groups_of(self.pid));
        groups.as_ref().is_some_and(|groups| if groups.contains(&attr.gid) { group } else { others })
    }
}

fn denied() -> Error {
    Error::new(Kind::AccessDenied, "the directories on the way to the medium do not let the caller")
}

/// The supplementary groups of a process, which a request does not tell.
fn groups_of(pid: u32) -> Option<Vec<u32>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    groups_in(&status)
}

fn groups_in(status: &str) -> Option<Vec<u32>> {
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"))?;
    groups.split_whitespace().map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::volume::FileKind;

    fn dir(mode: u32, uid: u32, gid: u32) -> Attr {
        let never = Timestamp::default();
        let (atime, mtime, ctime, btime) = (never, never, never, never);
        let (ino, kind) = (Ino(7), FileKind::Directory);
        Attr { ino, kind, mode, nlink: 2, uid, gid, rdev: 0, size: 0, blocks: 0, atime, mtime, ctime, btime }
    }

    fn caller(groups: Option<Vec<u32>>) -> Caller {
        Caller { groups: OnceCell::from(groups), ..Caller::new(10, 20, 0) }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let caller = caller(Some(vec![30]));
        let searches = |mode, uid, gid| caller.is_let(&dir(mode, uid, gid), SEARCH);
        assert!(searches(0o700, 10, 1) && !searches(0o077, 10, 20), "the owner");
        assert!(searches(0o710, 1, 20) && !searches(0o701, 1, 20), "its group");
        assert!(searches(0o710, 1, 30) && !searches(0o701, 1, 30), "another group of its");
        assert!(searches(0o701, 1, 1) && !searches(0o710, 1, 1), "others");
    }

    #[test]
    fn who_belongs_to_unknown_groups_is_let_only_where_they_do_not_matter() {
        let caller = caller(None);
        let searches = |mode| caller.is_let(&dir(mode, 1, 30), SEARCH);
        assert!(searches(0o711) && !searches(0o710) && !searches(0o701));
    }

    #[test]
    fn groups_are_read_from_the_status_of_a_process() {
        assert_eq!(groups_in("Name:\tx\nGroups:\t4 24 \nNStgid:\t1\n"), Some(vec![4, 24]));
        assert_eq!(groups_in("Groups:\t \n"), Some(vec![]));
        assert_eq!(groups_in("Name:\tx\n"), None);
        assert!(groups_of(std::process::id()).is_some() && groups_of(0).is_none());
    }
}
