//! Serves a volume until it is told to stop: joins volume, mount, media node and control socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use super::commands::{Failure, Outcome};
use super::exit::Exit;
use super::log::Log;
use super::node::{self, Door, Prepared};
use super::process::{self, Ready, Side, stderr_is_file};
use super::supervisor::Supervisor;
use crate::control::{Hello, PROTOCOL_VERSION, Server, Stop, VolumeService, socket};
use crate::crypto::KeySource;
use crate::error::{Error, Kind, Result};
use crate::fs::{self, Ended, MountOptions, Mounted, Unmounter};
use crate::node::NodeConfig;
use crate::store;
use crate::volume::{OpenOptions, Schedule, Volume};

/// Threads for control, timers and signals. The mount has threads of its own.
const RUNTIME_THREADS: usize = 2;
/// How long programs that still use a mount may take when the daemon is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// How often memory that is not in use is given back to the system.
const TRIM_EVERY: Duration = Duration::from_secs(30);
/// How long the control socket's last answers may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(3);

/// Where a volume is to be mounted, and how.
pub struct MountAt {
    /// Where, absolute.
    pub point: PathBuf,
    /// How.
    pub options: MountOptions,
}

/// What is to be served, and how.
pub struct Service {
    /// The store, absolute.
    pub store: PathBuf,
    /// Where and how to mount it, if it is to be mounted.
    pub mount: Option<MountAt>,
    /// The media node, if there is to be one.
    pub node: Option<NodeConfig>,
    /// Memory for the index.
    pub index_cache_bytes: u64,
    /// When the daemon scrubs by itself.
    pub scrubs: Option<Schedule>,
    /// What opens the volume.
    pub sources: Vec<KeySource>,
    /// Where the log goes once the daemon is in the background.
    pub log_file: Option<PathBuf>,
}

impl Service {
    fn is_read_only(&self) -> bool {
        self.mount.as_ref().is_some_and(|mount| mount.options.read_only())
    }
}

/// Serves in this process, or in the background once it answers.
///
/// # Errors
/// As [`serve`].
pub fn run(service: Service, in_background: bool, log: &Log) -> Outcome {
    process::raise_open_files();
    let ready = match in_background {
        false => Ready::foreground(),
        true => match process::fork_daemon()? {
            // When it failed, it has told why itself.
            Side::Caller(code) => return Ok(Exit::of_code(code)),
            Side::Daemon(ready) => ready,
        },
    };
    serve(service, ready, log)?;
    Ok(Exit::Success)
}

/// Opens, mounts and serves a volume until it is unmounted or the daemon is told to stop; then shuts it down.
///
/// # Errors
/// Those of [`Volume::open`], of the mount (exit code 32), and of the shutdown.
pub fn serve(mut service: Service, ready: Ready, log: &Log) -> std::result::Result<(), Failure> {
    log.catch_panics();
    process::limit_arenas();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .map_err(|e| Error::io("cannot start the daemon's threads", e))?;
    // From here on a signal is kept until somebody looks, so that none leaves a mount without a daemon.
    let signals = runtime.block_on(async { Signals::listen() })?;
    // They are wiped as soon as the volume is open: a daemon needs them only once.
    let sources = std::mem::take(&mut service.sources);
    let volume = open(&service, &sources)?;
    drop(sources);
    volume.schedule_scrubs(service.scrubs);
    if !service.is_read_only() {
        volume.schedule_sweeps();
    }
    process::give_memory_back();
    runtime.spawn(async {
        let mut tick = tokio::time::interval(TRIM_EVERY);
        loop {
            tick.tick().await;
            let _panicked = tokio::task::spawn_blocking(process::give_memory_back).await;
        }
    });
    let served = serve_volume(service, &volume, ready, log, &runtime, signals);
    runtime.shutdown_timeout(GOODBYE_LIMIT);
    served
}

fn open(service: &Service, sources: &[KeySource]) -> Result<Arc<Volume>> {
    let options = OpenOptions { index_cache_bytes: service.index_cache_bytes, ..OpenOptions::default() };
    let store = &service.store;
    let place = match (store::is_read_only(store), service.is_read_only()) {
        (false, _) => store.clone(),
        (true, true) => store::lay_memory_over(store)?,
        (true, false) => {
            let message = format!("{} lies on a read-only file system; mount it with `-o ro`", store.display());
            return Err(Error::new(Kind::ReadOnly, message));
        }
    };
    Volume::open(&place, sources, options)
}

