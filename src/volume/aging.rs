//! When a medium's retention ends: the rule that decides, from when its age counts, and how finely uses are noted.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::Volume;
use super::inode::{Inode, State};
use super::policy::InForce;
use super::record::{Age, Record};
use super::types::{AgeBy, OpenMode, Policy, RetentionRule, Selector};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::format::attributes::Link;
use crate::ids::Ino;

/// The coarsest that uses are noted, in seconds.
const DAY_SECS: i64 = 86_400;
/// Uses are noted at most this often within a retention.
const NOTES: i64 = 16;

/// A retention in seconds.
pub(super) fn secs(keep: Duration) -> i64 {
    i64::try_from(keep.as_secs()).unwrap_or(i64::MAX)
}

/// How finely uses of what is kept so many seconds are noted, in seconds.
fn grain_of(keep_secs: i64) -> i64 {
    (keep_secs / NOTES).clamp(1, DAY_SECS)
}

/// How finely uses are noted under a policy, in seconds: as finely as its shortest retention needs, so that a medium that
/// comes under another rule was noted finely enough before.
pub(super) fn grain_under(policy: &Policy) -> i64 {
    match policy.age_by {
        AgeBy::Written => DAY_SECS,
        AgeBy::Used => policy.retention.iter().filter_map(|r| r.keep).map(secs).map(grain_of).min().unwrap_or(DAY_SECS),
    }
}

