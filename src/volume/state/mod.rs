//! The state log: small facts kept beside the media (queues, settings, tokens), durable when a commit has returned.
//!
//! An append-only file of sealed batches; where each value lies is kept in memory, some 100 bytes a key. When more of
//! the file is dead than alive, what is alive is copied to the next generation.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::crypto::{BlobKey, NONCE_BYTES, TAG_BYTES};
use crate::error::{Error, Kind, Result};
use crate::format::state::{
    Change, RECORD_ALIGN, RECORD_HEAD_LEN, RECORD_OVERHEAD, STATE_MAGIC, decode_batch, decode_head, encode_batch,
    record_len,
};
use crate::ids::VolumeId;
use crate::store::{Ballast, JournalFile, Latch, Series};
use crate::sync::Mutex;
use crate::volume::Volume;
use crate::volume::records::{self, Place};

/// Dead bytes from which on the log may be copied.
const DEAD_ENOUGH: u64 = 1 << 20;
/// Bytes of values in one batch of a copy.
const COPY_BATCH: usize = 256 << 10;
/// Bytes the log may hold alive; a commit that puts more is refused.
const MAX_LIVE: u64 = 512 << 20;
/// Bytes read at a time in search of the next record behind a damaged one.
const SEARCH_STEP: usize = 64 << 10;

/// A batch of changes: all of it lasts, or none.
#[derive(Clone, Debug, Default)]
pub struct StateBatch(Vec<Change>);

impl StateBatch {
    /// An empty one.
    #[must_use]
    pub fn new() -> StateBatch {
        StateBatch::default()
    }

    /// Gives `key` of `table` a value.
    pub fn put(&mut self, table: u8, key: &[u8], value: Vec<u8>) -> &mut StateBatch {
        self.0.push(Change::Put { table, key: key.to_vec(), value });
        self
    }

