//! Commands about a whole volume.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::node::NodeArgs;
use super::options::{DaemonArgs, InitArgs, KeyArgs, OutputArgs, TargetArgs};
use crate::cli::values;

/// `init`
#[derive(Args, Debug)]
#[command(after_help = "Without a key option a key file is made (mode 0600): for root in /etc/wamedia/keys, else in \
~/.config/wamedia/keys.\n\nExample:\n  wamedia init --quota 50GB --reserve uploads=10% --retention 30d --retention-type 'image/*=7d' /var/lib/wamedia/store")]
pub struct Init {
    /// What is to open it.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// What it is to be.
    #[command(flatten)]
    pub new: InitArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The directory to make; it must not exist, or be empty
    #[arg(value_name = "STORE")]
    pub store: PathBuf,
}

/// `mount`
#[derive(Args, Debug)]
#[command(
    after_help = "Mount options (-o) are those of mount(8), above all allow_other, default_permissions, fsname=NAME, ro, \
expired=hidden. For root, allow_other and default_permissions are set. With pass_through the kernel reads large media of a \
volume made with --cipher none by itself: fast, and without verifying them.\n\nWith --daemon the log goes to --log-file, else to stderr if that is a file, else to syslog.\n\n\
With --keep-mount, under a service manager with a store of descriptors, programs that use the mount wait for the next process \
when this one is killed, or ends on SIGUSR2 (exit code 13), and go on with it. It takes Linux 6.9.\n\n\
Example:\n  wamedia mount --init --daemon --quota 50GB /var/lib/wamedia/store /srv/whatsappMedia\n  wamedia mount /var/lib/wamedia/store /srv/whatsappMedia\n  wamedia mount --listen 127.0.0.1:8080 /var/lib/wamedia/store /srv/whatsappMedia"
)]
pub struct Mount {
    /// What opens it.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Make the store, and the directory to mount at, if they are not there
    #[arg(long)]
    pub init: bool,
    /// What it is to be, if it is made.
    #[command(flatten)]
    pub new: InitArgs,
    /// The daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// The HTTP media API beside the mount.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Mount also over the directory of a plain container volume, whose removal then removes every medium
    #[arg(long)]
    pub force: bool,
    /// Have the service manager keep the mount when this process ends, and take over what it has kept
    #[arg(long, conflicts_with = "in_background")]
    pub keep_mount: bool,
    /// Mount options, separated by commas
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// The store
    #[arg(value_name = "STORE")]
    pub store: PathBuf,
    /// Where to mount it
    #[arg(value_name = "MNT")]
    pub mount_point: PathBuf,
}

/// `umount`
#[derive(Args, Debug)]
#[command(
    after_help = "Returns when the volume is shut down and its daemon has ended.\n\nExample:\n  wamedia umount /srv/whatsappMedia"
)]
pub struct Umount {
    /// Unmount although files are open; their users get errors
    #[arg(long)]
    pub lazy: bool,
    /// Where it is mounted, or its store
    #[arg(value_name = "TARGET")]
    pub target: PathBuf,
}

/// `status`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  wamedia status /srv/whatsappMedia\n  wamedia status --json /var/lib/wamedia/store")]
pub struct Status {
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `top`
#[derive(Args, Debug)]
#[command(
    after_help = "Live, through the daemon's socket: q, Esc or Ctrl-C ends it. Where stdout is no terminal, and with --once, it \
prints one picture and ends; with --json one JSON value.\n\n\
Example:\n  wamedia top /srv/whatsappMedia\n  wamedia top --once /srv/whatsappMedia\n  wamedia top --json /srv/whatsappMedia | jq .growth.full_at"
)]
pub struct Top {
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// How often it is looked at, 200ms to 30s
    #[arg(long, value_name = "TIME", value_parser = values::glance, default_value = "1s")]
    pub interval: Duration,
    /// Print one picture and end
    #[arg(long)]
    pub once: bool,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `metrics`
#[derive(Args, Debug)]
#[command(
    after_help = "What a node serves at /metrics, also of a mount without one. --output is for node_exporter's textfile \
collector: the file is replaced as a whole, so that nobody reads half of it. `promtool check metrics` reads either.\n\n\
Example:\n  wamedia metrics /srv/whatsappMedia\n  wamedia metrics --output /var/lib/prometheus/node-exporter/wamedia.prom /srv/whatsappMedia"
)]
pub struct Metrics {
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Write the figures to this file instead
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `check`
#[derive(Args, Debug)]
#[command(
    after_help = "--repair deletes nothing: what cannot be mended lies below quarantine/ in the store afterwards, at the place that \
the report names. A medium with damaged chunks stays, readable where it is whole, unless --move-damaged is given. What needs the \
index made anew is mended on an unmounted volume only. Exit code 0: clean, or all mended or moved; 5: something is wrong still.\n\n\
Example:\n  wamedia check /var/lib/wamedia/store\n  wamedia check --read-all --json /srv/whatsappMedia\n  wamedia check --read-all --repair /var/lib/wamedia/store"
)]
pub struct Check {
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Read and verify every byte
    #[arg(long)]
    pub read_all: bool,
    /// Mend what can be mended, and move the rest to a place in the store
    #[arg(long)]
    pub repair: bool,
    /// Move media with damaged chunks away as well
    #[arg(long, requires = "repair")]
    pub move_damaged: bool,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `rebuild-index`
#[derive(Args, Debug)]
#[command(
    after_help = "Names, attributes, types, ages and holds stand in the blobs; nothing is lost.\n\nExample:\n  wamedia rebuild-index /var/lib/wamedia/store"
)]
pub struct RebuildIndex {
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `import`
#[derive(Args, Debug)]
#[command(
    after_help = "Names (and with them media ids), times, modes, owners, user extended attributes, hard links, symbolic \
links and holes are kept. What is there already with the same size and time of last write is skipped, so that an import that \
was cut short goes on; what differs is written again. Every file written is read back and compared by SHA-256. The source is never changed. \
An entry `.expired` at its root is left out, and counted: a volume shows expired media under that name.\n\n\
Example:\n  wamedia import /var/lib/docker/volumes/whatsappMedia/_data /srv/whatsappMedia"
)]
pub struct Import {
    /// The directory to take over
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `export`
#[derive(Args, Debug)]
#[command(after_help = "The files written are plaintext. The rules are those of import, the other way round.\n\n\
Example:\n  wamedia export /srv/whatsappMedia /backup/whatsappMedia\n  wamedia export --key-file old.key /var/lib/wamedia/store /backup/whatsappMedia")]
pub struct Export {
    /// The volume.
    #[command(flatten)]
    pub target: TargetArgs,
    /// The directory to write to; it is made if it is not there
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Form of the result.
    #[command(flatten)]
    pub output: OutputArgs,
}
