//! The commands of the `wamedia` binary: parses the command line to plain structs, makes a valid configuration of them,
//! joins the pieces, and writes results for people or programs.

pub mod args;
pub mod commands;
pub mod daemon;
pub mod environment;
pub mod exit;
pub mod holder;
pub mod keys;
pub mod log;
pub mod node;
pub mod output;
pub mod process;
pub mod progress;
pub mod session;
pub mod target;
pub mod transfer;
pub mod values;
pub mod views;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use commands::{Failure, Outcome};
use environment::Environment;
use exit::Exit;
use log::{Course, Log};

/// Does what the command line says; the exit code ([`Exit`]).
#[must_use]
pub fn run() -> ExitCode {
    let parsed = Cli::parse();
    match run_parsed(parsed) {
        Ok(exit) => exit.into(),
        Err(Failure { error, .. }) if output::is_broken_pipe(&error) => Exit::Success.into(),
        Err(Failure { exit, error }) => {
            eprintln!("wamedia: {error}");
            exit.into()
        }
    }
}

fn course(command: &Command) -> Course {
    match command {
        Command::Mount(mount) if mount.daemon || mount.log_file.is_some() => Course::Background,
        Command::Serve(serve) if serve.daemon || serve.log_file.is_some() => Course::Background,
        Command::Mount(_) | Command::Serve(_) => Course::Foreground,
        _ => Course::Command,
    }
}

fn run_parsed(parsed: Cli) -> Outcome {
    let log = Log::start(parsed.log.as_deref(), course(&parsed.command))?;
    process::harden()?;
    commands::run(parsed.command, &Environment::read(), &log)
}
