//! Committing: what changed becomes frames; syncing: the frames become durable; closing a file publishes it.

use std::collections::HashSet;
use std::io::IoSlice;
use std::sync::Arc;

use sha2::Digest;

use super::ahead::ReadAhead;
use super::apart::{ApartChunk, write_apart};
use super::inode::{Inode, OpenBlob, State};
use super::quota::Class;
use super::record::Location;
use super::rewrite::is_wasteful;
use super::sealer::Buffer;
use super::types::{OpenMode, SetAttr};
use super::writer::Writer;
use super::writing::without_privileges;
use super::{OpenFile, SNIFF_BYTES, Volume};
use crate::error::{Error, Kind, Result};
use crate::format::attributes::{EndRef, Facts};
use crate::format::content::{Content, Place};
use crate::format::frame::{FRAME_OVERHEAD, FrameKind, HEAD_LEN, MAX_META_LEN, TAG_LEN, TRAILER_LEN, encode_trailer};
use crate::format::geometry::{chunk_count, chunk_len};
use crate::ids::{FileKind, Ino};
use crate::media;
use crate::store::Blob;

/// An inode, the sequence number of its newest frame, and the blob in which that is to be made durable.
type Committed = (Ino, u64, Arc<dyn Blob>);

impl Volume {
    /// Writes what no frame says yet: changed chunks, the end frame, the attributes, with one system call.
    /// It outlives this process then, and a power loss once the blob is synced.
    ///
    /// Nothing an earlier commit wrote is touched: until the new attribute frame is whole, the old one stands.
    ///
    /// # Errors
    /// `NoSpace`, `Poisoned`, `Io`; everything is still in memory and can be committed again.
    pub(super) fn commit(&self, inode: &Arc<Inode>, state: &mut State) -> Result<()> {
        if !state.content_changed && state.attrs_changed {
            self.room_for_attributes(state, 0)?;
        }
        self.commit_parts(inode, state, true)
    }

    /// The same, and a full disk gives what was put aside for this; the floor of the disk gives nothing.
    fn commit_with_ballast(&self, inode: &Arc<Inode>, state: &mut State) -> Result<()> {
        if !state.content_changed && state.attrs_changed {
            self.room_for_attributes(state, 0)?;
        }
        self.ballast.with_room(|| self.commit_parts(inode, state, true))
    }

    /// Commits names and attributes, but no content that is still being written: that is for its own fsync or close to
    /// publish. A new file nobody has synced or closed is left out altogether.
    ///
    /// # Errors
    /// As [`Volume::commit`].
    pub(super) fn commit_names(&self, inode: &Arc<Inode>, state: &mut State) -> Result<()> {
        if state.writers == 0 || !state.content_changed {
            return self.commit(inode, state);
        }
        let is_same_blob = |blob| state.blob.as_ref().is_some_and(|open| open.cipher.blob == blob && !open.is_new);
        match state.record.location {
            None => Ok(()),
            Some(at) if is_same_blob(at.blob) => {
                self.room_for_attributes(state, 0)?;
                self.commit_parts(inode, state, false)
            }
            Some(at) => self.commit_to_former(inode, state, at),
        }
    }

    /// Commits names and attributes to the blob that holds the published content, while a new content is being written
    /// to a blob of its own.
    fn commit_to_former(&self, inode: &Arc<Inode>, state: &mut State, at: Location) -> Result<()> {
        if state.removed || !state.attrs_changed {
            return Ok(());
        }
        let former = self.committed_blob(&at);
        // What was appended there and never committed was given up with that blob.
        self.blob_of(&former)?.cut(former.end)?;
        let (young, replaced) = (state.blob.replace(former), std::mem::take(&mut state.replaced));
        let outcome = self.commit_parts(inode, state, false);
        (state.blob, state.replaced) = (young, replaced);
        outcome
    }

    fn commit_parts(&self, inode: &Arc<Inode>, state: &mut State, with_content: bool) -> Result<()> {
        let is_needed = state.attrs_changed || (with_content && state.content_changed);
        if state.removed || !is_needed {
            return Ok(());
        }
        self.write_parts(inode, state, with_content)
    }

