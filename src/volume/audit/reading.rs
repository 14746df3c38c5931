//! Reading the audit log, and what to do about damage in it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::origin::{Actor, Way};
use super::super::records::{self, Place};
use super::super::{Volume, hex};
use super::{AUDIT_MAGIC, AuditLog};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::format::audit::{Claim, Entry, Removal, decode};
use crate::format::state::{RECORD_ALIGN, decode_head, record_len};
use crate::ids::{FileKind, MediaId};
use crate::store::{JournalFile, Layout, Series};

/// A removal as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Its place in the log: ascends by one.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// By which way.
    pub way: Way,
    /// Who asked; none when nobody has, or it is not known.
    pub actor: Option<Actor>,
    /// `file`, `directory`, `symlink` or `node`.
    pub what: String,
    /// Its media id, when it was a medium.
    pub id: Option<String>,
    /// Its first path from the root, bytes that are not UTF-8 as U+FFFD; of an erased medium none.
    pub path: Option<String>,
    /// How many names went with it.
    pub names: u32,
    /// Bytes of its content.
    pub size: u64,
    /// SHA-256 of its content, hex, where it was known.
    pub sha256: Option<String>,
    /// Whether a rename gave its name to another.
    pub replaced: bool,
}

/// Which removals are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditFilter {
    /// Only those at this time or after.
    pub since: Option<Timestamp>,
    /// Only those before this time.
    pub until: Option<Timestamp>,
    /// Only those of the medium with this id.
    pub id: Option<String>,
}

/// What became of the log itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditState {
    /// Removals that were told.
    pub told: u64,
    /// Removals without a record, since the disk had no room.
    pub missed: u64,
    /// Records that are not there although those before and behind them are.
    pub lost: u64,
    /// Bytes that are not what was written.
    pub damaged_bytes: u64,
    /// The oldest record there is; what was before is gone by rotation.
    pub oldest: Option<Timestamp>,
}

/// Records that are not there, before one that is.
struct Gap {
    first: u64,
    last: u64,
    /// What lies in their place.
    bytes: u64,
}

/// A file of the log as it was read.
#[derive(Default)]
pub(super) struct Loaded {
    entries: Vec<(u64, Entry)>,
    /// The contents of its whole records.
    contents: Vec<Vec<u8>>,
    /// Whether it begins as such a file does.
    pub(super) has_head: bool,
    /// Bytes that are damaged whatever others say.
    damaged: u64,
    gaps: Vec<Gap>,
    claims: Claims,
}

impl Loaded {
    /// Its whole records, each with its number.
    #[cfg(test)]
    pub(super) fn entries(self) -> impl Iterator<Item = (u64, Entry)> {
        self.entries.into_iter()
    }

    /// The number behind its last record; none when it has none.
    pub(super) fn next_number(&self) -> Option<u64> {
        self.entries.last().map(|(number, _)| number.saturating_add(1))
    }

    /// The first of those records that lie before its end without a gap, and the number behind the last; none when it has none.
    pub(super) fn last_run(&self) -> Option<(u64, u64)> {
        let next = self.next_number()?;
        let mut first = next;
        for (number, _) in self.entries.iter().rev() {
            if number.saturating_add(1) != first {
                break;
            }
            first = *number;
        }
        Some((first, next))
    }
}

/// All that records say of those before them, one for each that begins elsewhere.
#[derive(Default)]
struct Claims(Vec<Claim>);

impl Claims {
    fn add(&mut self, claim: Claim) {
        match self.0.last_mut() {
            Some(before) if before.first == claim.first => before.last = before.last.max(claim.last),
            _ => self.0.push(claim),
        }
    }

    /// Whether one of the records that are missing was durable.
    fn covers(&self, gap: &Gap) -> bool {
        self.0.iter().any(|claim| claim.first.max(gap.first) <= claim.last.min(gap.last))
    }
}

/// How all files of the log are.
#[derive(Default)]
struct Survey {
    claims: Claims,
    /// By file: its generation, what is damaged in any case, what is if it was durable.
    files: Vec<(u64, u64, Vec<Gap>)>,
}

