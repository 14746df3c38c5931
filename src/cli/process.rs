//! The process itself: its limits, and how it goes into the background.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, WaitOptions, getrlimit, setrlimit};
use tracing::warn;

use crate::error::{Error, Kind, Result};

/// Keeps secrets out of core dumps and away from debuggers, and new files away from others. To be called first.
///
/// # Errors
/// `Io` when the kernel refuses to keep core dumps off.
pub fn harden() -> Result<()> {
    crate::crypto::forbid_core_dumps()?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|e| Error::io("cannot switch core dumps off", e.into()))?;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    Ok(())
}

/// Has the allocator give back what nobody uses, by a thread of its own. Without it memory that was used once stays with the
/// process until it is used again. To be called after a fork.
pub fn give_memory_back() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        warn!(%error, "memory that was freed is given back late");
    }
}

/// Raises the number of files that may be open as far as the user may.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit of open files stays as it is");
    }
}

/// Tells the command that is waiting that the daemon is ready.
pub struct Ready(Option<File>);

impl Ready {
    /// For a daemon that nobody waits for.
    #[must_use]
    pub fn foreground() -> Ready {
        Ready(None)
    }

    /// Whether this is a daemon in the background.
    #[must_use]
    pub fn is_background(&self) -> bool {
        self.0.is_some()
    }

    /// Leaves the terminal's session. To be called after the mount: an automount waits for the process group that
    /// systemd knows.
    pub fn leave_session(&self) {
        if self.is_background()
            && let Err(error) = rustix::process::setsid()
        {
            warn!(%error, "the daemon stays in the session of the terminal");
        }
    }

    /// Lets go of the caller's stdio and tells that all is well. A stderr that is a file is kept.
    pub fn tell(mut self) {
        let Some(mut pipe) = self.0.take() else { return };
        if let Err(error) = let_go_of_stdio() {
            warn!(%error, "the daemon keeps the caller's stdio");
        }
        if let Err(error) = pipe.write_all(b"\n") {
            warn!(%error, "the command that started the daemon is gone");
        }
    }
}

/// Whether stderr is a regular file: one that a caller redirected, and that keeps nobody waiting.
#[must_use]
pub fn stderr_is_file() -> bool {
    rustix::fs::fstat(std::io::stderr().as_fd())
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file())
}

fn let_go_of_stdio() -> Result<()> {
    let failed = |error: std::io::Error| Error::io("cannot let go of stdio", error);
    let nothing: OwnedFd = File::options().read(true).write(true).open("/dev/null").map_err(failed)?.into();
    rustix::stdio::dup2_stdin(&nothing).map_err(|e| failed(e.into()))?;
    rustix::stdio::dup2_stdout(&nothing).map_err(|e| failed(e.into()))?;
    if !stderr_is_file() {
        rustix::stdio::dup2_stderr(&nothing).map_err(|e| failed(e.into()))?;
    }
    Ok(())
}

/// Which side of the fork this is.
pub enum Side {
    /// The command: it waits for the daemon and ends with this exit code.
    Caller(u8),
    /// The daemon to be.
    Daemon(Ready),
}

/// Forks. The caller's side waits until the daemon is ready, or has ended before that, and takes over its exit code.
///
/// To be called while the process has one thread.
///
/// # Errors
/// `Io` when there can be no further process.
pub fn fork_daemon() -> Result<Side> {
    let failed = |error: std::io::Error| Error::io("cannot start the daemon", error);
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    match fork().map_err(failed)? {
        None => {
            drop(reader);
            Ok(Side::Daemon(Ready(Some(File::from(OwnedFd::from(writer))))))
        }
        Some(child) => {
            drop(writer);
            wait_for(reader, child).map(Side::Caller)
        }
    }
}

fn wait_for(mut reader: impl Read, child: rustix::process::Pid) -> Result<u8> {
    let mut told = [0; 1];
    if matches!(reader.read(&mut told), Ok(1)) {
        return Ok(0);
    }
    let status = loop {
        match rustix::process::waitpid(Some(child), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other,
        }
    };
    let status = status.map_err(|e| Error::io("cannot learn how the daemon ended", e.into()))?;
    let code = status.and_then(|(_, status)| status.exit_status()).and_then(|code| u8::try_from(code).ok());
    match code {
        Some(code @ 1..) => Ok(code),
        _ => Err(Error::new(Kind::Io, "the daemon ended before the mount answered")),
    }
}

/// The child's process id, or none in the child.
fn fork() -> std::io::Result<Option<rustix::process::Pid>> {
    #[expect(unsafe_code, reason = "fork(2) has no safe wrapper")]
    // SAFETY: the process has one thread (see `fork_daemon`), so no lock can be held by a thread that the child lacks.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(std::io::Error::last_os_error()),
        pid => Ok(rustix::process::Pid::from_raw(pid)),
    }
}
