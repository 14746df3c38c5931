//! What is done about expired media without anybody asking: from when each has been shown is noted, those shown for the
//! grace period are removed, and a volume that fills up is warned of.
//!
//! The notes stand in the index alone, bound to the age they were made for: a medium whose age changes, or an index that is
//! made anew, has its grace period anew.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Volume;
use super::aging::secs;
use super::happenings::{Happening, HappeningKind, Listener, Seen};
use super::origin::{Way, by_way};
use super::purge::{PURGE_STEP, blob_bytes};
use super::record::Age;
use super::types::{ExpiryAction, Policy, PurgeReport};
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::ids::Ino;
use crate::index::{Table, schema};
use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::sync::{Mutex, RwLock};

/// Front of the keys under which it is noted from when a medium is shown; the key of its age follows.
const SHOWN: &[u8] = b"shown ";
/// Sweeps in a grace period, and how far apart they are at least and at most, in seconds.
const SWEEPS: i64 = 24;
const SWEEP_SECS: (i64, i64) = (1, 3600);
/// Media of one rule looked at in one step, when the oldest are sought.
const OLDEST_STEP: usize = 64;
/// Whether the index has notes: not looked yet, no, yes.
const UNKNOWN: u8 = 0;
const NONE: u8 = 1;
const SOME: u8 = 2;

/// What the daemon does about expired media by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepStatus {
    /// Whether anything is done by itself: not while the volume is open for a single command.
    pub is_scheduled: bool,
    /// What becomes of expired media.
    pub action: ExpiryAction,
    /// The grace period.
    pub grace: Duration,
    /// The mark from which on somebody is warned, in hundredths of the room.
    pub warn_at: Option<u8>,
    /// The mark from which on expired media are removed.
    pub purge_at: Option<u8>,
    /// Hundredths of the room in use.
    pub percent: u8,
    /// Whether somebody was warned and use has not fallen since.
    pub is_warned: bool,
    /// When all expired media were last looked through.
    pub last: Option<Timestamp>,
    /// Media removed by itself since the volume was opened.
    pub purged_media: u64,
    /// Bytes of them.
    pub purged_bytes: u64,
}

/// A sweep, or a search for the oldest, on its way.
#[derive(Default)]
struct Course {
    /// Where the sweep goes on; none while none runs.
    sweep: Option<Vec<u8>>,
    last: Option<Timestamp>,
    /// Where the search for the oldest goes on in each rule; none while none runs.
    relief: Option<BTreeMap<u16, Vec<u8>>>,
    /// When a search has found nothing more.
    relieved: Option<Timestamp>,
    expired: PurgeReport,
    removed: PurgeReport,
    seen: Seen,
    total: PurgeReport,
}

/// What is told of a course.
#[derive(Default)]
struct Told {
    last: Option<Timestamp>,
    is_warned: bool,
    total: PurgeReport,
}

/// All that a volume does about expired media by itself.
#[derive(Default)]
pub(super) struct Sweeping {
    is_scheduled: AtomicBool,
    has_notes: AtomicU8,
    pub(super) listener: RwLock<Option<Arc<dyn Listener>>>,
    /// The volume's own thread alone takes it, and keeps it while it removes media.
    course: Mutex<Course>,
    /// What of it is told. A leaf lock.
    told: Mutex<Told>,
}

fn shown_key(age_key: &[u8]) -> Vec<u8> {
    [SHOWN, age_key].concat()
}

fn sweep_every(grace: Duration) -> i64 {
    (secs(grace) / SWEEPS).clamp(SWEEP_SECS.0, SWEEP_SECS.1)
}

/// Whether `secs` have passed since then; a clock that was put back is no reason to wait.
fn has_passed(since: Option<Timestamp>, secs: i64, now: Timestamp) -> bool {
    since.is_none_or(|since| since > now || since.plus_secs(secs) <= now)
}

impl Sweeping {
    /// Whether a daemon has the volume, not a single command.
    pub fn is_scheduled(&self) -> bool {
        self.is_scheduled.load(Ordering::Acquire)
    }
}

impl Volume {
    /// Has expired media looked after by itself from now on, as the policy says.
    pub fn schedule_sweeps(&self) {
        self.sweeping.is_scheduled.store(true, Ordering::Release);
    }

