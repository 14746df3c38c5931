//! The journal as the volume keeps it: who was touched since the index was last complete.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::audit::AuditLog;
use crate::crypto::IndexKey;
use crate::error::{Error, Kind, Result};
use crate::format::journal::{
    JOURNAL_BODY_LEN, JOURNAL_HEADER_LEN, JournalHeader, RECORD_BODY_LEN, RECORD_LEN, Record,
};
use crate::ids::{Ino, VolumeId};
use crate::store::{Ballast, JournalFile, Latch, Series};
use crate::sync::Mutex;

/// More records than one operation on names needs, and others beside it meanwhile.
const MOST_RECORDS: usize = 16;

/// One generation of the journal.
struct Generation {
    file: Arc<JournalFile>,
    header: JournalHeader,
    touched: HashSet<Ino>,
    /// Records written, but for those carried over from the generation before.
    records: u64,
}

/// What a journal says.
pub(super) struct JournalRead {
    /// Its header, with nothing known of new blobs when it is not authentic.
    pub header: JournalHeader,
    /// What is authentic of it.
    pub records: Vec<Record>,
    /// Whether that is all there ever was, but for a torn end.
    pub is_whole: bool,
    /// Records that are not authentic: torn, unless everything that was written before is in the files.
    pub lost: u64,
}

/// Writes journal records, each inode's touch once a generation.
pub(super) struct Ledger {
    volume: VolumeId,
    latch: Arc<Latch>,
    ballast: Arc<Ballast>,
    /// Is durable before the removals noted here are.
    audit: Arc<AuditLog>,
    /// A leaf lock but for the journal's own, and the audit log's.
    current: Mutex<Generation>,
}

fn code(key: &IndexKey, header: &JournalHeader, position: u64, body: &[u8]) -> [u8; 16] {
    key.mac(&[&header.volume.0, &header.generation.to_le_bytes(), &position.to_le_bytes(), body])
}

impl Ledger {
    /// Starts the journal after the newest of `generations`. When the disk has no room for one more, the newest goes on.
    pub fn start(
        store: &Path,
        volume: VolumeId,
        key: &IndexKey,
        generations: &[u64],
        (latch, ballast): (&Arc<Latch>, &Arc<Ballast>),
        audit: Arc<AuditLog>,
    ) -> Result<Ledger> {
        let newest = generations.last().copied();
        let generation = newest.unwrap_or(0).checked_add(1).ok_or_else(|| {
            Error::new(
                Kind::Invalid,
                "the journals' numbers are used up: remove journal.ffffffffffffffff from the store",
            )
        })?;
        let begun = ballast.with_room(|| Ledger::begin(store, volume, key, generation, 0, Arc::clone(latch)));
        let current = match (begun, newest) {
            (Err(e), Some(newest)) if e.kind() == Kind::NoSpace => match Ledger::read(store, volume, key, newest)? {
                Some(read) if read.is_whole => {
                    let len = JOURNAL_HEADER_LEN + read.records.len() * RECORD_LEN;
                    let file = JournalFile::resume(Series::Changes, store, newest, len as u64, Arc::clone(latch))?;
                    let records = read.records.len() as u64;
                    Generation { file: Arc::new(file), header: read.header, touched: HashSet::new(), records }
                }
                _ => return Err(e),
            },
            (begun, _) => begun?,
        };
        let (latch, ballast) = (Arc::clone(latch), Arc::clone(ballast));
        Ok(Ledger { volume, latch, ballast, audit, current: Mutex::new(current) })
    }

    fn begin(
        store: &Path,
        volume: VolumeId,
        key: &IndexKey,
        generation: u64,
        first_new_blob: u64,
        latch: Arc<Latch>,
    ) -> Result<Generation> {
        let header = JournalHeader { volume, generation, first_new_blob };
        let fields = header.encode();
        let head = [fields.as_slice(), &code(key, &header, 0, &fields)].concat();
        let file = Arc::new(JournalFile::create(Series::Changes, store, generation, &head, latch)?);
        Ok(Generation { file, header, touched: HashSet::new(), records: 0 })
    }

    /// Goes over to the next generation; gives its number and the old one's.
    ///
    /// The caller holds the namespace lock and touches again what is still uncommitted.
    pub fn turn(&self, store: &Path, key: &IndexKey, first_new_blob: u64) -> Result<(u64, u64)> {
        let mut current = self.current.lock();
        let old = current.header.generation;
        // What was noted in it is waited for by nobody else any more.
        self.audit.sync()?;
        current.file.sync()?;
        let begin = || Ledger::begin(store, self.volume, key, old + 1, first_new_blob, Arc::clone(&self.latch));
        *current = self.ballast.with_room(begin)?;
        Ok((old + 1, old))
    }

