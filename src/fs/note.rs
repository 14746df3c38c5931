//! The note: what a process leaves to the next one beside the connection to the kernel, in memory that outlives it.
//!
//! A file without a name: a head, then records of equal length. Each record is written with one system call, before what it
//! tells of is acknowledged; so the end of the process at any moment leaves every record whole. It tells what the kernel was
//! promised and which numbers programs have of what they have open, and no content, name or key.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::ids::{Ino, VolumeId};
use crate::sync::Mutex;
use crate::volume::Witness;

use super::handles::Epoch;
use super::mountinfo::Device;

/// The only layout there is.
const LAYOUT: u32 = 1;
/// Bytes of the head: JSON, then zeros.
const HEAD: u64 = 4096;
/// Where the head has a mark instead: some record could not be written, so nothing is certain.
const DOUBT: u64 = HEAD - 8;
/// Bytes of a record: what it is, and two numbers.
const RECORD: usize = 24;
/// Most bytes of a note that is read: some millions of records.
const MOST: u64 = 256 << 20;

const FREE: u64 = 0;
const UNSETTLED: u64 = 1;
const LOST: u64 = 2;
const WRITER: u64 = 3;

/// With the epoch of a loss: nobody was told of it yet.
const UNTOLD: u64 = 1 << 63;

/// What was agreed upon with the kernel when the mount began, and holds as long as it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Agreed {
    /// Minor version of the protocol.
    pub minor: u32,
    /// Those of our capabilities that the kernel has.
    pub flags: u64,
    /// Most bytes of one request.
    pub max_write: u32,
    /// The number of the mount: major, minor.
    pub device: (u32, u32),
    /// The options of the mount that the kernel knows.
    pub words: String,
    /// Where it is, without symbolic links.
    pub place: PathBuf,
    /// Where it was asked to be.
    pub asked: PathBuf,
    /// Whether somebody else has made it, who takes it away again.
    pub is_given: bool,
}

