//! The media node as the command line starts and asks it.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use super::args::{NodeArgs, UpstreamArg};
use super::session::{self, Session};
use crate::control::{NodeDoor, Reply, Request};
use crate::error::{Error, Kind, Result};
use crate::node::admin::{self, Answer, Wish};
use crate::node::config::FileModes;
use crate::node::fetch::FetchConfig;
use crate::node::upstream::{CLOUD_API_BASE, DIALOG_360_BASE, Timeouts, UpstreamConfig};
use crate::node::{self, Core, NodeConfig, NotificationConfig, Secret, TlsFiles};
use crate::volume::Volume;
use parking_lot::Mutex;

/// Where a node listens that is told nothing else.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// The configuration that the command line asks for; `None` when it asks for no node.
///
/// # Errors
/// `Invalid` for options that need `--listen`.
pub fn config_of(args: &NodeArgs, default: Option<SocketAddr>) -> Result<Option<NodeConfig>> {
    let listen = args.listen.or(default);
    if listen.is_none() && !args.is_of_page_alone() {
        return Err(Error::new(Kind::Invalid, "options of the media node need --listen ADDRESS"));
    }
    if listen.is_none() && args.page.is_none() {
        return match args.is_empty() {
            true => Ok(None),
            false => Err(Error::new(Kind::Invalid, "--tls-cert and --tls-key need --listen ADDRESS or --page")),
        };
    }
    let tls = args.tls_cert.clone().zip(args.tls_key.clone()).map(|(cert, key)| TlsFiles { cert, key });
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let defaults = NodeConfig::silent();
    Ok(Some(NodeConfig {
        listen,
        page: args.page,
        tls,
        created_status: args.created_status.unwrap_or(defaults.created_status),
        strict: args.strict,
        max_upload_bytes: args.max_upload.unwrap_or(defaults.max_upload_bytes),
        requests_per_second: args.requests_per_second.unwrap_or(defaults.requests_per_second),
        files: FileModes { uid, gid, ..defaults.files },
        upstream: args.upstream.map(|kind| upstream_of(kind, args)).transpose()?,
        notifications: NotificationConfig {
            name: args.notifications.clone().unwrap_or(defaults.notifications.name),
            app_secret: args.app_secret_file.as_deref().map(secret_in).transpose()?,
            verify_token: args.verify_token_file.as_deref().map(secret_in).transpose()?,
        },
        hold_messages: args.hold_messages.unwrap_or(defaults.hold_messages),
        settle_grace: args.settle_grace.unwrap_or(defaults.settle_grace),
        fetch: FetchConfig { allow: args.allow_private_network.clone(), ..defaults.fetch },
        ..defaults
    }))
}

fn upstream_of(kind: UpstreamArg, args: &NodeArgs) -> Result<UpstreamConfig> {
    let token = || match &args.upstream_token_file {
        Some(path) => secret_in(path),
        None => Err(Error::new(Kind::Invalid, "this upstream needs --upstream-token-file FILE")),
    };
    let base = |published: &str| args.upstream_url.clone().unwrap_or_else(|| published.to_owned());
    let timeouts = Timeouts::default();
    match kind {
        UpstreamArg::Cloud => {
            let phone_number_id = args.phone_number_id.clone().ok_or_else(|| {
                Error::new(
                    Kind::Invalid,
                    "the Cloud API needs --phone-number-id ID, the number that messages come from",
                )
            })?;
            Ok(UpstreamConfig::CloudApi { base: base(CLOUD_API_BASE), phone_number_id, token: token()?, timeouts })
        }
        UpstreamArg::Dialog360 => {
            Ok(UpstreamConfig::Dialog360 { base: base(DIALOG_360_BASE), api_key: token()?, timeouts })
        }
        UpstreamArg::Directory => match &args.upstream_directory {
            Some(path) => Ok(UpstreamConfig::Directory { path: std::path::absolute(path).unwrap_or(path.clone()) }),
            None => Err(Error::new(Kind::Invalid, "this upstream needs --upstream-directory DIR")),
        },
    }
}

/// How long events that are being posted may take at the end, before they are left for the next start.
const EVENTS_DRAIN: Duration = Duration::from_secs(2);
/// Bytes a file with a secret may have.
const MAX_SECRET_FILE: u64 = 64 << 10;

/// The first line of a file.
///
/// # Errors
/// `Io`; `Invalid` when it is empty.
pub fn secret_in(path: &Path) -> Result<Secret> {
    let named = |error| Error::io(path.display(), error);
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(named)?;
    file.take(MAX_SECRET_FILE).read_to_string(&mut text).map_err(named)?;
    match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => Ok(Secret::new(line.to_owned())),
        None => Err(Error::new(Kind::Invalid, format!("the first line of {} is empty", path.display()))),
    }
}

/// A node that is about to answer: its address is taken, its certificate read.
pub struct Prepared {
    core: Arc<Core>,
    api: Option<TcpListener>,
    page: Option<TcpListener>,
    tls: Option<TlsAcceptor>,
}

