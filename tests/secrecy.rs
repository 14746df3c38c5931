//! Nothing readable reaches the disk: no byte run, name or type of any medium, in no file of the store, index included.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{XattrFlags, setxattr};
use sha2::{Digest, Sha256};

use support::machine;
use support::mounted::Mounted;
use support::place::{Place, text};
use support::{samples, tree};

/// Length of the byte runs that are looked for.
const RUN: usize = 16;
/// The shortest needle: shorter ones would be found in random bytes.
const SHORTEST: usize = 7;
const ALBUM: &str = "Confidential-Album";
const LINK_TARGET: &str = "where-the-link-leads";
const OWN_ATTRIBUTE: &str = "user.secret-attribute";
const OWN_VALUE: &str = "value-nobody-may-read";
const MEDIA_ID: &str = "463eb7ec-ff4e-4d9b-b110-1879cbd411b2";

/// What is looked for, each with a word for people.
#[derive(Default)]
struct Needles {
    /// Grouped by their first four bytes, so that one pass over a file is enough.
    by_start: HashMap<[u8; 4], Vec<(Vec<u8>, String)>>,
    count: usize,
}

impl Needles {
    fn add(&mut self, bytes: &[u8], what: String) {
        assert!(bytes.len() >= SHORTEST, "{what} is too short to look for");
        let start = [bytes[0], bytes[1], bytes[2], bytes[3]];
        self.by_start.entry(start).or_default().push((bytes.to_vec(), what));
        self.count += 1;
    }

    fn add_name(&mut self, name: &str) {
        if name.len() >= SHORTEST {
            self.add(name.as_bytes(), format!("the name {name}"));
        }
    }

    /// Everything about the samples, as a thief would look for it.
    fn of_samples() -> Needles {
        let mut needles = Needles::default();
        let mut words = BTreeSet::new();
        for sample in samples::all() {
            words.insert(sample.name().to_owned());
            words.extend([sample.mime.clone(), sample.verdict.clone()]);
            for (at, run) in runs(&sample.bytes) {
                needles.add(run, format!("{RUN} bytes of {} at {at}", sample.path));
            }
            let digest = Sha256::digest(&sample.bytes);
            needles.add(&digest, format!("the digest of {}", sample.path));
            needles.add(tree::hex(&digest).as_bytes(), format!("the digest of {} in hex", sample.path));
        }
        words.extend([ALBUM, LINK_TARGET, OWN_ATTRIBUTE, OWN_VALUE, MEDIA_ID].map(str::to_owned));
        words.extend(["user.mime_type", "shared/463e", "b7ec/ff4e4d9bb1101879cbd411b2"].map(str::to_owned));
        for word in &words {
            needles.add_name(word);
        }
        let raw = uuid::Uuid::try_parse(MEDIA_ID).unwrap();
        needles.add(raw.as_bytes(), "the media id in binary".to_owned());
        needles
    }

    /// What of it stands in `bytes`.
    fn found_in(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        for (at, window) in bytes.windows(4).enumerate() {
            let Some(candidates) = self.by_start.get(window) else { continue };
            let rest = &bytes[at..];
            found.extend(
                candidates.iter().filter(|(needle, _)| rest.starts_with(needle)).map(|(_, what)| what.as_str()),
            );
        }
        found
    }

    /// What of it stands in the files below `dir`, or in their names: (what, where).
    fn found_below(&self, dir: &Path) -> BTreeMap<&str, String> {
        let mut found = BTreeMap::new();
        for entry in walkdir::WalkDir::new(dir) {
            let entry = entry.unwrap();
            let path = entry.path().strip_prefix(dir).unwrap();
            let mut bytes = path.as_os_str().as_bytes().to_vec();
            if entry.file_type().is_file() {
                bytes.push(b'\n');
                bytes.extend(fs::read(entry.path()).unwrap());
            } else if entry.file_type().is_symlink() {
                bytes.push(b'\n');
                bytes.extend(fs::read_link(entry.path()).unwrap().as_os_str().as_bytes());
            }
            for what in self.found_in(&bytes) {
                found.insert(what, path.display().to_string());
            }
        }
        found
    }
}

/// Runs of a medium that no other bytes would have: from its start, end and between, none of few different bytes.
fn runs(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let last = bytes.len().saturating_sub(RUN);
    let places: BTreeSet<usize> = (0..=12).map(|part| last * part / 12).collect();
    let runs = places.into_iter().filter_map(|at| Some((at, bytes.get(at..at + RUN)?)));
    runs.filter(|(_, run)| run.iter().collect::<BTreeSet<_>>().len() > RUN / 2).collect()
}

