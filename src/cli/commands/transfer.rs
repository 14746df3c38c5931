//! `wamedia import` and `wamedia export`.

use std::path::{Path, PathBuf};

use super::{Failure, Outcome};
use crate::cli::args::{Export, Import, KeyArgs, OutputArgs};
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::session::{self, open_directly};
use crate::cli::target::{self, Target};
use crate::cli::transfer::{Copied, PlainTree, Tree, VolumeTree, copy, total_bytes};
use crate::cli::{output, progress};
use crate::control::{Client, Request};
use crate::error::{Error, Kind, Result};

/// Takes over a plain directory.
///
/// # Errors
/// `Invalid` when directory and volume lie in one another; those of the copy.
pub fn import(args: &Import, environment: &Environment) -> Outcome {
    let directory = target::absolute(&args.directory)?;
    let side = Side::find(&args.target.target)?;
    side.require_apart(&directory)?;
    if side.mount.is_none() {
        session::require_writable(&side.target)?;
    }
    let source = PlainTree::open(&directory, None)?;
    with_volume(&side, &args.target.keys, environment, |volume| transfer("importing", &source, volume, args.output))
}

/// Writes the media out as plain files.
///
/// # Errors
/// `Invalid` when directory and volume lie in one another; those of the copy.
pub fn export(args: &Export, environment: &Environment) -> Outcome {
    let directory = target::absolute(&args.directory)?;
    let side = Side::find(&args.target.target)?;
    side.require_apart(&directory)?;
    if let Err(error) = std::fs::create_dir(&directory)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(Error::io(format!("cannot make {}", directory.display()), error).into());
    }
    let target = PlainTree::open(&directory, None)?;
    with_volume(&side, &args.target.keys, environment, |volume| transfer("exporting", volume, &target, args.output))
}

/// The volume's side of a transfer.
struct Side {
    target: Target,
    /// Where it is mounted, if it is: a mounted volume is used as the plain files it shows.
    mount: Option<PathBuf>,
}

impl Side {
    fn find(path: &Path) -> Result<Side> {
        let target = Target::find(path)?.whole()?;
        let mount = match target.connect()? {
            Some(client) => target.mount.clone().or_else(|| client.hello().mount.as_ref().map(PathBuf::from)),
            None => None,
        };
        Ok(Side { target, mount })
    }

    fn require_apart(&self, directory: &Path) -> Result<()> {
        for place in [Some(&self.target.store), self.mount.as_ref()].into_iter().flatten() {
            if directory.starts_with(place) || place.starts_with(directory) {
                return Err(Error::new(
                    Kind::Invalid,
                    format!(
                        "{} and {} lie in one another; give a directory apart from the volume",
                        directory.display(),
                        place.display()
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Works with the volume as a tree: through its mount, or opened here and shut down afterwards.
fn with_volume(
    side: &Side,
    keys: &KeyArgs,
    environment: &Environment,
    work: impl FnOnce(&dyn Tree) -> Outcome,
) -> Outcome {
    if let Some(mount) = &side.mount {
        let store = side.target.store.clone();
        let tree = PlainTree::open(mount, Some(Box::new(move || sync_through_daemon(&store))))?;
        return work(&tree);
    }
    let service = open_directly(&side.target, keys, environment, false)?;
    let outcome = work(&VolumeTree::new(service.volume().clone()));
    let shutdown = service.volume().shutdown();
    let exit = outcome?;
    shutdown.map(|()| exit).map_err(Failure::from)
}

/// A connection of its own each time: it would be closed as idle while files are written.
fn sync_through_daemon(store: &Path) -> Result<()> {
    let client = Client::connect(store)?;
    let mut client = client.ok_or_else(|| Error::new(Kind::Io, "the daemon of the volume is gone"))?;
    client.ask(&Request::Sync, &mut |_| {}).map(drop)
}

/// The bytes of a tree, counted while a counter says that something goes on.
fn measured(tree: &dyn Tree) -> u64 {
    let counter = progress::counter("measuring");
    let total = total_bytes(tree, &mut || counter.inc(1));
    counter.finish_and_clear();
    total
}

fn transfer(what: &str, from: &dyn Tree, to: &dyn Tree, output: OutputArgs) -> Outcome {
    let bar = progress::bytes(what, if progress::is_shown() { measured(from) } else { 0 });
    let Copied { report, stopped } = copy(from, to, &mut |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    if output.json {
        output::json(&report)?;
    } else {
        output::pairs(&report.rows())?;
    }
    match stopped {
        Some(error) => Err(error.into()),
        None if report.failed > 0 => Err(Error::new(
            Kind::Io,
            format!("{} of the entries could not be copied; run the command again to try these", report.failed),
        )
        .into()),
        None => Ok(Exit::Success),
    }
}
