//! Scrubs: what they verify, that they go on after any end, and that they begin by themselves.

use std::fs;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use wamedia::clock::{Clock, ManualClock};
use wamedia::error::Kind;
use wamedia::ids::Ino;
use wamedia::volume::{OpenOptions, Schedule, ScrubStatus, Volume};

use super::bench::{Bench, HEADER, NODE, STRIDE, bytes, put};

const LEN: usize = 200_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn wait_until(volume: &Volume, what: impl Fn(&ScrubStatus) -> bool) -> ScrubStatus {
    let started = Instant::now();
    loop {
        let status = volume.scrub_status();
        if what(&status) {
            return status;
        }
        assert!(started.elapsed() < PATIENCE, "{status:?}");
        sleep(Duration::from_millis(10));
    }
}

fn scrub(volume: &Arc<Volume>) -> ScrubStatus {
    volume.start_scrub(None, false).unwrap();
    wait_until(volume, |status| !status.is_running)
}

fn scene(media: u64) -> (Bench, Vec<Ino>) {
    let bench = Bench::new(true);
    let inodes = bench.with(|volume| {
        (0..media).map(|nth| put(volume, Ino::ROOT, &format!("m{nth}"), &bytes(LEN, nth + 1))).collect()
    });
    (bench, inodes)
}

#[test]
fn a_scrub_reads_everything_and_names_what_is_damaged_until_it_is_whole() {
    let (bench, inodes) = scene(3);
    let whole = fs::read(bench.blob(inodes[1])).unwrap();
    let mut flipped = whole.clone();
    flipped[HEADER + 2 * STRIDE + 1000] ^= 1;
    fs::write(bench.blob(inodes[1]), &flipped).unwrap();
    fs::remove_file(bench.blob(inodes[2])).unwrap();
    let volume = bench.open();
    let status = scrub(&volume);
    let last = status.last.unwrap();
    assert_eq!((last.damaged, status.damaged_media, last.blobs), (2, 2, 4));
    assert_eq!(last.bytes, 2 * LEN as u64 - 65_536, "all but the damaged chunk was verified");
    let found: Vec<_> = status.damaged.iter().map(|d| (d.path.as_str(), d.chunk)).collect();
    assert_eq!(found, [("m1", Some(2)), ("m2", None)]);
    volume.shutdown().unwrap();
    drop(volume);
    // What was found is known after any end, and forgotten when it is whole or gone.
    fs::write(bench.blob(inodes[1]), &whole).unwrap();
    let volume = bench.open();
    assert_eq!(volume.scrub_status().damaged_media, 2);
    volume.unlink(Ino::ROOT, b"m2").unwrap();
    let status = scrub(&volume);
    assert_eq!((status.damaged_media, status.last.unwrap().damaged), (0, 0));
    assert_eq!(volume.status().unwrap().scrub.damaged, []);
    volume.shutdown().unwrap();
}

#[test]
fn a_scrub_that_was_cut_short_goes_on_where_it_was_after_each_kind_of_end() {
    let (bench, _) = scene(8);
    let total = 8 * LEN as u64;
    let volume = bench.open();
    // Some 16 chunks, then two media a second.
    volume.start_scrub(Some(400_000), false).unwrap();
    let at = wait_until(&volume, |status| status.run.as_ref().is_some_and(|run| run.bytes > LEN as u64));
    volume.shutdown().unwrap();
    drop(volume);

    let volume = bench.open();
    let kept = volume.scrub_status().run.unwrap();
    assert!(kept.bytes >= at.run.unwrap().bytes, "its place is kept");
    volume.start_scrub(Some(400_000), false).unwrap();
    wait_until(&volume, |status| status.run.as_ref().is_some_and(|run| run.bytes > kept.bytes));
    volume.stop_scrub();
    let stopped = volume.scrub_status().run.unwrap();
    let killed = bench.image();
    volume.shutdown().unwrap();

    let volume = killed.open();
    assert_eq!(volume.scrub_status().run.unwrap(), stopped);
    let status = scrub(&volume);
    let last = status.last.unwrap();
    let done = (last.blobs, last.bytes, last.started);
    assert_eq!(done, (9, total, stopped.started), "nothing is left out, nothing read or counted twice");
    // From the start, when that is asked for.
    volume.start_scrub(None, true).unwrap();
    assert_eq!(wait_until(&volume, |status| !status.is_running).last.unwrap().bytes, total);
    volume.shutdown().unwrap();
}

#[test]
fn a_damaged_or_foreign_note_starts_from_the_beginning() {
    let (bench, _) = scene(1);
    let foreign = scene(1).0;
    for bench in [&bench, &foreign] {
        let volume = bench.open();
        scrub(&volume);
        volume.shutdown().unwrap();
    }
    let note = fs::read(bench.store().join("scrub")).unwrap();
    let mut flipped = note.clone();
    flipped[40] ^= 1;
    let others = [flipped, note[..30].to_vec(), Vec::new(), fs::read(foreign.store().join("scrub")).unwrap()];
    for other in others {
        fs::write(bench.store().join("scrub"), other).unwrap();
        bench.with(|volume| assert_eq!(volume.scrub_status(), ScrubStatus::default()));
    }
    fs::write(bench.store().join("scrub"), note).unwrap();
    bench.with(|volume| assert!(volume.scrub_status().last.is_some()));
}

