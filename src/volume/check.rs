//! Check: does the index say what the blobs say, and, when asked, is every byte what was written?

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::atomic::Ordering;

use super::findings::{CheckReport, Fault, Finding};
use super::inode::{Inode, State};
use super::record::{Location, Record};
use super::strays::SECOND_LOOK;
use super::truth::{self, Keys};
use super::{Volume, policy};
use crate::crypto::Suite;
use crate::error::{Kind, Result};
use crate::format::frame::CHUNK_LEN;
use crate::format::geometry::chunk_len;
use crate::ids::{BlobId, Ino};
use crate::index::{Table, schema};
use crate::store::{strangers, superblock_copies};
use crate::sync::thread;

const STEP: usize = 256;
/// Chunks read before others have their turn.
const STEP_CHUNKS: usize = 16;
/// Findings kept in a report; beyond, they are only counted.
const MAX_FINDINGS: usize = 10_000;

impl Volume {
    /// Compares index and store; with `read_all` also verifies every byte. Changes nothing.
    ///
    /// `progress` gets blobs done and blobs in all. What is written while it runs may or may not be looked at.
    ///
    /// # Errors
    /// `Io` when the store cannot be listed. What is damaged is a finding, not an error.
    pub fn check(&self, read_all: bool, progress: &mut dyn FnMut(u64, u64)) -> Result<CheckReport> {
        let begun = self.tracking.next_blob.load(Ordering::Acquire);
        if self.store.latch().reason().is_none() {
            self.sync_all()?;
        }
        self.settle();
        let mut report = CheckReport::default();
        if self.in_force().is_lost {
            Volume::note(&mut report, Finding::new(Fault::Volume, policy::LOST));
        }
        let mut blobs = HashSet::new();
        self.store.list(BlobId(0), &mut |id| {
            blobs.insert(id);
            Ok(())
        })?;
        let total = blobs.len() as u64;
        let mut after = schema::inode(Ino(0));
        loop {
            let keys = self.index.scan_keys(Table::Inodes, Bound::Excluded(&after), Bound::Unbounded, STEP)?;
            let Some(last) = keys.last().and_then(|k| schema::parse_inode(k)) else { break };
            after = schema::inode(last);
            for ino in keys.iter().filter_map(|k| schema::parse_inode(k)).filter(|ino| ino.0 < begun) {
                if let Some(blob) = self.check_inode(ino, read_all, &mut report) {
                    blobs.remove(&blob);
                }
            }
            progress(report.blobs, total);
            // What is made meanwhile has higher numbers; to follow it could take for ever.
            if last.0 >= begun {
                break;
            }
        }
        self.check_strays(blobs, begun, &mut report)?;
        self.check_copies(&mut report)?;
        self.check_logs(&mut report)?;
        for path in strangers(self.layout.root(), self.suite == Suite::Checksum)? {
            let problem = format!("{}: the store has no such file of its own", path.display());
            Volume::note(&mut report, Finding { file: Some(path), ..Finding::new(Fault::Stranger, problem) });
        }
        progress(total, total);
        Ok(report)
    }

    fn check_logs(&self, report: &mut CheckReport) -> Result<()> {
        match self.state.damaged()? {
            0 => {}
            count => {
                let problem =
                    format!("the state log: {count} settings, tokens or pieces of queued work cannot be read");
                Volume::note(report, Finding::new(Fault::State, problem));
            }
        }
        let damaged = self.audit.damaged()?;
        if !damaged.is_empty() {
            let files: Vec<String> =
                damaged.iter().map(|(file, bytes)| format!("{bytes} bytes of {}", file.display())).collect();
            let problem = format!(
                "the audit log: {} are damaged; what was removed may not be all in it any more",
                files.join(", ")
            );
            Volume::note(report, Finding::new(Fault::Audit, problem));
        }
        Ok(())
    }

    pub(super) fn note(report: &mut CheckReport, finding: Finding) {
        if report.findings.len() < MAX_FINDINGS {
            report.findings.push(finding);
        } else {
            report.unlisted += 1;
        }
    }

    /// Checks one inode; gives the blob that is its truth.
    fn check_inode(&self, ino: Ino, read_all: bool, report: &mut CheckReport) -> Option<BlobId> {
        let inode = match self.inode(ino) {
            Ok(inode) => inode,
            Err(e) if e.kind() == Kind::NotFound => return None,
            Err(e) => {
                let finding = Finding::new(Fault::Index, format!("inode {ino}: {e}"));
                Volume::note(report, Finding { inode: Some(ino.0), ..finding });
                return None;
            }
        };
        let mut state = inode.state.write();
        // What was removed since the walk came by has neither names nor, for long, a blob.
        let at = state.record.location.filter(|_| !state.removed)?;
        report.blobs += 1;
        let path = self.path_of_record(&state.record);
        let id = self.id_of_record(&state.record);
        let name = || Some(format!("{id} {}", String::from_utf8_lossy(&path)));
        let problems = self.problems_of(&mut state, at);
        let blank = |fault: Fault, problem: String| Finding {
            blob: Some(at.blob.to_string()),
            inode: Some(ino.0),
            medium: name(),
            ..Finding::new(fault, problem)
        };
        for problem in problems {
            Volume::note(report, blank(Fault::Blob, problem));
        }
        let of_chunks = blank(Fault::Chunk, String::new());
        let misled = blank(Fault::Index, "one of its names leads elsewhere; run `wamedia rebuild-index`".into());
        let is_led_to = self.is_led_to(&state);
        drop(state);
        if !is_led_to && !self.is_led_to_for_good(&inode) {
            Volume::note(report, misled);
        }
        if read_all {
            self.check_content(&inode, &of_chunks, report);
        }
        Some(at.blob)
    }

