//! The audit log: each removal is written down, sealed, before it is made.
//!
//! Files of bounded length, of which the oldest go. A record is in the system's hands before the journal's record of the
//! removal is, and is synced before that one; so a crash may leave a record of a removal that was not made, but no removal
//! without its record. On a disk without any room removals go on, and are counted.

mod reading;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

pub use reading::{AuditFilter, AuditState, Removed};

use super::inode::State;
use super::origin::{self, Way};
use super::{Volume, records};
use crate::crypto::BlobKey;
use crate::error::{Kind, Result};
use crate::format::audit::{AUDIT_MAGIC, Claim, Entry, Removal, encode};
use crate::format::state::RECORD_ALIGN;
use crate::ids::{Ino, VolumeId};
use crate::store::{Ballast, JournalFile, Latch, Series};
use crate::sync::Mutex;

/// Bytes from which on a file is followed by the next.
const FILE_BYTES: u64 = 4 << 20;
/// Files that are kept.
const FILES: u64 = 16;

/// The file that is written.
struct Current {
    file: Arc<JournalFile>,
    generation: u64,
    /// The number of the next record.
    next: u64,
    /// Which records before it are known to be durable.
    claim: Claim,
}

#[derive(Default)]
struct Writing {
    /// None until something is removed.
    current: Option<Current>,
    /// Removals without a record since the last one.
    missed: u64,
}

/// The audit log of a volume.
pub(super) struct AuditLog {
    store: PathBuf,
    volume: VolumeId,
    key: BlobKey,
    latch: Arc<Latch>,
    ballast: Arc<Ballast>,
    /// A leaf lock but for the file's own, and the ballast.
    writing: Mutex<Writing>,
}

impl AuditLog {
    /// The log of a store. Nothing is read or written before something is removed, or somebody asks.
    pub fn new(store: PathBuf, volume: VolumeId, key: BlobKey, latch: Arc<Latch>, ballast: Arc<Ballast>) -> AuditLog {
        AuditLog { store, volume, key, latch, ballast, writing: Mutex::default() }
    }

    /// Writes a removal down that is about to be made. One that finds no room on the disk is counted instead.
    ///
    /// # Errors
    /// `Poisoned`, `Io`.
    fn note(&self, removal: Removal) -> Result<()> {
        let mut writing = self.writing.lock();
        match self.append(&mut writing, &Entry::Removal(removal)) {
            Err(e) if e.kind() == Kind::NoSpace => {
                writing.missed += 1;
                Ok(())
            }
            other => other,
        }
    }

    fn append(&self, writing: &mut Writing, entry: &Entry) -> Result<()> {
        if writing.current.is_none() {
            writing.current = Some(self.begin()?);
        }
        let missed = writing.missed;
        let Some(current) = &mut writing.current else { return Ok(()) };
        if current.file.end() >= FILE_BYTES {
            // What was written in it is waited for by nobody else any more.
            current.file.sync()?;
            let claim = Claim { last: current.next - 1, ..current.claim };
            *current = self.turn(current.generation, current.next, claim)?;
        }
        if missed > 0 {
            self.write(current, &Entry::Missed(missed))?;
            writing.missed = 0;
        }
        self.write(current, entry)
    }

    fn write(&self, current: &mut Current, entry: &Entry) -> Result<()> {
        let content = encode(current.next, current.claim, entry);
        let seal = |position| {
            let place = records::Place { magic: &AUDIT_MAGIC, volume: self.volume, generation: current.generation };
            records::seal(&self.key, &place, position, &content)
        };
        self.ballast.with_room(|| current.file.append(seal))?;
        current.next += 1;
        Ok(())
    }

    /// Goes on with the newest file, or begins the first.
    fn begin(&self) -> Result<Current> {
        let generations = JournalFile::generations(Series::Audit, &self.store)?;
        let Some(generation) = generations.last().copied() else {
            return self.turn(0, 1, Claim { first: 1, last: 0 });
        };
        // Numbers go on behind the last that is known; the newest file may have been begun and nothing written in it.
        let (mut newest, mut is_begun) = (None, false);
        for known in generations.iter().rev() {
            let loaded = self.load(*known, None)?;
            newest = loaded.last_run();
            is_begun |= *known == generation && (loaded.has_head || newest.is_some());
            if newest.is_some() {
                break;
            }
        }
        let (first, next) = newest.unwrap_or((1, 1));
        let claim = Claim { first, last: 0 };
        if !is_begun {
            // A crash has cut its beginning short.
            return self.turn(generation - 1, next, claim);
        }
        let end = JournalFile::reopen(Series::Audit, &self.store, generation, Arc::clone(&self.latch))?.end();
        // Behind what a crash has torn, where a reader looks for the next record.
        let end = end.next_multiple_of(RECORD_ALIGN);
        let file = JournalFile::resume(Series::Audit, &self.store, generation, end, Arc::clone(&self.latch))?;
        Ok(Current { file: Arc::new(file), generation, next, claim })
    }

    /// Begins the file behind `generation`, and removes those that are too old.
    fn turn(&self, generation: u64, next: u64, claim: Claim) -> Result<Current> {
        let generation = generation + 1;
        let begin =
            || JournalFile::create(Series::Audit, &self.store, generation, &AUDIT_MAGIC, Arc::clone(&self.latch));
        let file = Arc::new(self.ballast.with_room(begin)?);
        for old in JournalFile::generations(Series::Audit, &self.store)? {
            if old + FILES <= generation {
                JournalFile::remove(Series::Audit, &self.store, old)?;
            }
        }
        Ok(Current { file, generation, next, claim })
    }

    /// Makes all records durable; costs nothing when they are.
    ///
    /// # Errors
    /// `Poisoned`; `Io`, which poisons.
    pub fn sync(&self) -> Result<()> {
        let written = self.writing.lock().current.as_ref().map(|c| (Arc::clone(&c.file), c.next - 1));
        let Some((file, last)) = written else { return Ok(()) };
        file.sync()?;
        if let Some(current) = &mut self.writing.lock().current {
            current.claim.last = current.claim.last.max(last);
        }
        Ok(())
    }
}

impl Volume {
    /// Writes down that an inode is about to be removed, whose state is locked.
    ///
    /// # Errors
    /// `Poisoned`, `Io`: it must not be removed then.
    pub(super) fn note_removal(&self, state: &State, successor: Option<Ino>) -> Result<()> {
        let (record, origin) = (&state.record, origin::current());
        let attrs = &record.attrs;
        let link = attrs.links.first();
        let is_medium = record.is_medium();
        let id = is_medium.then(|| self.named_id(&attrs.links)).flatten();
        let (uid, pid, name) = origin.actor.map_or((None, None, String::new()), |a| (a.uid, a.pid, a.name));
        // An erasure leaves no name behind.
        let path = link.filter(|_| origin.way != Way::Erase).map(|link| {
            let mut path = self.path_of(link.parent).unwrap_or_default();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&link.name);
            path
        });
        self.audit.note(Removal {
            at: self.clock.now(),
            way: origin.way.code(),
            kind: attrs.kind,
            ino: attrs.ino,
            id: id.map(|id| *id.0.as_bytes()),
            size: record.len,
            names: u32::try_from(attrs.links.len()).unwrap_or(u32::MAX),
            digest: attrs.digest.filter(|_| is_medium && !state.content_changed),
            successor,
            uid,
            pid,
            name: name.into_bytes(),
            path: path.unwrap_or_default(),
        })
    }
}
