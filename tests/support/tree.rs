//! A tree as a value: everything that must survive, path by path.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::xattr;

/// One name of a tree, all of it comparable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Length of a file or a symbolic link.
    pub size: u64,
    /// Hard links of a file.
    pub links: u64,
    /// Last change of the content.
    pub mtime: (i64, i64),
    /// SHA-256 of the content, or the target of a symbolic link, in hex.
    pub content: String,
    /// Extended attributes, the volume's own included.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// A whole tree without its root and without `.expired`.
pub type Tree = BTreeMap<PathBuf, Node>;

/// Reads the tree below `root`.
pub fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![PathBuf::new()];
    while let Some(dir) = open.pop() {
        let full = root.join(&dir);
        for entry in fs::read_dir(&full).unwrap_or_else(|e| panic!("{}: {e}", full.display())) {
            let name = entry.unwrap_or_else(|e| panic!("{}: {e}", full.display())).file_name();
            if dir.as_os_str().is_empty() && name == ".expired" {
                continue;
            }
            let path = dir.join(name);
            let node = read_node(&root.join(&path));
            if node.mode & libc::S_IFMT == libc::S_IFDIR {
                open.push(path.clone());
            }
            tree.insert(path, node);
        }
    }
    tree
}

fn read_node(path: &Path) -> Node {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let is_dir = meta.is_dir();
    let content = if meta.is_file() {
        digest(&fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    } else if meta.is_symlink() {
        hex(fs::read_link(path).expect("readlink").as_os_str().as_bytes())
    } else {
        String::new()
    };
    let names = xattr::list(path).unwrap_or_default();
    let xattrs = names.into_iter().map(|name| (name.clone(), xattr::get(path, &name).unwrap_or_default())).collect();
    Node {
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        size: if is_dir { 0 } else { meta.size() },
        links: if is_dir { 0 } else { meta.nlink() },
        mtime: (meta.mtime(), meta.mtime_nsec()),
        content,
        xattrs,
    }
}

/// Fails with the names that differ and how.
pub fn assert_same(found: &Tree, expected: &Tree, when: &str) {
    let mut faults = Vec::new();
    for (path, node) in expected {
        match found.get(path) {
            None => faults.push(format!("{} is gone", path.display())),
            Some(other) if other != node => {
                faults.push(format!("{}\n  found    {other:?}\n  expected {node:?}", path.display()));
            }
            Some(_) => {}
        }
    }
    faults.extend(found.keys().filter(|p| !expected.contains_key(*p)).map(|p| format!("{} is new", p.display())));
    assert!(faults.is_empty(), "{when}, {} of {} names differ:\n{}", faults.len(), expected.len(), faults.join("\n"));
}

/// The SHA-256 of some bytes, hex.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Files with their bytes.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// All regular files below `dir` with their bytes, as a store is compared before and after.
pub fn files(dir: &Path) -> Files {
    let mut found = Files::new();
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name() {
        let entry = entry.unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        if entry.file_type().is_file() {
            let bytes = fs::read(entry.path()).unwrap_or_else(|e| panic!("{}: {e}", entry.path().display()));
            let path = entry.path().strip_prefix(dir).expect("below the directory").to_owned();
            found.insert(path, bytes);
        }
    }
    found
}

/// The names in a directory, `.` and `..` left out, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| lossy(&entry.expect("a directory entry").file_name()))
        .collect();
    names.sort();
    names
}

fn lossy(name: &OsStr) -> String {
    String::from_utf8_lossy(name.as_bytes()).into_owned()
}
