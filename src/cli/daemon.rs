//! Serves a volume until it is told to stop: joins volume, mount, media node and control socket.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use super::commands::{Failure, Outcome};
use super::exit::Exit;
use super::keeping::{self, Begin};
use super::log::Log;
use super::node::{self, Door};
use super::outlets::{self, OutletConfig};
use super::process::{self, Ready, Side, stderr_is_file};
use super::supervisor::{self, Supervisor};
use crate::control::{Hello, PROTOCOL_VERSION, Server, Stop, VolumeService, socket};
use crate::crypto::KeySource;
use crate::error::{Error, Kind, Result};
use crate::fs::{self, Ended, Gate, MountOptions, Mounted, Unmounter};
use crate::node::NodeConfig;
use crate::store;
use crate::volume::{OpenOptions, Schedule, Volume};

/// Threads for control, timers and signals. The mount has threads of its own.
const RUNTIME_THREADS: usize = 2;
/// How long programs that still use a mount may take when the daemon is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// How long the control socket's last answers may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(3);
/// How long requests that are under way may take when no further ones are answered.
const GATE_PATIENCE: Duration = Duration::from_secs(20);
/// How long whoever mounts for this process may take.
const MOUNT_PATIENCE: Duration = Duration::from_secs(60);

/// Where a volume is to be mounted, and how.
pub struct MountAt {
    /// Where, absolute.
    pub point: PathBuf,
    /// How.
    pub options: MountOptions,
    /// Where, as it was asked for.
    pub asked: PathBuf,
    /// How it begins, when it is to be kept for the next process.
    pub begin: Option<Begin>,
}

/// What is to be served, and how.
pub struct Service {
    /// The store, absolute.
    pub store: PathBuf,
    /// Where and how to mount it, if it is to be mounted.
    pub mount: Option<MountAt>,
    /// The media node, if there is to be one.
    pub node: Option<NodeConfig>,
    /// Where it is told what happens.
    pub outlets: OutletConfig,
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
    serve(service, ready, log)
}

/// Opens, mounts and serves a volume until it is unmounted or the daemon is told to stop; then shuts it down. The exit code
/// tells whether the mount is gone or left to the next process.
///
/// # Errors
/// Those of [`Volume::open`], of the mount (exit code 32), and of the shutdown.
pub fn serve(mut service: Service, ready: Ready, log: &Log) -> std::result::Result<Exit, Failure> {
    log.catch_panics();
    process::give_memory_back();
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
    let served = serve_volume(service, &volume, ready, log, &runtime, signals);
    runtime.shutdown_timeout(GOODBYE_LIMIT);
    served
}

fn open(service: &Service, sources: &[KeySource]) -> Result<Arc<Volume>> {
    let begin = service.mount.as_ref().and_then(|mount| mount.begin.as_ref());
    let options = OpenOptions {
        index_cache_bytes: service.index_cache_bytes,
        contents_apart: service.mount.as_ref().is_some_and(|mount| mount.options.pass_through),
        witness: begin.map(|begin| begin.note() as _),
        takes_over: matches!(begin, Some(Begin::Outlived(_))),
        ..OpenOptions::default()
    };
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
    mut signals: Signals,
) -> std::result::Result<Exit, Failure> {
    let store = service.store.clone();
    let begun = begin(service, volume, ready, log, (runtime, &mut signals));
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
    outlets: Option<outlets::Running>,
    stops: mpsc::Receiver<Stop>,
    end: watch::Sender<bool>,
    supervisor: Supervisor,
    is_read_only: bool,
    server: tokio::task::JoinHandle<Result<()>>,
}

/// A volume that is mounted.
struct Mount {
    unmounter: Unmounter,
    gate: Gate,
    session: oneshot::Receiver<Result<Ended>>,
    /// Whether the service manager keeps it.
    is_kept: Arc<AtomicBool>,
    /// Whether somebody else mounts and unmounts.
    is_given: bool,
}