    /// Takes the value of `key` of `table` away.
    pub fn delete(&mut self, table: u8, key: &[u8]) -> &mut StateBatch {
        self.0.push(Change::Delete { table, key: key.to_vec() });
        self
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where a value lies.
#[derive(Clone, Copy)]
struct Slot {
    /// The record's position in the file.
    record: u64,
    /// The length of the record's content.
    record_len: u32,
    /// The value's place in the content.
    at: u32,
    len: u32,
}

/// The log as it is open.
struct Current {
    /// None as long as nothing was ever put.
    file: Option<Arc<JournalFile>>,
    generation: u64,
    slots: BTreeMap<Vec<u8>, Slot>,
    live: u64,
    dead: u64,
}

/// The state log of a volume.
pub(super) struct StateLog {
    store: PathBuf,
    volume: VolumeId,
    key: BlobKey,
    latch: Arc<Latch>,
    ballast: Arc<Ballast>,
    /// A leaf lock but for the file's own.
    current: Mutex<Current>,
}

/// What a file of the log holds.
struct Loaded {
    current: Current,
    is_whole: bool,
    damaged: u64,
    is_torn: bool,
}

fn full_key(table: u8, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(key.len() + 1);
    full.push(table);
    full.extend_from_slice(key);
    full
}

/// What an entry costs in the file.
fn cost(key: &[u8], value_len: u32) -> u64 {
    key.len() as u64 + u64::from(value_len) + 8
}

fn malformed(error: crate::format::codec::Malformed) -> Error {
    Error::new(Kind::TooBig, format!("a batch of the state log cannot be kept: {}", error.0))
}

impl StateLog {
    /// Opens the log of the store, whatever a crash has left of it; damage goes to `notes`.
    ///
    /// # Errors
    /// `Io`; `Version` for a log that a later version wrote.
    pub fn open(
        store: &Path,
        volume: VolumeId,
        key: BlobKey,
        latch: Arc<Latch>,
        ballast: Arc<Ballast>,
        notes: &mut Vec<String>,
    ) -> Result<StateLog> {
        let current = Current { file: None, generation: 0, slots: BTreeMap::new(), live: 0, dead: 0 };
        let log = StateLog { store: store.to_owned(), volume, key, latch, ballast, current: Mutex::new(current) };
        let generations = JournalFile::generations(Series::State, store)?;
        let mut left_behind = Vec::new();
        for (nth, generation) in generations.iter().copied().enumerate().rev() {
            let loaded = log.load(generation)?;
            if !loaded.is_whole && nth > 0 {
                // A copy that a crash has cut short: the generation before it still holds everything.
                left_behind.push(generation);
                continue;
            }
            if loaded.damaged > 0 {
                notes.push(format!(
                    "{} bytes of the state log are damaged: settings, tokens or queued work may be missing",
                    loaded.damaged
                ));
            }
            let is_clean = loaded.damaged == 0 && !loaded.is_torn;
            *log.current.lock() = loaded.current;
            left_behind.extend(generations.iter().take(nth));
            if !is_clean {
                // So that nothing is written over what a crash has left half.
                match log.copy(&mut log.current.lock()) {
                    Err(e) if e.kind() == Kind::NoSpace || e.kind() == Kind::ReadOnly => {}
                    copied => copied?,
                }
            }
            break;
        }
        for generation in left_behind {
            JournalFile::remove(Series::State, store, generation)?;
        }
        Ok(log)
    }

    /// Reads one file of the log.
    fn load(&self, generation: u64) -> Result<Loaded> {
        let file = JournalFile::reopen(Series::State, &self.store, generation, Arc::clone(&self.latch))?;
        let end = file.end();
        let mut loaded = Loaded {
            current: Current { file: None, generation, slots: BTreeMap::new(), live: 0, dead: 0 },
            is_whole: false,
            damaged: 0,
            is_torn: end < STATE_MAGIC.len() as u64,
        };
        if !loaded.is_torn && file.read_at(0, STATE_MAGIC.len())? != STATE_MAGIC {
            let (head, name) = (file.read_at(0, 7)?, self.store.display());
            if head == STATE_MAGIC.get(..7).unwrap_or_default() {
                let message = format!("the state log in {name} is of a later version; use the version that wrote it");
                return Err(Error::new(Kind::Version, message));
            }
            loaded.damaged += STATE_MAGIC.len() as u64;
        }
        let mut position = STATE_MAGIC.len() as u64;
        while position < end {
            let Some((record, len, content)) = self.next_record(&file, generation, position, end)? else {
                // Only what was never synced can be torn, and that stands at the end.
                loaded.is_torn = true;
                break;
            };
            loaded.damaged += record - position;
            let Ok(changes) = decode_batch(&content) else {
                loaded.damaged += record_len(len);
                position = record + record_len(len);
                continue;
            };
            for (change, place) in changes {
                loaded.is_whole |= change == Change::Whole;
                loaded.current.apply(&change, place, (record, len));
            }
            position = record + record_len(len);
        }
        loaded.current.file = Some(Arc::new(file));
        Ok(loaded)
    }

    /// The next authentic record at or behind `position`: where it is, the length of its content, and that.
    fn next_record(
        &self,
        file: &JournalFile,
        generation: u64,
        position: u64,
        end: u64,
    ) -> Result<Option<(u64, u32, Vec<u8>)>> {
        if let Some((len, content)) = self.read_record(file, generation, position, end)? {
            return Ok(Some((position, len, content)));
        }
        let mut from = position + RECORD_ALIGN;
        while from < end {
            let step = usize::try_from(end - from).unwrap_or(usize::MAX).min(SEARCH_STEP);
            let bytes = file.read_at(from, step)?;
            for (nth, head) in bytes.chunks(RECORD_ALIGN as usize).enumerate() {
                if decode_head(head).is_some() {
                    let at = from + nth as u64 * RECORD_ALIGN;
                    if let Some((len, content)) = self.read_record(file, generation, at, end)? {
                        return Ok(Some((at, len, content)));
                    }
                }
            }
            from += step as u64;
        }
        Ok(None)
    }

    fn read_record(
        &self,
        file: &JournalFile,
        generation: u64,
        position: u64,
        end: u64,
    ) -> Result<Option<(u32, Vec<u8>)>> {
        if end - position < RECORD_OVERHEAD as u64 {
            return Ok(None);
        }
        let Some(len) = decode_head(&file.read_at(position, RECORD_HEAD_LEN)?) else { return Ok(None) };
        if record_len(len) > end - position {
            return Ok(None);
        }
        Ok(self.open_record(file, generation, position, len)?.map(|content| (len, content)))
    }

    fn place(&self, generation: u64) -> Place<'_> {
        Place { magic: &STATE_MAGIC, volume: self.volume, generation }
    }

    fn open_record(&self, file: &JournalFile, generation: u64, position: u64, len: u32) -> Result<Option<Vec<u8>>> {
        let sealed = file.read_at(position + RECORD_HEAD_LEN as u64, len as usize + NONCE_BYTES + TAG_BYTES)?;
        Ok(records::open_sealed(&self.key, &self.place(generation), position, len, &sealed))
    }

    /// Appends a batch; gives its position and the length of its content.
    fn append(&self, file: &JournalFile, generation: u64, changes: &[Change]) -> Result<(u64, u32, Vec<u8>)> {
        let content = encode_batch(changes).map_err(malformed)?;
        let append = || file.append(|position| records::seal(&self.key, &self.place(generation), position, &content));
        let position = self.ballast.with_room(append)?;
        Ok((position, u32::try_from(content.len()).unwrap_or(u32::MAX), content))
    }

    fn begin(&self, generation: u64) -> Result<JournalFile> {
        let create =
            || JournalFile::create(Series::State, &self.store, generation, &STATE_MAGIC, Arc::clone(&self.latch));
        self.ballast.with_room(create)
    }

    /// Copies what is alive to the next generation.
    fn copy(&self, current: &mut Current) -> Result<()> {
        let generation = current.generation + 1;
        let file = Arc::new(self.begin(generation)?);
        let copied = self.copy_to(current, &file, generation);
        match copied {
            Ok(next) => {
                let old = std::mem::replace(current, next).generation;
                JournalFile::remove(Series::State, &self.store, old)
            }
            Err(e) => {
                // The next open removes it where this fails.
                let _stays = JournalFile::remove(Series::State, &self.store, generation);
                Err(e)
            }
        }
    }

    fn copy_to(&self, current: &Current, file: &Arc<JournalFile>, generation: u64) -> Result<Current> {
        let mut next = Current { file: None, generation, slots: BTreeMap::new(), live: 0, dead: 0 };
        let (mut changes, mut len) = (Vec::new(), 0);
        let write = |next: &mut Current, changes: &mut Vec<Change>| {
            let (position, len, content) = self.append(file, generation, changes)?;
            changes.clear();
            for (change, place) in decode_batch(&content).map_err(malformed)? {
                next.apply(&change, place, (position, len));
            }
            Ok::<(), Error>(())
        };
        for (full, slot) in &current.slots {
            // One whose bytes are damaged is lost in any case, and the others must not be.
            let Some(value) = self.read_slot(current, slot)? else { continue };
            let Some((table, key)) = full.split_first() else { continue };
            len += full.len() + value.len();
            changes.push(Change::Put { table: *table, key: key.to_vec(), value });
            if len >= COPY_BATCH {
                write(&mut next, &mut changes)?;
                len = 0;
            }
        }
        changes.push(Change::Whole);
        write(&mut next, &mut changes)?;
        file.sync()?;
        next.file = Some(Arc::clone(file));
        Ok(next)
    }

    fn read_slot(&self, current: &Current, slot: &Slot) -> Result<Option<Vec<u8>>> {
        let Some(file) = &current.file else { return Ok(None) };
        let content = self.open_record(file, current.generation, slot.record, slot.record_len)?;
        let (at, len) = (slot.at as usize, slot.len as usize);
        Ok(content.and_then(|content| content.get(at..at + len).map(<[u8]>::to_vec)))
    }

    /// How many values are not what was written.
    ///
    /// # Errors
    /// `Io`.
    pub fn damaged(&self) -> Result<usize> {
        // One at a time, so that nobody waits for all.
        let keys: Vec<Vec<u8>> = self.current.lock().slots.keys().cloned().collect();
        let mut count = 0;
        for key in keys {
            let current = self.current.lock();
            if let Some(slot) = current.slots.get(&key)
                && self.read_slot(&current, slot)?.is_none()
            {
                count += 1;
            }
        }
        Ok(count)
    }

    /// Writes what can be read anew, without what cannot.
    ///
    /// # Errors
    /// `NoSpace`, `Poisoned`, `Io`: the log is as it was.
    pub fn drop_damaged(&self) -> Result<()> {
        self.copy(&mut self.current.lock())
    }

    fn value_of(&self, current: &Current, slot: &Slot) -> Result<Vec<u8>> {
        self.read_slot(current, slot)?
            .ok_or_else(|| Error::new(Kind::Damaged, "a value in the state log is not what was written"))
    }

    fn commit(&self, batch: &StateBatch) -> Result<()> {
        let file = {
            let mut current = self.current.lock();
            let puts = batch.0.iter().any(|change| matches!(change, Change::Put { .. }));
            if puts && current.live > MAX_LIVE {
                return Err(Error::new(
                    Kind::NoSpace,
                    "the state log is full: too much work is queued; see that its receiver answers",
                ));
            }
            if current.dead > DEAD_ENOUGH && current.dead > current.live {
                self.copy(&mut current)?;
            }
            let generation = current.generation.max(1);
            let file = match &current.file {
                Some(file) => Arc::clone(file),
                None => {
                    let file = Arc::new(self.begin(generation)?);
                    self.append(&file, generation, &[Change::Whole])?;
                    (current.file, current.generation) = (Some(Arc::clone(&file)), generation);
                    file
                }
            };
            let (position, len, content) = self.append(&file, generation, &batch.0)?;
            for (change, place) in decode_batch(&content).map_err(malformed)? {
                current.apply(&change, place, (position, len));
            }
            file
        };
        file.sync()
    }
}

impl Current {
    fn apply(&mut self, change: &Change, place: Option<(u32, u32)>, (record, record_len): (u64, u32)) {
        let (full, slot) = match (change, place) {
            (Change::Put { table, key, .. }, Some((at, len))) => {
                (full_key(*table, key), Some(Slot { record, record_len, at, len }))
            }
            (Change::Delete { table, key }, _) => (full_key(*table, key), None),
            _ => return,
        };
        let new_cost = slot.map(|slot| cost(&full, slot.len));
        let key_cost = cost(&full, 0);
        let old = match slot {
            Some(slot) => self.slots.insert(full.clone(), slot),
            None => self.slots.remove(&full),
        };
        let old = old.map_or(0, |old| cost(&full, old.len));
        self.live = self.live + new_cost.unwrap_or(0) - old;
        self.dead += old + if new_cost.is_none() { key_cost } else { 0 } + RECORD_OVERHEAD as u64;
    }
}

impl Volume {
    /// The value of `key` in `table` of the state log.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn state_get(&self, table: u8, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let current = self.state.current.lock();
        current.slots.get(&full_key(table, key)).map(|slot| self.state.value_of(&current, slot)).transpose()
    }

