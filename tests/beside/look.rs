//! What is seen of a side, in a form in which two sides can be compared.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use crate::side::Side;
use crate::support::xattr;

/// A time further from now than this was set by somebody.
const FAR: u64 = 100_000;

/// A time: of two sides it is never the same, but when it is set, and when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// That which was asked for.
    Set(i64, i64),
    /// It has changed since the last look.
    New,
    /// It has not.
    Same,
}

/// One inode as a name or a handle shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub mode: u32,
    owner: (u32, u32),
    links: u64,
    /// Length of a file or link; what a directory tells differs by file system.
    size: u64,
    device: u64,
    target: Vec<u8>,
    /// The first name of the same inode.
    same_as: String,
    mtime: Time,
    ctime: Time,
}

impl Seen {
    pub fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Directory
    }

    /// Leaves its times out of what is compared.
    pub fn forget_times(&mut self) {
        (self.mtime, self.ctime) = (Time::New, Time::New);
    }
}

/// What is seen, by path (the root's is empty), and behind those by handle.
pub type View = BTreeMap<Vec<u8>, Seen>;

/// The times that were seen last, by inode number.
#[derive(Default)]
pub struct Memory {
    times: HashMap<u64, [(i64, i64); 2]>,
}

fn time(before: Option<(i64, i64)>, now: (i64, i64)) -> Time {
    let since = UNIX_EPOCH + Duration::from_secs(now.0.unsigned_abs());
    let here = SystemTime::now();
    let far = here.duration_since(since).or_else(|_| since.duration_since(here)).unwrap();
    match () {
        () if now.0 < 0 || far.as_secs() > FAR => Time::Set(now.0, now.1),
        () if before == Some(now) => Time::Same,
        () => Time::New,
    }
}

impl Memory {
    /// Nothing is known of times any more.
    pub fn forget(&mut self) {
        self.times.clear();
    }

    /// Looks at everything.
    pub fn look(&mut self, side: &Side) -> View {
        let (mut view, mut names, mut times) = (View::new(), HashMap::new(), HashMap::new());
        let mut add = |view: &mut View, path: Vec<u8>, stat: &Stat, target: Vec<u8>| {
            let shown = String::from_utf8_lossy(&path).into_owned();
            let first: &String = names.entry(stat.st_ino).or_insert(shown);
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let (mtime, ctime) =
                (seconds(stat.st_mtime, stat.st_mtime_nsec), seconds(stat.st_ctime, stat.st_ctime_nsec));
            let before = self.times.get(&stat.st_ino);
            let seen = Seen {
                mode: stat.st_mode,
                owner: (stat.st_uid, stat.st_gid),
                links: stat.st_nlink,
                size: if is_dir { 0 } else { stat.st_size.unsigned_abs() },
                device: stat.st_rdev,
                target,
                same_as: first.clone(),
                mtime: time(before.map(|times| times[0]), mtime),
                ctime: time(before.map(|times| times[1]), ctime),
            };
            times.insert(stat.st_ino, [mtime, ctime]);
            view.insert(path, seen);
        };
        let root = rustix::fs::fstat(side.dir()).unwrap();
        add(&mut view, Vec::new(), &root, Vec::new());
        let mut next = vec![Vec::new()];
        while let Some(dir) = next.pop() {
            for (name, kind) in entries(side, &dir) {
                let path = if dir.is_empty() { name } else { [&dir[..], b"/", &name].concat() };
                let stat = rustix::fs::statat(side.dir(), &path[..], AtFlags::SYMLINK_NOFOLLOW)
                    .unwrap_or_else(|e| panic!("{}: {path:?} is listed and not there: {e}", side.name));
                let is = FileType::from_raw_mode(stat.st_mode);
                assert_eq!(kind, is, "{}: {path:?} is listed as something else", side.name);
                let target = match is {
                    FileType::Symlink => {
                        rustix::fs::readlinkat(side.dir(), &path[..], Vec::new()).unwrap().into_bytes()
                    }
                    _ => Vec::new(),
                };
                if is == FileType::Directory {
                    next.push(path.clone());
                }
                add(&mut view, path, &stat, target);
            }
        }
        for (nth, file) in side.files.iter().enumerate() {
            let stat = rustix::fs::fstat(file).unwrap_or_else(|e| panic!("{}: handle {nth}: {e}", side.name));
            add(&mut view, format!("\u{ff}handle {nth}").into_bytes(), &stat, Vec::new());
        }
        self.times = times;
        view
    }
}

fn seconds(secs: i64, nanos: impl TryInto<i64>) -> (i64, i64) {
    (secs, nanos.try_into().ok().expect("nanoseconds"))
}

/// Names in a directory, sorted, and what they are said to be.
fn entries(side: &Side, dir: &[u8]) -> Vec<(Vec<u8>, FileType)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let at: &[u8] = if dir.is_empty() { b"." } else { dir };
    let opened = rustix::fs::openat(side.dir(), at, flags, Mode::empty()).unwrap();
    let mut found: Vec<(Vec<u8>, FileType)> = Dir::new(opened)
        .unwrap()
        .map(|entry| entry.unwrap_or_else(|e| panic!("{}: listing {dir:?}: {e}", side.name)))
        .map(|entry| (entry.file_name().to_bytes().to_vec(), entry.file_type()))
        .filter(|(name, _)| name != b"." && name != b"..")
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Fails with what differs.
pub fn assert_alike(sides: [&Side; 2], views: [&View; 2], when: &str) {
    let mut faults = Vec::new();
    let paths = views[0].keys().chain(views[1].keys().filter(|path| !views[0].contains_key(*path)));
    for path in paths {
        let (a, b) = (views[0].get(path), views[1].get(path));
        if a != b {
            let path = String::from_utf8_lossy(path);
            faults.push(format!("{path:?}\n    {}: {a:?}\n    {}: {b:?}", sides[0].name, sides[1].name));
        }
    }
    assert!(faults.is_empty(), "{when}:\n  {}", faults.join("\n  "));
}

/// The extended attributes of something below the root, which is no link.
pub fn xattrs(side: &Side, path: &[u8]) -> Vec<(String, Vec<u8>)> {
    let path = side.full(path);
    let names = xattr::list(&path).unwrap_or_else(|e| panic!("{}: {}: {e}", side.name, path.display()));
    names.into_iter().map(|name| (name.clone(), xattr::get(&path, &name).unwrap())).collect()
}

/// Whether a view's path is a name, not a handle.
pub fn is_name(path: &[u8]) -> bool {
    !path.is_empty() && !path.starts_with("\u{ff}".as_bytes())
}

/// A path as text, for reports.
pub fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(std::ffi::OsStr::from_bytes(path).as_bytes()).into_owned()
}
