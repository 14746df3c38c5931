//! A small volume whose store is taken apart: as files in memory, put back as they were or with something else in them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use wamedia::crypto::{KeySource, make_key_file};
use wamedia::error::{Kind, Result};
use wamedia::ids::Ino;
use wamedia::volume::{
    CheckReport, FileKind, InitOptions, NewNode, OpenMode, OpenOptions, Policy, RenameMode, SetAttr, Volume, XattrMode,
};

/// Bytes from the start of one full data frame to the next.
pub const STRIDE: usize = 65_600;
/// Bytes of a blob's header, where its first frame starts.
pub const HEADER: usize = 80;

pub const RW: OpenMode = OpenMode { read: true, write: true, append: false, truncate: false };
pub const NODE: NewNode = NewNode { mode: 0o644, uid: 1, gid: 2 };

/// All files below a directory, by their paths from there.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A store, and what opens it; gone when dropped.
pub struct Bench {
    dir: TempDir,
    is_encrypted: bool,
}

impl Bench {
    /// An empty volume; in memory where the machine has a file system for that.
    pub fn new(is_encrypted: bool) -> Bench {
        let shm = Path::new("/dev/shm");
        let dir = tempfile::tempdir_in(shm).or_else(|_| tempfile::tempdir()).unwrap();
        make_key_file(&dir.path().join("key")).unwrap();
        let bench = Bench { dir, is_encrypted };
        let policy = Policy { max_bytes: Some(1 << 30), floor_bytes: 0, ..Policy::default() };
        let options = InitOptions { encrypted: is_encrypted, policy, root_uid: 0, root_gid: 0, root_mode: 0o755 };
        Volume::init(&bench.store(), bench.sources().first(), &options).unwrap();
        bench
    }

    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub fn sources(&self) -> Vec<KeySource> {
        let key = || KeySource::key_file(&self.dir.path().join("key")).unwrap();
        if self.is_encrypted { vec![key()] } else { Vec::new() }
    }

    pub fn try_open(&self) -> Result<Arc<Volume>> {
        Volume::open(&self.store(), &self.sources(), OpenOptions::default())
    }

    pub fn open(&self) -> Arc<Volume> {
        self.try_open().unwrap()
    }

    /// Opens it, does something, and shuts it down.
    pub fn with<T>(&self, work: impl FnOnce(&Volume) -> T) -> T {
        let volume = self.open();
        let outcome = work(&volume);
        volume.shutdown().unwrap();
        outcome
    }

    /// Where an inode's first blob lies.
    pub fn blob(&self, ino: Ino) -> PathBuf {
        self.store().join(blob_path(ino))
    }

    /// All files of the store, as they are now.
    pub fn take(&self) -> Files {
        let mut files = Files::new();
        read_below(&self.store(), Path::new(""), &mut files);
        files
    }

    /// Makes the store consist of these files.
    pub fn put_back(&self, files: &Files) {
        let store = self.store();
        let _gone = fs::remove_dir_all(&store);
        for (path, bytes) in files {
            let path = store.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    /// Has the store say that machine and mount are the same as when it was last open.
    pub fn note_session(&self) {
        let store = self.store();
        for (note, of) in [("session", "blobs"), ("index/session", "index")] {
            if let (true, Some(session)) = (store.join(of).is_dir(), wamedia::index::session(&store.join(of))) {
                fs::write(store.join(note), session).unwrap();
            }
        }
    }

    /// A copy of the store and its key, as a process that was killed now would have left it.
    pub fn image(&self) -> Bench {
        let dir = tempfile::tempdir_in(self.dir.path().parent().unwrap()).unwrap();
        fs::copy(self.dir.path().join("key"), dir.path().join("key")).unwrap();
        let image = Bench { dir, is_encrypted: self.is_encrypted };
        image.put_back(&self.take());
        image
    }
}

/// The path of an inode's first blob from the store.
pub fn blob_path(ino: Ino) -> PathBuf {
    PathBuf::from(format!("blobs/{:013x}/{:016x}", ino.0 >> 12, ino.0))
}

pub fn read_below(top: &Path, below: &Path, files: &mut Files) {
    for entry in fs::read_dir(top.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => read_below(top, &path, files),
            kind if kind.is_file() => drop(files.insert(path, fs::read(entry.path()).unwrap())),
            _ => {}
        }
    }
}

/// Bytes that repeat nowhere.
pub fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 32) as u8
        })
        .collect()
}

pub fn put(volume: &Volume, parent: Ino, name: &str, content: &[u8]) -> Ino {
    let (attr, file) = volume.create(parent, name.as_bytes(), &NODE, RW).unwrap();
    volume.write(&file, 0, content, false).unwrap();
    volume.close(file);
    attr.ino
}

/// Writes a medium's content anew.
pub fn overwrite(volume: &Volume, ino: Ino, content: &[u8]) {
    let file = volume.open_file(ino, OpenMode { truncate: true, ..RW }).unwrap();
    volume.write(&file, 0, content, false).unwrap();
    volume.close(file);
}

/// A medium's bytes, or what kept them from being read.
pub fn get(volume: &Volume, ino: Ino) -> Result<Vec<u8>> {
    let file = volume.open_medium(ino)?;
    let size = volume.getattr(ino)?.size as usize;
    let mut out = vec![0; size + 10];
    let got = volume.read(&file, 0, &mut out);
    volume.close(file);
    out.truncate(got?);
    assert_eq!(out.len(), size, "a read of the whole medium is as long as it");
    Ok(out)
}

