//! Options that several commands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::policy::ActionArg;

use crate::cli::log::Log;
use crate::cli::node;
use crate::cli::outlets::{self, HookConfig, OutletConfig};
use crate::cli::values::{self, Owner, Period};
use crate::control::{Keep, Limit, Mark, PolicyChange};
use crate::error::Result;
use crate::volume::{AgeBy, ExpiryAction, Reserve, RetentionRule, Schedule, Selector};

/// What opens the volume. Secrets themselves are never arguments: other users could read them.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[group(id = "key-source", multiple = false)]
#[command(next_help_heading = "Key options")]
pub struct KeyArgs {
    /// Open with the passphrase in the first line of this file
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Open with the key in this file
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Open with this systemd credential ($CREDENTIALS_DIRECTORY/NAME)
    #[arg(long, value_name = "NAME")]
    pub credential: Option<String>,
    /// Ask for the passphrase on the terminal
    #[arg(long)]
    pub passphrase: bool,
}

/// How the bytes of a new volume lie in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Cipher {
    /// Encrypted and authenticated.
    #[value(name = "xchacha20-poly1305")]
    XChaCha20Poly1305,
    /// Not encrypted, only checksummed.
    None,
}

/// How age is counted, as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AgeByArg {
    /// From the last write
    Written,
    /// From the last use: write, read or send
    Used,
}

impl From<AgeByArg> for AgeBy {
    fn from(arg: AgeByArg) -> AgeBy {
        match arg {
            AgeByArg::Written => AgeBy::Written,
            AgeByArg::Used => AgeBy::Used,
        }
    }
}

/// How whoever serves a volume runs.
#[derive(Args, Clone, Debug)]
pub struct DaemonArgs {
    /// Return once it answers, and serve in the background
    #[arg(long = "daemon")]
    pub in_background: bool,
    /// Write the log to this file
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Memory for the index
    #[arg(long, value_name = "SIZE", value_parser = values::size, default_value = "16MiB")]
    pub index_cache: u64,
    /// Scrub by itself so long after the last scrub, or off
    #[arg(long, value_name = "TIME", value_parser = values::period, default_value = "30d")]
    pub scrub_every: Period,
    /// Bytes a second that such a scrub reads, or none for as fast as the disk is
    #[arg(long, value_name = "SIZE", value_parser = values::size_limit, default_value = "16MiB")]
    pub scrub_rate: Limit,
    /// Run this program when something happens: a mark is crossed, writes are refused, damage is found, media were purged
    #[arg(long, value_name = "PROGRAM")]
    pub hook: Option<PathBuf>,
    /// How long one run of it may take
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "60s")]
    pub hook_limit: Duration,
    /// Post the same as JSON to this URL
    #[arg(long, value_name = "URL", conflicts_with = "event_url_file")]
    pub event_url: Option<String>,
    /// The same, with the URL in the first line of this file, for one that holds a secret
    #[arg(long, value_name = "FILE")]
    pub event_url_file: Option<PathBuf>,
}

impl DaemonArgs {
    /// When it scrubs by itself.
    #[must_use]
    pub fn scrubs(&self) -> Option<Schedule> {
        match self.scrub_every {
            Period::Off => None,
            Period::Every(every) => Some(Schedule { every, rate: self.scrub_rate.as_option() }),
        }
    }

    /// Where it is told what happens.
    ///
    /// # Errors
    /// Those of [`HookConfig::new`] and [`outlets::event_url`]; `Io` for the file.
    pub fn outlets(&self) -> Result<OutletConfig> {
        let hook = self.hook.as_deref().map(|program| HookConfig::new(program, self.hook_limit)).transpose()?;
        let url = match (&self.event_url, &self.event_url_file) {
            (Some(url), _) => Some(outlets::event_url(url)?),
            (None, Some(path)) => Some(outlets::event_url(node::secret_in(path)?.expose())?),
            (None, None) => None,
        };
        Ok(OutletConfig { hook, url })
    }

    /// Whether the log goes elsewhere than to who has started it.
    #[must_use]
    pub fn logs_elsewhere(&self) -> bool {
        self.in_background || self.log_file.is_some()
    }

    /// Has the log go where it is to go before the daemon answers.
    ///
    /// # Errors
    /// `Io` for the file.
    pub fn direct(&self, log: &Log) -> Result<()> {
        match &self.log_file {
            Some(path) => log.to_file(path)?,
            None if self.in_background => log.to_caller(),
            None => {}
        }
        Ok(())
    }
}