/// Takes the address and reads what the volume keeps.
///
/// # Errors
/// `Io` for the address, `Invalid` for the certificate, and those of the volume.
pub fn prepare(volume: &Arc<Volume>, config: NodeConfig, runtime: &Runtime) -> Result<Prepared> {
    let tls = config.tls.as_ref().map(node::server::acceptor).transpose()?;
    let bind = |address: Option<SocketAddr>| {
        let Some(address) = address else { return Ok(None) };
        if tls.is_none() && !address.ip().is_loopback() {
            warn!("the media node listens at {address} without TLS: tokens and media can be read on the way");
        }
        runtime.block_on(node::server::bind(address)).map(Some)
    };
    let (api, page) = (bind(config.listen)?, bind(config.page)?);
    let core = Core::new(Arc::clone(volume), config)?;
    Ok(Prepared { core, api, page, tls })
}

/// The same for a volume without a node that answers: it keeps events for a URL, and posts them.
///
/// # Errors
/// `Damaged`, `Io`.
pub fn prepare_events(volume: &Arc<Volume>, url: Secret) -> Result<Prepared> {
    let config = NodeConfig { event_url: Some(url), drain_timeout: EVENTS_DRAIN, ..NodeConfig::new(DEFAULT_LISTEN) };
    Ok(Prepared { core: Core::new(Arc::clone(volume), config)?, api: None, page: None, tls: None })
}

impl Prepared {
    /// What it shares with the volume's other parts.
    #[must_use]
    pub fn core(&self) -> Arc<Core> {
        Arc::clone(&self.core)
    }

    /// Answers requests from now on.
    #[must_use]
    pub fn start(self, runtime: &Runtime) -> Running {
        let Prepared { core, api, page, tls } = self;
        let (end, ended) = watch::channel(false);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let tell = |what: &str, listener: &TcpListener| {
            if let Ok(address) = listener.local_addr() {
                info!("{what} answers at {scheme}://{address}");
            }
        };
        let mut tasks = Vec::new();
        let work = match (&api, &core.config.event_url) {
            (Some(_), _) => Some(runtime.spawn(node::work(Arc::clone(&core), ended.clone()))),
            (None, Some(_)) => Some(runtime.spawn(node::work_for_events(Arc::clone(&core), ended.clone()))),
            (None, None) => None,
        };
        if let Some(listener) = api {
            tell("the media node", &listener);
            let app = node::router::router(&core);
            tasks.push(runtime.spawn(node::serve(Arc::clone(&core), app, listener, tls.clone(), ended.clone())));
        }
        if let Some(listener) = page {
            tell("the page", &listener);
            let app = node::page::app(&core, tls.is_some());
            tasks.push(runtime.spawn(node::serve(core, app, listener, tls, ended)));
        }
        Running { end, tasks, work }
    }
}

/// A node that answers, or what only posts events.
pub struct Running {
    end: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    work: Option<JoinHandle<Result<()>>>,
}

impl Running {
    /// Lets it take no more requests and begin no more work, and waits for what is under way.
    pub async fn drain(self) {
        // Nobody listens when it has ended already.
        let _ = self.end.send(true);
        for task in self.tasks {
            if let Err(error) = task.await {
                warn!(%error, "the media node failed");
            }
        }
        let Some(work) = self.work else { return };
        match work.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(%error, "the work of the media node failed"),
            Err(error) => error!(%error, "the work of the media node failed"),
        }
    }
}

/// Answers what is asked of the node; reads what the volume keeps for it when that is asked for.
pub struct Door {
    volume: Arc<Volume>,
    core: Mutex<Option<Arc<Core>>>,
}

impl Door {
    /// The door of a volume without a node that runs.
    #[must_use]
    pub fn new(volume: Arc<Volume>) -> Door {
        Door { volume, core: Mutex::new(None) }
    }

    /// The door of what runs.
    #[must_use]
    pub fn to(core: Arc<Core>) -> Door {
        Door { volume: Arc::clone(&core.volume), core: Mutex::new(Some(core)) }
    }

    fn core(&self) -> Result<Arc<Core>> {
        let mut core = self.core.lock();
        if let Some(core) = &*core {
            return Ok(Arc::clone(core));
        }
        let made = Core::new(Arc::clone(&self.volume), NodeConfig::silent())?;
        Ok(Arc::clone(core.insert(made)))
    }
}

impl NodeDoor for Door {
    fn answer(&self, wish: serde_json::Value) -> Result<serde_json::Value> {
        admin::answer(&*self.core()?, wish)
    }

    fn figures(&self) -> Result<serde_json::Value> {
        let figures = node::figures::figures(&*self.core()?)?;
        serde_json::to_value(figures)
            .map_err(|error| Error::new(Kind::Io, "the figures are no JSON").with_source(error))
    }

    fn metrics(&self) -> Result<String> {
        node::metrics::classic(&*self.core()?)
    }
}

/// Asks the node of a session.
///
/// # Errors
/// The node's own; `Version` for an answer to another question.
pub fn ask(session: &mut Session, wish: &Wish) -> Result<Answer> {
    let wish = serde_json::to_value(wish).map_err(|_| session::unexpected())?;
    match session.ask_quietly(&Request::Node { wish })? {
        Reply::Node(answer) => serde_json::from_value(answer).map_err(|_| session::unexpected()),
        _ => Err(session::unexpected()),
    }
}
