//! The states a crash may leave: from what was acknowledged last to what was asked for last.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{Ack, Content, World};

/// What stands under a name.
#[derive(Clone, PartialEq, Eq)]
pub enum State {
    Absent,
    Dir,
    File(Content),
    /// Why.
    Unreadable(String),
}

impl State {
    pub fn describe(&self) -> String {
        match self {
            State::Absent => "absent".into(),
            State::Dir => "a directory".into(),
            State::Unreadable(why) => format!("unreadable ({why})"),
            State::File(bytes) => format!("{} bytes {:02x?}", bytes.len(), &bytes[..bytes.len().min(4)]),
        }
    }
}

/// What was found in a volume: states by path, and the extended attribute of each.
pub type Found = BTreeMap<String, (State, Option<String>)>;

/// The moments of a run, first that before its first step.
pub struct History {
    moments: Vec<(World, Ack)>,
    names: BTreeSet<String>,
    /// Names by which something is found when the directory it lies in has an earlier name again, with those it was given.
    earlier: BTreeMap<String, BTreeSet<String>>,
}

impl History {
    /// Begins with a world that is durable.
    pub fn new(world: World) -> History {
        let mut history = History { moments: Vec::new(), names: BTreeSet::new(), earlier: BTreeMap::new() };
        history.push(world, Ack::All);
        history
    }

    pub fn push(&mut self, world: World, ack: Ack) {
        self.names.extend(world.inodes.values().flat_map(|inode| inode.names.iter().cloned()));
        for name in world.inodes.values().flat_map(|inode| &inode.names) {
            let Some((dir, leaf)) = name.rsplit_once('/') else { continue };
            let Some(id) = world.holder(dir) else { continue };
            let before = self.moments.iter().filter_map(|(world, _)| world.inodes.get(&id));
            for other in before.flat_map(|inode| &inode.names).filter(|other| *other != dir) {
                self.earlier.entry(format!("{other}/{leaf}")).or_default().insert(name.clone());
            }
        }
        self.moments.push((world, ack));
    }

    /// Whether a name is one of these, or stands for one of them while its directory has an earlier name.
    fn is_one_of(&self, name: &str, names: &BTreeSet<String>) -> bool {
        names.contains(name) || self.earlier.get(name).is_some_and(|given| !given.is_disjoint(names))
    }

    /// Index of the last moment.
    pub fn last(&self) -> usize {
        self.moments.len() - 1
    }

    fn world(&self, at: usize) -> &World {
        &self.moments[at].0
    }

    /// What a crash at that moment leaves of a name. One whose content nobody has synced or closed takes the name of
    /// nobody yet.
    fn state(&self, name: &str, at: usize) -> State {
        let holder = self.world(at).holder(name).map(|id| &self.world(at).inodes[&id]);
        match holder {
            None => State::Absent,
            Some(inode) if inode.is_dir => State::Dir,
            Some(inode) => match (&inode.published, at) {
                (Some(content), _) => State::File(content.clone()),
                (None, 0) => State::Absent,
                (None, _) => self.state(name, at - 1),
            },
        }
    }

    /// The inode that held a name last, at or before a moment.
    fn last_holder(&self, name: &str, at: usize) -> Option<usize> {
        (0..=at).rev().find_map(|at| self.world(at).holder(name))
    }

    /// Whether a name's inode lost its last name at that moment, and not to another.
    fn is_removal(&self, name: &str, at: usize) -> bool {
        let before = at.checked_sub(1).and_then(|before| self.world(before).holder(name));
        let world = self.world(at);
        before.is_some_and(|id| {
            world.holder(name).is_none() && world.inodes.get(&id).is_some_and(|inode| inode.names.is_empty())
        })
    }

    /// Inodes acknowledged at a moment by name: the inode with all directories above it.
    fn covers(&self, id: usize, at: usize) -> BTreeSet<usize> {
        let world = self.world(at);
        let mut covered = BTreeSet::from([id]);
        for name in world.inodes.get(&id).into_iter().flat_map(|inode| &inode.names) {
            let above = name.match_indices('/').filter_map(|(at, _)| world.holder(&name[..at]));
            covered.extend(above);
        }
        covered
    }

    /// The moment from which on a name may be what it was, when the moments up to `done` are over.
    fn since(&self, name: &str, done: usize, removals_last: bool) -> usize {
        let mut since = 0;
        for at in 0..=done {
            let is_certain = match self.moments[at].1 {
                Ack::All => true,
                Ack::Inode(id) => {
                    let holder = self.last_holder(name, at);
                    holder.is_some_and(|holder| self.covers(id, at).contains(&holder))
                }
                Ack::Removals => self.is_removal(name, at),
                Ack::Failed => false,
                Ack::Nothing => removals_last && self.is_removal(name, at),
            };
            if is_certain {
                since = at;
            }
        }
        since
    }