    /// How many records this generation has, but for those of [`Ledger::carried_over`].
    pub fn records(&self) -> u64 {
        self.current.lock().records
    }

    /// What was noted since the turn was known before.
    pub fn carried_over(&self) {
        self.current.lock().records = 0;
    }

    /// Notes that an inode is about to differ from what the index says.
    pub fn touch(&self, key: &IndexKey, ino: Ino) -> Result<()> {
        let mut current = self.current.lock();
        if current.touched.contains(&ino) {
            return Ok(());
        }
        self.ballast.with_room(|| current.append(key, Record::Touched(ino)))?;
        current.touched.insert(ino);
        Ok(())
    }

    /// Makes sure that the records of one operation find room.
    ///
    /// # Errors
    /// `NoSpace`; `Io`.
    pub fn make_room(&self) -> Result<()> {
        let file = Arc::clone(&self.current.lock().file);
        self.ballast.with_room(|| file.make_room((MOST_RECORDS * RECORD_LEN) as u64))
    }

    /// Notes a removal; it outlives this process at once, and a power loss after [`Ledger::sync`].
    pub fn note(&self, key: &IndexKey, record: Record) -> Result<()> {
        let mut current = self.current.lock();
        self.ballast.with_room(|| current.append(key, record))
    }

    /// Makes all records durable.
    pub fn sync(&self) -> Result<()> {
        // In this order: what was noted meanwhile is in the audit log, but perhaps not durably.
        let file = Arc::clone(&self.current.lock().file);
        let end = file.end();
        if file.is_synced_to(end) {
            return Ok(());
        }
        self.audit.sync()?;
        file.sync_to(end)
    }

    /// Takes the newest of `generations` out when its beginning was cut short: nothing was noted in it yet. One that the
    /// index knows (`known`) had begun, so that one is damaged and stays.
    pub fn forget_unbegun(store: &Path, generations: &mut Vec<u64>, known: Option<u64>) -> Result<()> {
        let Some(newest) = generations.last().copied().filter(|newest| Some(*newest) != known) else { return Ok(()) };
        if JournalFile::read(Series::Changes, store, newest)?.is_some_and(|bytes| bytes.len() < JOURNAL_HEADER_LEN) {
            JournalFile::remove(Series::Changes, store, newest)?;
            generations.pop();
        }
        Ok(())
    }

    /// Reads the records of a generation, and says whether all of them are there but for a torn end. When not, or when
    /// there is no journal (`None`), the index must be made anew; what is authentic still holds, also behind a header
    /// that is not.
    pub fn read(store: &Path, volume: VolumeId, key: &IndexKey, generation: u64) -> Result<Option<JournalRead>> {
        let Some(bytes) = JournalFile::read(Series::Changes, store, generation)? else { return Ok(None) };
        let Some((head, body)) = bytes.split_at_checked(JOURNAL_HEADER_LEN) else { return Ok(None) };
        let (fields, tag) = head.split_at(JOURNAL_BODY_LEN);
        let expected = JournalHeader { volume, generation, first_new_blob: 0 };
        let header = JournalHeader::decode(fields).ok().filter(|header| {
            let is_ours = header.volume == volume && header.generation == generation;
            is_ours && code(key, &expected, 0, fields) == *tag
        });
        let mut records = Vec::new();
        let (mut lost, mut is_whole) = (0, header.is_some());
        let header = header.unwrap_or(expected);
        for (nth, record) in body.chunks_exact(RECORD_LEN).enumerate() {
            let (fields, tag) = record.split_at(RECORD_BODY_LEN);
            let position = (JOURNAL_HEADER_LEN + nth * RECORD_LEN) as u64;
            if code(key, &header, position, fields) != *tag {
                lost += 1;
                continue;
            }
            // Only what was never synced can be torn, and it stands at the end: this is damage, or the pages of an end
            // that was never synced.
            is_whole &= lost == 0;
            match Record::decode(fields) {
                Ok(record) => records.push(record),
                Err(_) => is_whole = false,
            }
        }
        Ok(Some(JournalRead { header, records, is_whole, lost }))
    }
}

impl Generation {
    fn append(&mut self, key: &IndexKey, record: Record) -> Result<()> {
        let fields = record.encode();
        self.file.append(|position| {
            let mut bytes = fields.to_vec();
            bytes.extend_from_slice(&code(key, &self.header, position, &fields));
            bytes
        })?;
        self.records += 1;
        Ok(())
    }
}
