//! Commands about media.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::matching::MatchArgs;
use super::options::{KeyArgs, OutputArgs, TargetArgs};
use crate::cli::values;

/// By what media are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SortBy {
    /// By path
    Path,
    /// Largest first
    Size,
    /// Oldest first
    Age,
    /// Those that expire next first
    Expires,
    /// By type, then path
    Type,
}

/// `ls`
#[derive(Args, Debug)]
#[command(
    after_help = "Below a mount point TARGET may be a directory of the volume: only media below it are listed.\n\n\
Example:\n  wamedia ls --type 'image/*' --larger 5MiB --sort size /srv/whatsappMedia\n  wamedia ls --held --json /srv/whatsappMedia"
)]
pub struct Ls {
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Which media are listed.
    #[command(flatten)]
    pub matching: MatchArgs,
    /// Only held media
    #[arg(long)]
    pub held: bool,
    /// In which order; without it, in the order of the index, and with the least memory
    #[arg(long, value_name = "BY", value_enum)]
    pub sort: Option<SortBy>,
    /// At most this many
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<usize>,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Media of a volume.
#[derive(Args, Clone, Debug)]
pub struct MediaArgs {
    /// The volume; on a mounted one it may be the medium's own path.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Media ids, or paths from the root of the volume
    #[arg(value_name = "MEDIUM")]
    pub media: Vec<String>,
}

/// `info`
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  wamedia info /srv/whatsappMedia 463eb7ec-ff4e-4d9b-b110-1879cbd411b2\n  wamedia info /srv/whatsappMedia/outgoing/photo.jpg\n  wamedia info /var/lib/wamedia/store outgoing/photo.jpg"
)]
pub struct Info {
    /// Which media.
    #[command(flatten)]
    pub media: MediaArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `expired`
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(
    after_help = "Example:\n  wamedia expired /srv/whatsappMedia\n  wamedia expired purge --dry-run /srv/whatsappMedia"
)]
pub struct Expired {
    /// What to do; without it, list.
    #[command(subcommand)]
    pub action: Option<ExpiredAction>,
    /// The store, or where it is mounted
    #[arg(value_name = "TARGET")]
    pub target: Option<PathBuf>,
    /// What opens it.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// At most this many
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<usize>,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `expired` can do.
#[derive(Subcommand, Debug)]
pub enum ExpiredAction {
    /// List expired media
    List(ExpiredList),
    /// Remove expired media
    Purge(ExpiredPurge),
}

/// `expired list`
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  wamedia expired list --json /srv/whatsappMedia")]
pub struct ExpiredList {
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// At most this many
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<usize>,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `expired purge`
#[derive(Args, Debug)]
#[command(
    after_help = "Held, young and open media stay: each is looked at again at the moment of removal.\n\nExample:\n  wamedia expired purge --dry-run --list /srv/whatsappMedia\n  wamedia expired purge --dry-run --scheduled /srv/whatsappMedia\n  wamedia expired purge --yes --older-than 90d /srv/whatsappMedia"
)]
pub struct ExpiredPurge {
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Only tell what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Only expired media of at least this age
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub older_than: Option<Duration>,
    /// Only what the daemon would remove by itself now: shown as expired for the grace period
    #[arg(long)]
    pub scheduled: bool,
    /// Name each medium, one a line, before the result
    #[arg(long)]
    pub list: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `hold`
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  wamedia hold /srv/whatsappMedia 463eb7ec-ff4e-4d9b-b110-1879cbd411b2\n  wamedia hold /srv/whatsappMedia/outgoing/photo.jpg"
)]
pub struct Hold {
    /// Which media.
    #[command(flatten)]
    pub media: MediaArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `release`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  wamedia release /srv/whatsappMedia 463eb7ec-ff4e-4d9b-b110-1879cbd411b2")]
pub struct Release {
    /// Which media.
    #[command(flatten)]
    pub media: MediaArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}
