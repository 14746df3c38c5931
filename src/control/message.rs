//! The lines of the control protocol.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::change::{Keep, PolicyChange};
use super::erase::EraseRequest;
use super::kinds;
use crate::error::Error;
use crate::volume::{
    AuditFilter, AuditState, Finding, MediaFilter, Medium, Overview, Policy, PurgeReport, Purged, Removed, ScrubStatus,
    Status,
};

pub use crate::volume::{cursor_bytes, cursor_text};

/// The version of the protocol spoken here.
pub const PROTOCOL_VERSION: u32 = 1;
/// Bytes a request line may have.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;
/// Bytes an answer line may have.
pub const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Media in one page of a listing at most.
pub const MAX_PAGE: usize = 200;
/// Media that one request may name.
pub const MAX_NAMED_MEDIA: usize = 1000;

/// The daemon's first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the daemon.
    pub protocol: u32,
    /// The daemon's own version.
    pub version: String,
    /// The volume's id.
    pub volume_id: String,
    /// The store it serves, as an absolute path.
    pub store: String,
    /// Where it is mounted.
    pub mount: Option<String>,
    /// The daemon's process id.
    pub pid: u32,
}

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// How the volume is doing.
    Status,
    /// How the volume is doing, has done, and is used; and how the node's work is doing.
    Overview,
    /// All figures, in Prometheus's text form.
    Metrics,
    /// A page of media.
    List {
        /// Which ones.
        filter: MediaFilter,
        /// Where to go on, hex; empty from the start.
        cursor: String,
        /// At most this many, and at most [`MAX_PAGE`].
        limit: usize,
    },
    /// A page of expired media with their names in `.expired`.
    Expired {
        /// Where to go on, hex; empty from the start.
        cursor: String,
        /// At most this many, and at most [`MAX_PAGE`].
        limit: usize,
    },
    /// All facts of one medium.
    Medium {
        /// Media id, or path from the root of the volume.
        medium: String,
        /// Compute digest and verdict when they are not known yet.
        deep: bool,
    },
    /// Remove what is expired.
    Purge {
        /// Only tell what would be removed.
        dry_run: bool,
        /// Only media of at least this age.
        older_than: Option<Duration>,
        /// Name each medium in an event.
        #[serde(default)]
        list: bool,
    },
    /// Remove what the daemon would remove by itself now. A request of its own: a daemon that does not know it must not
    /// take it for a purge of everything.
    PurgeDue {
        /// Only tell what would be removed.
        dry_run: bool,
        /// Only media of at least this age.
        older_than: Option<Duration>,
        /// Name each medium in an event.
        list: bool,
    },
    /// Erase media, and tell so in a report that is signed.
    Erase {
        /// Which, and how it is told.
        request: Box<EraseRequest>,
    },
    /// The public key that reports are checked with.
    ErasurePublicKey,
    /// What was removed, by whom and by which way.
    Audit {
        /// Which removals.
        filter: AuditFilter,
    },
    /// Set or take away holds.
    Hold {
        /// Media ids or paths, at most [`MAX_NAMED_MEDIA`].
        media: Vec<String>,
        /// Whether they are to be held.
        held: bool,
    },
    /// Set or take away the retention of single media.
    KeepMedia {
        /// Media ids or paths, at most [`MAX_NAMED_MEDIA`].
        media: Vec<String>,
        /// The medium's own retention, or none: back to the rules.
        keep: Option<Keep>,
    },
    /// The policy.
    Policy,
    /// Change the policy.
    ChangePolicy {
        /// How.
        change: PolicyChange,
    },
    /// Compare index and store.
    Check {
        /// Re-read and verify every byte.
        read_all: bool,
        /// Mend what can be mended, and move the rest away.
        #[serde(default)]
        repair: bool,
        /// With `repair`, move media away that can be read in part.
        #[serde(default)]
        move_damaged: bool,
    },
    /// Begin, stop or show a scrub.
    Scrub {
        /// Which of them.
        wish: ScrubWish,
    },
    /// Something for the media node to do; its own form.
    Node {
        /// What.
        wish: serde_json::Value,
    },
    /// Make everything acknowledged so far durable.
    Sync,
    /// Unmount, shut the volume down, end the daemon. Answered when the volume is shut down.
    Stop {
        /// Unmount although files are open; their users get errors.
        lazy: bool,
    },
}

