//! One module per command: makes a valid configuration of what was parsed, does it, writes the result.

mod audit;
mod check;
mod docker_plugin;
mod erase;
mod expired;
mod init;
mod key;
mod listing;
mod media;
mod metrics;
mod mount;
mod quota;
mod retention;
mod scrub;
mod serve;
mod split;
mod status;
mod token;
mod top;
mod transfer;
mod umount;
mod webhooks;

use super::args::{Command, ExpiredAction, ExpiredList, TargetArgs};
use super::environment::Environment;
use super::exit::Exit;
use super::log::Log;
use crate::error::{Error, Kind};

pub use init::{MakeStore, make_store};

/// A command that failed: what to tell, and how to exit.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong.
    pub error: Error,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { exit: Exit::from(error.kind()), error }
    }
}

impl Failure {
    /// The failure to mount, whatever its kind.
    #[must_use]
    pub fn of_mount(error: Error) -> Failure {
        Failure { exit: Exit::MountFailed, error }
    }
}

/// How a command ends.
pub type Outcome = Result<Exit, Failure>;

/// Does a command.
///
/// # Errors
/// What is to be told on stderr, and the exit code.
pub fn run(command: Command, environment: &Environment, log: &Log) -> Outcome {
    match command {
        Command::Init(args) => init::run(&args, environment),
        Command::Mount(args) => mount::run(*args, environment, log),
        Command::Serve(args) => serve::run(*args, environment, log),
        Command::Umount(args) => umount::run(&args),
        Command::Top(args) => top::run(&args, environment),
        Command::Metrics(args) => metrics::run(&args, environment),
        Command::Status(args) => status::run(&args, environment),
        Command::Ls(args) => listing::list(&args, environment),
        Command::Info(args) => media::info(&args, environment),
        Command::Expired(args) => match args.action {
            Some(ExpiredAction::List(list)) => listing::list_expired(&list, environment),
            Some(ExpiredAction::Purge(purge)) => expired::purge(&purge, environment),
            None => {
                let target = args.target.ok_or_else(|| Error::new(Kind::Invalid, "name a store or a mount point"))?;
                let target = TargetArgs { target, keys: args.keys };
                let list = ExpiredList { target, limit: args.limit, output: args.output };
                listing::list_expired(&list, environment)
            }
        },
        Command::Erase(args) => erase::run(*args, environment),
        Command::Audit(args) => audit::run(&args, environment),
        Command::Hold(args) => media::hold(&args.media, true, args.output, environment),
        Command::Release(args) => media::hold(&args.media, false, args.output, environment),
        Command::Quota(args) => quota::run(args.action, environment),
        Command::Retention(args) => retention::run(args.action, environment),
        Command::Key(args) => key::run(args.action, environment),
        Command::Token(args) => token::run(args.action, environment),
        Command::Webhooks(args) => webhooks::run(args.action, environment),
        Command::Check(args) => check::check(&args, environment),
        Command::Scrub(args) => scrub::run(args, environment),
        Command::RebuildIndex(args) => check::rebuild_index(&args, environment),
        Command::Import(args) => transfer::import(&args, environment),
        Command::Export(args) => transfer::export(&args, environment),
        Command::DockerPlugin(args) => docker_plugin::run(args, environment),
        Command::Split(args) => split::run(args.action),
    }
}