    /// Writes a commit that is needed, of an inode without a name too.
    pub(super) fn write_parts(&self, inode: &Arc<Inode>, state: &mut State, with_content: bool) -> Result<()> {
        self.open_for_append(state)?;
        if let Some(writer) = &state.writer {
            writer.flight.wait();
        }
        self.store.latch().pass()?;
        let mut open = match &state.blob {
            Some(open) => open.clone(),
            None => return Err(Error::new(Kind::Io, "no blob to commit to")),
        };
        let start = if open.is_new { 0 } else { open.end };
        let header = open.is_new.then(|| open.cipher.header());
        let (mut chunks, mut apart, mut tail) = (Vec::new(), Vec::new(), Vec::with_capacity(3));
        let mut record = state.record.clone();
        let mut content = None;
        if with_content && state.content_changed {
            let mut sealed = self.content_of(state)?.clone();
            self.seal_dirty(state, &mut open, &mut sealed, (&mut chunks, &mut apart));
            // What is known of a content that only moves is known of it there.
            if sealed.digest.is_none() {
                sealed.digest = self.digest_of(state, &sealed);
                record.attrs.facts = self.facts_of(state);
            }
            record.attrs.digest = sealed.digest;
            let payload = sealed.encode();
            expect_readable(&payload)?;
            let frame = open.cipher.seal_meta(FrameKind::End, open.end, open.next_frame, &payload);
            let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            record.attrs.end = Some(EndRef {
                offset: open.end,
                len,
                frame: open.next_frame,
                content_len: record.len,
                allocated: record.allocated,
            });
            open.end += frame.bytes.len() as u64;
            open.next_frame += 1;
            tail.push(frame.bytes);
            content = Some(sealed);
        }
        let writing = self.begin_frame();
        record.attrs.seq = writing.seq;
        let payload = record.attrs.encode();
        expect_readable(&payload)?;
        let frame = open.cipher.seal_meta(FrameKind::Attributes, open.end, open.next_frame, &payload);
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let (blob, salt) = (open.cipher.blob, open.cipher.salt);
        record.location = Some(Location { blob, salt, offset: open.end, len, frame: open.next_frame, tag: frame.tag });
        open.end += (frame.bytes.len() + TRAILER_LEN) as u64;
        open.next_frame += 1;
        tail.push(frame.bytes);
        tail.push(encode_trailer(len).to_vec());
        let file = if open.is_new { self.store.create(open.cipher.blob)? } else { self.blob_of(&open)? };
        let parts = header.iter().chain(chunks.iter().map(|chunk| &**chunk)).chain(&tail);
        let bufs: Vec<IoSlice<'_>> = parts.map(|part| IoSlice::new(part)).collect();
        write_apart(&*file, apart.iter().map(|apart| (apart.chunk, &apart.bytes)))?;
        if let Err(e) = file.write_at(&bufs, start) {
            if open.is_new {
                // So that the next try can create it again.
                self.store.remove(open.cipher.blob)?;
            }
            return Err(e);
        }
        open.is_new = false;
        state.record = record;
        state.blob = Some(open);
        if let Some(content) = content {
            state.content = Some(content);
        }
        state.attrs_changed = false;
        if with_content {
            state.content_changed = false;
            self.settle_writer(state);
        }
        self.committed(inode, state);
        Ok(())
    }

    /// Seals the chunks in memory behind one another; the originals stay until the write is done.
    fn seal_dirty(
        &self,
        state: &State,
        open: &mut OpenBlob,
        content: &mut Content,
        (chunks, apart): (&mut Vec<Buffer>, &mut Vec<ApartChunk>),
    ) {
        let Some(writer) = &state.writer else { return };
        for (chunk, dirty) in writer.dirty.iter().filter(|(_, d)| !d.is_clean) {
            if dirty.plaintext().is_empty() {
                content.map.set(*chunk, 1, Some(Place::Reserved));
                continue;
            }
            let mut frame = self.sealer.buffer();
            frame.clear();
            frame.reserve_exact(dirty.frame.len() + TAG_LEN);
            frame.extend_from_slice(&dirty.frame);
            let (offset, number) = (open.end, open.next_frame);
            let place = if open.goes_apart(*chunk, dirty.plaintext().len()) {
                let plain = frame.get_mut(HEAD_LEN..).unwrap_or_default();
                let sealed = open.cipher.seal_apart(offset, number, *chunk, plain);
                let bytes = std::mem::replace(&mut frame, self.sealer.buffer());
                apart.push(ApartChunk { chunk: *chunk, bytes });
                frame.clear();
                frame.extend_from_slice(&sealed);
                Place::Apart { offset, frame: number }
            } else {
                open.cipher.seal(FrameKind::Data, offset, number, *chunk, &mut frame);
                Place::Stored { offset, frame: number }
            };
            content.map.set(*chunk, 1, Some(place));
            open.end += frame.len() as u64;
            open.next_frame += 1;
            chunks.push(frame);
        }
    }

