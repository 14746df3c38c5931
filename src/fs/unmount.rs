//! Taking a mount away: by hand, when its daemon is gone, and when the daemon is told to stop.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::sync::{Condvar, Mutex};

use super::mountinfo::{self, Device, FS_TYPE};
use super::mountpoint::resolve;
use super::{fusermount, syscalls};

const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// How long a session may take to end once its connection has been aborted.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);

/// Unmounts the wamedia mount at `path`; `lazy` takes it out of the tree at once and lets those who still use it
/// finish. Its daemon ends by itself when the last user is gone.
///
/// # Errors
/// [`Kind::Invalid`] when no wamedia mount is there, [`Kind::Busy`] when it is in use, [`Kind::AccessDenied`].
pub fn unmount(path: &Path, lazy: bool) -> Result<()> {
    let place = resolve(path)?;
    let table = mountinfo::read_table()?;
    if mountinfo::top_at(&table, &place).is_none_or(|mount| mount.fs_type != FS_TYPE) {
        return Err(Error::new(Kind::Invalid, format!("{} is not a wamedia mount", place.display())));
    }
    take_away(&place, lazy)
}

/// Takes whatever is mounted at `place` out of the tree, in use or not.
pub(super) fn detach(place: &Path) -> Result<()> {
    take_away(place, true)
}

/// Takes a mount of this number away from `place` if it is there, in use or not, and cuts its connection.
pub(super) fn take_away_device(place: &Path, device: Device) -> Result<()> {
    let table = mountinfo::read_table()?;
    let mount = mountinfo::top_at(&table, place);
    if mount.is_none_or(|mount| mount.device != device || mount.fs_type != FS_TYPE) {
        return Ok(());
    }
    let abort = open_control(device, "abort", fs::File::options().write(true));
    detach(place)?;
    let cut = abort.and_then(|mut abort| abort.write_all(b"1").map_err(|e| Error::io("cutting a connection", e)));
    if let Err(error) = cut {
        tracing::debug!(%error, "who still holds the mount waits until nobody keeps its connection");
    }
    Ok(())
}

/// umount2(2), or fusermount3 when that is not permitted.
fn take_away(place: &Path, lazy: bool) -> Result<()> {
    let Err(error) = syscalls::unmount(place, lazy) else {
        return Ok(());
    };
    let shown = place.display();
    match error.raw_os_error() {
        Some(libc::EPERM) => fusermount::unmount(place, lazy),
        Some(libc::EBUSY) => Err(Error::new(
            Kind::Busy,
            format!(
                "{shown} is in use (`fuser -vm {shown}` shows by whom); unmount lazily to take it away nevertheless"
            ),
        )),
        Some(libc::EINVAL) => Err(Error::new(Kind::Invalid, format!("{shown} is not a mount point"))),
        _ => Err(Error::io(format_args!("unmounting {shown}"), error)),
    }
}

/// How [`Unmounter::stop`] came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The session has ended; nobody used the mount any more.
    Clean,
    /// The session has ended because its connection was cut: some program still had a file open.
    Aborted,
    /// Some program still holds the mount and the connection could not be cut. It is cut when this process ends.
    StillHeld,
}

/// Ends a mount of this process from any thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Unmounter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    device: Device,
    /// Cuts the connection. Opened while the mount is ours for certain: its number is given to another mount as soon as
    /// ours is gone, but a file that was opened for ours never acts on another.
    abort: Option<fs::File>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    asked_to_stop: bool,
    ended: bool,
}

impl Unmounter {
    pub(super) fn new(path: PathBuf, device: Device) -> Unmounter {
        let abort = open_control(device, "abort", fs::File::options().write(true))
            .inspect_err(|error| tracing::debug!(%error, "this mount cannot be cut off when it is held at the end"))
            .ok();
        let shared = Shared { path, device, abort, state: Mutex::default(), changed: Condvar::new() };
        Unmounter { shared: Arc::new(shared) }
    }

    /// Where the mount is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Its device number.
    #[must_use]
    pub fn device(&self) -> Device {
        self.shared.device
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.shared.state.lock().ended
    }

