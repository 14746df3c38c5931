//! What a volume does about expired media by itself, tick by tick.

use std::sync::Arc;
use std::time::Duration;

use super::aging_tests::{Bench, NODE, RW, put};
use super::{
    ExpiryAction, Happening, HappeningKind, Listener, Policy, PurgeReport, PurgeWish, RetentionRule, Selector, SetAttr,
    Volume,
};
use crate::error::Kind;
use crate::ids::Ino;
use crate::sync::Mutex;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

fn acting(action: ExpiryAction) -> Policy {
    let retention = vec![RetentionRule { selector: Selector::Default, keep: Some(Duration::from_secs(DAY)) }];
    Policy { action, retention, floor_bytes: 0, ..Policy::default() }
}

/// Sweeps to the end, as the ticks of the volume's own thread would.
fn sweep(volume: &Volume) {
    for _ in 0..8 {
        volume.sweep_some(true);
    }
}

fn scheduled(bench: &Bench) -> Arc<Volume> {
    let volume = bench.open();
    volume.schedule_sweeps();
    volume
}

fn is_there(volume: &Volume, ino: Ino) -> bool {
    volume.medium(ino, false).is_ok()
}

fn due(volume: &Volume) -> PurgeReport {
    let wish = PurgeWish { dry_run: true, older_than: None, due: true };
    volume.purge_some(&wish, None, &mut |_| {}).unwrap()
}

#[derive(Default)]
struct Heard(Mutex<Vec<Happening>>);

impl Listener for Heard {
    fn happened(&self, happening: &Happening) {
        self.0.lock().push(*happening);
    }
}

fn heard_of(volume: &Volume) -> Arc<Heard> {
    let heard = Arc::new(Heard::default());
    volume.set_listener(Arc::clone(&heard) as Arc<dyn Listener>);
    heard
}

impl Heard {
    fn take(&self) -> Vec<(HappeningKind, u64, u64)> {
        std::mem::take(&mut *self.0.lock()).iter().map(|h| (h.event, h.count, h.bytes)).collect()
    }
}

#[test]
fn an_expired_medium_goes_after_its_grace_period_and_not_before() {
    let bench = Bench::new(acting(ExpiryAction::Purge));
    let volume = scheduled(&bench);
    let heard = heard_of(&volume);
    let ino = put(&volume, Ino::ROOT, "f", b"four");
    let held = put(&volume, Ino::ROOT, "held", b"held");
    volume.hold(held, true).unwrap();
    // Long expired already when it is first seen, as after an import or a jump of the clock.
    bench.pass(90 * DAY);
    sweep(&volume);
    assert_eq!(heard.take(), [(HappeningKind::Expired, 1, 4)]);
    bench.pass(DAY - 1);
    sweep(&volume);
    assert!(is_there(&volume, ino), "within its grace period");
    assert_eq!(due(&volume).media, 0);
    bench.pass(1);
    assert_eq!((due(&volume).media, due(&volume).bytes), (1, 4));
    bench.pass(HOUR);
    sweep(&volume);
    assert!(!is_there(&volume, ino), "past its grace period");
    assert!(is_there(&volume, held));
    assert_eq!(heard.take(), [(HappeningKind::Purge, 1, 4)]);
    let status = volume.status().unwrap().sweep;
    assert_eq!((status.purged_media, status.purged_bytes, status.action), (1, 4, ExpiryAction::Purge));
    volume.shutdown().unwrap();
}

#[test]
fn the_grace_period_outlasts_a_restart_and_begins_anew_without_the_index() {
    let bench = Bench::new(acting(ExpiryAction::Purge));
    let volume = scheduled(&bench);
    let ino = put(&volume, Ino::ROOT, "f", b"four");
    bench.pass(2 * DAY);
    sweep(&volume);
    volume.shutdown().unwrap();
    bench.pass(DAY);
    let volume = bench.open();
    sweep(&volume);
    assert!(is_there(&volume, ino), "a volume opened for a command does nothing by itself");
    assert_eq!(due(&volume).media, 1);
    volume.shutdown().unwrap();
    std::fs::remove_dir_all(bench.store().join("index")).unwrap();
    let volume = scheduled(&bench);
    sweep(&volume);
    assert!(is_there(&volume, ino), "its grace period has begun anew");
    bench.pass(DAY + HOUR);
    sweep(&volume);
    assert!(!is_there(&volume, ino));
    volume.shutdown().unwrap();
}