/// The type without its parameters, lower case.
fn essence(mime: &str) -> String {
    mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The parameters of a type, without blanks and quotes, lower case.
fn parameters(mime: &str) -> impl Iterator<Item = String> {
    let bare = |text: &str| text.chars().filter(|c| !matches!(c, ' ' | '\t' | '"')).collect::<String>();
    mime.split(';').skip(1).map(move |text| bare(text).to_ascii_lowercase()).filter(|text| !text.is_empty())
}

/// Whether `mime` is what `pattern` (`type/subtype` or `type/*`) means; it has the parameters that the pattern names, if
/// it names some, and may have others.
pub(super) fn matches_type(pattern: &str, mime: &str) -> bool {
    let (named, found) = (essence(pattern), essence(mime));
    let is_named = match named.strip_suffix("/*") {
        Some(major) => found.split('/').next() == Some(major),
        None => named == found,
    };
    is_named && parameters(pattern).all(|wanted| parameters(mime).any(|present| present == wanted))
}

/// How much a pattern says: of the rules that fit, the one that says most counts.
fn exactness(pattern: &str) -> usize {
    if pattern.ends_with("/*") { 0 } else { 1 + parameters(pattern).count() }
}

fn is_below(path: &[u8], prefix: &str) -> bool {
    let prefix = prefix.trim_matches('/').as_bytes();
    prefix.is_empty() || path.strip_prefix(prefix).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// Whether any rule is about a directory, so that names decide.
pub(super) fn has_prefixes(rules: &[RetentionRule]) -> bool {
    rules.iter().any(|rule| matches!(rule.selector, Selector::Prefix(_)))
}

/// The place in the policy of the rule that a name of a medium falls under.
fn rule_for(rules: &[RetentionRule], mime: &str, path: &[u8]) -> Option<usize> {
    let rank = |rule: &RetentionRule| match &rule.selector {
        Selector::Prefix(prefix) if is_below(path, prefix) => Some((3, prefix.len())),
        Selector::Type(pattern) if matches_type(pattern, mime) => Some((2, exactness(pattern))),
        Selector::Default => Some((1, 0)),
        _ => None,
    };
    let ranked = rules.iter().enumerate().filter_map(|(nth, rule)| rank(rule).map(|rank| (rank, nth)));
    ranked.max().map(|(_, nth)| nth)
}

/// What is kept for ever is kept longest.
fn length(rule: &RetentionRule) -> (bool, Option<Duration>) {
    (rule.keep.is_none(), rule.keep)
}

/// The rules from the longest to the shortest, by their places in the policy.
pub(super) fn longest_first(rules: &[RetentionRule]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..rules.len()).collect();
    places.sort_by_key(|nth| Reverse(rules.get(*nth).map(length)));
    places
}

/// From when a medium's age counts.
pub(super) fn age_start(record: &Record, by: AgeBy) -> Timestamp {
    match by {
        AgeBy::Written => record.attrs.mtime,
        AgeBy::Used => record.attrs.mtime.max(record.attrs.used),
    }
}

impl InForce {
    /// How long after a noted use of a medium others go without a note, in seconds. `own` is its own retention, if any.
    fn grain(&self, own: Option<u64>) -> i64 {
        match (self.policy.age_by, own) {
            (AgeBy::Used, Some(own)) => self.grain.min(grain_of(i64::try_from(own).unwrap_or(i64::MAX))),
            _ => self.grain,
        }
    }

    /// The latest moment from which a medium's age may count, going by the last note of it: a use soon after it has none.
    fn counts_from(&self, noted: Timestamp, own: Option<u64>) -> Timestamp {
        if self.policy.age_by == AgeBy::Written {
            return noted;
        }
        let fine = noted.plus_secs(self.grain(own));
        // Before the rules were as they are, uses were noted to a day.
        self.used_since.map_or(fine, |since| fine.max(noted.plus_secs(DAY_SECS).min(since)))
    }

    /// The latest age start that a rule lets go at `now`; the same as [`InForce::counts_from`], the other way round.
    fn threshold(&self, keep: Duration, now: Timestamp) -> Timestamp {
        let until = now.plus_secs(-secs(keep));
        if self.policy.age_by == AgeBy::Written {
            return until;
        }
        let is_coarse = self.used_since.is_some_and(|since| since > until);
        until.plus_secs(if is_coarse { -DAY_SECS } else { -self.grain })
    }

    /// The latest age start that is expired at `now`, by class.
    pub fn thresholds(&self, now: Timestamp) -> Vec<(u16, Timestamp)> {
        if self.is_lost {
            return Vec::new();
        }
        let of_rule =
            |(nth, rule): (usize, &RetentionRule)| Some((u16::try_from(nth).ok()?, self.threshold(rule.keep?, now)));
        let mut classes: Vec<_> = self.policy.retention.iter().enumerate().filter_map(of_rule).collect();
        classes.push((Age::OWN, now));
        classes
    }
}

impl Volume {
    /// Where a medium stands among those that age; none when it is held, kept for ever, or no medium. One whose names
    /// cannot be read does not age until they can.
    pub(super) fn age_of(&self, record: &Record) -> Option<Age> {
        self.age_under(&self.in_force(), record).unwrap_or_else(|_| {
            self.tracking.unsorted.lock().insert(record.attrs.ino);
            None
        })
    }

    fn age_under(&self, force: &InForce, record: &Record) -> Result<Option<Age>> {
        if !record.is_medium() || record.attrs.held.is_some() || record.attrs.links.is_empty() {
            return Ok(None);
        }
        let start = age_start(record, force.policy.age_by);
        match record.attrs.retention {
            Some(u64::MAX) => Ok(None),
            Some(own) => {
                let keep = i64::try_from(own).unwrap_or(i64::MAX);
                Ok(Some(Age { class: Age::OWN, when: force.counts_from(start, Some(own)).plus_secs(keep) }))
            }
            None => {
                let rule = self.deciding_rule(&force.policy.retention, record)?;
                // Rules are few: their number is bounded when a policy is set.
                Ok(rule.and_then(|nth| u16::try_from(nth).ok()).map(|class| Age { class, when: start }))
            }
        }
    }

    /// The rule that keeps a medium longest, of those its names fall under: its removal takes all of them.
    fn deciding_rule(&self, rules: &[RetentionRule], record: &Record) -> Result<Option<usize>> {
        let mime = record.mime().unwrap_or("");
        if !has_prefixes(rules) {
            return Ok(rule_for(rules, mime, &[]));
        }
        let mut longest = None;
        for link in &record.attrs.links {
            let nth = rule_for(rules, mime, &self.path_of_name(link)?);
            longest = longest.max(nth.and_then(|nth| Some((length(rules.get(nth)?), nth))));
        }
        Ok(longest.map(|(_, nth)| nth))
    }

    /// The path of one name from the root. Where one of its directories cannot be read that is an error: a rule about it
    /// may keep what is below.
    fn path_of_name(&self, link: &Link) -> Result<Vec<u8>> {
        let mut names = vec![link.name.clone()];
        let mut at = link.parent;
        while at != Ino::ROOT {
            let up = self.only_name_of(at)?.filter(|_| names.len() < super::MAX_DEPTH);
            let up = up.ok_or_else(|| Error::new(Kind::Damaged, format!("directory {at} has no way to the root")))?;
            names.push(up.name);
            at = up.parent;
        }
        names.reverse();
        Ok(names.join(&b'/'))
    }

    /// The name of a directory. It is not brought into memory for that: recovery asks while records still change.
    fn only_name_of(&self, dir: Ino) -> Result<Option<Link>> {
        if let Some(inode) = self.cache.get(dir) {
            return Ok(inode.state.read().record.attrs.links.first().cloned());
        }
        let record = self.read_record(dir)?;
        let record = record.ok_or_else(|| Error::new(Kind::NotFound, format!("no directory {dir}")))?;
        Ok(record.attrs.links.into_iter().next())
    }

    /// Sorts media anew whose names could not be read when they were sorted, since recovery came to their directories later.
    pub(super) fn sort_late(&self) {
        let late = std::mem::take(&mut *self.tracking.unsorted.lock());
        for ino in late {
            if let Ok(inode) = self.inode(ino) {
                self.index_state(&mut inode.state.write());
            }
        }
    }

    /// When a medium's retention ends; none when it never does, as far as can be told.
    pub(super) fn expires_at(&self, record: &Record) -> Option<Timestamp> {
        let force = self.in_force();
        if force.is_lost {
            return None;
        }
        let age = self.age_under(&force, record).ok().flatten()?;
        if age.class == Age::OWN {
            return Some(age.when);
        }
        let keep = force.policy.retention.get(usize::from(age.class))?.keep?;
        Some(force.counts_from(age.when, None).plus_secs(secs(keep)))
    }

    /// Whether a medium may be removed as expired now: past its retention, not held, not open for writing, nor open at all
    /// when age is counted from use.
    pub(super) fn is_expired(&self, state: &State) -> bool {
        let is_in_use = state.writers > 0 || (state.opens > 0 && self.policy().age_by == AgeBy::Used);
        !is_in_use && !state.removed && self.expires_at(&state.record).is_some_and(|at| at <= self.clock.now())
    }

    /// A file was opened or closed that can be read: that is a use, noted unless there is a note of one just before.
    pub(super) fn note_use(&self, inode: &Arc<Inode>, state: &mut State, mode: OpenMode) {
        if !mode.read {
            return;
        }
        let (now, force) = (self.clock.now(), self.in_force());
        if now.secs.saturating_sub(state.record.attrs.used.secs) < force.grain(state.record.attrs.retention) {
            return;
        }
        state.record.attrs.used = now;
        state.record.attrs.atime = now;
        if force.policy.age_by == AgeBy::Used && self.note_change(inode, state).is_ok() {
            let _later = self.attrs_changed(inode, state);
        } else {
            self.mark_dirty(inode);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(selector: Selector, keep: Option<u64>) -> RetentionRule {
        RetentionRule { selector, keep: keep.map(Duration::from_secs) }
    }

    #[test]
    fn the_nearest_rule_wins() {
        let rules = [
            Selector::Default,
            Selector::Type("image/*".into()),
            Selector::Type("image/png".into()),
            Selector::Prefix("a".into()),
            Selector::Prefix("a/b".into()),
        ]
        .map(|selector| rule(selector, Some(1)));
        let pick = |mime: &str, path: &str| rule_for(&rules, mime, path.as_bytes()).unwrap();
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
        assert!(matches_type("audio/ogg; codecs=opus", "Audio/OGG;Codecs=\"OPUS\"; rate=48000"));
        assert!(!matches_type("audio/ogg; codecs=opus", "audio/ogg"));
        assert!(!matches_type("audio/ogg; codecs=opus", "audio/ogg; codecs=vorbis"));
        assert!(exactness("audio/ogg; codecs=opus") > exactness("audio/ogg"));
        assert!(exactness("audio/ogg") > exactness("audio/*"));
    }

    #[test]
    fn uses_are_noted_as_finely_as_the_shortest_retention_needs() {
        let default = |keep| vec![rule(Selector::Default, keep)];
        let grain = |age_by, retention| grain_under(&Policy { age_by, retention, ..Policy::default() });
        assert_eq!(grain(AgeBy::Used, default(None)), DAY_SECS);
        assert_eq!(grain(AgeBy::Used, default(Some(30 * 86_400))), DAY_SECS);
        assert_eq!(grain(AgeBy::Used, default(Some(3600))), 225);
        assert_eq!(grain(AgeBy::Written, default(Some(3600))), DAY_SECS);
    }

    #[test]
    fn what_counts_as_expired_is_the_same_for_one_medium_and_for_all_of_a_rule() {
        let keep = Duration::from_secs(100_000);
        for since in [None, Some(0), Some(500_000), Some(900_000), Some(1_000_000)] {
            let policy = Policy {
                age_by: AgeBy::Used,
                retention: vec![rule(Selector::Default, Some(100_000))],
                ..Policy::default()
            };
            let at = |secs| Timestamp { secs, nanos: 7 };
            let force = InForce::new(policy, since.map(at), false);
            let last = force.threshold(keep, at(1_000_000));
            for (start, expired) in [(last, true), (last.plus_secs(1), false)] {
                let end = force.counts_from(start, None).plus_secs(100_000);
                assert_eq!(end <= at(1_000_000), expired, "rules since {since:?}");
            }
        }
    }
}
