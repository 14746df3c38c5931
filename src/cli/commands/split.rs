//! `wamedia split`.

use std::os::fd::AsFd;

use super::mount::options_of;
use super::{Failure, Outcome};
use crate::cli::args::{SplitAction, SplitMount};
use crate::cli::exit::Exit;
use crate::cli::keeping;
use crate::error::{Error, Kind};
use crate::fs;

/// Does with privileges what the daemon of a sandboxed unit does without.
///
/// # Errors
/// As the parts of a mount; exit code 32 when the mount itself fails.
pub fn run(action: SplitAction) -> Outcome {
    match action {
        SplitAction::Open => open(),
        SplitAction::Mount(args) => mount(&args).map_err(Failure::of_mount),
        SplitAction::Sync(at) => fs::leave_mount_namespace()
            .and_then(|()| fs::sync_mount(&at.mount_point))
            .map(|()| Exit::Success)
            .map_err(Failure::from),
        SplitAction::Clear(at) => {
            let is = |name: &str, value: &str| std::env::var_os(name).is_some_and(|found| found == value);
            if is("SERVICE_RESULT", "success") && is("EXIT_STATUS", "0") {
                fs::leave_mount_namespace()?;
                fs::take_away(&at.mount_point)?;
            }
            Ok(Exit::Success)
        }
    }
}

fn open() -> Outcome {
    if !keeping::has_manager() {
        let message = "$NOTIFY_SOCKET is not set: there is no service manager to pass the FUSE device on";
        return Err(Error::new(Kind::Invalid, message).into());
    }
    let device = fs::open_for_another()?;
    keeping::store(keeping::FRESH, device.as_fd());
    Ok(Exit::Success)
}

fn mount(args: &SplitMount) -> crate::error::Result<Exit> {
    fs::leave_mount_namespace()?;
    fs::mount_for(args.pid, &args.mount_point, &options_of(&args.options, &args.store)?)?;
    Ok(Exit::Success)
}
