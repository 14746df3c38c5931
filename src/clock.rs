//! Time and randomness as inputs: the only place that asks the machine for either.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

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
    use std::time::Duration;

    #[test]
    fn times_before_1970_round_down() {
        let t = Timestamp::from_system(UNIX_EPOCH - Duration::from_millis(1500));
        assert_eq!(t, Timestamp { secs: -2, nanos: 500_000_000 });
    }
}
