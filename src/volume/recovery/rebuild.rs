//! The whole way: every blob, one after the other.

use super::Recovery;
use super::blobs::Found;
use crate::error::Result;
use crate::ids::{BlobId, FileKind};
use crate::volume::truth::Truth;

/// Blobs between two calls of the progress function.
const PROGRESS_STEP: u64 = 256;

impl Recovery<'_> {
    /// Puts what every blob says into the empty index.
    pub(super) fn read_all(&mut self, progress: &dyn Fn(u64, u64)) -> Result<()> {
        let mut all = Vec::new();
        self.volume.store.list(BlobId(0), &mut |id| {
            all.push(id);
            Ok(())
        })?;
        let total = all.len() as u64;
        for (done, id) in (0u64..).zip(all) {
            if done.is_multiple_of(PROGRESS_STEP) {
                progress(done, total);
                if self.volume.index.wants_write() {
                    self.volume.put_totals();
                    self.volume.index.freeze();
                    self.volume.index.write_frozen()?;
                }
            }
            if self.journals.dropped.contains(&id) {
                self.gone.push(id);
                continue;
            }
            match self.look_at(id, None)? {
                Found::Truth(truth) => self.put_newer(id, &truth)?,
                Found::Nothing if id.0 >= self.journals.first_new_blob && self.journals.first_new_blob > 0 => {
                    self.drop_uncommitted(id);
                }
                Found::Nothing => self.notes.push(format!("blob {id}: no whole attributes are left in it")),
                Found::Damaged => {}
            }
        }
        progress(total, total);
        Ok(())
    }

    /// Puts an inode in, unless a newer state of it is in already.
    fn put_newer(&mut self, id: BlobId, truth: &Truth) -> Result<()> {
        let record = truth.record.clone();
        let ino = record.attrs.ino;
        if self.journals.removed.contains_key(&ino) && record.attrs.kind != FileKind::Directory {
            self.gone.push(id);
            return Ok(());
        }
        match self.volume.read_record(ino)? {
            Some(other) if other.attrs.seq >= record.attrs.seq => {
                self.gone.push(id);
                return Ok(());
            }
            Some(other) => {
                self.gone.extend(other.location.map(|at| at.blob));
                self.take_out(&other);
            }
            None if !self.is_newer_than_nameless(truth) => {
                self.gone.push(id);
                return Ok(());
            }
            None => {}
        }
        self.cut_behind(truth)?;
        self.put_in(record)
    }

    /// Whether no newer state of the same inode has lost its names; an older one counts no more.
    fn is_newer_than_nameless(&mut self, truth: &Truth) -> bool {
        let attrs = &truth.record.attrs;
        let Some(at) = self.nameless.iter().position(|other| other.attrs.ino == attrs.ino) else { return true };
        if self.nameless.get(at).is_some_and(|other| other.attrs.seq >= attrs.seq) {
            return false;
        }
        let older = self.nameless.swap_remove(at);
        self.gone.extend(older.location.map(|at| at.blob));
        true
    }
}
