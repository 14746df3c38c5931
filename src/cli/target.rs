//! What a command is about: a store, or where one is mounted, or something below that.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use crate::control::Client;
use crate::error::{Error, Kind, Result};
use crate::fs::MountEntry;

/// The extended attribute of a mount's root that names its store.
pub const STORE_ATTRIBUTE: &str = "user.wamedia.store";
/// The files of which a store has at least one.
const SUPERBLOCKS: [&str; 2] = ["superblock", "superblock.bak"];
/// Bytes a store's path may have.
const MAX_PATH_BYTES: usize = 4096;

/// A volume as the command line named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its store, absolute.
    pub store: PathBuf,
    /// Where it is mounted, when it was named by its mount.
    pub mount: Option<PathBuf>,
    /// What was named below the mount, relative to it.
    pub inside: Option<PathBuf>,
    /// Whether the daemon of that mount is gone. The store may be mounted alive elsewhere, which is another matter.
    pub is_dead: bool,
}

impl Target {
    /// Finds what `path` names.
    ///
    /// # Errors
    /// `NotFound` when it is neither a store nor part of a mounted volume, `AccessDenied` when this user may not see
    /// which, `Io` when the mount table cannot be read.
    pub fn find(path: &Path) -> Result<Target> {
        Target::find_among(path, &crate::fs::find_mounts()?)
    }

    fn find_among(path: &Path, mounts: &[MountEntry]) -> Result<Target> {
        let path = absolute(path)?;
        // Mounts go first: whoever may write into a volume could put a file named `superblock` there.
        if let Some(mount) = innermost(&path, mounts) {
            let (store, is_dead) = store_of(mount)?;
            let below = path.strip_prefix(&mount.path).map(Path::to_path_buf).unwrap_or_default();
            let inside = inside_volume(&mount.root, &below);
            return Ok(Target { store, mount: Some(mount.path.clone()), inside, is_dead });
        }
        if is_store(&path)? {
            return Ok(Target { store: path, mount: None, inside: None, is_dead: false });
        }
        Err(nothing_at(&path))
    }

    /// Connects to the daemon that serves what was named; `None` when there is none.
    ///
    /// # Errors
    /// `Io` for a mount whose daemon is gone, also while another daemon serves the store elsewhere; those of
    /// [`Client::connect`].
    pub fn connect(&self) -> Result<Option<Client>> {
        match &self.mount {
            Some(mount) if self.is_dead => Err(daemon_is_gone(mount)),
            _ => Client::connect(&self.store),
        }
    }

    /// The store, when nothing below the volume's root was named.
    ///
    /// # Errors
    /// `Invalid` when something below the root was named.
    pub fn whole(self) -> Result<Target> {
        match &self.inside {
            None => Ok(self),
            Some(inside) => Err(Error::new(
                Kind::Invalid,
                format!("this command is about a whole volume; give its mount point without `{}`", inside.display()),
            )),
        }
    }
}

/// Whether there is a store at a path.
///
/// # Errors
/// `AccessDenied` when this user may not see.
pub fn is_store(path: &Path) -> Result<bool> {
    for name in SUPERBLOCKS {
        match path.join(name).metadata() {
            Ok(found) if found.is_file() => return Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let message = format!("{}: permission denied; its owner and root may use it", path.display());
                return Err(Error::new(Kind::AccessDenied, message).with_source(error));
            }
            _ => {}
        }
    }
    Ok(false)
}

/// The failure to use a mount whose daemon is gone.
#[must_use]
pub fn daemon_is_gone(mount: &Path) -> Error {
    let mount = mount.display();
    Error::new(Kind::Io, format!("the daemon of {mount} is gone; `wamedia umount {mount}` clears the mount"))
}

/// Whether the daemon of the mount at a path is gone.
#[must_use]
pub fn is_dead(mount: &Path) -> bool {
    rustix::fs::getxattr(mount, STORE_ATTRIBUTE, &mut [0_u8; 0][..]).is_err_and(says_dead)
}

/// Whether this is what the kernel answers for a daemon that is gone.
fn says_dead(error: Errno) -> bool {
    matches!(error, Errno::NOTCONN | Errno::CONNABORTED)
}

/// The failure to find a volume. Only a directory to mount at can have been meant: what makes a store says so itself.
fn nothing_at(path: &Path) -> Error {
    let shown = path.display();
    let message = match path.is_dir() {
        true => {
            format!("{shown} is not mounted, nor is it a store; `wamedia mount STORE {shown}` mounts a volume there")
        }
        false => format!("there is no directory {shown}; name a store, or the place where one is mounted"),
    };
    Error::new(Kind::NotFound, message)
}

/// An absolute path without symbolic links. The last part need not answer, so that a dead mount can be named.
///
/// # Errors
/// `NotFound` or `Io` when the directories on the way cannot be read.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    if let Ok(whole) = std::fs::canonicalize(path) {
        return Ok(whole);
    }
    let failed = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => Kind::NotFound,
            std::io::ErrorKind::PermissionDenied => Kind::AccessDenied,
            _ => Kind::Io,
        };
        Error::new(kind, format!("{}: {error}", path.display())).with_source(error)
    };
    let full = std::path::absolute(path).map_err(failed)?;
    match (full.parent(), full.components().next_back()) {
        (Some(parent), Some(Component::Normal(name))) => {
            std::fs::canonicalize(parent).map(|parent| parent.join(name)).map_err(failed)
        }
        _ => Ok(full),
    }
}

