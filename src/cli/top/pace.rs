//! What was asked of a mount between two looks, or since its volume was opened.

use std::time::Duration;

use super::Look;
use crate::volume::{BOUNDS, OperationFigures};

/// The requests of one kind.
pub struct Asked<'a> {
    /// The kind's word.
    pub operation: &'a str,
    /// How many in all.
    pub count: u64,
    /// How many a second; none without an earlier look.
    pub rate: Option<f64>,
    /// How long one took, in the mean.
    pub mean: Duration,
    /// How long 99 of 100 took at most; none when it was longer than any bound.
    pub most: Option<Duration>,
    /// Those that failed, in all.
    pub failures: u64,
}

/// `a` less `b`, which an older daemon may have counted higher.
fn less(a: u64, b: u64) -> u64 {
    a.saturating_sub(b)
}

#[allow(clippy::cast_precision_loss, reason = "a rate is no more exact than that")]
fn rate(count: u64, secs: f64) -> f64 {
    count as f64 / secs.max(0.001)
}

/// Seconds between two looks.
fn secs(look: &Look, before: &Look) -> f64 {
    look.taken.duration_since(before.taken).as_secs_f64()
}

/// The upper end of the class in which the last of 99 of 100 requests was.
fn most(classes: &[u64]) -> Option<Duration> {
    let count: u64 = classes.iter().sum();
    let mut left = count - count / 100;
    for (class, bound) in classes.iter().zip(BOUNDS) {
        if left <= *class {
            return Some(Duration::from_nanos(bound));
        }
        left -= class;
    }
    None
}

fn asked<'a>(now: &'a OperationFigures, before: Option<(&OperationFigures, f64)>) -> Asked<'a> {
    let earlier = before.map(|(figures, _)| figures);
    let of = |nth: usize| earlier.and_then(|figures| figures.classes.get(nth)).copied().unwrap_or(0);
    let mut classes: Vec<u64> = now.classes.iter().enumerate().map(|(nth, class)| less(*class, of(nth))).collect();
    let mut nanos = less(now.nanos, earlier.map_or(0, |figures| figures.nanos));
    let recent: u64 = classes.iter().sum();
    if recent == 0 {
        // Nothing was asked since: how long it took before is all there is to tell.
        classes.clone_from(&now.classes);
        nanos = now.nanos;
    }
    let count = now.count();
    let timed: u64 = classes.iter().sum();
    Asked {
        operation: &now.operation,
        count,
        rate: before.map(|(_, secs)| rate(recent, secs)),
        mean: Duration::from_nanos(nanos.checked_div(timed).unwrap_or(0)),
        most: most(&classes),
        failures: now.failures,
    }
}

/// The kinds of requests that there were, the most frequent first.
pub fn requests<'a>(look: &'a Look, before: Option<&Look>) -> Vec<Asked<'a>> {
    let earlier = |operation: &str| {
        let before = before?;
        let figures = before.overview.mount.operations.iter().find(|of| of.operation == operation)?;
        Some((figures, secs(look, before)))
    };
    let operations = look.overview.mount.operations.iter().filter(|of| of.count() > 0);
    let mut all: Vec<Asked<'_>> = operations.map(|of| asked(of, earlier(&of.operation))).collect();
    all.sort_by(|a, b| {
        let rates = b.rate.unwrap_or(0.0).total_cmp(&a.rate.unwrap_or(0.0));
        rates.then(b.count.cmp(&a.count))
    });
    all
}

/// Bytes read and written a second; none without an earlier look.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is shown in rough units")]
pub fn bytes(look: &Look, before: Option<&Look>) -> Option<(u64, u64)> {
    let before = before?;
    let (now, then, secs) = (&look.overview.mount, &before.overview.mount, secs(look, before));
    let a_second = |now: u64, then: u64| rate(less(now, then), secs) as u64;
    Some((a_second(now.read_bytes, then.read_bytes), a_second(now.written_bytes, then.written_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(classes: [u64; 3], nanos: u64) -> OperationFigures {
        let classes = [&classes[..], &[0; 11]].concat();
        OperationFigures { operation: "read".to_owned(), classes, nanos, failures: 0 }
    }

    #[test]
    fn what_was_asked_between_two_looks_is_told_apart_from_all() {
        let (now, before) = (figures([100, 50, 1], 260_000), figures([100, 49, 0], 200_000));
        let found = asked(&now, Some((&before, 2.0)));
        assert_eq!((found.count, found.rate), (151, Some(1.0)));
        assert_eq!((found.mean, found.most), (Duration::from_micros(30), Some(Duration::from_micros(16))));
        let all = asked(&now, None);
        assert_eq!((all.rate, all.most), (None, Some(Duration::from_micros(4))));
        assert_eq!(asked(&now, Some((&now, 1.0))).mean, all.mean, "idle: as it was");
        assert_eq!(asked(&before, Some((&now, 1.0))).rate, Some(0.0), "a daemon that began anew");
    }

    #[test]
    fn what_is_longer_than_all_bounds_has_none() {
        let mut slow = figures([0, 0, 0], 1);
        slow.classes[13] = 1;
        assert_eq!(asked(&slow, None).most, None);
    }
}
