//! Programs that use the volume while it is copied, and what they know of it.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::patterns::Numbers;
use crate::support::tree::digest;

/// Names that are replaced and overwritten again and again.
const HOT: u64 = 12;
/// What is appended to, in bytes at most.
const LONG: usize = 200_000;
/// What each program rests between two things it does: an image of half a GiB has to last.
const REST: Duration = Duration::from_millis(3);

/// What is known of the volume.
#[derive(Clone, Default)]
pub struct Known {
    /// Media that were synced and are left alone from then on, with their digests.
    pub kept: HashMap<String, String>,
    /// Names whose removal returned.
    pub removed: HashSet<String>,
    /// Names that change, with all they were to hold in the end; each was written from its beginning on.
    pub hot: HashMap<String, Vec<Arc<Vec<u8>>>>,
}

/// One thing that a program does, in a directory, with numbers of its own, for the n-th time.
type Work = fn(&Path, &mut Numbers, u64, &Mutex<Known>);

/// The programs at work.
pub struct Load {
    known: Arc<Mutex<Known>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts them in the directory `root`.
    pub fn start(root: &Path) -> Load {
        let (known, stop) = (Arc::new(Mutex::new(Known::default())), Arc::new(AtomicBool::new(false)));
        let programs: [Work; 3] = [add, remove, change];
        let threads = (1..).zip(programs).map(|(seed, work)| {
            let (root, known, stop) = (root.to_owned(), Arc::clone(&known), Arc::clone(&stop));
            thread::spawn(move || {
                let mut numbers = Numbers::new(seed);
                for nth in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    work(&root, &mut numbers, nth, &known);
                    thread::sleep(REST);
                }
            })
        });
        Load { threads: threads.collect(), known, stop }
    }

    /// What is known now.
    pub fn known(&self) -> Known {
        self.known.lock().unwrap().clone()
    }

    /// Waits until `count` media are kept and a third as many were removed.
    pub fn wait_for(&self, count: usize) {
        let is_there = |known: &Known| known.kept.len() >= count && known.removed.len() >= count / 3;
        while !is_there(&self.known()) {
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a program has failed");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends them; gives what is known then.
    pub fn stop(mut self) -> Known {
        self.end().expect("a program has failed");
        self.known()
    }

    fn end(&mut self) -> thread::Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.drain(..).try_for_each(JoinHandle::join)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _failed = self.end();
    }
}

fn content(numbers: &mut Numbers) -> Vec<u8> {
    let limit = [1, 300, 5_000, 70_000, 300_000][usize::try_from(numbers.below(5)).unwrap()];
    let len = 1 + usize::try_from(numbers.below(limit)).unwrap();
    numbers.bytes(len)
}

/// Writes a file in pieces, so that one is always under way, and syncs it.
fn write(path: &Path, bytes: &[u8]) {
    let mut file = File::create(path).unwrap();
    bytes.chunks(40_000).for_each(|piece| file.write_all(piece).unwrap());
    file.sync_all().unwrap();
}

fn add(root: &Path, numbers: &mut Numbers, nth: u64, known: &Mutex<Known>) {
    let (name, bytes) = (format!("kept-{nth}"), content(numbers));
    match nth % 3 {
        0 => {
            let draft = root.join(format!(".{name}"));
            write(&draft, &bytes);
            fs::rename(draft, root.join(&name)).unwrap();
            File::open(root.join(&name)).unwrap().sync_all().unwrap();
        }
        _ => write(&root.join(&name), &bytes),
    }
    known.lock().unwrap().kept.insert(name, digest(&bytes));
}

fn remove(root: &Path, numbers: &mut Numbers, nth: u64, known: &Mutex<Known>) {
    let name = format!("gone-{nth}");
    write(&root.join(&name), &content(numbers));
    fs::remove_file(root.join(&name)).unwrap();
    known.lock().unwrap().removed.insert(name);
}

fn change(root: &Path, numbers: &mut Numbers, _nth: u64, known: &Mutex<Known>) {
    let name = format!("hot-{}", numbers.below(HOT));
    let path = root.join(&name);
    let note = |bytes: Vec<u8>| {
        let bytes = Arc::new(bytes);
        known.lock().unwrap().hot.entry(name.clone()).or_default().push(Arc::clone(&bytes));
        bytes
    };
    let new = content(numbers);
    match numbers.below(3) {
        0 => write(&path, &note(new)),
        1 => {
            let draft = root.join(format!(".{name}"));
            write(&draft, &note(new));
            fs::rename(draft, &path).unwrap();
        }
        _ => {
            let before = fs::read(&path).unwrap_or_default();
            if before.len() < LONG {
                let len = before.len();
                let whole = note([before, new].concat());
                let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
                file.write_all(&whole[len..]).unwrap();
                file.sync_data().unwrap();
            }
        }
    }
}
