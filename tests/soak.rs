//! Many processes on one mount, each checking what it and the others have written; a watchdog tells what hangs.
//!
//! `WAMEDIA_SOAK_SECONDS` sets how long (8), `WAMEDIA_SOAK_PROCESSES` how many (12).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::mm::MapFlags;
use support::machine::{can_mount, say};
use support::mapping::Mapping;
use support::mounted::Mounted;
use support::patterns::Numbers;
use support::place::Place;
use support::tree::digest;
use support::watchdog::{self, Watchdog};

/// Where a worker finds what it is to do: the directory and its seed.
const ORDER: &str = "SOAK_WORKER";
/// Bytes of the digest that a file ends with.
const DIGEST: usize = 64;
/// Names that all processes share.
const SHARED: u64 = 40;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap_or_else(|e| panic!("{name}={value}: {e}")))
}

/// Bytes that say themselves whether they are whole.
fn sealed(numbers: &mut Numbers) -> Vec<u8> {
    let limit = [200, 5_000, 70_000, 400_000][usize::try_from(numbers.below(4)).unwrap()];
    let len = usize::try_from(numbers.below(limit)).unwrap();
    let mut bytes = numbers.bytes(len);
    let seal = digest(&bytes);
    bytes.extend_from_slice(seal.as_bytes());
    bytes
}

fn is_whole(bytes: &[u8]) -> bool {
    bytes.len() >= DIGEST && {
        let (content, seal) = bytes.split_at(bytes.len() - DIGEST);
        digest(content).as_bytes() == seal
    }
}

/// What one worker knows of its own directory.
struct Worker<'a> {
    root: &'a Path,
    own: std::path::PathBuf,
    numbers: Numbers,
    model: std::collections::BTreeMap<String, Vec<u8>>,
}

impl Worker<'_> {
    fn step(&mut self) {
        let name = format!("own-{}", self.numbers.below(12));
        let (path, shared) = (self.own.join(&name), self.root.join(format!("shared-{}", self.numbers.below(SHARED))));
        match self.numbers.below(9) {
            0 | 1 => self.write(&name, &path),
            2 => self.change(&name, &path),
            3 => self.compare(&name, &path),
            4 => {
                if self.model.remove(&name).is_some() {
                    fs::remove_file(&path).unwrap();
                }
            }
            5 => {
                let draft = self.own.join("draft");
                fs::write(&draft, sealed(&mut self.numbers)).unwrap();
                fs::rename(&draft, &shared).unwrap();
            }
            6 | 7 => read_shared(&shared, self.numbers.below(2) == 0),
            _ => match fs::remove_file(&shared) {
                Err(error) if error.kind() != ErrorKind::NotFound => panic!("{}: {error}", shared.display()),
                _ => {}
            },
        }
    }

    fn write(&mut self, name: &str, path: &Path) {
        let bytes = sealed(&mut self.numbers);
        let mut file = File::create(path).unwrap();
        for piece in bytes.chunks(1 + usize::try_from(self.numbers.below(90_000)).unwrap()) {
            file.write_all(piece).unwrap();
        }
        if self.numbers.below(4) == 0 {
            file.sync_all().unwrap();
        }
        self.model.insert(name.to_owned(), bytes);
    }

    fn change(&mut self, name: &str, path: &Path) {
        let Some(bytes) = self.model.get_mut(name) else { return };
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let at = usize::try_from(self.numbers.below(bytes.len() as u64)).unwrap();
        let part = self.numbers.bytes(1 + (bytes.len() - at) / 2);
        let end = (at + part.len()).min(bytes.len());
        let part = &part[..end - at];
        bytes[at..end].copy_from_slice(part);
        if self.numbers.below(2) == 0 {
            file.write_all_at(part, at as u64).unwrap();
        } else {
            let map = Mapping::new(&file, bytes.len(), MapFlags::SHARED);
            map.write(at, part);
            if self.numbers.below(3) == 0 {
                map.sync().unwrap();
            }
        }
    }

    fn compare(&self, name: &str, path: &Path) {
        match (self.model.get(name), fs::read(path)) {
            (Some(bytes), Ok(found)) => assert!(found == *bytes, "{}: other bytes", path.display()),
            (None, Err(error)) if error.kind() == ErrorKind::NotFound => {}
            (known, found) => {
                panic!("{}: known {}, found {:?}", path.display(), known.is_some(), found.map(|f| f.len()))
            }
        }
    }
}

