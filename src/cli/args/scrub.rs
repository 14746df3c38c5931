//! `scrub` and what it can do.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::options::{KeyArgs, OutputArgs, TargetArgs};
use crate::cli::values;
use crate::control::Limit;

/// How a scrub runs.
#[derive(Args, Clone, Copy, Debug)]
pub struct ScrubArgs {
    /// Bytes a second at most, or none for as fast as the disk is
    #[arg(long, value_name = "SIZE", value_parser = values::size_limit, default_value = "16MiB")]
    pub rate: Limit,
    /// Begin from the start, instead of going on where the last one was cut short
    #[arg(long)]
    pub anew: bool,
}

/// `scrub`
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(
    after_help = "Without a word the scrub is run to its end, with progress. On a mounted volume its daemon does the work, at a \
quarter of the rate while programs use the volume; interrupted, the command leaves it to the daemon. A scrub that was cut short, \
however, goes on where it was. `mount --scrub-every` has the daemon begin one by itself.\n\nExit code 0: nothing damaged; 5: \
damage was found, and is named.\n\nExample:\n  wamedia scrub /srv/whatsappMedia\n  wamedia scrub --rate 64MiB /var/lib/wamedia/store\n  \
wamedia scrub status --json /srv/whatsappMedia"
)]
pub struct Scrub {
    /// What to do; without it, run one to its end.
    #[command(subcommand)]
    pub action: Option<ScrubAction>,
    /// The store, or where it is mounted
    #[arg(value_name = "TARGET")]
    pub target: Option<PathBuf>,
    /// What opens it.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// How it runs.
    #[command(flatten)]
    pub scrub: ScrubArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `scrub` can do.
#[derive(Subcommand, Debug)]
pub enum ScrubAction {
    /// Have the daemon begin one, or go on with it, and return
    Start(ScrubStart),
    /// Stop the one that runs; its place is kept
    Stop(ScrubStop),
    /// Show how scrubs are doing
    Status(ScrubStop),
}

/// `scrub start`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  wamedia scrub start --rate 32MiB /srv/whatsappMedia")]
pub struct ScrubStart {
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// How it runs.
    #[command(flatten)]
    pub scrub: ScrubArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `scrub stop` and `scrub status`
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  wamedia scrub stop /srv/whatsappMedia\n  wamedia scrub status --json /srv/whatsappMedia"
)]
pub struct ScrubStop {
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}
