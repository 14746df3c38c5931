//! The upstreams: where media that users sent come from, and where uploads and messages go.
//!
//! Three of them: Meta's Cloud API, 360dialog's v2 API, which is the Cloud API under another host with another key, and
//! a directory, for trials and for hosts that hand media over by other means. All calls may be made from any number of
//! tasks at once. Nothing here tries again by itself: [`UpstreamError`] says whether that may help.

mod config;
mod directory;
mod error;
mod failure;
mod graph;
mod health;
mod sending;

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;

pub use config::{CLOUD_API_BASE, DIALOG_360_BASE, Timeouts, UpstreamConfig};
pub use error::{Refusal, UpstreamError};
pub use health::UpstreamHealth;

use super::arriving::Arriving;
use crate::error::Result;
use directory::Directory;
use graph::Graph;
use health::Record;

/// The most bytes of a medium: what the Cloud API takes and gives (100 MB, "Supported Media Types").
pub const MAX_MEDIUM_BYTES: u64 = 100 * 1024 * 1024;

/// The bytes of a medium on their way to the upstream.
pub type Source = BoxStream<'static, io::Result<Bytes>>;

/// What an upstream says of a medium.
#[derive(Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The upstream's media id.
    pub id: String,
    /// Where its bytes are, for five minutes; only [`Upstream::open`] knows how to ask there.
    pub url: String,
    /// The content type, as the upstream writes it.
    pub mime_type: String,
    /// The digest of its bytes, when the upstream tells it.
    pub sha256: Option<[u8; 32]>,
    /// How many bytes it has, when the upstream tells it.
    pub file_size: Option<u64>,
}

impl fmt::Debug for Lookup {
    /// All but the url, which holds a key of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup")
            .field("id", &self.id)
            .field("mime_type", &self.mime_type)
            .field("file_size", &self.file_size)
            .finish_non_exhaustive()
    }
}

/// A message that the upstream took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The ids by which webhooks will speak of it; never empty.
    pub ids: Vec<String>,
}

/// The bytes of a medium as they come from the upstream. Of the content types it is [`Lookup::mime_type`] that counts.
pub type Body = Arriving<UpstreamError>;

/// One upstream. Cheap to clone; the clones share connections.
#[derive(Clone)]
pub struct Upstream(Arc<Inner>);

struct Inner {
    way: Way,
    record: Record,
}

enum Way {
    Graph(Graph),
    Directory(Directory),
}

impl Upstream {
    /// Makes ready what `config` describes. No server is asked; a directory upstream's directories are made.
    ///
    /// # Errors
    /// `Invalid` when the configuration makes no sense; `Io` when TLS or the directories cannot be set up.
    pub fn new(config: UpstreamConfig) -> Result<Upstream> {
        let way = match config {
            UpstreamConfig::Directory { path } => Way::Directory(Directory::new(path)?),
            config => Way::Graph(Graph::new(config)?),
        };
        Ok(Upstream(Arc::new(Inner { way, record: Record::default() })))
    }

    /// How it has answered since the start.
    #[must_use]
    pub fn health(&self) -> UpstreamHealth {
        let kind = match &self.0.way {
            Way::Graph(_) => "cloud",
            Way::Directory(_) => "directory",
        };
        self.0.record.health(kind)
    }

    /// Asks what the medium `id` is and where its bytes are.
    ///
    /// # Errors
    /// [`UpstreamError`]; `UnknownId` when there is no such medium, or it is too old (30 days for uploads, 7 for media
    /// from webhooks).
    pub async fn lookup(&self, id: &str) -> std::result::Result<Lookup, UpstreamError> {
        let outcome = match &self.0.way {
            Way::Graph(graph) => graph.lookup(id).await,
            Way::Directory(directory) => directory.lookup(id).await,
        };
        self.0.record.note(outcome)
    }

    /// Begins to read the bytes of a medium. No more than [`MAX_MEDIUM_BYTES`] are read.
    ///
    /// # Errors
    /// [`UpstreamError`]; `UrlExpired` when the medium must be looked up again, `Differs` when it is not as long as the
    /// lookup said.
    pub async fn open(&self, lookup: &Lookup) -> std::result::Result<Body, UpstreamError> {
        let outcome = match &self.0.way {
            Way::Graph(graph) => graph.open(lookup).await,
            Way::Directory(directory) => directory.open(lookup).await,
        };
        self.0.record.note(outcome)
    }

    /// Hands over a medium of exactly `length` bytes; gives the upstream's id for it. With an error the upstream has
    /// no medium that anyone knows of: trying again does no harm.
    ///
    /// # Errors
    /// [`UpstreamError`]; `Local` when `source` failed or had another length.
    pub async fn upload(
        &self,
        source: Source,
        length: u64,
        mime_type: &str,
        filename: &str,
    ) -> std::result::Result<String, UpstreamError> {
        let outcome = match &self.0.way {
            Way::Graph(graph) => graph.upload(source, length, mime_type, filename).await,
            Way::Directory(directory) => directory.upload(source, length, mime_type, filename).await,
        };
        self.0.record.note(outcome)
    }

    /// Has the upstream forget a medium.
    ///
    /// # Errors
    /// [`UpstreamError`]; `UnknownId` when it has no such medium.
    pub async fn delete(&self, id: &str) -> std::result::Result<(), UpstreamError> {
        let outcome = match &self.0.way {
            Way::Graph(graph) => graph.delete(id).await,
            Way::Directory(directory) => directory.delete(id).await,
        };
        self.0.record.note(outcome)
    }

    /// Sends a message, as the Cloud API's `messages` takes it.
    ///
    /// # Errors
    /// [`UpstreamError`]. With all but [`UpstreamError::OutcomeUnknown`] the message was certainly not sent.
    pub async fn send(&self, message: &serde_json::Value) -> std::result::Result<Sent, UpstreamError> {
        let outcome = match &self.0.way {
            Way::Graph(graph) => graph.send(message).await,
            Way::Directory(directory) => directory.send(message).await,
        };
        self.0.record.note(outcome)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0.way {
            Way::Graph(_) => "Upstream (HTTP)",
            Way::Directory(_) => "Upstream (directory)",
        })
    }
}
