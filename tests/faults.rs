//! What may happen to a running daemon: its disk goes read-only or away, its memory ends, it is stopped, it dies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use support::disk::{Disk, Log};
use support::machine::{self, mounted_type, say};
use support::mounted::Mounted;
use support::patterns::{Numbers, assert_same};
use support::place::{Place, text};
use support::watchdog::{self, Watchdog};

const WRITERS: u64 = 4;

/// A synced file and its bytes.
type Kept = (PathBuf, Vec<u8>);

fn make(mounted: &Mounted, name: &str, numbers: &mut Numbers) -> io::Result<Kept> {
    let len = 1 + usize::try_from(numbers.below(200_000)).unwrap();
    let (path, bytes) = (mounted.path(name), numbers.bytes(len));
    let mut file = File::create(&path)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    Ok((PathBuf::from(name), bytes))
}

/// Writers sync one file after the other until `stop`, or until they are refused; `during` runs beside them. Gives what
/// was synced before `failing`, and how they ended.
fn under_load(
    mounted: &Mounted,
    stop: &AtomicBool,
    failing: &AtomicBool,
    dog: &Watchdog,
    during: impl FnOnce(),
) -> (Vec<Kept>, Vec<io::Error>) {
    let (mut kept, mut refused) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    let (mut numbers, mut kept) = (Numbers::new(writer), Vec::new());
                    for number in 0.. {
                        if stop.load(Ordering::SeqCst) {
                            break;
                        }
                        match make(mounted, &format!("{writer}-{number}"), &mut numbers) {
                            // While the disk fails, it may itself call durable what is not.
                            Ok(file) if !failing.load(Ordering::SeqCst) => kept.push(file),
                            Ok(_) => {}
                            Err(error) => return (kept, Some(error)),
                        }
                        dog.step();
                        if kept.len() > 200 {
                            let (path, _) = kept.swap_remove(0);
                            if let Err(error) = fs::remove_file(mounted.path(path)) {
                                return (kept, Some(error));
                            }
                        }
                    }
                    (kept, None)
                })
            })
            .collect();
        during();
        for writer in writers {
            let (files, error) = writer.join().unwrap();
            kept.extend(files);
            refused.extend(error);
        }
    });
    (kept, refused)
}

fn compare(mounted: &Mounted, kept: &[Kept], when: &str) {
    for (path, bytes) in kept {
        let found = fs::read(mounted.path(path)).unwrap_or_else(|e| panic!("{when}: {}: {e}", path.display()));
        assert_same(&found, bytes, &format!("{when}: {}", path.display()));
    }
}