/// How much a volume may hold.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaArgs {
    /// Bytes of media the volume may hold, or none
    #[arg(long, value_name = "SIZE", value_parser = values::size_limit)]
    pub quota: Option<Limit>,
    /// Media the volume may hold, or none
    #[arg(long, value_name = "COUNT", value_parser = values::count_limit)]
    pub media_quota: Option<Limit>,
    /// Part of the quota that only one class of media may use, for example uploads=10%; 0 takes it away
    #[arg(long, value_name = "CLASS=SIZE", value_parser = values::reserve)]
    pub reserve: Vec<Reserve>,
    /// Free bytes of the backing file system that are never used
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub floor: Option<u64>,
    /// From how much of the room in use on somebody is warned, for example 80%, or none
    #[arg(long, value_name = "PERCENT", value_parser = values::mark)]
    pub warn_at: Option<Mark>,
    /// From how much of the room in use on the longest expired media are removed, for example 90%, or none
    #[arg(long, value_name = "PERCENT", value_parser = values::mark)]
    pub purge_at: Option<Mark>,
}

/// What `init` may be told of the new volume.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Options for a new volume")]
pub struct InitArgs {
    /// Cipher of the store [default: xchacha20-poly1305]; `none` stores media unencrypted
    #[arg(long, value_name = "CIPHER", value_enum, hide_possible_values = false)]
    pub cipher: Option<Cipher>,
    /// How much it may hold.
    #[command(flatten)]
    pub quota: QuotaArgs,
    /// How long media are kept: a time, or forever [default: 30d]
    #[arg(long, value_name = "TIME", value_parser = values::keep)]
    pub retention: Option<Keep>,
    /// How long media of a type are kept, for example image/*=7d
    #[arg(long, value_name = "TYPE=TIME", value_parser = values::type_rule)]
    pub retention_type: Vec<RetentionRule>,
    /// How long media below a directory are kept, for example outgoing=3d
    #[arg(long, value_name = "DIR=TIME", value_parser = values::prefix_rule)]
    pub retention_prefix: Vec<RetentionRule>,
    /// From when age is counted [default: written]
    #[arg(long, value_name = "WHAT", value_enum)]
    pub age_by: Option<AgeByArg>,
    /// What becomes of expired media [default: show]
    #[arg(long, value_name = "ACTION", value_enum)]
    pub action: Option<ActionArg>,
    /// How long a medium is shown as expired before it is removed by itself [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = values::grace)]
    pub grace: Option<Duration>,
    /// Owner of its root directory, as numbers [default: who makes it]
    #[arg(long, value_name = "UID[:GID]", value_parser = values::owner)]
    pub owner: Option<Owner>,
    /// Mode of its root directory [default: 0755]
    #[arg(long, value_name = "MODE", value_parser = values::mode)]
    pub mode: Option<u32>,
}

impl InitArgs {
    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == InitArgs::default()
    }

    /// The policy that is asked for, as a change of the default one.
    #[must_use]
    pub fn policy(&self) -> PolicyChange {
        let default = self.retention.map(default_rule);
        PolicyChange {
            age_by: self.age_by.map(AgeBy::from),
            rules: default
                .into_iter()
                .chain(self.retention_type.clone())
                .chain(self.retention_prefix.clone())
                .collect(),
            action: self.action.map(ExpiryAction::from),
            grace: self.grace,
            ..self.quota.change()
        }
    }
}

impl QuotaArgs {
    /// The change that is asked for.
    #[must_use]
    pub fn change(&self) -> PolicyChange {
        PolicyChange {
            max_bytes: self.quota,
            max_media: self.media_quota,
            reserves: self.reserve.clone(),
            floor_bytes: self.floor,
            warn_at: self.warn_at,
            purge_at: self.purge_at,
            ..PolicyChange::default()
        }
    }
}

/// The rule for everything without one of its own.
#[must_use]
pub fn default_rule(keep: Keep) -> RetentionRule {
    RetentionRule { selector: Selector::Default, keep: keep.as_option() }
}

/// The volume a command is about, and how to open it when it is not mounted.
#[derive(Args, Clone, Debug)]
pub struct TargetArgs {
    /// The store, or where it is mounted
    #[arg(value_name = "TARGET")]
    pub target: PathBuf,
    /// What opens it.
    #[command(flatten)]
    pub keys: KeyArgs,
}

/// In which form the result is written.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct OutputArgs {
    /// Write the result as JSON, one value per line
    #[arg(long)]
    pub json: bool,
}
