//! How a node is run.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Where it listens.
    pub listen: SocketAddr,
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
        NodeConfig {
            listen,
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
        }
    }
}
