//! Opens images, and compares what their volumes show with what they may.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;
use wamedia::clock::SystemClock;

use crate::child;
use crate::found;
use crate::history::{Found, History, State};
use crate::tree::{ROOT, Tree};

/// How the program before has ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum End {
    /// Its machine lost power.
    Power,
    /// It was killed; machine and file system stayed.
    Process,
}

/// Where images are made.
pub struct Verifier {
    key: PathBuf,
    scratch: TempDir,
    next: AtomicU64,
}

/// A scratch directory, in memory where the machine has one.
pub fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Verifier {
    pub fn new(key: &Path) -> Verifier {
        Verifier { key: key.to_owned(), scratch: scratch(), next: AtomicU64::new(0) }
    }

    /// Opens an image of a disk that had `base` at first; gives what is wrong with it. With `removals_last`, what was removed has
    /// to stay so.
    pub fn faults(
        &self,
        base: &Tree,
        tree: &Tree,
        (end, removals_last): (End, bool),
        history: &History,
        (done, last): (usize, usize),
        twice: bool,
    ) -> Vec<String> {
        let dir = self.scratch.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&dir).unwrap();
        let outcome = self.look(&dir, base, tree, end, twice);
        fs::remove_dir_all(&dir).unwrap();
        match outcome {
            Ok(found) => history.compare(&found, done, last, removals_last),
            Err(faults) => faults,
        }
    }

    fn look(&self, dir: &Path, base: &Tree, tree: &Tree, end: End, twice: bool) -> Result<Found, Vec<String>> {
        tree.write_out(ROOT, dir).unwrap();
        if end == End::Process {
            // What the process has noted is said of this place; a note from before it is one of another session here, too.
            for (note, of) in [("store/session", "store/blobs"), ("store/index/session", "store/index")] {
                if tree.file_at(note).is_some_and(|noted| Some(noted) != base.file_at(note)) {
                    fs::write(dir.join(note), wamedia::index::session(&dir.join(of)).unwrap()).unwrap();
                }
            }
        }
        let found = self.open_and_read(dir)?;
        if twice {
            let again = self.open_and_read(dir)?;
            if again.keys().ne(found.keys()) || again.iter().any(|(path, of)| found.get(path) != Some(of)) {
                return Err(vec!["a second mount shows something else".into()]);
            }
        }
        Ok(found)
    }

    fn open_and_read(&self, dir: &Path) -> Result<Found, Vec<String>> {
        let told = |what: &str| {
            let what = what.to_owned();
            move |e: wamedia::error::Error| vec![format!("{what}: {e}")]
        };
        let volume = child::open(dir, &self.key, Arc::new(SystemClock)).map_err(told("open"))?;
        let report = volume.check(true, &mut |_, _| {}).map_err(told("check"))?;
        let mut faults: Vec<String> = report.findings.iter().map(|finding| format!("check: {finding:?}")).collect();
        let found = found::read(&volume);
        let status = volume.status().map_err(told("status"))?;
        let lens = found.values().filter_map(|(state, _)| match state {
            State::File(bytes) => Some(bytes.len() as u64),
            _ => None,
        });
        let (bytes, media) = lens.fold((0, 0), |(bytes, media), len| (bytes + len, media + 1));
        // Of a file with several names the bytes count once.
        if status.used_bytes > bytes || status.media > media {
            faults.push(format!(
                "{} bytes in {} media are counted, {bytes} in {media} there",
                status.used_bytes, status.media
            ));
        }
        faults.extend(status.recovery.iter().filter(|note| note.contains("damaged")).cloned());
        volume.shutdown().map_err(told("shutdown"))?;
        if faults.is_empty() { Ok(found) } else { Err(faults) }
    }
}