#[test]
fn what_was_not_shown_all_the_time_has_its_grace_period_anew() {
    let bench = Bench::new(acting(ExpiryAction::Purge));
    let volume = scheduled(&bench);
    let [held, touched] = ["held", "touched"].map(|name| put(&volume, Ino::ROOT, name, b"x"));
    bench.pass(2 * DAY);
    sweep(&volume);
    // Between two sweeps, so that only what is noted with the change can tell.
    volume.hold(held, true).unwrap();
    volume.hold(held, false).unwrap();
    let then = volume.now().plus_secs(-3 * i64::try_from(DAY).unwrap());
    volume.setattr(touched, &SetAttr { mtime: Some(then), ..SetAttr::default() }).unwrap();
    bench.pass(DAY);
    assert_eq!(volume.expired(&[], 10).unwrap().len(), 2);
    assert_eq!(due(&volume).media, 0);
    sweep(&volume);
    assert!(is_there(&volume, held) && is_there(&volume, touched));
    bench.pass(DAY + HOUR);
    sweep(&volume);
    assert!(!is_there(&volume, held) && !is_there(&volume, touched));
    volume.shutdown().unwrap();
}

#[test]
fn a_new_rule_begins_all_grace_periods_anew() {
    let bench = Bench::new(acting(ExpiryAction::Purge));
    let volume = scheduled(&bench);
    let ino = put(&volume, Ino::ROOT, "f", b"x");
    bench.pass(2 * DAY);
    sweep(&volume);
    bench.pass(DAY + HOUR);
    let rule = RetentionRule { selector: Selector::Type("image/*".into()), keep: None };
    let mut policy = acting(ExpiryAction::Purge);
    policy.retention.push(rule);
    volume.set_policy(policy.clone()).unwrap();
    bench.pass(1);
    sweep(&volume);
    assert!(is_there(&volume, ino), "the rules have changed");
    bench.pass(DAY - HOUR);
    volume.set_policy(Policy { purge_at: Some(99), ..policy }).unwrap();
    bench.pass(2 * HOUR);
    sweep(&volume);
    assert!(!is_there(&volume, ino), "a watermark is no rule");
    volume.shutdown().unwrap();
}

#[test]
fn without_the_action_nothing_goes() {
    let bench = Bench::new(acting(ExpiryAction::Show));
    let volume = scheduled(&bench);
    let ino = put(&volume, Ino::ROOT, "f", b"x");
    for _ in 0..5 {
        bench.pass(30 * DAY);
        sweep(&volume);
    }
    assert!(is_there(&volume, ino));
    volume.shutdown().unwrap();
}

#[test]
fn a_medium_held_at_the_last_moment_stays() {
    let bench = Bench::new(acting(ExpiryAction::Show));
    let bench_policy = Policy { purge_at: Some(100), ..acting(ExpiryAction::Show) };
    let volume = scheduled(&bench);
    volume.set_policy(bench_policy).unwrap();
    let ino = put(&volume, Ino::ROOT, "f", b"x");
    bench.pass(2 * DAY);
    sweep(&volume);
    bench.pass(DAY);
    let key = volume.expired(&[], 1).unwrap().remove(0).cursor;
    assert!(volume.is_due(&key).unwrap());
    volume.hold(ino, true).unwrap();
    assert!(!volume.remove_due(ino, &key).unwrap());
    assert!(is_there(&volume, ino));
    assert_eq!(volume.remove_expired(ino).unwrap_err().kind(), Kind::NotExpired);
    volume.shutdown().unwrap();
}

