//! Many threads at once.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use rustix::io::Errno;

use crate::errno;
use crate::support::ground::Ground;
use crate::support::machine::can_mount;
use crate::support::mounted::Mounted;
use crate::support::patterns::{Numbers, assert_same, bytes};
use crate::support::place::Place;

#[test]
fn many_threads_work_side_by_side() {
    let Some(mut ground) = Ground::new("many_threads_work_side_by_side") else { return };
    let root = ground.root().to_owned();
    fs::create_dir(root.join("shared")).unwrap();
    thread::scope(|scope| {
        for worker in 0..8_u64 {
            let root = &root;
            scope.spawn(move || {
                let own = root.join(format!("own-{worker}"));
                fs::create_dir(&own).unwrap();
                for round in 0..40 {
                    let content = bytes(worker << 32 | round, usize::try_from(1 + round * 3011).unwrap());
                    let (draft, done) = (own.join("draft"), root.join(format!("shared/{worker}-{round}")));
                    fs::write(&draft, &content).unwrap();
                    fs::rename(&draft, &done).unwrap();
                    assert_same(&fs::read(&done).unwrap(), &content, "just written");
                    if round % 3 == 0 {
                        fs::remove_file(&done).unwrap();
                    }
                }
            });
        }
    });
    for _ in 0..2 {
        for worker in 0..8_u64 {
            for round in 0..40 {
                let path = root.join(format!("shared/{worker}-{round}"));
                if round % 3 == 0 {
                    assert_eq!(errno(fs::metadata(&path)), Errno::NOENT);
                } else {
                    let content = bytes(worker << 32 | round, usize::try_from(1 + round * 3011).unwrap());
                    assert_same(&fs::read(&path).unwrap(), &content, &path.display().to_string());
                }
            }
        }
        ground.remount();
    }
    ground.finish();
}

#[test]
fn appenders_lose_nothing_to_each_other() {
    let Some(ground) = Ground::new("appenders_lose_nothing_to_each_other") else { return };
    let path = ground.path("log");
    File::create(&path).unwrap();
    thread::scope(|scope| {
        for worker in 0..4_u8 {
            let path = &path;
            scope.spawn(move || {
                let mut log = OpenOptions::new().append(true).open(path).unwrap();
                for round in 0..100_u8 {
                    let mut record = [worker; 64];
                    record[1] = round;
                    log.write_all(&record).unwrap();
                }
            });
        }
    });
    let log = fs::read(&path).unwrap();
    assert_eq!(log.len(), 4 * 100 * 64);
    let mut next = [0_u8; 4];
    for record in log.chunks(64) {
        let worker = usize::from(record[0]);
        assert_eq!(record[1], next[worker], "the records of one writer stand in its order");
        assert!(record[2..].iter().all(|byte| *byte == record[0]), "a record is whole");
        next[worker] += 1;
    }
    ground.finish();
}

#[test]
fn of_many_exclusive_creators_one_wins() {
    let Some(ground) = Ground::new("of_many_exclusive_creators_one_wins") else { return };
    let root = ground.root().to_owned();
    let wins = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for number in 0..50 {
                    match File::create_new(root.join(format!("contended-{number}"))) {
                        Ok(_) => _ = wins.fetch_add(1, Ordering::Relaxed),
                        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists),
                    }
                }
            });
        }
    });
    assert_eq!(wins.into_inner(), 50);
    ground.finish();
}

#[test]
fn a_reader_never_meets_a_gap_while_a_file_is_being_replaced() {
    let Some(ground) = Ground::new("a_reader_never_meets_a_gap_while_a_file_is_being_replaced") else { return };
    let path = ground.path("current");
    let version = |number: u64| vec![u8::try_from(number % 251).unwrap(); 20_000 + usize::try_from(number).unwrap()];
    fs::write(&path, version(0)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let mut content = Vec::new();
                    let mut file = File::open(&path).expect("the name is always there");
                    file.read_to_end(&mut content).expect("what is open can be read");
                    let number = content.len() as u64 - 20_000;
                    assert_same(&content, &version(number), "one version, whole");
                    fs::metadata(&path).expect("the name is always there");
                }
            });
        }
        for number in 1..300 {
            let draft = ground.path("draft");
            fs::write(&draft, version(number)).unwrap();
            fs::rename(&draft, &path).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    ground.finish();
}

