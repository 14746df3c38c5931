//! The end mark: how long the content is and where each chunk lies. `docs/FORMAT.md`, "End frame".

use super::codec::{Malformed, Reader, Writer};
use super::frame::{APART_STRIDE, CHUNK_LEN, HEADER_LEN, MAX_META_LEN, STRIDE};
use super::geometry::{MAX_FILE_LEN, chunk_count};

/// Bytes of a run in the end frame.
const RUN_LEN: usize = 40;
/// Bytes of the end frame before its runs.
const FIXED_LEN: usize = 8 + 8 + 8 + 32 + 8;
/// The most runs a content can have.
pub const MAX_RUNS: usize = (MAX_META_LEN - FIXED_LEN) / RUN_LEN;

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a data frame.
    Stored {
        /// Where the frame starts in the blob.
        offset: u64,
        /// Its frame number.
        frame: u64,
    },
    /// Apart: a frame without payload in the blob, the payload in the contents file at `chunk * 65536`.
    Apart {
        /// Where the frame starts in the blob.
        offset: u64,
        /// Its frame number.
        frame: u64,
    },
    /// Nowhere: room is promised, the chunk reads as zeros.
    Reserved,
}

impl Place {
    /// The place of the chunk `nth` chunks further in the same run.
    #[must_use]
    pub fn nth(self, nth: u64) -> Place {
        match self {
            Place::Stored { offset, frame } => Place::Stored { offset: offset + nth * STRIDE, frame: frame + nth },
            Place::Apart { offset, frame } => Place::Apart { offset: offset + nth * APART_STRIDE, frame: frame + nth },
            Place::Reserved => Place::Reserved,
        }
    }
}

/// Consecutive chunks whose places follow from the first by arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first chunk.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// The place of the first.
    pub place: Place,
}

impl Run {
    fn end(&self) -> u64 {
        self.first + self.count
    }

    /// The part of it from chunk `from` up to `to`.
    fn part(&self, from: u64, to: u64) -> Option<Run> {
        let (first, end) = (self.first.max(from), self.end().min(to));
        (first < end).then(|| Run { first, count: end - first, place: self.place.nth(first - self.first) })
    }
}

/// Where the chunks of a content are: runs in ascending order; what no run covers is a hole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkMap {
    runs: Vec<Run>,
}

impl ChunkMap {
    /// The runs.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The place of a chunk; `None` is a hole.
    #[must_use]
    pub fn find(&self, chunk: u64) -> Option<Place> {
        self.run_from(chunk).filter(|run| run.first <= chunk).map(|run| run.place.nth(chunk - run.first))
    }

    /// The first run that ends after `chunk`: the one that covers it, or the next.
    #[must_use]
    pub fn run_from(&self, chunk: u64) -> Option<&Run> {
        let at = self.runs.partition_point(|run| run.end() <= chunk);
        self.runs.get(at)
    }

    /// The first chunk from `from` on that has a frame, and its place.
    #[must_use]
    pub fn next_stored(&self, from: u64) -> Option<(u64, Place)> {
        let at = self.runs.partition_point(|run| run.end() <= from);
        let run = self.runs.get(at..)?.iter().find(|run| run.place != Place::Reserved)?;
        let chunk = run.first.max(from);
        Some((chunk, run.place.nth(chunk - run.first)))
    }

    /// Puts `count` chunks from `first` on at `place` (or makes them a hole).
    pub fn set(&mut self, first: u64, count: u64, place: Option<Place>) {
        if count == 0 {
            return;
        }
        let end = first + count;
        let from = self.runs.partition_point(|run| run.end() <= first);
        let to = self.runs.partition_point(|run| run.first < end);
        let mut new = Vec::with_capacity(3);
        for run in self.runs.get(from..to).unwrap_or_default() {
            new.extend(run.part(0, first));
        }
        new.extend(place.map(|place| Run { first, count, place }));
        for run in self.runs.get(from..to).unwrap_or_default() {
            new.extend(run.part(end, u64::MAX));
        }
        let touched = from.saturating_sub(1)..from + new.len() + 1;
        self.runs.splice(from..to.max(from), new);
        self.join(touched);
    }

    /// Joins neighbours that follow from one another.
    fn join(&mut self, touched: std::ops::Range<usize>) {
        let mut at = touched.start;
        let mut steps = touched.len();
        while steps > 0 && at + 1 < self.runs.len() {
            steps -= 1;
            if let (Some(a), Some(b)) = (self.runs.get(at).copied(), self.runs.get(at + 1).copied())
                && a.end() == b.first
                && a.place.nth(a.count) == b.place
            {
                if let Some(joined) = self.runs.get_mut(at) {
                    joined.count += b.count;
                }
                self.runs.remove(at + 1);
            } else {
                at += 1;
            }
        }
    }

