//! Open files and directories by the number that the kernel was given for each.

use std::collections::HashMap;
use std::sync::Arc;

use fuser::FileHandle;
use serde::{Deserialize, Serialize};

use crate::ids::Ino;
use crate::sync::RwLock;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::volume::{OpenFile, OpenMode, Volume};

use super::expired::ExpiredListing;
use super::note::Note;
use super::passing::Passage;

/// What a handle number stands for.
pub(super) enum Handle {
    /// A regular file.
    File(FileGuard),
    /// A directory of the volume.
    Directory(Ino),
    /// The directory of expired media.
    Expired(ExpiredListing),
}

/// An open file that is closed, and so published, when the last user lets go of it.
///
/// Requests drop their reference before they reply, so the kernel cannot have sent the release before that, and it is
/// the release that closes; at the end of a session the table of handles does.
pub(super) struct FileGuard {
    volume: Arc<Volume>,
    file: Option<OpenFile>,
    passage: Option<Passage>,
}

impl FileGuard {
    pub(super) fn new(volume: Arc<Volume>, file: OpenFile) -> FileGuard {
        FileGuard { volume, file: Some(file), passage: None }
    }

    /// How the kernel has it, where that is counted: until it is closed.
    pub(super) fn goes_by(&mut self, passage: Option<Passage>) {
        if passage.is_some() {
            self.passage = passage;
        }
    }

    pub(super) fn file(&self) -> Option<&OpenFile> {
        self.file.as_ref()
    }
}

impl Drop for FileGuard {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            if let Some(passage) = self.passage.take() {
                passage.end(&self.volume, &file);
            }
            self.volume.close_soon(file);
        }
    }
}

/// The place of a process in the line of those that have served one mount, from 1 to 65,535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Epoch(u16);

impl Epoch {
    /// That of the process which has mounted.
    pub(super) const FIRST: Epoch = Epoch(1);

    /// That of the next process; none after the last.
    pub(super) fn next(self) -> Option<Epoch> {
        self.0.checked_add(1).map(Epoch)
    }

    /// As a number of a record.
    pub(super) fn record(self) -> u64 {
        u64::from(self.0)
    }

    /// The epoch of a record; what is no epoch counts as the latest.
    pub(super) fn of_record(number: u64) -> Epoch {
        u16::try_from(number).map_or(Epoch(u16::MAX), Epoch)
    }
}

/// What the number of a handle tells, so that a later process can serve it: in which epoch it was given out, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// When it was given out.
    pub epoch: Epoch,
    /// What it is.
    pub kind: ToldKind,
}

/// What a handle is, as its number tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToldKind {
    /// A regular file.
    File {
        /// It can be read by it.
        read: bool,
        /// It can be written by it.
        write: bool,
        /// Each write goes to the end.
        append: bool,
    },
    /// A directory of the volume.
    Directory,
    /// That of expired media.
    Expired,
}

const EPOCH_SHIFT: u32 = 48;
const KIND_SHIFT: u32 = 44;
const COUNT: u64 = (1 << KIND_SHIFT) - 1;
const DIRECTORY: u64 = 0;
const EXPIRED: u64 = 1;
const FILE: u64 = 8;
const READ: u64 = 1;
const WRITE: u64 = 2;
const APPEND: u64 = 4;

impl Told {
    fn by(number: u64) -> Told {
        let kind = number >> KIND_SHIFT & 0xf;
        let kind = match kind {
            EXPIRED => ToldKind::Expired,
            FILE.. => ToldKind::File { read: kind & READ != 0, write: kind & WRITE != 0, append: kind & APPEND != 0 },
            _ => ToldKind::Directory,
        };
        Told { epoch: Epoch::of_record(number >> EPOCH_SHIFT), kind }
    }
}

fn kind_of(handle: &Handle) -> u64 {
    let bit = |is_set, bit| if is_set { bit } else { 0 };
    match handle {
        Handle::File(guard) => {
            let mode = guard.file().map_or_else(OpenMode::default, OpenFile::mode);
            FILE | bit(mode.read, READ) | bit(mode.write, WRITE) | bit(mode.append, APPEND)
        }
        Handle::Directory(_) => DIRECTORY,
        Handle::Expired(_) => EXPIRED,
    }
}

/// The inode, where a handle is one that can write.
fn writer(handle: &Handle) -> Option<Ino> {
    let Handle::File(guard) = handle else { return None };
    guard.file().filter(|file| file.mode().write).map(OpenFile::ino)
}

const SHARDS: usize = 16;