impl Agreed {
    pub(super) fn device(&self) -> Device {
        Device { major: self.device.0, minor: self.device.1 }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Head {
    layout: u32,
    epoch: Epoch,
    volume: String,
    agreed: Option<Agreed>,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Unsettled(Ino),
    Lost(Ino),
    Writer(u64),
}

/// What was acknowledged of an inode was lost.
#[derive(Clone, Copy, Debug)]
struct Loss {
    /// Handles up to this epoch get nothing but errors.
    up_to: Epoch,
    /// Whether a program was told.
    is_told: bool,
}

impl Loss {
    fn record(self, ino: Ino) -> [u64; 3] {
        [LOST, ino.0, self.up_to.record() | if self.is_told { 0 } else { UNTOLD }]
    }
}

#[derive(Debug, Default)]
struct Records {
    places: HashMap<Key, u64>,
    lost: HashMap<Ino, Loss>,
    free: Vec<u64>,
    next: u64,
}

/// What the process before has left.
#[derive(Debug, Default)]
pub(super) struct Former {
    /// Handles that can write: number and inode.
    pub writers: Vec<(u64, Ino)>,
    /// Whether it is not known what was lost, so that everything may be.
    pub is_in_doubt: bool,
}

/// The note of a mount that is to outlive this process. Cheap to write; a failure to write it is itself noted.
#[derive(Debug)]
pub struct Note {
    file: File,
    head: Mutex<Head>,
    records: Mutex<Records>,
}

impl Note {
    /// A new note for a mount of this volume.
    ///
    /// # Errors
    /// [`Kind::Io`] when the kernel has no memory for it.
    pub fn begin(volume: VolumeId) -> Result<Note> {
        let memory = rustix::fs::memfd_create("wamedia-note", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|e| Error::io("making a note in memory", e.into()))?;
        let head = Head { layout: LAYOUT, epoch: Epoch::FIRST, volume: volume.to_string(), agreed: None };
        let note = Note { file: File::from(memory), head: Mutex::new(head), records: Mutex::default() };
        note.file.set_len(HEAD).map_err(failed)?;
        // So that the mark can always be made.
        note.file.write_all_at(&0u64.to_le_bytes(), DOUBT).map_err(failed)?;
        note.write_head()?;
        Ok(note)
    }

    /// The file, for whoever keeps it for the next process.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Reads the note of a process that has ended and begins the next epoch. What that process had acknowledged and not
    /// settled is lost to the handles it has given out.
    ///
    /// # Errors
    /// [`Kind::Invalid`], with the reason, when it is not the note of a mount of this volume that can be taken over.
    pub(super) fn read(memory: OwnedFd, volume: VolumeId) -> Result<(Note, Former)> {
        let file = File::from(memory);
        let length = file.metadata().map_err(failed)?.len();
        if !(HEAD..=MOST).contains(&length) {
            return Err(unusable("it has an impossible length"));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        let (head, records) = bytes.split_at_checked(HEAD as usize).unwrap_or_default();
        let (text, doubt) = head.split_at_checked(DOUBT as usize).unwrap_or_default();
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let mut head: Head = serde_json::from_slice(text).map_err(|_| unusable("it is of another version"))?;
        if head.layout != LAYOUT {
            return Err(unusable("it is of another version"));
        }
        if head.volume != volume.to_string() {
            return Err(unusable("it is that of another volume"));
        }
        let before = head.epoch;
        head.epoch = before.next().ok_or_else(|| unusable("the mount has been taken over too often"))?;
        let note = Note { file, head: Mutex::new(head), records: Mutex::default() };
        note.write_head()?;
        let mut former = Former { is_in_doubt: doubt.iter().any(|byte| *byte != 0), ..Former::default() };
        note.take_records(records, before, &mut former);
        Ok((note, former))
    }

    /// Takes the records over. Where an inode was unsettled it is lost from here on; a crash on the way leaves the rest for
    /// the next process.
    fn take_records(&self, bytes: &[u8], before: Epoch, former: &mut Former) {
        let mut known = Records::default();
        let (mut unsettled, mut writers) = (Vec::new(), Vec::new());
        for (place, record) in (0..).zip(bytes.chunks_exact(RECORD)) {
            known.next = place + 1;
            let [what, a, b] = decode(record);
            match what {
                UNSETTLED => unsettled.push((place, Ino(a))),
                LOST => {
                    let loss = Loss { up_to: Epoch::of_record(b & !UNTOLD), is_told: b & UNTOLD == 0 };
                    known.lost.insert(Ino(a), loss);
                    known.places.insert(Key::Lost(Ino(a)), place);
                }
                WRITER => writers.push((place, a, Ino(b))),
                _ => known.free.push(place),
            }
        }
        *self.records.lock() = known;
        for (place, ino) in unsettled {
            self.lose(ino, before);
            self.records.lock().free.push(place);
            self.write(place, [FREE, 0, 0]);
        }
        for (place, number, ino) in writers {
            let mut records = self.records.lock();
            if records.lost.contains_key(&ino) || former.is_in_doubt {
                records.free.push(place);
                drop(records);
                self.write(place, [FREE, 0, 0]);
            } else {
                records.places.insert(Key::Writer(number), place);
                former.writers.push((number, ino));
            }
        }
    }

    /// The number of this process in the line of those that served the mount.
    pub(super) fn epoch(&self) -> Epoch {
        self.head.lock().epoch
    }

    /// What was agreed upon with the kernel; none before that.
    pub(super) fn agreed(&self) -> Option<Agreed> {
        self.head.lock().agreed.clone()
    }

    /// Notes what was agreed upon with the kernel.
    pub(super) fn agree(&self, agreed: Agreed) -> Result<()> {
        self.head.lock().agreed = Some(agreed);
        self.write_head()
    }

    /// A handle was given out that can write.
    pub(super) fn opened(&self, number: u64, ino: Ino) {
        self.put(Key::Writer(number), [WRITER, number, ino.0]);
    }

    /// It was closed.
    pub(super) fn closed(&self, number: u64) {
        self.take(Key::Writer(number));
    }

    /// Handles of an inode up to that epoch get nothing but errors.
    pub(super) fn lose(&self, ino: Ino, up_to: Epoch) {
        let loss = Loss { up_to, is_told: false };
        self.records.lock().lost.insert(ino, loss);
        self.put(Key::Lost(ino), loss.record(ino));
    }

    /// A program is told that something of an inode was lost; whether none was before. False when nothing was.
    pub(super) fn tell(&self, ino: Ino) -> bool {
        let told = {
            let mut records = self.records.lock();
            let Some(loss) = records.lost.get_mut(&ino).filter(|loss| !loss.is_told) else { return false };
            loss.is_told = true;
            *loss
        };
        self.put(Key::Lost(ino), told.record(ino));
        true
    }

    /// Whether a handle of that epoch is lost.
    pub(super) fn is_lost(&self, ino: Ino, epoch: Epoch) -> bool {
        self.records.lock().lost.get(&ino).is_some_and(|loss| epoch <= loss.up_to)
    }

    /// The inodes of which handles are lost.
    pub(super) fn lost(&self) -> Vec<Ino> {
        self.records.lock().lost.keys().copied().collect()
    }

    /// The kernel has forgotten an inode, so nobody has a handle of it.
    pub(super) fn forgotten(&self, ino: Ino) {
        if self.records.lock().lost.remove(&ino).is_some() {
            self.take(Key::Lost(ino));
        }
    }

    fn put(&self, key: Key, record: [u64; 3]) {
        let mut records = self.records.lock();
        let place = match records.places.get(&key) {
            Some(_) if matches!(key, Key::Unsettled(_)) => return,
            Some(place) => *place,
            None => {
                let place = records.free.pop().unwrap_or(records.next);
                records.next = records.next.max(place + 1);
                records.places.insert(key, place);
                place
            }
        };
        // Within the lock, so that the records of one key are written in order.
        self.write(place, record);
    }

    fn take(&self, key: Key) {
        let mut records = self.records.lock();
        if let Some(place) = records.places.remove(&key) {
            self.write(place, [FREE, 0, 0]);
            records.free.push(place);
        }
    }

    fn write(&self, place: u64, record: [u64; 3]) {
        let mut bytes = [0; RECORD];
        for (to, number) in bytes.chunks_exact_mut(8).zip(record) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        if let Err(error) = self.file.write_all_at(&bytes, HEAD + place * RECORD as u64) {
            self.doubt(&error);
        }
    }

    fn doubt(&self, error: &io::Error) {
        tracing::error!(%error, "what is open is not noted any more: nothing of it would outlive this process");
        if let Err(error) = self.file.write_all_at(&u64::MAX.to_le_bytes(), DOUBT) {
            tracing::error!(%error, "nor is that");
        }
    }

    fn write_head(&self) -> Result<()> {
        let mut text = serde_json::to_vec(&*self.head.lock()).map_err(|e| failed(e.into()))?;
        if text.len() as u64 >= DOUBT {
            return Err(Error::new(Kind::TooLarge, "the options of the mount are too long to be noted"));
        }
        text.resize(DOUBT as usize, 0);
        self.file.write_all_at(&text, 0).map_err(failed)
    }
}

impl Witness for Note {
    fn unsettled(&self, ino: Ino) {
        self.put(Key::Unsettled(ino), [UNSETTLED, ino.0, 0]);
    }

    fn settled(&self, ino: Ino) {
        self.take(Key::Unsettled(ino));
    }
}

fn decode(record: &[u8]) -> [u64; 3] {
    let mut numbers = [0; 3];
    for (number, bytes) in numbers.iter_mut().zip(record.chunks_exact(8)) {
        *number = bytes.try_into().map_or(0, u64::from_le_bytes);
    }
    numbers
}

fn unusable(why: &str) -> Error {
    Error::new(Kind::Invalid, format!("the note beside the mount cannot be used: {why}"))
}

fn failed(error: io::Error) -> Error {
    Error::io("the note beside the mount", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUME: VolumeId = VolumeId([7; 16]);

    fn copy(note: &Note) -> OwnedFd {
        note.as_fd().try_clone_to_owned().unwrap()
    }

    #[test]
    fn what_was_not_settled_is_lost_to_the_handles_there_were() {
        let first = Note::begin(VOLUME).unwrap();
        for ino in [5, 6, 7] {
            first.unsettled(Ino(ino));
            first.opened(100 + ino, Ino(ino));
        }
        first.unsettled(Ino(5));
        first.settled(Ino(5));
        first.closed(107);
        let (second, former) = Note::read(copy(&first), VOLUME).unwrap();
        assert_eq!(former.writers, [(105, Ino(5))]);
        assert!(!former.is_in_doubt);
        assert!(second.is_lost(Ino(6), first.epoch()) && second.is_lost(Ino(7), first.epoch()));
        assert!(!second.is_lost(Ino(5), first.epoch()));
        assert!(!second.is_lost(Ino(6), second.epoch()), "opened anew it is whole");
    }

    #[test]
    fn the_lost_stay_lost_through_further_processes_until_they_are_forgotten() {
        let first = Note::begin(VOLUME).unwrap();
        first.unsettled(Ino(6));
        let (second, _) = Note::read(copy(&first), VOLUME).unwrap();
        second.opened(300, Ino(9));
        let (third, former) = Note::read(copy(&second), VOLUME).unwrap();
        assert!(third.is_lost(Ino(6), first.epoch()) && !third.is_lost(Ino(6), second.epoch()));
        assert_eq!(former.writers, [(300, Ino(9))]);
        assert!(third.tell(Ino(6)) && !third.tell(Ino(6)) && !third.tell(Ino(9)));
        let (again, _) = Note::read(copy(&third), VOLUME).unwrap();
        assert!(again.is_lost(Ino(6), first.epoch()) && !again.tell(Ino(6)), "it was told by another process");
        third.forgotten(Ino(6));
        let (fourth, _) = Note::read(copy(&third), VOLUME).unwrap();
        assert!(fourth.lost().is_empty());
    }

    #[test]
    fn places_are_used_again() {
        let note = Note::begin(VOLUME).unwrap();
        for round in 0..1000 {
            note.unsettled(Ino(round));
            note.settled(Ino(round));
        }
        assert_eq!(note.file.metadata().unwrap().len(), HEAD + RECORD as u64);
    }

    #[test]
    fn notes_of_others_are_refused() {
        let note = Note::begin(VOLUME).unwrap();
        assert!(Note::read(copy(&note), VolumeId([8; 16])).unwrap_err().to_string().contains("another volume"));
        note.file.write_all_at(b"{}", 0).unwrap();
        assert_eq!(Note::read(copy(&note), VOLUME).unwrap_err().kind(), Kind::Invalid);
        note.file.set_len(3).unwrap();
        assert_eq!(Note::read(copy(&note), VOLUME).unwrap_err().kind(), Kind::Invalid);
    }

    #[test]
    fn a_record_that_could_not_be_written_puts_all_in_doubt() {
        let note = Note::begin(VOLUME).unwrap();
        note.opened(1, Ino(2));
        note.doubt(&io::Error::other("full"));
        let (_, former) = Note::read(copy(&note), VOLUME).unwrap();
        assert!(former.is_in_doubt && former.writers.is_empty());
    }
}