/// A file that others replace is one of its versions, whole, however it is read.
fn read_shared(path: &Path, through_map: bool) {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        other => other.unwrap(),
    };
    let len = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let mut bytes = Vec::with_capacity(len);
    if through_map {
        bytes = Mapping::new(&file, len, MapFlags::PRIVATE).read(0, len);
    } else {
        file.read_to_end(&mut bytes).unwrap();
    }
    assert!(is_whole(&bytes), "{}: {} bytes that are not whole", path.display(), bytes.len());
}

/// A process of the soak; nothing when it is run as a test.
#[test]
fn a_process_of_the_soak() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let (seed, rest) = order.split_once(' ').unwrap();
    let (seconds, root) = rest.split_once(' ').unwrap();
    let (seed, seconds) = (seed.parse().unwrap(), Duration::from_secs(seconds.parse().unwrap()));
    let own = Path::new(root).join(format!("process-{seed}"));
    fs::create_dir(&own).unwrap();
    let mut worker =
        Worker { root: Path::new(root), own, numbers: Numbers::new(seed), model: std::collections::BTreeMap::new() };
    let started = Instant::now();
    while started.elapsed() < seconds {
        worker.step();
        say("+");
    }
    for number in 0..12 {
        let name = format!("own-{number}");
        worker.compare(&name, &worker.own.join(&name));
    }
    say("done");
}

fn start(root: &Path, seed: u64, seconds: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["a_process_of_the_soak", "--exact", "--nocapture"])
        .env(ORDER, format!("{seed} {seconds} {}", root.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn many_processes_find_what_they_wrote_and_none_waits_for_ever() {
    if !can_mount("many_processes_find_what_they_wrote_and_none_waits_for_ever") {
        return;
    }
    let (seconds, count) = (setting("WAMEDIA_SOAK_SECONDS", 8), setting("WAMEDIA_SOAK_PROCESSES", 12));
    let place = Place::with_volume(&["--quota", "1GiB"]);
    let mounted = Mounted::start_to_live(&place, Duration::from_secs(seconds + 400));
    let mut children: Vec<Child> = (1..=count).map(|seed| start(mounted.root(), seed, seconds)).collect();
    let dog = Watchdog::default();
    let mut pids = vec![mounted.pid()];
    pids.extend(children.iter().map(Child::id));
    let outcomes: Vec<String> = thread::scope(|scope| {
        let readers: Vec<_> = children
            .iter_mut()
            .map(|child| {
                let (dog, said) = (&dog, child.stderr.take().unwrap());
                scope.spawn(move || {
                    let mut rest = String::new();
                    for line in BufReader::new(said).lines().map_while(Result::ok) {
                        if line == "+" {
                            dog.step();
                        } else {
                            rest = rest + &line + "\n";
                        }
                    }
                    rest
                })
            })
            .collect();
        let (dog, mounted) = (&dog, &mounted);
        scope.spawn(move || dog.watch(watchdog::PATIENCE, &pids, || mounted.kill_now()));
        let told = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        dog.rest();
        told
    });
    assert!(!dog.barked.load(std::sync::atomic::Ordering::SeqCst), "nothing moved for {:?}", watchdog::PATIENCE);
    for (mut child, told) in children.into_iter().zip(outcomes) {
        assert!(child.wait().unwrap().success() && told.trim() == "done", "a process has failed:\n{told}");
    }
    mounted.unmount();
    let mounted = Mounted::start(&place);
    for entry in fs::read_dir(mounted.root()).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("shared-") {
            read_shared(&entry.path(), false);
        }
    }
    mounted.unmount();
    place.check().expect_success();
    say(&format!("soak: {count} processes, {seconds} s, {} steps, all contents right", dog.steps()));
    assert!(dog.steps() > count * 10, "the processes did too little to show anything");
}

/// The watchdog must see a process that hangs: one whose file system's daemon is stopped.
#[test]
fn the_watchdog_tells_what_hangs() {
    if !can_mount("the_watchdog_tells_what_hangs") {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    let mut child = start(mounted.root(), 1, 60);
    let dog = Watchdog::default();
    thread::sleep(Duration::from_millis(200));
    let told = watchdog::stacks(mounted.pid());
    assert!(told.contains("wamedia") && told.lines().count() > 4, "{told}");
    let daemon = rustix::process::Pid::from_raw(i32::try_from(mounted.pid()).unwrap()).unwrap();
    rustix::process::kill_process(daemon, rustix::process::Signal::STOP).unwrap();
    let mut freed = false;
    dog.watch(Duration::from_millis(300), &[], || freed = true);
    rustix::process::kill_process(daemon, rustix::process::Signal::CONT).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(freed, "nothing moved, and the watchdog saw it not");
    mounted.unmount();
}
