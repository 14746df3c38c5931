//! Expired media: showing them, removing them, and what keeps one from being so.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::Volume;
use super::aging::has_prefixes;
use super::indexing::damaged;
use super::inode::{Inode, State};
use super::listed::{Listed, Shown};
use super::record::Record;
use super::types::{AgeBy, Expired, ExpiryAction, FileKind, GRACE, Policy, RetentionRule, Selector};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::ids::{Ino, MediaId};
use crate::index::{Table, schema};
use crate::media;

const MAX_ENTRY_LEN: usize = 255;
/// Media counted in one step.
const COUNT_STEP: usize = 1024;

impl Volume {
    /// Keys of expired media after `after`, at most `limit`, with how they are listed. Those open for writing are left out.
    pub(super) fn expired_keys(&self, after: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Listed)>> {
        let writing = self.tracking.writing.lock().clone();
        let mut found = Vec::new();
        for (class, until) in self.in_force().thresholds(self.clock.now()) {
            let from = schema::age_bound(class, i64::MIN).to_vec();
            let to = schema::age(class, until, Ino(u64::MAX));
            if found.len() >= limit || after >= to.as_slice() {
                continue;
            }
            let from = if after > from.as_slice() { Bound::Excluded(after) } else { Bound::Included(from.as_slice()) };
            // Open ones do not use up the limit, so that an empty answer means the end.
            let rest = (limit - found.len()).saturating_add(writing.len());
            for (key, value) in self.index.scan(Table::Ages, from, Bound::Included(&to), rest)? {
                let listed = Listed::decode(&value).map_err(|e| damaged(e.0))?;
                let is_open = schema::parse_age(&key).is_some_and(|(_, _, ino)| writing.contains(&ino));
                if !is_open {
                    found.push((key, listed));
                }
            }
        }
        Ok(found)
    }

    /// How many media are expired, and their bytes.
    pub(super) fn expired_totals(&self) -> Result<(u64, u64)> {
        let (mut media, mut bytes, mut after) = (0, 0, Vec::new());
        loop {
            let keys = self.expired_keys(&after, COUNT_STEP)?;
            let Some((last, _)) = keys.last() else { return Ok((media, bytes)) };
            after.clone_from(last);
            media += keys.len() as u64;
            bytes += keys.iter().map(|(_, listed)| listed.len).sum::<u64>();
        }
    }