    /// The digest, when the running one reaches the end of the content.
    fn digest_of(&self, state: &State, content: &Content) -> Option<[u8; 32]> {
        let writer = state.writer.as_ref()?;
        let mut next = writer.next_hashed?;
        let mut sha = writer.lane.digest();
        for (chunk, dirty) in writer.dirty.range(next..) {
            if *chunk != next || dirty.plaintext().len() != chunk_len(content.len, *chunk) {
                return None;
            }
            sha.update(dirty.plaintext());
            next += 1;
        }
        (next == chunk_count(content.len)).then(|| sha.finalize().into())
    }

    /// What the first bytes say, or what was known when they did not change.
    fn facts_of(&self, state: &State) -> Option<Facts> {
        let record = &state.record;
        let writer = state.writer.as_ref()?;
        let head = match (writer.dirty.get(&0), &writer.head) {
            (Some(dirty), _) => dirty.plaintext().get(..SNIFF_BYTES).unwrap_or(dirty.plaintext()),
            (None, Some(head)) => head,
            (None, None) if record.len == 0 => &[],
            (None, None) => {
                let known = record.attrs.facts.clone();
                return known.map(|facts| Facts { verdict: 0, ..facts });
            }
        };
        let name = record.attrs.links.first().map(|l| l.name.as_slice());
        let mime = media::sniff(head, record.len, name);
        Some(Facts { kind: media::kind_of(mime).code(), verdict: 0, mime: mime.to_string() })
    }

    /// After a commit only the last, unfinished chunk stays in memory, for an append that goes on there.
    fn settle_writer(&self, state: &mut State) {
        let last = chunk_count(state.record.len).saturating_sub(1);
        let Some(writer) = &mut state.writer else { return };
        let mut hashed = writer.next_hashed;
        let chunks: Vec<u64> = writer.dirty.keys().copied().collect();
        for chunk in chunks {
            let Some(dirty) = writer.dirty.get_mut(&chunk) else { continue };
            dirty.is_clean = true;
            let is_full = dirty.is_full();
            if is_full && hashed == Some(chunk) {
                writer.lane.update(dirty.plaintext());
                hashed = Some(chunk + 1);
            }
            if (is_full || chunk != last)
                && let Some(dirty) = writer.dirty.remove(&chunk)
                && chunk == 0
            {
                writer.head = Some(dirty.plaintext().get(..SNIFF_BYTES).unwrap_or(dirty.plaintext()).to_vec());
            }
        }
        writer.next_hashed = hashed;
    }

    /// Makes an open file durable: content, attributes, its name, and every directory on the way to it.
    ///
    /// # Errors
    /// `NoSpace`, `Poisoned`, `Io`.
    pub fn fsync(&self, file: &OpenFile, _data_only: bool) -> Result<()> {
        self.activity.note_end(true);
        self.sync_inode(&file.inode, true)
    }

    /// Makes an inode durable with the directories on the way to it; a content that is still being written only
    /// `with_content`.
    pub(super) fn sync_inode(&self, inode: &Arc<Inode>, with_content: bool) -> Result<()> {
        self.sync_leavers(inode)?;
        self.sync_alone(inode, with_content)
    }

    /// The same without those that have left names for it.
    pub(super) fn sync_alone(&self, inode: &Arc<Inode>, with_content: bool) -> Result<()> {
        let mut to_sync = Vec::new();
        let mut seen = HashSet::from([inode.ino]);
        let mut next = vec![Arc::clone(inode)];
        while let Some(inode) = next.pop() {
            for parent in self.commit_for_sync(&inode, &mut to_sync, seen.len() == 1, with_content)? {
                if !seen.insert(parent) {
                    continue;
                }
                match self.inode(parent) {
                    // One that cannot be looked at is either durable, or the sync has failed.
                    Err(e) if self.is_unsynced(parent) => return Err(e),
                    found => next.extend(found.ok()),
                }
            }
        }
        self.ledger.sync()?;
        for (ino, seq, blob) in to_sync {
            blob.sync()?;
            self.synced(ino, seq);
        }
        Ok(())
    }

    /// Commits an inode when it, or for an ancestor its name, is not durable yet; gives its parents.
    fn commit_for_sync(
        &self,
        inode: &Arc<Inode>,
        to_sync: &mut Vec<Committed>,
        always: bool,
        with_content: bool,
    ) -> Result<Vec<Ino>> {
        let is_unsynced = always || self.is_unsynced(inode.ino);
        if is_unsynced {
            let mut state = inode.state.write();
            if with_content {
                self.commit(inode, &mut state)?;
            } else {
                self.commit_names(inode, &mut state)?;
            }
            if let Some(at) = state.record.location.filter(|_| !state.removed) {
                let blob = self.store.open(at.blob)?;
                let blob = blob.ok_or_else(|| Error::new(Kind::Damaged, format!("blob {} is missing", at.blob)))?;
                to_sync.push((inode.ino, state.record.attrs.seq, blob));
            }
        }
        let state = inode.state.read();
        Ok(state.record.attrs.links.iter().map(|link| link.parent).collect())
    }

