//! The command line as plain structs. Parsing touches nothing; see the commands for what is made of it.

mod audit;
mod docker;
mod erase;
mod key;
mod matching;
mod media;
mod node;
mod options;
mod policy;
mod scrub;
mod split;
#[cfg(test)]
mod tests;
mod volume;

pub use audit::*;
pub use docker::*;
pub use erase::*;
pub use key::*;
pub use matching::*;
pub use media::*;
pub use node::*;
pub use options::*;
pub use policy::*;
pub use scrub::*;
pub use split::*;
pub use volume::*;

use clap::{Parser, Subcommand};

use super::exit;
use super::log::Format;

/// An encrypted volume for WhatsApp Business media: plain files in a mounted directory, ciphertext on the disk.
#[derive(Parser, Debug)]
#[command(
    name = "wamedia",
    version,
    after_help = AFTER_HELP.as_str(),
    max_term_width = 110,
    infer_subcommands = false,
    arg_required_else_help = true
)]
pub struct Cli {
    /// How much is logged: error, warn, info, debug, trace, or a filter such as wamedia::volume=debug
    #[arg(long, global = true, env = "WAMEDIA_LOG", value_name = "LEVEL", hide_env_values = true)]
    pub log: Option<String>,
    /// The form of the log: text, json or journal [default: journal where systemd leads stderr into it, else text]
    #[arg(
        long,
        global = true,
        env = "WAMEDIA_LOG_FORMAT",
        value_name = "FORMAT",
        hide_env_values = true,
        hide_possible_values = true
    )]
    pub log_format: Option<Format>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

static AFTER_HELP: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
    format!(
        "TARGET is a store or the place where one is mounted. On a mounted volume a command asks the daemon, on one \
that is not mounted it works on the store itself and then needs the key: from the key options, \
WAMEDIA_KEY_FILE, WAMEDIA_PASSPHRASE_FILE, $CREDENTIALS_DIRECTORY/wamedia.key, or the key file that init made.\n\n\
Results go to stdout, everything else to stderr. With --json, every line of stdout is one JSON value.\n\n{}\n\n\
Example:\n  wamedia mount --init --daemon --quota 50GB /var/lib/wamedia/store /srv/whatsappMedia",
        exit::TABLE
    )
});

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make an empty store
    Init(Init),
    /// Mount a volume
    Mount(Box<Mount>),
    /// Answer the HTTP media API without a mount
    Serve(Box<Serve>),
    /// Unmount a volume and end its daemon
    #[command(visible_alias = "unmount")]
    Umount(Umount),
    /// Show how a volume is doing
    Status(Status),
    /// Watch how a volume is doing and what is asked of it
    Top(Top),
    /// Write all figures in Prometheus's text form
    Metrics(Metrics),
    /// List media
    Ls(Ls),
    /// Show all facts of media
    Info(Info),
    /// List or remove expired media
    Expired(Expired),
    /// Remove media for good, and give a signed report of it
    Erase(Box<Erase>),
    /// Show what was removed, when, by whom and by which way
    Audit(Audit),
    /// Keep media from expiring
    Hold(Hold),
    /// Let held media expire again
    Release(Release),
    /// Show or change how much the volume may hold
    Quota(Quota),
    /// Show or change how long media are kept
    Retention(Retention),
    /// Show or change what opens the volume
    Key(Key),
    /// Make, list or end tokens for the HTTP media API
    Token(TokenArgs),
    /// List webhooks that could not be delivered, or try them again
    Webhooks(Webhooks),
    /// Verify a volume; exits with 0 only when it is clean
    Check(Check),
    /// Read everything again and verify it, at a bounded rate
    Scrub(Scrub),
    /// Make the index of an unmounted volume anew from its blobs
    RebuildIndex(RebuildIndex),
    /// Take over a plain directory of media
    Import(Import),
    /// Write the media out as plain files
    Export(Export),
    /// Serve volumes to Docker and podman
    DockerPlugin(DockerPlugin),
    /// Mount and unmount for a daemon without privileges (used by units of systemd)
    Split(Split),
}
