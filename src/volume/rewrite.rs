//! Writing a blob anew, when much of it is dead or its content lies in many pieces; room for what only grows it.

use std::sync::Arc;

use super::Volume;
use super::inode::{Inode, State};
use super::room::COMMIT_LEN;
use super::writer::{Dirty, Writer};
use super::writing::allocated;
use crate::error::{Error, Kind, Result};
use crate::format::content::{Content, Place};
use crate::format::frame::{APART_STRIDE, CHUNK_LEN, FRAME_OVERHEAD, HEADER_LEN, STRIDE, TRAILER_LEN};
use crate::format::geometry::{chunk_count, chunk_len};

/// A blob is rewritten when it holds more dead bytes than half of its live ones and this.
const DEAD_BYTES: u64 = 256 << 10;
/// ... or, at a close, when its content lies in more runs than this, and in order it would lie in less than half as many.
const MANY_RUNS: usize = 1024;
/// Room above the floor that a rewrite leaves to others.
const MARGIN: u64 = 8 << 20;
/// Chunks that a rewrite hands over together; fewer go with the commit.
const BATCH: usize = 16;
/// Attributes of so many bytes, in a blob with so few dead ones, are written without asking the disk.
const SMALL_ATTRS: u64 = 4 << 10;
const FEW_DEAD: u64 = 16 << 10;

/// Bytes of a blob that still say something, and those that do not; none when it was not opened, or not committed yet.
fn live_and_dead(state: &State) -> Option<(u64, u64)> {
    let (content, open) = (state.content.as_ref()?, state.blob.as_ref()?);
    let at = state.record.location.filter(|at| at.blob == open.cipher.blob)?;
    let end_frame = state.record.attrs.end.map_or(0, |end| u64::from(end.len) + FRAME_OVERHEAD as u64);
    let attributes = u64::from(at.len) + (FRAME_OVERHEAD + TRAILER_LEN) as u64;
    let apart = content.map.apart_chunks();
    let frames = (content.map.stored_chunks() - apart) * STRIDE + apart * APART_STRIDE;
    let live = HEADER_LEN as u64 + frames + end_frame + attributes;
    // A place of the contents file that no frame tells of is dead, too.
    let contents = apart * CHUNK_LEN as u64;
    let dead = open.end.saturating_sub(live) + open.contents_len.saturating_sub(contents);
    Some((live + contents, dead))
}

/// Whether a blob is to be written anew for its dead bytes: so many that doing it costs no more than they did.
pub(super) fn is_wasteful(state: &State) -> bool {
    live_and_dead(state).is_some_and(|(live, dead)| dead > live / 2 + DEAD_BYTES)
}

fn is_scattered(state: &State) -> bool {
    let Some(map) = state.content.as_ref().map(|content| &content.map) else { return false };
    map.runs().len() > MANY_RUNS && map.runs().len() > 2 * map.stretches()
}

/// About the bytes of an attribute frame, from above.
fn attributes_len(state: &State) -> u64 {
    let attrs = &state.record.attrs;
    let values: usize = attrs.xattrs.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let names: usize =
        attrs.links.iter().map(|l| l.name.len() + 64 + l.swapped.as_ref().map_or(0, |s| s.name.len())).sum();
    (values + names) as u64
}

impl Volume {
    /// Rewrites the blob of a file that nobody writes, when that is worth it and the disk has the room.
    pub(super) fn tidy_up(&self, inode: &Arc<Inode>, state: &mut State) {
        if state.removed || state.writers > 0 || state.writer.is_some() || !(is_wasteful(state) || is_scattered(state))
        {
            return;
        }
        match self.rewrite(inode, state) {
            Ok(()) => self.facts_wanted(inode, state),
            Err(e) if e.kind() == Kind::NoSpace => tracing::debug!(ino = %inode.ino, "a blob is not rewritten: {e}"),
            Err(e) => tracing::warn!(ino = %inode.ino, "a blob was not rewritten in order: {e}"),
        }
    }

    /// Writes all that an inode is in order into a new blob; the old one goes when the new one is durable.
    ///
    /// # Errors
    /// `NoSpace`, `Damaged`, `Poisoned`, `Io`; nothing has changed.
    pub(super) fn rewrite(&self, inode: &Arc<Inode>, state: &mut State) -> Result<()> {
        let mut fresh = self.begin_rewrite(state)?;
        let outcome = self.copy_content(state, &mut fresh).and_then(|()| {
            self.note_change(inode, state)?;
            self.commit(inode, &mut fresh)
        });
        if let Err(e) = outcome {
            self.give_up_rewrite(inode, state, fresh);
            return Err(e);
        }
        if let Some(writer) = fresh.writer.take() {
            self.give_room_back(&fresh, writer.reserved);
        }
        fresh.indexed = state.indexed.take();
        fresh.replaced.append(&mut state.replaced);
        (fresh.opens, fresh.writers, fresh.view) = (state.opens, state.writers, state.view.take());
        *state = fresh;
        Ok(())
    }

