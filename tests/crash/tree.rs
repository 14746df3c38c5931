//! A file tree in memory, and the changes a disk is asked for: what a recording disk holds, and what a crash leaves of it.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

/// The root directory's number.
pub const ROOT: u64 = 1;
/// Zero blocks of this size are left as holes in an image.
const BLOCK: usize = 4096;

/// A file's bytes or a directory's entries.
#[derive(Clone)]
pub enum Node {
    File(Arc<Vec<u8>>),
    Dir(BTreeMap<String, u64>),
}

/// One change, as the disk was asked for it, or a moment between two.
#[derive(Clone)]
pub enum Op {
    Create {
        parent: u64,
        name: String,
        node: u64,
    },
    Mkdir {
        parent: u64,
        name: String,
        node: u64,
    },
    Write {
        node: u64,
        at: u64,
        bytes: Arc<Vec<u8>>,
    },
    Resize {
        node: u64,
        len: u64,
    },
    Rename {
        from: (u64, String),
        to: (u64, String),
        node: u64,
    },
    Unlink {
        parent: u64,
        name: String,
        node: u64,
    },
    /// Data and length of a file are durable.
    Sync {
        node: u64,
    },
    /// The names in a directory are durable.
    SyncDir {
        node: u64,
    },
    /// A sync failed: what it was to keep is never kept by a later one.
    FailedSync {
        node: u64,
    },
    /// The program under test says how far it is.
    Mark(String),
}

