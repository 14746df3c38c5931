//! Where the socket lies, and how to reach it when its path is longer than a socket address can hold.
//!
//! It lies beside the store, not in it: a full disk must not keep a volume from being served, and a program that reads
//! every file of a store must meet none that is no file. Its name follows from the store's device and inode number, so
//! that each path to the store leads to it.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use crate::error::{Error, Kind, Result};

/// The socket's name in the store, where there is no directory for what lives as long as the machine is up.
const NAME_IN_STORE: &str = "control.sock";
/// Names another directory for the sockets; empty: each lies in its store.
const DIRECTORY_VARIABLE: &str = "WAMEDIA_RUNTIME_DIR";
/// Bytes that fit `sun_path` with its closing NUL.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// The places where the socket of a store may lie, the one to be preferred first.
///
/// `chosen` is the operator's directory; `users` are those whose directories are looked at.
fn places(store: &Path, chosen: Option<&OsStr>, users: &[u32]) -> std::io::Result<Vec<PathBuf>> {
    let meta = std::fs::metadata(store)?;
    let name = format!("{:x}-{:x}.sock", meta.dev(), meta.ino());
    let mut directories: Vec<PathBuf> = match chosen {
        Some(chosen) => Some(chosen).filter(|chosen| !chosen.is_empty()).map(PathBuf::from).into_iter().collect(),
        None => users.iter().map(|user| directory_of(*user)).collect(),
    };
    directories.dedup();
    let mut places: Vec<PathBuf> = directories.into_iter().map(|directory| directory.join(&name)).collect();
    places.push(store.join(NAME_IN_STORE));
    Ok(places)
}

/// Where a user's daemons put their sockets.
fn directory_of(user: u32) -> PathBuf {
    match user {
        0 => PathBuf::from("/run/wamedia"),
        user => PathBuf::from(format!("/run/user/{user}/wamedia")),
    }
}

fn chosen() -> Option<OsString> {
    std::env::var_os(DIRECTORY_VARIABLE)
}

/// All places where a daemon that serves the store could have put its socket.
fn places_to_look(store: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Error::new(Kind::AccessDenied, format!("{}: {error}", store.display())).with_source(error)
        }
        _ => Error::io(store.display(), error),
    };
    let owner = std::fs::metadata(store).map_err(failed)?.uid();
    places(store, chosen().as_deref(), &[0, owner, rustix::process::geteuid().as_raw()]).map_err(failed)
}

/// Calls `use_path` with a path of the socket that fits a socket address. A long one goes through the descriptor of
/// its directory, which is open as long as the call lasts.
fn with_short_path<T>(path: &Path, use_path: impl Fn(&Path) -> std::io::Result<T>) -> std::io::Result<T> {
    let (true, Some(parent), Some(name)) =
        (path.as_os_str().len() > MAX_SOCKET_PATH_BYTES, path.parent(), path.file_name())
    else {
        return use_path(path);
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, parent, flags, Mode::empty())?;
    use_path(&PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name))
}

/// Connects to the daemon that serves a store; `None` when there is none (no socket, or one left by a dead daemon).
///
/// # Errors
/// `Io` when the socket is there and cannot be used, above all for want of permission.
pub fn connect(store: &Path) -> Result<Option<UnixStream>> {
    use std::io::ErrorKind;
    for path in places_to_look(store)? {
        match with_short_path(&path, |path| UnixStream::connect(path)) {
            Ok(stream) => return Ok(Some(stream)),
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {}
                ErrorKind::PermissionDenied if path.parent().is_some_and(|parent| parent.metadata().is_err()) => {
                    // Another user's directory: nothing of ours can be in it.
                }
                ErrorKind::PermissionDenied => {
                    let message = format!("{} may be used only by its owner and by root", path.display());
                    return Err(Error::new(Kind::AccessDenied, message).with_source(error));
                }
                _ => return Err(Error::io(format!("cannot connect to {}", path.display()), error)),
            },
        }
    }
    Ok(None)
}

/// Makes the socket of a store, mode 0600, in the place of one that a dead daemon left.
///
/// To be called only by the process that holds the store's lock: no other can be serving it.
///
/// # Errors
/// `Io` when it cannot be made anywhere; it names the last place that was tried.
pub fn bind(store: &Path) -> Result<UnixListener> {
    remove(store)?;
    let user = rustix::process::geteuid().as_raw();
    let places = places(store, chosen().as_deref(), &[user]).map_err(|error| Error::io(store.display(), error))?;
    let mut last = Error::io(store.display(), std::io::ErrorKind::NotFound.into());
    for path in places {
        match bind_at(&path) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Error::io(format!("cannot make {}", path.display()), error),
        }
    }
    Err(last)
}

fn bind_at(path: &Path) -> std::io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        match std::fs::DirBuilder::new().mode(0o755).create(parent) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    let listener = with_short_path(path, |short| UnixListener::bind(short))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Removes the socket of a store, wherever it is.
///
/// # Errors
/// `Io` when it cannot be removed.
pub fn remove(store: &Path) -> Result<()> {
    use std::io::ErrorKind;
    for path in places_to_look(store)? {
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            // Another user's directory: nothing of ours can be in it.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && !path.exists() => {}
            // In a store that is only read, where nobody listens any more.
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {}
            Err(error) => return Err(Error::io(format!("cannot remove {}", path.display()), error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_lies_where_the_user_or_the_operator_wants_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path();
        let in_store = store.join(NAME_IN_STORE);
        let of_root = places(store, None, &[0]).unwrap();
        assert_eq!(of_root[0].parent(), Some(Path::new("/run/wamedia")));
        assert_eq!(of_root.last(), Some(&in_store));
        let of_user = places(store, None, &[0, 1000, 1000]).unwrap();
        assert_eq!(of_user[1].parent(), Some(Path::new("/run/user/1000/wamedia")));
        assert_eq!(of_user.len(), 3);
        let chosen = places(store, Some(OsStr::new("/some/where")), &[0]).unwrap();
        assert_eq!(chosen[0].parent(), Some(Path::new("/some/where")));
        assert_eq!(places(store, Some(OsStr::new("")), &[0]).unwrap(), [in_store]);
    }

    #[test]
    fn each_path_to_a_store_leads_to_the_same_socket() {
        let directory = tempfile::tempdir().unwrap();
        let (store, link) = (directory.path().join("store"), directory.path().join("link"));
        std::fs::create_dir(&store).unwrap();
        std::os::unix::fs::symlink(&store, &link).unwrap();
        assert_eq!(places(&store, None, &[0]).unwrap()[0], places(&link, None, &[0]).unwrap()[0]);
    }
}
