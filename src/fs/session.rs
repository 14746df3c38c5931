//! Serving a mount from the first request to the last.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use fuser::{Config, Session, SessionACL};

use crate::error::{Error, Kind, Result};
use crate::volume::Volume;

use super::adapter::WamediaFs;
use super::mount::{Mounted, can_clone_device, mount, raise_read_ahead};
use super::options::{Access, MountOptions};
use super::unmount::Unmounter;
use super::watcher::KernelWatcher;

/// Why a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The mount was taken away from outside: `umount`, `fusermount3 -u`, an aborted connection.
    Unmounted,
    /// [`Unmounter::stop`] was called.
    Stopped,
}

/// Mounts at `path`, calls `ready` once requests are answered, serves until the mount is gone, and says why it went.
/// The volume stays open: the caller shuts it down.
///
/// # Errors
/// As for [`mount`] and [`run`].
pub fn serve(
    volume: &Arc<Volume>,
    path: &Path,
    options: &MountOptions,
    ready: impl FnOnce(&Unmounter),
) -> Result<Ended> {
    run(volume, mount(path, options)?, options, ready)
}

/// Serves a mount until it is gone. Blocks; the requests are served by `options.threads` threads of its own.
///
/// `ready` is called when the kernel has been answered for the first time, so that whoever uses the mount from then on
/// is served. It must not touch the mount itself: an automount may be waiting for this very process.
///
/// # Errors
/// [`Kind::Io`] when the kernel cannot be talked to; the mount is gone then too.
pub fn run(
    volume: &Arc<Volume>,
    mut mounted: Mounted,
    options: &MountOptions,
    ready: impl FnOnce(&Unmounter),
) -> Result<Ended> {
    let unmounter = mounted.unmounter();
    let Some(fd) = mounted.take_fd() else {
        return Err(Error::new(Kind::Invalid, "this mount is served elsewhere"));
    };
    let fs = WamediaFs::new(volume.clone(), options.expired_listed, mounted.pulse());
    let outcome = serve_fd(fs, fd, &unmounter, options, ready);
    unmounter.mark_ended();
    outcome?;
    Ok(if unmounter.asked_to_stop() { Ended::Stopped } else { Ended::Unmounted })
}

fn serve_fd(
    fs: WamediaFs,
    fd: OwnedFd,
    unmounter: &Unmounter,
    options: &MountOptions,
    ready: impl FnOnce(&Unmounter),
) -> Result<()> {
    let volume = Arc::clone(&fs.volume);
    let (chunks, references) = (Arc::clone(&fs.chunks), Arc::clone(&fs.references));
    let Some(session) = shake_hands(fs, fd, unmounter, options)? else {
        return Ok(());
    };
    if let Err(error) = chunks.start(&volume, session.notifier()) {
        tracing::warn!(%error, "small reads are slower without it");
    }
    drop(chunks);
    let watcher = match KernelWatcher::start(session.notifier(), references) {
        Ok(watcher) => watcher,
        Err(error) => {
            let _ = unmounter.leave_tree();
            return Err(error);
        }
    };
    volume.set_watcher(watcher.clone());
    raise_read_ahead(unmounter.device());
    tracing::info!(mount_point = %unmounter.path().display(), threads = options.threads, "mounted");
    ready(unmounter);
    let outcome = session.run();
    watcher.stop();
    match outcome {
        // A request that was on its way when the mount was taken away: the kernel says so for it, and otherwise ENODEV.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => Ok(()),
        outcome => outcome.map_err(|e| Error::io("serving the mount", e)),
    }
}

/// Answers the first request of the kernel, INIT; `None` when the mount was gone before.
fn shake_hands(
    fs: WamediaFs,
    fd: OwnedFd,
    unmounter: &Unmounter,
    options: &MountOptions,
) -> Result<Option<Session<WamediaFs>>> {
    // Keeps the connection, and with it the device number, alive until the mount has been taken away again.
    let spare = fd.try_clone().map_err(|e| Error::io("keeping the FUSE device", e))?;
    match Session::from_fd(fs, fd, acl(options.access), config(options)) {
        Ok(session) => Ok(Some(session)),
        Err(error) if error.kind() == std::io::ErrorKind::NotConnected => Ok(None),
        Err(error) => {
            if let Err(error) = unmounter.leave_tree() {
                tracing::warn!(%error, "the mount could not be taken away");
            }
            drop(spare);
            Err(Error::io("starting to serve the mount", error))
        }
    }
}

fn config(options: &MountOptions) -> Config {
    let mut config = Config::default();
    config.n_threads = Some(options.threads.max(1));
    config.clone_fd = options.threads > 1 && can_clone_device();
    config
}

/// The kernel itself keeps strangers out of a private mount; only `allow_root`, which it does not know, is left to do.
fn acl(access: Access) -> SessionACL {
    match access {
        Access::OwnerAndRoot => SessionACL::RootAndOwner,
        Access::Owner | Access::Everybody => SessionACL::All,
    }
}