impl Survey {
    fn add(&mut self, generation: u64, loaded: &mut Loaded) {
        std::mem::take(&mut loaded.claims.0).into_iter().for_each(|claim| self.claims.add(claim));
        self.files.push((generation, loaded.damaged, std::mem::take(&mut loaded.gaps)));
    }

    /// Files with damage, and how many bytes of each.
    fn damaged(&self) -> Vec<(u64, u64)> {
        let of_gaps =
            |gaps: &[Gap]| gaps.iter().filter(|gap| self.claims.covers(gap)).map(|gap| gap.bytes).sum::<u64>();
        let files = self.files.iter().map(|(generation, always, gaps)| (*generation, always + of_gaps(gaps)));
        files.filter(|(_, bytes)| *bytes > 0).collect()
    }

    /// Records that were durable and are not there.
    fn lost(&self) -> u64 {
        let gaps = self.files.iter().flat_map(|(_, _, gaps)| gaps).filter(|gap| self.claims.covers(gap));
        gaps.map(|gap| (gap.last - gap.first).saturating_add(1)).fold(0, u64::saturating_add)
    }
}

fn file_name(generation: u64) -> PathBuf {
    PathBuf::from(format!("audit.{generation:016x}"))
}

impl AuditLog {
    fn place(&self, generation: u64) -> Place<'_> {
        Place { magic: &AUDIT_MAGIC, volume: self.volume, generation }
    }

    /// Reads one file, whose first record should have the number `expected`. Behind what is damaged, the next whole record is
    /// looked for. What a crash has torn is no damage: the next record has its number, or nobody says that it was durable.
    pub(super) fn load(&self, generation: u64, mut expected: Option<u64>) -> Result<Loaded> {
        let bytes = match JournalFile::read(Series::Audit, &self.store, generation) {
            Ok(bytes) => bytes.unwrap_or_default(),
            // Gone by rotation meanwhile.
            Err(e) if e.kind() == Kind::NotFound => return Ok(Loaded::default()),
            Err(e) => return Err(e),
        };
        let mut loaded = Loaded::default();
        let head = AUDIT_MAGIC.len();
        if bytes.len() < head {
            return Ok(loaded);
        }
        loaded.has_head = bytes.starts_with(&AUDIT_MAGIC);
        let mut damaged = 0;
        let (mut position, place) = (head as u64, self.place(generation));
        let mut torn = 0;
        while position < bytes.len() as u64 {
            let rest = bytes.get(usize::try_from(position).unwrap_or(usize::MAX)..).unwrap_or_default();
            let opened = decode_head(rest).and_then(|len| {
                let content = records::open(&self.key, &place, position, rest)?;
                Some((record_len(len), content))
            });
            match opened {
                Some((len, content)) => {
                    match decode(&content) {
                        Ok((number, claim, entry)) => {
                            let bytes = std::mem::take(&mut torn);
                            let last = number.saturating_sub(1);
                            match expected {
                                Some(first) if number > first => loaded.gaps.push(Gap { first, last, bytes }),
                                // An older log was put back.
                                Some(first) if number < first => damaged += bytes,
                                None if bytes > 0 && number > 1 => loaded.gaps.push(Gap { first: last, last, bytes }),
                                _ => {}
                            }
                            loaded.claims.add(claim);
                            expected = Some(number.saturating_add(1));
                            loaded.entries.push((number, entry));
                            loaded.contents.push(content);
                        }
                        Err(_) => torn += len,
                    }
                    position += len;
                }
                None => {
                    torn += RECORD_ALIGN;
                    position += RECORD_ALIGN;
                }
            }
        }
        loaded.damaged = damaged;
        // It was durable if its first record was.
        if let (false, Some((first, _))) = (loaded.has_head, loaded.entries.first()) {
            loaded.gaps.push(Gap { first: *first, last: *first, bytes: head as u64 });
        }
        Ok(loaded)
    }

    fn generations(&self) -> Result<Vec<u64>> {
        JournalFile::generations(Series::Audit, &self.store)
    }

    fn survey(&self) -> Result<Survey> {
        let (mut survey, mut expected) = (Survey::default(), None);
        for generation in self.generations()? {
            let mut loaded = self.load(generation, expected)?;
            expected = loaded.next_number().or(expected);
            survey.add(generation, &mut loaded);
        }
        Ok(survey)
    }

    /// Files with bytes that are not what was written, from the store directory, and how many in each.
    ///
    /// # Errors
    /// `Io`.
    pub fn damaged(&self) -> Result<Vec<(PathBuf, u64)>> {
        Ok(self.survey()?.damaged().into_iter().map(|(generation, bytes)| (file_name(generation), bytes)).collect())
    }

    /// Writes files with damage anew, with what is whole of them. `keep` is told the path of each, from the store directory,
    /// before.
    ///
    /// A crash leaves a file as it was, or as it is to be.
    ///
    /// # Errors
    /// Those of `keep`; `NoSpace`, `Io`.
    pub fn mend(&self, layout: &Layout, keep: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
        let mut writing = self.writing.lock();
        for (generation, _) in self.survey()?.damaged() {
            let loaded = self.load(generation, None)?;
            // Its next record finds the new file.
            writing.current = None;
            let (mut bytes, place) = (AUDIT_MAGIC.to_vec(), self.place(generation));
            for content in &loaded.contents {
                let record = records::seal(&self.key, &place, bytes.len() as u64, content);
                bytes.extend_from_slice(&record);
            }
            let name = file_name(generation);
            keep(&name)?;
            self.latch.watch(layout.write_small(&name.to_string_lossy(), &bytes))?;
        }
        Ok(())
    }
}