#[test]
fn threads_write_their_own_parts_of_one_file() {
    let Some(mut ground) = Ground::new("threads_write_their_own_parts_of_one_file") else { return };
    let path = ground.path("file");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    let model = bytes(9, 3_000_000);
    thread::scope(|scope| {
        for worker in 0..6 {
            let (file, model) = (&file, &model);
            scope.spawn(move || {
                // Interleaved pieces that share chunks and pages with their neighbours.
                for piece in (worker..3_000).step_by(6) {
                    file.write_all_at(&model[piece * 1000..(piece + 1) * 1000], piece as u64 * 1000).unwrap();
                }
            });
        }
    });
    drop(file);
    assert_same(&fs::read(&path).unwrap(), &model, "all parts together");
    ground.remount();
    assert_same(&fs::read(&path).unwrap(), &model, "after a remount");
    ground.finish();
}

#[test]
fn ten_thousand_files_are_open_at_once() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const COUNT: usize = 10_000;
    let test = "ten_thousand_files_are_open_at_once";
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < COUNT as u64 + 500) {
        return crate::support::machine::skip(test, "a process may not have so many files open here");
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let Some(mut ground) = Ground::new(test) else { return };
    let content = |number: usize| bytes(number as u64, 50 + number % 100);
    let mut open: Vec<File> = (0..COUNT)
        .map(|number| {
            let path = ground.path(format!("{number}"));
            let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
            file.write_all(&content(number)).unwrap();
            file
        })
        .collect();
    let compare = |open: &[File]| {
        for (number, file) in open.iter().enumerate() {
            let mut read = vec![0; content(number).len()];
            file.read_exact_at(&mut read, 0).unwrap();
            assert_same(&read, &content(number), &format!("file {number} of {COUNT} open ones"));
        }
    };
    compare(&open);
    // A daemon that holds one descriptor for each open file runs out of them before its users do.
    if let Some(daemon) = ground.daemon() {
        let held = crate::support::watchdog::descriptors(daemon);
        assert!(held < 1000, "{held} descriptors for {COUNT} open files");
    }
    open.clear();
    ground.remount();
    open.extend((0..COUNT).map(|number| File::open(ground.path(format!("{number}"))).unwrap()));
    compare(&open);
    if let Some(daemon) = ground.daemon() {
        let held = crate::support::watchdog::descriptors(daemon);
        assert!(held < 1000, "{held} descriptors for {COUNT} files that are read");
    }
    drop(open);
    ground.finish();
}

#[test]
fn one_thread_serves_who_reads_a_little_and_who_opens_the_same_file() {
    if !can_mount("one_thread_serves_who_reads_a_little_and_who_opens_the_same_file") {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start_with(&place, &["-o", "threads=1"]);
    let (path, content) = (mounted.path("f"), bytes(7, 1 << 20));
    fs::write(&path, &content).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Whole chunks go to the kernel after small reads, while other reads and the openings wait for the one thread.
        let readers = [1, 2].map(|seed| {
            let (path, content) = (&path, &content);
            scope.spawn(move || {
                let (file, mut at, mut some) = (File::open(path).unwrap(), Numbers::new(seed), [0; 4096]);
                for _ in 0..5000 {
                    let offset = at.below(256) * 4096;
                    if offset < 16 * 4096 {
                        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
                    }
                    file.read_exact_at(&mut some, offset).unwrap();
                    assert_same(&some, &content[offset as usize..][..4096], "read while others open it");
                }
            })
        });
        for writes in [false, true] {
            let (path, is_over) = (&path, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    drop(OpenOptions::new().read(true).write(writes).open(path).unwrap());
                }
            });
        }
        let ended = readers.map(|reader| reader.join());
        is_over.store(true, Ordering::SeqCst);
        ended.into_iter().for_each(|end| end.unwrap());
    });
    mounted.unmount();
}
