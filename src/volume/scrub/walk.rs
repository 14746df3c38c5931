//! The work of a scrub: one step after the other, none of which holds anything from requests for long.

use std::ops::Bound;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::note::{DamagedMedium, MAX_NAMED, Note, ScrubRun};
use crate::error::{Kind, Result};
use crate::format::content::Place;
use crate::format::frame::{APART_STRIDE, CHUNK_LEN, STRIDE};
use crate::format::geometry::{chunk_count, chunk_len};
use crate::ids::Ino;
use crate::index::{Table, schema};
use crate::store::Blob;
use crate::sync::atomic::Ordering;
use crate::volume::Volume;
use crate::volume::inode::{Inode, State};
use crate::volume::record::Location;

/// What looking at one blob costs beside its bytes, in bytes.
const BLOB_COST: u64 = 16 << 10;
/// The longest path that is noted, in bytes.
const MAX_PATH: usize = 500;

/// The medium that a scrub is at.
struct Current {
    inode: Arc<Inode>,
    /// What it was when its first chunk was read.
    at: Location,
    /// The next chunk.
    chunk: u64,
    /// The digest of all before, unless something was left out.
    sha: Option<Sha256>,
    /// Whether it was counted as damaged.
    is_counted: bool,
}

/// Where a scrub is. What is durable of it stands in the note.
#[derive(Default)]
pub(super) struct Walk {
    current: Option<Current>,
}

/// What a step did.
pub(super) struct Step {
    /// What it cost, in bytes.
    pub cost: u64,
    /// Whether nothing is left to do.
    pub is_end: bool,
    /// Whether something damaged was found.
    pub is_hurt: bool,
}

impl Walk {
    /// Does the next step of a run: at most `chunks` chunks, or one blob.
    pub fn step(&mut self, volume: &Volume, note: &mut Note, chunks: u64) -> Result<Step> {
        let Some(run) = &mut note.run else { return Ok(Step { cost: 0, is_end: true, is_hurt: false }) };
        let before = run.damaged;
        let (mut run, mut is_end) = (run.clone(), false);
        let cost = match &mut self.current {
            Some(_) => self.go_on(volume, note, &mut run, chunks)?,
            None => {
                let from = run.chunk;
                let found = match from {
                    // Cut short in the middle of it; its digest is left out this time.
                    Some(_) => Some(Ino(run.inode)),
                    None => next_inode(volume, run.inode)?,
                };
                match found {
                    Some(ino) => self.begin(volume, note, &mut run, ino, from)?,
                    None => is_end = true,
                }
                BLOB_COST
            }
        };
        let is_hurt = run.damaged > before;
        volume.scrubbing.found.fetch_add(run.damaged.saturating_sub(before), Ordering::AcqRel);
        note.run = Some(run);
        Ok(Step { cost, is_end, is_hurt })
    }

