//! `audit`.

use clap::Args;

use super::options::{OutputArgs, TargetArgs};
use crate::cli::values::{self, When};

/// `audit`
#[derive(Args, Debug)]
#[command(
    after_help = "By which way: mount (a name was removed or given to another), expired (in .expired), api (with a token), purge \
(a command, or the API's clean-up), schedule and watermark (the daemon by itself), erase, repair. The log keeps the newest 64 MiB.\n\n\
Exit code 5 when a part of the log is damaged or missing.\n\n\
Example:\n  wamedia audit --since 7d /srv/whatsappMedia\n  \
wamedia audit --id 463eb7ec-ff4e-4d9b-b110-1879cbd411b2 --json /srv/whatsappMedia"
)]
pub struct Audit {
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Only removals from this time on: 2024-05-01T12:00:00Z, or 7d for seven days ago
    #[arg(long, value_name = "WHEN", value_parser = values::when)]
    pub since: Option<When>,
    /// Only removals before this time
    #[arg(long, value_name = "WHEN", value_parser = values::when)]
    pub until: Option<When>,
    /// Only removals of the medium with this id
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}
