//! The program under test: a volume of this build in a process of its own, on the recording disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use wamedia::clock::{Clock, SystemClock, Timestamp};
use wamedia::crypto::KeySource;
use wamedia::error::{Error, Kind, Result};
use wamedia::ids::Ino;
use wamedia::volume::{NewNode, OpenFile, OpenMode, OpenOptions, RenameMode, SetAttr, Volume, XattrMode};

use crate::disk::MARKS;
use crate::found;
use crate::history::{Found, State};
use crate::steps::{self, Step, Workload};
use crate::world::{World, bytes_of};

/// The variable that makes this test binary the program under test: workload, disk, key file, how it goes.
const ROLE: &str = "WAMEDIA_CRASH_CHILD";
/// The name of the extended attribute that workloads set.
pub const XATTR: &str = "user.crash";
const RW: OpenMode = OpenMode { read: true, write: true, append: false, truncate: false };
const NODE: NewNode = NewNode { mode: 0o644, uid: 0, gid: 0 };
/// After this long the program hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The machine's time, and days that a step adds.
#[derive(Default)]
struct MovedClock(AtomicI64);

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_secs(self.0.load(Ordering::Relaxed))
    }
}

/// How a run of the program ended.
pub struct Outcome {
    pub is_success: bool,
    pub stderr: String,
}

/// Runs the workload `name` on the disk at `root`, as `how` says (see [`play`]).
pub fn run(name: &str, root: &Path, key: &Path, how: &str) -> Outcome {
    let role = [name, root.to_str().unwrap(), key.to_str().unwrap(), how].join("\n");
    let errors = tempfile::tempfile().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_program_under_test", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors.try_clone().unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if begun.elapsed() > PATIENCE {
            let _gone = child.kill();
            let _reaped = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let mut errors = errors;
    let mut stderr = String::new();
    std::io::Seek::rewind(&mut errors).unwrap();
    std::io::Read::read_to_string(&mut errors, &mut stderr).unwrap();
    match status {
        Some(status) => Outcome { is_success: status.success(), stderr },
        None => Outcome { is_success: false, stderr: format!("it hung\n{stderr}") },
    }
}

/// Opens the volume below `root`.
pub fn open(root: &Path, key: &Path, clock: Arc<dyn Clock>) -> Result<Arc<Volume>> {
    // A volume without a cipher has no key.
    let is_plain = !key.exists();
    let sources = if is_plain { Vec::new() } else { vec![KeySource::key_file(key)?] };
    let started = Instant::now();
    loop {
        let options = OpenOptions { clock: Arc::clone(&clock), contents_apart: is_plain, ..OpenOptions::default() };
        match Volume::open(&root.join("store"), &sources, options) {
            // A child of another thread has a copy of the lock between fork and exec.
            Err(e) if e.kind() == Kind::Locked && started.elapsed() < Duration::from_secs(5) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => return opened,
        }
    }
}

/// Is the program under test when this process was started as one.
pub fn play() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let mut role = role.split('\n');
    let mut next = || role.next().unwrap();
    let (name, root, key, how) = (next(), PathBuf::from(next()), PathBuf::from(next()), next());
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        // sled gives up by panics, which the index catches; ours are faults of ours.
        if info.location().is_some_and(|at| at.file().starts_with("src/") || at.file().starts_with("tests/")) {
            std::process::abort();
        }
    }));
    let workload = steps::named(name);
    let mut player = Player {
        key,
        marks: File::options().write(true).open(root.join(MARKS)).unwrap(),
        root,
        clock: Arc::default(),
        volume: None,
        files: BTreeMap::new(),
        world: World::default(),
    };
    for (nth, step) in workload.before.iter().enumerate() {
        player.world.take(nth, step);
    }
    player.world.take(usize::MAX, &Step::Shutdown);
    player.world.inodes.values_mut().for_each(|inode| inode.is_touched = false);
    match how {
        // What is there already was made before: the steps before the recorded ones are only known of.
        "prepare" => {
            player.world = World::default();
            player.open().unwrap();
            for (nth, step) in workload.before.iter().enumerate() {
                player.play(nth, step).unwrap();
                player.world.take(nth, step);
            }
            player.play(0, &Step::Shutdown).unwrap();
        }
        "record" => {
            player.open().unwrap();
            player.mark("opened");
            for (nth, step) in workload.steps.iter().enumerate() {
                let nth = workload.before.len() + nth;
                player.play(nth, step).unwrap_or_else(|e| panic!("{step:?}: {e}"));
                player.world.take(nth, step);
                player.mark("ok");
            }
            // A crash needs no farewell.
            std::process::exit(0);
        }
        "mount" => {
            player.open().unwrap();
            player.mark("opened");
            player.play(0, &Step::Shutdown).unwrap();
        }
        "faults" => player.play_with_faults(&workload, false),
        "faults of reads" => player.play_with_faults(&workload, true),
        other => panic!("no such way to go: {other}"),
    }
}

