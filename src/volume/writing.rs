//! Writing: bytes into chunks in memory, full chunks on to the sealer; cutting and extending.

use std::sync::Arc;

use super::apart::LEAST_CHUNKS;
use super::frames::BlobCipher;
use super::inode::{Inode, OpenBlob, State};
use super::quota::Class;
use super::sealer::{Batch, Pending};
use super::types::{Allocate, Seek};
use super::writer::{Dirty, MAX_DIRTY_CHUNKS, Writer};
use super::{OpenFile, SNIFF_BYTES, Volume};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::format::content::{ChunkMap, Content, MAX_RUNS, Place};
use crate::format::frame::{CHUNK_LEN, FRAME_OVERHEAD};
use crate::format::geometry::{MAX_FILE_LEN, Span, chunk_count, chunk_len, spans};
use crate::ids::BlobId;

const CHUNK: u64 = CHUNK_LEN as u64;

/// Bytes a content is charged: every chunk that is no hole, the last one only as far as the file reaches.
pub(super) fn allocated(map: &ChunkMap, len: u64) -> u64 {
    charge(map.allocated_chunks(), len, |chunk| map.find(chunk).is_some())
}

fn charge(chunks: u64, len: u64, has: impl Fn(u64) -> bool) -> u64 {
    let last = chunk_count(len).checked_sub(1).filter(|last| has(*last));
    chunks * CHUNK - last.map_or(0, |last| CHUNK - chunk_len(len, last) as u64)
}

/// Refuses a change of `more` chunks after which the end frame might not be read again: each chunk that gets a place of
/// its own can cut a run in three.
fn expect_few_runs(state: &State, map: &ChunkMap, more: u64) -> Result<()> {
    let waiting = state.writer.as_ref().map_or(0, |writer| writer.dirty.len()) as u64;
    let worst = (waiting + more).saturating_mul(2).saturating_add(map.runs().len() as u64);
    if worst <= MAX_RUNS as u64 {
        return Ok(());
    }
    Err(Error::new(Kind::TooLarge, "the file is cut into too many pieces; copy it to make it whole again"))
}

