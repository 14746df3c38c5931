//! Retention: which media are expired, showing them, removing them.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::Volume;
use super::inode::{Inode, State};
use super::record::{Age, Record};
use super::types::{AgeBy, Expired, FileKind, OpenMode, Policy, PurgeReport, RetentionRule, Selector};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::ids::{Ino, MediaId};
use crate::index::{Table, schema};
use crate::media;

/// A read is noted as use when the last note is older than this, in seconds.
const USE_GRAIN_SECS: i64 = 86_400;
/// Media looked at in one step of a purge.
const PURGE_STEP: usize = 256;
const MAX_ENTRY_LEN: usize = 255;

fn secs(keep: Duration) -> i64 {
    i64::try_from(keep.as_secs()).unwrap_or(i64::MAX)
}

/// The type without its parameters, lower case.
fn essence(mime: &str) -> String {
    mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether `mime` is what `pattern` (`type/subtype` or `type/*`) means.
pub(super) fn matches_type(pattern: &str, mime: &str) -> bool {
    let (pattern, mime) = (essence(pattern), essence(mime));
    match pattern.strip_suffix("/*") {
        Some(major) => mime.split('/').next() == Some(major),
        None => pattern == mime,
    }
}

fn is_below(path: &[u8], prefix: &str) -> bool {
    let prefix = prefix.trim_matches('/').as_bytes();
    prefix.is_empty() || path.strip_prefix(prefix).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// The place in the policy of the rule that a medium falls under.
fn rule_for(rules: &[RetentionRule], mime: &str, path: impl FnOnce() -> Vec<u8>) -> Option<usize> {
    let has_prefixes = rules.iter().any(|r| matches!(r.selector, Selector::Prefix(_)));
    let path = if has_prefixes { path() } else { Vec::new() };
    let rank = |rule: &RetentionRule| match &rule.selector {
        Selector::Prefix(prefix) if is_below(&path, prefix) => Some((3, prefix.len())),
        Selector::Type(pattern) if matches_type(pattern, mime) => Some((2, usize::from(!pattern.ends_with("/*")))),
        Selector::Default => Some((1, 0)),
        _ => None,
    };
    let ranked = rules.iter().enumerate().filter_map(|(nth, rule)| rank(rule).map(|rank| (rank, nth)));
    ranked.max().map(|(_, nth)| nth)
}

fn age_start(record: &Record, by: AgeBy) -> Timestamp {
    match by {
        AgeBy::Written => record.attrs.mtime,
        AgeBy::Used => record.attrs.mtime.max(record.attrs.used),
    }
}

impl Volume {
    /// Where a medium stands among those that age; none when it is held, kept for ever, or no medium.
    pub(super) fn age_of(&self, record: &Record) -> Option<Age> {
        if !record.is_medium() || record.attrs.held.is_some() {
            return None;
        }
        let policy = self.policy();
        let start = age_start(record, policy.age_by);
        match record.attrs.retention {
            Some(u64::MAX) => None,
            Some(own) => {
                let when = start.plus_secs(i64::try_from(own).unwrap_or(i64::MAX));
                Some(Age { class: Age::OWN, when })
            }
            None => {
                let ino = record.attrs.ino;
                let rule = rule_for(&policy.retention, record.mime().unwrap_or(""), || self.links_path(record, ino))?;
                // Rules are few: their number is bounded when a policy is set.
                Some(Age { class: u16::try_from(rule).ok()?, when: start })
            }
        }
    }

    fn links_path(&self, record: &Record, _ino: Ino) -> Vec<u8> {
        let Some(link) = record.attrs.links.first() else { return Vec::new() };
        let mut path = self.path_of(link.parent).unwrap_or_default();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&link.name);
        path
    }

    /// When a medium's retention ends.
    pub(super) fn expires_at(&self, record: &Record) -> Option<Timestamp> {
        let age = self.age_of(record)?;
        if age.class == Age::OWN {
            return Some(age.when);
        }
        let policy = self.policy();
        let keep = policy.retention.get(usize::from(age.class))?.keep?;
        Some(age.when.plus_secs(secs(keep)))
    }

    /// Whether a medium may be removed as expired now: past its retention, not held, not open for writing.
    pub(super) fn is_expired(&self, state: &State) -> bool {
        state.writers == 0 && !state.removed && self.expires_at(&state.record).is_some_and(|at| at <= self.clock.now())
    }

    /// The latest age start that is expired now, by class.
    fn thresholds(&self) -> Vec<(u16, Timestamp)> {
        let now = self.clock.now();
        let policy = self.policy();
        let of_rule =
            |(nth, rule): (usize, &RetentionRule)| Some((u16::try_from(nth).ok()?, now.plus_secs(-secs(rule.keep?))));
        let mut classes: Vec<_> = policy.retention.iter().enumerate().filter_map(of_rule).collect();
        classes.push((Age::OWN, now));
        classes
    }

    /// Keys of expired media after `after`, at most `limit`, with their lengths. Those open for writing are left out.
    pub(super) fn expired_keys(&self, after: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, u64)>> {
        let writing = self.tracking.writing.lock().clone();
        let mut found = Vec::new();
        for (class, until) in self.thresholds() {
            let from = schema::age_bound(class, i64::MIN).to_vec();
            let to = schema::age(class, until, Ino(u64::MAX));
            if found.len() >= limit || after >= to.as_slice() {
                continue;
            }
            let from = if after > from.as_slice() { Bound::Excluded(after) } else { Bound::Included(from.as_slice()) };
            // Open ones do not use up the limit, so that an empty answer means the end.
            let rest = (limit - found.len()).saturating_add(writing.len());
            for (key, value) in self.index.scan(Table::Ages, from, Bound::Included(&to), rest)? {
                let len = value.try_into().map_or(0, u64::from_le_bytes);
                let is_open = schema::parse_age(&key).is_some_and(|(_, _, ino)| writing.contains(&ino));
                if !is_open {
                    found.push((key, len));
                }
            }
        }
        Ok(found)
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
            for (key, _) in keys {
                after.clone_from(&key);
                let Some((_, _, ino)) = schema::parse_age(&key) else { continue };
                let Ok(inode) = self.inode(ino) else { continue };
                if self.is_expired(&inode.state.read()) {
                    found.push(self.expired_entry(&inode, key)?);
                }
            }
        }
        Ok(found)
    }

    fn expired_entry(&self, inode: &Inode, cursor: Vec<u8>) -> Result<Expired> {
        let id = self.id_of(inode.ino)?;
        let state = inode.state.read();
        Ok(Expired { ino: inode.ino, id, name: expired_name(&state.record, &id), cursor })
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
        let names = self.names.lock();
        let inode = self.inode(ino)?;
        let mut state = inode.state.write();
        if !self.is_expired(&state) {
            return Err(Error::new(
                Kind::NotExpired,
                format!("medium {} is held, within its retention, or open for writing", self.own_id(ino)),
            ));
        }
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

    /// Removes expired media whose age is at least `older_than`, or tells with `dry_run` which would go.
    /// Each is checked again at the moment of its removal. `progress` is called after every few.
    ///
    /// # Errors
    /// `Poisoned`, `Damaged`, `Io`; what was removed before stays removed.
    pub fn purge(
        &self,
        dry_run: bool,
        older_than: Option<Duration>,
        progress: &mut dyn FnMut(&PurgeReport),
    ) -> Result<PurgeReport> {
        let mut report = PurgeReport::default();
        let mut after = Vec::new();
        self.settle();
        loop {
            let keys = self.expired_keys(&after, PURGE_STEP)?;
            let Some((last, _)) = keys.last() else { break };
            after.clone_from(last);
            for (key, _) in keys {
                let Some((_, _, ino)) = schema::parse_age(&key) else { continue };
                self.purge_one(ino, dry_run, older_than, &mut report)?;
            }
            progress(&report);
        }
        if report.media > 0 && !dry_run {
            self.ledger.sync()?;
        }
        Ok(report)
    }

    fn purge_one(&self, ino: Ino, dry_run: bool, older_than: Option<Duration>, report: &mut PurgeReport) -> Result<()> {
        let Ok(inode) = self.inode(ino) else { return Ok(()) };
        let (is_expired, is_old, bytes) = {
            let state = inode.state.read();
            let start = age_start(&state.record, self.policy().age_by);
            let is_old = older_than.is_none_or(|d| start.plus_secs(secs(d)) <= self.clock.now());
            (self.is_expired(&state), is_old, state.record.len)
        };
        if !is_old {
            return Ok(());
        }
        let removed = match (is_expired, dry_run) {
            (false, _) => false,
            (true, true) => true,
            (true, false) => match self.remove_expired(ino) {
                Ok(()) => true,
                Err(e) if matches!(e.kind(), Kind::NotExpired | Kind::NotFound) => false,
                Err(e) => return Err(e),
            },
        };
        if removed {
            report.media += 1;
            report.bytes += bytes;
        } else {
            report.kept += 1;
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
        self.change_medium(ino, |record, _| record.attrs.retention = own)
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
            let now = self.clock.now();
            change(&mut state.record, now);
            state.record.attrs.ctime = now;
            self.attrs_changed(&inode, &mut state)?;
        }
        self.sync_inode(&inode, false)?;
        self.tell_changed(ino);
        Ok(())
    }

    /// A file was opened for reading: that is a use, noted to about a day.
    pub(super) fn note_use(&self, inode: &Arc<Inode>, state: &mut State, mode: OpenMode) {
        let now = self.clock.now();
        if mode.read && now.secs - state.record.attrs.used.secs >= USE_GRAIN_SECS {
            state.record.attrs.used = now;
            state.record.attrs.atime = now;
            if self.policy().age_by == AgeBy::Used && self.note_change(inode, state).is_ok() {
                let _later = self.attrs_changed(inode, state);
            } else {
                self.mark_dirty(inode);
            }
        }
    }

    /// After a rename: rules for directories may now apply to other media.
    pub(super) fn rename_done(&self, inode: &Arc<Inode>, kind: FileKind) -> Result<()> {
        self.mark_dirty(inode);
        let has_prefixes = self.policy().retention.iter().any(|r| matches!(r.selector, Selector::Prefix(_)));
        if kind == FileKind::Directory && has_prefixes { self.reclass_below(inode.ino) } else { Ok(()) }
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
            let Some(last) = keys.last().and_then(|k| schema::parse_inode(k)) else { return Ok(()) };
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
fn expired_name(record: &Record, id: &MediaId) -> Vec<u8> {
    let own = record.attrs.links.first().map_or(&[][..], |l| l.name.as_slice());
    let [_, _, rest] = id.shared_path();
    let says_no_more = own == id.to_string().as_bytes() || own == rest.as_bytes();
    let mut name = id.to_string().into_bytes();
    if says_no_more {
        let extension = record.mime().map_or("bin", media::extension);
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(selector: Selector) -> RetentionRule {
        RetentionRule { selector, keep: Some(Duration::from_secs(1)) }
    }

    #[test]
    fn the_nearest_rule_wins() {
        let rules = [
            rule(Selector::Default),
            rule(Selector::Type("image/*".into())),
            rule(Selector::Type("image/png".into())),
            rule(Selector::Prefix("a".into())),
            rule(Selector::Prefix("a/b".into())),
        ];
        let pick = |mime: &str, path: &str| rule_for(&rules, mime, || path.as_bytes().to_vec()).unwrap();
        assert_eq!(pick("text/plain", "x"), 0);
        assert_eq!(pick("Image/JPEG", "x"), 1);
        assert_eq!(pick("image/png", "ab/x"), 2);
        assert_eq!(pick("image/png", "a/x"), 3);
        assert_eq!(pick("image/png", "a/b/x"), 4);
    }

    #[test]
    fn types_match_without_regard_to_case_and_parameters() {
        assert!(matches_type("audio/ogg", "Audio/OGG;codecs=opus"));
        assert!(matches_type("audio/*", "audio/ogg; codecs=opus"));
        assert!(!matches_type("audio/og", "audio/ogg"));
    }
}
