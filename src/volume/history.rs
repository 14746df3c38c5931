//! How full the volume was: a few hundred samples in the state log, and what follows from them.
//!
//! The daemon notes one an hour. Those of the last three days are kept, and the first of each day for 400 days, so that
//! there are never more than 500 of 16 bytes each.

use serde::{Deserialize, Serialize};

use super::{StateBatch, Volume};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::sync::Mutex;

/// The table of the state log that has the samples, by the hour since 1970.
const HISTORY: u8 = 200;
const HOUR_SECS: i64 = 3600;
const HOURS_A_DAY: u32 = 24;
/// Hours for which every sample is kept.
const HOURLY: u32 = 3 * HOURS_A_DAY;
/// Hours for which the first of each day is.
const DAILY: u32 = 400 * HOURS_A_DAY;
/// More samples than there ever are.
const MAX_SAMPLES: usize = 1000;

/// Samples that growth is judged by are at most this old; those of single hours count when there are not enough of days.
const JUDGED_SECS: i64 = 30 * 86_400;
const ENOUGH_SECS: i64 = 7 * 86_400;
/// Samples over less time say nothing.
const LEAST_SECS: i64 = 6 * HOUR_SECS;
/// A forecast beyond this is none.
const FAR_SECS: i64 = 10 * 365 * 86_400;

/// How full the volume was at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The hour that had just begun, in seconds since 1970.
    pub secs: i64,
    /// Bytes of media.
    pub used_bytes: u64,
    /// Media.
    pub media: u64,
}

/// How the volume grows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// How full it was, the oldest first; at most 500.
    pub samples: Vec<Sample>,
    /// The room there is for media, as `df` shows it, in bytes.
    pub size_bytes: u64,
    /// Bytes a day by which it grows, or shrinks when negative: the straight line through the samples of the last 30 days.
    /// None before there are samples of six hours.
    pub bytes_a_day: Option<i64>,
    /// When it is full if it goes on so; none when it does not grow, or that is ten years away.
    pub full_at: Option<Timestamp>,
}

/// What is known of the samples without asking the state log.
#[derive(Default)]
pub(super) struct Noting {
    /// The hour of the last sample. A leaf lock.
    last: Mutex<Option<u32>>,
}

fn hour_of(at: Timestamp) -> Option<u32> {
    u32::try_from(at.secs.div_euclid(HOUR_SECS)).ok()
}

fn encode(used_bytes: u64, media: u64) -> Vec<u8> {
    [used_bytes.to_le_bytes(), media.to_le_bytes()].concat()
}

fn decode(key: &[u8], value: &[u8]) -> Option<(u32, Sample)> {
    let hour = u32::from_be_bytes(key.try_into().ok()?);
    let (used, rest) = value.split_first_chunk()?;
    let (used_bytes, media) = (u64::from_le_bytes(*used), u64::from_le_bytes(rest.try_into().ok()?));
    Some((hour, Sample { secs: i64::from(hour) * HOUR_SECS, used_bytes, media }))
}

/// The hours whose samples are kept no longer at `now`, of those in ascending order. One of the future was noted by a clock
/// that has been put back since.
fn outdated(hours: &[u32], now: u32) -> Vec<u32> {
    let (mut gone, mut last_day) = (Vec::new(), None);
    for hour in hours {
        let day = Some(hour / HOURS_A_DAY);
        let age = now.checked_sub(*hour);
        let is_kept = age.is_some_and(|age| age < HOURLY || (age < DAILY && day != last_day));
        if is_kept {
            last_day = day;
        } else {
            gone.push(*hour);
        }
    }
    gone
}

