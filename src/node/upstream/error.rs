//! What can go wrong with an upstream, sorted by what the caller can do about it.

use std::fmt;
use std::time::Duration;

/// A failure of an upstream. No variant holds a token, a key or a medium's url; texts of the upstream are bounded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Not reached, or it says that it is unwell. Trying again later may help; nothing was done.
    #[error("the upstream could not do it now: {what}; it can be tried again")]
    Transient {
        /// What happened.
        what: String,
        /// How long the upstream asked to wait.
        retry_after: Option<Duration>,
    },
    /// Too many requests. Trying again later helps, trying at once makes it worse; nothing was done.
    #[error("the upstream asks for fewer requests: {what}; wait before the next")]
    Throttled {
        /// What the upstream said.
        what: String,
        /// How long the upstream asked to wait.
        retry_after: Option<Duration>,
    },
    /// The upstream has no such medium, or no longer. Trying again does not help.
    #[error("the upstream knows no medium {id:?}: it was deleted or is too old")]
    UnknownId {
        /// The id that was asked for, bounded.
        id: String,
    },
    /// The url of a lookup is no longer valid. Look the medium up again.
    #[error("the url of the medium has expired; look it up again")]
    UrlExpired,
    /// The bytes are not those that the lookup promised. Look up and open again, a bounded number of times.
    #[error("the upstream sends another medium than it promised: {what}")]
    Differs {
        /// What differs.
        what: String,
    },
    /// Token, key or permission does not suffice. Nothing helps until the operator mends it; nothing was done.
    #[error("the upstream denies access: {0}; check the token or key and its permissions")]
    Denied(Refusal),
    /// The upstream will not do this, now or later; nothing was done.
    #[error("the upstream refuses: {0}")]
    Refused(Refusal),
    /// The message was handed over, but no answer says whether it was sent. Sending it again may send it twice.
    #[error("whether the message was sent is not known: {what}; sending it again may send it twice")]
    OutcomeUnknown {
        /// What happened.
        what: String,
    },
    /// This side failed: the bytes to upload could not be read, or the directory upstream's disk failed.
    #[error("{what}")]
    Local {
        /// What failed, as a sentence.
        what: String,
    },
}

impl UpstreamError {
    /// Whether the same call may succeed later without anybody mending anything. Not so for
    /// [`OutcomeUnknown`](UpstreamError::OutcomeUnknown), which the caller must decide.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            UpstreamError::Transient { .. }
            | UpstreamError::Throttled { .. }
            | UpstreamError::UrlExpired
            | UpstreamError::Differs { .. } => true,
            UpstreamError::UnknownId { .. }
            | UpstreamError::Denied(_)
            | UpstreamError::Refused(_)
            | UpstreamError::OutcomeUnknown { .. }
            | UpstreamError::Local { .. } => false,
        }
    }

    /// How long the upstream asked to wait, if it did: at most a day.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            UpstreamError::Transient { retry_after, .. } | UpstreamError::Throttled { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether a message may have been sent in spite of the error.
    #[must_use]
    pub fn may_have_been_sent(&self) -> bool {
        matches!(self, UpstreamError::OutcomeUnknown { .. })
    }

    pub(super) fn transient(what: impl Into<String>) -> UpstreamError {
        UpstreamError::Transient { what: what.into(), retry_after: None }
    }

    pub(super) fn local(what: impl Into<String>) -> UpstreamError {
        UpstreamError::Local { what: what.into() }
    }
}

/// A refusal in the upstream's words, as its error body gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The error's code, such as 131053.
    pub code: Option<i64>,
    /// The error's subcode.
    pub subcode: Option<i64>,
    /// What is wrong, in short; bounded.
    pub title: Option<String>,
    /// What is wrong, in particular; bounded.
    pub details: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status)?;
        if let Some(code) = self.code {
            write!(f, ", code {code}")?;
        }
        if let Some(subcode) = self.subcode {
            write!(f, "/{subcode}")?;
        }
        for text in [&self.title, &self.details].into_iter().flatten() {
            write!(f, ", {text}")?;
        }
        Ok(())
    }
}
