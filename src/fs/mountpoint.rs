//! The directory to mount on: found, checked, and cleared of what a crashed daemon left there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::error::{Error, Kind, Result};

use super::mountinfo::{self, FS_TYPE, MountEntry};
use super::unmount::detach;

/// How long whatever is mounted at a path may take to answer for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The absolute path of the directory to mount on, without symbolic links.
///
/// A dead FUSE mount found there is removed first, with a warning in the log; a directory with entries is warned about,
/// since the mount hides them.
///
/// # Errors
/// [`Kind::NotFound`], [`Kind::NotDirectory`], [`Kind::Busy`] when a wamedia mount is there already or whatever is there
/// does not answer.
pub(super) fn prepare(path: &Path) -> Result<PathBuf> {
    clear_dead(path)?;
    let place = resolve(path)?;
    let table = mountinfo::read_table()?;
    if let Some(mount) = mountinfo::top_at(&table, &place).filter(|mount| mount.fs_type == FS_TYPE) {
        let (place, source) = (place.display(), &mount.source);
        return Err(Error::new(
            Kind::Busy,
            format!("{place} is already a wamedia mount (of {source}); unmount it first"),
        ));
    }
    let found = fs::metadata(&place).map_err(|e| unusable(&place, e))?;
    if !found.is_dir() {
        return Err(Error::new(Kind::NotDirectory, format!("mount point {} is not a directory", place.display())));
    }
    if fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_some()) {
        tracing::warn!(mount_point = %place.display(), "the mount point is not empty; the mount hides what is in it");
    }
    Ok(place)
}

/// Removes a FUSE mount whose daemon is gone from `path`; whether there was one. Waits ten seconds at most for a file
/// system mounted there to answer.
///
/// # Errors
/// [`Kind::AccessDenied`] when the mount is not ours to remove, [`Kind::Busy`] when it does not answer, [`Kind::Io`].
pub fn clear_dead(path: &Path) -> Result<bool> {
    if !is_dead(answer_for(path)?.err()) {
        return Ok(false);
    }
    let place = resolve(path)?;
    let table = mountinfo::read_table()?;
    let Some(mount) = mountinfo::top_at(&table, &place).filter(|mount| mount.fs_type.starts_with("fuse")) else {
        return Ok(false);
    };
    tell_cleared(mount);
    detach(&place)?;
    Ok(true)
}

/// Asks whatever is mounted at a path for its size, which the kernel, other than what `stat(2)` tells, never answers from
/// memory. A daemon that hangs does not hang its caller too; no thread is left behind when there was an answer.
fn answer_for(path: &Path) -> Result<io::Result<()>> {
    let (sender, answer) = mpsc::channel();
    let asked = path.to_owned();
    let thread = thread::Builder::new()
        .name("mount-check".to_owned())
        .spawn(move || drop(sender.send(rustix::fs::statfs(asked).map(drop).map_err(io::Error::from))))
        .map_err(|e| Error::io("starting a thread", e))?;
    let Ok(found) = answer.recv_timeout(PATIENCE) else {
        let place = path.display();
        let message = format!("what is mounted on {place} does not answer; `umount -l {place}` takes it away");
        return Err(Error::new(Kind::Busy, message));
    };
    let _ = thread.join();
    Ok(found)
}

/// Waits for an answer of what is mounted at a path, ten seconds at most.
///
/// # Errors
/// [`Kind::Busy`] when there is none; [`Kind::Io`].
pub(super) fn expect_answer(path: &Path) -> Result<()> {
    answer_for(path)?.map_err(|e| Error::io(path.display(), e))
}

fn tell_cleared(mount: &MountEntry) {
    tracing::warn!(
        mount_point = %mount.path.display(), fs_type = %mount.fs_type,
        "removing a mount whose daemon is gone"
    );
}

/// `realpath(3)`; it asks only the directories on the way, so it also answers for a dead mount.
pub(super) fn resolve(path: &Path) -> Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if is_dead(Some(io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(0)))) => beside(path),
        other => other.map_err(|e| unusable(path, e)),
    }
}

/// The path with only its parent resolved, for C libraries that ask the last part too.
pub(super) fn beside(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).map_err(|e| unusable(path, e))?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => Ok(fs::canonicalize(parent).map_err(|e| unusable(path, e))?.join(name)),
        _ => Ok(absolute),
    }
}

/// What the kernel says of a FUSE mount that nobody serves any more.
fn is_dead(error: Option<io::Error>) -> bool {
    matches!(error.and_then(|e| e.raw_os_error()), Some(libc::ENOTCONN | libc::ECONNABORTED))
}

fn unusable(path: &Path, error: io::Error) -> Error {
    let place = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            Error::new(Kind::NotFound, format!("mount point {place} does not exist; make it with `mkdir -p {place}`"))
        }
        io::ErrorKind::NotADirectory => {
            Error::new(Kind::NotDirectory, format!("mount point {place} is not a directory"))
        }
        io::ErrorKind::PermissionDenied => {
            Error::new(Kind::AccessDenied, format!("mount point {place} cannot be reached: {error}"))
        }
        _ => Error::io(format_args!("mount point {place}"), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_mount_point_is_named_with_the_mend() {
        let dir = tempfile::tempdir().unwrap();
        let error = prepare(&dir.path().join("none")).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains("mkdir -p"), "{error}");
    }

    #[test]
    fn a_file_is_no_mount_point() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        assert_eq!(prepare(&file).unwrap_err().kind(), Kind::NotDirectory);
        assert_eq!(prepare(&file.join("below")).unwrap_err().kind(), Kind::NotDirectory);
    }

    #[test]
    fn a_directory_with_entries_is_allowed_and_links_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir_all(real.join("entry")).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        assert_eq!(prepare(&dir.path().join("link")).unwrap(), fs::canonicalize(&real).unwrap());
        assert!(!clear_dead(&real).unwrap());
    }
}