impl Volume {
    /// Tells removals, the oldest first, until `take` says no; then how the log itself is.
    ///
    /// # Errors
    /// `Io`; those of `take`.
    pub fn audit(&self, filter: &AuditFilter, take: &mut dyn FnMut(Removed) -> Result<()>) -> Result<AuditState> {
        let mut state = AuditState::default();
        let (mut survey, mut expected) = (Survey::default(), None);
        for generation in self.audit.generations()? {
            let mut loaded = self.audit.load(generation, expected)?;
            expected = loaded.next_number().or(expected);
            survey.add(generation, &mut loaded);
            for (number, entry) in loaded.entries {
                match entry {
                    Entry::Missed(count) => state.missed += count,
                    Entry::Removal(removal) => {
                        state.oldest.get_or_insert(removal.at);
                        let removed = self.removed(number, removal);
                        if filter.takes(&removed) {
                            state.told += 1;
                            take(removed)?;
                        }
                    }
                }
            }
        }
        state.damaged_bytes = survey.damaged().into_iter().map(|(_, bytes)| bytes).sum();
        state.lost = survey.lost();
        Ok(state)
    }

    fn removed(&self, number: u64, removal: Removal) -> Removed {
        let is_medium = removal.kind == FileKind::Regular;
        let id = removal.id.map(|id| MediaId(uuid::Uuid::from_bytes(id)));
        let id = id.or_else(|| is_medium.then(|| self.own_id(removal.ino)));
        let is_known = removal.uid.is_some() || removal.pid.is_some() || !removal.name.is_empty();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Removed {
            number,
            at: removal.at,
            way: Way::from_code(removal.way),
            actor: is_known.then(|| Actor { uid: removal.uid, pid: removal.pid, name: text(&removal.name) }),
            what: what(removal.kind).to_owned(),
            id: id.map(|id| id.to_string()),
            path: (!removal.path.is_empty()).then(|| text(&removal.path)),
            names: removal.names,
            size: removal.size,
            sha256: removal.digest.map(|digest| hex(&digest)),
            replaced: removal.successor.is_some(),
        }
    }
}

fn what(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => "node",
    }
}

impl AuditFilter {
    fn takes(&self, removed: &Removed) -> bool {
        self.since.is_none_or(|since| removed.at >= since)
            && self.until.is_none_or(|until| removed.at < until)
            && self.id.as_ref().is_none_or(|id| removed.id.as_ref() == Some(id))
    }

    /// Refuses an id that no medium has.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn require_sense(&self) -> Result<()> {
        match &self.id {
            Some(id) if MediaId::parse(id.as_bytes()).is_none_or(|parsed| parsed.to_string() != *id) => {
                Err(Error::new(Kind::Invalid, format!("`{id}` is no media id; `wamedia ls` shows them")))
            }
            _ => Ok(()),
        }
    }
}
