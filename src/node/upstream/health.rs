//! How the upstream has answered of late.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::UpstreamError;
use crate::sync::Mutex;

/// How the upstream has answered since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamHealth {
    /// Its kind: `cloud` for what speaks the Cloud API, `directory`.
    pub kind: String,
    /// Calls that it answered, refusals of a single medium or message among them.
    pub answered: u64,
    /// Calls that it did not answer, denied, or asked to make less often.
    pub failed: u64,
    /// Whether the last call was one of those.
    pub is_failing: bool,
    /// Seconds since the last answer.
    pub answered_secs_ago: Option<u64>,
    /// Seconds since the last failure, and what it was.
    pub last_failure: Option<(u64, String)>,
}

/// Notes how calls end.
#[derive(Debug, Default)]
pub(super) struct Record {
    answered: AtomicU64,
    failed: AtomicU64,
    /// A leaf lock.
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    is_failing: bool,
    answer: Option<Instant>,
    failure: Option<(Instant, String)>,
}

impl Record {
    /// Notes how a call has ended. A failure of this side says nothing of the upstream.
    pub fn note<T>(&self, outcome: Result<T, UpstreamError>) -> Result<T, UpstreamError> {
        match &outcome {
            Err(UpstreamError::Local { .. }) => {}
            Err(
                error @ (UpstreamError::Transient { .. }
                | UpstreamError::Throttled { .. }
                | UpstreamError::Denied(_)
                | UpstreamError::OutcomeUnknown { .. }),
            ) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let mut last = self.last.lock();
                last.is_failing = true;
                last.failure = Some((Instant::now(), error.to_string()));
            }
            _ => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                let mut last = self.last.lock();
                last.is_failing = false;
                last.answer = Some(Instant::now());
            }
        }
        outcome
    }

    /// What was noted.
    pub fn health(&self, kind: &str) -> UpstreamHealth {
        let last = self.last.lock();
        UpstreamHealth {
            kind: kind.to_owned(),
            answered: self.answered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            is_failing: last.is_failing,
            answered_secs_ago: last.answer.map(|at| at.elapsed().as_secs()),
            last_failure: last.failure.as_ref().map(|(at, what)| (at.elapsed().as_secs(), what.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_upstream_itself_fails_at_counts_against_it() {
        let record = Record::default();
        assert_eq!(record.health("cloud"), UpstreamHealth { kind: "cloud".to_owned(), ..UpstreamHealth::default() });
        let _ = record.note(Ok(1));
        let _ = record.note::<()>(Err(UpstreamError::UnknownId { id: "7".to_owned() }));
        let _ = record.note::<()>(Err(UpstreamError::Local { what: "our disk".to_owned() }));
        let health = record.health("cloud");
        assert_eq!((health.answered, health.failed, health.is_failing), (2, 0, false));
        let _ = record.note::<()>(Err(UpstreamError::transient("no answer")));
        let health = record.health("cloud");
        assert_eq!((health.answered, health.failed, health.is_failing), (2, 1, true));
        assert!(health.last_failure.unwrap().1.contains("no answer"));
        let _ = record.note(Ok(1));
        assert!(!record.health("cloud").is_failing);
    }
}
