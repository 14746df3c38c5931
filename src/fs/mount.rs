//! Mounting by ourselves: mount(2) as root, `fusermount3` otherwise.
//!
//! The mount code of `fuser` is not used: it unmounts by path when its session is dropped, also when somebody else's
//! mount is at that path by then, and its mounts have the type `fuse` instead of `fuse.wamedia`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Kind, Result};

use super::mountinfo::{self, Device, FS_TYPE};
use super::options::MountOptions;
use super::pulse::{Observer, Pulse};
use super::unmount::Unmounter;
use super::{fusermount, mountpoint, syscalls};

pub(super) const FUSE_DEVICE: &str = "/dev/fuse";

/// Read-ahead of a mount at least: with the kernel's 128 KiB, reading in sequence arrives in pieces of that size, and with
/// little more, too few of them are on their way for all threads to have one.
const READ_AHEAD_KIB: u64 = 8192;

/// A mount that is in the tree but not served yet: whoever uses it waits. Dropping it unmounts.
#[derive(Debug)]
pub struct Mounted {
    fd: Option<OwnedFd>,
    unmounter: Unmounter,
    pulse: Arc<Pulse>,
}

impl Mounted {
    /// A handle that ends this mount, for a signal thread.
    #[must_use]
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// Tells whether this mount answers, once it is served.
    #[must_use]
    pub fn observer(&self) -> Observer {
        Observer::new(&self.pulse)
    }

    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.unmounter.path()
    }

    /// Gives up this copy without unmounting: for the parent process after a `fork`, whose child serves the mount.
    pub fn leave_to_child(mut self) {
        self.fd = None;
    }

    pub(super) fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fd.take()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.fd.is_none() {
            return;
        }
        if let Err(error) = self.unmounter.leave_tree() {
            tracing::warn!(%error, "a mount that is not going to be served could not be taken away");
        }
    }
}

/// Mounts at `path` and returns without serving yet; no thread is left running, so a daemon may fork afterwards.
///
/// Once mounted, the path must not be touched by this process before [`super::run`] serves it.
///
/// # Errors
/// [`Kind::NotFound`], [`Kind::NotDirectory`] or [`Kind::Busy`] for the mount point, [`Kind::AccessDenied`] when the
/// user may not mount, [`Kind::Unsupported`] when the kernel has no FUSE, [`Kind::Io`].
pub fn mount(path: &Path, options: &MountOptions) -> Result<Mounted> {
    let place = mountpoint::prepare(path)?;
    let fd = match mount_directly(&place, options) {
        Err(error) if error.kind() == Kind::AccessDenied => fusermount::mount(&place, &options.fusermount_words())?,
        other => other?,
    };
    let device = match device_at(&place) {
        Ok(device) => device,
        Err(error) => {
            // The mount cannot be told from others without its number, but it was made a moment ago.
            let _ = super::unmount::detach(&place);
            return Err(error);
        }
    };
    let pulse = Pulse::new(device, options.threads);
    Ok(Mounted { fd: Some(fd), unmounter: Unmounter::new(place, device), pulse })
}

/// Opens the FUSE device and calls mount(2); [`Kind::AccessDenied`] when only `fusermount3` can help.
fn mount_directly(place: &Path, options: &MountOptions) -> Result<OwnedFd> {
    let owner = syscalls::effective_ids();
    if owner.0 != 0 {
        return Err(Kind::AccessDenied.into());
    }
    let fd = OwnedFd::from(open_device().map_err(no_device)?);
    let words = options.kernel_words(fd.as_raw_fd(), owner);
    match syscalls::mount(&options.source, place, c"fuse.wamedia", options.flags, &words) {
        Ok(()) => Ok(fd),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(Kind::AccessDenied.into()),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Err(no_device(error)),
        Err(error) => Err(Error::io(format_args!("mounting on {}", place.display()), error)),
    }
}

/// Opens `/dev/fuse` for reading and writing, close-on-exec.
fn open_device() -> io::Result<File> {
    fs::OpenOptions::new().read(true).write(true).open(FUSE_DEVICE)
}

/// Whether further descriptors of the FUSE device can be made, one for each thread.
pub(super) fn can_clone_device() -> bool {
    open_device().is_ok()
}

fn no_device(error: io::Error) -> Error {
    let message = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            format!("this kernel has no FUSE, or {FUSE_DEVICE} is not passed into this container (try `modprobe fuse`)")
        }
        Some(libc::EACCES | libc::EPERM) => return Error::from(Kind::AccessDenied).with_source(error),
        _ => return Error::io(format_args!("opening {FUSE_DEVICE}"), error),
    };
    Error::new(Kind::Unsupported, message).with_source(error)
}

/// The number of the mount just made. Read from the mount table: a `stat` would wait for an answer from ourselves.
fn device_at(place: &Path) -> Result<Device> {
    let table = mountinfo::read_table()?;
    mountinfo::top_at(&table, place)
        .filter(|mount| mount.fs_type == FS_TYPE)
        .map(|mount| mount.device)
        .ok_or_else(|| Error::new(Kind::Io, format!("the mount on {} is gone already", place.display())))
}

/// Raises the read-ahead of a served mount, as far as this process may; the kernel lets only root.
pub(super) fn raise_read_ahead(device: Device) {
    let control = PathBuf::from(format!("/sys/class/bdi/{device}/read_ahead_kb"));
    let now = fs::read_to_string(&control).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if now.is_some_and(|kib| kib >= READ_AHEAD_KIB) {
        return;
    }
    if let Err(error) = fs::write(&control, READ_AHEAD_KIB.to_string()) {
        tracing::debug!(%error, "read-ahead stays as it is: large reads will arrive in small pieces");
    }
}
