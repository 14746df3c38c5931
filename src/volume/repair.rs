//! Repair: what can be mended is, from what is whole; the rest is moved to a place of its own. Nothing is deleted.
//!
//! A blob has its second name in the quarantine, durable, before anything is done to it, and what is done then is what the
//! volume does in its daily work: a blob written anew, a medium removed. So a repair may be cut short at any point, and
//! run again.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::Volume;
use super::findings::{CheckReport, Fault, Finding, Repair, RepairOptions};
use super::inode::{Inode, OpenBlob, State};
use super::origin::{Way, by_way};
use super::truth;
use crate::crypto::Suite;
use crate::error::{Error, Kind, Result};
use crate::format::content::Content;
use crate::format::frame::FrameKind;
use crate::ids::{BlobId, Ino};
use crate::store::{Layout, Quarantine, mend_superblock, superblock_copies};

/// Bytes hashed with one read.
const STEP: usize = 1 << 20;
const MISSING: &str = "nothing is left of it in the store, so its names were taken away; restore it from a backup";
const NO_SUPERBLOCK: &str =
    "no copy of the superblock is whole: put one back from a backup before the volume is unmounted";
const UNREAD: &str =
    "the disk does not give what is to be read for it; mend the disk, or put the blob back from a backup";
const IN_USE: &str = "it is open for writing; close it and repair again";
const READABLE: &str =
    "it is readable where it is whole; `wamedia check --read-all --repair --move-damaged` moves it away";
const REBUILD: &str = "the index has to be made anew: unmount the volume and repair its store";

/// One run of a repair.
struct Repairing<'a> {
    volume: &'a Volume,
    options: RepairOptions,
    quarantine: Quarantine,
    needs_rebuild: bool,
}

impl Volume {
    /// Checks, and mends what can be mended while the volume is open; the report says of each finding what was done. What
    /// needs the index made anew is left, and told.
    ///
    /// # Errors
    /// `Poisoned`; those of [`Volume::check`]; `NoSpace`, `Io` while mending: what was done before is done.
    pub fn repair(&self, options: RepairOptions, progress: &mut dyn FnMut(u64, u64)) -> Result<CheckReport> {
        self.store.latch().pass()?;
        let mut report = self.check(options.read_all, progress)?;
        let mut repairing = Repairing {
            volume: self,
            options,
            quarantine: Quarantine::new(self.layout.root(), &self.name_of_now()),
            needs_rebuild: false,
        };
        let mut of_inodes: BTreeMap<u64, Vec<&mut Finding>> = BTreeMap::new();
        for finding in &mut report.findings {
            match (finding.fault, finding.inode) {
                (Fault::Blob | Fault::Chunk, Some(ino)) => of_inodes.entry(ino).or_default().push(finding),
                _ => finding.repair = Some(repairing.mend_other(finding)?),
            }
        }
        for (ino, findings) in of_inodes {
            let is_blobs = findings.iter().any(|finding| finding.fault == Fault::Blob);
            let done = repairing.mend_inode(Ino(ino), is_blobs)?;
            findings.into_iter().for_each(|finding| finding.repair = Some(done.clone()));
        }
        report.needs_rebuild = repairing.needs_rebuild;
        report.quarantine = repairing.quarantine.place().map(|place| place.display().to_string());
        if !report.findings.is_empty() {
            self.sync_all()?;
            self.reap()?;
        }
        Ok(report)
    }

    /// A name for what is done now: the time in UTC.
    fn name_of_now(&self) -> String {
        let secs = self.clock.now().secs;
        let time = jiff::Timestamp::from_second(secs);
        time.map_or_else(|_| secs.to_string(), |time| time.strftime("%Y%m%dT%H%M%SZ").to_string())
    }

    /// Writes an inode anew: its attributes are those that the index knows, its content is what lies where they say, if
    /// all of that is whole. The blob it had goes the way of blobs that were given up.
    fn write_anew(&self, inode: &Arc<Inode>, state: &mut State) -> Result<()> {
        let at = state.record.location.ok_or_else(|| Error::new(Kind::Damaged, "it was never committed"))?;
        let open = self.committed_blob(&at);
        let content = self.content_by_record(&open, state)?;
        let was = (state.content.replace(content), state.blob.replace(open));
        let written = self.expect_digest(state).and_then(|()| self.rewrite(inode, state));
        if written.is_err() {
            (state.content, state.blob) = was;
        }
        written
    }

