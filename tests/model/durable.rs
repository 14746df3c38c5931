//! What the end of the process alone leaves of the model's tree.
//!
//! What `docs/SEMANTICS.md` says, as rules of the model:
//! - "A file that was created and neither closed nor synced is gone after a crash"; what it was to replace is there.
//! - "After a crash a file holds a content that some `fsync` or `close` left there": for a file that is open for writing,
//!   the content of the last one.
//! - "everything that was written is in the files": names as they were acknowledged; attributes of a file that is open for
//!   writing are those of some moment since its last `fsync` or `close`, of all others the acknowledged ones.
//! - "Removal is in the journal before it is acknowledged, so it survives the end of the daemon in any way".

use crate::content::Content;
use crate::tree::{Attrs, Id, Model, Node};

/// What of an inode may be found after a crash.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Contents; with none, the inode was never committed and is gone.
    pub contents: Vec<Content>,
    /// Attributes, oldest first.
    pub attrs: Vec<Attrs>,
    /// Where among them those are that were changed by themselves last. Later ones came with a content, and go with it.
    pub asked: usize,
}

/// An inode that lost its last name to another one, which is not in the store yet: a crash brings it back.
#[derive(Clone, Debug)]
pub struct Victim {
    pub id: Id,
    /// As it was when it had the name.
    pub node: Node,
    /// The inode that has the name now.
    pub by: Id,
}

impl Model {
    /// Everything of an inode is in the store now.
    pub fn commit(&mut self, id: Id) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.names.is_empty()) else { return };
        node.kept = Kept { contents: vec![node.content.clone()], attrs: vec![node.attrs.clone()], asked: 0 };
        self.victims.retain(|victim| victim.by != id);
    }

    /// All but a content that is being written is in the store now, unless nothing of the inode is there.
    pub fn commit_names(&mut self, id: Id) {
        let kept = &mut self.node_mut(id).kept;
        kept.attrs.drain(..kept.asked);
        kept.asked = 0;
    }

    /// The same for all.
    pub fn sync_all(&mut self) {
        let all: Vec<Id> = self.nodes.keys().copied().collect();
        all.into_iter().for_each(|id| self.commit_names(id));
    }

    /// A name was given or taken.
    pub fn names_changed(&mut self, id: Id) {
        self.changed(id);
        self.commit_names(id);
    }

    /// Attributes changed.
    pub fn changed(&mut self, id: Id) {
        if self.get(id).writers == 0 {
            return self.commit(id);
        }
        let node = self.node_mut(id);
        if !node.kept.contents.is_empty() {
            node.kept.attrs.push(node.attrs.clone());
            node.kept.asked = node.kept.attrs.len() - 1;
        }
    }

    /// A content changed, and with it times and mode.
    pub fn written(&mut self, id: Id) {
        let asked = self.get(id).kept.asked;
        self.changed(id);
        if self.get(id).writers > 0 {
            self.node_mut(id).kept.asked = asked;
        }
    }

    /// `other`, which was `before`, has lost its last name to `by`.
    pub fn superseded(&mut self, other: Id, before: Node, by: Id) {
        if !self.get(by).kept.contents.is_empty() {
            self.victims.retain(|victim| victim.by != other);
            return;
        }
        for victim in self.victims.iter_mut().filter(|victim| victim.by == other) {
            victim.by = by;
        }
        if !before.kept.contents.is_empty() {
            // Those it had taken over are gone for good since it was committed.
            self.victims.push(Victim { id: other, node: before, by });
        }
    }

    /// An inode is about to leave a name for another: when it has taken that from somebody, it is made durable before.
    pub fn leaves(&mut self, id: Id) {
        if self.victims.iter().any(|victim| victim.by == id) {
            self.commit(id);
        }
    }

    /// What is there after a crash, as far as it is certain.
    pub fn crash(&mut self) {
        let lost: Vec<Id> =
            self.nodes.iter().filter(|(_, n)| n.is_medium() && n.kept.contents.is_empty()).map(|(id, _)| *id).collect();
        let back: Vec<Victim> = std::mem::take(&mut self.victims);
        for id in &lost {
            for (parent, name) in self.get(*id).names.clone() {
                self.node_mut(parent).children.remove(&name);
            }
            self.nodes.remove(id);
        }
        self.nodes.retain(|id, node| node.is_named(*id));
        for Victim { id, mut node, by } in back {
            if !lost.contains(&by) {
                continue;
            }
            (node.opens, node.writers) = (0, 0);
            for (parent, name) in &node.names {
                self.node_mut(*parent).children.insert(name.clone(), id);
            }
            self.nodes.insert(id, node);
        }
        for node in self.nodes.values_mut() {
            (node.opens, node.writers) = (0, 0);
            node.times_unknown = node.is_dir();
        }
    }
}