    /// What the daemon does about expired media by itself.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn sweep_status(&self) -> Result<SweepStatus> {
        let (policy, (_, _, percent)) = (self.policy(), self.fill()?);
        let course = self.sweeping.told.lock();
        Ok(SweepStatus {
            is_scheduled: self.sweeping.is_scheduled(),
            action: policy.action,
            grace: policy.grace,
            warn_at: policy.warn_at,
            purge_at: policy.purge_at,
            percent,
            is_warned: course.is_warned,
            last: course.last,
            purged_media: course.total.media,
            purged_bytes: course.total.bytes,
        })
    }

    /// Goes on for one tick; `looks` has it ask how the volume is.
    pub(super) fn sweep_some(&self, looks: bool) {
        let acts = self.sweeping.is_scheduled() && self.store.latch().reason().is_none();
        if !acts && !self.has_listener() {
            return;
        }
        let mut told = Vec::new();
        let outcome = {
            let mut course = self.sweeping.course.lock();
            let watched = if looks { self.watch(&mut course.seen, &mut told) } else { Ok(()) };
            let outcome = watched.and_then(|()| if acts { self.go_on(&mut course, looks, &mut told) } else { Ok(()) });
            let (last, is_warned, total) = (course.last, course.seen.is_warned, course.total.clone());
            *self.sweeping.told.lock() = Told { last, is_warned, total };
            outcome
        };
        if let Err(e) = outcome {
            tracing::warn!("expired media could not be looked through: {e}");
        }
        self.tell(&told);
    }

    fn go_on(&self, course: &mut Course, looks: bool, told: &mut Vec<Happening>) -> Result<()> {
        let (policy, now) = (self.policy(), self.clock.now());
        let is_over = looks && self.is_over(policy.purge_at)?;
        if is_over && course.relief.is_none() && has_passed(course.relieved, sweep_every(policy.grace), now) {
            self.settle();
            course.relief = Some(BTreeMap::new());
        }
        if policy.action == ExpiryAction::Show && policy.purge_at.is_none() {
            (course.sweep, course.relief) = (None, None);
            return Ok(());
        }
        if course.sweep.is_none() && has_passed(course.last, sweep_every(policy.grace), now) {
            self.settle();
            course.sweep = Some(Vec::new());
        }
        if let Some(after) = course.sweep.take() {
            course.sweep = self.sweep_step(&after, course, &policy, now)?;
            if course.sweep.is_none() {
                course.last = Some(now);
                let expired = std::mem::take(&mut course.expired);
                if expired.media > 0 {
                    tracing::info!(media = expired.media, bytes = expired.bytes, "media have expired");
                    told.push(self.happening(HappeningKind::Expired, expired.media, expired.bytes)?);
                }
            }
        }
        if let Some(places) = course.relief.take() {
            course.relief = self.relieve(places, course, &policy)?;
            if course.relief.is_none() {
                course.relieved = Some(now);
            }
        }
        let removed = course.removed.clone();
        if removed.media > 0 && course.sweep.is_none() && course.relief.is_none() {
            self.ledger.sync()?;
            tracing::info!(media = removed.media, bytes = removed.bytes, "expired media were removed by themselves");
            told.push(self.happening(HappeningKind::Purge, removed.media, removed.bytes)?);
            course.removed = PurgeReport::default();
        }
        Ok(())
    }

    /// Looks at the next expired media: notes those that were not, removes those that are due. None at the end.
    fn sweep_step(
        &self,
        after: &[u8],
        course: &mut Course,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>> {
        let keys = self.expired_keys(after, PURGE_STEP)?;
        let Some(next) = keys.last().map(|(key, _)| key.clone()) else { return Ok(None) };
        for (key, listed) in keys {
            let Some((_, _, ino)) = schema::parse_age(&key) else { continue };
            if self.shown_since(&key)?.is_none() {
                self.index.put(Table::Meta, &shown_key(&key), now.secs.to_le_bytes().to_vec());
                self.sweeping.has_notes.store(SOME, Ordering::Release);
                course.expired.media += 1;
                course.expired.bytes += listed.len;
            }
            if policy.action == ExpiryAction::Purge && self.is_due(&key)? {
                by_way(Way::Schedule, || self.remove_counted(ino, &key, course))?;
            }
        }
        Ok(Some(next))
    }

    fn remove_counted(&self, ino: Ino, key: &[u8], course: &mut Course) -> Result<()> {
        let Ok(inode) = self.inode(ino) else { return Ok(()) };
        let (bytes, of_blob) = {
            let state = inode.state.read();
            (state.record.len, blob_bytes(&state))
        };
        if self.remove_due(ino, key)? {
            for report in [&mut course.removed, &mut course.total] {
                report.media += 1;
                report.bytes += bytes;
                report.blob_bytes += of_blob;
            }
        }
        Ok(())
    }

    /// Removes what is due, the longest expired first, until use is below the mark. None at the end.
    fn relieve(
        &self,
        mut places: BTreeMap<u16, Vec<u8>>,
        course: &mut Course,
        policy: &Policy,
    ) -> Result<Option<BTreeMap<u16, Vec<u8>>>> {
        let Some(mark) = policy.purge_at else { return Ok(None) };
        let oldest = self.oldest_expired(&places, policy)?;
        if oldest.is_empty() {
            return Ok(None);
        }
        for (_, class, key) in oldest {
            if self.fill()?.2 < mark {
                return Ok(None);
            }
            if let Some((_, _, ino)) = schema::parse_age(&key)
                && self.is_due(&key)?
            {
                by_way(Way::Watermark, || self.remove_counted(ino, &key, course))?;
            }
            places.insert(class, key);
        }
        Ok(Some(places))
    }

    /// The longest expired media behind `places`, in order: none is left out that is longer expired than the last of them.
    fn oldest_expired(
        &self,
        places: &BTreeMap<u16, Vec<u8>>,
        policy: &Policy,
    ) -> Result<Vec<(Timestamp, u16, Vec<u8>)>> {
        let (mut found, mut bound) = (Vec::new(), None::<Timestamp>);
        for (class, until) in self.in_force().thresholds(self.clock.now()) {
            let keep = policy.retention.get(usize::from(class)).and_then(|rule| rule.keep);
            let ends = |when: Timestamp| match (class, keep) {
                (Age::OWN, _) | (_, None) => when,
                (_, Some(keep)) => when.plus_secs(secs(keep)),
            };
            let first = schema::age_bound(class, i64::MIN);
            let to = schema::age(class, until, Ino(u64::MAX));
            let from = places.get(&class).map_or(Bound::Included(&first[..]), |key| Bound::Excluded(key.as_slice()));
            let keys = self.index.scan_keys(Table::Ages, from, Bound::Included(&to), OLDEST_STEP)?;
            let of_class: Vec<_> = keys
                .into_iter()
                .filter_map(|key| schema::parse_age(&key).map(|(_, when, _)| (ends(when), class, key)))
                .collect();
            if of_class.len() == OLDEST_STEP
                && let Some((last, ..)) = of_class.last()
            {
                bound = Some(bound.map_or(*last, |bound| bound.min(*last)));
            }
            found.extend(of_class);
        }
        found.retain(|(end, ..)| bound.is_none_or(|bound| *end <= bound));
        found.sort_unstable();
        Ok(found)
    }

    /// From when the medium with this key in the index has been shown as expired; none when that is not noted, or was
    /// under other rules.
    fn shown_since(&self, age_key: &[u8]) -> Result<Option<Timestamp>> {
        let noted = self.index.get(Table::Meta, &shown_key(age_key))?;
        let since = noted.and_then(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes);
        let since = since.map(|secs| Timestamp { secs, nanos: 0 });
        // Notes count whole seconds, so one of the second in which the rules changed may be older than they are.
        let is_of_rules = |at: &Timestamp| self.in_force().acting_since.is_none_or(|rules| rules.secs < at.secs);
        Ok(since.filter(|at| *at <= self.clock.now()).filter(is_of_rules))
    }

    /// Whether the expired medium with this key in the index has been shown for the grace period.
    pub(super) fn is_due(&self, age_key: &[u8]) -> Result<bool> {
        let grace = secs(self.policy().grace);
        Ok(self.shown_since(age_key)?.is_some_and(|since| since.plus_secs(grace) <= self.clock.now()))
    }

    /// Removes a medium if it is expired at this moment, and has been for the grace period without its age changing. Not
    /// durable on return.
    pub(super) fn remove_due(&self, ino: Ino, age_key: &[u8]) -> Result<bool> {
        let may_go = |state: &super::inode::State| {
            self.require_expired(state)?;
            let age = self.age_of(&state.record).map(|age| schema::age(age.class, age.when, ino));
            match age.is_some_and(|age| age == age_key) && self.is_due(age_key)? {
                true => Ok(()),
                false => Err(Error::new(Kind::NotExpired, "its grace period has begun anew")),
            }
        };
        match self.removing(|| self.remove_medium(ino, may_go)) {
            Ok(()) => Ok(true),
            Err(e) if matches!(e.kind(), Kind::NotExpired | Kind::NotFound) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The age of a medium is another one now, or it is gone: what was noted for this one holds no longer.
    pub(super) fn forget_shown(&self, age: Age, ino: Ino) {
        if self.sweeping.has_notes.load(Ordering::Acquire) == UNKNOWN {
            let end = schema::after(SHOWN);
            let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let found = self.index.scan_keys(Table::Meta, Bound::Included(SHOWN), end, 1);
            let has = if found.is_ok_and(|found| found.is_empty()) { NONE } else { SOME };
            // A note that was made meanwhile counts.
            let _other = self.sweeping.has_notes.compare_exchange(UNKNOWN, has, Ordering::AcqRel, Ordering::Acquire);
        }
        if self.sweeping.has_notes.load(Ordering::Acquire) == SOME {
            self.index.delete(Table::Meta, &shown_key(&schema::age(age.class, age.when, ino)));
        }
    }
}
