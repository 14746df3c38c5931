//! Time and randomness as inputs: the only place that asks the machine for either.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time with nanoseconds, as `stat(2)` shows it. May lie before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01 UTC, rounded down.
    pub secs: i64,
    /// Nanoseconds past `secs`, below 1,000,000,000.
    pub nanos: u32,
}

impl Timestamp {
    /// Reads a system time; a time outside of 64-bit seconds becomes the nearest end.
    #[must_use]
    pub fn from_system(time: SystemTime) -> Timestamp {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => {
                Timestamp { secs: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nanos: after.subsec_nanos() }
            }
            Err(before) => {
                let gap = before.duration();
                let secs = i64::try_from(gap.as_secs()).unwrap_or(i64::MAX);
                if gap.subsec_nanos() == 0 {
                    Timestamp { secs: -secs, nanos: 0 }
                } else {
                    Timestamp { secs: -secs - 1, nanos: 1_000_000_000 - gap.subsec_nanos() }
                }
            }
        }
    }

    /// This point in time, `secs` seconds later (earlier when negative), bounded by the type.
    #[must_use]
    pub fn plus_secs(self, secs: i64) -> Timestamp {
        Timestamp { secs: self.secs.saturating_add(secs), nanos: self.nanos }
    }

    /// As RFC 3339 in UTC; a point outside of the years -9999 to 9999 as seconds since 1970.
    #[must_use]
    pub fn rfc3339(self) -> String {
        self.civil().map_or_else(|| self.secs.to_string(), |at| at.to_string())
    }

    /// The same point as calendars know it; none outside of the years -9999 to 9999.
    #[must_use]
    pub fn civil(self) -> Option<jiff::Timestamp> {
        let whole = jiff::Timestamp::from_second(self.secs).ok()?;
        whole.checked_add(jiff::SignedDuration::from_nanos(i64::from(self.nanos))).ok()
    }
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock (`CLOCK_REALTIME`).
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_system(SystemTime::now())
    }
}

/// A clock that stands still until it is moved; for tests and replays.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `secs` seconds since 1970.
    #[must_use]
    pub fn new(secs: i64) -> ManualClock {
        ManualClock(AtomicI64::new(secs))
    }

    /// Moves the clock on by `secs` seconds.
    pub fn advance(&self, secs: i64) {
        self.0.fetch_add(secs, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp { secs: self.0.load(Ordering::Relaxed), nanos: 0 }
    }
}

/// Tells how long something takes, by a clock that nobody sets.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// One that begins now.
    #[must_use]
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Nanoseconds since it began.
    #[must_use]
    pub fn nanos(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Units of time as people write them, the largest first; a year is 365.25 days.
const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
const YEAR_SECS: u64 = 31_557_600;
const MONTH_SECS: u64 = 2_630_016;

/// A time in the short form in which it can be given again: `30d`, `12h`, `1h 30m`, `1y`.
#[must_use]
pub fn short(time: Duration) -> String {
    let secs = time.as_secs();
    if secs == 0 || time.subsec_nanos() != 0 {
        return humantime::format_duration(time).to_string();
    }
    // Days are more usual than months, but for a time that is no whole number of days.
    let is_in_days = secs.is_multiple_of(86_400);
    for (unit, name) in [(YEAR_SECS, "y"), (MONTH_SECS, "M")] {
        if secs.is_multiple_of(unit) && (unit == YEAR_SECS || !is_in_days) {
            return format!("{}{name}", secs / unit);
        }
    }
    let mut left = secs;
    let mut parts = Vec::new();
    for (unit, name) in UNITS {
        if left >= unit {
            parts.push(format!("{}{name}", left / unit));
            left %= unit;
        }
    }
    parts.join(" ")
}

/// Fills `buf` with random bytes from the operating system (`getrandom(2)`).
///
/// # Panics
/// When the kernel has no randomness to give: nothing secret may be made without it.
pub fn random_bytes(buf: &mut [u8]) {
    if let Err(e) = getrandom::fill(buf) {
        panic!("the operating system gives no random bytes: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_it_can_be_given_again() {
        for text in ["7d", "30d", "365d", "90d", "12h", "1h 30m", "1y", "2y", "1M", "1m 30s", "1d 1h", "45s", "59m"] {
            let time = humantime::parse_duration(text).unwrap();
            assert_eq!(short(time), text);
        }
        for text in ["1w", "24h", "500ms", "1y 1d", "36h", "60m"] {
            let time = humantime::parse_duration(text).unwrap();
            assert_eq!(humantime::parse_duration(&short(time)).unwrap(), time, "{text}");
        }
        assert_eq!(short(Duration::ZERO), "0s");
    }

    #[test]
    fn times_before_1970_round_down() {
        let t = Timestamp::from_system(UNIX_EPOCH - Duration::from_millis(1500));
        assert_eq!(t, Timestamp { secs: -2, nanos: 500_000_000 });
    }
}