impl Volume {
    /// Writes all of `data` at `offset` (at the end for a handle that appends), or nothing.
    /// It is durable after [`Volume::fsync`].
    ///
    /// # Errors
    /// `BadHandle`, `TooLarge`, `NoSpace` before a byte was taken; `Poisoned`; `Damaged` when the rest of a chunk
    /// that is written in part cannot be read.
    pub fn write(&self, file: &OpenFile, offset: u64, data: &[u8], drop_privileges: bool) -> Result<()> {
        if !file.mode.write {
            return Err(Kind::BadHandle.into());
        }
        if data.is_empty() {
            return Ok(());
        }
        self.activity.note();
        let mut state = file.inode.state.write();
        self.begin_change(&file.inode, &mut state)?;
        let offset = if file.mode.append { state.record.len } else { offset };
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > MAX_FILE_LEN) {
            return Err(Error::new(Kind::TooLarge, format!("a file is at most {MAX_FILE_LEN} bytes long")));
        }
        state.view.iter().try_for_each(|seen| seen.view.make_room(offset, data.len() as u64))?;
        self.put(&mut state, offset, data, file.class)?;
        state.view.iter().try_for_each(|seen| seen.view.write(offset, data))?;
        self.content_changed(&mut state, drop_privileges);
        self.hand_on(&mut state, Some((offset, data.len() as u64)))
    }

    /// Makes an inode ready to be changed: noted in the journal, its content loaded, a writer in place.
    pub(super) fn begin_change(&self, inode: &Arc<Inode>, state: &mut State) -> Result<()> {
        self.store.latch().pass()?;
        self.load(state)?;
        self.part_view(inode, state)?;
        self.note_change(inode, state)?;
        if state.writer.is_none() {
            let is_empty = state.record.len == 0 && self.content_of(state)?.map.runs().is_empty();
            let writer = if is_empty { Writer::from_start() } else { Writer::default() };
            state.writer = Some(Box::new(writer));
        }
        Ok(())
    }

    pub(super) fn content_changed(&self, state: &mut State, drop_privileges: bool) {
        let now = self.clock.now();
        state.record.attrs.mtime = now;
        state.record.attrs.ctime = now;
        if drop_privileges {
            state.record.attrs.mode = without_privileges(state.record.attrs.mode);
        }
        state.record.attrs.digest = None;
        if let Some(content) = &mut state.content {
            content.digest = None;
        }
        state.content_changed = true;
    }

    /// Charges what the content costs with `map` and `len` beyond what it costs now, or gives back.
    fn charge_to(&self, state: &mut State, after: u64, class: Class) -> Result<()> {
        let before = state.record.allocated;
        if state.uncharged {
            // Removed and given back already; somebody still plays with it.
        } else if after > before {
            self.take_room(class, after - before, 0)?;
        } else {
            self.quota.give(before - after, 0);
        }
        state.record.allocated = after;
        Ok(())
    }

    fn put(&self, state: &mut State, offset: u64, data: &[u8], class: Class) -> Result<()> {
        self.reserve_room(state, chunk_count(data.len() as u64) + 1)?;
        let len = state.record.len;
        let end = offset + data.len() as u64;
        let new_len = len.max(end);
        let (mut added, mut last_written) = (0, 0);
        let content = self.content_of(state)?;
        for span in spans(offset, data.len() as u64) {
            added += u64::from(content.map.find(span.chunk).is_none());
            last_written = span.chunk;
        }
        let first_written = offset / CHUNK;
        expect_few_runs(state, &content.map, last_written - first_written + 1)?;
        let after = charge(content.map.allocated_chunks() + added, new_len, |chunk| {
            (first_written..=last_written).contains(&chunk) || content.map.find(chunk).is_some()
        });
        self.charge_to(state, after, class)?;
        if let Err(e) = self.fetch_range(state, offset, data.len() as u64) {
            let before = allocated(&self.content_of(state)?.map, len);
            self.charge_to(state, before, class)?;
            return Err(e);
        }
        let mut rest = data;
        for span in spans(offset, data.len() as u64) {
            let (part, tail) = rest.split_at(span.len);
            rest = tail;
            let Some(writer) = &mut state.writer else { continue };
            writer.changing(span.chunk);
            if let Some(dirty) = writer.dirty.get_mut(&span.chunk) {
                dirty.put(span.skip, part);
            }
            if let Some(content) = &mut state.content
                && content.map.find(span.chunk).is_none()
            {
                content.map.set(span.chunk, 1, Some(Place::Reserved));
            }
        }
        state.record.len = new_len;
        if let Some(content) = &mut state.content {
            content.len = new_len;
        }
        Ok(())
    }

    /// Brings the chunks of a range that will be written into memory: all of them, or none that was not there.
    fn fetch_range(&self, state: &mut State, offset: u64, range_len: u64) -> Result<()> {
        let len = state.record.len;
        let mut fetched = Vec::new();
        for span in spans(offset, range_len) {
            if state.writer.as_ref().is_some_and(|writer| writer.dirty.contains_key(&span.chunk)) {
                continue;
            }
            let covers = span.skip == 0 && span.len >= chunk_len(len, span.chunk);
            if let Err(e) = self.fetch(state, span.chunk, covers) {
                // One whose bytes were not read, since they were to be replaced, would read as zeros.
                if let Some(writer) = &mut state.writer {
                    writer.dirty.retain(|chunk, _| !fetched.contains(chunk));
                }
                return Err(e);
            }
            fetched.push(span.chunk);
        }
        Ok(())
    }

    /// Brings a chunk into memory; its old bytes are read unless all of them will be `replaced`.
    fn fetch(&self, state: &mut State, chunk: u64, replaced: bool) -> Result<()> {
        let Some(writer) = &state.writer else { return Err(Error::new(Kind::Io, "no writer")) };
        if writer.dirty.contains_key(&chunk) {
            return Ok(());
        }
        let mut frame = self.sealer.buffer();
        let place = self.content_of(state)?.map.find(chunk);
        if let (Some(place), false) = (place.filter(|place| *place != Place::Reserved), replaced) {
            writer.flight.wait();
            let open = state.blob.as_ref().ok_or_else(|| Error::new(Kind::Damaged, "a content without a blob"))?;
            let plain = open.cipher.read_place(&*self.blob_of(open)?, place, chunk)?;
            frame.extend_from_slice(&plain);
        }
        if let Some(writer) = &mut state.writer {
            writer.dirty.insert(chunk, Dirty { frame, is_clean: true });
        }
        Ok(())
    }

    /// Gives chunks to the sealer: full ones that a sequential write has passed, since they will hardly be written again;
    /// all full ones when too many wait; and those that are not full when that does not help.
    fn hand_on(&self, state: &mut State, written: Option<(u64, u64)>) -> Result<()> {
        let is_held_back = self.is_held_back(state);
        let Some(writer) = &mut state.writer else { return Ok(()) };
        let mut passed = 0;
        if let Some((offset, len)) = written {
            let is_sequential = writer.next_offset == offset;
            writer.next_offset = offset + len;
            passed = if is_sequential { writer.next_offset / CHUNK } else { 0 };
        }
        if is_held_back && passed < LEAST_CHUNKS as u64 {
            passed = 0;
        }
        let partial = writer.dirty.values().filter(|dirty| !dirty.is_full()).count();
        let too_many = writer.dirty.len() > MAX_DIRTY_CHUNKS;
        let is_leaving =
            |chunk: u64, is_full| if is_full { too_many || chunk < passed } else { partial > MAX_DIRTY_CHUNKS };
        let leaving = writer.dirty.iter().filter(|(chunk, dirty)| is_leaving(**chunk, dirty.is_full()));
        let leaving: Vec<u64> = leaving.map(|(chunk, _)| *chunk).collect();
        if leaving.is_empty() { Ok(()) } else { self.hand_over(state, &leaving) }
    }

    /// Hands chunks to the sealer; their place in the blob is settled here.
    pub(super) fn hand_over(&self, state: &mut State, leaving: &[u64]) -> Result<()> {
        self.open_for_append(state)?;
        let (Some(writer), Some(content), Some(open)) = (&mut state.writer, &mut state.content, &mut state.blob) else {
            return Ok(());
        };
        let blob = if open.is_new { self.store.create(open.cipher.blob)? } else { self.blob_of(open)? };
        let header = open.is_new.then(|| open.cipher.header());
        let offset = if open.is_new { 0 } else { open.end };
        self.begin_apart(open, &*blob, writer.reserved, leaving);
        open.is_new = false;
        let mut chunks = Vec::with_capacity(leaving.len());
        // When the cores are busy, or somebody waits for the disk, the digest is computed when it is asked for, or when the
        // volume has time.
        let mut hashed =
            !self.activity.expects_fsync() && self.sealer.has_time(writer.next_hashed.is_some_and(|next| next > 0));
        for chunk in leaving {
            let Some(dirty) = writer.dirty.remove(chunk) else { continue };
            if *chunk == 0 {
                writer.head = Some(dirty.plaintext().get(..SNIFF_BYTES).unwrap_or(dirty.plaintext()).to_vec());
            }
            if dirty.is_clean {
                continue;
            }
            if dirty.plaintext().is_empty() {
                content.map.set(*chunk, 1, Some(Place::Reserved));
                hashed = false;
                writer.next_hashed = None;
                continue;
            }
            // One that is not full may still grow, so the digest cannot pass it.
            hashed &= dirty.is_full() && writer.next_hashed == Some(*chunk);
            writer.next_hashed = hashed.then_some(chunk + 1);
            let len = dirty.plaintext().len();
            let (offset, frame) = (open.end, open.next_frame);
            let apart = open.goes_apart(*chunk, len).then_some([0; FRAME_OVERHEAD]);
            let (place, in_blob) = match apart {
                None => (Place::Stored { offset, frame }, len),
                Some(_) => (Place::Apart { offset, frame }, 0),
            };
            content.map.set(*chunk, 1, Some(place));
            chunks.push(Pending { chunk: *chunk, number: frame, offset, frame: dirty.frame, apart });
            open.end += (in_blob + FRAME_OVERHEAD) as u64;
            open.next_frame += 1;
        }
        if chunks.is_empty() && header.is_none() {
            return Ok(());
        }
        self.reserve_ahead(open, &*blob, offset, &mut writer.reserved);
        let batch = Batch {
            blob,
            cipher: Arc::clone(&open.cipher),
            header,
            offset,
            chunks,
            flight: Arc::clone(&writer.flight),
        };
        self.sealer.submit(batch, hashed.then_some(&writer.lane));
        Ok(())
    }

    /// Gives a state a blob to append to: the one it has, or a new one.
    pub(super) fn open_for_append(&self, state: &mut State) -> Result<()> {
        self.load(state)?;
        self.cut_unknown(state)?;
        if state.blob.is_none() {
            let is_first = state.record.location.is_none() && state.replaced.is_empty();
            let id = if is_first { BlobId(state.record.attrs.ino.0) } else { self.next_blob() };
            state.blob = Some(self.new_blob(id));
        }
        Ok(())
    }

    /// Cuts off what lies behind the newest frame that the index knows, before anything is appended there: a commit that
    /// reached the disk without its record in the journal, when power was lost. Its end must not be found again.
    fn cut_unknown(&self, state: &State) -> Result<()> {
        let Some(open) = state.blob.as_ref().filter(|open| !open.is_new) else { return Ok(()) };
        let is_untouched = state.record.location.is_some_and(|at| at.blob == open.cipher.blob && at.end() == open.end);
        if is_untouched && state.writer.is_none() {
            let blob = self.blob_of(open)?;
            if blob.len()? > open.end {
                blob.cut(open.end)?;
            }
        }
        Ok(())
    }

    /// A blob that is to be made, with a key of its own.
    pub(super) fn new_blob(&self, id: BlobId) -> OpenBlob {
        let mut salt = [0; 24];
        clock::random_bytes(&mut salt);
        OpenBlob::new(BlobCipher::new(&self.key, self.suite, self.id, id, salt))
    }

    /// Cuts or extends the content; the state is ready to be changed.
    pub(super) fn set_len(&self, state: &mut State, new_len: u64) -> Result<()> {
        if new_len > MAX_FILE_LEN {
            return Err(Error::new(Kind::TooLarge, format!("a file is at most {MAX_FILE_LEN} bytes long")));
        }
        if let Some(writer) = &state.writer {
            writer.flight.wait();
        }
        let len = state.record.len;
        if new_len == 0 {
            self.empty(state);
        } else if new_len < len {
            let last = chunk_count(new_len) - 1;
            let keep = chunk_len(new_len, last);
            if keep < chunk_len(len, last) && self.content_of(state)?.map.find(last).is_some() {
                self.fetch(state, last, false)?;
                if let Some(dirty) = state.writer.as_mut().and_then(|w| w.dirty.get_mut(&last)) {
                    dirty.clear(keep, CHUNK_LEN - keep);
                }
            }
            self.drop_chunks(state, last + 1, chunk_count(MAX_FILE_LEN));
            if let Some(writer) = &mut state.writer {
                writer.changing(last);
                writer.next_hashed = writer.next_hashed.filter(|next| *next <= last);
            }
        }
        if new_len > len {
            let after = charge(self.content_of(state)?.map.allocated_chunks(), new_len, |chunk| {
                state.content.as_ref().is_some_and(|c| c.map.find(chunk).is_some())
            });
            self.charge_to(state, after, Class::General)?;
        }
        state.record.len = new_len;
        if let Some(content) = &mut state.content {
            content.len = new_len;
        }
        let after = allocated(&self.content_of(state)?.map, new_len);
        self.charge_to(state, after, Class::General)?;
        state.view.iter().try_for_each(|seen| seen.view.set_len(new_len))
    }

    /// Starts the content anew. What a frame already says of it stays in the store until the new content is durable.
    fn empty(&self, state: &mut State) {
        let committed = state.record.location.map(|at| at.blob);
        if let Some(open) = &state.blob
            && committed == Some(open.cipher.blob)
            && state.record.len > 0
        {
            state.replaced.push(open.cipher.blob);
            state.blob = None;
        }
        state.content = Some(Content::default());
        state.writer = Some(Box::new(Writer::from_start()));
    }

    /// Makes chunks `from..to` holes.
    fn drop_chunks(&self, state: &mut State, from: u64, to: u64) {
        if from >= to {
            return;
        }
        if let Some(content) = &mut state.content {
            content.map.set(from, to - from, None);
        }
        if let Some(writer) = &mut state.writer {
            let gone: Vec<u64> = writer.dirty.range(from..to).map(|(chunk, _)| *chunk).collect();
            for chunk in gone {
                writer.dirty.remove(&chunk);
            }
            writer.changing(from);
            writer.head = writer.head.take().filter(|_| from > 0);
        }
    }

    /// Promises room, makes a hole, or makes a range read as zeros (`fallocate(2)`).
    ///
    /// # Errors
    /// `BadHandle`, `Invalid`, `TooLarge`, `NoSpace`, `Poisoned`, `Damaged`.
    pub fn allocate(&self, file: &OpenFile, offset: u64, length: u64, what: Allocate) -> Result<()> {
        if !file.mode.write {
            return Err(Kind::BadHandle.into());
        }
        if length == 0 {
            return Err(Error::new(Kind::Invalid, "a range of no bytes"));
        }
        let end = offset.checked_add(length).filter(|end| *end <= MAX_FILE_LEN);
        let end =
            end.ok_or_else(|| Error::new(Kind::TooLarge, format!("a file is at most {MAX_FILE_LEN} bytes long")))?;
        let mut state = file.inode.state.write();
        let state = &mut *state;
        self.begin_change(&file.inode, state)?;
        if let Some(writer) = &state.writer {
            writer.flight.wait();
        }
        let keep_size = match what {
            Allocate::PunchHole => true,
            Allocate::Reserve { keep_size } | Allocate::ZeroRange { keep_size } => keep_size,
        };
        let len = state.record.len;
        let new_len = if keep_size { len } else { len.max(end) };
        let (first, last) = (offset / CHUNK, chunk_count(end));
        expect_few_runs(state, &self.content_of(state)?.map, 2)?;
        let clears = !matches!(what, Allocate::Reserve { .. });
        if clears {
            self.fetch_parts(state, offset, end)?;
        }
        if what != Allocate::PunchHole {
            self.promise(state, first, last, new_len, file.class)?;
        }
        if clears {
            self.clear_range(state, offset, end, what == Allocate::PunchHole)?;
        }
        state.record.len = new_len;
        if let Some(content) = &mut state.content {
            content.len = new_len;
        }
        let after = allocated(&self.content_of(state)?.map, new_len);
        self.charge_to(state, after, file.class)?;
        if let Some(seen) = &state.view {
            seen.view.set_len(new_len)?;
            if clears {
                seen.view.clear(offset, end.min(new_len))?;
            }
        }
        self.content_changed(state, false);
        self.hand_on(state, None)
    }

    /// Charges and marks as promised what is a hole among the chunks `first..last`.
    fn promise(&self, state: &mut State, first: u64, last: u64, new_len: u64, class: Class) -> Result<()> {
        let mut map = self.content_of(state)?.map.clone();
        let mut at = first;
        while at < last {
            match map.run_from(at).copied() {
                Some(run) if run.first <= at => at = run.first + run.count,
                next => {
                    let until = next.map_or(last, |run| run.first.min(last));
                    map.set(at, until - at, Some(Place::Reserved));
                    at = until;
                }
            }
        }
        expect_few_runs(state, &map, 2)?;
        self.charge_to(state, allocated(&map, new_len), class)?;
        if let Some(content) = &mut state.content {
            content.map = map;
        }
        Ok(())
    }

    /// Brings the chunks into memory that a range covers in part, before anything changes for it.
    fn fetch_parts(&self, state: &mut State, offset: u64, end: u64) -> Result<()> {
        for span in parts(offset, end) {
            let held = chunk_len(state.record.len, span.chunk);
            let keeps_some = span.skip < held && (span.skip > 0 || span.len < held);
            if keeps_some && self.content_of(state)?.map.find(span.chunk).is_some() {
                self.fetch(state, span.chunk, false)?;
            }
        }
        Ok(())
    }

    /// Makes bytes read as zeros: whole chunks lose their frames, parts of chunks are overwritten.
    fn clear_range(&self, state: &mut State, offset: u64, end: u64, punch: bool) -> Result<()> {
        let end = if punch { end } else { end.min(state.record.len.max(offset)) };
        let len = state.record.len;
        for span in parts(offset, end) {
            let held = chunk_len(len, span.chunk);
            let is_there = self.content_of(state)?.map.find(span.chunk).is_some();
            if !is_there || span.skip >= held {
                continue;
            }
            if span.skip == 0 && span.len >= held {
                self.vacate(state, span.chunk, 1, punch);
                continue;
            }
            self.fetch(state, span.chunk, false)?;
            if let Some(writer) = &mut state.writer {
                writer.changing(span.chunk);
                if let Some(dirty) = writer.dirty.get_mut(&span.chunk) {
                    dirty.clear(span.skip, span.len);
                }
            }
        }
        let (from, to) = (offset.div_ceil(CHUNK), end / CHUNK);
        if from < to {
            self.vacate(state, from, to - from, punch);
        }
        Ok(())
    }

    /// Chunks lose what they hold; their room is kept unless `punch`.
    fn vacate(&self, state: &mut State, first: u64, count: u64, punch: bool) {
        self.drop_chunks(state, first, first + count);
        if let (Some(content), false) = (&mut state.content, punch) {
            content.map.set(first, count, Some(Place::Reserved));
        }
    }

    /// Finds the next stored byte, or the next that is not, from `offset` on; chunks are the finest grain.
    ///
    /// # Errors
    /// `NoPosition` past the end of the file, or when no data follows; `Damaged`, `Io`.
    pub fn seek(&self, file: &OpenFile, offset: u64, what: Seek) -> Result<u64> {
        let state = file.inode.state.read();
        let len = state.record.len;
        if offset >= len {
            return Err(Kind::NoPosition.into());
        }
        let content = self.content_of(&state)?;
        let is_data = |chunk: u64| {
            let in_memory = state.writer.as_ref().is_some_and(|w| w.dirty.contains_key(&chunk));
            in_memory || content.map.find(chunk).is_some_and(|place| place != Place::Reserved)
        };
        let mut at = offset;
        while at < len {
            let chunk = at / CHUNK;
            let found = is_data(chunk);
            if found == (what == Seek::Data) {
                return Ok(at);
            }
            // A stretch without any run is skipped at once.
            let next = match content.map.run_from(chunk) {
                Some(run) if run.first > chunk && !found => run.first,
                None if !found => chunk_count(len),
                _ => chunk + 1,
            };
            at = next * CHUNK;
        }
        if what == Seek::Hole { Ok(len) } else { Err(Kind::NoPosition.into()) }
    }
}

/// The chunks that a range covers in part: at most its first and its last.
fn parts(offset: u64, end: u64) -> impl Iterator<Item = Span> {
    let last = (end.saturating_sub(1) / CHUNK * CHUNK).max(offset);
    let first_end = end.min((offset / CHUNK + 1) * CHUNK);
    let last = spans(last.max(first_end), end.saturating_sub(last.max(first_end)));
    spans(offset, first_end.saturating_sub(offset)).chain(last).filter(|span| span.len < CHUNK_LEN)
}

/// A mode without its setuid bit, and without its setgid bit where that grants something (`chown(2)`, `write(2)`).
pub(super) fn without_privileges(mode: u32) -> u32 {
    let mode = mode & !0o4000;
    if mode & 0o010 != 0 { mode & !0o2000 } else { mode }
}
