//! What lies in a store directory beside the blobs, and how a file of it is replaced.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::apart::path_beside;
use super::directory::DIR_SHIFT;
use crate::error::{Error, Kind, Result};
use crate::format::superblock::{SUPERBLOCK_BYTES, Superblock, pick};
use crate::ids::BlobId;
use crate::own_file;

/// The directory of the index, below the store.
pub const INDEX_DIR: &str = "index";
/// The largest small file that is read whole, in bytes.
const MAX_SMALL_FILE: u64 = 1 << 20;

/// The paths of a store.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The store at `root`, which need not be there.
    #[must_use]
    pub fn new(root: &Path) -> Layout {
        Layout { root: root.to_owned() }
    }

    /// The store directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of the blobs.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The path of a blob's file, from the store directory.
    #[must_use]
    pub fn blob(id: BlobId) -> PathBuf {
        PathBuf::from(format!("blobs/{:013x}/{id}", id.0 >> DIR_SHIFT))
    }

    /// The path of the contents file beside a blob's, from the store directory.
    #[must_use]
    pub fn contents(id: BlobId) -> PathBuf {
        path_beside(&Layout::blob(id))
    }

    /// The directory of the index.
    #[must_use]
    pub fn index(&self) -> PathBuf {
        self.root.join(INDEX_DIR)
    }

    /// Whether a volume was made here.
    #[must_use]
    pub fn is_volume(&self) -> bool {
        self.root.join("superblock").exists() || self.root.join("superblock.bak").exists()
    }

    /// Makes the directory for a new volume; it must be absent or empty.
    ///
    /// # Errors
    /// `Exists` when a volume or anything else is there, `Io`.
    pub fn make(&self) -> Result<()> {
        if self.is_volume() {
            return Err(Error::new(Kind::Exists, format!("{} holds a volume already", self.root.display())));
        }
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root);
        made.map_err(|e| Error::io(self.root.display(), e))?;
        let mut entries = std::fs::read_dir(&self.root).map_err(|e| Error::io(self.root.display(), e))?;
        if entries.next().is_some() {
            return Err(Error::new(
                Kind::Exists,
                format!("{} is not empty; give a new or an empty directory for the store", self.root.display()),
            ));
        }
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&self.root, std::fs::Permissions::from_mode(0o700))
            .map_err(|e| Error::io(self.root.display(), e))
    }

    /// Reads a small file of the store; `None` when it is not there. What is larger than such a file gets, or no regular
    /// file, reads as empty, which none of them is.
    ///
    /// # Errors
    /// `AccessDenied`, `Io`.
    pub fn read_small(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.root.join(name);
        match own_file::read(&path, MAX_SMALL_FILE) {
            Ok(read) => Ok(Some(read.unwrap_or_default())),
            Err(e) if e.kind() == ErrorKind::InvalidData => Ok(Some(Vec::new())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                Err(Error::new(Kind::AccessDenied, format!("{}: {e}", path.display())).with_source(e))
            }
            Err(e) => Err(Error::io(path.display(), e)),
        }
    }

    /// Replaces a small file of the store: after a crash it holds the old or the new bytes, and the new ones once
    /// this has returned.
    ///
    /// # Errors
    /// `NoSpace`, `Io`; the old bytes are still there.
    pub fn write_small(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.root.join(name);
        let young = self.root.join(format!("{name}.new"));
        let named = |e| Error::io(path.display(), e);
        // A young one is nobody's: what a crash left, or what somebody else has put in its place.
        match std::fs::remove_file(&young) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(named(e)),
            _ => {}
        }
        let mut file = own_file::open(&young, File::options().write(true).create_new(true)).map_err(named)?;
        file.write_all(bytes).map_err(named)?;
        file.sync_all().map_err(named)?;
        std::fs::rename(&young, &path).map_err(named)?;
        File::open(&self.root).and_then(|dir| dir.sync_all()).map_err(named)
    }
}

/// Reads the superblock of the store at `root`: the newer of its two copies that is whole.
///
/// # Errors
/// `NotFound` when there is no volume, `Damaged` when no copy is whole, `Version`, `Io`.
pub fn read_superblock(root: &Path) -> Result<Superblock> {
    let layout = Layout::new(root);
    let first = layout.read_small("superblock")?;
    let second = layout.read_small("superblock.bak")?;
    if first.is_none() && second.is_none() {
        return Err(Error::new(
            Kind::NotFound,
            format!("{} holds no volume; make one with `wamedia init {}`", root.display(), root.display()),
        ));
    }
    let (superblock, notes) = pick([first.as_deref(), second.as_deref()])?;
    for note in notes {
        tracing::warn!(store = %root.display(), "{note}");
    }
    Ok(superblock)
}

/// Writes both copies of the superblock, one after the other: at each moment one of them is whole.
///
/// # Errors
/// `NoSpace`, `Io`; at least one copy, old or new, is whole then.
pub fn write_superblock(root: &Path, superblock: &Superblock) -> Result<()> {
    let bytes: [u8; SUPERBLOCK_BYTES] = superblock.encode();
    let layout = Layout::new(root);
    layout.write_small("superblock.bak", &bytes)?;
    layout.write_small("superblock", &bytes)
}

/// Writes both copies again when one of them is missing, damaged or older; says whether that was needed.
/// Only for a superblock that a key has proved authentic.
///
/// # Errors
/// As [`write_superblock`].
pub fn mend_superblock(root: &Path, superblock: &Superblock) -> Result<bool> {
    let layout = Layout::new(root);
    let whole = superblock.encode();
    for name in ["superblock", "superblock.bak"] {
        if layout.read_small(name)?.as_deref() != Some(&whole) {
            write_superblock(root, superblock)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// The superblock, and the copies of it that do not say the same.
///
/// # Errors
/// As [`read_superblock`].
pub fn superblock_copies(root: &Path) -> Result<(Superblock, Vec<&'static str>)> {
    let superblock = read_superblock(root)?;
    let (layout, whole) = (Layout::new(root), superblock.encode());
    let mut bad = Vec::new();
    for name in ["superblock", "superblock.bak"] {
        if layout.read_small(name)?.as_deref() != Some(&whole) {
            bad.push(name);
        }
    }
    Ok((superblock, bad))
}
