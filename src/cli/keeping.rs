//! What a service manager keeps of a mount for the next process: the connection to the kernel and the note beside it, in its
//! store of descriptors (sd_pass_fds_systemd(3), `FDSTORE=1`).

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use sd_notify::NotifyState;
use tracing::{debug, info, warn};

use crate::error::{Error, Result};
use crate::fs::{Keeper, MountOptions, Note, Outlived};
use crate::ids::VolumeId;

/// Name of the connection of a mount that is served.
const CONNECTION: &str = "wamedia-mount";
/// Name of the note beside it.
const NOTE: &str = "wamedia-note";
/// Name of a FUSE device that was opened for a process that may not, and is still to be mounted.
pub const FRESH: &str = "wamedia-fresh";
/// What keeps the service manager from looking at a descriptor: a device that is not mounted looks like one that has failed.
const WITHOUT_LOOKING: NotifyState<'static> = NotifyState::Custom("FDPOLL=0");

/// How a mount that is kept begins.
pub enum Begin {
    /// It is to be made, and kept with this note.
    Anew(Arc<Note>),
    /// Somebody else makes it, with this device; it is kept too.
    Given(OwnedFd, Arc<Note>),
    /// It has outlived an earlier process.
    Outlived(Outlived),
}

impl Begin {
    /// The note that goes with the mount.
    #[must_use]
    pub fn note(&self) -> Arc<Note> {
        match self {
            Begin::Anew(note) | Begin::Given(_, note) => Arc::clone(note),
            Begin::Outlived(outlived) => outlived.note(),
        }
    }
}

/// Whether there is a service manager that may keep something.
#[must_use]
pub fn has_manager() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty())
}

/// Takes what the service manager has kept or made for this process. To be called once, before anything is opened, for the
/// descriptors are taken by their numbers.
///
/// # Errors
/// `Io` when it says nonsense.
pub fn receive() -> Result<Vec<(String, OwnedFd)>> {
    let given =
        sd_notify::listen_fds_with_names().map_err(|e| Error::io("what the service manager has passed on", e))?;
    #[expect(unsafe_code, reason = "descriptors that were passed on have no owner yet")]
    // SAFETY: the variables of the protocol, which are for this process by its id, say that these are open and ours. They
    // are read once, at the start of the one command that takes them.
    let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
    Ok(given.map(|(number, name)| (name, own(number))).collect())
}

/// Makes of what was kept how the mount begins. What cannot be used is let go, and with it, after a crash, the mount that
/// it belongs to.
///
/// # Errors
/// `Io` when there is no memory for a note.
pub fn begin(kept: Vec<(String, OwnedFd)>, volume: VolumeId, asked: &Path, options: &MountOptions) -> Result<Begin> {
    let (mut connections, mut notes, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
    for (name, descriptor) in kept {
        match name.as_str() {
            CONNECTION => connections.push(descriptor),
            NOTE => notes.push(descriptor),
            FRESH => fresh.push(descriptor),
            _ => debug!(name, "a descriptor that was passed on is not ours"),
        }
    }
    // Each process is given one of its own, or none.
    if !fresh.is_empty() {
        remove(FRESH);
    }
    let was_kept = !connections.is_empty();
    if let (1, 1, Some(connection), Some(note)) = (connections.len(), notes.len(), connections.pop(), notes.pop()) {
        match Outlived::find(connection, note, volume, asked, options) {
            Ok(outlived) => return Ok(Begin::Outlived(outlived)),
            Err(error) => info!(%error, "mounting anew"),
        }
    }
    if was_kept {
        let_go();
    }
    let note = Arc::new(Note::begin(volume)?);
    Ok(match fresh.pop() {
        Some(device) => Begin::Given(device, note),
        None => Begin::Anew(note),
    })
}

/// Gives a mount to the service manager as soon as it can be kept, and has `told` called then.
#[must_use]
pub fn keeper(told: impl FnOnce() + Send + 'static) -> Keeper {
    Box::new(move |connection, note| {
        store(CONNECTION, connection);
        store(NOTE, note);
        told();
    })
}

/// Gives the service manager something to keep under a name.
pub fn store(name: &str, descriptor: BorrowedFd<'_>) {
    let told = [NotifyState::FdStore, NotifyState::FdName(name), WITHOUT_LOOKING];
    if let Err(error) = sd_notify::notify_with_fds(&told, &[descriptor]) {
        warn!(%error, "the service manager was not given {name}");
    }
}

/// Has the service manager keep nothing of the mount any more.
pub fn let_go() {
    remove(CONNECTION);
    remove(NOTE);
}

fn remove(name: &str) {
    if let Err(error) = sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]) {
        debug!(%error, "the service manager still keeps {name}");
    }
}

/// Whether this process was passed a mount that may not answer, so that its mount point must not be looked at.
#[must_use]
pub fn has_connection(kept: &[(String, OwnedFd)]) -> bool {
    kept.iter().any(|(name, _)| name == CONNECTION)
}