pub fn check(volume: &Volume) -> CheckReport {
    volume.check(true, &mut |_, _| {}).unwrap()
}

pub fn expect_clean(volume: &Volume) {
    assert_eq!(check(volume).findings, []);
}

/// Expects that a medium cannot be read since it is damaged.
pub fn expect_damaged(volume: &Volume, ino: Ino, what: &str) {
    match get(volume, ino) {
        Ok(_) => panic!("{what}: read as if nothing were"),
        Err(e) => assert_eq!(e.kind(), Kind::Damaged, "{what}: {e}"),
    }
}

/// What a volume shows of one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub kind: FileKind,
    pub mode: u32,
    pub uid: u32,
    pub mtime: i64,
    pub size: u64,
    pub label: Option<Vec<u8>>,
    pub target: Option<Vec<u8>>,
}

/// All that a volume shows but the contents, by path.
pub fn walk(volume: &Volume) -> Result<BTreeMap<String, (Ino, Shown)>> {
    let mut seen = BTreeMap::new();
    let mut dirs = vec![(Ino::ROOT, String::new())];
    while let Some((dir, above)) = dirs.pop() {
        for entry in volume.readdir(dir, 0, 1000, false)? {
            if entry.cookie <= 16 {
                continue;
            }
            let path = format!("{above}/{}", String::from_utf8_lossy(&entry.name));
            assert!(seen.len() < 1000, "a tree without end at {path}");
            let attr = volume.getattr(entry.ino)?;
            let is_link = attr.kind == FileKind::Symlink;
            let shown = Shown {
                kind: attr.kind,
                mode: attr.mode,
                uid: attr.uid,
                mtime: attr.mtime.secs,
                size: attr.size,
                label: volume.get_xattr(entry.ino, b"user.label").ok(),
                target: if is_link { Some(volume.readlink(entry.ino)?) } else { None },
            };
            if attr.kind == FileKind::Directory {
                dirs.push((entry.ino, path.clone()));
            }
            seen.insert(path, (entry.ino, shown));
        }
    }
    Ok(seen)
}

/// A tree with one of each: media of no, of one short and of several chunks, a hole, two names, a directory, a link.
pub fn plant(volume: &Volume) -> BTreeMap<String, Vec<u8>> {
    let mut contents = BTreeMap::new();
    let mut keep = |path: &str, content: Vec<u8>| drop(contents.insert(path.to_owned(), content));
    let dir = volume.mkdir(Ino::ROOT, b"album", &NODE).unwrap().ino;
    put(volume, Ino::ROOT, "empty", b"");
    keep("/empty", Vec::new());
    let note = put(volume, Ino::ROOT, "note", &bytes(40, 1));
    volume.set_xattr(note, b"user.label", b"kept", XattrMode::Any).unwrap();
    volume.link(note, dir, b"second").unwrap();
    keep("/note", bytes(40, 1));
    keep("/album/second", bytes(40, 1));
    put(volume, dir, "463eb7ec-ff4e-4d9b-b110-1879cbd411b2", &bytes(300, 2));
    keep("/album/463eb7ec-ff4e-4d9b-b110-1879cbd411b2", bytes(300, 2));
    let hole = put(volume, dir, "hole", &bytes(10, 3));
    volume.setattr(hole, &SetAttr { size: Some(150_000), mode: Some(0o600), ..SetAttr::default() }).unwrap();
    let mut content = bytes(10, 3);
    content.resize(150_000, 0);
    keep("/album/hole", content);
    volume.symlink(Ino::ROOT, b"link", b"album/hole", &NODE).unwrap();
    put(volume, Ino::ROOT, "gone", GONE);
    volume.sync_all().unwrap();
    contents
}

/// A medium that is removed before the damage.
pub const GONE: &[u8] = b"what was removed and must not be back";
/// What media held before [`disturb`] changed them.
pub const EARLIER: [(usize, u64); 2] = [(40, 1), (10, 3)];

/// Changes after [`plant`], a part of which the index has not got when it returns: overwritten, renamed, made, removed.
pub fn disturb(volume: &Volume, contents: &mut BTreeMap<String, Vec<u8>>) {
    let find = |path: &str| volume.resolve(path.as_bytes()).unwrap();
    overwrite(volume, find("note"), &bytes(50, 5));
    contents.insert("/note".to_owned(), bytes(50, 5));
    contents.insert("/album/second".to_owned(), bytes(50, 5));
    put(volume, Ino::ROOT, "early", &bytes(20, 6));
    contents.insert("/early".to_owned(), bytes(20, 6));
    volume.sync_all().unwrap();
    // The volume's own thread writes a batch into the index every two seconds.
    std::thread::sleep(std::time::Duration::from_millis(2600));
    volume.rename(Ino::ROOT, b"empty", find("album"), b"moved", RenameMode::Replace).unwrap();
    let empty = contents.remove("/empty").unwrap();
    contents.insert("/album/moved".to_owned(), empty);
    put(volume, find("album"), "late", &bytes(25, 7));
    contents.insert("/album/late".to_owned(), bytes(25, 7));
    volume.sync_all().unwrap();
    volume.unlink(Ino::ROOT, b"gone").unwrap();
}
