//! Blobs that are nobody's truth any more and wait to be removed.

use crate::ids::{BlobId, Ino};

/// A blob that is no longer the truth about anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retired {
    /// The journal has it; its file can go.
    Noted(BlobId),
    /// An inode whose last name another inode took: it goes, with a note in the journal, once that one is durable.
    Superseded {
        /// The inode that goes.
        ino: Ino,
        /// Its blob.
        blob: Option<BlobId>,
        /// The inode that has the name now.
        by: Ino,
    },
    /// An inode the journal says is removed; its blob goes when nobody uses it any more.
    Settled {
        /// The inode.
        ino: Ino,
        /// Its blob.
        blob: Option<BlobId>,
    },
    /// A removed directory, which the journal has: its blob goes once what was moved out of it is durable.
    Directory {
        /// The inode.
        ino: Ino,
        /// Its blob.
        blob: BlobId,
    },
    /// An earlier blob of an inode that has a newer one: it goes once that one is durable.
    Replaced(BlobId),
}

impl Retired {
    /// Whether it is about an inode that a later change may ask for.
    fn is_of_inode(&self) -> bool {
        matches!(self, Retired::Superseded { .. } | Retired::Settled { .. })
    }
}

/// What waits, in the order it came. A removal asks for the few that are of inodes; the others may be many.
#[derive(Clone, Default)]
pub(super) struct RetiredList {
    entries: Vec<Retired>,
    of_inodes: usize,
}

impl RetiredList {
    /// All of it.
    pub fn entries(&self) -> &[Retired] {
        &self.entries
    }

    /// Those that an inode's last name was taken from: superseded or settled.
    pub fn of_inodes(&self) -> impl Iterator<Item = &Retired> {
        let entries = if self.of_inodes == 0 { &[][..] } else { &self.entries };
        entries.iter().filter(|entry| entry.is_of_inode())
    }

    /// The same, to make one superseded by another inode, or settled.
    pub fn of_inodes_mut(&mut self) -> impl Iterator<Item = &mut Retired> {
        let entries = if self.of_inodes == 0 { &mut [][..] } else { &mut self.entries };
        entries.iter_mut().filter(|entry| entry.is_of_inode())
    }

    /// Adds one.
    pub fn push(&mut self, entry: Retired) {
        self.of_inodes += usize::from(entry.is_of_inode());
        self.entries.push(entry);
    }

    /// Takes out those for which `keep` says no.
    pub fn retain(&mut self, keep: impl FnMut(&Retired) -> bool) {
        self.entries.retain(keep);
        self.of_inodes = self.entries.iter().filter(|entry| entry.is_of_inode()).count();
    }
}

impl Extend<Retired> for RetiredList {
    fn extend<T: IntoIterator<Item = Retired>>(&mut self, entries: T) {
        entries.into_iter().for_each(|entry| self.push(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_inodes_are_found_among_the_others_as_long_as_they_are_there() {
        let mut list = RetiredList::default();
        list.extend([Retired::Noted(BlobId(1)), Retired::Replaced(BlobId(2))]);
        assert_eq!(list.of_inodes().count(), 0);
        list.push(Retired::Superseded { ino: Ino(7), blob: None, by: Ino(8) });
        for entry in list.of_inodes_mut() {
            *entry = Retired::Settled { ino: Ino(7), blob: None };
        }
        assert_eq!(list.of_inodes().collect::<Vec<_>>(), [&Retired::Settled { ino: Ino(7), blob: None }]);
        list.retain(|entry| *entry != Retired::Noted(BlobId(1)));
        assert_eq!((list.entries().len(), list.of_inodes().count()), (2, 1));
        list.retain(|entry| !entry.is_of_inode());
        assert_eq!((list.entries().len(), list.of_inodes().count()), (1, 0));
    }
}