    /// Expired media after the cursor `after` (empty: from the start), at most `limit`. Costs what it returns.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn expired(&self, after: &[u8], limit: usize) -> Result<Vec<Expired>> {
        self.settle();
        let mut found: Vec<Expired> = Vec::new();
        let mut after = after.to_vec();
        while found.len() < limit {
            let keys = self.expired_keys(&after, limit - found.len())?;
            if keys.is_empty() {
                break;
            }
            for (key, listed) in keys {
                after.clone_from(&key);
                let Some((_, _, ino)) = schema::parse_age(&key) else { continue };
                match (self.cache.get(ino), listed.shown) {
                    // What nobody knows of is as the index says.
                    (None, Some(shown)) => found.push(self.expired_as_listed(ino, shown, key)?),
                    _ => {
                        let Ok(inode) = self.inode(ino) else { continue };
                        if self.is_expired(&inode.state.read()) {
                            found.push(self.expired_entry(&inode, key)?);
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    fn expired_as_listed(&self, ino: Ino, shown: Shown, cursor: Vec<u8>) -> Result<Expired> {
        let id = self.id_by_names(ino, std::iter::once((shown.parent, shown.name.as_slice())))?;
        let name = expired_name(&shown.name, &shown.extension, &id);
        Ok(Expired { ino, id, name, parents: vec![shown.parent], cursor })
    }

    fn expired_entry(&self, inode: &Inode, cursor: Vec<u8>) -> Result<Expired> {
        let id = self.id_of(inode.ino)?;
        let state = inode.state.read();
        let links = &state.record.attrs.links;
        let own = links.first().map_or(&[][..], |link| link.name.as_slice());
        let name = expired_name(own, state.record.mime().map_or("bin", media::extension), &id);
        Ok(Expired { ino: inode.ino, id, name, parents: links.iter().map(|link| link.parent).collect(), cursor })
    }

    /// The expired medium with this name in `.expired`.
    ///
    /// # Errors
    /// `NotFound` when there is none, or it is not expired (any more).
    pub fn expired_by_name(&self, name: &[u8]) -> Result<Expired> {
        let missing = || Error::new(Kind::NotFound, "no expired medium of this name");
        let id = name.get(..36).and_then(MediaId::parse).ok_or_else(missing)?;
        let ino = self.find(&id)?.ok_or_else(missing)?;
        let inode = self.inode(ino)?;
        let is_expired = self.is_expired(&inode.state.read());
        let entry = self.expired_entry(&inode, Vec::new())?;
        if is_expired && entry.name == name { Ok(entry) } else { Err(missing()) }
    }

    /// The directories that a medium has its names in.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn holders_of(&self, ino: Ino) -> Result<Vec<Ino>> {
        Ok(self.inode(ino)?.state.read().record.attrs.links.iter().map(|link| link.parent).collect())
    }

    /// Removes a medium with all its names if it is expired at this moment.
    ///
    /// # Errors
    /// `NotExpired` when it is held, within its retention, or open for writing; `NotFound`, `Poisoned`.
    pub fn remove_expired(&self, ino: Ino) -> Result<()> {
        self.removing(|| self.remove_expired_once(ino))
    }

    fn remove_expired_once(&self, ino: Ino) -> Result<()> {
        self.remove_medium(ino, |state| self.require_expired(state))
    }

    /// Refuses what is not expired at this moment.
    ///
    /// # Errors
    /// `NotExpired`.
    pub(super) fn require_expired(&self, state: &State) -> Result<()> {
        match self.is_expired(state) {
            true => Ok(()),
            false => Err(Error::new(
                Kind::NotExpired,
                format!(
                    "medium {} is held, within its retention, or open for writing",
                    self.own_id(state.record.attrs.ino)
                ),
            )),
        }
    }

    /// Removes a medium with all its names, held or not, as `rm` of each of them would. Durable on return.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for what is no medium; `NoSpace`, `Poisoned`, `Io`.
    pub fn remove(&self, ino: Ino) -> Result<()> {
        let is_medium = |state: &State| match state.record.is_medium() {
            _ if state.removed => Err(Kind::NotFound.into()),
            true => Ok(()),
            false => Err(Error::new(Kind::Invalid, "only a regular file is a medium")),
        };
        self.removing(|| self.remove_medium(ino, is_medium))?;
        self.ledger.sync()
    }

    /// Removes a medium with all its names unless `may_go` refuses at this moment.
    pub(super) fn remove_medium(&self, ino: Ino, may_go: impl Fn(&State) -> Result<()>) -> Result<()> {
        let names = self.names.lock();
        let inode = self.inode(ino)?;
        let mut state = inode.state.write();
        may_go(&state)?;
        self.store.latch().pass()?;
        let links = state.record.attrs.links.clone();
        self.drop_inode(&inode, &mut state, None)?;
        drop(state);
        for link in &links {
            self.delete_name(link, ino);
            if let Ok(dir) = self.inode(link.parent) {
                self.entry_changed(&dir, 0);
            }
        }
        drop(names);
        self.reap_if_unused(&inode);
        let watcher = self.watcher.read().clone();
        if let Some(watcher) = watcher {
            for link in &links {
                watcher.name_gone(link.parent, &link.name, ino);
            }
        }
        Ok(())
    }

    /// Holds a medium, or releases it. It outlives this process at once, and is durable on return.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for what is no medium; `Poisoned`.
    pub fn hold(&self, ino: Ino, held: bool) -> Result<()> {
        self.change_medium(ino, |record, now| record.attrs.held = held.then(|| record.attrs.held.unwrap_or(now)))
    }

    /// Gives one medium a retention of its own: `Some(None)` for ever; `None` puts it back under the rules.
    ///
    /// # Errors
    /// As [`Volume::hold`].
    pub fn set_medium_retention(&self, ino: Ino, keep: Option<Option<Duration>>) -> Result<()> {
        let own = keep.map(|keep| keep.map_or(u64::MAX, |d| d.as_secs()));
        let by = self.policy().age_by;
        self.change_medium(ino, |record, now| {
            record.attrs.retention = own;
            // Uses before may have been noted too coarsely for the new one.
            if by == AgeBy::Used {
                record.attrs.used = now;
            }
        })
    }

    pub(super) fn change_medium(&self, ino: Ino, change: impl FnOnce(&mut Record, Timestamp)) -> Result<()> {
        let inode = self.inode(ino)?;
        {
            let mut state = inode.state.write();
            if !state.record.is_medium() {
                return Err(Error::new(Kind::Invalid, "only a medium can be held or have a retention"));
            }
            self.store.latch().pass()?;
            self.note_change(&inode, &state)?;
            // A hold that is taken away again before the index is told of it has been there all the same.
            if let Some(age) = state.indexed.as_ref().and_then(|indexed| indexed.age) {
                self.forget_shown(age, ino);
            }
            let now = self.clock.now();
            change(&mut state.record, now);
            state.record.attrs.ctime = now;
            self.attrs_changed(&inode, &mut state)?;
        }
        self.sync_inode(&inode, false)?;
        self.tell_changed(ino);
        Ok(())
    }

    /// After a rename: rules for directories may now apply to other media.
    pub(super) fn rename_done(&self, inode: &Arc<Inode>, kind: FileKind) -> Result<()> {
        self.mark_dirty(inode);
        if kind == FileKind::Directory && has_prefixes(&self.policy().retention) {
            self.reclass_below(inode.ino)
        } else {
            Ok(())
        }
    }

    fn reclass_below(&self, top: Ino) -> Result<()> {
        let mut dirs = vec![top];
        while let Some(dir) = dirs.pop() {
            let mut after = 0;
            loop {
                let entries = self.read_entries(dir, after, 512)?;
                let Some(last) = entries.last() else { break };
                after = last.cookie;
                for entry in entries {
                    match entry.kind {
                        FileKind::Directory => dirs.push(entry.ino),
                        FileKind::Regular => self.index_state(&mut self.inode(entry.ino)?.state.write()),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Sorts all media under the rules anew, after those have changed.
    pub(super) fn reclass_all(&self) -> Result<()> {
        self.settle();
        let mut after = schema::inode(Ino(0));
        loop {
            let keys = self.index.scan_keys(Table::Inodes, Bound::Excluded(&after), Bound::Unbounded, 512)?;
            let Some(last) = keys.last().and_then(|k| schema::parse_inode(k)) else {
                self.note_sorting();
                return Ok(());
            };
            after = schema::inode(last);
            for ino in keys.iter().filter_map(|k| schema::parse_inode(k)) {
                if let Ok(inode) = self.inode(ino) {
                    let mut state = inode.state.write();
                    if state.record.is_medium() {
                        self.index_state(&mut state);
                    }
                }
            }
            if self.index.wants_write() {
                self.drain()?;
            }
        }
    }
}

/// The name of an expired medium: its id and extension when its own name says no more, else id and name.
fn expired_name(own: &[u8], extension: &str, id: &MediaId) -> Vec<u8> {
    let [_, _, rest] = id.shared_path();
    let says_no_more = own == id.to_string().as_bytes() || own == rest.as_bytes();
    let mut name = id.to_string().into_bytes();
    if says_no_more {
        name.push(b'.');
        name.extend_from_slice(extension.as_bytes());
        return name;
    }
    name.push(b'_');
    // A name too long to stand behind the id keeps its end, where the extension is.
    let room = MAX_ENTRY_LEN - name.len();
    name.extend_from_slice(own.get(own.len().saturating_sub(room)..).unwrap_or_default());
    name
}

/// The policy of a new volume: 30 days, no quota, a floor of 256 MiB or what `floor` says.
impl Default for Policy {
    fn default() -> Policy {
        Policy {
            max_bytes: None,
            max_media: None,
            reserves: Vec::new(),
            floor_bytes: 256 << 20,
            age_by: AgeBy::Written,
            retention: vec![RetentionRule {
                selector: Selector::Default,
                keep: Some(Duration::from_secs(30 * 86_400)),
            }],
            action: ExpiryAction::Show,
            grace: GRACE,
            warn_at: None,
            purge_at: None,
        }
    }
}
