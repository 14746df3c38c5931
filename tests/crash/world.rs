//! What the volume promises of its content, step by step: the model that every image is compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::steps::Step;
use crate::support::patterns;

/// A file's bytes.
pub type Content = Arc<Vec<u8>>;

/// One inode.
#[derive(Clone, Default, Debug)]
pub struct Inode {
    pub names: BTreeSet<String>,
    pub is_dir: bool,
    /// What the last `fsync` or `close` published; none before the first.
    pub published: Option<Content>,
    /// What a reader sees.
    pub live: Content,
    pub xattr: Option<String>,
    /// Whether its content was ever changed since somebody has reset this.
    pub is_touched: bool,
    writers: u32,
    is_changed: bool,
}

/// What a step has made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ack {
    Nothing,
    /// One inode with the directories above it.
    Inode(usize),
    /// Everything but contents that are still being written.
    All,
    /// The removals of this step.
    Removals,
    /// It failed: this is what it may have come to.
    Failed,
}

/// The volume at one moment.
#[derive(Clone, Default, Debug)]
pub struct World {
    pub inodes: BTreeMap<usize, Inode>,
    handles: BTreeMap<u8, usize>,
}

/// The bytes that step number `nth` writes.
pub fn bytes_of(nth: usize, len: usize) -> Vec<u8> {
    patterns::bytes(nth as u64 + 1, len)
}

fn below(name: &str, dir: &str) -> bool {
    name.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

impl World {
    /// The inode of a name.
    pub fn holder(&self, name: &str) -> Option<usize> {
        self.inodes.iter().find(|(_, inode)| inode.names.contains(name)).map(|(id, _)| *id)
    }

    /// Whether anything lies below a directory.
    pub fn has_entries(&self, dir: &str) -> bool {
        self.inodes.values().any(|inode| inode.names.iter().any(|name| below(name, dir)))
    }

    /// The inode of a handle.
    pub fn of_handle(&self, handle: u8) -> usize {
        self.handles[&handle]
    }

    fn inode(&mut self, name: &str) -> &mut Inode {
        let id = self.holder(name).unwrap_or_else(|| panic!("no {name} in {self:?}"));
        self.inodes.get_mut(&id).unwrap()
    }

    fn opened(&mut self, handle: u8, id: usize) -> &mut Inode {
        self.handles.insert(handle, id);
        let inode = self.inodes.get_mut(&id).unwrap();
        inode.writers += 1;
        inode.is_touched = true;
        inode
    }

    /// Names of an inode, and of everything below it, move.
    fn moved(from: &str, to: &str, mut name: String) -> String {
        if name == from {
            name = to.to_owned();
        } else if below(&name, from) {
            name = format!("{to}{}", &name[from.len()..]);
        }
        name
    }

    fn rename(&mut self, from: &str, to: &str) {
        let ids: Vec<usize> = self.inodes.keys().copied().collect();
        for id in ids {
            let names = self.inodes[&id].names.clone();
            let names = names.into_iter().map(|name| World::moved(from, to, name)).collect();
            self.inodes.get_mut(&id).unwrap().names = names;
        }
    }

    fn drop_name(&mut self, name: &str) {
        if let Some(id) = self.holder(name) {
            self.inodes.get_mut(&id).unwrap().names.remove(name);
        }
    }

    /// Takes step number `nth`; says what is durable with it.
    pub fn take(&mut self, nth: usize, step: &Step) -> Ack {
        match step {
            Step::Mkdir(path) => {
                let names = BTreeSet::from([(*path).to_owned()]);
                let published = Some(Arc::default());
                self.inodes.insert(nth, Inode { names, is_dir: true, published, ..Inode::default() });
            }
            Step::Create(handle, path) => {
                let names = BTreeSet::from([(*path).to_owned()]);
                self.inodes.insert(nth, Inode { names, is_changed: true, is_touched: true, ..Inode::default() });
                self.opened(*handle, nth);
            }
            Step::Open(handle, path) => {
                let id = self.holder(path).unwrap_or_else(|| panic!("no {path}"));
                self.opened(*handle, id);
            }
            Step::OpenAnew(handle, path) => {
                let id = self.holder(path).unwrap_or_else(|| panic!("no {path}"));
                let inode = self.opened(*handle, id);
                (inode.live, inode.is_changed) = (Arc::default(), true);
            }
            Step::Write(handle, at, len) => {
                let id = self.of_handle(*handle);
                let inode = self.inodes.get_mut(&id).unwrap();
                let (live, at) = (Arc::make_mut(&mut inode.live), usize::try_from(*at).unwrap());
                live.resize(live.len().max(at + len), 0);
                live[at..at + len].copy_from_slice(&bytes_of(nth, *len));
                inode.is_changed = true;
            }
            Step::Fsync(handle) => {
                let id = self.of_handle(*handle);
                let inode = self.inodes.get_mut(&id).unwrap();
                inode.publish();
                return Ack::Inode(id);
            }
            Step::Close(handle) | Step::CloseSoon(handle) => {
                let id = self.handles.remove(handle).unwrap();
                let inode = self.inodes.get_mut(&id).unwrap();
                inode.writers -= 1;
                if inode.writers == 0 {
                    inode.publish();
                }
            }
            Step::Truncate(path, len) => {
                let inode = self.inode(path);
                inode.is_touched = true;
                Arc::make_mut(&mut inode.live).resize(usize::try_from(*len).unwrap(), 0);
                inode.is_changed = true;
                if inode.writers == 0 {
                    inode.publish();
                }
            }
            Step::Rename(from, to) => {
                self.drop_name(to);
                self.rename(from, to);
            }
            Step::Exchange(a, b) => {
                self.rename(a, "\n");
                self.rename(b, a);
                self.rename("\n", b);
            }
            Step::Link(from, to) => {
                self.inode(from).names.insert((*to).to_owned());
            }
            Step::Unlink(path) | Step::Rmdir(path) => {
                self.drop_name(path);
                return Ack::Nothing;
            }
            Step::Xattr(path, value) => self.inode(path).xattr = Some((*value).to_owned()),
            Step::Purge => {
                for inode in self.inodes.values_mut().filter(|inode| !inode.is_dir && inode.writers == 0) {
                    inode.names.clear();
                }
                return Ack::Removals;
            }
            Step::SyncDir(_) | Step::SyncAll | Step::Checkpoint => return Ack::All,
            Step::Reopen | Step::Shutdown => {
                self.handles.clear();
                for inode in self.inodes.values_mut() {
                    inode.writers = 0;
                    inode.publish();
                }
                return Ack::All;
            }
            Step::Drain | Step::Rest => {}
        }
        Ack::Nothing
    }
}

impl Inode {
    fn publish(&mut self) {
        if self.is_changed {
            self.published = Some(Arc::clone(&self.live));
            self.is_changed = false;
        }
    }
}