fn ends_by_itself(mounted: &Mounted, place: &Place) {
    let mnt = place.mnt();
    // It may say that the volume could not be completed; what counts is that nothing hangs and nothing is left.
    let _told = place.run(&["umount", text(&mnt)]);
    let started = Instant::now();
    while mounted.ended().is_none() {
        assert!(started.elapsed() < Duration::from_secs(60), "the daemon goes on without a disk:\n{}", mounted.log());
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(mounted_type(&mnt), None);
}

/// Has the disk of a mounted volume fail under load: reads go on, changes get errors that say so, nothing synced is lost.
fn a_failing_disk(test: &str, fails: impl Fn(&Disk), is_mended: impl Fn(&Disk)) {
    if !machine::can_mount(test) || !machine::is_root(test) {
        return;
    }
    let place = Place::new();
    let Some(disk) = Disk::new(test, &place, "ext4") else { return };
    place.init(&["--floor", "0", "--quota", "256MiB"]);
    let mounted = Mounted::start(&place);
    let (stop, dog) = (AtomicBool::new(false), Watchdog::default());
    let failing = AtomicBool::new(false);
    let (kept, refused) = under_load(&mounted, &stop, &failing, &dog, || {
        thread::sleep(Duration::from_millis(500));
        failing.store(true, Ordering::SeqCst);
        fails(&disk);
        thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(refused.len() as u64, WRITERS, "a writer was not told that its disk has failed");
    for error in &refused {
        let code = error.raw_os_error();
        assert!(matches!(code, Some(libc::EIO | libc::EROFS)), "a failing disk is {error}");
    }
    let late = File::create(mounted.path("late")).and_then(|mut file| {
        file.write_all(&[1; 100_000])?;
        file.sync_all()
    });
    assert!(late.is_err(), "a volume without a disk takes a file");
    let mnt = place.mnt();
    let status = place.run(&["status", "--json", text(&mnt)]).json();
    assert_ne!(status["state"], "ok", "{status}");
    ends_by_itself(&mounted, &place);
    drop(mounted);

    is_mended(&disk);
    let mounted = Mounted::start(&place);
    compare(&mounted, &kept, "after the disk was mended");
    make(&mounted, "new", &mut Numbers::new(9)).unwrap();
    mounted.unmount();
    place.check().expect_success();
    say(&format!("{test}: {} synced files, all kept", kept.len()));
    assert!(kept.len() > 4, "the writers did too little");
}

#[test]
fn a_disk_that_goes_read_only_costs_nothing_that_was_synced() {
    let test = "a_disk_that_goes_read_only_costs_nothing_that_was_synced";
    a_failing_disk(test, Disk::turns_read_only, Disk::is_mended);
}

#[test]
fn a_disk_that_goes_away_costs_nothing_that_was_synced() {
    let test = "a_disk_that_goes_away_costs_nothing_that_was_synced";
    a_failing_disk(test, |disk| disk.power_fails(Log::Flushed), Disk::power_returns);
}

#[test]
fn a_daemon_that_is_stopped_and_continued_loses_nothing() {
    let test = "a_daemon_that_is_stopped_and_continued_loses_nothing";
    if !machine::can_mount(test) {
        return;
    }
    let place = Place::with_volume(&["--quota", "1GiB"]);
    let mounted = Mounted::start(&place);
    let daemon = Pid::from_raw(i32::try_from(mounted.pid()).unwrap()).unwrap();
    let (stop, dog) = (AtomicBool::new(false), Watchdog::default());
    let (kept, refused) = thread::scope(|scope| {
        scope.spawn(|| dog.watch(watchdog::PATIENCE, &[mounted.pid()], || mounted.kill_now()));
        let outcome = under_load(&mounted, &stop, &AtomicBool::new(false), &dog, || {
            for _ in 0..10 {
                thread::sleep(Duration::from_millis(100));
                kill_process(daemon, Signal::STOP).unwrap();
                thread::sleep(Duration::from_millis(60));
                kill_process(daemon, Signal::CONT).unwrap();
            }
            stop.store(true, Ordering::SeqCst);
        });
        dog.rest();
        outcome
    });
    assert!(refused.is_empty(), "{refused:?}");
    compare(&mounted, &kept, "at once");
    mounted.unmount();
    let mounted = Mounted::start(&place);
    compare(&mounted, &kept, "after a remount");
    mounted.unmount();
    place.check().expect_success();
    assert!(kept.len() > 20, "the writers did too little");
}

/// Gives the process `bytes` of address space and no more.
fn limit_memory(command: &mut Command, bytes: u64) {
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    #[expect(unsafe_code, reason = "what runs between fork and exec may do little")]
    // SAFETY: the closure makes one system call and neither allocates nor locks.
    unsafe {
        command.pre_exec(move || Ok(setrlimit(Resource::As, limit)?));
    }
}

#[test]
fn a_daemon_whose_memory_ends_loses_nothing_that_was_synced() {
    let test = "a_daemon_whose_memory_ends_loses_nothing_that_was_synced";
    if !machine::can_mount(test) {
        return;
    }
    let place = Place::with_volume(&["--quota", "1GiB"]);
    let mounted = Mounted::start(&place);
    let first = make(&mounted, "first", &mut Numbers::new(77)).unwrap();
    // What it takes at rest, threads' stacks and all.
    let statm = fs::read_to_string(format!("/proc/{}/statm", mounted.pid())).unwrap();
    let at_rest = statm.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096;
    mounted.unmount();

    let mut ends = [0, 0];
    for percent in [36, 42, 46, 48, 50, 52, 60, 120] {
        let limit = at_rest * percent / 100;
        let mut command = support::place::wamedia();
        let (key, store, mnt) = (place.key(), place.store(), place.mnt());
        limit_memory(&mut command, limit);
        command.args(["mount", "--daemon", "--key-file", text(&key), text(&store), text(&mnt)]);
        let outcome = support::place::run(command);
        let guard = support::mounted::DaemonGuard(&place);
        let (mut kept, mut refused) = (Vec::new(), None);
        if outcome.status.success() {
            let mut numbers = Numbers::new(percent);
            for number in 0..20 {
                match write_large(&mnt.join(format!("{percent}-{number}")), &mut numbers) {
                    Ok(bytes) => kept.push((PathBuf::from(format!("{percent}-{number}")), bytes)),
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                }
            }
        } else {
            assert!(!outcome.stderr.trim().is_empty(), "{percent} % of its memory: no mount, and not a word");
        }
        ends[usize::from(refused.is_none() && outcome.status.success())] += 1;
        let _dead_or_alive = place.run(&["umount", text(&mnt)]);
        drop(guard);
        let mounted = Mounted::start(&place);
        kept.push(first.clone());
        compare(&mounted, &kept, &format!("{percent} % of its memory, {refused:?}"));
        for (path, _) in &kept[..kept.len() - 1] {
            fs::remove_file(mounted.path(path)).unwrap();
        }
        mounted.unmount();
        place.check().expect_success();
    }
    say(&format!(
        "memory: of 8 limits {} ended the daemon or its mount, {} were enough; nothing synced was lost",
        ends[0], ends[1]
    ));
    assert!(ends[0] > 0 && ends[1] > 0, "no limit was both too little and enough: {ends:?}");
}

fn write_large(path: &std::path::Path, numbers: &mut Numbers) -> io::Result<Vec<u8>> {
    let bytes = numbers.bytes(3 << 20);
    let mut file = File::create(path)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    Ok(bytes)
}

#[test]
fn a_mount_takes_over_where_a_daemon_has_died() {
    let test = "a_mount_takes_over_where_a_daemon_has_died";
    if !machine::can_mount(test) {
        return;
    }
    let place = Place::with_volume(&[]);
    for round in 0..3 {
        let mounted = Mounted::start(&place);
        let kept = make(&mounted, &format!("{round}"), &mut Numbers::new(round)).unwrap();
        let open = File::open(mounted.path(format!("{round}"))).unwrap();
        mounted.kill_now();
        let gone = fs::metadata(mounted.path("absent")).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ENOTCONN));
        // The dead mount, with a file still open in it, is in the way of nobody.
        let next = Mounted::start(&place);
        // What the kernel remembers of the dead mount's root is no answer.
        wait_until_answered(&next, &format!("{round}"));
        compare(&next, &[kept], "after the daemon has died");
        drop(open);
        next.unmount();
        assert_eq!(mounted_type(&place.mnt()), None, "the dead mount is still below");
        drop(mounted);
    }
    place.check().expect_success();
}

/// Waits for the new mount: the dead one may still be there, or none.
fn wait_until_answered(mounted: &Mounted, name: &str) {
    let started = Instant::now();
    while let Err(error) = fs::metadata(mounted.path(name)) {
        assert!(started.elapsed() < Duration::from_secs(30), "{name}: {error}:\n{}", mounted.log());
        thread::sleep(Duration::from_millis(5));
    }
}