#[test]
fn a_scrub_begins_by_itself_when_the_last_one_is_long_ago_and_not_when_it_is_off() {
    let (bench, _) = scene(1);
    let birth = bench.with(|volume| volume.getattr(Ino::ROOT).unwrap().btime.secs);
    let clock = Arc::new(ManualClock::new(birth + 1000));
    let of_volume = Arc::clone(&clock) as Arc<dyn Clock>;
    let options = OpenOptions { clock: of_volume, ..OpenOptions::default() };
    let volume = Volume::open(&bench.store(), &bench.sources(), options).unwrap();
    let day = Duration::from_secs(86_400);
    let is_quiet = |volume: &Volume| {
        // The volume's own thread looks once a second.
        sleep(Duration::from_millis(2500));
        volume.scrub_status().last
    };
    clock.advance(86_400 * 40);
    assert_eq!(is_quiet(&volume), None, "nobody asked for one");
    volume.schedule_scrubs(Some(Schedule { every: 50 * day, rate: None }));
    assert_eq!(is_quiet(&volume), None, "it is not time");
    assert_eq!(volume.scrub_status().next.unwrap().secs, birth + 50 * 86_400);
    clock.advance(86_400 * 20);
    let first = wait_until(&volume, |status| status.last.is_some()).last;
    assert_eq!(is_quiet(&volume), first, "one is enough");
    clock.advance(86_400 * 51);
    wait_until(&volume, |status| status.last != first);
    volume.shutdown().unwrap();
}

#[test]
fn a_volume_is_used_while_it_is_scrubbed() {
    let (bench, _) = scene(6);
    let volume = bench.open();
    volume.start_scrub(Some(2_000_000), false).unwrap();
    for nth in 0..200 {
        let name = format!("busy{}", nth % 10);
        let _first = volume.unlink(Ino::ROOT, name.as_bytes());
        let ino = put(&volume, Ino::ROOT, &name, &bytes(70_000, nth));
        assert!(super::bench::get(&volume, ino).unwrap() == bytes(70_000, nth));
    }
    volume.start_scrub(None, false).unwrap();
    let status = wait_until(&volume, |status| !status.is_running);
    assert_eq!(status.damaged, []);
    super::bench::expect_clean(&volume);
    volume.shutdown().unwrap();
}

#[test]
fn what_a_scrub_found_in_a_medium_is_kept_when_it_is_cut_short_in_the_middle_of_it() {
    let bench = Bench::new(true);
    let len = 40 * 65_536;
    let ino = bench.with(|volume| put(volume, Ino::ROOT, "long", &bytes(len, 1)));
    let mut blob = fs::read(bench.blob(ino)).unwrap();
    for chunk in [1, 38] {
        blob[HEADER + chunk * STRIDE + 1000] ^= 1;
    }
    fs::write(bench.blob(ino), &blob).unwrap();
    let volume = bench.open();
    volume.start_scrub(Some(400_000), false).unwrap();
    let is_behind = |status: &ScrubStatus| status.run.as_ref().and_then(|run| run.chunk).is_some_and(|next| next > 3);
    wait_until(&volume, is_behind);
    volume.shutdown().unwrap();
    drop(volume);

    let volume = bench.open();
    let status = scrub(&volume);
    let found: Vec<_> = status.damaged.iter().map(|d| (d.path.as_str(), d.chunk)).collect();
    assert_eq!(found, [("long", Some(1))]);
    assert_eq!((status.damaged_media, status.last.unwrap().damaged), (1, 1), "one medium, with two damaged chunks");
    volume.shutdown().unwrap();
}

#[test]
fn a_scrub_that_waits_at_a_low_rate_hears_of_a_higher_one() {
    let (bench, _) = scene(2);
    let volume = bench.open();
    // The next step would come after hours.
    volume.start_scrub(Some(1), false).unwrap();
    wait_until(&volume, |status| status.run.as_ref().is_some_and(|run| run.blobs > 0));
    volume.start_scrub(None, false).unwrap();
    assert!(wait_until(&volume, |status| !status.is_running).last.is_some());
    volume.shutdown().unwrap();
    assert_eq!(
        volume.start_scrub(None, false).unwrap_err().kind(),
        Kind::Busy,
        "none begins on a volume that was left"
    );
}

#[test]
fn the_note_of_many_damaged_media_with_odd_names_is_read_again() {
    let bench = Bench::new(true);
    let inodes: Vec<Ino> = bench.with(|volume| {
        let dir = volume.mkdir(Ino::ROOT, &[1; 255], &NODE).unwrap().ino;
        (0..400).map(|nth| put(volume, dir, &format!("{nth}{}", "\u{1}".repeat(250)), b"short")).collect()
    });
    inodes.iter().for_each(|ino| fs::remove_file(bench.blob(*ino)).unwrap());
    let volume = bench.open();
    let before = scrub(&volume);
    assert_eq!(before.damaged_media, 400);
    volume.shutdown().unwrap();
    drop(volume);
    bench.with(|volume| assert_eq!(volume.scrub_status(), before));
}
