//! `wamedia umount`.

use std::path::Path;

use super::Outcome;
use crate::cli::args::Umount;
use crate::cli::exit::Exit;
use crate::cli::target::{self, Target};
use crate::control::{Client, Request};
use crate::error::{Error, Kind, Result};
use crate::fs;

/// Unmounts a volume and waits for its daemon to end; clears a mount whose daemon is gone.
///
/// # Errors
/// `Busy` when files are open and it is not to be lazy, `NotFound` when nothing is mounted there.
pub fn run(args: &Umount) -> Outcome {
    let path = target::absolute(&args.target)?;
    match find(&path)? {
        Found::Daemon(mut client) => {
            client.ask(&Request::Stop { lazy: args.lazy }, &mut |_| {})?;
            client.wait_for_end();
        }
        Found::Mount => fs::unmount(&path, args.lazy)?,
    }
    Ok(Exit::Success)
}

enum Found {
    /// The daemon that serves it.
    Daemon(Box<Client>),
    /// A mount whose daemon is gone, or does not say where its store is.
    Mount,
}

fn find(path: &Path) -> Result<Found> {
    let is_mount_point = fs::find_mounts()?.iter().any(|mount| mount.path == path);
    let target = match Target::find(path).and_then(Target::whole) {
        Ok(target) => target,
        Err(error) if is_mount_point => {
            tracing::debug!(%error, "unmounting by path");
            return Ok(Found::Mount);
        }
        Err(error) => return Err(error),
    };
    match Client::connect(&target.store)? {
        Some(client) => Ok(Found::Daemon(Box::new(client))),
        None if is_mount_point => Ok(Found::Mount),
        None => Err(Error::new(Kind::NotFound, format!("{} is not mounted", path.display()))),
    }
}
