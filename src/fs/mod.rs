//! The volume as a mounted file system (FUSE).
//!
//! Mounting ([`mount`]) and serving ([`run`]) are two steps, so that a daemon can mount first, while mount(8) or an
//! automount waits for exactly this process, fork, and serve from the child:
//!
//! ```no_run
//! # fn serve(volume: std::sync::Arc<wamedia::volume::Volume>) -> wamedia::error::Result<()> {
//! use wamedia::fs;
//! let options = fs::MountOptions::parse(&["allow_other,noatime"])?;
//! let mounted = fs::mount(std::path::Path::new("/mnt/wa/media"), &options)?;
//! let unmounter = mounted.unmounter(); // for the signal thread: unmounter.stop(grace)
//! let ended = fs::run(&volume, mounted, &options, |_| println!("ready"))?;
//! volume.shutdown()?;
//! # let _ = (unmounter, ended); Ok(()) }
//! ```
//!
//! Inside, `operations` converts each request into one call of the volume and its answer into a reply; `watcher` tells
//! the kernel what changed by other ways, which is what allows its caches to be trusted for long.

mod adapter;
mod agreement;
mod chunks;
mod convert;
mod errno;
mod expired;
mod fusermount;
mod handles;
mod inherited;
mod listing;
mod mount;
mod mountinfo;
mod mountpoint;
mod note;
mod opening;
mod operations;
mod options;
mod passing;
mod pulse;
mod reach;
mod references;
mod session;
mod split;
mod syscalls;
mod takeover;
mod unmount;
mod watcher;

pub use errno::errno;
pub use mount::{Keeper, Mounted, await_mount, mount};
pub use mountinfo::{Device, FS_TYPE, MountEntry, find_mounts};
pub use mountpoint::clear_dead;
pub use note::Note;
pub use options::{Access, DEFAULT_SOURCE, DEFAULT_THREADS, MAX_THREADS, MountOptions};
pub use pulse::{Gate, Observer};
pub use session::{Ended, run, serve};
pub use split::{leave_mount_namespace, mount_for, open_for_another, sync_mount, take_away};
pub use takeover::Outlived;
pub use unmount::{Stopped, Unmounter, unmount};