/// The mount that a path lies in; of several at one place the last, which hides the others.
fn innermost<'a>(path: &Path, mounts: &'a [MountEntry]) -> Option<&'a MountEntry> {
    let around = mounts.iter().filter(|mount| path.starts_with(&mount.path));
    around.max_by_key(|mount| (mount.path.as_os_str().len(), mount.id))
}

/// What a path below a mount is in the volume, of which a bind mount shows a part.
fn inside_volume(root: &Path, below: &Path) -> Option<PathBuf> {
    let inside = root.strip_prefix("/").unwrap_or(root).join(below);
    (!inside.as_os_str().is_empty()).then(|| inside.components().collect())
}

/// The store of a mount: its daemon says so, or else the mount's source; and whether the daemon is gone.
fn store_of(mount: &MountEntry) -> Result<(PathBuf, bool)> {
    let mut value = vec![0; MAX_PATH_BYTES];
    let answer = rustix::fs::getxattr(&mount.path, STORE_ATTRIBUTE, value.as_mut_slice());
    if let Ok(length) = answer
        && let Some(path) = value.get(..length)
        // A store with memory laid over it has a path within its daemon only; the source is what it was named by.
        && !path.starts_with(b"/proc/self/")
    {
        return Ok((PathBuf::from(OsStr::from_bytes(path)), false));
    }
    let is_dead = answer.is_err_and(says_dead);
    let source = PathBuf::from(&mount.source);
    if source.is_absolute() {
        return Ok((source, is_dead));
    }
    if is_dead {
        return Err(daemon_is_gone(&mount.path));
    }
    Err(Error::new(
        Kind::NotFound,
        format!("the daemon of {} does not say where its store is; name the store instead", mount.path.display()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Device;

    fn mount(id: u64, path: &Path, source: &str, root: &str) -> MountEntry {
        MountEntry {
            id,
            parent: 1,
            device: Device { major: 0, minor: 9 },
            root: root.into(),
            path: path.into(),
            fs_type: "fuse.wamedia".into(),
            source: source.into(),
        }
    }

    #[test]
    fn a_store_is_known_by_its_superblock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        assert_eq!(Target::find_among(&path, &[]).unwrap_err().kind(), Kind::NotFound);
        for name in SUPERBLOCKS {
            std::fs::write(path.join(name), "").unwrap();
            let found = Target::find_among(&path, &[]).unwrap();
            assert_eq!(found, Target { store: path.clone(), mount: None, inside: None, is_dead: false });
            std::fs::remove_file(path.join(name)).unwrap();
        }
    }

    #[test]
    fn a_path_below_a_mount_names_what_is_inside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        std::fs::create_dir_all(path.join("a/b")).unwrap();
        let mounts =
            [mount(5, &path, "/other", "/"), mount(6, &path, "/store", "/"), mount(9, &path.join("x"), "/no", "/")];
        let found = Target::find_among(&path.join("a/b"), &mounts).unwrap();
        let inside = Some("a/b".into());
        let expected = Target { store: "/store".into(), mount: Some(path.clone()), inside, is_dead: false };
        assert_eq!(found, expected);
        assert_eq!(found.whole().unwrap_err().kind(), Kind::Invalid);
        assert!(Target::find_among(&path, &mounts).unwrap().whole().is_ok());
    }

    #[test]
    fn a_superblock_inside_a_mount_is_only_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        std::fs::write(path.join("superblock"), "").unwrap();
        let found = Target::find_among(&path, &[mount(1, &path, "/store", "/")]).unwrap();
        assert_eq!(found.store, Path::new("/store"));
    }

    #[test]
    fn a_bind_mount_shows_a_part_of_the_volume() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let mounts = [mount(1, &path, "/store", "/shared")];
        assert_eq!(Target::find_among(&path, &mounts).unwrap().inside, Some("shared".into()));
        let below = Target::find_among(&path.join("x.jpg"), &mounts).unwrap();
        assert_eq!(below.inside, Some("shared/x.jpg".into()));
    }

    #[test]
    fn a_mount_whose_store_is_unknown_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let error = Target::find_among(&path, &[mount(1, &path, "wamedia", "/")]).unwrap_err();
        assert!(error.to_string().contains("name the store"), "{error}");
    }

    #[test]
    fn a_directory_that_is_not_mounted_is_told_what_mounts_there() {
        let directory = tempfile::tempdir().unwrap();
        let error = Target::find_among(directory.path(), &[]).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains("wamedia mount STORE") && !error.to_string().contains("init"), "{error}");
        let error = Target::find_among(&directory.path().join("none"), &[]).unwrap_err();
        assert!(error.to_string().contains("there is no directory"), "{error}");
    }

    #[test]
    fn a_mount_whose_daemon_is_gone_is_not_asked_through_another() {
        let (store, mount) = (PathBuf::from("/none"), Some(PathBuf::from("/m")));
        let target = Target { store, mount, inside: None, is_dead: true };
        let error = target.connect().err().unwrap();
        assert!(error.to_string().contains("wamedia umount /m"), "{error}");
    }

    #[test]
    fn links_are_followed_and_the_last_part_may_be_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        std::fs::create_dir(path.join("real")).unwrap();
        std::os::unix::fs::symlink(path.join("real"), path.join("link")).unwrap();
        assert_eq!(absolute(&path.join("link")).unwrap(), path.join("real"));
        assert_eq!(absolute(&path.join("link/none")).unwrap(), path.join("real/none"));
        assert_eq!(absolute(&path.join("none/none")).unwrap_err().kind(), Kind::NotFound);
    }
}
