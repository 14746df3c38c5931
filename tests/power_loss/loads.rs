//! What writers do while the power fails. Each has a directory of its own and knows which of its calls promised what.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rustix::fs::{XattrFlags, setxattr};
use rustix::mm::MapFlags;

use crate::model::{Model, State};
use crate::support::mapping::Mapping;
use crate::support::patterns::Numbers;
use crate::support::place::{run, wamedia};
use crate::support::xattr;

/// One writer between two power losses.
pub struct Writer {
    /// The root of the volume, and the writer's own directory in it.
    pub root: PathBuf,
    pub dir: PathBuf,
    pub model: Model,
    pub numbers: Numbers,
    /// Set before the power fails: what returns later promises nothing.
    pub failing: Arc<AtomicBool>,
    /// Held while memory that is a file is touched: without a daemon the kernel would never have it ready.
    pub touching: Arc<Mutex<()>>,
}

/// One thing that a writer does.
type Step = fn(&mut Writer) -> io::Result<()>;

/// A load: its name, what it needs before it starts, and what it does again and again.
pub struct Load {
    pub name: &'static str,
    pub prepare: Step,
    pub step: Step,
}

/// All loads.
pub const LOADS: [Load; 8] = [
    Load { name: "delivered", prepare: thin_out, step: deliver },
    Load { name: "young", prepare: thin_out, step: write_in_young_directory },
    Load { name: "appended", prepare: thin_out, step: append },
    Load { name: "overwritten", prepare: make_a_few, step: overwrite },
    Load { name: "mapped", prepare: make_a_few, step: write_through_map },
    Load { name: "replaced", prepare: make_a_few, step: replace },
    Load { name: "removed", prepare: make_many, step: remove },
    Load { name: "purged", prepare: make_expired, step: purge },
];

