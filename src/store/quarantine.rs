//! The place in the store where a repair keeps what it takes away: nothing is deleted by it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::own_file;

/// The directory of all of them, below the store.
pub const QUARANTINE_DIR: &str = "quarantine";
/// How many of one name there may be.
const MANY: u32 = 10_000;

/// One repair's place, made when the first file comes. Directories get mode 0700, files 0600.
pub struct Quarantine {
    store: PathBuf,
    name: String,
    place: Option<PathBuf>,
}

impl Quarantine {
    /// The place `quarantine/<name>` of the store, or one with a number behind when there is one of this name.
    #[must_use]
    pub fn new(store: &Path, name: &str) -> Quarantine {
        Quarantine { store: store.to_owned(), name: name.to_owned(), place: None }
    }

    /// Where it is, below the store; none while nothing is in it.
    #[must_use]
    pub fn place(&self) -> Option<&Path> {
        self.place.as_deref()
    }

    /// Has a second name of a file of the store in here, or a copy where the file system has no second names. Durable on
    /// return; the file stays where it is, but what is no regular file is moved. Gives where it is kept, below the store;
    /// `None` when there is nothing of this name.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub fn keep(&mut self, file: &Path) -> Result<Option<PathBuf>> {
        let from = self.store.join(file);
        match fs::symlink_metadata(&from) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(named(&from)(e)),
            Ok(found) if !found.is_file() => return self.take(file).map(Some),
            Ok(_) => {}
        }
        let kept = self.make_room(file)?;
        let to = self.store.join(&kept);
        if fs::hard_link(&from, &to).is_err() {
            copy(&from, &to).map_err(named(&to))?;
        }
        restrict(&to).map_err(named(&to))?;
        self.sync_above(&kept)?;
        Ok(Some(kept))
    }

    /// Moves a file or directory of the store in here; durable on return. Gives where it is now, below the store.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub fn take(&mut self, file: &Path) -> Result<PathBuf> {
        let from = self.store.join(file);
        let kept = self.make_room(file)?;
        restrict(&from).map_err(named(&from))?;
        fs::rename(&from, self.store.join(&kept)).map_err(named(&from))?;
        self.sync_above(&kept)?;
        sync_dir(from.parent().unwrap_or(&self.store))?;
        Ok(kept)
    }

    /// Makes the directories for a file; gives its path below the store.
    fn make_room(&mut self, file: &Path) -> Result<PathBuf> {
        let place = match &self.place {
            Some(place) => place.clone(),
            None => self.make_place()?,
        };
        let kept = place.join(file);
        if let Some(dir) = kept.parent() {
            let dir = self.store.join(dir);
            DirBuilder::new().mode(0o700).recursive(true).create(&dir).map_err(named(&dir))?;
        }
        Ok(kept)
    }

    fn make_place(&mut self) -> Result<PathBuf> {
        let top = self.store.join(QUARANTINE_DIR);
        match DirBuilder::new().mode(0o700).create(&top) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(named(&top)(e)),
            _ => {}
        }
        if !fs::symlink_metadata(&top).map_err(named(&top))?.is_dir() {
            return Err(Error::new(Kind::Io, format!("{} is no directory; move it away", top.display())));
        }
        for nth in 1..MANY {
            let name = if nth == 1 { self.name.clone() } else { format!("{}-{nth}", self.name) };
            match DirBuilder::new().mode(0o700).create(top.join(&name)) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                made => {
                    made.map_err(named(&top))?;
                    let place = Path::new(QUARANTINE_DIR).join(name);
                    self.place = Some(place.clone());
                    return Ok(place);
                }
            }
        }
        Err(Error::io(top.display(), ErrorKind::AlreadyExists.into()))
    }

    /// Makes the name of a file in here durable, with those of all directories above it.
    fn sync_above(&self, kept: &Path) -> Result<()> {
        kept.ancestors().skip(1).try_for_each(|dir| sync_dir(&self.store.join(dir)))
    }
}

/// Copies a regular file; durable on return but for the name.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = own_file::open(from, File::options().read(true))?;
    let mut to = own_file::open(to, File::options().write(true).create_new(true))?;
    io::copy(&mut from, &mut to)?;
    to.sync_all()
}

/// Takes the rights of others from a file or directory. A link is not followed, and needs none taken.
fn restrict(path: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Ok(());
    }
    // By its descriptor: meanwhile something else may have been put in its place.
    let opened = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let Ok(file) = opened else { return Ok(()) };
    let mode = if file.metadata()?.is_dir() { 0o700 } else { 0o600 };
    file.set_permissions(Permissions::from_mode(mode))
}

fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(named(dir))
}

fn named(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::io(path.display(), e)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_kept_or_taken_lies_under_its_own_path_and_nothing_else_is_made() {
        let store = tempfile::tempdir().unwrap();
        let root = store.path();
        fs::create_dir_all(root.join("blobs/00")).unwrap();
        fs::write(root.join("blobs/00/one"), "1").unwrap();
        fs::write(root.join("two"), "2").unwrap();
        let mut quarantine = Quarantine::new(root, "now");
        assert!(quarantine.keep(Path::new("blobs/00/none")).unwrap().is_none());
        assert!(quarantine.place().is_none() && !root.join(QUARANTINE_DIR).exists());

        let kept = quarantine.keep(Path::new("blobs/00/one")).unwrap().unwrap();
        assert_eq!(kept, Path::new("quarantine/now/blobs/00/one"));
        assert!(root.join("blobs/00/one").exists(), "what is kept stays");
        let taken = quarantine.take(Path::new("two")).unwrap();
        assert!(!root.join("two").exists(), "what is taken goes");
        assert_eq!(fs::read(root.join(&taken)).unwrap(), b"2");
        assert_eq!((mode(&root.join(kept)), mode(&root.join("quarantine/now/blobs"))), (0o600, 0o700));

        let mut later = Quarantine::new(root, "now");
        assert_eq!(later.take(&taken).unwrap(), Path::new("quarantine/now-2/quarantine/now/two"));
    }

    #[test]
    fn nothing_outside_of_the_store_is_touched() {
        let (store, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (root, other) = (store.path(), outside.path().join("other"));
        fs::write(&other, "other").unwrap();
        fs::set_permissions(&other, Permissions::from_mode(0o644)).unwrap();
        for name in ["kept", "taken"] {
            std::os::unix::fs::symlink(&other, root.join(name)).unwrap();
        }
        fs::create_dir(root.join("dir")).unwrap();
        let mut quarantine = Quarantine::new(root, "now");
        for file in ["kept", "dir"] {
            let kept = quarantine.keep(Path::new(file)).unwrap().unwrap();
            assert!(fs::symlink_metadata(root.join(file)).is_err(), "{file}: what is no regular file is moved");
            assert!(fs::symlink_metadata(root.join(kept)).is_ok());
        }
        quarantine.take(Path::new("taken")).unwrap();
        assert_eq!((mode(&other), fs::read(&other).unwrap()), (0o644, b"other".to_vec()));

        fs::rename(root.join(QUARANTINE_DIR), root.join("away")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join(QUARANTINE_DIR)).unwrap();
        fs::write(root.join("file"), "file").unwrap();
        assert!(Quarantine::new(root, "now").take(Path::new("file")).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }
}
