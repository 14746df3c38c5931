//! Serving a mount from the first request to the last.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use fuser::{Config, Session, SessionACL};

use crate::error::{Error, Kind, Result};
use crate::volume::Volume;

use super::adapter::{MAX_REQUEST, WamediaFs};
use super::agreement::Agreement;
use super::inherited::Inherited;
use super::mount::{Keeping, Mounted, can_clone_device, mount, raise_read_ahead};
use super::note::Agreed;
use super::options::{Access, MountOptions};
use super::takeover::{self, Taken, Teller};
use super::unmount::Unmounter;
use super::watcher::KernelWatcher;

/// How long the first answer waits for the kernel to forget what was lost.
const SETTLING_PATIENCE: Duration = Duration::from_millis(200);

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
    let (keeping, taken) = (mounted.take_keeping(), mounted.take_taken());
    let inherited = Arc::new(match &taken {
        Some(taken) => Inherited::taken_over(Arc::clone(&taken.note), taken.former.is_in_doubt, volume),
        None => Inherited::first(keeping.as_ref().map(|keeping| Arc::clone(&keeping.note))),
    });
    let fs = WamediaFs::new(volume.clone(), options, mounted.pulse(), Arc::clone(&inherited));
    let begin = Begin { fd, keeping, taken, inherited };
    let outcome = serve_fd(fs, begin, &unmounter, options, ready);
    unmounter.mark_ended();
    outcome?;
    Ok(if unmounter.asked_to_stop() { Ended::Stopped } else { Ended::Unmounted })
}

/// What a session begins with.
struct Begin {
    fd: OwnedFd,
    keeping: Option<Keeping>,
    taken: Option<Taken>,
    inherited: Arc<Inherited>,
}

fn serve_fd(
    fs: WamediaFs,
    begin: Begin,
    unmounter: &Unmounter,
    options: &MountOptions,
    ready: impl FnOnce(&Unmounter),
) -> Result<()> {
    let volume = Arc::clone(&fs.volume);
    let (chunks, references) = (Arc::clone(&fs.chunks), Arc::clone(&fs.references));
    let Begin { fd, keeping, taken, inherited } = begin;
    let is_kept = keeping.is_some() || taken.is_some();
    let session = match &taken {
        Some(taken) => {
            fs.reopen(&taken.former.writers);
            take_over(fs, fd, taken, options)?
        }
        None => match shake_hands(fs, fd, unmounter, options, keeping)? {
            Some(session) => session,
            None => return Ok(()),
        },
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
    if taken.is_some() {
        begin_again(&session, &inherited, &volume)?;
    }
    tracing::info!(
        mount_point = %unmounter.path().display(), threads = options.threads, is_kept, is_taken_over = taken.is_some(),
        "mounted"
    );
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
    keeping: Option<Keeping>,
) -> Result<Option<Session<WamediaFs>>> {
    // Keeps the connection, and with it the device number, alive until the mount has been taken away again.
    let spare = fd.try_clone().map_err(|e| Error::io("keeping the FUSE device", e))?;
    let agreement = Arc::clone(&fs.agreement);
    match Session::from_fd(fs, fd, acl(options.access), config(options, keeping.is_some())) {
        Ok(session) => {
            if let Some(keeping) = keeping {
                keep(&session, keeping, agreement.get(), unmounter, options);
            }
            Ok(Some(session))
        }
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

/// Gives the connection to whoever keeps it, if the kernel can go on with another process.
fn keep(
    session: &Session<WamediaFs>,
    keeping: Keeping,
    agreement: Option<&Agreement>,
    unmounter: &Unmounter,
    options: &MountOptions,
) {
    let Some(agreement) = agreement.filter(|agreement| agreement.resends()) else {
        tracing::warn!("this kernel (before Linux 6.9) resends no requests: the mount ends with this process");
        return;
    };
    let device = unmounter.device();
    let agreed = Agreed {
        minor: agreement.minor,
        flags: agreement.flags.bits(),
        max_write: MAX_REQUEST,
        device: (device.major, device.minor),
        words: options.agreed_words(),
        place: unmounter.path().to_owned(),
        asked: keeping.asked,
        is_given: keeping.is_given,
    };
    match keeping.note.agree(agreed) {
        Ok(()) => (keeping.keeper)(session.as_fd(), keeping.note.as_fd()),
        Err(error) => tracing::warn!(%error, "the mount ends with this process"),
    }
}

/// Goes on where an earlier process has ended.
fn take_over(fs: WamediaFs, fd: OwnedFd, taken: &Taken, options: &MountOptions) -> Result<Session<WamediaFs>> {
    takeover::resume(fs, &fd, acl(options.access), config(options, true), &taken.agreed)
        .map_err(|e| Error::io("taking the mount over", e))
}

/// Asks the kernel for what the process before had taken up, and settles with it what has changed.
fn begin_again(session: &Session<WamediaFs>, inherited: &Arc<Inherited>, volume: &Arc<Volume>) -> Result<()> {
    let failed = |error| Error::io("taking the mount over", error);
    let teller = Teller::new(session.as_fd()).map_err(failed)?;
    teller.resend().map_err(failed)?;
    let Some(note) = inherited.note() else { return Ok(()) };
    let (inherited, volume, nameless) = (Arc::clone(inherited), Arc::clone(volume), inherited.nameless());
    let (done, is_done) = bounded(1);
    let settling = move || {
        takeover::settle(&teller, &note, done, &nameless, |ino| {
            inherited.forgotten(ino);
            volume.forget(ino);
        });
    };
    let thread = thread::Builder::new().name("fuse-takeover".to_owned()).spawn(settling);
    thread.map_err(|e| Error::io("starting a thread", e))?;
    // Nearly always it has nothing to wait for, and then nobody sees from the kernel's memory what was lost.
    let _late = is_done.recv_timeout(SETTLING_PATIENCE);
    Ok(())
}

/// A connection that is kept has one descriptor: the kernel fails what was taken up by another one when that is closed.
fn config(options: &MountOptions, is_kept: bool) -> Config {
    let mut config = Config::default();
    config.n_threads = Some(options.threads.max(1));
    config.clone_fd = !is_kept && options.threads > 1 && can_clone_device();
    config
}

/// The kernel itself keeps strangers out of a private mount; only `allow_root`, which it does not know, is left to do.
fn acl(access: Access) -> SessionACL {
    match access {
        Access::OwnerAndRoot => SessionACL::RootAndOwner,
        Access::Owner | Access::Everybody => SessionACL::All,
    }
}
