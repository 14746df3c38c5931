//! Uploads: media without a name, written beside the tree and put into it whole.

use std::sync::Arc;

use super::ahead::ReadAhead;
use super::names::check_name;
use super::quota::Class;
use super::types::{Attr, NewNode, OpenMode};
use super::{OpenFile, Volume};
use crate::error::{Error, Kind, Result};
use crate::format::attributes::{Attributes, Link};
use crate::ids::{FileKind, Ino};
use crate::media;

impl Volume {
    /// Begins a medium that has no name: nobody sees it, and after a crash nothing of it is left. It is charged to `class`.
    ///
    /// End it with [`Volume::publish_upload`] or [`Volume::abandon`].
    ///
    /// # Errors
    /// `NoSpace`, `ClassLimit`, `Poisoned`.
    pub fn begin_upload(&self, class: Class, node: &NewNode) -> Result<OpenFile> {
        self.activity.note();
        self.store.latch().pass()?;
        self.wait_for_index()?;
        self.take_room(class, 0, 1)?;
        let ino = Ino(self.next_blob().0);
        let mut attrs = Attributes::new(ino, FileKind::Regular, self.clock.now());
        (attrs.mode, attrs.uid, attrs.gid) = (node.mode & 0o7777, node.uid, node.gid);
        let mut state = super::inode::State::new(super::record::Record::new(attrs), false);
        state.content = Some(Default::default());
        state.content_changed = true;
        state.writer = Some(Box::new(super::writer::Writer::from_start()));
        (state.opens, state.writers) = (1, 1);
        // As one that has lost its last name: nothing finds it, and no frame is written of it.
        state.removed = true;
        let inode = self.cache.insert(ino, state);
        self.tracking.orphans.lock().insert(ino, (Arc::clone(&inode), self.clock.now()));
        let mode = OpenMode { read: true, write: true, ..OpenMode::default() };
        Ok(OpenFile { inode, mode, class, is_look: false, ahead: ReadAhead::default() })
    }

    /// Gives an upload its name; when this returns, bytes, attributes, name and the way to it survive a loss of power.
    ///
    /// # Errors
    /// `Exists`, `NotFound` or `NotDirectory` for the directory, `NameTooLong`, `NoSpace`, `Poisoned`, `Io`; the upload is
    /// without a name then, as before.
    pub fn publish_upload(&self, file: OpenFile, parent: Ino, name: &[u8]) -> Result<Attr> {
        if let Err(error) = self.name_upload(&file, parent, name) {
            self.abandon(file);
            return Err(error);
        }
        let synced = self.sync_inode(&file.inode, true);
        self.close(file);
        if synced.is_err() {
            // Nobody was told of it.
            let _stays = self.unlink(parent, name);
        }
        synced?;
        self.lookup(parent, name)
    }

    fn name_upload(&self, file: &OpenFile, parent: Ino, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let inode = &file.inode;
        let _names = self.names.lock();
        let dir = self.directory(parent)?;
        if self.read_name(parent, name)?.is_some() {
            return Err(Error::new(Kind::Exists, "the name is taken"));
        }
        self.store.latch().pass()?;
        let mut state = inode.state.write();
        self.tracking.orphans.lock().remove(&inode.ino);
        state.removed = false;
        state.attrs_changed = true;
        if let Err(error) = self.note_change(inode, &state) {
            state.removed = true;
            self.tracking.dirty.lock().remove(&inode.ino);
            self.tracking.settle(inode.ino);
            self.tracking.orphans.lock().insert(inode.ino, (Arc::clone(inode), self.clock.now()));
            return Err(error);
        }
        let link = Link { parent, id: self.next_seq(), name: name.to_vec(), swapped: None };
        state.record.attrs.links.push(link.clone());
        self.tracking.writing.lock().insert(inode.ino);
        self.put_name(&link, inode.ino, FileKind::Regular);
        self.took_name(&link, inode.ino);
        drop(state);
        self.entry_changed(&dir, 0);
        self.tell_changed(parent);
        Ok(())
    }

    /// What the bytes of an upload are: MIME type, kind, and whether WhatsApp would take it.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn inspect_upload(&self, file: &OpenFile) -> Result<media::Facts> {
        let stream = self.stream(file.ino())?;
        let len = stream.len;
        media::inspect(stream, len, None).map_err(|e| Error::io("an upload", e))
    }

    /// Gives an upload up: nothing of it is left, and its room is free at once.
    pub fn abandon(&self, file: OpenFile) {
        let ino = file.ino();
        self.close(file);
        self.forget(ino);
    }
}