fn serve_volume(
    service: Service,
    volume: &Arc<Volume>,
    ready: Ready,
    log: &Log,
    runtime: &Runtime,
    signals: Signals,
) -> std::result::Result<(), Failure> {
    let store = service.store.clone();
    let begun = begin(service, volume, ready, log, runtime);
    let outcome = match begun {
        Ok(running) => runtime.block_on(running.until_end(signals, volume, &store)),
        Err(failure) => {
            let shutdown = volume.shutdown();
            if let Err(error) = shutdown {
                error!(%error, "the volume could not be shut down");
            }
            return Err(failure);
        }
    };
    outcome.map_err(Failure::from)
}

/// A volume that is served.
struct Running {
    mount: Option<Mount>,
    node: Option<node::Running>,
    stops: mpsc::Receiver<Stop>,
    end: watch::Sender<bool>,
    supervisor: Supervisor,
    is_read_only: bool,
    server: tokio::task::JoinHandle<Result<()>>,
}

/// A volume that is mounted.
struct Mount {
    unmounter: Unmounter,
    session: oneshot::Receiver<Result<Ended>>,
}

fn begin(
    mut service: Service,
    volume: &Arc<Volume>,
    ready: Ready,
    log: &Log,
    runtime: &Runtime,
) -> std::result::Result<Running, Failure> {
    let node = service.node.take().map(|config| node::prepare(volume, config, runtime)).transpose()?;
    let listener = socket::bind(&service.store)?;
    let mounted = match service.mount.as_ref().map(|at| fs::mount(&at.point, &at.options)).transpose() {
        Ok(mounted) => mounted,
        Err(error) => {
            remove_socket(&service);
            return Err(Failure::of_mount(error));
        }
    };
    ready.leave_session();
    let (stop_sender, stops) = mpsc::channel(1);
    let (end, ended) = watch::channel(false);
    let door = node.as_ref().map_or_else(|| Arc::new(Door::new(Arc::clone(volume))), Prepared::door);
    let answers = VolumeService::new(Arc::clone(volume)).with_node(door).read_only(service.is_read_only());
    let server = Server::new(hello(&service, volume), Arc::new(answers), stop_sender);
    let server = runtime.spawn(server.run(listener, ended));
    let is_service = !ready.is_background();
    let (answers_sender, answers) = oneshot::channel();
    let answering = answering(&service, ready, log.clone(), answers_sender);
    let watched = mounted.as_ref().map(|mounted| (mounted.path().to_owned(), mounted.observer()));
    let mount = match (mounted, &service.mount) {
        (Some(mounted), Some(at)) => {
            let unmounter = mounted.unmounter();
            match start_session(mounted, volume, at, answering) {
                Ok(session) => Some(Mount { unmounter, session }),
                Err(error) => {
                    remove_socket(&service);
                    return Err(Failure::of_mount(error));
                }
            }
        }
        _ => {
            answering();
            None
        }
    };
    let node = node.map(|node| node.start(runtime));
    let _within = runtime.enter();
    let supervisor = Supervisor::start(volume, watched, answers, is_service);
    Ok(Running { mount, node, stops, end, supervisor, is_read_only: service.is_read_only(), server })
}

fn remove_socket(service: &Service) {
    if let Err(error) = socket::remove(&service.store) {
        warn!(%error, "the control socket stays behind");
    }
}

fn hello(service: &Service, volume: &Volume) -> Hello {
    Hello {
        protocol: PROTOCOL_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        volume_id: volume.id().to_string(),
        store: service.store.display().to_string(),
        mount: service.mount.as_ref().map(|at| at.point.display().to_string()),
        pid: std::process::id(),
    }
}

/// Serves the mount on a thread of its own; the receiver learns how that ended.
fn start_session(
    mounted: Mounted,
    volume: &Arc<Volume>,
    at: &MountAt,
    answering: impl FnOnce() + Send + 'static,
) -> Result<oneshot::Receiver<Result<Ended>>> {
    let (sender, session) = oneshot::channel();
    let (volume, options) = (Arc::clone(volume), at.options.clone());
    let thread = std::thread::Builder::new().name("mount".to_owned()).spawn(move || {
        let outcome = fs::run(&volume, mounted, &options, |_| answering());
        // Nobody listens only when the daemon has already given up waiting.
        let _ = sender.send(outcome);
    });
    thread.map(|_| session).map_err(|e| Error::io("cannot start the mount's thread", e))
}

/// What happens when the mount answers.
fn answering(
    service: &Service,
    ready: Ready,
    log: Log,
    answers: oneshot::Sender<()>,
) -> impl FnOnce() + Send + 'static {
    let log_file = service.log_file.clone();
    move || {
        if ready.is_background() && log_file.is_none() && !log.to_journal() {
            if stderr_is_file() {
                log.to_stderr();
            } else if !log.to_syslog() {
                eprintln!(
                    "wamedia: there is no syslog here, so the daemon logs nothing; --log-file names a file for it"
                );
            }
        }
        ready.tell();
        // Nobody listens when the daemon has failed meanwhile.
        let _ = answers.send(());
    }
}

