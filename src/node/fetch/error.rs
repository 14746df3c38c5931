//! Why a link was not fetched.

use std::time::Duration;

use crate::node::client::{Broken, bounded};

/// A link that was not fetched, or not wholly. None of the texts holds the link or a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The link, or one it redirects to, can never be fetched.
    #[error("the link cannot be fetched: {why}")]
    BadLink {
        /// What is wrong with it.
        why: String,
    },
    /// It leads into a private or special network that is not allowed.
    #[error("the link leads to {host}, which is in a private network; allow that network if it is meant")]
    PrivateAddress {
        /// The host that was asked for, bounded.
        host: String,
    },
    /// Redirected too often.
    #[error("the link is redirected more than {most} times")]
    TooManyRedirects {
        /// How many redirects are followed.
        most: u32,
    },
    /// No connection, or one that was lost.
    #[error("the link's server cannot be reached: {why}")]
    Unreachable {
        /// What happened.
        why: String,
    },
    /// Not there in time.
    #[error("the link's server is too slow: {why}")]
    TooSlow {
        /// What took too long.
        why: String,
    },
    /// The server answered with another status than 200.
    #[error("the link's server answers with status {status}")]
    Status {
        /// The status.
        status: u16,
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
    },
    /// More bytes than a medium may have.
    #[error("the link's medium has more than {most} bytes")]
    TooLarge {
        /// How many it may have.
        most: u64,
    },
    /// The server sends it compressed though it was asked not to.
    #[error("the link's server sends the medium encoded, which was not asked for")]
    Encoded,
}

impl FetchError {
    /// Whether the same link may be fetched later without anybody mending anything.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            FetchError::Unreachable { .. } | FetchError::TooSlow { .. } => true,
            FetchError::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            FetchError::BadLink { .. }
            | FetchError::PrivateAddress { .. }
            | FetchError::TooManyRedirects { .. }
            | FetchError::TooLarge { .. }
            | FetchError::Encoded => false,
        }
    }

    pub(super) fn link(why: &str) -> FetchError {
        FetchError::BadLink { why: why.to_owned() }
    }

    pub(super) fn private(host: &str) -> FetchError {
        FetchError::PrivateAddress { host: bounded(host) }
    }

    pub(super) fn slow(within: Duration) -> FetchError {
        FetchError::TooSlow { why: format!("no end within {}", crate::clock::short(within)) }
    }
}

impl From<Broken> for FetchError {
    fn from(broken: Broken) -> FetchError {
        match broken {
            Broken::Late(within) => FetchError::slow(within),
            Broken::Idle(..) => FetchError::TooSlow { why: broken.to_string() },
            Broken::Cut(..) | Broken::Short(..) => FetchError::Unreachable { why: broken.to_string() },
            Broken::TooLong(most) => FetchError::TooLarge { most },
        }
    }
}
