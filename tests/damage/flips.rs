//! Every byte of a small volume, flipped in turn: superblock, policy, journal, session, blobs, index.
//!
//! A fixed sample is tried unless `WAMEDIA_FLIPS=all` asks for every byte, or `WAMEDIA_FLIPS=N` for about N of each file.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};

use wamedia::error::Kind;
use wamedia::ids::Ino;
use wamedia::volume::Volume;

use super::bench::{Bench, EARLIER, Files, GONE, Shown, blob_path, bytes, check, disturb, get, plant, walk};

/// Threads that flip, each in a store of its own.
const THREADS: usize = 6;
/// About how many bytes of each file are flipped when nothing else is asked for.
const SAMPLE: usize = 25;
/// The flips of a run are spread by this, so that a sample is no grid that fits the layout.
const SPREAD: usize = 7919;

/// Panics of all threads, those of the volume itself included.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Those of the tests themselves are theirs.
            if panic.location().is_none_or(|at| !at.file().starts_with("tests")) {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            usual(panic);
        }));
    });
}

/// What a volume showed and held before it was damaged.
struct Whole {
    files: Files,
    shown: BTreeMap<String, Shown>,
    contents: BTreeMap<String, Vec<u8>>,
    /// Which inode each path is.
    inodes: BTreeMap<String, Ino>,
    /// Which inode each blob is of.
    by_blob: BTreeMap<PathBuf, Ino>,
}

/// How a volume ended before it is damaged.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Clean,
    Killed,
}

fn make(bench: &Bench, end: End) -> Whole {
    let volume = bench.open();
    let mut contents = plant(&volume);
    volume.shutdown().unwrap();
    drop(volume);
    let volume = bench.open();
    disturb(&volume, &mut contents);
    if end == End::Clean {
        volume.shutdown().unwrap();
    }
    let image = bench.image();
    let mut files = image.take();
    // Nothing is in it, and to write it each time would take longer than all else.
    files.remove(Path::new("ballast"));
    let again = image.open();
    let seen = walk(&again).unwrap();
    for (path, content) in &contents {
        assert_eq!(&get(&again, seen[path].0).unwrap(), content);
    }
    assert_eq!(check(&again).findings, []);
    again.shutdown().unwrap();
    drop(volume);
    let inodes: BTreeMap<String, Ino> = seen.iter().map(|(path, (ino, _))| (path.clone(), *ino)).collect();
    let shown = seen.into_iter().map(|(path, (_, shown))| (path, shown)).collect();
    let mut whole = Whole { files, shown, contents, inodes, by_blob: BTreeMap::new() };
    whole.by_blob = owners(&image, &whole);
    whole
}

/// Which inode each blob is of: the one that is damaged when the blob is emptied.
fn owners(bench: &Bench, whole: &Whole) -> BTreeMap<PathBuf, Ino> {
    let mut owners = BTreeMap::from([(blob_path(Ino::ROOT), Ino::ROOT)]);
    for blob in whole.files.keys().filter(|path| path.starts_with("blobs")) {
        bench.put_back(&whole.files);
        bench.note_session();
        fs::write(bench.store().join(blob), "").unwrap();
        let findings = bench.with(check).findings;
        let name = blob.file_name().unwrap().to_str();
        let medium = findings.iter().find_map(|finding| finding.medium.clone());
        let owner = medium.and_then(|medium| whole.inodes.get(&format!("/{}", medium.split_once(' ')?.1)).copied());
        // Before it is known to the index, its number tells.
        let number = u64::from_str_radix(name.unwrap(), 16).unwrap();
        owners.entry(blob.clone()).or_insert(owner.unwrap_or(Ino(number)));
    }
    owners
}

/// Which bytes of a file are flipped, at most.
fn offsets(len: usize) -> Vec<usize> {
    let asked = std::env::var("WAMEDIA_FLIPS").unwrap_or_default();
    let wanted = match asked.as_str() {
        "" => SAMPLE,
        "all" => return (0..len).collect(),
        count => count.parse().expect("WAMEDIA_FLIPS is `all` or a number"),
    };
    let step = (len / wanted).max(1);
    (0..len).step_by(step).map(|at| (at + at * SPREAD % step).min(len - 1)).collect()
}

/// What is tried with each flipped byte.
#[derive(Clone, Copy)]
enum Trial {
    /// The volume as it lies there.
    AsItIs,
    /// The same after a power loss: nothing of what was not synced is believed.
    OtherSession,
    /// The same without its index.
    NoIndex,
}