    fn inode_since(&self, id: usize, done: usize) -> usize {
        let is_certain = |at: &usize| match self.moments[*at].1 {
            Ack::All => true,
            Ack::Inode(synced) => self.covers(synced, *at).contains(&id),
            Ack::Removals | Ack::Nothing | Ack::Failed => false,
        };
        (0..=done).rev().find(is_certain).unwrap_or(0)
    }

    /// The inode that ever had a content.
    fn owner(&self, content: &Content) -> Option<usize> {
        self.moments.iter().find_map(|(world, _)| {
            let mut inodes = world.inodes.iter();
            inodes.find(|(_, inode)| inode.published.as_ref() == Some(content)).map(|(id, _)| *id)
        })
    }

    /// Compares what was found after a crash with what there may be: the moments up to `done` are over, those up to
    /// `end` had begun. With `removals_last`, as after the end of the process alone, what was removed stays so.
    pub fn compare(&self, found: &Found, done: usize, end: usize, removals_last: bool) -> Vec<String> {
        let end = end.min(self.last());
        let mut faults = Vec::new();
        for name in &self.names {
            let since = self.since(name, done, removals_last);
            let allowed: Vec<State> = (since..=end).map(|at| self.state(name, at)).collect();
            let here = found.get(name).map_or(State::Absent, |(state, _)| state.clone());
            if !allowed.contains(&here) {
                let mut told: Vec<String> = allowed.iter().map(State::describe).collect();
                told.dedup();
                faults.push(format!("{name:?} is {}, but may only be {}", here.describe(), told.join(" or ")));
            }
        }
        let mut names_of: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
        let mut lost: BTreeMap<usize, &str> = BTreeMap::new();
        for (path, (state, xattr)) in found {
            let is_lost = path.starts_with("lost+found");
            if !is_lost && !self.is_one_of(path, &self.names) {
                faults.push(format!("{path:?} was never made"));
            }
            let State::File(content) = state else { continue };
            let Some(owner) = self.owner(content) else {
                faults.push(format!("{path:?} holds {}, which nobody published", state.describe()));
                continue;
            };
            if content.is_empty() {
                continue;
            }
            if is_lost {
                lost.insert(owner, path);
            } else {
                names_of.entry(owner).or_default().insert(path);
            }
            let moments = self.inode_since(owner, done)..=end;
            let mut values = moments.filter_map(|at| self.world(at).inodes.get(&owner)).map(|inode| &inode.xattr);
            if !values.any(|value| value == xattr) {
                faults.push(format!("{path:?} has the attribute {xattr:?}"));
            }
        }
        for (id, names) in names_of {
            let since = self.inode_since(id, done);
            let is_allowed = (since..=end).any(|at| {
                let inode = self.world(at).inodes.get(&id);
                inode.is_some_and(|inode| {
                    inode.names.len() == names.len() && names.iter().all(|name| self.is_one_of(name, &inode.names))
                })
            });
            if !is_allowed && !lost.contains_key(&id) {
                faults.push(format!("one inode has the names {names:?}, which it never had together"));
            }
        }
        faults.extend(
            lost.iter()
                .filter(|(id, _)| !self.may_be_lost(**id, done, end))
                .map(|(_, path)| format!("{path:?} is there, although nobody could have taken its name")),
        );
        faults
    }

    /// Whether an inode may have lost its name: it had left one that another has got since, or it was never acknowledged.
    fn may_be_lost(&self, id: usize, done: usize, end: usize) -> bool {
        let is_new = !self.world(self.inode_since(id, done)).inodes.contains_key(&id);
        is_new
            || (self.inode_since(id, done)..=end).any(|at| {
                let names = self.world(at).inodes.get(&id).map(|inode| inode.names.clone()).unwrap_or_default();
                names.iter().any(|name| {
                    // Its own name, or that of a directory it lies in, which then came there with all in it.
                    let above = name
                        .match_indices('/')
                        .filter_map(|(to, _)| Some((&name[..to], self.world(at).holder(&name[..to])?)));
                    above.chain([(name.as_str(), id)]).any(|(name, id)| {
                        (at..=end).any(|at| self.world(at).holder(name).is_some_and(|other| other != id))
                    })
                })
            })
    }
}
