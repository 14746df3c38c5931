//! Programs that use a mount while its daemon comes and goes.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Bytes of a record: its number, told so often that it fills it.
const RECORD: usize = 4096;
const WRITERS: u64 = 3;

/// What programs did and met.
#[derive(Debug, Default)]
pub struct Told {
    /// Acknowledged syncs.
    pub synced: u64,
    /// Files written, closed and renamed over others.
    pub renamed: u64,
    /// Errors that said that something unsynced was lost.
    pub lost: u64,
    /// Requests that were done already when they were done again.
    pub repeated: u64,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { synced, renamed, lost, repeated } = self;
        write!(f, "{synced} syncs, {renamed} renames, {lost} times EIO, {repeated} times told that it was done")
    }
}

/// The programs at work.
pub struct Load {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Told>>,
}

/// Starts them in this directory.
pub fn start(root: &Path) -> Load {
    let over = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for writer in 0..WRITERS {
        let (root, over) = (root.to_owned(), Arc::clone(&over));
        threads.push(thread::spawn(move || append_records(&root.join(format!("records-{writer}")), &over)));
    }
    let (dir, stop) = (root.join("renaming"), Arc::clone(&over));
    threads.push(thread::spawn(move || replace_files(&dir, &stop)));
    Load { over, threads }
}

impl Load {
    /// Ends them; what they met that they should not have, fails the test.
    pub fn end(self) -> Told {
        self.over.store(true, Ordering::Relaxed);
        let told = self.threads.into_iter().map(|thread| thread.join().unwrap());
        told.fold(Told::default(), |all, one| Told {
            synced: all.synced + one.synced,
            renamed: all.renamed + one.renamed,
            lost: all.lost + one.lost,
            repeated: all.repeated + one.repeated,
        })
    }
}

fn record(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(RECORD / 8)
}

/// Writes records through one handle, syncs each fourth, and reads all back after an error: those that were synced are there.
fn append_records(path: &Path, over: &AtomicBool) -> Told {
    let mut told = Told::default();
    let (mut written, mut synced) = (0u64, 0u64);
    let open = || File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    let mut file = open();
    while !over.load(Ordering::Relaxed) {
        let outcome = file.write_all_at(&record(written), written * RECORD as u64).and_then(|()| {
            written += 1;
            if written.is_multiple_of(4) { file.sync_all().map(|()| true) } else { Ok(false) }
        });
        match outcome {
            Ok(true) => {
                synced = written;
                told.synced += 1;
            }
            Ok(false) => {}
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EIO), "{} after {written} records", path.display());
                told.lost += 1;
                file = open();
                expect_records(&file, synced);
                written = synced;
            }
        }
    }
    expect_records(&file, synced);
    told
}

fn expect_records(file: &File, synced: u64) {
    let mut found = vec![0; RECORD];
    for number in 0..synced {
        file.read_exact_at(&mut found, number * RECORD as u64).unwrap();
        assert!(found == record(number), "record {number} of {synced} is not what was synced");
    }
}

/// Writes a file, syncs it, and renames it over another, which always has a whole content.
fn replace_files(dir: &Path, over: &AtomicBool) -> Told {
    let mut told = Told::default();
    fs::create_dir(dir).unwrap();
    let (fresh, target) = (dir.join("fresh"), dir.join("target"));
    while !over.load(Ordering::Relaxed) {
        match replace(&fresh, &target, told.renamed) {
            Ok(()) => told.renamed += 1,
            // The daemon was killed between the renaming and its answer.
            Err(error) if error.kind() == io::ErrorKind::NotFound => told.repeated += 1,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EIO), "replacing {}", target.display());
                told.lost += 1;
            }
        }
        if told.renamed > 0 {
            expect_whole(&target);
        }
    }
    told
}

fn replace(fresh: &PathBuf, target: &PathBuf, number: u64) -> io::Result<()> {
    let file = File::create(fresh)?;
    file.write_all_at(&record(number), 0)?;
    file.sync_all()?;
    drop(file);
    fs::rename(fresh, target)
}

fn expect_whole(target: &Path) {
    let found = fs::read(target);
    // A reader that has it open when the daemon is killed and it is replaced at once is told so.
    let bytes = found.unwrap_or_else(|error| panic!("{}: {error}", target.display()));
    assert_eq!(bytes.len(), RECORD);
    assert!(bytes.chunks(8).all(|number| number == &bytes[..8]), "a mixture");
}