impl Op {
    /// The file that it changes the bytes of.
    pub fn file(&self) -> Option<u64> {
        match self {
            Op::Write { node, .. } | Op::Resize { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// The directories that it changes.
    pub fn dirs(&self) -> Vec<u64> {
        match self {
            Op::Create { parent, .. } | Op::Mkdir { parent, .. } | Op::Unlink { parent, .. } => vec![*parent],
            Op::Rename { from, to, .. } => vec![from.0, to.0],
            _ => Vec::new(),
        }
    }

    /// Whether it changes anything.
    pub fn is_change(&self) -> bool {
        self.file().is_some() || !self.dirs().is_empty()
    }

    /// A few words for the report of a failure.
    pub fn describe(&self) -> String {
        match self {
            Op::Create { name, node, .. } => format!("create {name} #{node}"),
            Op::Mkdir { name, node, .. } => format!("mkdir {name} #{node}"),
            Op::Write { node, at, bytes } => format!("write #{node} {at}+{}", bytes.len()),
            Op::Resize { node, len } => format!("resize #{node} to {len}"),
            Op::Rename { from, to, node } => format!("rename {} to {} #{node}", from.1, to.1),
            Op::Unlink { name, node, .. } => format!("unlink {name} #{node}"),
            Op::Sync { node } => format!("fsync #{node}"),
            Op::SyncDir { node } => format!("fsync of directory #{node}"),
            Op::FailedSync { node } => format!("failed fsync #{node}"),
            Op::Mark(text) => format!("-- {text}"),
        }
    }
}

/// The tree.
#[derive(Clone)]
pub struct Tree {
    pub nodes: BTreeMap<u64, Node>,
}

impl Tree {
    /// An empty root.
    pub fn new() -> Tree {
        Tree { nodes: BTreeMap::from([(ROOT, Node::Dir(BTreeMap::new()))]) }
    }

    pub fn entries(&self, dir: u64) -> Option<&BTreeMap<String, u64>> {
        match self.nodes.get(&dir) {
            Some(Node::Dir(entries)) => Some(entries),
            _ => None,
        }
    }

    pub fn bytes(&self, file: u64) -> Option<&Arc<Vec<u8>>> {
        match self.nodes.get(&file) {
            Some(Node::File(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// The bytes of the file at a path.
    pub fn file_at(&self, path: &str) -> Option<&Arc<Vec<u8>>> {
        self.bytes(path.split('/').try_fold(ROOT, |at, name| self.entries(at)?.get(name).copied())?)
    }

    fn entries_mut(&mut self, dir: u64) -> &mut BTreeMap<String, u64> {
        match self.nodes.entry(dir).or_insert_with(|| Node::Dir(BTreeMap::new())) {
            Node::Dir(entries) => entries,
            Node::File(_) => panic!("#{dir} is no directory"),
        }
    }

    fn bytes_mut(&mut self, file: u64) -> &mut Vec<u8> {
        match self.nodes.entry(file).or_insert_with(|| Node::File(Arc::default())) {
            Node::File(bytes) => Arc::make_mut(bytes),
            Node::Dir(_) => panic!("#{file} is a directory"),
        }
    }

    /// Makes one change, also when others before it are missing.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { parent, name, node } => {
                self.bytes_mut(*node);
                self.entries_mut(*parent).insert(name.clone(), *node);
            }
            Op::Mkdir { parent, name, node } => {
                self.entries_mut(*node);
                self.entries_mut(*parent).insert(name.clone(), *node);
            }
            Op::Write { node, at, bytes } => self.write(*node, *at, bytes),
            Op::Resize { node, len } => self.bytes_mut(*node).resize(usize::try_from(*len).unwrap(), 0),
            Op::Rename { from, to, node } => {
                let left = self.entries_mut(from.0);
                if left.get(&from.1) == Some(node) {
                    left.remove(&from.1);
                }
                self.entries_mut(to.0).insert(to.1.clone(), *node);
            }
            Op::Unlink { parent, name, node } => {
                let entries = self.entries_mut(*parent);
                if entries.get(name) == Some(node) {
                    entries.remove(name);
                }
            }
            Op::Sync { .. } | Op::SyncDir { .. } | Op::FailedSync { .. } | Op::Mark(_) => {}
        }
    }

    pub fn write(&mut self, node: u64, at: u64, bytes: &[u8]) {
        let (file, at) = (self.bytes_mut(node), usize::try_from(at).unwrap());
        if file.len() < at + bytes.len() {
            file.resize(at + bytes.len(), 0);
        }
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A number that tells it from others with other names or bytes.
    pub fn fingerprint(&self) -> u128 {
        let mut hash = Xxh3::new();
        self.hash_dir(ROOT, &mut hash);
        hash.digest128()
    }

    fn hash_dir(&self, dir: u64, hash: &mut Xxh3) {
        for (name, node) in self.entries(dir).into_iter().flatten() {
            hash.update(name.as_bytes());
            match self.nodes.get(node) {
                Some(Node::File(bytes)) => {
                    hash.update(&[0]);
                    hash.update(&(bytes.len() as u64).to_le_bytes());
                    hash.update(bytes);
                }
                Some(Node::Dir(_)) => {
                    hash.update(&[1]);
                    self.hash_dir(*node, hash);
                    hash.update(&[2]);
                }
                None => {}
            }
        }
    }

    /// Makes files of what lies below `dir`.
    pub fn write_out(&self, dir: u64, target: &Path) -> io::Result<()> {
        for (name, node) in self.entries(dir).into_iter().flatten() {
            let path = target.join(name);
            match self.nodes.get(node) {
                Some(Node::File(bytes)) => {
                    let file = File::create(&path)?;
                    file.set_permissions(Permissions::from_mode(0o600))?;
                    file.set_len(bytes.len() as u64)?;
                    for (nth, block) in bytes.chunks(16 * BLOCK).enumerate() {
                        if block.iter().any(|byte| *byte != 0) {
                            file.write_all_at(block, (nth * 16 * BLOCK) as u64)?;
                        }
                    }
                }
                Some(Node::Dir(_)) => {
                    fs::create_dir(&path)?;
                    fs::set_permissions(&path, Permissions::from_mode(0o700))?;
                    self.write_out(*node, &path)?;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Reads what lies below a directory of another file system.
    pub fn read_in(&mut self, dir: u64, source: &Path) -> io::Result<()> {
        for entry in fs::read_dir(source)? {
            let (entry, node) = (entry?, self.nodes.keys().max().map_or(ROOT, |max| max + 1).max(16));
            let name = entry.file_name().into_string().expect("a store has plain names");
            if entry.file_type()?.is_dir() {
                self.apply(&Op::Mkdir { parent: dir, name, node });
                self.read_in(node, &entry.path())?;
            } else {
                self.apply(&Op::Create { parent: dir, name, node });
                self.write(node, 0, &fs::read(entry.path())?);
            }
        }
        Ok(())
    }
}