    /// A state for the new blob, with nothing in it yet. Refused unless the disk keeps some room beside it.
    fn begin_rewrite(&self, state: &State) -> Result<State> {
        let content = self.content_of(state)?;
        let needed = content.map.stored_chunks() * STRIDE + attributes_len(state);
        let free = self.store.space()?.free;
        if free.saturating_sub(self.policy().floor_bytes) < needed + MARGIN {
            return Err(Error::new(Kind::NoSpace, format!("{needed} bytes are needed beside it for a while")));
        }
        let digest = state.record.attrs.digest;
        let mut fresh = State::new(state.record.clone(), false);
        fresh.replaced.extend(state.blob.as_ref().map(|open| open.cipher.blob));
        fresh.content = Some(Content { len: state.record.len, digest, ..Content::default() });
        fresh.writer = Some(Box::new(if digest.is_some() { Writer::default() } else { Writer::from_start() }));
        fresh.attrs_changed = true;
        fresh.content_changed = state.record.attrs.end.is_some();
        Ok(fresh)
    }

    fn copy_content(&self, state: &State, fresh: &mut State) -> Result<()> {
        let content = self.content_of(state)?;
        let chunks = content.map.stored_chunks();
        let len = state.record.len;
        let is_one = content.map.stored_chunks() == chunk_count(len);
        if chunks >= BATCH as u64 {
            // What is handed over must not fail.
            if self.contents_apart && is_one {
                self.prepare_apart(fresh, len, chunks, attributes_len(state) + COMMIT_LEN)?;
            } else {
                self.promise_room(fresh, chunks, u64::MAX)?;
            }
        }
        let mut plain = vec![0; CHUNK_LEN];
        for run in content.map.runs() {
            if let Some(content) = &mut fresh.content {
                // A chunk in memory is one that has room and no place yet.
                content.map.set(run.first, run.count, Some(Place::Reserved));
            }
            if run.place == Place::Reserved {
                continue;
            }
            for chunk in run.first..run.first + run.count {
                let part = plain.get_mut(..chunk_len(len, chunk)).unwrap_or_default();
                self.read_state(state, chunk * CHUNK_LEN as u64, part)?;
                self.put_for_rewrite(fresh, chunk, part)?;
            }
        }
        debug_assert_eq!(fresh.content.as_ref().map(|c| allocated(&c.map, len)), Some(state.record.allocated));
        Ok(())
    }

    fn put_for_rewrite(&self, fresh: &mut State, chunk: u64, plain: &[u8]) -> Result<()> {
        self.store.latch().pass()?;
        let mut frame = self.sealer.buffer();
        frame.extend_from_slice(plain);
        let mut full = Vec::new();
        if let Some(writer) = &mut fresh.writer {
            writer.dirty.insert(chunk, Dirty { frame, is_clean: false });
            if writer.dirty.len() >= BATCH {
                full = writer.dirty.iter().filter(|(_, d)| d.is_full()).map(|(c, _)| *c).collect();
            }
        }
        if full.is_empty() { Ok(()) } else { self.hand_over(fresh, &full) }
    }

    /// Takes back what a rewrite that failed has left. A blob that cannot be removed stays young, so that the next open
    /// after an unclean end looks at it.
    fn give_up_rewrite(&self, inode: &Arc<Inode>, state: &State, fresh: State) {
        if let Some(writer) = &fresh.writer {
            writer.flight.wait();
        }
        if !state.is_uncommitted() {
            self.tracking.settle(inode.ino);
        }
        let Some(open) = fresh.blob else { return };
        match self.store.remove(open.cipher.blob) {
            Ok(()) => {
                self.tracking.young.lock().remove(&open.cipher.blob);
            }
            Err(e) => tracing::warn!("blob {} was begun in vain and stays: {e}", open.cipher.blob),
        }
    }

    /// Asks for room above the floor for an attribute frame, with `more` bytes than there are now, that is large or goes
    /// into a blob with dead bytes. What is usual costs no system call.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub(super) fn room_for_attributes(&self, state: &State, more: usize) -> Result<()> {
        let len = attributes_len(state) + more as u64;
        let dead = live_and_dead(state).map_or(0, |(_, dead)| dead);
        // At the end all that waits is written, whatever is left.
        if (len <= SMALL_ATTRS && dead <= FEW_DEAD) || *self.stop.lock() {
            return Ok(());
        }
        if self.store.space()?.free.saturating_sub(self.policy().floor_bytes) > len + FEW_DEAD {
            return Ok(());
        }
        Err(Error::new(Kind::NoSpace, "the disk under the store has no room for more attributes"))
    }
}
