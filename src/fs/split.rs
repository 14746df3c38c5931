//! Mounting for a process that may not: it is given a FUSE device that was opened for it and serves what others mount with it.

use std::fs::{File, Metadata};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::error::{Error, Kind, Result};

use super::mount::{FUSE_DEVICE, device_at, mount_with, no_device, open_device, raise_read_ahead};
use super::mountinfo::{self, FS_TYPE};
use super::mountpoint;
use super::options::MountOptions;
use super::syscalls;
use super::unmount::take_away_device;

/// Opens the FUSE device for a process that may not.
///
/// # Errors
/// [`Kind::Unsupported`] when the kernel has no FUSE; [`Kind::AccessDenied`]; [`Kind::Io`].
pub fn open_for_another() -> Result<OwnedFd> {
    open_device().map(OwnedFd::from).map_err(no_device)
}

/// Mounts at `path` what process `pid` is to serve with the FUSE device it was given, and waits until that answers, ten
/// seconds at most. Does nothing when the device is that of a mount already, one that the process has taken over.
///
/// # Errors
/// As for mounting; [`Kind::NotFound`] when the process is gone or has no FUSE device.
pub fn mount_for(pid: i32, path: &Path, options: &MountOptions) -> Result<()> {
    let device = device_of(pid)?;
    if !syscalls::is_connected(device.as_fd()).map_err(|e| Error::io("the FUSE device", e))? {
        let place = mountpoint::prepare(path)?;
        mount_with(&device, &place, options)?;
    }
    // What it asks is answered by that process, and this one waits for it.
    mountpoint::expect_answer(path)?;
    raise_read_ahead(device_at(&mountpoint::beside(path)?)?);
    Ok(())
}

/// The FUSE device that a process has been given.
fn device_of(pid: i32) -> Result<OwnedFd> {
    let failed = |error: rustix::io::Errno| Error::io(format_args!("process {pid}"), error.into());
    let process = Pid::from_raw(pid).ok_or_else(|| Error::new(Kind::Invalid, format!("{pid} is no process")))?;
    let process = pidfd_open(process, PidfdFlags::empty()).map_err(failed)?;
    // By its number: the path it was opened by may mean nothing where this process sees it.
    let fuse = std::fs::metadata(FUSE_DEVICE).map_err(no_device)?.rdev();
    let is_fuse = |found: Metadata| found.file_type().is_char_device() && found.rdev() == fuse;
    let numbers =
        std::fs::read_dir(format!("/proc/{pid}/fd")).map_err(|e| Error::io(format_args!("process {pid}"), e))?;
    for entry in numbers.flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(number) = number
            && std::fs::metadata(entry.path()).is_ok_and(is_fuse)
        {
            return pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).map_err(failed);
        }
    }
    Err(Error::new(Kind::NotFound, format!("process {pid} has no FUSE device: was it given one?")))
}

/// Has the kernel write what programs have changed in memory that is mapped, while the mount is still served.
///
/// # Errors
/// [`Kind::Io`].
pub fn sync_mount(path: &Path) -> Result<()> {
    let failed = |error| Error::io(format_args!("syncing {}", path.display()), error);
    rustix::fs::syncfs(File::open(path).map_err(failed)?).map_err(|e| failed(e.into()))
}

/// Takes the wamedia mount at `path` away, in use or not, and cuts its connection: who still holds it gets errors. Does
/// nothing when none is there.
///
/// # Errors
/// [`Kind::AccessDenied`], [`Kind::Io`].
pub fn take_away(path: &Path) -> Result<()> {
    let place = mountpoint::beside(path)?;
    let table = mountinfo::read_table()?;
    let Some(mount) = mountinfo::top_at(&table, &place).filter(|mount| mount.fs_type == FS_TYPE) else {
        return Ok(());
    };
    take_away_device(&place, mount.device)
}

/// Goes over to where the machine's own processes see mounts, from a sandbox that has a tree of mounts of its own.
///
/// To be called while the process has one thread.
///
/// # Errors
/// [`Kind::AccessDenied`] for who is not root; [`Kind::Io`].
pub fn leave_mount_namespace() -> Result<()> {
    let failed = |error| Error::io("entering the mount namespace of the machine", error);
    let (own, host) = ("/proc/self/ns/mnt", "/proc/1/ns/mnt");
    if std::fs::read_link(own).map_err(failed)? == std::fs::read_link(host).map_err(failed)? {
        return Ok(());
    }
    let host = File::open(host).map_err(failed)?;
    let mount = rustix::thread::LinkNameSpaceType::Mount;
    rustix::thread::move_into_link_name_space(host.as_fd(), Some(mount)).map_err(|e| failed(e.into()))
}
