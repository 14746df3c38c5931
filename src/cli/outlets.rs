//! What happens in a served volume, told outside: to a program, and to a URL.
//!
//! The volume only puts a happening into a queue. What is told from there is told in order, one at a time, and a program or
//! server that hangs keeps nobody waiting but those behind it.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::output::printable;
use crate::error::{Error, Kind, Result};
use crate::node::{self, Core, Secret};
use crate::volume::{Happening, Listener, Volume};

/// Happenings that wait for one outlet.
const WAITING: usize = 64;
/// How long a program that is told to end may take.
const END_GRACE: Duration = Duration::from_secs(5);
/// How long what a program has printed is waited for when it has ended: what it has started may hold its output open.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);
/// Bytes of output of one run that go into the log.
const MAX_OUTPUT: u64 = 64 << 10;
/// The only search path of a program.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a program takes over from the daemon's environment, so that `wamedia` finds the daemon's socket.
const PASSED_ON: &str = "WAMEDIA_RUNTIME_DIR";

/// Where happenings are told.
#[derive(Clone, Debug, Default)]
pub struct OutletConfig {
    /// A program that is run.
    pub hook: Option<HookConfig>,
    /// A URL that is posted to.
    pub url: Option<Secret>,
}

/// A program that is run for each happening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookConfig {
    /// The program.
    pub program: PathBuf,
    /// How long one run may take.
    pub limit: Duration,
}

impl HookConfig {
    /// A program as an option names it.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for what cannot be run.
    pub fn new(program: &Path, limit: Duration) -> Result<HookConfig> {
        let program = std::path::absolute(program).map_err(|e| Error::io(program.display(), e))?;
        let found = std::fs::metadata(&program).map_err(|e| Error::io(format!("--hook {}", program.display()), e))?;
        if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
            let message = format!("--hook {}: not a program; make it executable with `chmod +x`", program.display());
            return Err(Error::new(Kind::Invalid, message));
        }
        Ok(HookConfig { program, limit })
    }
}

/// A URL as an option names it.
///
/// # Errors
/// `Invalid` when it is none.
pub fn event_url(text: &str) -> Result<Secret> {
    match url::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(Secret::new(text.to_owned())),
        _ => Err(Error::new(Kind::Invalid, "the URL for events is not an http or https URL")),
    }
}

