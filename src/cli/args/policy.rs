//! Commands about quota and retention.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::options::{AgeByArg, OutputArgs, QuotaArgs, TargetArgs};
use super::volume::Status;
use crate::cli::values;
use crate::control::Keep;
use crate::volume::{ExpiryAction, RetentionRule};

/// What becomes of expired media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ActionArg {
    /// They are shown in .expired, and removed when somebody does
    Show,
    /// The daemon removes those that have been shown for the grace period
    Purge,
}

impl From<ActionArg> for ExpiryAction {
    fn from(action: ActionArg) -> ExpiryAction {
        match action {
            ActionArg::Show => ExpiryAction::Show,
            ActionArg::Purge => ExpiryAction::Purge,
        }
    }
}

/// `quota`
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  wamedia quota show /srv/whatsappMedia\n  wamedia quota set --quota 60GB /srv/whatsappMedia"
)]
pub struct Quota {
    /// What to do.
    #[command(subcommand)]
    pub action: QuotaAction,
}

/// What `quota` can do.
#[derive(Subcommand, Debug)]
pub enum QuotaAction {
    /// Show quota, reserves and floor
    #[command(after_help = "Example:\n  wamedia quota show --json /srv/whatsappMedia")]
    Show(Status),
    /// Change quota, reserves or floor
    Set(QuotaSet),
}

/// `quota set`
#[derive(Args, Debug)]
#[command(
    after_help = "Takes effect at once, mounted or not. A quota below what is stored removes nothing: it refuses what is new.\n\n\
Example:\n  wamedia quota set --quota 60GB --reserve uploads=5GB /srv/whatsappMedia\n  wamedia quota set --quota none --reserve uploads=0 /srv/whatsappMedia"
)]
pub struct QuotaSet {
    /// What to change.
    #[command(flatten)]
    pub quota: QuotaArgs,
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `retention`
#[derive(Args, Debug)]
#[command(
    after_help = "A rule for a longer directory goes before one for a shorter, a directory before a type, a type with \
parameters (audio/ogg; codecs=opus) before one without, which means all, and that before TYPE/*, \
and a medium's own retention before all.\n\nExample:\n  wamedia retention show /srv/whatsappMedia\n  wamedia retention set --type 'image/*=7d' /srv/whatsappMedia"
)]
pub struct Retention {
    /// What to do.
    #[command(subcommand)]
    pub action: RetentionAction,
}

/// What `retention` can do.
#[derive(Subcommand, Debug)]
pub enum RetentionAction {
    /// Show how long media are kept
    #[command(after_help = "Example:\n  wamedia retention show --json /srv/whatsappMedia")]
    Show(Status),
    /// Set how long media are kept
    Set(RetentionSet),
    /// Remove rules
    Remove(RetentionRemove),
}

/// `retention set`
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  wamedia retention set --default 30d --type 'image/*=7d' --prefix outgoing=3d /srv/whatsappMedia\n  \
wamedia retention set --action purge --grace 24h /srv/whatsappMedia\n  \
wamedia retention set --medium outgoing/photo.jpg --keep forever /srv/whatsappMedia"
)]
pub struct RetentionSet {
    /// Everything without a rule of its own: a time, or forever
    #[arg(long, value_name = "TIME", value_parser = values::keep)]
    pub default: Option<Keep>,
    /// Media of a type, for example image/*=7d
    #[arg(long = "type", value_name = "TYPE=TIME", value_parser = values::type_rule)]
    pub types: Vec<RetentionRule>,
    /// Media below a directory, for example outgoing=3d
    #[arg(long = "prefix", value_name = "DIR=TIME", value_parser = values::prefix_rule)]
    pub prefixes: Vec<RetentionRule>,
    /// From when age is counted
    #[arg(long, value_name = "WHAT", value_enum)]
    pub age_by: Option<AgeByArg>,
    /// What becomes of expired media
    #[arg(long, value_name = "ACTION", value_enum)]
    pub action: Option<ActionArg>,
    /// How long a medium is shown as expired before it is removed by itself
    #[arg(long, value_name = "TIME", value_parser = values::grace)]
    pub grace: Option<Duration>,
    /// Single media, by id or path, that get a retention of their own
    #[arg(long = "medium", value_name = "MEDIUM", requires = "keep")]
    pub media: Vec<String>,
    /// How long the single media are kept: a time, or forever
    #[arg(long, value_name = "TIME", value_parser = values::keep, requires = "media")]
    pub keep: Option<Keep>,
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `retention remove`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  wamedia retention remove --type 'image/*' --prefix outgoing /srv/whatsappMedia")]
pub struct RetentionRemove {
    /// The rule for this type
    #[arg(long = "type", value_name = "TYPE", value_parser = values::mime_pattern)]
    pub types: Vec<String>,
    /// The rule for this directory
    #[arg(long = "prefix", value_name = "DIR", value_parser = values::directory)]
    pub prefixes: Vec<String>,
    /// The retention of this medium alone, by id or path
    #[arg(long = "medium", value_name = "MEDIUM")]
    pub media: Vec<String>,
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}
