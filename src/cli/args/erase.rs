//! `erase`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::matching::MatchArgs;
use super::options::{KeyArgs, OutputArgs, TargetArgs};

/// `erase`
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(
    after_help = "Media are named (MEDIUM, --from), or matched: of several options all must fit. Held media stay, and so do those that are \
open; both are listed. When it returns, what is told as erased is in neither index nor blobs of the store, and power may fail.\n\n\
Exit code 0: all is gone; 7: some that was named is not there; 12: some is held, or in use.\n\n\
Example:\n  wamedia erase --dry-run --attribute user.customer=4711 /srv/whatsappMedia\n  \
wamedia erase --yes --report erasure.json --reason 'request 2024-17' --from ids.txt /srv/whatsappMedia\n  \
wamedia erase public-key /srv/whatsappMedia\n  wamedia erase verify --public-key 5d2c... erasure.json"
)]
pub struct Erase {
    /// What to do; without it, erase.
    #[command(subcommand)]
    pub action: Option<EraseAction>,
    /// The store, or where it is mounted; on a mounted volume it may be the medium's own path
    #[arg(value_name = "TARGET")]
    pub target: Option<PathBuf>,
    /// Media ids, or paths from the root of the volume
    #[arg(value_name = "MEDIUM")]
    pub media: Vec<String>,
    /// What opens it.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Media ids or paths from this file, one a line; - is stdin
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Which media are matched.
    #[command(flatten, next_help_heading = "Options that match media")]
    pub matching: MatchArgs,
    /// Only tell what would be erased
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Write the report to this new file
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Tell the media's paths in the report; without it they are in there by id alone
    #[arg(long)]
    pub names: bool,
    /// On whose behalf, for the report
    #[arg(long, value_name = "TEXT")]
    pub on_behalf_of: Option<String>,
    /// Why, for the report
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Form of the result; as JSON it is the report.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What `erase` can do beside.
#[derive(Subcommand, Debug)]
pub enum EraseAction {
    /// Check a report with a public key alone, without the volume
    #[command(
        after_help = "Exit code 0: the volume behind the key has signed this report, and nobody has changed it since; 5: not so.\n\n\
Example:\n  wamedia erase verify --public-key 5d2c...  erasure.json"
    )]
    Verify(EraseVerify),
    /// Tell the public key that reports of a volume are checked with
    #[command(after_help = "Example:\n  wamedia erase public-key /srv/whatsappMedia")]
    PublicKey(ErasePublicKey),
}

/// `erase verify`
#[derive(Args, Debug)]
pub struct EraseVerify {
    /// The public key, as `erase public-key` tells it
    #[arg(long, value_name = "HEX")]
    pub public_key: String,
    /// The report; - is stdin
    #[arg(value_name = "REPORT")]
    pub report: PathBuf,
    /// Form of the result; as JSON it is the report.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `erase public-key`
#[derive(Args, Debug)]
pub struct ErasePublicKey {
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// As PEM, which OpenSSL takes
    #[arg(long, conflicts_with = "json")]
    pub pem: bool,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}