    /// What is wrong with the blob at which an inode was last committed, but for its chunks.
    pub(super) fn problems_of(&self, state: &mut State, at: Location) -> Vec<String> {
        let mut problems = Vec::new();
        match self.store.open(at.blob) {
            Ok(Some(blob)) => match truth::read(Keys { key: &self.key, suite: self.suite, volume: self.id }, &*blob) {
                Ok(Some(truth)) if truth.record.location == Some(at) || state.writers > 0 => {}
                // A commit that reached the disk without its record in the journal, when power was lost: it was never
                // synced, and the frame that the index knows is looked at below.
                Ok(Some(truth)) if truth.record.location.is_some_and(|found| found.is_behind(&at)) => {}
                Ok(Some(_)) => problems.push("the blob is not the version the index knows".to_owned()),
                Ok(None) => problems.push("no whole attributes are left in the blob".to_owned()),
                Err(e) => problems.push(e.to_string()),
            },
            Ok(None) => problems.push("its blob is missing from the store".to_owned()),
            Err(e) => problems.push(e.to_string()),
        }
        if problems.is_empty()
            && let Err(e) = self.load(state)
        {
            problems.push(e.to_string());
        }
        if problems.is_empty() {
            problems.extend(self.contents_problem(state));
        }
        problems
    }

    /// Notes copies of superblock and policy that are not whole. One suffices.
    fn check_copies(&self, report: &mut CheckReport) -> Result<()> {
        let _one = self.policy_change.lock();
        let mut bad = self.bad_copies()?;
        if !bad.is_empty() {
            // Somebody may be changing a key, which writes one after the other.
            thread::sleep(SECOND_LOOK);
            bad = self.bad_copies()?;
        }
        for name in bad {
            let problem = format!("the copy `{name}` is missing, damaged or older than the other");
            Volume::note(report, Finding::new(Fault::Copy, problem));
        }
        Ok(())
    }

    fn bad_copies(&self) -> Result<Vec<&'static str>> {
        let mut bad = match superblock_copies(self.layout.root()) {
            Ok((superblock, bad)) if superblock.verify(&self.key).is_ok() => bad,
            _ => vec!["superblock", "superblock.bak"],
        };
        if !self.in_force().is_lost {
            bad.extend(self.bad_policies()?);
        }
        Ok(bad)
    }

    /// Whether all names of an inode lead to it.
    fn is_led_to(&self, state: &State) -> bool {
        let attrs = &state.record.attrs;
        attrs.links.iter().all(|link| {
            let named = self.read_name(link.parent, &link.name).ok().flatten();
            named.is_some_and(|named| named.ino == attrs.ino)
        })
    }

    /// The same while no name changes: in the middle of a rename two may have one name.
    fn is_led_to_for_good(&self, inode: &Inode) -> bool {
        let _names = self.names.lock();
        let state = inode.state.read();
        state.removed || self.is_led_to(&state)
    }

    pub(super) fn path_of_record(&self, record: &Record) -> Vec<u8> {
        let Some(link) = record.attrs.links.first() else { return Vec::new() };
        let above = self.path_of(link.parent).unwrap_or_default();
        if above.is_empty() { link.name.clone() } else { [above.as_slice(), b"/", &link.name].concat() }
    }

    /// Verifies the chunks of a medium, some at a time, so that nobody who wants to change it waits for long.
    fn check_content(&self, inode: &Inode, blank: &Finding, report: &mut CheckReport) {
        let mut plain = vec![0; CHUNK_LEN];
        let mut next = 0;
        loop {
            let state = inode.state.read();
            let Some(content) = state.content.as_ref().filter(|_| state.record.is_medium() && !state.removed) else {
                return;
            };
            if let Some(writer) = &state.writer {
                writer.flight.wait();
            }
            for _ in 0..STEP_CHUNKS {
                let Some((chunk, _)) = content.map.next_stored(next) else { return };
                next = chunk + 1;
                let part = plain.get_mut(..chunk_len(state.record.len, chunk)).unwrap_or_default();
                match self.read_state(&state, chunk * CHUNK_LEN as u64, part) {
                    Ok(got) => report.bytes += got as u64,
                    Err(e) => {
                        Volume::note(report, Finding { chunk: Some(chunk), problem: e.to_string(), ..blank.clone() });
                    }
                }
            }
        }
    }
}