    /// The content that a record tells of, whatever else the blob says.
    fn content_by_record(&self, open: &OpenBlob, state: &State) -> Result<Content> {
        let record = &state.record;
        let Some(end) = record.attrs.end.filter(|_| record.is_medium() && record.len > 0) else {
            return Ok(Content { len: record.len, digest: record.attrs.digest, ..Content::default() });
        };
        let file = self.blob_of(open)?;
        let (payload, _) = open.cipher.read_meta(&*file, end.offset, end.len, end.frame, FrameKind::End)?;
        let content = Content::decode(&payload, end.offset, end.frame);
        let content = content.map_err(|e| open.cipher.damaged(end.frame, &e.to_string()))?;
        if content.len == record.len {
            Ok(content)
        } else {
            Err(open.cipher.damaged(end.frame, "tells another length than the index"))
        }
    }

    /// Refuses a content whose digest is known and another.
    fn expect_digest(&self, state: &State) -> Result<()> {
        let Some(expected) = state.record.attrs.digest else { return Ok(()) };
        let (mut sha, mut buf, mut at) = (Sha256::new(), vec![0; STEP], 0);
        loop {
            let got = self.read_state(state, at, &mut buf)?;
            if got == 0 {
                break;
            }
            sha.update(buf.get(..got).unwrap_or_default());
            at += got as u64;
        }
        let found: [u8; 32] = sha.finalize().into();
        if found == expected { Ok(()) } else { Err(Error::new(Kind::Damaged, "its digest is another")) }
    }
}