    /// How many runs there would be, were everything stored in order.
    #[must_use]
    pub fn stretches(&self) -> usize {
        let is_stored = |run: &Run| run.place != Place::Reserved;
        let goes_on = |(a, b): &(&Run, &Run)| a.end() == b.first && is_stored(a) == is_stored(b);
        let pairs = self.runs.iter().zip(self.runs.iter().skip(1));
        self.runs.len() - pairs.filter(goes_on).count()
    }

    /// How many chunks are not holes.
    #[must_use]
    pub fn allocated_chunks(&self) -> u64 {
        self.runs.iter().map(|run| run.count).sum()
    }

    /// How many chunks lie apart.
    #[must_use]
    pub fn apart_chunks(&self) -> u64 {
        self.runs.iter().filter(|run| matches!(run.place, Place::Apart { .. })).map(|run| run.count).sum()
    }

    /// Whether all chunks of a content of `len` bytes, at least one, lie apart: its contents file is the content then.
    #[must_use]
    pub fn is_all_apart(&self, len: u64) -> bool {
        let chunks = chunk_count(len);
        chunks > 0 && self.apart_chunks() == chunks && self.runs.iter().all(|run| run.end() <= chunks)
    }

    /// How long the contents file is at least: to the beginning of the last chunk that lies apart, and more.
    #[must_use]
    pub fn apart_end(&self) -> Option<u64> {
        let last = self.runs.iter().rev().find(|run| matches!(run.place, Place::Apart { .. }))?;
        Some((last.end() - 1) * CHUNK_LEN as u64)
    }

    /// How many chunks have a frame.
    #[must_use]
    pub fn stored_chunks(&self) -> u64 {
        self.runs.iter().filter(|run| run.place != Place::Reserved).map(|run| run.count).sum()
    }
}

/// The payload of an end frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Bytes of the file.
    pub len: u64,
    /// SHA-256 of them, when it was known.
    pub digest: Option<[u8; 32]>,
    /// Where its chunks are.
    pub map: ChunkMap,
}

impl Content {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u64(self.len).u64(self.map.stored_chunks());
        w.u8(u8::from(self.digest.is_some())).bytes(&[0; 7]).bytes(&self.digest.unwrap_or_default());
        w.u64(self.map.runs.len() as u64);
        for run in &self.map.runs {
            let (kind, offset, frame) = match run.place {
                Place::Stored { offset, frame } => (1, offset, frame),
                Place::Apart { offset, frame } => (3, offset, frame),
                Place::Reserved => (2, 0, 0),
            };
            w.u64(run.first).u64(run.count).u8(kind).bytes(&[0; 7]).u64(offset).u64(frame);
        }
        w.finish()
    }

    /// Reads an end frame that lies at `end_offset` and is frame `end_frame`: every chunk must lie before it.
    ///
    /// # Errors
    /// [`Malformed`] naming the first field that is wrong.
    pub fn decode(bytes: &[u8], end_offset: u64, end_frame: u64) -> Result<Content, Malformed> {
        let mut r = Reader::new(bytes);
        let len = r.u64("content length")?;
        if len > MAX_FILE_LEN {
            return Err(Malformed("content length"));
        }
        let stored = r.u64("chunk count")?;
        let known = r.u8("digest flag")?;
        r.zeros(7, "reserved bytes of the end frame")?;
        let digest = r.array("digest")?;
        let digest = match known {
            0 if digest == [0; 32] => None,
            1 => Some(digest),
            _ => return Err(Malformed("digest flag")),
        };
        let count = r.u64("run count")?;
        if count != (r.rest().len() / RUN_LEN) as u64 || !r.rest().len().is_multiple_of(RUN_LEN) {
            return Err(Malformed("run count"));
        }
        let mut map = ChunkMap::default();
        let mut next = 0;
        while !r.is_empty() {
            let run = decode_run(&mut r, end_offset, end_frame)?;
            if run.first < next || run.end() > chunk_count(MAX_FILE_LEN) {
                return Err(Malformed("first chunk of a run"));
            }
            next = run.end();
            map.runs.push(run);
        }
        if map.stored_chunks() != stored {
            return Err(Malformed("chunk count"));
        }
        if map.runs.iter().any(|run| run.place != Place::Reserved && run.end() > chunk_count(len)) {
            return Err(Malformed("run past the end of the content"));
        }
        Ok(Content { len, digest, map })
    }
}