fn begin(
    mut service: Service,
    volume: &Arc<Volume>,
    ready: Ready,
    log: &Log,
    (runtime, signals): (&Runtime, &mut Signals),
) -> std::result::Result<Running, Failure> {
    let outlets = std::mem::take(&mut service.outlets);
    let node = match (service.node.take(), outlets.url.clone()) {
        (Some(config), event_url) => Some(node::prepare(volume, NodeConfig { event_url, ..config }, runtime)?),
        (None, Some(url)) => Some(node::prepare_events(volume, url)?),
        (None, None) => None,
    };
    let listener = socket::bind(&service.store)?;
    let mounting = service.mount.as_mut().map(|at| mount(at, (runtime, signals)));
    let (mounted, is_kept, is_given) = match mounting.transpose() {
        Ok(Some((mounted, is_kept, is_given))) => (Some(mounted), is_kept, is_given),
        Ok(None) => (None, Arc::default(), false),
        Err(error) => {
            remove_socket(&service);
            return Err(Failure::of_mount(error));
        }
    };
    ready.leave_session();
    let (stop_sender, stops) = mpsc::channel(1);
    let (end, ended) = watch::channel(false);
    let core = node.as_ref().map(node::Prepared::core);
    let door = core.clone().map_or_else(|| Door::new(Arc::clone(volume)), Door::to);
    let answers = VolumeService::new(Arc::clone(volume)).with_node(Arc::new(door)).read_only(service.is_read_only());
    let server = Server::new(hello(&service, volume), Arc::new(answers), stop_sender);
    let server = runtime.spawn(server.run(listener, ended));
    let is_service = !ready.is_background();
    let (answers_sender, answers) = oneshot::channel();
    let mut answering = Some(answering(&service, ready, log.clone(), answers_sender));
    let watched = mounted.as_ref().map(|mounted| (mounted.path().to_owned(), mounted.observer()));
    let mount = match (mounted, &service.mount) {
        (Some(mounted), Some(at)) => {
            let (unmounter, gate) = (mounted.unmounter(), mounted.gate());
            let answering = answering.take();
            match start_session(mounted, volume, at, || answering.into_iter().for_each(|tell| tell())) {
                Ok(session) => Some(Mount { unmounter, gate, session, is_kept, is_given }),
                Err(error) => {
                    remove_socket(&service);
                    return Err(Failure::of_mount(error));
                }
            }
        }
        _ => None,
    };
    let mount_point = service.mount.as_ref().map(|at| at.point.as_path());
    let outlets = outlets::start(outlets, volume, (&service.store, mount_point), core, runtime);
    let node = node.map(|node| node.start(runtime));
    // Without a mount it is the node that answers.
    answering.into_iter().for_each(|tell| tell());
    let _within = runtime.enter();
    let supervisor = Supervisor::start(volume, watched, answers, is_service);
    Ok(Running { mount, node, outlets, stops, end, supervisor, is_read_only: service.is_read_only(), server })
}

/// Mounts, waits for who mounts, or takes a mount over; tells whether it is kept, and whether somebody else unmounts it.
fn mount(at: &mut MountAt, (runtime, signals): (&Runtime, &mut Signals)) -> Result<(Mounted, Arc<AtomicBool>, bool)> {
    let is_kept = Arc::new(AtomicBool::new(false));
    let (device, note) = match at.begin.take() {
        None => return fs::mount(&at.point, &at.options).map(|mounted| (mounted, is_kept, false)),
        Some(Begin::Outlived(outlived)) => {
            is_kept.store(true, Ordering::Release);
            let is_given = outlived.is_given();
            return Ok((outlived.into_mounted(&at.options), is_kept, is_given));
        }
        Some(Begin::Anew(note)) => (None, note),
        Some(Begin::Given(device, note)) => (Some(device), note),
    };
    let is_given = device.is_some();
    let mut mounted = match device {
        None => fs::mount(&at.point, &at.options)?,
        Some(device) => runtime.block_on(wait_for_mount(device, at, signals))?,
    };
    let told = Arc::clone(&is_kept);
    let keeper = keeping::keeper(move || told.store(true, Ordering::Release));
    mounted.keep(note, at.asked.clone(), is_given, keeper);
    Ok((mounted, is_kept, is_given))
}

/// Has the service manager go on, which then mounts.
async fn wait_for_mount(device: OwnedFd, at: &MountAt, signals: &mut Signals) -> Result<Mounted> {
    supervisor::tell_waiting();
    let (point, options) = (at.point.clone(), at.options.clone());
    let mounting = blocking(move || fs::await_mount(device, &point, &options, MOUNT_PATIENCE));
    tokio::pin!(mounting);
    loop {
        tokio::select! {
            mounted = &mut mounting => return mounted,
            wish = signals.next() => match wish {
                Wish::End(name) => return Err(Error::new(Kind::Io, format!("{name} before it was mounted"))),
                Wish::HandOver => return Err(Error::new(Kind::Io, "told to hand over what was never mounted")),
                Wish::Reload => {}
            }
        }
    }
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
    hand_over: Signal,
}

