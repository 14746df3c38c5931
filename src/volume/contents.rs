//! Whether the contents that the states of one blob name are whole. The states name mostly the same frames; each is read
//! once, and what all of it takes is bounded by the blob's length, whatever its frames say.

use std::collections::HashMap;

use super::frames::BlobCipher;
use crate::error::{Error, Kind, Result};
use crate::format::attributes::{Attributes, EndRef};
use crate::format::content::{Content, Place};
use crate::format::frame::{FRAME_OVERHEAD, FrameKind};
use crate::store::Blob;

/// Frames that are remembered: those of a file of 16 GiB.
const MAX_REMEMBERED: usize = 1 << 18;

/// What was found out about the contents of one blob.
pub(super) struct Contents {
    /// Whether the content of an end frame, by its offset and number, is whole.
    ends: HashMap<(u64, u64), bool>,
    /// Whether a data frame, by its offset, number and chunk, is whole.
    frames: HashMap<(u64, u64, u64), bool>,
    /// Frames that may still be read.
    left: u64,
}

impl Contents {
    /// Nothing is known yet of a blob of `len` bytes.
    pub fn new(len: u64) -> Contents {
        Contents { ends: HashMap::new(), frames: HashMap::new(), left: 4 * (len / FRAME_OVERHEAD as u64) + 1 }
    }

    /// Whether all frames of the content that attributes tell of can be opened.
    ///
    /// # Errors
    /// `Io`; `Damaged` when far more frames are named than the blob has room for.
    pub fn are_whole(&mut self, cipher: &BlobCipher, blob: &dyn Blob, attrs: &Attributes) -> Result<bool> {
        let Some(end) = attrs.end else { return Ok(true) };
        if let Some(known) = self.ends.get(&(end.offset, end.frame)) {
            return Ok(*known);
        }
        let is_whole = self.is_whole(cipher, blob, &end)?;
        self.ends.insert((end.offset, end.frame), is_whole);
        Ok(is_whole)
    }

    fn is_whole(&mut self, cipher: &BlobCipher, blob: &dyn Blob, end: &EndRef) -> Result<bool> {
        let content = match cipher.read_meta(blob, end.offset, end.len, end.frame, FrameKind::End) {
            Err(e) if e.kind() == Kind::Damaged => return Ok(false),
            other => Content::decode(&other?.0, end.offset, end.frame),
        };
        let Ok(content) = content else { return Ok(false) };
        for run in content.map.runs() {
            for chunk in run.first..run.first + run.count {
                let Some(place) = content.map.find(chunk).filter(|place| *place != Place::Reserved) else { break };
                if !self.is_frame_whole(cipher, blob, place, chunk)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn is_frame_whole(&mut self, cipher: &BlobCipher, blob: &dyn Blob, place: Place, chunk: u64) -> Result<bool> {
        let (Place::Stored { offset, frame } | Place::Apart { offset, frame }) = place else { return Ok(true) };
        let key = (offset, frame, chunk);
        if let Some(known) = self.frames.get(&key) {
            return Ok(*known);
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            Error::new(Kind::Damaged, format!("blob {}: its states name more frames than it has", cipher.blob))
        })?;
        let is_whole = match cipher.read_place(blob, place, chunk) {
            Err(e) if e.kind() == Kind::Damaged => false,
            other => other.map(|_| true)?,
        };
        if self.frames.len() < MAX_REMEMBERED {
            self.frames.insert(key, is_whole);
        }
        Ok(is_whole)
    }
}