#[test]
fn a_full_volume_loses_the_longest_expired_until_it_is_below_the_mark() {
    const BYTES: usize = 100_000;
    let marks = Policy {
        max_bytes: Some(10 * BYTES as u64),
        warn_at: Some(50),
        purge_at: Some(80),
        ..acting(ExpiryAction::Show)
    };
    let bench = Bench::new(marks);
    let volume = scheduled(&bench);
    let heard = heard_of(&volume);
    let content = vec![7; BYTES];
    let media: Vec<Ino> = (0..9)
        .map(|nth| {
            bench.pass(60);
            put(&volume, Ino::ROOT, &format!("{nth}"), &content)
        })
        .collect();
    // The youngest by its own retention is the one that has been expired longest.
    volume.set_medium_retention(media[8], Some(Some(Duration::from_secs(1)))).unwrap();
    volume.hold(media[0], true).unwrap();
    sweep(&volume);
    let both = [(HappeningKind::Warn, 0, 0), (HappeningKind::PurgeMark, 0, 0)];
    assert_eq!(heard.take(), both, "once, and nothing is expired");
    bench.pass(2 * DAY);
    sweep(&volume);
    assert_eq!(heard.take(), [(HappeningKind::Expired, 8, 8 * BYTES as u64)]);
    bench.pass(DAY + HOUR);
    sweep(&volume);
    let left: Vec<bool> = media.iter().map(|ino| is_there(&volume, *ino)).collect();
    assert_eq!(left, [true, false, true, true, true, true, true, true, false], "held, oldest, ..., own retention");
    let purged = (HappeningKind::Purge, 2, 2 * BYTES as u64);
    assert_eq!(heard.take(), [(HappeningKind::PurgeMarkOver, 0, 0), purged]);
    // Falls below the warning by more than the slack, and comes again.
    for ino in &media[2..6] {
        volume.remove(*ino).unwrap();
    }
    sweep(&volume);
    assert!(!volume.status().unwrap().sweep.is_warned);
    assert_eq!(heard.take(), [(HappeningKind::WarnOver, 0, 0)]);
    for name in ["a", "b"] {
        put(&volume, Ino::ROOT, name, &content);
    }
    sweep(&volume);
    assert_eq!(heard.take(), [(HappeningKind::Warn, 0, 0)]);
    volume.shutdown().unwrap();
}

#[test]
fn refused_writes_are_told_when_they_begin_and_a_purge_that_was_asked_for_when_it_ends() {
    let bench = Bench::new(Policy { max_bytes: Some(10), ..acting(ExpiryAction::Show) });
    let volume = scheduled(&bench);
    let heard = heard_of(&volume);
    put(&volume, Ino::ROOT, "f", b"four");
    let refuse = |name: &str| {
        let (_, file) = volume.create(Ino::ROOT, name.as_bytes(), &NODE, RW).unwrap();
        assert_eq!(volume.write(&file, 0, b"seven more", false).unwrap_err().kind(), Kind::NoSpace);
        volume.close(file);
    };
    refuse("a");
    refuse("b");
    sweep(&volume);
    assert_eq!(heard.take(), [(HappeningKind::Refused, 2, 0)]);
    bench.pass(30);
    refuse("c");
    sweep(&volume);
    assert_eq!(heard.take(), [], "it goes on");
    bench.pass(60);
    refuse("d");
    sweep(&volume);
    assert_eq!(heard.take(), [(HappeningKind::Refused, 1, 0)], "it begins again");
    bench.pass(2 * DAY);
    let report = volume.purge(false, None, &mut |_| {}).unwrap();
    assert_eq!(heard.take(), [(HappeningKind::Purge, report.media, 4)]);
    volume.shutdown().unwrap();
}

#[test]
fn a_purge_says_how_many_bytes_the_disk_has_free_by_it() {
    let bench = Bench::new(acting(ExpiryAction::Show));
    let volume = bench.open();
    for (name, len) in [("small", 10), ("one chunk", 65_536), ("large", 300_001)] {
        put(&volume, Ino::ROOT, name, &vec![1; len]);
    }
    volume.sync_all().unwrap();
    let blobs = || -> u64 {
        let files = walkdir::WalkDir::new(bench.store().join("blobs")).into_iter().map(Result::unwrap);
        files.filter(|file| file.file_type().is_file()).map(|file| file.metadata().unwrap().len()).sum()
    };
    bench.pass(2 * DAY);
    let (before, mut listed) = (blobs(), Vec::new());
    let wish = PurgeWish { dry_run: true, ..PurgeWish::default() };
    let told = volume.purge_some(&wish, Some(&mut |gone| listed.push(gone)), &mut |_| {}).unwrap();
    assert_eq!((told.media, told.bytes, blobs()), (3, 365_547, before));
    assert_eq!(listed.iter().map(|gone| gone.blob_bytes).sum::<u64>(), told.blob_bytes);
    let mut paths: Vec<_> = listed.into_iter().map(|gone| gone.path).collect();
    paths.sort();
    assert_eq!(paths, ["large", "one chunk", "small"]);
    assert_eq!(volume.purge(false, None, &mut |_| {}).unwrap(), told);
    volume.shutdown().unwrap();
    // The root directory's blob may have grown by its own new times.
    let freed = before - blobs();
    assert!(freed <= told.blob_bytes && told.blob_bytes - freed < 4096, "{freed} of {}", told.blob_bytes);
}
