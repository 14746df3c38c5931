//! Mounting by ourselves: mount(2) as root, `fusermount3` otherwise.
//!
//! The mount code of `fuser` is not used: it unmounts by path when its session is dropped, also when somebody else's
//! mount is at that path by then, and its mounts have the type `fuse` instead of `fuse.wamedia`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::error::{Error, Kind, Result};

use super::mountinfo::{self, Device, FS_TYPE};
use super::note::Note;
use super::options::MountOptions;
use super::pulse::{Gate, Observer, Pulse};
use super::takeover::Taken;
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
    keeping: Option<Keeping>,
    taken: Option<Taken>,
}

/// Given the connection to the kernel and the note beside it, for whoever keeps them when this process ends.
pub type Keeper = Box<dyn FnOnce(BorrowedFd<'_>, BorrowedFd<'_>) + Send>;

/// How a mount is to outlive this process.
pub(super) struct Keeping {
    pub note: Arc<Note>,
    pub asked: PathBuf,
    pub is_given: bool,
    pub keeper: Keeper,
}

impl std::fmt::Debug for Keeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeping").finish_non_exhaustive()
    }
}

impl Mounted {
    /// A mount that an earlier process has made and served.
    pub(super) fn taken_over(
        connection: OwnedFd,
        place: PathBuf,
        device: Device,
        threads: usize,
        taken: Taken,
    ) -> Mounted {
        let (unmounter, pulse) = (Unmounter::new(place, device), Pulse::new(device, threads));
        Mounted { fd: Some(connection), unmounter, pulse, keeping: None, taken: Some(taken) }
    }

    /// Has the mount outlive this process, where the kernel can hand its requests to the next one: as soon as that is
    /// agreed upon, `keeper` is given what is to be kept. Otherwise the log tells that it does not. `asked` is where the mount
    /// was asked to be, and `is_given` whether somebody else has made it.
    pub fn keep(&mut self, note: Arc<Note>, asked: PathBuf, is_given: bool, keeper: Keeper) {
        self.keeping = Some(Keeping { note, asked, is_given, keeper });
    }

    /// Ends the service of this mount by this process.
    #[must_use]
    pub fn gate(&self) -> Gate {
        Gate::new(&self.pulse)
    }

    pub(super) fn take_keeping(&mut self) -> Option<Keeping> {
        self.keeping.take()
    }

    pub(super) fn take_taken(&mut self) -> Option<Taken> {
        self.taken.take()
    }

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
        // What has outlived one process outlives this one too, if it has not begun to serve it.
        if self.fd.is_none() || self.taken.is_some() {
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
    let unmounter = Unmounter::new(place, device);
    Ok(Mounted { fd: Some(fd), unmounter, pulse, keeping: None, taken: None })
}

/// A mount that somebody else makes with `device`, a descriptor of the FUSE device: waits for it, at most for `patience`.
/// Nothing is asked of the mount.
///
/// # Errors
/// [`Kind::Io`] when it does not come, or is not where it should be; whoever made it takes it away.
pub fn await_mount(device: OwnedFd, path: &Path, options: &MountOptions, patience: Duration) -> Result<Mounted> {
    let place = mountpoint::beside(path)?;
    let mut left = patience;
    while !syscalls::is_connected(device.as_fd()).map_err(|e| Error::io("the FUSE device", e))? {
        let Some(rest) = left.checked_sub(PAUSE) else {
            let message = format!("nobody has mounted on {} what this process is to serve", place.display());
            return Err(Error::new(Kind::Io, message));
        };
        left = rest;
        thread::sleep(PAUSE);
    }
    let number = device_at(&place)?;
    let pulse = Pulse::new(number, options.threads);
    let unmounter = Unmounter::new(place, number);
    Ok(Mounted { fd: Some(device), unmounter, pulse, keeping: None, taken: None })
}

/// How long between two looks whether somebody has mounted.
const PAUSE: Duration = Duration::from_millis(20);

/// Opens the FUSE device and calls mount(2); [`Kind::AccessDenied`] when only `fusermount3` can help.
fn mount_directly(place: &Path, options: &MountOptions) -> Result<OwnedFd> {
    if syscalls::effective_ids().0 != 0 {
        return Err(Kind::AccessDenied.into());
    }
    let fd = OwnedFd::from(open_device().map_err(no_device)?);
    mount_with(&fd, place, options).map(|()| fd)
}

/// Calls mount(2) with an open FUSE device; [`Kind::AccessDenied`] when that is not permitted.
pub(super) fn mount_with(fd: &OwnedFd, place: &Path, options: &MountOptions) -> Result<()> {
    let words = options.kernel_words(fd.as_raw_fd(), syscalls::effective_ids());
    match syscalls::mount(&options.source, place, c"fuse.wamedia", options.flags, &words) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(Kind::AccessDenied.into()),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Err(no_device(error)),
        Err(error) => Err(Error::io(format_args!("mounting on {}", place.display()), error)),
    }
}

/// Opens `/dev/fuse` for reading and writing, close-on-exec.
pub(super) fn open_device() -> io::Result<File> {
    fs::OpenOptions::new().read(true).write(true).open(FUSE_DEVICE)
}

/// Whether further descriptors of the FUSE device can be made, one for each thread.
pub(super) fn can_clone_device() -> bool {
    open_device().is_ok()
}

pub(super) fn no_device(error: io::Error) -> Error {
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
pub(super) fn device_at(place: &Path) -> Result<Device> {
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
