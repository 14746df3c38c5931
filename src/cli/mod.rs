//! The commands of the `wamedia` binary: parses the command line to plain structs, makes a valid configuration of them,
//! joins the pieces, and writes results for people or programs.

pub mod args;
pub mod commands;
pub mod container_volume;
pub mod daemon;
pub mod docker;
pub mod environment;
pub mod exit;
pub mod helper;
pub mod holder;
pub mod journal;
pub mod keeping;
pub mod keys;
pub mod log;
pub mod node;
pub mod outlets;
pub mod output;
pub mod process;
pub mod progress;
pub mod session;
pub mod supervisor;
pub mod target;
pub mod top;
pub mod transfer;
pub mod values;
pub mod views;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use commands::{Failure, Outcome};
use environment::Environment;
use exit::Exit;
use log::{Course, Log};

/// Does what the command line says; the exit code ([`Exit`]), or one of mount(8) when that has called.
#[must_use]
pub fn run() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if !helper::is_called(&words) {
        return exit_of(run_parsed(Cli::parse_from(words))).into();
    }
    match helper::read(&words) {
        Ok(helper::Call::Fake) => ExitCode::SUCCESS,
        Ok(helper::Call::Mount(line)) => match Cli::try_parse_from(line) {
            Ok(parsed) => helper::exit_of(exit_of(run_parsed(parsed))).into(),
            Err(error) => {
                eprint!("{error}");
                helper::USAGE.into()
            }
        },
        Err(message) => {
            eprintln!("wamedia: {message}");
            helper::USAGE.into()
        }
    }
}

/// How the process exits; a failure is told on stderr.
fn exit_of(outcome: Outcome) -> Exit {
    match outcome {
        Ok(exit) => exit,
        Err(Failure { error, .. }) if output::is_broken_pipe(&error) => Exit::Success,
        Err(Failure { exit, error }) => {
            eprintln!("{}wamedia: {error}", journal::error_mark());
            exit
        }
    }
}

fn course(command: &Command) -> Course {
    match command {
        Command::Mount(mount) if mount.daemon.logs_elsewhere() => Course::Background,
        Command::Serve(serve) if serve.daemon.logs_elsewhere() => Course::Background,
        Command::Mount(_) | Command::Serve(_) | Command::DockerPlugin(_) => Course::Foreground,
        _ => Course::Command,
    }
}

fn run_parsed(parsed: Cli) -> Outcome {
    let log = Log::start(parsed.log.as_deref(), parsed.log_format, course(&parsed.command))?;
    process::harden()?;
    commands::run(parsed.command, &Environment::read(), &log)
}
