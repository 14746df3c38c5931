//! The volume plugin of container engines.

use std::path::PathBuf;

use clap::Args;

use super::options::KeyArgs;
use crate::cli::docker;

/// `docker-plugin`
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP.as_str())]
pub struct DockerPlugin {
    /// Listen here, unless a service manager hands a socket over
    #[arg(long, value_name = "PATH", default_value = "/run/docker/plugins/wamedia.sock")]
    pub socket: PathBuf,
    /// Where the stores and the list of volumes lie
    #[arg(long, value_name = "DIR", default_value = "/var/lib/wamedia/docker")]
    pub base: PathBuf,
    /// Where the volumes are mounted
    #[arg(long, value_name = "DIR", default_value = "/var/lib/docker-volumes/wamedia")]
    pub mounts: PathBuf,
    /// What opens volumes of which nothing else is said.
    #[command(flatten)]
    pub keys: KeyArgs,
}

static AFTER_HELP: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
    format!(
        "Serves `docker volume create -d wamedia -o OPTION=VALUE NAME` (podman too) until it is told to end. Each volume has a store \
below the base, and while it is used a daemon of its own, which the end of the plugin or of Docker does not touch. Without a key option \
all volumes are opened by /etc/wamedia/keys/docker.key, which is made with the first: keep a copy of it.\n\n\
Options of a volume are those of `wamedia mount`, with `_` or `-`; lists are separated by commas. Its own are o (mount options), \
on_remove=keep|delete (what `docker volume rm` does to the media; keep unless said otherwise), when_idle=unmount|stay, and \
store=DIR (an existing store, or another place for a new one). Known are {}.\n\n\
Example:\n  wamedia docker-plugin\n  docker volume create -d wamedia -o quota=50GiB -o retention=30d whatsappMedia\n  \
docker volume inspect -f '{{{{.Status.used}}}} of {{{{.Status.quota}}}}' whatsappMedia",
        docker::known().join(", ")
    )
});
