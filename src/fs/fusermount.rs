//! `fusermount3`: how a user who is not root mounts and unmounts.
//!
//! It mounts and hands the descriptor of `/dev/fuse` back over a socket whose number it finds in `_FUSE_COMMFD`; we
//! give it that socket as its standard input, so that no other descriptor has to be inherited.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::error::{Error, Kind, Result};

use super::syscalls;

/// Where the program may be: found by `PATH`, or where distributions put it when `PATH` is bare.
const PROGRAMS: &[&str] = &["fusermount3", "/usr/bin/fusermount3", "/bin/fusermount3", "fusermount"];

/// Mounts at `path` with these options and returns the descriptor to serve it with.
pub(super) fn mount(path: &Path, words: &str) -> Result<OwnedFd> {
    for program in PROGRAMS {
        let (ours, theirs) = UnixStream::pair().map_err(|e| Error::io("making a socket for fusermount3", e))?;
        let child = Command::new(program)
            .args(["-o", words, "--"])
            .arg(path)
            .env("_FUSE_COMMFD", "0")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let child = match child {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(|e| Error::io(format_args!("starting {program}"), e))?,
        };
        let received = syscalls::receive_fd(&ours);
        let output = child.wait_with_output().map_err(|e| Error::io(format_args!("waiting for {program}"), e))?;
        return match received {
            Ok(Some(fd)) => Ok(fd),
            _ => Err(refused(program, "mounting", path, &output)),
        };
    }
    Err(missing("mounting", path))
}

/// Unmounts `path`; `lazy` takes it out of the tree although it is in use.
pub(super) fn unmount(path: &Path, lazy: bool) -> Result<()> {
    for program in PROGRAMS {
        let mut command = Command::new(program);
        command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(path).stdin(Stdio::null());
        match command.output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(format_args!("starting {program}"), error)),
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => return Err(refused(program, "unmounting", path, &output)),
        }
    }
    Err(missing("unmounting", path))
}

/// What the program said, sorted by what can be done about it.
fn refused(program: &str, doing: &str, path: &Path, output: &Output) -> Error {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let kind = if said.contains("busy") {
        Kind::Busy
    } else if said.contains("ermission denied")
        || said.contains("only allowed if")
        || said.contains("not permitted")
        || said.contains("no write access")
    {
        Kind::AccessDenied
    } else {
        Kind::Io
    };
    let hint = if said.contains("user_allow_other") { " (or leave out `allow_other`)" } else { "" };
    Error::new(kind, format!("{doing} {}: {program} refuses: {said}{hint}", path.display()))
}

fn missing(doing: &str, path: &Path) -> Error {
    let place = path.display();
    Error::new(Kind::AccessDenied, format!("{doing} {place} needs root, or the program fusermount3 (package `fuse3`)"))
}
