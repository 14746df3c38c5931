//! Commands for the service manager, which does with privileges what the daemon of a sandboxed unit does without.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `split`
#[derive(Args, Debug)]
#[command(after_help = "A unit calls these with `+` before the path, so as root and outside of its sandbox; see \
wamedia-sandboxed@.service.\n\nIn a unit:\n  ExecStartPre=+/usr/bin/wamedia split open\n  ExecStart=/usr/bin/wamedia mount --keep-mount -o allow_other STORE MNT\n  \
ExecStartPost=+/usr/bin/wamedia split mount -o allow_other STORE MNT $MAINPID\n  ExecStop=+-/usr/bin/wamedia split sync MNT\n  \
ExecStopPost=+-/usr/bin/wamedia split clear MNT\n\nExample:\n  wamedia split sync /srv/media")]
pub struct Split {
    /// What to do.
    #[command(subcommand)]
    pub action: SplitAction,
}

/// What is done for the daemon.
#[derive(Debug, Subcommand)]
pub enum SplitAction {
    /// Open the FUSE device and have the service manager pass it to the daemon
    #[command(
        after_help = "Needs $NOTIFY_SOCKET, NotifyAccess=all and FileDescriptorStoreMax=4.\n\nExample:\n  wamedia split open"
    )]
    Open,
    /// Mount what the daemon is to serve, unless it has taken a mount over, and wait until it answers
    #[command(after_help = "Example:\n  wamedia split mount -o allow_other /var/lib/wamedia/media /srv/media $MAINPID")]
    Mount(SplitMount),
    /// Have changes that programs made in mapped memory written, before the daemon is told to end
    #[command(after_help = "Example:\n  wamedia split sync /srv/media")]
    Sync(SplitAt),
    /// Take the mount away after the daemon has ended by itself; leave it when the next process is to take it over
    #[command(
        after_help = "How the daemon has ended is read from $SERVICE_RESULT and $EXIT_STATUS: after success and 0 the mount is \
taken away, and whoever still holds it gets errors; in all other cases it is left.\n\nExample:\n  wamedia split clear /srv/media"
    )]
    Clear(SplitAt),
}

/// `split mount`
#[derive(Args, Debug)]
pub struct SplitMount {
    /// Mount options, the same that the daemon is given
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// The store; it is what shows as the source of the mount
    #[arg(value_name = "STORE")]
    pub store: PathBuf,
    /// Where to mount it
    #[arg(value_name = "MNT")]
    pub mount_point: PathBuf,
    /// The daemon's process id
    #[arg(value_name = "PID")]
    pub pid: i32,
}

/// Where a volume is mounted.
#[derive(Args, Debug)]
pub struct SplitAt {
    /// Where it is mounted
    #[arg(value_name = "MNT")]
    pub mount_point: PathBuf,
}
