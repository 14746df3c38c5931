//! `wamedia docker-plugin`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, info};

use super::Outcome;
use crate::cli::args::{DockerPlugin, KeyArgs};
use crate::cli::docker::{Places, Stores};
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::docker::{self, Plugin, StateFile};
use crate::error::{Error, Kind, Result};

/// Threads for connections and signals. The work is done on others.
const RUNTIME_THREADS: usize = 2;
/// How long work under way may take at the end. What it does, the next plugin finds.
const END_LIMIT: Duration = Duration::from_secs(1);
/// The key file of volumes of which nothing else is said.
const DEFAULT_KEY_FILE: &str = "/etc/wamedia/keys/docker.key";

/// Serves the volume driver protocol until SIGTERM or SIGINT. Mounted volumes stay mounted.
///
/// # Errors
/// Those of [`Stores::open`], [`StateFile::open`] and [`docker::listen`].
pub fn run(args: DockerPlugin, environment: &Environment) -> Outcome {
    if !environment.is_root() {
        let message = "a volume plugin mounts for other users, which only root may; run it as root";
        return Err(Error::new(Kind::AccessDenied, message).into());
    }
    let places = Places {
        base: absolute(&args.base)?,
        mounts: absolute(&args.mounts)?,
        keys: keys(args.keys)?,
        program: std::env::current_exe().map_err(|e| Error::io("finding this program", e))?,
    };
    let stores = Stores::open(places, environment.clone())?;
    let state = StateFile::open(stores.base())?;
    let plugin = Arc::new(Plugin::new(stores, state));
    let listening = docker::listen(&args.socket)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .map_err(|e| Error::io("cannot start the plugin's threads", e))?;
    let served = runtime.block_on(serve(plugin, listening));
    runtime.shutdown_timeout(END_LIMIT);
    served?;
    Ok(Exit::Success)
}

async fn serve(plugin: Arc<Plugin<Stores>>, listening: docker::Listening) -> Result<()> {
    let listen = |kind| signal(kind).map_err(|e| Error::io("cannot listen for signals", e));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let end = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("ending; what is mounted stays mounted");
        notify(&[NotifyState::Stopping]);
    };
    let volumes = plugin.list().len();
    info!(volumes, "ready");
    notify(&[NotifyState::Ready, NotifyState::Status(&format!("{volumes} volumes"))]);
    let restored = Arc::clone(&plugin);
    // Requests are answered meanwhile; those about a volume that is being brought back wait for it.
    let _goes_on = tokio::task::spawn_blocking(move || restored.restore());
    docker::serve(plugin, listening, end).await
}

/// What opens volumes of which nothing else is said.
fn keys(args: KeyArgs) -> Result<KeyArgs> {
    if args.passphrase {
        return Err(Error::new(Kind::Invalid, "there is nobody to ask for a passphrase; give --passphrase-file"));
    }
    let is_named = args.key_file.is_some() || args.passphrase_file.is_some() || args.credential.is_some();
    Ok(match is_named {
        true => KeyArgs {
            key_file: args.key_file.as_deref().map(absolute).transpose()?,
            passphrase_file: args.passphrase_file.as_deref().map(absolute).transpose()?,
            ..args
        },
        false => KeyArgs { key_file: Some(DEFAULT_KEY_FILE.into()), ..args },
    })
}

fn absolute(path: &std::path::Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io(path.display(), e))
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "the service manager was not told");
    }
}
