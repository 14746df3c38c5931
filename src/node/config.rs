//! How a node is run.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::fetch::FetchConfig;
use super::secret::Secret;
use super::upstream::UpstreamConfig;
use crate::volume::hex;

/// The certificate chain and the key a node shows, as PEM files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, the node's own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How a node is run; the defaults are safe.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where it answers the HTTP media API; none: nowhere, and no work is done.
    pub listen: Option<SocketAddr>,
    /// Where it shows the page; none: nowhere.
    pub page: Option<SocketAddr>,
    /// With TLS, when given.
    pub tls: Option<TlsFiles>,
    /// The status that answers an upload: 201, or 200 for clients that take nothing else.
    pub created_status: u16,
    /// Whether an upload that WhatsApp would refuse is refused at once, instead of when it is sent.
    pub strict: bool,
    /// Bytes an upload may have.
    pub max_upload_bytes: u64,
    /// Connections at a time.
    pub max_connections: usize,
    /// Uploads at a time.
    pub max_uploads: usize,
    /// Requests a second that one token may make in the long run.
    pub requests_per_second: u32,
    /// How long a client may take to send its header.
    pub header_timeout: Duration,
    /// How long a client may send or take nothing in the middle of a request or an answer.
    pub stall_timeout: Duration,
    /// How long answers under way may take when the node is told to stop.
    pub drain_timeout: Duration,
    /// Users and groups of the files it makes, and their modes.
    pub files: FileModes,
    /// Where inbound media come from and messages go; none: the node only keeps media.
    pub upstream: Option<UpstreamConfig>,
    /// Which notifications of the upstream are taken.
    pub notifications: NotificationConfig,
    /// How links in messages are fetched.
    pub fetch: FetchConfig,
    /// How long a message is held back until its medium is stored. After that it is passed on with the word that the medium is
    /// not downloaded, and a webhook tells when it is.
    pub hold_messages: Duration,
    /// How long a status is waited for of a message of which nobody knows whether it was sent, before that is told.
    pub settle_grace: Duration,
    /// Where the operator is told what happens in the volume. It may hold a secret.
    pub event_url: Option<Secret>,
}

/// Which notifications of the upstream are taken, at `/webhooks/{name}`. With neither secret nor token: none.
#[derive(Clone, Debug)]
pub struct NotificationConfig {
    /// The name in the path.
    pub name: String,
    /// What the upstream signs notifications with. With it only signed ones are taken.
    pub app_secret: Option<Secret>,
    /// What the upstream shows to verify the URL, and without an app secret with every notification: as a bearer token,
    /// or in the path in place of the name. Make it long and random.
    pub verify_token: Option<Secret>,
}

impl Default for NotificationConfig {
    fn default() -> NotificationConfig {
        NotificationConfig { name: "cloud".to_owned(), app_secret: None, verify_token: None }
    }
}

/// What tells an upstream from others: its media ids mean nothing to them. Holds no secret.
#[must_use]
pub(super) fn identity_of(upstream: &UpstreamConfig) -> String {
    match upstream {
        UpstreamConfig::CloudApi { base, phone_number_id, .. } => format!("cloud {base} {phone_number_id}"),
        UpstreamConfig::Dialog360 { base, api_key, .. } => {
            let digest = Sha256::digest(api_key.expose().as_bytes());
            format!("360dialog {base} {}", hex(&digest))
        }
        UpstreamConfig::Directory { path } => format!("directory {}", path.display()),
    }
}

/// Whose the files are that the node makes. Containers of other users read and write the volume, so the modes are open;
/// who may reach the mount is for its own mode and options to say.
#[derive(Clone, Copy, Debug)]
pub struct FileModes {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Mode of a medium.
    pub file: u32,
    /// Mode of a directory.
    pub directory: u32,
}

impl NodeConfig {
    /// The defaults, listening at `listen`.
    #[must_use]
    pub fn new(listen: SocketAddr) -> NodeConfig {
        NodeConfig { listen: Some(listen), ..NodeConfig::silent() }
    }

    /// The defaults of a node that answers nobody.
    #[must_use]
    pub fn silent() -> NodeConfig {
        NodeConfig {
            listen: None,
            page: None,
            tls: None,
            created_status: 201,
            strict: false,
            max_upload_bytes: 100 << 20,
            max_connections: 1024,
            max_uploads: 256,
            requests_per_second: 500,
            header_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            files: FileModes { uid: 0, gid: 0, file: 0o666, directory: 0o777 },
            upstream: None,
            notifications: NotificationConfig::default(),
            fetch: FetchConfig::default(),
            hold_messages: Duration::from_secs(15 * 60),
            settle_grace: Duration::from_secs(10 * 60),
            event_url: None,
        }
    }

    /// [`NodeConfig::hold_messages`] in milliseconds.
    pub(super) fn hold_messages_ms(&self) -> i64 {
        i64::try_from(self.hold_messages.as_millis()).unwrap_or(i64::MAX)
    }

    /// [`NodeConfig::settle_grace`] in milliseconds.
    pub(super) fn settle_grace_ms(&self) -> i64 {
        i64::try_from(self.settle_grace.as_millis()).unwrap_or(i64::MAX)
    }
}