/// What is asked of a scrub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScrubWish {
    /// Begin, or go on with what was cut short.
    Start {
        /// Bytes a second; none is as fast as the disk.
        rate: Option<u64>,
        /// From the beginning.
        anew: bool,
    },
    /// Stop it; its place is kept.
    Stop,
    /// Only tell.
    Status,
}

impl Request {
    /// Whether it changes what is in the volume.
    #[must_use]
    pub fn is_change(&self) -> bool {
        match self {
            Request::Purge { dry_run, .. } | Request::PurgeDue { dry_run, .. } => !dry_run,
            Request::Erase { request } => !request.dry_run,
            Request::Check { repair, .. } => *repair,
            Request::Hold { .. } | Request::KeepMedia { .. } | Request::ChangePolicy { .. } | Request::Node { .. } => {
                true
            }
            Request::Status
            | Request::Overview
            | Request::Metrics
            | Request::List { .. }
            | Request::Expired { .. }
            | Request::Medium { .. }
            | Request::ErasurePublicKey
            | Request::Audit { .. }
            | Request::Policy
            | Request::Scrub { .. }
            | Request::Sync
            | Request::Stop { .. } => false,
        }
    }
}

/// News on the way to the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Still at work.
    Alive,
    /// So much is done.
    Progress {
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
    },
    /// What a purge has done so far.
    Purged(PurgeReport),
    /// A medium that a purge has removed, or would.
    Gone(Purged),
    /// Some removals, the oldest first.
    Removals(Vec<Removed>),
    /// A piece of a report of an erasure; all of them joined are one line of JSON.
    Report(String),
    /// Something is wrong.
    Finding(Finding),
}

impl Event {
    /// Whether it may be left out when the reader is slow.
    #[must_use]
    pub fn is_droppable(&self) -> bool {
        !matches!(self, Event::Finding(_) | Event::Gone(_) | Event::Removals(_) | Event::Report(_))
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done, with nothing more to tell; to [`Request::Erase`] too, whose report came as events.
    Done,
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Overview`].
    Overview {
        /// Of the volume and its mount.
        overview: Box<Overview>,
        /// Of the node, in its own form.
        node: serde_json::Value,
    },
    /// To [`Request::Metrics`].
    Metrics(String),
    /// To [`Request::List`].
    Media {
        /// The page.
        media: Vec<Medium>,
        /// Where to go on; none at the end.
        next: Option<String>,
    },
    /// To [`Request::Expired`].
    Expired {
        /// Names in `.expired` and the media they name.
        media: Vec<(String, Medium)>,
        /// Where to go on; none at the end.
        next: Option<String>,
    },
    /// To [`Request::Medium`].
    Medium(Box<Medium>),
    /// To [`Request::ErasurePublicKey`]: 64 hex digits.
    PublicKey(String),
    /// To [`Request::Hold`] and [`Request::KeepMedia`]: the media as they are now.
    Changed(Vec<Medium>),
    /// To [`Request::Purge`].
    Purged(PurgeReport),
    /// To [`Request::Audit`], whose removals came as events: how the log itself is.
    Audited(AuditState),
    /// To [`Request::Policy`] and [`Request::ChangePolicy`]: the policy as it is now.
    Policy(Policy),
    /// To [`Request::Scrub`]: how scrubs are doing now.
    Scrub(Box<ScrubStatus>),
    /// To [`Request::Node`]: the node's own form.
    Node(serde_json::Value),
    /// To [`Request::Check`]; what is wrong came as events.
    Checked {
        /// Blobs looked at.
        blobs: u64,
        /// Bytes read and verified.
        bytes: u64,
        /// Things that are wrong and came as events.
        findings: u64,
        /// How many more there are.
        #[serde(default)]
        unlisted: u64,
        /// Where a repair put what it took away, from the store directory.
        #[serde(default)]
        quarantine: Option<String>,
        /// Whether the index has to be made anew for the rest.
        #[serde(default)]
        needs_rebuild: bool,
    },
}

/// An answer line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// More is to come.
    Event(Event),
    /// The last line, when it went well.
    Result(Reply),
    /// The last line, when it did not.
    Error {
        /// The error kind's word ([`kinds`]).
        kind: String,
        /// A sentence for people.
        message: String,
    },
}

impl From<&Error> for Line {
    fn from(error: &Error) -> Line {
        Line::Error { kind: kinds::name(error.kind()).to_owned(), message: error.to_string() }
    }
}

/// The failure an error line tells of.
#[must_use]
pub fn error_of(kind: &str, message: String) -> Error {
    Error::new(kinds::parse(kind), message)
}
