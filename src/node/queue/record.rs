//! Jobs as the state log keeps them: what a job is to do never changes and lies apart from how it went so far, so that
//! a failed try costs a small record.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};

/// What kind of work a job is. The numbers are on disk and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Topic {
    /// A notification of the upstream is to be taken apart.
    Event = 1,
    /// The business is to be told something.
    Webhook = 2,
    /// A medium is to be fetched from the upstream.
    Download = 3,
    /// A message is to be sent.
    Send = 4,
    /// What became of a message is to be found out.
    Settle = 5,
    /// Expired media are to be removed.
    Gc = 6,
}

impl Topic {
    /// Every topic, in the order of their numbers.
    pub const ALL: [Topic; 6] = [Topic::Event, Topic::Webhook, Topic::Download, Topic::Send, Topic::Settle, Topic::Gc];

    /// Its place in [`Topic::ALL`].
    pub(super) fn place(self) -> usize {
        self as usize - 1
    }
}

/// The number of a job within its topic; a later job has a higher one.
pub type JobId = u64;

/// A job as it is added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewJob {
    /// Jobs of one lane are done one after the other, in the order in which they were added. Empty: no lane.
    pub lane: String,
    /// Jobs of one group share a limit.
    pub group: String,
    /// The earliest time, in milliseconds since 1970; 0: at once.
    pub due: i64,
    /// What is to be done.
    pub payload: Vec<u8>,
}

/// How a job went so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// As in [`NewJob`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lane: String,
    /// As in [`NewJob`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The earliest time of the next try, in milliseconds since 1970.
    pub due: i64,
    /// When it was added, in milliseconds since 1970.
    pub made: i64,
    /// When it was first tried, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<i64>,
    /// How often it was tried without success.
    #[serde(default)]
    pub attempts: u32,
    /// Why the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A job to be done.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// How it went so far.
    pub head: Head,
    /// What is to be done.
    pub payload: Vec<u8>,
}

/// Milliseconds since 1970.
#[must_use]
pub fn millis(time: Timestamp) -> i64 {
    time.secs.saturating_mul(1000).saturating_add(i64::from(time.nanos / 1_000_000))
}

/// The key of a job in all its tables.
pub(super) fn key(topic: Topic, id: JobId) -> [u8; 9] {
    let mut key = [topic as u8; 9];
    key[1..].copy_from_slice(&id.to_be_bytes());
    key
}

pub(super) fn parse_key(key: &[u8]) -> Option<(Topic, JobId)> {
    let (topic, id) = key.split_first()?;
    let topic = Topic::ALL.into_iter().find(|known| *known as u8 == *topic)?;
    Some((topic, u64::from_be_bytes(id.try_into().ok()?)))
}

/// A value as the state log keeps it.
///
/// # Errors
/// None that can happen to the types of the node.
pub fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::new(Kind::Io, "a record of the node cannot be written").with_source(e))
}

/// A value as the state log kept it.
///
/// # Errors
/// `Damaged` when it makes no sense.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::new(Kind::Damaged, "a record of the node makes no sense").with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_numbers() {
        for topic in Topic::ALL {
            assert_eq!(parse_key(&key(topic, 7)), Some((topic, 7)));
            assert!(key(topic, 255) < key(topic, 256));
            assert_eq!(Topic::ALL[topic.place()], topic);
        }
        assert_eq!(parse_key(&[0; 9]), None);
        assert_eq!(parse_key(&[1; 8]), None);
    }
}
