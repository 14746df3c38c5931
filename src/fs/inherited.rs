//! What a process has from the one that served the mount before it, and keeps for the next.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ids::Ino;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::volume::{OpenMode, Volume};

use super::handles::{Epoch, FileGuard};
use super::note::Note;

/// Nothing, where the mount ends with its process.
#[derive(Default)]
pub(super) struct Inherited {
    note: Option<Arc<Note>>,
    is_taken_over: bool,
    /// Whether nothing that was open can be trusted.
    is_in_doubt: bool,
    /// Inodes without a name, kept until the kernel has forgotten them.
    nameless: Mutex<HashMap<Ino, FileGuard>>,
    /// Whether there is anything that a forgotten inode could be looked up in.
    has_more: AtomicBool,
}

impl Inherited {
    /// For the process that has mounted; with a note when another one may follow.
    pub(super) fn first(note: Option<Arc<Note>>) -> Inherited {
        Inherited { note, ..Inherited::default() }
    }

    /// For a process that takes over.
    pub(super) fn taken_over(note: Arc<Note>, is_in_doubt: bool, volume: &Arc<Volume>) -> Inherited {
        let mut nameless = HashMap::new();
        for ino in volume.nameless() {
            // Only files have something that is worth keeping; the volume keeps the rest for a while by itself.
            if let Ok(file) = volume.open_file(ino, OpenMode { read: true, ..OpenMode::default() }) {
                nameless.insert(ino, FileGuard::new(Arc::clone(volume), file));
            }
        }
        let nameless = Mutex::new(nameless);
        Inherited { note: Some(note), is_taken_over: true, is_in_doubt, nameless, has_more: AtomicBool::new(true) }
    }

    pub(super) fn note(&self) -> Option<Arc<Note>> {
        self.note.clone()
    }

    pub(super) fn is_taken_over(&self) -> bool {
        self.is_taken_over
    }

    /// The inodes without a name that are kept.
    pub(super) fn nameless(&self) -> Vec<Ino> {
        self.nameless.lock().keys().copied().collect()
    }

    /// Whether a handle that an earlier process has given out is of no use, since something acknowledged was lost.
    pub(super) fn is_lost(&self, ino: Ino, epoch: Epoch) -> bool {
        let is_lost = |note: &Arc<Note>| note.is_lost(ino, epoch).then(|| note.tell(ino)).is_some();
        self.is_in_doubt || self.note.as_ref().is_some_and(is_lost)
    }

    /// Whether the kernel may remember something of an inode that was lost.
    pub(super) fn was_lost(&self, ino: Ino) -> bool {
        self.has_more.load(Ordering::Relaxed) && self.note.as_ref().is_some_and(|note| note.is_lost(ino, Epoch::FIRST))
    }

    /// A program is about to be told whether all of an inode is safe: false when it has to be told of a loss first, once. Whose
    /// handle is older than the loss is told each time.
    pub(super) fn is_safe(&self, ino: Ino) -> bool {
        !self.has_more.load(Ordering::Relaxed) || self.note.as_ref().is_none_or(|note| !note.tell(ino))
    }

    /// The kernel knows an inode no more.
    pub(super) fn forgotten(&self, ino: Ino) {
        if !self.has_more.load(Ordering::Relaxed) {
            return;
        }
        if let Some(note) = &self.note {
            note.forgotten(ino);
        }
        let guard = self.nameless.lock().remove(&ino);
        drop(guard);
    }
}