fn trials(file: &Path) -> &'static [Trial] {
    match file.starts_with("blobs") || file.to_string_lossy().starts_with("journal") {
        true => &[Trial::AsItIs, Trial::OtherSession, Trial::NoIndex],
        false => &[Trial::AsItIs],
    }
}

fn prepare(bench: &Bench, whole: &Whole, trial: Trial, file: &Path, at: usize) {
    bench.put_back(&whole.files);
    let store = bench.store();
    match trial {
        Trial::AsItIs => bench.note_session(),
        Trial::OtherSession => fs::write(store.join("session"), "another").unwrap(),
        Trial::NoIndex => {
            bench.note_session();
            fs::remove_dir_all(store.join("index")).unwrap();
        }
    }
    let mut bytes = fs::read(store.join(file)).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 1 << (at % 8);
    fs::write(store.join(file), bytes).unwrap();
}

/// Opens, lists, reads and checks a volume of which one byte is another; gives what is not as promised.
fn look(bench: &Bench, whole: &Whole, end: End, trial: Trial, file: &Path) -> Result<bool, String> {
    let volume = bench.try_open().map_err(|e| format!("it does not open: {e}"))?;
    let outcome = look_at(&volume, whole, end, trial, file);
    let shutdown = volume.shutdown();
    drop(volume);
    let is_noticed = outcome?;
    match shutdown {
        Ok(()) => Ok(is_noticed),
        // An index that is found damaged in use ends the writing; the next mount has another.
        Err(_) if file.starts_with("index") => {
            let volume = bench.try_open().map_err(|e| format!("it does not open again: {e}"))?;
            let outcome = look_at(&volume, whole, end, trial, file);
            volume.shutdown().map_err(|e| format!("it does not shut down the second time: {e}"))?;
            outcome
        }
        Err(e) => Err(format!("it does not shut down: {e}")),
    }
}

fn look_at(volume: &Volume, whole: &Whole, end: End, trial: Trial, file: &Path) -> Result<bool, String> {
    let hurt = whole.by_blob.get(file).copied();
    let hurt_paths: Vec<&String> =
        whole.inodes.iter().filter(|(_, ino)| Some(**ino) == hurt).map(|(path, _)| path).collect();
    let is_journal = file.to_string_lossy().starts_with("journal");
    let is_roots = hurt == Some(Ino::ROOT);
    let seen = walk(volume).map_err(|e| format!("it cannot be listed: {e}"))?;
    let mut is_found = false;
    for (path, shown) in &whole.shown {
        match seen.get(path) {
            Some((_, found)) if found == shown => {}
            // Without the index, what only the damaged blob knew is gone, or an earlier state of it is the newest.
            _ if hurt_paths.iter().any(|hurt| path == *hurt || path.starts_with(&format!("{hurt}/"))) => {
                if end == End::Clean && !matches!(trial, Trial::NoIndex) {
                    return Err(format!("{path} is shown as {:?}", seen.get(path)));
                }
                is_found = true;
            }
            other => return Err(format!("{path}, which is whole, is shown as {other:?}")),
        }
    }
    for (path, (ino, shown)) in &seen {
        let is_whole = Some(*ino) != hurt;
        match (get_if_medium(volume, *ino, shown), whole.contents.get(path)) {
            (None, _) => {}
            (Some(Ok(read)), Some(content)) if read == *content => {}
            // The journal alone said that it is gone.
            (Some(Ok(read)), None) if path == "/gone" && is_journal && read == GONE => {
                is_found |= !matches!(trial, Trial::OtherSession);
            }
            (Some(Err(e)), _) if e.kind() == Kind::Damaged && !is_whole => is_found = true,
            // Under another name, or in an earlier state, it is one that was committed.
            (Some(Ok(read)), _) if !is_whole || !whole.shown.contains_key(path) => {
                let is_known = whole.contents.values().any(|content| *content == read);
                let is_earlier = hurt.is_some() && is_earlier_state(&read);
                if !is_known && !is_earlier {
                    return Err(format!("{path} has {} bytes that nobody wrote", read.len()));
                }
            }
            (Some(Ok(_)), _) => return Err(format!("{path} has other bytes than were written")),
            (Some(Err(e)), _) => return Err(format!("{path}, which is whole, cannot be read: {e}")),
        }
    }
    let findings = check(volume).findings;
    let notes = volume.status().map_err(|e| format!("no status: {e}"))?.recovery;
    if is_found && findings.is_empty() && notes.is_empty() {
        return Err("something is damaged, and neither check nor status says so".to_owned());
    }
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let is_of_blob = |problem: &str| problem.contains(&name);
    for finding in &findings {
        let names_it = finding.blob.as_deref().is_some_and(is_of_blob) || is_of_blob(&finding.problem);
        let path =
            finding.medium.as_deref().and_then(|medium| medium.split_once(' ')).map(|(_, path)| format!("/{path}"));
        let is_hurt = path.is_some_and(|path| whole.inodes.get(&path).copied() == hurt);
        if !names_it && !is_hurt && !is_roots {
            return Err(format!("a finding about something else: {finding:?}"));
        }
    }
    Ok(is_found || !findings.is_empty() || !notes.is_empty())
}

