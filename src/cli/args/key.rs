//! Commands about key slots.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::options::{OutputArgs, TargetArgs};

/// `key`
#[derive(Args, Debug)]
#[command(
    after_help = "A volume has several key slots; each opens it alone. Changing them rewrites no media.\n\nExample:\n  wamedia key list /var/lib/wamedia/store\n  wamedia key add --new-passphrase /var/lib/wamedia/store"
)]
pub struct Key {
    /// What to do.
    #[command(subcommand)]
    pub action: KeyAction,
}

/// What `key` can do.
#[derive(Subcommand, Debug)]
pub enum KeyAction {
    /// Add a key slot
    Add(KeyAdd),
    /// Remove a key slot; never the last one
    Remove(KeyRemove),
    /// List key slots
    #[command(after_help = "Example:\n  wamedia key list --json /var/lib/wamedia/store")]
    List(KeyList),
    /// Put a new key in the place of the one that opens the volume
    Change(KeyChange),
}

/// A key to come.
#[derive(Args, Clone, Debug)]
#[group(id = "new-key", required = true, multiple = false)]
#[command(next_help_heading = "New key")]
pub struct NewKeyArgs {
    /// The passphrase in the first line of this file
    #[arg(long, value_name = "FILE")]
    pub new_passphrase_file: Option<PathBuf>,
    /// The key in this file; the file is made if it is not there
    #[arg(long, value_name = "FILE")]
    pub new_key_file: Option<PathBuf>,
    /// This systemd credential
    #[arg(long, value_name = "NAME")]
    pub new_credential: Option<String>,
    /// Ask for the passphrase on the terminal
    #[arg(long)]
    pub new_passphrase: bool,
}

/// What people call a key slot.
#[derive(Args, Clone, Debug)]
pub struct LabelArgs {
    /// A name for the slot, shown by `key list`; it is not secret
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub label: String,
}

/// `key add`
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  wamedia key add --key-file old.key --new-passphrase /var/lib/wamedia/store\n  wamedia key add --new-key-file /media/safe/spare.key /srv/whatsappMedia"
)]
pub struct KeyAdd {
    /// What is added.
    #[command(flatten)]
    pub new: NewKeyArgs,
    /// What it is called.
    #[command(flatten)]
    pub label: LabelArgs,
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `key remove`
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  wamedia key list /var/lib/wamedia/store\n  wamedia key remove --slot 1 /var/lib/wamedia/store"
)]
pub struct KeyRemove {
    /// The number of the slot, as `key list` shows it
    #[arg(long, value_name = "NUMBER")]
    pub slot: u8,
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `key list`
#[derive(Args, Debug)]
pub struct KeyList {
    /// The store, or where it is mounted
    #[arg(value_name = "TARGET")]
    pub target: PathBuf,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `key change`
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  wamedia key change --passphrase-file old --new-passphrase-file new /var/lib/wamedia/store"
)]
pub struct KeyChange {
    /// What takes its place.
    #[command(flatten)]
    pub new: NewKeyArgs,
    /// What it is called.
    #[command(flatten)]
    pub label: LabelArgs,
    /// The volume, and the key that is to go.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}