/// Puts every sample and everything else that could leak below `root`.
fn fill(root: &Path) {
    let album = root.join(ALBUM);
    fs::create_dir(&album).unwrap();
    for sample in samples::all() {
        let path = album.join(&sample.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &sample.bytes).unwrap();
        // Set, not only detected: both ways to a type.
        setxattr(&path, "user.mime_type", sample.mime.as_bytes(), XattrFlags::empty()).unwrap();
        setxattr(&path, OWN_ATTRIBUTE, OWN_VALUE.as_bytes(), XattrFlags::empty()).unwrap();
        // Written again in pieces from the back, which the volume has to put in order.
        let turned = path.with_extension("turned");
        let file = File::create(&turned).unwrap();
        for (number, piece) in sample.bytes.chunks(10_000).enumerate().rev() {
            std::os::unix::fs::FileExt::write_all_at(&file, piece, number as u64 * 10_000).unwrap();
        }
        file.sync_all().unwrap();
    }
    symlink(LINK_TARGET, album.join("link")).unwrap();
    let by_id = root.join("shared/463e/b7ec");
    fs::create_dir_all(&by_id).unwrap();
    fs::write(by_id.join("ff4e4d9bb1101879cbd411b2"), &samples::all()[0].bytes).unwrap();
    fs::write(root.join("shared").join(MEDIA_ID), &samples::all()[1].bytes).unwrap();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        if entry.file_type().is_dir() && entry.file_name() != ".expired" {
            File::open(entry.path()).unwrap().sync_all().unwrap();
        }
    }
}

fn assert_nothing(found: &BTreeMap<&str, String>, when: &str) {
    assert!(found.is_empty(), "{when}, {} things can be read in the store: {found:#?}", found.len());
}

#[test]
fn nothing_of_a_medium_can_be_read_in_the_store() {
    if !machine::can_mount("nothing_of_a_medium_can_be_read_in_the_store") {
        return;
    }
    let needles = Needles::of_samples();
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    fill(mounted.root());
    assert_nothing(&needles.found_below(&place.store()), "while it is mounted");
    let said = mounted.log();
    assert_eq!(needles.found_in(said.as_bytes()), BTreeSet::new(), "the daemon's log tells too much:\n{said}");

    // Killed in the middle of a write, as after a crash.
    let half = File::create(mounted.path(ALBUM).join("half-written.jpg")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&half, &samples::all()[0].bytes, 0).unwrap();
    mounted.kill();
    drop(half);
    assert_nothing(&needles.found_below(&place.store()), "after a kill");

    let mounted = Mounted::start(&place);
    let album = mounted.path(ALBUM);
    let path = album.join(&samples::all()[0].path);
    fs::write(&path, &samples::all()[1].bytes).unwrap();
    fs::remove_file(album.join(&samples::all()[2].path)).unwrap();
    fs::rename(&path, mounted.path("renamed-for-everyone.jpg")).unwrap();
    mounted.unmount();
    assert_nothing(&needles.found_below(&place.store()), "after the unmount");

    fs::remove_dir_all(place.store().join("index")).unwrap();
    Mounted::start(&place).unmount();
    assert_nothing(&needles.found_below(&place.store()), "after a rebuild of the index");
}

#[test]
fn no_key_lies_in_the_store() {
    if !machine::can_mount("no_key_lies_in_the_store") {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    fs::write(mounted.path("medium"), b"something").unwrap();
    let said = mounted.log();
    mounted.unmount();
    let hex = fs::read_to_string(place.key()).unwrap();
    let pairs = (0..hex.len()).step_by(2);
    let raw: Vec<u8> = pairs.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let mut needles = Needles::default();
    needles.add(hex.as_bytes(), "the key in hex".to_owned());
    needles.add(&raw, "the key".to_owned());
    assert_nothing(&needles.found_below(&place.store()), "after the unmount");
    assert_eq!(needles.found_in(said.as_bytes()), BTreeSet::new());
}

#[test]
fn the_search_finds_everything_in_a_plain_directory() {
    let place = Place::new();
    let plain = place.path("plain");
    fs::create_dir(&plain).unwrap();
    let needles = Needles::of_samples();
    assert!(needles.count > 250, "only {} things to look for", needles.count);
    for sample in samples::all() {
        fs::write(plain.join(sample.name()), &sample.bytes).unwrap();
    }
    let found = needles.found_below(&plain);
    for sample in samples::all() {
        for (at, _) in runs(&sample.bytes) {
            let what = format!("{RUN} bytes of {} at {at}", sample.path);
            assert!(found.contains_key(what.as_str()), "{what} was not found in a plain copy");
        }
        if sample.name().len() >= SHORTEST {
            let what = format!("the name {}", sample.name());
            assert!(found.contains_key(what.as_str()), "{what} was not found");
        }
    }
}

#[test]
fn the_search_finds_media_in_a_store_without_encryption() {
    if !machine::can_mount("the_search_finds_media_in_a_store_without_encryption") {
        return;
    }
    let place = Place::new();
    let (store, mnt) = (place.store(), place.mnt());
    let said = place.run(&["init", "--cipher", "none", text(&store)]);
    let told = format!("{}{}", said.stdout, said.stderr).to_lowercase();
    said.expect_success();
    assert!(told.contains("not encrypted") || told.contains("unencrypted"), "init must say it: {told}");
    place.give_key(&place.key());
    let _guard = support::mounted::DaemonGuard(&place);
    place.run(&["mount", "--daemon", text(&store), text(&mnt)]).expect_success();
    fill(&mnt);
    place.run(&["umount", text(&mnt)]).expect_success();
    let needles = Needles::of_samples();
    let found = needles.found_below(&store);
    let runs_found = found.keys().filter(|what| what.contains(" bytes of ")).count();
    assert!(runs_found > 200, "only {runs_found} byte runs are found in an unencrypted store");
    let names_found = found.keys().filter(|what| what.starts_with("the name ")).count();
    assert!(names_found > 20, "only {names_found} names are found in an unencrypted store");
}