impl Repairing<'_> {
    /// Mends what is about no inode that is known.
    fn mend_other(&mut self, finding: &Finding) -> Result<Repair> {
        let blob = finding.blob.as_deref().and_then(|id| u64::from_str_radix(id, 16).ok()).map(BlobId);
        match (finding.fault, blob, &finding.file) {
            (Fault::Copy, ..) => self.mend_copies(),
            (Fault::Stray, Some(blob), _) => self.mend_stray(blob),
            (Fault::Stranger, _, Some(file)) => {
                let kept = self.quarantine.take(file)?;
                Ok(Repair::Moved(kept.display().to_string()))
            }
            (Fault::State, ..) => {
                self.volume.state.drop_damaged()?;
                Ok(Repair::Mended("what can be read was written anew, without the rest".to_owned()))
            }
            (Fault::Audit, ..) => {
                let mut places = Vec::new();
                let quarantine = &mut self.quarantine;
                self.volume.audit.mend(&self.volume.layout, &mut |file| {
                    places.extend(quarantine.keep(file)?.map(|kept| kept.display().to_string()));
                    Ok(())
                })?;
                let was = places.join(", ");
                Ok(Repair::Mended(format!("what can be read was written anew, without the rest; what it was is {was}")))
            }
            (Fault::Index, ..) => {
                self.needs_rebuild = true;
                Ok(Repair::Left(REBUILD.to_owned()))
            }
            _ => Ok(Repair::Left(finding.problem.clone())),
        }
    }

    /// Has a blob, and its contents file where it has one, in the quarantine; gives where the blob is kept.
    fn keep(&mut self, id: BlobId) -> Result<Option<std::path::PathBuf>> {
        if self.volume.suite == Suite::Checksum {
            self.quarantine.keep(&Layout::contents(id))?;
        }
        self.quarantine.keep(&Layout::blob(id))
    }

    fn mend_copies(&self) -> Result<Repair> {
        let volume = self.volume;
        let Ok((superblock, _)) = superblock_copies(volume.layout.root()) else {
            return Ok(Repair::Left(NO_SUPERBLOCK.to_owned()));
        };
        if superblock.verify(&volume.key).is_err() {
            return Ok(Repair::Left(NO_SUPERBLOCK.to_owned()));
        }
        mend_superblock(volume.layout.root(), &superblock)?;
        if !volume.in_force().is_lost && !volume.bad_policies()?.is_empty() {
            volume.rewrite_policy()?;
        }
        Ok(Repair::Mended("written again from the other copy".to_owned()))
    }

    /// Moves a blob away that is nobody's. One that tells of an inode which the index does not know is for the index.
    fn mend_stray(&mut self, id: BlobId) -> Result<Repair> {
        let volume = self.volume;
        // While it is held, no blob is removed, and none is on its way from the list of those that may go.
        let _no_removal = volume.tracking.reaping.lock();
        let blob = match volume.store.open(id) {
            Ok(None) => return Ok(Repair::Mended("it is gone by now".to_owned())),
            // No regular file: nothing can be read from it.
            Err(e) if e.kind() == Kind::Damaged => None,
            found => found?,
        };
        if volume.stray_now(id)?.is_none() {
            return Ok(Repair::Mended("it is an inode's by now".to_owned()));
        }
        if let Some(blob) = blob
            && let Ok(Some(truth)) = truth::read(volume.keys(), &*blob)
            && volume.read_record(truth.record.attrs.ino)?.is_none()
        {
            self.needs_rebuild = true;
            return Ok(Repair::Left(REBUILD.to_owned()));
        }
        let kept = self.keep(id)?;
        volume.store.remove(id)?;
        Ok(kept.map_or_else(|| Repair::Mended("it is gone by now".to_owned()), |kept| moved(&kept)))
    }

    /// Mends an inode whose blob is not as it should be, or, but for `is_blobs`, whose chunks alone are not.
    fn mend_inode(&mut self, ino: Ino, is_blobs: bool) -> Result<Repair> {
        let volume = self.volume;
        let inode = match volume.inode(ino) {
            Err(e) if e.kind() == Kind::NotFound => return Ok(Repair::Mended("it is gone by now".to_owned())),
            other => other?,
        };
        let mut state = inode.state.write();
        let Some(at) = state.record.location.filter(|_| !state.removed) else {
            return Ok(Repair::Mended("it is gone by now".to_owned()));
        };
        if state.writers > 0 || state.writer.is_some() || state.is_uncommitted() {
            return Ok(Repair::Left(IN_USE.to_owned()));
        }
        if is_blobs && self.is_newer_than_known(&state, at.blob) {
            self.needs_rebuild = true;
            return Ok(Repair::Left(REBUILD.to_owned()));
        }
        if !is_blobs && !self.options.move_damaged {
            return Ok(Repair::Left(READABLE.to_owned()));
        }
        let kept = self.keep(at.blob)?;
        if is_blobs || !state.record.is_medium() {
            match volume.write_anew(&inode, &mut state) {
                Err(e) if e.kind() == Kind::Damaged => {}
                // What cannot be read may be whole.
                Err(e) if e.kind() == Kind::Io => return Ok(Repair::Left(format!("{UNREAD} ({e})"))),
                other => {
                    other?;
                    drop(state);
                    volume.tell_changed(ino);
                    let was = kept.map_or_else(String::new, |kept| format!("; what it was is {}", kept.display()));
                    return Ok(Repair::Mended(format!("written anew from what is whole{was}")));
                }
            }
        }
        let is_medium = state.record.is_medium();
        drop(state);
        if !is_medium {
            return Ok(Repair::Left("it could not be written anew".to_owned()));
        }
        let may_go = |state: &State| match state.writers > 0 || state.record.location != Some(at) {
            true => Err(Error::new(Kind::Busy, IN_USE)),
            false => Ok(()),
        };
        let removed = by_way(Way::Repair, || volume.remove_medium(ino, may_go));
        match removed {
            Err(e) if e.kind() == Kind::Busy => Ok(Repair::Left(IN_USE.to_owned())),
            Err(e) => Err(e),
            Ok(()) => Ok(kept.map_or_else(|| Repair::Mended(MISSING.to_owned()), |kept| moved(&kept))),
        }
    }

    /// Whether a blob says more than the index knows of its inode.
    fn is_newer_than_known(&self, state: &State, id: BlobId) -> bool {
        let Ok(Some(blob)) = self.volume.store.open(id) else { return false };
        let said = truth::read(self.volume.keys(), &*blob).ok().flatten();
        said.is_some_and(|truth| {
            truth.record.attrs.ino == state.record.attrs.ino && truth.record.attrs.seq > state.record.attrs.seq
        })
    }
}

fn moved(kept: &std::path::Path) -> Repair {
    Repair::Moved(kept.display().to_string())
}