    /// Whether [`Unmounter::stop`] was called.
    #[must_use]
    pub fn asked_to_stop(&self) -> bool {
        self.shared.state.lock().asked_to_stop
    }

    /// Ends the mount: unmounts it, lazily when it is in use; gives those who hold it (a container may, although the
    /// host has unmounted) `grace` to finish; then cuts the connection, so that they see errors. Blocks for `grace`
    /// plus five seconds at most. Nothing is unmounted by path once the session has ended, since by then the path may
    /// belong to another mount.
    pub fn stop(&self, grace: Duration) -> Stopped {
        self.shared.state.lock().asked_to_stop = true;
        if self.ended() {
            return Stopped::Clean;
        }
        if let Err(error) = self.leave_tree() {
            tracing::warn!(%error, "the mount could not be taken out of the tree");
        }
        if self.wait_ended(grace) {
            return Stopped::Clean;
        }
        let Some(mut abort) = self.shared.abort.as_ref() else { return Stopped::StillHeld };
        if let Err(error) = abort.write_all(b"1") {
            tracing::warn!(%error, "the connection of the mount could not be cut");
            return Stopped::StillHeld;
        }
        if self.wait_ended(ABORT_PATIENCE) { Stopped::Aborted } else { Stopped::StillHeld }
    }

    /// Unmounts, lazily when the mount is in use; does nothing when our mount is not the topmost one at its path.
    pub(super) fn leave_tree(&self) -> Result<()> {
        let table = mountinfo::read_table()?;
        let ours = mountinfo::top_at(&table, &self.shared.path)
            .is_some_and(|mount| mount.device == self.shared.device && mount.fs_type == FS_TYPE);
        if !ours {
            return Ok(());
        }
        match take_away(&self.shared.path, false) {
            Err(error) if error.kind() == Kind::Busy => detach(&self.shared.path),
            other => other,
        }
    }

    /// Says that the session has ended.
    pub(super) fn mark_ended(&self) {
        self.shared.state.lock().ended = true;
        self.shared.changed.notify_all();
    }

    /// Waits at most `patience` for the session to end; whether it has.
    #[must_use]
    pub fn wait_ended(&self, patience: Duration) -> bool {
        let mut state = self.shared.state.lock();
        self.shared.changed.wait_while_for(&mut state, |state| !state.ended, patience);
        state.ended
    }
}

/// Opens a file by which the kernel lets the connection to the server of a FUSE file system be controlled, mounting the
/// control file system first when root may and it is missing.
pub(super) fn open_control(device: Device, name: &str, how: &fs::OpenOptions) -> Result<fs::File> {
    let control = Path::new(CONNECTIONS).join(device.minor.to_string()).join(name);
    let open = || how.open(&control);
    let opened = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_empty(Path::new(CONNECTIONS)) => {
            syscalls::mount("none", Path::new(CONNECTIONS), c"fusectl", 0, "")
                .map_err(|e| Error::io(format_args!("mounting {CONNECTIONS}"), e))?;
            open()
        }
        other => other,
    };
    opened.map_err(|e| Error::io(format_args!("opening {}", control.display()), e))
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_directory_is_not_unmounted() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(unmount(dir.path(), true).unwrap_err().kind(), Kind::Invalid);
        assert_eq!(unmount(&dir.path().join("none"), false).unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn stop_of_an_ended_session_unmounts_nothing() {
        let unmounter = Unmounter::new(PathBuf::from("/"), Device { major: 0, minor: u32::MAX });
        unmounter.mark_ended();
        assert_eq!(unmounter.stop(Duration::ZERO), Stopped::Clean);
        assert!(unmounter.asked_to_stop());
    }

    #[test]
    fn another_mount_at_our_path_is_left_alone() {
        let unmounter = Unmounter::new(PathBuf::from("/"), Device { major: 0, minor: u32::MAX });
        unmounter.leave_tree().unwrap();
        assert!(mountinfo::read_table().unwrap().iter().any(|mount| mount.path == Path::new("/")));
        assert!(!unmounter.wait_ended(Duration::from_millis(1)));
    }
}