    /// Looks at the attributes of an inode, and has its content verified by the next steps: from chunk `from` on when the run
    /// was cut short there.
    fn begin(
        &mut self,
        volume: &Volume,
        note: &mut Note,
        run: &mut ScrubRun,
        ino: Ino,
        from: Option<u64>,
    ) -> Result<()> {
        (run.inode, run.chunk) = (ino.0, None);
        // What the last scrub found is looked at now.
        let known = note.damaged.iter().position(|damaged| damaged.inode == ino.0);
        let known = known.map(|nth| note.damaged.remove(nth));
        let inode = match volume.inode(ino) {
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Damaged) => return Ok(()),
            other => other?,
        };
        let mut state = inode.state.write();
        let Some(at) = state.record.location.filter(|_| !state.removed) else { return Ok(()) };
        run.blobs += u64::from(from.is_none());
        if let Some(problem) = volume.problems_of(&mut state, at).into_iter().next() {
            run.damaged += 1;
            note_damage(volume, note, &state, None, problem);
            return Ok(());
        }
        if !state.record.is_medium() || state.record.len == 0 {
            return Ok(());
        }
        drop(state);
        // What this run found in it before it was cut short holds, and is counted.
        let before =
            known.filter(|known| from.is_some() && known.found >= run.started && known.blob == at.blob.to_string());
        let is_counted = before.is_some();
        note.damaged.extend(before);
        let chunk = from.unwrap_or_default();
        run.chunk = Some(chunk);
        self.current = Some(Current { inode, at, chunk, sha: (chunk == 0).then(Sha256::new), is_counted });
        Ok(())
    }

    /// Verifies some chunks of the medium it is at.
    fn go_on(&mut self, volume: &Volume, note: &mut Note, run: &mut ScrubRun, chunks: u64) -> Result<u64> {
        let Some(current) = &mut self.current else { return Ok(0) };
        let inode = Arc::clone(&current.inode);
        let state = inode.state.read_recursive();
        if let Some(writer) = &state.writer {
            writer.flight.wait();
        }
        let (mut cost, mut done) = (0, 0);
        let mut problem = None;
        let mut is_counted = current.is_counted;
        let mut plain = vec![0; CHUNK_LEN];
        while let (true, None) = (done < chunks, &problem) {
            let content = state.content.as_ref().filter(|_| !state.removed);
            let Some((chunk, place)) = content.and_then(|content| content.map.next_stored(current.chunk)) else {
                problem = current.wrong_digest(&state).map(|problem| (None, problem));
                self.current = None;
                run.chunk = None;
                break;
            };
            if chunk != current.chunk {
                current.sha = None;
            }
            if let Some(blob) = state.blob.as_ref().and_then(|open| volume.blob_of(open).ok()) {
                comes_from_disk(&*blob, place, chunk);
            }
            let part = plain.get_mut(..chunk_len(state.record.len, chunk)).unwrap_or_default();
            match volume.read_state(&state, chunk * CHUNK_LEN as u64, part) {
                Ok(got) => {
                    run.bytes += got as u64;
                    if let Some(sha) = &mut current.sha {
                        sha.update(&*part);
                    }
                }
                // A part of the disk that cannot be read any more is damage, too.
                Err(e) if matches!(e.kind(), Kind::Damaged | Kind::Io) => {
                    current.sha = None;
                    problem = Some((Some(chunk), e.to_string()));
                }
                Err(e) => return Err(e),
            }
            cost += STRIDE;
            done += 1;
            current.chunk = chunk + 1;
            run.chunk = Some(chunk + 1);
        }
        if let Some((chunk, problem)) = problem.filter(|_| !state.removed) {
            if !std::mem::replace(&mut is_counted, true) {
                run.damaged += 1;
            }
            note_damage(volume, note, &state, chunk, problem);
        }
        if let Some(current) = &mut self.current {
            current.is_counted = is_counted;
        }
        Ok(cost)
    }
}

impl Current {
    /// What is wrong with the digest of a medium that was read to its end without being changed.
    fn wrong_digest(&mut self, state: &State) -> Option<String> {
        let sha = self.sha.take()?;
        let is_same = state.record.location == Some(self.at) && !state.content_changed && state.writers == 0;
        let expected = state.record.attrs.digest.filter(|_| is_same)?;
        if self.chunk < chunk_count(state.record.len) {
            return None;
        }
        let found: [u8; 32] = sha.finalize().into();
        (found != expected).then(|| "its digest is not the one that is noted".to_owned())
    }
}

/// Has what is read next of a chunk come from the disk.
fn comes_from_disk(blob: &dyn Blob, place: Place, chunk: u64) {
    match place {
        Place::Stored { offset, .. } => blob.will_come_from_disk(offset, offset + STRIDE),
        Place::Apart { offset, .. } => {
            blob.will_come_from_disk(offset, offset + APART_STRIDE);
            blob.contents_will_come_from_disk(chunk * CHUNK_LEN as u64, (chunk + 1) * CHUNK_LEN as u64);
        }
        Place::Reserved => {}
    }
}

fn next_inode(volume: &Volume, after: u64) -> Result<Option<Ino>> {
    let after = schema::inode(Ino(after));
    let keys = volume.index.scan_keys(Table::Inodes, Bound::Excluded(&after), Bound::Unbounded, 1)?;
    Ok(keys.first().and_then(|key| schema::parse_inode(key)))
}

/// Notes that a medium is damaged, once for each, and logs it, without its name.
fn note_damage(volume: &Volume, note: &mut Note, state: &State, chunk: Option<u64>, problem: String) {
    let inode = state.record.attrs.ino.0;
    let id = volume.id_of_record(&state.record).to_string();
    tracing::warn!(medium = %id, ?chunk, "the scrub found damage: {problem}");
    if note.damaged.len() >= MAX_NAMED || note.damaged.iter().any(|damaged| damaged.inode == inode) {
        return;
    }
    let path = shown(&volume.path_of_record(&state.record));
    let blob = state.record.location.map_or_else(String::new, |at| at.blob.to_string());
    note.damaged.push(DamagedMedium { inode, id, path, blob, chunk, problem, found: volume.clock.now() });
}

/// A path as it is noted. Characters that JSON would make six of are left out of it, so that the note stays one that is read.
fn shown(path: &[u8]) -> String {
    let mut shown: String = String::from_utf8_lossy(path)
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    while shown.len() > MAX_PATH {
        shown.pop();
    }
    shown
}
