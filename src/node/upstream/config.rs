//! What an upstream is made from.

use std::path::PathBuf;
use std::time::Duration;

use crate::node::Secret;

/// The Cloud API's published base URL.
pub const CLOUD_API_BASE: &str = "https://graph.facebook.com/v21.0";
/// 360dialog's published base URL for v2.
pub const DIALOG_360_BASE: &str = "https://waba-v2.360dialog.io";

/// Which upstream, and how to get in.
#[derive(Clone, Debug)]
pub enum UpstreamConfig {
    /// Meta's Cloud API.
    CloudApi {
        /// `http` or `https`; usually [`CLOUD_API_BASE`].
        base: String,
        /// The sender's phone number id: letters and digits.
        phone_number_id: String,
        /// The access token.
        token: Secret,
        /// How long to wait.
        timeouts: Timeouts,
    },
    /// 360dialog's v2 API.
    Dialog360 {
        /// `http` or `https`; usually [`DIALOG_360_BASE`].
        base: String,
        /// The key of one phone number.
        api_key: Secret,
        /// How long to wait.
        timeouts: Timeouts,
    },
    /// A directory: `media/<id>` holds the bytes of a medium, `media/<id>.json` beside it `{"mime_type": ...}`; messages
    /// sent are `messages/<id>.json`.
    Directory {
        /// The directory; what is missing of it is made.
        path: PathBuf,
    },
}

/// How long an upstream is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// From the end of a request until the end of its answer, or the beginning of a medium's bytes. Keep it above `connect`.
    pub answer: Duration,
    /// Between two pieces of a medium, up or down.
    pub idle: Duration,
}

impl Default for Timeouts {
    /// 10 s, 30 s, 30 s.
    fn default() -> Timeouts {
        Timeouts { connect: Duration::from_secs(10), answer: Duration::from_secs(30), idle: Duration::from_secs(30) }
    }
}