fn get_if_medium(volume: &Volume, ino: Ino, shown: &Shown) -> Option<wamedia::error::Result<Vec<u8>>> {
    (shown.kind == wamedia::volume::FileKind::Regular).then(|| get(volume, ino))
}

fn is_earlier_state(read: &[u8]) -> bool {
    read.is_empty() || EARLIER.iter().any(|(len, seed)| *read == bytes(*len, *seed))
}

/// Flips the bytes of one kind of volume and tells how many, and how many of the flips were noticed.
fn flip_all(is_encrypted: bool, end: End) -> (usize, usize) {
    count_panics();
    let source = Bench::new(is_encrypted);
    let whole = make(&source, end);
    let mut files: Vec<_> = whole.files.iter().collect();
    // The index's file, most of which is empty, comes last.
    files.sort_by_key(|(_, bytes)| bytes.len());
    let of_file = |(path, bytes): (&PathBuf, &Vec<u8>)| {
        offsets(bytes.len()).into_iter().map(|at| (path.clone(), at)).collect::<Vec<_>>()
    };
    let work: Vec<(PathBuf, usize)> = files.into_iter().flat_map(of_file).collect();
    let (next, noticed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let faults: Mutex<Vec<String>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let bench = source.image();
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    let Some((file, at)) = work.get(nth) else { break };
                    if nth > 0 && nth % 5000 == 0 {
                        eprintln!("{nth} of {} bytes flipped, now in {}", work.len(), file.display());
                    }
                    if faults.lock().unwrap().len() > 20 {
                        break;
                    }
                    for trial in trials(file) {
                        prepare(&bench, &whole, *trial, file, *at);
                        let seen = catch_unwind(AssertUnwindSafe(|| look(&bench, &whole, end, *trial, file)));
                        let outcome = seen.unwrap_or_else(|_| Err("a panic".to_owned()));
                        match outcome {
                            Ok(is_noticed) => {
                                let counts = is_noticed && file.starts_with("blobs");
                                noticed.fetch_add(usize::from(counts), Ordering::Relaxed);
                            }
                            Err(fault) => {
                                let trial = match trial {
                                    Trial::AsItIs => "as it is",
                                    Trial::OtherSession => "after a power loss",
                                    Trial::NoIndex => "without the index",
                                };
                                faults.lock().unwrap().push(format!("{} byte {at}, {trial}: {fault}", file.display()));
                            }
                        }
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "a thread of the volume panicked");
    let total: usize = work.iter().map(|(file, _)| trials(file).len()).sum();
    println!(
        "{} bytes flipped in {} files, {total} volumes opened, {} said so of a blob",
        work.len(),
        whole.files.len(),
        noticed.load(Ordering::Relaxed)
    );
    (work.iter().filter(|(file, _)| file.starts_with("blobs")).count(), noticed.into_inner())
}

#[test]
fn a_flipped_byte_anywhere_never_gives_wrong_bytes_nor_harms_a_neighbour() {
    let (flips, noticed) = flip_all(true, End::Clean);
    assert!(noticed > flips, "only {noticed} of {flips} flips were noticed: were they made?");
}

#[test]
fn a_flipped_byte_after_an_unclean_end_never_gives_wrong_bytes_nor_harms_a_neighbour() {
    let (flips, noticed) = flip_all(true, End::Killed);
    assert!(noticed > flips, "only {noticed} of {flips} flips were noticed: were they made?");
}

#[test]
fn a_flipped_byte_of_a_volume_without_cipher_never_gives_wrong_bytes_nor_harms_a_neighbour() {
    let (flips, noticed) = flip_all(false, End::Clean);
    assert!(noticed > flips, "only {noticed} of {flips} flips were noticed: were they made?");
}
