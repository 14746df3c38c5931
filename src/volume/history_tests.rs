//! How full the volume was, hour by hour, and what is made of it.

use super::Policy;
use super::aging_tests::{Bench, put};
use super::history::{Growth, Sample, growth};
use crate::clock::Timestamp;
use crate::ids::Ino;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// An hour that begins a day.
const NOW: i64 = 20_000 * DAY;

fn at(secs: i64, used_bytes: u64) -> Sample {
    Sample { secs, used_bytes, media: 1 }
}

fn judge(samples: &[Sample], used: u64, size: u64) -> Growth {
    growth(samples.to_vec(), Timestamp { secs: NOW, nanos: 0 }, used, size)
}

#[test]
fn what_grows_steadily_is_full_when_its_room_is_used_up() {
    let days: Vec<Sample> = (1..=20).rev().map(|ago| at(NOW - ago * DAY, 1000 - 10 * ago as u64)).collect();
    let found = judge(&days, 1000, 1100);
    assert_eq!((found.bytes_a_day, found.full_at.unwrap().secs), (Some(10), NOW + 10 * DAY));
    let full = judge(&days, 1000, 1000);
    assert_eq!(full.full_at.unwrap().secs, NOW);
    assert_eq!(judge(&days, 1000, 1_000_000).full_at, None, "more than ten years away");
}

#[test]
fn what_does_not_grow_is_never_full() {
    let days: Vec<Sample> = (1..=20).rev().map(|ago| at(NOW - ago * DAY, 1000 + 10 * ago as u64)).collect();
    assert_eq!(judge(&days, 1000, 2000).bytes_a_day, Some(-10));
    assert_eq!(judge(&days, 1000, 2000).full_at, None);
    let still: Vec<Sample> = (1..=20).rev().map(|ago| at(NOW - ago * DAY, 5)).collect();
    assert_eq!((judge(&still, 5, 6).bytes_a_day, judge(&still, 5, 6).full_at), (Some(0), None));
}

#[test]
fn a_few_hours_tell_nothing_and_half_a_day_does() {
    let hours = |count: i64| -> Vec<Sample> { (1..=count).rev().map(|ago| at(NOW - ago * HOUR, 0)).collect() };
    for count in [0, 1, 5] {
        assert_eq!(judge(&hours(count), 0, 9).bytes_a_day, None, "{count} hours");
    }
    assert_eq!(judge(&hours(12), 0, 9).bytes_a_day, Some(0));
}

#[test]
fn what_was_long_ago_does_not_count_nor_does_the_future() {
    let mut samples = vec![at(NOW - 300 * DAY, 1 << 40)];
    samples.extend((1..=10).rev().map(|ago| at(NOW - ago * DAY, 100 - ago as u64)));
    samples.push(at(NOW + DAY, 1 << 40));
    assert_eq!(judge(&samples, 100, 200).bytes_a_day, Some(1));
}

#[test]
fn an_hour_is_noted_once_and_of_old_days_the_first_stays() {
    let bench = Bench::new(Policy { floor_bytes: 0, ..Policy::default() });
    let volume = bench.open();
    volume.note_history();
    assert_eq!(volume.growth().unwrap().samples, [], "a single command notes nothing");
    volume.schedule_sweeps();
    put(&volume, Ino::ROOT, "f", b"four");
    for _ in 0..3 {
        volume.note_history();
    }
    let first = volume.growth().unwrap().samples;
    assert_eq!(first.iter().map(|s| (s.used_bytes, s.media)).collect::<Vec<_>>(), [(4, 1)]);
    for _ in 0..500 * 24 {
        bench.pass(HOUR as u64);
        volume.note_history();
    }
    let found = volume.growth().unwrap();
    assert!((468..=472).contains(&found.samples.len()), "{} samples", found.samples.len());
    let now = volume.now().secs;
    assert!(found.samples.iter().all(|s| now - s.secs < 400 * DAY), "none is older than 400 days");
    let recent = found.samples.iter().filter(|s| now - s.secs < 3 * DAY).count();
    assert_eq!(recent, 72, "every hour of three days");
    assert_eq!((found.bytes_a_day, found.full_at), (Some(0), None));
    volume.shutdown().unwrap();

    let again = bench.open();
    assert_eq!(again.growth().unwrap().samples, found.samples, "they outlive the process");
}
