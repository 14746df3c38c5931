//! `wamedia umount`.

use std::path::{Path, PathBuf};

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
        Found::Mounts(places) => {
            for place in places {
                // Whoever still holds a dead mount gets nothing but errors from it.
                fs::unmount(&place, args.lazy || target::is_dead(&place))?;
            }
        }
    }
    Ok(Exit::Success)
}

enum Found {
    /// The daemon that serves it.
    Daemon(Box<Client>),
    /// Mounts whose daemon is gone, or does not say where its store is.
    Mounts(Vec<PathBuf>),
}

fn find(path: &Path) -> Result<Found> {
    let mounts = fs::find_mounts()?;
    let is_mount_point = mounts.iter().any(|mount| mount.path == path);
    let this_one = || Found::Mounts(vec![path.to_owned()]);
    let target = match Target::find(path).and_then(Target::whole) {
        Ok(target) => target,
        Err(error) if is_mount_point => {
            tracing::debug!(%error, "unmounting by path");
            return Ok(this_one());
        }
        Err(error) => return Err(error),
    };
    if target.is_dead && is_mount_point {
        return Ok(this_one());
    }
    match target.connect()? {
        Some(client) => Ok(Found::Daemon(Box::new(client))),
        None if is_mount_point => Ok(this_one()),
        None => {
            let of_store = mounts.into_iter().filter(|mount| Path::new(&mount.source) == target.store);
            let places: Vec<PathBuf> = of_store.map(|mount| mount.path).collect();
            match places.is_empty() {
                true => Err(Error::new(Kind::NotFound, format!("{} is not mounted", path.display()))),
                false => Ok(Found::Mounts(places)),
            }
        }
    }
}
