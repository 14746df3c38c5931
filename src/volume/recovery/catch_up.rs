//! The incremental way: only what changed since the index was last complete.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use super::Recovery;
use super::blobs::Found;
use crate::error::Result;
use crate::ids::{BlobId, FileKind, Ino};
use crate::index::{Table, schema};
use crate::volume::record::Record;
use crate::volume::truth::Truth;

/// What was found of one inode: its states, newest first, and whether a blob of it is damaged.
#[derive(Default)]
struct States {
    truths: Vec<Truth>,
    damaged: bool,
}

/// What a look at many blobs has brought.
#[derive(Default)]
struct Sight {
    by_ino: HashMap<Ino, States>,
    damaged: HashSet<BlobId>,
    seen: HashSet<BlobId>,
}

impl Recovery<'_> {
    /// Brings the index to what the blobs in question say.
    pub(super) fn catch_up(&mut self) -> Result<()> {
        let first_new = BlobId(self.journals.first_new_blob);
        let mut ids = Vec::new();
        self.volume.store.list(first_new, &mut |id| {
            ids.push(id);
            Ok(())
        })?;
        ids.extend(self.take_replaced()?);
        let mut sight = Sight::default();
        for id in ids {
            self.see(&mut sight, id, None)?;
        }
        let mut candidates: BTreeSet<Ino> = self.journals.touched.iter().copied().collect();
        candidates.extend(sight.by_ino.keys());
        candidates.extend(self.new_in_the_index()?);
        let mut order = Vec::new();
        let mut waiting: Vec<Ino> = candidates.iter().rev().copied().collect();
        while let Some(ino) = waiting.pop() {
            let old = self.volume.read_record(ino)?;
            if let Some(at) = old.as_ref().and_then(|old| old.location) {
                self.see(&mut sight, at.blob, Some(ino))?;
            }
            let states = sight.by_ino.remove(&ino).unwrap_or_default();
            if let Some(record) = self.decide(old.as_ref(), states, &sight.damaged)? {
                // A frame that tells of an exchange tells of both, also when the journal has lost that the other was touched.
                let swapped = record.attrs.links.iter().filter_map(|link| link.swapped.as_ref());
                waiting.extend(swapped.map(|other| other.ino).filter(|other| candidates.insert(*other)));
                order.push(record);
            }
        }
        for ino in &candidates {
            if let Some(old) = self.volume.read_record(*ino)? {
                self.take_out(&old);
            }
        }
        order.sort_unstable_by_key(|record| record.attrs.seq);
        for record in order {
            if !self.journals.removed.contains_key(&record.attrs.ino) {
                self.put_in(record)?;
            } else if let Some(at) = record.location.filter(|_| record.attrs.kind != FileKind::Directory) {
                self.gone.push(at.blob);
            }
        }
        Ok(())
    }

    fn see(&mut self, sight: &mut Sight, id: BlobId, ino: Option<Ino>) -> Result<()> {
        if self.journals.dropped.contains(&id) {
            self.gone.push(id);
            return Ok(());
        }
        if !sight.seen.insert(id) {
            return Ok(());
        }
        match self.look_at(id, ino)? {
            Found::Truth(truth) => sight.by_ino.entry(truth.record.attrs.ino).or_default().truths.push(*truth),
            Found::Damaged => {
                sight.damaged.insert(id);
                if let Some(ino) = ino {
                    sight.by_ino.entry(ino).or_default().damaged = true;
                }
            }
            Found::Nothing if id.0 >= self.journals.first_new_blob && self.volume.store.has(id)? => {
                self.drop_uncommitted(id);
            }
            Found::Nothing => {}
        }
        Ok(())
    }

    /// Inodes of the index that were made since the last checkpoint: their blobs may not have become durable.
    fn new_in_the_index(&self) -> Result<Vec<Ino>> {
        let from = schema::inode(Ino(self.journals.first_new_blob));
        let keys = self.volume.index.scan_keys(Table::Inodes, Bound::Included(&from), Bound::Unbounded, usize::MAX)?;
        Ok(keys.iter().filter_map(|key| schema::parse_inode(key)).collect())
    }

    /// What is true of an inode of which the index says `old`.
    ///
    /// Where its blob is damaged, or older than it must be, what the index says stays, so that reading fails and says so;
    /// and all blobs of it stay too.
    fn decide(&mut self, old: Option<&Record>, states: States, damaged: &HashSet<BlobId>) -> Result<Option<Record>> {
        let States { mut truths, damaged: mut is_damaged } = states;
        truths.sort_unstable_by_key(|truth| std::cmp::Reverse(truth.record.attrs.seq));
        let newest = truths.first().map_or(0, |truth| truth.record.attrs.seq);
        if let Some(old) = old {
            is_damaged |= old.location.is_some_and(|at| damaged.contains(&at.blob));
            let is_old = newest < old.attrs.seq && self.is_certain(old);
            let is_removed = self.journals.removed.contains_key(&old.attrs.ino);
            if (is_damaged && newest <= old.attrs.seq || is_old) && !is_removed {
                if is_old && !is_damaged {
                    self.notes.push(format!("inode {}: its blob is missing or older than it was", old.attrs.ino));
                }
                return Ok(Some(old.clone()));
            }
        }
        let mut truths = truths.into_iter();
        let Some(truth) = truths.next() else { return Ok(None) };
        self.cut_behind(&truth)?;
        let kept = truth.record.location.map(|at| at.blob);
        let others = truths.filter_map(|other| other.record.location).map(|at| at.blob);
        self.gone.extend(others.filter(|blob| Some(*blob) != kept));
        Ok(Some(truth.record))
    }
}