impl Writer {
    /// Works until the power fails; panics when a call fails before that.
    pub fn work(mut self, load: &Load) -> Model {
        while !self.failing.load(Ordering::SeqCst) {
            if let Err(error) = (load.step)(&mut self) {
                assert!(self.failing.load(Ordering::SeqCst), "{}: {error}, though the power is on", load.name);
            }
        }
        self.model
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A sync has returned that promises `states`.
    fn acknowledged(&mut self, states: &[(&str, &State)]) {
        if !self.failing.load(Ordering::SeqCst) {
            for (name, state) in states {
                self.model.must_be(name, (*state).clone());
            }
            self.model.acknowledged += 1;
        }
    }

    /// Whether a file was last changed days ago.
    fn is_aged(&self, name: &str) -> bool {
        let changed = fs::metadata(self.path(name)).and_then(|meta| meta.modified());
        changed.is_ok_and(|at| at.elapsed().is_ok_and(|since| since > Duration::from_secs(2 * 86_400)))
    }

    /// Bytes of a size that is sometimes below and sometimes above a chunk.
    fn content(&mut self) -> State {
        let limit = [300, 300, 5_000, 70_000, 300_000][usize::try_from(self.numbers.below(5)).unwrap()];
        let len = 1 + usize::try_from(self.numbers.below(limit)).unwrap();
        Some(Arc::new(self.numbers.bytes(len)))
    }

    fn fresh(&mut self) -> String {
        format!("{:016x}", self.numbers.next())
    }

    fn pick(&mut self, among: &[String]) -> String {
        among[usize::try_from(self.numbers.below(among.len() as u64)).unwrap()].clone()
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    /// Makes a file and syncs it.
    fn make(&mut self, name: &str) -> io::Result<()> {
        let new = self.content();
        self.model.may_become(name, new.clone());
        let mut file = File::create_new(self.path(name))?;
        file.write_all(bytes(&new))?;
        file.sync_all()?;
        self.acknowledged(&[(name, &new)]);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.model.may_become(name, None);
        fs::remove_file(self.path(name))
    }

    /// A file to change: one of those that are there.
    fn some_file(&mut self) -> (String, Vec<u8>) {
        let existing = self.model.existing();
        let name = self.pick(&existing);
        let content = self.model.now(&name);
        (name, bytes(&content).to_vec())
    }
}

fn bytes(state: &State) -> &[u8] {
    state.as_ref().map_or(&[], |bytes| bytes)
}

/// Removes the oldest rounds' files, so that comparing does not take longer each time.
fn thin_out(writer: &mut Writer) -> io::Result<()> {
    let existing = writer.model.existing();
    for name in existing.iter().take(existing.len().saturating_sub(60)) {
        writer.remove(name)?;
    }
    writer.sync_dir()?;
    for name in existing.iter().take(existing.len().saturating_sub(60)) {
        writer.acknowledged(&[(name, &None)]);
    }
    Ok(())
}

/// As careful programs deliver: a hidden name, a sync, the real name, a sync of the directory.
fn deliver(writer: &mut Writer) -> io::Result<()> {
    let name = writer.fresh();
    let hidden = format!(".{name}.part");
    writer.make(&hidden)?;
    let content = writer.model.now(&hidden);
    writer.model.moves(&hidden, &name);
    fs::rename(writer.path(&hidden), writer.path(&name))?;
    writer.sync_dir()?;
    writer.acknowledged(&[(&hidden, &None), (&name, &content)]);
    Ok(())
}

/// A file in directories that nobody has synced: its own sync is enough.
fn write_in_young_directory(writer: &mut Writer) -> io::Result<()> {
    let dir = format!("{}/{}", writer.fresh(), writer.numbers.below(3));
    fs::create_dir_all(writer.path(&dir))?;
    for number in 0..1 + writer.numbers.below(3) {
        writer.make(&format!("{dir}/{number}"))?;
    }
    Ok(())
}

/// Appends, syncing after each piece, to one of a few files.
fn append(writer: &mut Writer) -> io::Result<()> {
    let name = format!("log-{}", writer.numbers.below(4));
    let mut content = bytes(&writer.model.now(&name)).to_vec();
    if content.len() > 600_000 {
        writer.remove(&name)?;
        writer.sync_dir()?;
        writer.acknowledged(&[(&name, &None)]);
        content.clear();
    }
    if content.is_empty() {
        // Closed without a byte, should the power fail between.
        writer.model.may_become(&name, Some(Arc::default()));
    }
    let mut file = OpenOptions::new().append(true).create(true).open(writer.path(&name))?;
    for _ in 0..=writer.numbers.below(4) {
        let len = 1 + usize::try_from(writer.numbers.below(30_000)).unwrap();
        let piece = writer.numbers.bytes(len);
        content.extend_from_slice(&piece);
        let state: State = Some(Arc::new(content.clone()));
        writer.model.may_become(&name, state.clone());
        file.write_all(&piece)?;
        file.sync_data()?;
        writer.acknowledged(&[(&name, &state)]);
    }
    Ok(())
}

fn make_a_few(writer: &mut Writer) -> io::Result<()> {
    while writer.model.existing().len() < 8 {
        let name = writer.fresh();
        writer.make(&name)?;
    }
    Ok(())
}

/// Writes over parts of a file and syncs, or only closes it.
fn overwrite(writer: &mut Writer) -> io::Result<()> {
    let (name, mut content) = writer.some_file();
    let file = OpenOptions::new().write(true).open(writer.path(&name))?;
    let mut parts = Vec::new();
    for _ in 0..=writer.numbers.below(4) {
        let at = usize::try_from(writer.numbers.below(content.len() as u64)).unwrap();
        let len = 1 + usize::try_from(writer.numbers.below((content.len() - at) as u64)).unwrap();
        let part = writer.numbers.bytes(len);
        content[at..at + len].copy_from_slice(&part);
        parts.push((at as u64, part));
    }
    let state: State = Some(Arc::new(content));
    writer.model.may_become(&name, state.clone());
    for (at, part) in parts {
        file.write_all_at(&part, at)?;
    }
    if writer.numbers.below(4) > 0 {
        file.sync_data()?;
        writer.acknowledged(&[(&name, &state)]);
    }
    Ok(())
}

/// The same through a map of the file.
fn write_through_map(writer: &mut Writer) -> io::Result<()> {
    let (name, mut content) = writer.some_file();
    let file = OpenOptions::new().read(true).write(true).open(writer.path(&name))?;
    for _ in 0..=writer.numbers.below(3) {
        let at = usize::try_from(writer.numbers.below(content.len() as u64)).unwrap();
        let len = 1 + usize::try_from(writer.numbers.below((content.len() - at) as u64)).unwrap();
        content[at..at + len].copy_from_slice(&writer.numbers.bytes(len));
    }
    let state: State = Some(Arc::new(content));
    writer.model.may_become(&name, state.clone());
    let lock = Arc::clone(&writer.touching);
    let touching = lock.lock().unwrap();
    if writer.failing.load(Ordering::SeqCst) {
        return Ok(());
    }
    let map = Mapping::try_new(&file, bytes(&state).len(), MapFlags::SHARED)?;
    map.write(0, bytes(&state));
    drop(touching);
    map.sync()?;
    writer.acknowledged(&[(&name, &state)]);
    Ok(())
}

/// Writes beside a file and renames over it.
fn replace(writer: &mut Writer) -> io::Result<()> {
    let (name, _) = writer.some_file();
    let draft = format!(".{}", writer.fresh());
    writer.make(&draft)?;
    let content = writer.model.now(&draft);
    writer.model.moves(&draft, &name);
    fs::rename(writer.path(&draft), writer.path(&name))?;
    if writer.numbers.below(2) > 0 {
        writer.sync_dir()?;
        writer.acknowledged(&[(&draft, &None), (&name, &content)]);
    }
    Ok(())
}

fn make_many(writer: &mut Writer) -> io::Result<()> {
    while writer.model.existing().len() < 80 {
        let name = writer.fresh();
        writer.make(&name)?;
    }
    Ok(())
}

/// Removes a few files and syncs the directory.
fn remove(writer: &mut Writer) -> io::Result<()> {
    if writer.model.existing().len() < 8 {
        return make_many(writer);
    }
    let mut gone = Vec::new();
    for _ in 0..=writer.numbers.below(3) {
        let (name, _) = writer.some_file();
        writer.remove(&name)?;
        gone.push(name);
    }
    if writer.numbers.below(4) > 0 {
        writer.sync_dir()?;
        let states: Vec<(&str, &State)> = gone.iter().map(|name| (name.as_str(), &None)).collect();
        writer.acknowledged(&states);
    }
    Ok(())
}

/// Media whose own retention has passed, and as many whose has not.
fn make_expired(writer: &mut Writer) -> io::Result<()> {
    while writer.model.existing().len() < 40 {
        for kept in ["kept", "old"] {
            let name = format!("{kept}-{}", writer.fresh());
            writer.make(&name)?;
            let path = writer.path(&name);
            let days = if kept == "kept" { "4000d" } else { "1d" };
            setxattr(&path, "user.wamedia.retention", days.as_bytes(), XattrFlags::empty())?;
            let file = OpenOptions::new().write(true).open(&path)?;
            let then = SystemTime::now() - Duration::from_secs(40 * 86_400);
            file.set_times(FileTimes::new().set_modified(then).set_accessed(then))?;
            file.sync_all()?;
        }
    }
    Ok(())
}

/// Removes one medium through `.expired` and syncs the root, or has all purged.
fn purge(writer: &mut Writer) -> io::Result<()> {
    // Not those of which a power loss has taken the age.
    let is_old = |name: &String| name.starts_with("old-") && writer.is_aged(name);
    let old: Vec<String> = writer.model.existing().into_iter().filter(is_old).collect();
    if old.len() < 4 {
        return make_expired(writer);
    }
    if writer.numbers.below(8) > 0 {
        let name = writer.pick(&old);
        let id = xattr::get(&writer.path(&name), "user.wamedia.id")?;
        let entry = format!(".expired/{}_{name}", String::from_utf8_lossy(&id));
        writer.model.may_become(&name, None);
        remove_when_closed(&writer.root.join(entry))?;
        File::open(&writer.root)?.sync_all()?;
        writer.acknowledged(&[(&name, &None)]);
        return Ok(());
    }
    for name in &old {
        writer.model.may_become(name, None);
    }
    let mut command = wamedia();
    command.args(["expired", "purge", "--yes"]).arg(&writer.root);
    let outcome = run(command);
    if !outcome.status.success() {
        return Err(io::Error::other(outcome.stderr));
    }
    // One whose close the daemon had not heard of is left for the next time.
    let gone = old.iter().filter(|name| !writer.path(name).exists());
    let states: Vec<(&str, &State)> = gone.map(|name| (name.as_str(), &None)).collect();
    writer.acknowledged(&states);
    Ok(())
}

/// The kernel tells of a close without waiting, and what is open is not expired.
fn remove_when_closed(entry: &Path) -> io::Result<()> {
    for _ in 0..500 {
        match fs::remove_file(entry) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EPERM)) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
    Err(io::Error::other(format!("{} is never there", entry.display())))
}