    /// Up to `limit` keys of `table` behind `after` (none: from the first), in ascending order, with their values.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn state_scan(&self, table: u8, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let current = self.state.current.lock();
        let from = match after {
            Some(key) => Bound::Excluded(full_key(table, key)),
            None => Bound::Included(vec![table]),
        };
        let range = current.slots.range((from, Bound::Unbounded)).take_while(|(full, _)| full.first() == Some(&table));
        range
            .take(limit)
            .map(|(full, slot)| Ok((full.get(1..).unwrap_or_default().to_vec(), self.state.value_of(&current, slot)?)))
            .collect()
    }

    /// How many keys `table` of the state log has.
    #[must_use]
    pub fn state_count(&self, table: u8) -> u64 {
        let current = self.state.current.lock();
        let to = table.checked_add(1).map_or(Bound::Unbounded, |next| Bound::Excluded(vec![next]));
        current.slots.range((Bound::Included(vec![table]), to)).count() as u64
    }

    /// Makes the changes of a batch, all or none. When this returns they survive a loss of power.
    ///
    /// # Errors
    /// `TooBig` for more than 4 MiB; `NoSpace`, `Poisoned`, `Io`: nothing is changed as far as later calls see, and
    /// after a crash all of it may be there, or nothing.
    pub fn state_commit(&self, batch: &StateBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.state.commit(batch)
    }
}