impl Signals {
    fn listen() -> Result<Signals> {
        let listen = |kind| signal(kind).map_err(|e| Error::io("cannot listen for signals", e));
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            hand_over: listen(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next one.
    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::End("SIGTERM"),
            _ = self.interrupt.recv() => Wish::End("SIGINT"),
            _ = self.hangup.recv() => Wish::Reload,
            _ = self.hand_over.recv() => Wish::HandOver,
        }
    }
}

/// What a signal asks for.
enum Wish {
    End(&'static str),
    Reload,
    HandOver,
}

/// Why a daemon ends.
enum Ending {
    /// Somebody unmounted it, or the mount failed.
    Session(Result<Ended>),
    /// A signal.
    Signal(&'static str),
    /// The mount is for the next process.
    HandOver,
    /// The control socket; the mount is on its way out.
    Asked(Stop),
}

impl Running {
    async fn until_end(mut self, mut signals: Signals, volume: &Arc<Volume>, store: &std::path::Path) -> Result<Exit> {
        let ending = self.wait(&mut signals).await;
        self.supervisor.stop();
        let hands_over = matches!(ending, Ending::HandOver);
        let (outcome, asked) = match ending {
            Ending::Session(outcome) => {
                info!(?outcome, "the mount has ended");
                (outcome.map(drop), None)
            }
            Ending::Signal(name) => {
                info!("{name}: ending");
                (self.unmount().await, None)
            }
            Ending::HandOver => {
                info!("SIGUSR2: leaving the mount to the next process");
                (Ok(()), None)
            }
            Ending::Asked(stop) => {
                info!("asked to stop");
                (self.unmount().await, Some(stop.done))
            }
        };
        if let Some(outlets) = self.outlets.take() {
            outlets.stop().await;
        }
        if let Some(node) = self.node.take() {
            node.drain().await;
        }
        if hands_over {
            self.close_gate().await;
        } else if self.mount.as_ref().is_some_and(Mount::is_kept) {
            keeping::let_go();
        }
        // Before the store is free for another daemon, whose socket this could be otherwise.
        if let Err(error) = socket::remove(store) {
            warn!(%error, "the control socket stays behind");
        }
        let closing = Arc::clone(volume);
        let shutdown = blocking(move || if hands_over { closing.pass_on() } else { closing.shutdown() }).await;
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
        outcome.map(|()| if hands_over { Exit::HandedOver } else { Exit::Success })
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
                    Wish::HandOver if self.mount.as_ref().is_some_and(Mount::is_kept) => return Ending::HandOver,
                    Wish::HandOver => return Ending::Signal("SIGUSR2, and nobody keeps the mount"),
                    Wish::Reload if self.is_read_only => info!("SIGHUP: nothing to do, the volume is mounted to be read"),
                    Wish::Reload => self.supervisor.reload().await,
                },
                Some(stop) = self.stops.recv() => {
                    if self.mount.as_ref().is_some_and(|mount| mount.is_given) {
                        let message = "this daemon may not unmount: its service manager does, with `systemctl stop`";
                        drop(stop.done.send(Err(Error::new(Kind::NotPermitted, message))));
                        continue;
                    }
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
        if mount.is_given {
            // Whoever has mounted it takes it away when this process has ended; until then programs wait.
            self.close_gate().await;
            return Ok(());
        }
        let unmounter = mount.unmounter.clone();
        let stopped = blocking(move || Ok(unmounter.stop(STOP_GRACE))).await?;
        info!(?stopped, "unmounted");
        if let Ok(session) = tokio::time::timeout(STOP_GRACE, &mut mount.session).await {
            return ended_as(session).map(drop);
        }
        warn!("the mount is still held by another program; it is cut off when this process ends");
        self.close_gate().await;
        Ok(())
    }

    /// Answers what is under way and no further request.
    async fn close_gate(&self) {
        let Some(gate) = self.mount.as_ref().map(|mount| mount.gate.clone()) else { return };
        let closed = tokio::task::spawn_blocking(move || gate.close(GATE_PATIENCE)).await;
        if !closed.unwrap_or(false) {
            warn!("some requests are still under way");
        }
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

impl Mount {
    fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Acquire)
    }
}

fn ended_as(session: std::result::Result<Result<Ended>, oneshot::error::RecvError>) -> Result<Ended> {
    session.unwrap_or_else(|error| Err(Error::new(Kind::Io, "the mount's thread failed").with_source(error)))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::new(Kind::Io, "a thread of the daemon failed").with_source(error)))
}