fn decode_run(r: &mut Reader<'_>, end_offset: u64, end_frame: u64) -> Result<Run, Malformed> {
    let first = r.u64("first chunk of a run")?;
    let count = r.u64("length of a run")?;
    let kind = r.u8("kind of a run")?;
    r.zeros(7, "reserved bytes of a run")?;
    let offset = r.u64("offset of a run")?;
    let frame = r.u64("frame number of a run")?;
    let most = chunk_count(MAX_FILE_LEN);
    if count == 0 || count > most || first > most {
        return Err(Malformed("length of a run"));
    }
    let place = match kind {
        1 | 3 => {
            let stride = if kind == 1 { STRIDE } else { APART_STRIDE };
            // The last frame of a run may be short, so only its start is known to lie before the end frame.
            let last_start = (count - 1).checked_mul(stride).and_then(|n| n.checked_add(offset));
            let frames_end = frame.checked_add(count);
            if offset < HEADER_LEN as u64
                || last_start.is_none_or(|at| at >= end_offset)
                || frames_end.is_none_or(|end| end > end_frame)
            {
                return Err(Malformed("offset of a run"));
            }
            if kind == 1 { Place::Stored { offset, frame } } else { Place::Apart { offset, frame } }
        }
        2 if offset == 0 && frame == 0 => Place::Reserved,
        _ => return Err(Malformed("kind of a run")),
    };
    Ok(Run { first, count, place })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_file_written_front_to_back_is_one_run() {
        let mut map = ChunkMap::default();
        for n in 0..100 {
            map.set(n, 1, Some(Place::Stored { offset: 80 + n * STRIDE, frame: n }));
        }
        assert_eq!(map.runs().len(), 1);
        assert_eq!(map.find(57), Some(Place::Stored { offset: 80 + 57 * STRIDE, frame: 57 }));
        assert_eq!(map.find(100), None);
    }

    proptest! {
        #[test]
        fn the_map_equals_a_table_of_chunks(ops in prop::collection::vec((0u64..40, 1u64..8, 0u8..4), 0..60)) {
            let mut map = ChunkMap::default();
            let mut model: BTreeMap<u64, Place> = BTreeMap::new();
            let mut frame = 0;
            for (first, count, what) in ops {
                let place = match what {
                    0 => None,
                    1 => Some(Place::Reserved),
                    2 => { frame += 10; Some(Place::Apart { offset: 80 + frame * STRIDE, frame }) }
                    _ => { frame += 10; Some(Place::Stored { offset: 80 + frame * STRIDE, frame }) }
                };
                map.set(first, count, place);
                for n in 0..count {
                    match place {
                        None => { model.remove(&(first + n)); }
                        Some(p) => { model.insert(first + n, p.nth(n)); }
                    }
                }
                for chunk in 0..50 {
                    prop_assert_eq!(map.find(chunk), model.get(&chunk).copied());
                }
                for pair in map.runs().windows(2) {
                    prop_assert!(pair[0].end() <= pair[1].first);
                    prop_assert!(pair[0].end() < pair[1].first || pair[0].place.nth(pair[0].count) != pair[1].place);
                }
            }
            let content = Content { len: 50 * 65536, digest: None, map };
            let bytes = content.encode();
            prop_assert_eq!(Content::decode(&bytes, u64::MAX, u64::MAX).unwrap(), content);
        }

        #[test]
        fn frames_of_any_length_are_found_behind_one_another(
            frames in prop::collection::vec((0u64..20, prop_oneof![Just(STRIDE), 65..STRIDE]), 0..60),
        ) {
            let mut map = ChunkMap::default();
            let mut model: BTreeMap<u64, Place> = BTreeMap::new();
            let mut offset = 80;
            for (frame, (chunk, len)) in (0u64..).zip(frames) {
                let place = Place::Stored { offset, frame };
                map.set(chunk, 1, Some(place));
                model.insert(chunk, place);
                offset += len;
            }
            for chunk in 0..20 {
                prop_assert_eq!(map.find(chunk), model.get(&chunk).copied());
            }
            let chunks: Vec<u64> = model.keys().copied().collect();
            prop_assert_eq!(map.stretches(), chunks.chunk_by(|a, b| a + 1 == *b).count());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Content::decode(&bytes, 1 << 40, 1 << 30);
        }
    }
}
