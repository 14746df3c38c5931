//! The upstream stand-in: a small server in the place of Meta's, and of 360dialog's in front of them, which cannot be reached in a
//! test. It shares no code with the clients it tries, checks what they send, and keeps a record of it.
//!
//! It follows these published pages, as far as media and messages go:
//! - Cloud API, Reference, "Media": upload, lookup, download, deletion; "Supported Media Types" for types and sizes;
//! - Cloud API, Reference, "Messages", and its guides for audio, document, image, sticker, video and text messages;
//! - Cloud API, "Error codes", and Graph API, "Error handling", for statuses, codes and the error body;
//! - Graph API, "Webhooks": verification requests, `X-Hub-Signature-256`; Cloud API, "Webhooks components" for the notifications;
//! - 360dialog, "Upload, retrieve or delete media": the key header, paths without a version or number, the url's host
//!   replaced by the API's.
//!
//! Not published, and chosen here: the code with which an upload of a wrong type (100) or size (131053) is refused, the
//! body of 360dialog's 401, status 404 without a body for an expired url, and that a message with a media id that is not
//! there is refused at once (100/33) rather than by webhook.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod answers;
mod graph;
mod knobs;
mod media;
mod messages;
mod serve;
pub mod webhooks;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use knobs::{Call, Fault};

/// Which of the two APIs it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `Authorization: Bearer`, paths below a version, a phone number id in them.
    CloudApi,
    /// `D360-API-KEY`, paths from the root.
    Dialog360,
}

/// The version in the Cloud API's paths.
pub const VERSION: &str = "v21.0";
/// The one phone number id that is known.
pub const PHONE_NUMBER_ID: &str = "106540352242922";
/// The one token, or key, that is let in.
pub const TOKEN: &str = "EAAJB-the-token-of-the-test";
/// What notifications are signed with.
pub const APP_SECRET: &str = "the-app-secret-of-the-test";
/// How long a url is valid, unless a test says otherwise.
pub const URL_LIFE: Duration = Duration::from_secs(300);

/// A medium the stand-in has.
#[derive(Clone)]
pub struct Medium {
    pub bytes: Bytes,
    pub mime_type: String,
    pub filename: Option<String>,
}

impl Medium {
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes).into()
    }
}

/// An upload it took.
#[derive(Clone, Debug)]
pub struct Upload {
    pub id: String,
    pub mime_type: String,
    pub filename: Option<String>,
    pub length: usize,
    pub sha256: [u8; 32],
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Every request: method and path with query, in the order of their coming.
    pub requests: Vec<String>,
    /// The uploads that were taken.
    pub uploads: Vec<Upload>,
    /// The messages that were taken: id and body. One whose answer was then dropped is among them.
    pub messages: Vec<(String, Value)>,
    /// The media ids that were deleted.
    pub deleted: Vec<String>,
    /// How often bytes were given, wholly or in part.
    pub downloads: usize,
    /// How often the token or key was missing or wrong.
    pub denied: usize,
    /// Requests without a `User-Agent`, which Meta's media servers refuse.
    pub without_agent: usize,
}

struct State {
    media: HashMap<String, Medium>,
    /// By the url's path and query: which medium, until when.
    urls: HashMap<String, (String, Instant)>,
    url_life: Duration,
    next: u64,
    faults: Vec<(Call, Fault, usize)>,
    /// Changes to what a lookup says.
    lookup_patch: Option<Value>,
    seen: Seen,
}

struct Shared {
    dialect: Dialect,
    address: SocketAddr,
    /// Scheme and host in urls, when they are to be others than its own.
    url_host: Mutex<Option<String>>,
    state: Mutex<State>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// A running stand-in; stops when dropped.
pub struct StandIn {
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

impl StandIn {
    /// Starts on a free port of 127.0.0.1.
    pub async fn start(dialect: Dialect) -> StandIn {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State {
            media: HashMap::new(),
            urls: HashMap::new(),
            url_life: URL_LIFE,
            next: 1_166_846_181_421_424,
            faults: Vec::new(),
            lookup_patch: None,
            seen: Seen::default(),
        };
        let shared = Arc::new(Shared {
            dialect,
            address: listener.local_addr().unwrap(),
            // The Cloud API's media are on a host that 360dialog's clients never ask.
            url_host: Mutex::new((dialect == Dialect::Dialog360).then(|| "https://lookaside.fbsbx.com".to_owned())),
            state: Mutex::new(state),
        });
        let server = tokio::spawn(serve::serve(listener, graph::router(shared.clone())));
        StandIn { shared, server }
    }

    /// What a client is to be configured with.
    pub fn base(&self) -> String {
        match self.shared.dialect {
            Dialect::CloudApi => format!("http://{}/{VERSION}", self.shared.address),
            Dialect::Dialog360 => format!("http://{}", self.shared.address),
        }
    }

    /// What was seen until now.
    pub fn seen(&self) -> Seen {
        self.shared.state().seen.clone()
    }

    /// Has a medium, as if a user had sent it; gives its id.
    pub fn put_medium(&self, bytes: &[u8], mime_type: &str) -> String {
        let medium = Medium { bytes: Bytes::copy_from_slice(bytes), mime_type: mime_type.to_owned(), filename: None };
        self.shared.state().add(medium)
    }

    /// The medium with an id.
    pub fn medium(&self, id: &str) -> Option<Medium> {
        self.shared.state().media.get(id).cloned()
    }

    /// Forgets a medium, as if its 7 or 30 days were over.
    pub fn forget(&self, id: &str) {
        self.shared.state().media.remove(id);
    }

    /// How long the urls of coming lookups are valid.
    pub fn set_url_life(&self, life: Duration) {
        self.shared.state().url_life = life;
    }

    /// Ends the validity of all urls given out.
    pub fn expire_urls(&self) {
        self.shared.state().urls.clear();
    }

    /// Has the urls of coming lookups begin with this scheme and host.
    pub fn set_url_host(&self, host: &str) {
        *self.shared.url_host.lock().unwrap() = Some(host.to_owned());
    }

    /// Has coming lookups answer with these members in place of the true ones; `null` takes one away.
    pub fn patch_lookup(&self, members: Value) {
        self.shared.state().lookup_patch = Some(members);
    }

    /// Has the next `times` calls of a kind go wrong.
    pub fn fail(&self, call: Call, fault: Fault, times: usize) {
        self.shared.state().faults.push((call, fault, times));
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl State {
    fn add(&mut self, medium: Medium) -> String {
        self.next += 7;
        let id = self.next.to_string();
        self.media.insert(id.clone(), medium);
        id
    }
}
