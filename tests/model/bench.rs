//! A volume in a directory of its own that can end in every way.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use wamedia::clock::{Clock, ManualClock};
use wamedia::crypto::{KeySource, make_key_file};
use wamedia::volume::{InitOptions, OpenOptions, Policy, Volume};

use crate::ops::Crash;

/// The time at which every volume begins.
pub const BEGIN: i64 = 1_700_000_000;
/// How often an image is tried again because something changed meanwhile.
const TRIES: usize = 1000;

pub struct Bench {
    dir: TempDir,
    store: PathBuf,
    images: u32,
    pub clock: Arc<ManualClock>,
    volume: Option<Arc<Volume>>,
}

impl Bench {
    /// An empty volume, open.
    pub fn new(policy: &Policy) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        make_key_file(&dir.path().join("key")).unwrap();
        let store = dir.path().join("store-0");
        let clock = Arc::new(ManualClock::new(BEGIN));
        let mut bench = Bench { dir, store, images: 0, clock, volume: None };
        let options =
            InitOptions { encrypted: true, policy: policy.clone(), root_uid: 0, root_gid: 0, root_mode: 0o755 };
        Volume::init(&bench.store, Some(&bench.key()), &options).unwrap();
        bench.open(false);
        bench
    }

    fn key(&self) -> KeySource {
        KeySource::key_file(&self.dir.path().join("key")).unwrap()
    }

    fn open(&mut self, rebuild_index: bool) {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let options = OpenOptions { clock, rebuild_index, ..OpenOptions::default() };
        self.volume = Some(Volume::open(&self.store, &[self.key()], options).unwrap());
    }

    pub fn volume(&self) -> &Volume {
        self.volume.as_ref().expect("the volume is open")
    }

    /// Shuts down and opens again.
    pub fn reopen(&mut self, anew: bool) {
        self.shutdown();
        self.open(anew);
    }

    fn shutdown(&mut self) {
        self.volume.take().expect("the volume is open").shutdown().unwrap();
    }

    /// Opens what a process that ends at this moment leaves.
    pub fn crash(&mut self, how: Crash) {
        self.images += 1;
        let image = self.dir.path().join(format!("store-{}", self.images));
        self.take_image(&image);
        self.shutdown();
        if how == Crash::InPlace {
            // The directories that the notes of the session name stay, so that it is the same store.
            for part in ["", "blobs", "index"] {
                empty(&self.store.join(part));
                fill(&image.join(part), &self.store.join(part));
            }
            fs::remove_dir_all(&image).unwrap();
        } else {
            fs::remove_dir_all(&self.store).unwrap();
            self.store = image;
        }
        if how == Crash::WithoutIndex {
            fs::remove_dir_all(self.store.join("index")).unwrap();
        }
        self.open(false);
    }

    /// Copies the store as it is at one moment: again when anything of it changed while it was copied.
    fn take_image(&self, image: &Path) {
        for _ in 0..TRIES {
            let before = state_of(&self.store);
            let copied = copy(&self.store, image);
            if copied.is_ok() && state_of(&self.store) == before {
                return;
            }
            fs::remove_dir_all(image).unwrap();
        }
        panic!("the store never stands still");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(volume) = self.volume.take()
            && !std::thread::panicking()
        {
            volume.shutdown().unwrap();
        }
    }
}

/// Names, lengths and times of change of all that is in a store.
fn state_of(dir: &Path) -> Vec<(PathBuf, u64, u64, i64, i64)> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name() {
        // What is removed meanwhile makes a difference.
        let Ok(entry) = entry else { continue };
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        found.push((entry.path().to_owned(), meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec()));
    }
    found
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Removes what is in a directory, but for the directories that stay.
fn empty(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let stays = ["blobs", "index"].contains(&entry.file_name().to_str().unwrap());
        if !entry.file_type().unwrap().is_dir() {
            fs::remove_file(entry.path()).unwrap();
        } else if !stays {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}

/// Moves what is in one directory into another, but for the directories that are there.
fn fill(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if !target.exists() {
            fs::rename(entry.path(), target).unwrap();
        }
    }
}