/// Puts happenings into the queues.
struct Queues(Vec<(&'static str, mpsc::Sender<Happening>)>);

impl Listener for Queues {
    fn happened(&self, happening: &Happening) {
        for (whom, queue) in &self.0 {
            if queue.try_send(*happening).is_err() {
                warn!(event = happening.event.as_str(), "the {whom} is not told: it has not done with those before");
            }
        }
    }
}

/// Outlets that are told what happens.
pub struct Running {
    end: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Has happenings told from now on. `places` are the store, and where it is mounted; `core` keeps what goes to the URL.
#[must_use]
pub fn start(
    config: OutletConfig,
    volume: &Arc<Volume>,
    (store, mount): (&Path, Option<&Path>),
    core: Option<Arc<Core>>,
    runtime: &Runtime,
) -> Option<Running> {
    let (end, ended) = watch::channel(false);
    let (mut tasks, mut queues) = (JoinSet::new(), Vec::new());
    if let Some(hook) = config.hook {
        let (sender, waiting) = mpsc::channel(WAITING);
        queues.push(("hook", sender));
        let places = places(volume, store, mount);
        tasks.spawn_on(run_hooks(hook, places, waiting, ended.clone()), runtime.handle());
    }
    if let (Some(_), Some(core)) = (config.url, core) {
        let (sender, waiting) = mpsc::channel(WAITING);
        queues.push(("URL for events", sender));
        tasks.spawn_on(post(core, waiting, ended), runtime.handle());
    }
    if queues.is_empty() {
        return None;
    }
    volume.set_listener(Arc::new(Queues(queues)));
    Some(Running { end, tasks })
}

impl Running {
    /// Tells nothing more, and ends a program that runs.
    pub async fn stop(mut self) {
        // Nobody listens when all have ended already.
        let _ = self.end.send(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn post(core: Arc<Core>, mut waiting: mpsc::Receiver<Happening>, mut end: watch::Receiver<bool>) {
    loop {
        let happening = tokio::select! {
            next = waiting.recv() => next,
            _ = end.wait_for(|end| *end) => return,
        };
        let Some(happening) = happening else { return };
        tokio::select! {
            () = node::tell_happening(&core, &happening) => {}
            _ = end.wait_for(|end| *end) => return,
        }
    }
}

/// What every run is told of the volume.
fn places(volume: &Volume, store: &Path, mount: Option<&Path>) -> Vec<(&'static str, OsString)> {
    let mut places = vec![
        ("PATH", OsString::from(PATH)),
        ("WAMEDIA_VOLUME_ID", volume.id().to_string().into()),
        ("WAMEDIA_STORE", store.into()),
    ];
    places.extend(mount.map(|mount| ("WAMEDIA_MOUNT", mount.into())));
    places.extend(std::env::var_os(PASSED_ON).map(|value| (PASSED_ON, value)));
    places
}

fn variables(happening: &Happening) -> [(&'static str, String); 7] {
    [
        ("WAMEDIA_EVENT", happening.event.as_str().to_owned()),
        ("WAMEDIA_TIME", happening.at.rfc3339()),
        ("WAMEDIA_USED_BYTES", happening.used_bytes.to_string()),
        ("WAMEDIA_SIZE_BYTES", happening.size_bytes.to_string()),
        ("WAMEDIA_PERCENT", happening.percent.to_string()),
        ("WAMEDIA_COUNT", happening.count.to_string()),
        ("WAMEDIA_BYTES", happening.bytes.to_string()),
    ]
}

async fn run_hooks(
    hook: HookConfig,
    places: Vec<(&'static str, OsString)>,
    mut waiting: mpsc::Receiver<Happening>,
    mut end: watch::Receiver<bool>,
) {
    loop {
        let happening = tokio::select! {
            next = waiting.recv() => next,
            _ = end.wait_for(|end| *end) => return,
        };
        let Some(happening) = happening else { return };
        let event = happening.event.as_str();
        let mut command = Command::new(&hook.program);
        command
            .arg(event)
            .env_clear()
            .envs(places.iter().map(|(name, value)| (*name, value)))
            .envs(variables(&happening))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        match command.spawn() {
            Ok(child) => watch_over(child, event, hook.limit, &mut end).await,
            Err(error) => warn!(event, %error, "the hook cannot be run"),
        }
    }
}

/// Waits for a run, for as long as it may take, and has its output logged.
async fn watch_over(mut child: Child, event: &'static str, limit: Duration, end: &mut watch::Receiver<bool>) {
    let mut logs = JoinSet::new();
    if let Some(output) = child.stdout.take() {
        logs.spawn(log_lines(output, event));
    }
    if let Some(output) = child.stderr.take() {
        logs.spawn(log_lines(output, event));
    }
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let ended = tokio::select! {
        ended = child.wait() => Some(ended),
        () = tokio::time::sleep(limit) => None,
        _ = end.wait_for(|end| *end) => None,
    };
    match ended {
        Some(Ok(status)) if status.success() => info!(event, "the hook was run"),
        Some(Ok(status)) => warn!(event, "the hook has failed: {status}"),
        Some(Err(error)) => warn!(event, %error, "the hook cannot be waited for"),
        None => {
            warn!(event, "the hook has not ended in time and is ended");
            signal(group, Signal::TERM);
            if tokio::time::timeout(END_GRACE, child.wait()).await.is_err() {
                signal(group, Signal::KILL);
                let _ended = child.wait().await;
            }
        }
    }
    let _cut_off = tokio::time::timeout(OUTPUT_GRACE, async { while logs.join_next().await.is_some() {} }).await;
}

/// Signals a run and all that it has started.
fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // All of it has ended already.
        let _gone = kill_process_group(group, signal);
    }
}

async fn log_lines(output: impl AsyncRead + Unpin, event: &'static str) {
    let mut lines = BufReader::new(output.take(MAX_OUTPUT));
    let mut line = Vec::new();
    while matches!(lines.read_until(b'\n', &mut line).await, Ok(read) if read > 0) {
        info!(event, "the hook says: {}", printable(String::from_utf8_lossy(&line).trim_end()));
        line.clear();
    }
    // So that it does not wait for somebody to read the rest.
    let _ended = tokio::io::copy(&mut lines.into_inner().into_inner(), &mut tokio::io::sink()).await;
}