/// The signals that end a daemon, and the one that has it read its policy again.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Signals> {
        let listen = |kind| signal(kind).map_err(|e| Error::io("cannot listen for signals", e));
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::End("SIGTERM"),
            _ = self.interrupt.recv() => Wish::End("SIGINT"),
            _ = self.hangup.recv() => Wish::Reload,
        }
    }
}

/// What a signal asks for.
enum Wish {
    End(&'static str),
    Reload,
}

/// Why a daemon ends.
enum Ending {
    /// Somebody unmounted it, or the mount failed.
    Session(Result<Ended>),
    /// A signal.
    Signal(&'static str),
    /// The control socket; the mount is on its way out.
    Asked(Stop),
}

impl Running {
    async fn until_end(mut self, mut signals: Signals, volume: &Arc<Volume>, store: &std::path::Path) -> Result<()> {
        let ending = self.wait(&mut signals).await;
        self.supervisor.stop();
        let (outcome, asked) = match ending {
            Ending::Session(outcome) => {
                info!(?outcome, "the mount has ended");
                (outcome.map(drop), None)
            }
            Ending::Signal(name) => {
                info!("{name}: ending");
                (self.unmount().await, None)
            }
            Ending::Asked(stop) => {
                info!("asked to stop");
                (self.unmount().await, Some(stop.done))
            }
        };
        if let Some(node) = self.node.take() {
            node.drain().await;
        }
        // Before the store is free for another daemon, whose socket this could be otherwise.
        if let Err(error) = socket::remove(store) {
            warn!(%error, "the control socket stays behind");
        }
        let closing = Arc::clone(volume);
        let shutdown = blocking(move || closing.shutdown()).await;
        info!("the volume is shut down");
        let outcome = outcome.and(shutdown);
        if let Err(error) = &outcome {
            error!(%error, "the daemon ends with a failure");
        }
        if let Some(done) = asked {
            let told = outcome.as_ref().map(|&()| ()).map_err(|e| Error::new(e.kind(), e.to_string()));
            // The command may have been interrupted meanwhile.
            let _ = done.send(told);
        }
        self.say_goodbye().await;
        outcome
    }

    async fn wait(&mut self, signals: &mut Signals) -> Ending {
        loop {
            let session = async {
                match &mut self.mount {
                    Some(mount) => ended_as((&mut mount.session).await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = session => return Ending::Session(ended),
                wish = signals.next() => match wish {
                    Wish::End(name) => return Ending::Signal(name),
                    Wish::Reload if self.is_read_only => info!("SIGHUP: nothing to do, the volume is mounted to be read"),
                    Wish::Reload => self.supervisor.reload().await,
                },
                Some(stop) = self.stops.recv() => {
                    let place = self.mount.as_ref().map(|mount| mount.unmounter.path().to_owned());
                    let freed = match place.filter(|_| !stop.lazy) {
                        None => Ok(()),
                        Some(place) => blocking(move || fs::unmount(&place, false)).await,
                    };
                    match freed {
                        Ok(()) => return Ending::Asked(stop),
                        Err(error) => drop(stop.done.send(Err(error))),
                    }
                }
            }
        }
    }

    /// Ends the mount and waits for its thread.
    async fn unmount(&mut self) -> Result<()> {
        let Some(mount) = &mut self.mount else { return Ok(()) };
        let unmounter = mount.unmounter.clone();
        let stopped = blocking(move || Ok(unmounter.stop(STOP_GRACE))).await?;
        info!(?stopped, "unmounted");
        if let Ok(session) = tokio::time::timeout(STOP_GRACE, &mut mount.session).await {
            return ended_as(session).map(drop);
        }
        warn!("the mount is still held by another program; it is cut off when this process ends");
        Ok(())
    }

    /// Lets the control socket's last answers go out.
    async fn say_goodbye(self) {
        // Nobody listens when the server has ended already.
        let _ = self.end.send(true);
        match tokio::time::timeout(GOODBYE_LIMIT, self.server).await {
            Ok(Ok(Err(error))) => warn!(%error, "the control socket failed"),
            Ok(Err(error)) => warn!(%error, "the control socket failed"),
            _ => {}
        }
    }
}

fn ended_as(session: std::result::Result<Result<Ended>, oneshot::error::RecvError>) -> Result<Ended> {
    session.unwrap_or_else(|error| Err(Error::new(Kind::Io, "the mount's thread failed").with_source(error)))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::new(Kind::Io, "a thread of the daemon failed").with_source(error)))
}
