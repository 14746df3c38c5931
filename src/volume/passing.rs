//! Media that programs read by the kernel alone, from their contents file: what is changed meanwhile is shown to them too.
//!
//! The contents file is what the blob's frames tell of, so it must not change while that blob counts. Before the first change
//! the medium is written anew, durably, into another blob; from then on the former contents file is a mere view, to which
//! each change is written as well. A crash at any line leaves the former blob as it was, or the new one.

use std::sync::Arc;

use super::inode::{Inode, State};
use super::{OpenFile, Volume};
use crate::error::{Error, Kind, Result};
use crate::ids::BlobId;
use crate::store::View;

/// What programs see of a medium that read by the kernel alone.
pub(super) struct Seen {
    /// The file they read.
    pub view: View,
    /// The blob whose contents file it is.
    of: BlobId,
    /// Whether another blob holds the content, durably, so that the file may change.
    is_parted: bool,
}

impl Volume {
    /// The file that is, byte for byte, the content of a medium, for who reads it beside this process: until
    /// [`Volume::end_pass`] each change of the medium is made there as well. `None` where there is no such file: the medium
    /// lies in its blob, wholly or in part, has holes, or somebody writes it.
    ///
    /// Nothing that is read there is verified.
    ///
    /// # Errors
    /// `Io`, `Damaged`.
    pub fn pass_through(&self, file: &OpenFile) -> Result<Option<View>> {
        let mut state = file.inode.state.write();
        if let Some(seen) = &state.view {
            return Ok(Some(seen.view.clone()));
        }
        if state.removed || state.writers > 0 || state.record.len == 0 {
            return Ok(None);
        }
        if state.writer.is_some() {
            // Closed a moment ago: whoever publishes it finds it done.
            self.publish(&file.inode, &mut state);
        }
        if state.writer.is_some() || state.is_uncommitted() {
            return Ok(None);
        }
        self.load(&mut state)?;
        let len = state.record.len;
        let (Some(content), Some(open)) = (&state.content, &state.blob) else { return Ok(None) };
        if !content.map.is_all_apart(len) {
            return Ok(None);
        }
        let (of, blob) = (open.cipher.blob, self.blob_of(open)?);
        if blob.contents_len()? != Some(len) {
            return Ok(None);
        }
        let view = blob.view()?;
        state.view = view.clone().map(|view| Seen { view, of, is_parted: false });
        Ok(view)
    }

    /// Nobody reads a medium beside this process any more.
    pub fn end_pass(&self, file: &OpenFile) {
        file.inode.state.write().view = None;
    }

    /// Parts a medium that is about to change from the file that programs read beside this process.
    pub(super) fn part_view(&self, inode: &Arc<Inode>, state: &mut State) -> Result<()> {
        let Some(seen) = &state.view else { return Ok(()) };
        // One without a name is not there after a crash.
        if state.removed || seen.is_parted {
            return Ok(());
        }
        if state.record.location.is_some_and(|at| at.blob == seen.of) {
            self.rewrite(inode, state)?;
        }
        let at = state.record.location.ok_or_else(|| Error::new(Kind::Io, "no blob to part from"))?;
        let blob = self.store.open(at.blob)?;
        let blob = blob.ok_or_else(|| Error::new(Kind::Damaged, format!("blob {} is missing", at.blob)))?;
        self.ledger.sync()?;
        blob.sync()?;
        if let Some(seen) = &mut state.view {
            seen.is_parted = true;
        }
        Ok(())
    }
}