/// What a failed step has come to, as it is seen through the volume.
fn came_to(found: &Found, before: &World, after: &World, reads_fail: bool) -> Option<&'static str> {
    let is = |world: &World| live_faults(found, world, reads_fail).is_empty();
    if is(before) { Some("no before") } else { is(after).then_some("no after") }
}

/// Where a volume in use shows something else than a world. What was changed while the disk records may be lost with a
/// failure of the disk; then reading it fails. Everything may be unreadable where reads fail.
fn live_faults(found: &Found, world: &World, reads_fail: bool) -> Vec<String> {
    let is_blind = reads_fail && found.values().any(|(state, _)| matches!(state, State::Unreadable(_)));
    let mut wanted: BTreeMap<&str, (State, bool)> = BTreeMap::new();
    for inode in world.inodes.values() {
        let state = if inode.is_dir { State::Dir } else { State::File(Arc::clone(&inode.live)) };
        for name in &inode.names {
            wanted.insert(name, (state.clone(), inode.is_touched));
        }
    }
    let mut faults = Vec::new();
    for (path, (state, may_fail)) in &wanted {
        match found.get(*path) {
            Some((here, _)) if here == state => {}
            Some((State::Unreadable(_), _)) if *may_fail || reads_fail => {}
            None if is_blind => {}
            other => faults.push(format!(
                "{path:?} is {}, not {}",
                other.map_or("absent".into(), |(here, _)| here.describe()),
                state.describe()
            )),
        }
    }
    let others = found.iter().filter(|(path, _)| !wanted.contains_key(path.as_str()) && !path.is_empty());
    faults.extend(others.map(|(path, _)| format!("{path:?} is there")));
    faults
}

struct Player {
    root: PathBuf,
    key: PathBuf,
    marks: File,
    clock: Arc<MovedClock>,
    volume: Option<Arc<Volume>>,
    files: BTreeMap<u8, OpenFile>,
    world: World,
}

impl Player {
    fn mark(&mut self, text: &str) {
        self.marks.write_all(text.as_bytes()).unwrap();
    }

    fn open(&mut self) -> Result<()> {
        self.volume = Some(open(&self.root, &self.key, Arc::clone(&self.clock) as Arc<dyn Clock>)?);
        Ok(())
    }

    fn volume(&self) -> &Arc<Volume> {
        self.volume.as_ref().expect("the volume is open")
    }

    fn shut(&mut self) -> Result<()> {
        // Nobody closes what is still open.
        std::mem::forget(std::mem::take(&mut self.files));
        self.volume.take().map_or(Ok(()), |volume| volume.shutdown())
    }