/// Bytes a second by which use grows: the slope of the straight line with the least squares. `points` are seconds and bytes.
#[allow(clippy::cast_precision_loss, reason = "a forecast is no more exact than that")]
fn slope(points: &[(i64, u64)]) -> Option<f64> {
    let (first, last) = (points.first()?.0, points.last()?.0);
    if last - first < LEAST_SECS {
        return None;
    }
    let count = points.len() as f64;
    let xy = || points.iter().map(|(secs, bytes)| ((secs - first) as f64, *bytes as f64));
    let (mean_x, mean_y) = (xy().map(|(x, _)| x).sum::<f64>() / count, xy().map(|(_, y)| y).sum::<f64>() / count);
    let (mut both, mut square) = (0.0, 0.0);
    for (x, y) in xy() {
        both += (x - mean_x) * (y - mean_y);
        square += (x - mean_x) * (x - mean_x);
    }
    Some(both / square)
}

/// The points that growth is judged by: one a day when there are days enough, else every one; and how it is now.
fn judged(samples: &[Sample], now: (i64, u64)) -> Vec<(i64, u64)> {
    let recent: Vec<&Sample> =
        samples.iter().filter(|s| s.secs <= now.0 && now.0.saturating_sub(s.secs) <= JUDGED_SECS).collect();
    let is_long = recent.first().is_some_and(|first| now.0 - first.secs >= ENOUGH_SECS);
    let (mut points, mut last_day) = (Vec::new(), None);
    for sample in recent {
        let day = Some(sample.secs.div_euclid(86_400));
        if !is_long || day != last_day {
            points.push((sample.secs, sample.used_bytes));
        }
        last_day = day;
    }
    points.push(now);
    points
}

/// Growth as the samples tell it.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a forecast is no more exact than that"
)]
pub(super) fn growth(samples: Vec<Sample>, now: Timestamp, used_bytes: u64, size_bytes: u64) -> Growth {
    let slope = slope(&judged(&samples, (now.secs, used_bytes)));
    // A float beyond the bounds of an integer becomes the nearest one.
    let bytes_a_day = slope.map(|slope| (slope * 86_400.0).round() as i64);
    let left = size_bytes.saturating_sub(used_bytes) as f64;
    let secs = slope.filter(|slope| *slope > 0.0).map(|slope| (left / slope).round() as i64);
    let full_at = secs.filter(|secs| *secs <= FAR_SECS).map(|secs| now.plus_secs(secs));
    Growth { samples, size_bytes, bytes_a_day, full_at }
}

impl Volume {
    /// Notes how full the volume is, once an hour, when a daemon has it.
    pub(super) fn note_history(&self) {
        if !self.sweeping.is_scheduled() || self.store.latch().reason().is_some() {
            return;
        }
        let Some(hour) = hour_of(self.clock.now()) else { return };
        if *self.noting.last.lock() == Some(hour) {
            return;
        }
        match self.note_hour(hour) {
            Ok(()) => *self.noting.last.lock() = Some(hour),
            // A full disk, for one, takes no note of itself.
            Err(error) => tracing::debug!(%error, "how full the volume is was not noted"),
        }
    }

    /// After a crash either all of it holds or nothing, and what was noted before stays.
    fn note_hour(&self, hour: u32) -> Result<()> {
        let present: Vec<u32> = self.samples()?.iter().map(|(hour, _)| *hour).collect();
        let mut batch = StateBatch::new();
        for gone in outdated(&present, hour) {
            batch.delete(HISTORY, &gone.to_be_bytes());
        }
        if !present.contains(&hour) {
            let (used_bytes, media) = self.used();
            batch.put(HISTORY, &hour.to_be_bytes(), encode(used_bytes, media));
        }
        self.state_commit(&batch)
    }

    fn samples(&self) -> Result<Vec<(u32, Sample)>> {
        let kept = self.state_scan(HISTORY, None, MAX_SAMPLES)?;
        Ok(kept.iter().filter_map(|(key, value)| decode(key, value)).collect())
    }

    /// How the volume has grown, and when it is full if it goes on so.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn growth(&self) -> Result<Growth> {
        let samples = self.samples()?.into_iter().map(|(_, sample)| sample).collect();
        let (used_bytes, size_bytes, _) = self.fill()?;
        Ok(growth(samples, self.clock.now(), used_bytes, size_bytes))
    }
}