    /// Opens a regular file.
    ///
    /// # Errors
    /// `NotFound`, `IsDirectory`, `Invalid` for what is no file, `Damaged` when its blob is not what the index knows,
    /// `Poisoned` when it is to be written.
    pub fn open_file(&self, ino: Ino, mode: OpenMode) -> Result<OpenFile> {
        self.activity.note();
        let inode = self.inode(ino)?;
        let mut state = if mode.write || mode.truncate { self.claim(&inode) } else { inode.state.write() };
        match state.record.attrs.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Kind::IsDirectory.into()),
            _ => return Err(Kind::Invalid.into()),
        }
        if mode.truncate && state.record.len > 0 {
            self.begin_change(&inode, &mut state).or_else(|e| self.give_up_content(&inode, &mut state, e))?;
            self.set_len(&mut state, 0)?;
            self.content_changed(&mut state, false);
        } else {
            self.load(&mut state).map_err(|e| self.name_medium(&state, e))?;
        }
        if mode.write {
            self.store.latch().pass()?;
            state.writers += 1;
            self.tracking.writing.lock().insert(ino);
        }
        state.opens += 1;
        self.note_use(&inode, &mut state, mode);
        drop(state);
        Ok(OpenFile { inode, mode, class: Class::General, is_look: false, ahead: ReadAhead::default() })
    }

    /// A damaged content may be overwritten as a whole: what cannot be read is not asked for.
    fn give_up_content(&self, inode: &Arc<Inode>, state: &mut State, e: Error) -> Result<()> {
        if e.kind() != Kind::Damaged {
            return Err(e);
        }
        self.note_change(inode, state)?;
        // Who sees it by the kernel alone goes on seeing what is damaged.
        state.view = None;
        state.content = Some(Content { len: state.record.len, ..Content::default() });
        state.writer = Some(Box::new(Writer::from_start()));
        state.replaced.extend(state.record.location.map(|at| at.blob));
        state.blob = None;
        Ok(())
    }

    /// Closes a file. The last handle that could write publishes the content.
    ///
    /// Acknowledged bytes that cannot be written then close the latch: the volume refuses writes until it is mounted
    /// again, and says so in `status`.
    pub fn close(&self, file: OpenFile) {
        if let Some(inode) = self.let_go(file) {
            self.publish_closed(&inode, &mut inode.state.write());
        }
    }

    /// Closes a file; what was written is published beside the caller, in a moment. Else as [`Volume::close`].
    pub fn close_soon(&self, file: OpenFile) {
        if let Some(inode) = self.let_go(file) {
            self.publish_soon(&inode);
        }
    }

    /// Takes a handle back; gives the inode when it has a content to publish.
    fn let_go(&self, file: OpenFile) -> Option<Arc<Inode>> {
        let inode = file.inode;
        let mut state = inode.state.write();
        state.opens = state.opens.saturating_sub(1);
        if file.mode.write {
            state.writers = state.writers.saturating_sub(1);
        }
        if state.writers == 0 {
            self.tracking.writing.lock().remove(&inode.ino);
        }
        let is_over = state.removed && state.opens == 0;
        let has_news = state.has_unpublished();
        if has_news && state.content_changed {
            self.activity.note_end(false);
        }
        if !state.removed && (state.writers > 0 || state.writer.is_none()) {
            self.note_use(&inode, &mut state, file.mode);
        }
        drop(state);
        if is_over {
            self.last_close(&inode);
        }
        has_news.then_some(inode)
    }

    /// Commits a content that nobody writes any more, and rewrites its blob when too much of it is dead.
    pub(super) fn publish(&self, inode: &Arc<Inode>, state: &mut State) {
        if state.removed {
            return;
        }
        match self.commit_with_ballast(inode, state) {
            Ok(()) => {
                if let Some(writer) = &state.writer {
                    writer.flight.wait();
                    self.give_room_back(state, writer.reserved);
                }
                state.writer = None;
                self.facts_wanted(inode, state);
                self.tidy_up(inode, state);
            }
            Err(e) if e.kind() == Kind::Poisoned => {}
            Err(e) if e.kind() == Kind::NoSpace => self.waits_for_room(inode, &e),
            Err(e) => self.store.latch().close(format!("acknowledged bytes could not be kept: {e}")),
        }
    }

    /// Has what a full disk had no room for tried again when the volume has time.
    fn waits_for_room(&self, inode: &Arc<Inode>, e: &Error) {
        if self.tracking.unpublished.lock().insert(inode.ino, Arc::clone(inode)).is_none() {
            tracing::warn!(ino = %inode.ino, "a change waits in memory for room on the disk: {e}");
        }
    }

    /// Gives back what the disk had promised for this blob beyond what it has become: best effort.
    pub(super) fn give_room_back(&self, state: &State, reserved: u64) {
        if let Some(open) = state.blob.as_ref().filter(|open| open.end < reserved)
            && let Err(e) = self.blob_of(open).and_then(|blob| blob.cut(open.end))
        {
            tracing::warn!("blob {}: the room it does not need stays taken: {e}", open.cipher.blob);
        }
    }

    /// Changes attributes; the length too.
    ///
    /// # Errors
    /// `NotFound`; as [`Volume::write`] when the length changes; `Invalid` for the length of what is no file.
    pub fn setattr(&self, ino: Ino, change: &SetAttr) -> Result<super::types::Attr> {
        let inode = self.inode(ino)?;
        let mut state = if change.size.is_some() { self.claim(&inode) } else { inode.state.write() };
        let now = self.clock.now();
        if let Some(len) = change.size {
            match state.record.attrs.kind {
                FileKind::Regular => {}
                FileKind::Directory => return Err(Kind::IsDirectory.into()),
                _ => return Err(Kind::Invalid.into()),
            }
            self.begin_change(&inode, &mut state)?;
            self.set_len(&mut state, len)?;
            self.content_changed(&mut state, change.drop_privileges);
        } else {
            self.store.latch().pass()?;
            self.note_change(&inode, &state)?;
        }
        let attrs = &mut state.record.attrs;
        attrs.mode = change.mode.map_or(attrs.mode, |mode| mode & 0o7777);
        attrs.uid = change.uid.unwrap_or(attrs.uid);
        attrs.gid = change.gid.unwrap_or(attrs.gid);
        if change.drop_privileges && change.mode.is_none() && attrs.kind != FileKind::Directory {
            attrs.mode = without_privileges(attrs.mode);
        }
        attrs.atime = change.atime.unwrap_or(attrs.atime);
        attrs.mtime = change.mtime.unwrap_or(attrs.mtime);
        attrs.ctime = now;
        if let Some(atime) = change.atime {
            attrs.used = atime;
        }
        self.attrs_changed(&inode, &mut state)?;
        Ok(state.record.attr())
    }

    /// Writes changed names, at once: those of a file that is open for writing too, if it has a blob. Only its content is
    /// for its fsync or close to publish.
    pub(super) fn names_changed(&self, inode: &Arc<Inode>, state: &mut State) -> Result<()> {
        self.attrs_changed(inode, state)?;
        if state.writers == 0 {
            return Ok(());
        }
        match self.ballast.with_room(|| self.commit_names(inode, state)) {
            // The last close tries again.
            Err(e) if e.kind() == Kind::NoSpace => Ok(()),
            other => other,
        }
    }

    /// Writes changed attributes, at once unless the file is open for writing and its close will, or the disk is full:
    /// then when there is room, so that a name can be taken from a file on a full disk too.
    pub(super) fn attrs_changed(&self, inode: &Arc<Inode>, state: &mut State) -> Result<()> {
        state.attrs_changed = true;
        self.mark_dirty(inode);
        if state.writers > 0 {
            return Ok(());
        }
        if state.writer.is_some() {
            self.publish(inode, state);
            return self.store.latch().pass();
        }
        match self.commit_with_ballast(inode, state) {
            Err(e) if e.kind() == Kind::NoSpace => self.waits_for_room(inode, &e),
            other => other?,
        }
        if is_wasteful(state) {
            // By another thread: who changes a name may hold more than this inode.
            self.publisher.offer(inode);
        }
        Ok(())
    }
}

/// Refuses the payload of a frame that no reader would take.
fn expect_readable(payload: &[u8]) -> Result<()> {
    if payload.len() <= MAX_META_LEN {
        return Ok(());
    }
    Err(Error::new(Kind::TooLarge, format!("what is to be told of a file is at most {MAX_META_LEN} bytes")))
}

// A frame in memory is one frame on disk without its tag.
const _: () = assert!(HEAD_LEN < FRAME_OVERHEAD);
