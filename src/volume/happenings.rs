//! What there is to tell somebody outside: marks that are crossed, writes that are refused, damage, purges.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Volume;
use super::types::PurgeReport;
use crate::clock::Timestamp;
use crate::error::Result;

/// Hundredths of the room that use has to fall below a mark before it counts as fallen.
const SLACK: u8 = 5;
/// Seconds without a refused write after which the next one is told again.
const CALM_SECS: i64 = 60;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HappeningKind {
    /// Use has come to the warning mark.
    Warn,
    /// Use has fallen 5 % below it again.
    WarnOver,
    /// Use has come to the mark from which on expired media are removed.
    PurgeMark,
    /// Use has fallen 5 % below it again.
    PurgeMarkOver,
    /// A write was refused for want of room, the first for a minute.
    Refused,
    /// A scrub has found damage.
    Damage,
    /// A write or sync of the disk has failed: no more writes are taken.
    Poisoned,
    /// Expired media were removed, by the daemon itself or because somebody asked for it.
    Purge,
    /// Media have newly expired.
    Expired,
}

impl HappeningKind {
    /// The word for it, as hooks and webhooks are told it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            HappeningKind::Warn => "warn",
            HappeningKind::WarnOver => "warn-over",
            HappeningKind::PurgeMark => "purge-mark",
            HappeningKind::PurgeMarkOver => "purge-mark-over",
            HappeningKind::Refused => "refused",
            HappeningKind::Damage => "damage",
            HappeningKind::Poisoned => "poisoned",
            HappeningKind::Purge => "purge",
            HappeningKind::Expired => "expired",
        }
    }
}

/// Something that has happened, without a name in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// What.
    pub event: HappeningKind,
    /// When.
    pub at: Timestamp,
    /// Bytes of media.
    pub used_bytes: u64,
    /// The room there is for media, as `df` shows it, in bytes.
    pub size_bytes: u64,
    /// Hundredths of it in use, rounded down.
    pub percent: u8,
    /// Media that were removed, have newly expired, or were found damaged; writes that were refused; else 0.
    pub count: u64,
    /// Bytes of the media that were removed or have newly expired; else 0.
    pub bytes: u64,
}

/// Told of what happens, on any thread of the volume: it must not block. Called without locks held.
pub trait Listener: Send + Sync {
    /// Something has happened.
    fn happened(&self, happening: &Happening);
}

/// What was seen at the last look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Whether use has come to the warning mark and not fallen since.
    pub is_warned: bool,
    is_over: bool,
    is_poisoned: bool,
    refused: u64,
    /// When a write was refused last.
    refused_at: Option<Timestamp>,
    damaged: u64,
}

/// Whether use stands at a mark now, when it did or did not before.
fn stands_at(mark: Option<u8>, percent: u8, did: bool) -> bool {
    match mark {
        Some(mark) if did => percent >= mark.saturating_sub(SLACK).max(1),
        Some(mark) => percent >= mark,
        None => false,
    }
}

impl Volume {
    /// Has `listener` told of what happens from now on.
    pub fn set_listener(&self, listener: Arc<dyn Listener>) {
        *self.sweeping.listener.write() = Some(listener);
    }

    pub(super) fn has_listener(&self) -> bool {
        self.sweeping.listener.read().is_some()
    }

    pub(super) fn tell(&self, happenings: &[Happening]) {
        let listener = self.sweeping.listener.read().clone();
        if let Some(listener) = listener {
            happenings.iter().for_each(|happening| listener.happened(happening));
        }
    }

    /// Tells that a purge was made that somebody has asked for.
    pub(super) fn tell_purged(&self, report: &PurgeReport) {
        match self.happening(HappeningKind::Purge, report.media, report.bytes) {
            Ok(happening) => self.tell(&[happening]),
            Err(e) => tracing::warn!("a purge was not told: {e}"),
        }
    }

    /// Bytes in use, bytes of room as `df` shows it, and the hundredths of it in use.
    pub(super) fn fill(&self) -> Result<(u64, u64, u8)> {
        let shown = self.statfs()?;
        let unit = u64::from(shown.block_size);
        let used = self.quota.used().0;
        let size = shown.blocks.saturating_mul(unit).max(used);
        let percent = u128::from(used) * 100 / u128::from(size.max(1));
        Ok((used, size, u8::try_from(percent).unwrap_or(u8::MAX)))
    }

    /// Whether use has come to a mark.
    pub(super) fn is_over(&self, mark: Option<u8>) -> Result<bool> {
        mark.map_or(Ok(false), |mark| Ok(self.fill()?.2 >= mark))
    }

    pub(super) fn happening(&self, event: HappeningKind, count: u64, bytes: u64) -> Result<Happening> {
        // The disk of a poisoned volume may be one that can no longer be asked.
        let (used_bytes, size_bytes, percent) = match self.fill() {
            Err(_) if self.store.latch().reason().is_some() => (self.quota.used().0, 0, 0),
            fill => fill?,
        };
        Ok(Happening { event, at: self.clock.now(), used_bytes, size_bytes, percent, count, bytes })
    }

    /// Looks at marks, refused writes, damage and the latch, and tells what is new.
    pub(super) fn watch(&self, seen: &mut Seen, told: &mut Vec<Happening>) -> Result<()> {
        let damaged = self.scrubbing.found();
        if damaged > seen.damaged {
            told.push(self.happening(HappeningKind::Damage, damaged - seen.damaged, 0)?);
            seen.damaged = damaged;
        }
        if self.store.latch().reason().is_some() {
            if !std::mem::replace(&mut seen.is_poisoned, true) {
                told.push(self.happening(HappeningKind::Poisoned, 0, 0)?);
            }
            return Ok(());
        }
        self.watch_refusals(seen, told)?;
        let (policy, (_, _, percent)) = (self.policy(), self.fill()?);
        let is_warned = stands_at(policy.warn_at, percent, seen.is_warned);
        if is_warned != std::mem::replace(&mut seen.is_warned, is_warned) {
            let mark = policy.warn_at.unwrap_or(0);
            match is_warned {
                true => tracing::warn!("the volume is {percent} % full; the warning mark is {mark} %"),
                false => tracing::info!("the volume is {percent} % full again; the warning mark is {mark} %"),
            }
            let event = if is_warned { HappeningKind::Warn } else { HappeningKind::WarnOver };
            told.push(self.happening(event, 0, 0)?);
        }
        let is_over = stands_at(policy.purge_at, percent, seen.is_over);
        if is_over != std::mem::replace(&mut seen.is_over, is_over) {
            let event = if is_over { HappeningKind::PurgeMark } else { HappeningKind::PurgeMarkOver };
            told.push(self.happening(event, 0, 0)?);
        }
        Ok(())
    }

    fn watch_refusals(&self, seen: &mut Seen, told: &mut Vec<Happening>) -> Result<()> {
        let (_, _, refused) = self.quota.used();
        if refused <= seen.refused {
            return Ok(());
        }
        let now = self.clock.now();
        let is_new = seen.refused_at.is_none_or(|last| last > now || last.plus_secs(CALM_SECS) <= now);
        if is_new {
            told.push(self.happening(HappeningKind::Refused, refused - seen.refused, 0)?);
        }
        (seen.refused, seen.refused_at) = (refused, Some(now));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_left_only_well_below_it() {
        let at = |percent, did| stands_at(Some(80), percent, did);
        assert!(!at(79, false) && at(80, false) && at(79, true) && at(75, true) && !at(74, true));
        assert!(!stands_at(None, 100, true));
        assert!(stands_at(Some(3), 1, true) && !stands_at(Some(3), 0, true));
    }
}