    fn place<'a>(&self, path: &'a str) -> Result<(Ino, &'a [u8])> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.volume().resolve(dir.as_bytes())?, name.as_bytes()))
    }

    fn play(&mut self, nth: usize, step: &Step) -> Result<()> {
        let volume = Arc::clone(self.volume());
        let find = |path: &str| volume.resolve(path.as_bytes());
        match step {
            Step::Mkdir(path) => {
                let (dir, name) = self.place(path)?;
                volume.mkdir(dir, name, &NODE)?;
            }
            Step::Rmdir(path) => {
                let (dir, name) = self.place(path)?;
                volume.rmdir(dir, name)?;
            }
            Step::Create(handle, path) => {
                let (dir, name) = self.place(path)?;
                self.files.insert(*handle, volume.create(dir, name, &NODE, RW)?.1);
            }
            Step::Open(handle, path) => {
                self.files.insert(*handle, volume.open_file(find(path)?, RW)?);
            }
            Step::OpenAnew(handle, path) => {
                self.files.insert(*handle, volume.open_file(find(path)?, OpenMode { truncate: true, ..RW })?);
            }
            Step::Write(handle, at, len) => volume.write(&self.files[handle], *at, &bytes_of(nth, *len), false)?,
            Step::Fsync(handle) => volume.fsync(&self.files[handle], false)?,
            Step::Close(handle) => volume.close(self.files.remove(handle).unwrap()),
            Step::CloseSoon(handle) => volume.close_soon(self.files.remove(handle).unwrap()),
            Step::Truncate(path, len) => {
                volume.setattr(find(path)?, &SetAttr { size: Some(*len), ..SetAttr::default() })?;
            }
            Step::Rename(from, to) => self.rename(from, to, RenameMode::Replace)?,
            Step::Exchange(a, b) => self.rename(a, b, RenameMode::Exchange)?,
            Step::Link(from, to) => {
                let (dir, name) = self.place(to)?;
                volume.link(find(from)?, dir, name)?;
            }
            Step::Unlink(path) => {
                let (dir, name) = self.place(path)?;
                volume.unlink(dir, name)?;
            }
            Step::Xattr(path, value) => {
                volume.set_xattr(find(path)?, XATTR.as_bytes(), value.as_bytes(), XattrMode::Any)?;
            }
            Step::SyncDir(path) => volume.fsync_dir(find(path)?)?,
            Step::SyncAll => volume.sync_all()?,
            Step::Drain => volume.drain()?,
            Step::Checkpoint => volume.checkpoint()?,
            Step::Purge => {
                self.clock.0.fetch_add(100 * 86_400, Ordering::Relaxed);
                volume.purge(false, None, &mut |_| {})?;
            }
            Step::Rest => std::thread::sleep(Duration::from_millis(1300)),
            Step::Reopen => {
                drop(volume);
                self.shut()?;
                self.open()?;
            }
            Step::Shutdown => {
                drop(volume);
                self.shut()?;
            }
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str, mode: RenameMode) -> Result<()> {
        let ((from_dir, from), (to_dir, to)) = (self.place(from)?, self.place(to)?);
        self.volume().rename(from_dir, from, to_dir, to, mode)
    }

    /// Takes every step that can be taken, and looks at everything after each: what fails must fail with an error, and
    /// what is read must be right.
    fn play_with_faults(&mut self, workload: &Workload, reads_fail: bool) {
        if let Err(e) = self.open() {
            assert_is_told(&e, reads_fail);
            self.mark("no volume");
            return;
        }
        self.mark("opened");
        for (nth, step) in workload.steps.iter().enumerate() {
            let nth = workload.before.len() + nth;
            // The volume's own thread is left out: which call fails is to be known.
            if !self.can_take(step) || matches!(step, Step::Rest) {
                self.mark("skip");
                continue;
            }
            let mut after = self.world.clone();
            after.take(nth, step);
            let mark = match self.play(nth, step) {
                Ok(()) => {
                    self.world = after;
                    "ok"
                }
                Err(e) => {
                    assert_is_told(&e, reads_fail);
                    // Of what is expired a part may be removed.
                    if self.volume.is_none() || matches!(step, Step::Purge) {
                        self.mark("no volume");
                        return;
                    }
                    let found = found::read(self.volume());
                    let mark = came_to(&found, &self.world, &after, reads_fail);
                    let faults = live_faults(&found, &self.world, reads_fail);
                    let mark = mark.unwrap_or_else(|| panic!("{step:?}: {e}: {faults:?}"));
                    if mark == "no after" {
                        self.world = after;
                    }
                    mark
                }
            };
            self.mark(mark);
            if self.volume.is_some() {
                let faults = live_faults(&found::read(self.volume()), &self.world, reads_fail);
                assert!(faults.is_empty(), "after {step:?} ({mark}): {faults:?}");
            }
        }
        if let Err(e) = self.shut() {
            assert_is_told(&e, reads_fail);
        }
    }

    /// Whether what a step is about is there, after others have failed.
    fn can_take(&self, step: &Step) -> bool {
        let is_there = |path: &str| self.world.holder(path).is_some();
        let is_free = |path: &str| !is_there(path) && path.rsplit_once('/').is_none_or(|(dir, _)| is_there(dir));
        match step {
            Step::Write(handle, ..) | Step::Fsync(handle) | Step::Close(handle) | Step::CloseSoon(handle) => {
                self.files.contains_key(handle)
            }
            Step::Mkdir(path) | Step::Create(_, path) => is_free(path),
            Step::Open(_, path) | Step::OpenAnew(_, path) | Step::Truncate(path, _) => is_there(path),
            Step::Unlink(path) | Step::Xattr(path, _) => is_there(path),
            Step::Rmdir(path) => is_there(path) && !self.world.has_entries(path),
            // A directory that was to be emptied before may still have something in it.
            Step::Rename(from, to) => is_there(from) && (is_free(to) || (is_there(to) && !self.world.has_entries(to))),
            Step::Exchange(a, b) => is_there(a) && is_there(b),
            Step::Link(from, to) => is_there(from) && is_free(to),
            Step::SyncDir(path) => path.is_empty() || is_there(path),
            Step::SyncAll | Step::Drain | Step::Checkpoint | Step::Purge | Step::Rest => self.volume.is_some(),
            Step::Reopen | Step::Shutdown => self.volume.is_some(),
        }
    }
}

/// An error tells what failed. The index, which can be made anew, may count as damaged.
fn assert_is_told(e: &Error, reads_fail: bool) {
    assert!(!e.to_string().is_empty());
    let is_index = e.kind() == Kind::Damaged && (reads_fail || e.to_string().contains("index"));
    let is_told = matches!(e.kind(), Kind::Io | Kind::NoSpace | Kind::Poisoned | Kind::ReadOnly);
    assert!(is_told || is_index, "{:?}: {e}", e.kind());
}