/// All handles of a session. Numbers are never used twice. Its locks are held for a look-up only.
pub(super) struct Handles {
    epoch: Epoch,
    note: Option<Arc<Note>>,
    next: AtomicU64,
    shards: [RwLock<HashMap<u64, Arc<Handle>>>; SHARDS],
}

impl Handles {
    /// The table of a process; where its mount is to outlive it, handles that can write are noted.
    pub(super) fn new(note: Option<Arc<Note>>) -> Handles {
        let epoch = note.as_ref().map_or(Epoch::FIRST, |note| note.epoch());
        Handles { epoch, note, next: AtomicU64::new(1), shards: Default::default() }
    }

    pub(super) fn insert(&self, handle: Handle) -> FileHandle {
        let count = self.next.fetch_add(1, Ordering::Relaxed) & COUNT;
        let number = self.epoch.record() << EPOCH_SHIFT | kind_of(&handle) << KIND_SHIFT | count;
        if let (Some(note), Some(ino)) = (&self.note, writer(&handle)) {
            note.opened(number, ino);
        }
        if let Some(shard) = self.shard(number) {
            shard.write().insert(number, Arc::new(handle));
        }
        FileHandle(number)
    }

    pub(super) fn get(&self, number: FileHandle) -> Option<Arc<Handle>> {
        self.shard(number.0)?.read().get(&number.0).cloned()
    }

    /// What an earlier process has said by a number; none when this one has given it out, or nobody.
    pub(super) fn inherited(&self, number: FileHandle) -> Option<Told> {
        Some(Told::by(number.0)).filter(|told| told.epoch >= Epoch::FIRST && told.epoch < self.epoch)
    }

    /// Puts a handle in that an earlier process has given out, unless another thread was faster; gives the one that is in.
    pub(super) fn adopt(&self, number: FileHandle, handle: Handle) -> Option<Arc<Handle>> {
        let handle = Arc::new(handle);
        let mut shard = self.shard(number.0)?.write();
        Some(Arc::clone(shard.entry(number.0).or_insert_with(|| Arc::clone(&handle))))
    }

    /// Takes a handle out of the table; the file closes when the caller drops it.
    pub(super) fn remove(&self, number: FileHandle) -> Option<Arc<Handle>> {
        let removed = self.shard(number.0)?.write().remove(&number.0);
        if let Some(note) = &self.note
            && matches!(Told::by(number.0).kind, ToldKind::File { write: true, .. })
        {
            note.closed(number.0);
        }
        removed
    }

    fn shard(&self, number: u64) -> Option<&RwLock<HashMap<u64, Arc<Handle>>>> {
        self.shards.get(usize::try_from(number % SHARDS as u64).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_number_means_nothing_any_more() {
        let handles = Handles::new(None);
        let numbers: Vec<_> = (0..40).map(|ino| handles.insert(Handle::Directory(Ino(ino)))).collect();
        for (ino, number) in numbers.iter().enumerate() {
            assert!(matches!(&*handles.get(*number).unwrap(), Handle::Directory(found) if found.0 == ino as u64));
            assert!(handles.remove(*number).is_some());
            assert!(handles.get(*number).is_none());
            assert!(handles.remove(*number).is_none());
            assert!(handles.inherited(*number).is_none(), "it is of this process");
        }
        assert!(handles.get(FileHandle(0)).is_none() && handles.inherited(FileHandle(0)).is_none());
    }

    #[test]
    fn a_number_tells_a_later_process_what_it_is() {
        let note = Arc::new(Note::begin(crate::ids::VolumeId([1; 16])).unwrap());
        let first = Handles::new(Some(Arc::clone(&note)));
        let directory = first.insert(Handle::Directory(Ino(3)));
        let expired = first.insert(Handle::Expired(ExpiredListing::default()));
        let (next, _) = Note::read(note.as_fd().try_clone_to_owned().unwrap(), crate::ids::VolumeId([1; 16])).unwrap();
        let second = Handles::new(Some(Arc::new(next)));
        assert_eq!(second.inherited(directory).unwrap().kind, ToldKind::Directory);
        assert_eq!(second.inherited(expired).unwrap().kind, ToldKind::Expired);
        assert_ne!(second.insert(Handle::Directory(Ino(3))), directory);
        let all = FILE | READ | WRITE | APPEND;
        for bits in FILE..=all {
            let ToldKind::File { read, write, append } = Told::by(1 << EPOCH_SHIFT | bits << KIND_SHIFT | 9).kind
            else {
                panic!("no file")
            };
            assert_eq!((read, write, append), (bits & READ != 0, bits & WRITE != 0, bits & APPEND != 0));
        }
    }
}
