//! How the node's own work is doing: queues, and the upstream.

use serde::{Deserialize, Serialize};

use super::core::Core;
use super::queue::Topic;
pub use super::upstream::UpstreamHealth;
use crate::error::Result;

/// The topics of work, by the words that figures have for them.
pub(super) const TOPICS: [(Topic, &str); 6] = [
    (Topic::Event, "notification"),
    (Topic::Webhook, "webhook"),
    (Topic::Download, "download"),
    (Topic::Send, "send"),
    (Topic::Settle, "settle"),
    (Topic::Gc, "gc"),
];

/// How much work of a kind there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueFigures {
    /// The kind of work.
    pub topic: String,
    /// Pieces that are still to be done.
    pub jobs: u64,
    /// Seconds since the oldest of them was taken on; 0 when there is none.
    pub oldest_secs: u64,
    /// Pieces that were given up.
    pub dead_letters: u64,
}

/// How the node's own work is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFigures {
    /// Whether the HTTP media API is answered, and work done.
    pub is_serving: bool,
    /// Work, by kind.
    pub queues: Vec<QueueFigures>,
    /// The upstream, if one is configured.
    pub upstream: Option<UpstreamHealth>,
}

/// Asks a node.
///
/// # Errors
/// `Damaged`, `Io`.
pub fn figures(core: &Core) -> Result<NodeFigures> {
    let now = core.jobs.now();
    let queue = |(topic, word): (Topic, &str)| {
        let oldest = core.jobs.waiting(topic, 0, 1)?.first().map(|(_, head)| head.made);
        let millis = oldest.map_or(0, |made| now.saturating_sub(made));
        Ok(QueueFigures {
            topic: word.to_owned(),
            jobs: core.jobs.count(topic) as u64,
            oldest_secs: u64::try_from(millis / 1000).unwrap_or(0),
            dead_letters: core.jobs.dead_count(topic) as u64,
        })
    };
    Ok(NodeFigures {
        is_serving: core.config.listen.is_some(),
        queues: TOPICS.into_iter().map(queue).collect::<Result<_>>()?,
        upstream: core.upstream.as_ref().map(super::upstream::Upstream::health),
    })
}
