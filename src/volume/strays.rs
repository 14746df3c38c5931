//! Strays: blobs that nothing leads to. On a volume in use most of what looks like one is only on its way.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Volume;
use super::findings::{CheckReport, Fault, Finding};
use super::inode::State;
use super::retired::Retired;
use super::truth::{self, Keys, Truth};
use crate::error::{Kind, Result};
use crate::ids::{BlobId, Ino};
use crate::sync::thread;

/// After how long a suspect is looked at again before it is called a stray.
pub(super) const SECOND_LOOK: Duration = Duration::from_millis(200);

impl Volume {
    /// Notes those of `blobs` that nothing leads to. They were listed when `begun` was the next number.
    pub(super) fn check_strays(&self, blobs: HashSet<BlobId>, begun: u64, report: &mut CheckReport) -> Result<()> {
        // What a failed disk does not let go is in order again after the next mount.
        if self.store.latch().reason().is_some() {
            return Ok(());
        }
        let mut suspects = Vec::new();
        for id in blobs {
            if self.stray(id, begun)?.is_some() {
                suspects.push(id);
            }
        }
        if suspects.is_empty() {
            return Ok(());
        }
        thread::sleep(SECOND_LOOK);
        suspects.sort_unstable();
        for id in suspects {
            if let Some(problem) = self.stray(id, begun)? {
                let finding = Finding::new(Fault::Stray, problem);
                Volume::note(report, Finding { blob: Some(id.to_string()), ..finding });
            }
        }
        Ok(())
    }

    /// What is wrong with a blob, if nothing leads to it now.
    pub(super) fn stray(&self, id: BlobId, begun: u64) -> Result<Option<String>> {
        if (begun..self.tracking.next_blob.load(Ordering::Acquire)).contains(&id.0) {
            return Ok(None);
        }
        // While it is held, no blob is removed, and none is on its way from the list of those that may go.
        let _no_removal = self.tracking.reaping.lock();
        self.stray_now(id)
    }

    /// The same while the caller keeps blobs from being removed.
    pub(super) fn stray_now(&self, id: BlobId) -> Result<Option<String>> {
        let blob = match self.store.open(id) {
            Ok(Some(blob)) => blob,
            Ok(None) => return Ok(None),
            Err(e) if e.kind() == Kind::Damaged => return Ok(Some(e.to_string())),
            Err(e) => return Err(e),
        };
        let said = truth::read(Keys { key: &self.key, suite: self.suite, volume: self.id }, &*blob);
        if let Ok(Some(truth)) = &said
            && self.is_blob_of(id, truth.record.attrs.ino)?
        {
            return Ok(None);
        }
        Ok(if self.is_waiting(id) { None } else { Some(problem_of(said)) })
    }

    /// Whether an inode that has a name has this blob. Waits for who is about to change that.
    fn is_blob_of(&self, id: BlobId, ino: Ino) -> Result<bool> {
        match self.inode(ino) {
            Ok(inode) => {
                let state = inode.state.read();
                Ok(!state.removed && has_blob(&state, id))
            }
            Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Damaged) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether a blob is being written for the first time, or waits to be removed.
    fn is_waiting(&self, id: BlobId) -> bool {
        // States are locked with no set locked: who has a state locked locks sets.
        let orphans: Vec<_> = self.tracking.orphans.lock().values().map(|(inode, _)| Arc::clone(inode)).collect();
        let is_orphans = orphans.iter().any(|inode| has_blob(&inode.state.read(), id));
        let is_retired = |entry: &Retired| match entry {
            Retired::Noted(blob) | Retired::Replaced(blob) | Retired::Directory { blob, .. } => *blob == id,
            Retired::Superseded { blob, .. } | Retired::Settled { blob, .. } => *blob == Some(id),
        };
        is_orphans
            || self.tracking.retired.lock().entries().iter().any(is_retired)
            || self.tracking.young.lock().contains(&id)
    }
}

/// Whether a blob holds what an inode is, was, or is about to become.
fn has_blob(state: &State, id: BlobId) -> bool {
    state.record.location.is_some_and(|at| at.blob == id)
        || state.blob.as_ref().is_some_and(|open| open.cipher.blob == id)
        || state.replaced.contains(&id)
}

fn problem_of(said: Result<Option<Truth>>) -> String {
    match said {
        Ok(Some(truth)) => {
            let links = truth.record.attrs.links.iter();
            let names: Vec<_> = links.map(|link| String::from_utf8_lossy(&link.name).into_owned()).collect();
            let names = names.join(", ");
            format!("no inode of the index has this blob (it says it is {names}); run `wamedia rebuild-index`")
        }
        Ok(None) => "a blob without whole attributes that no inode has".to_owned(),
        Err(e) => e.to_string(),
    }
}
