//! Dead letters: jobs that were given up, kept to be looked at and replayed.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::record::{Head, Job, JobId, Topic, encode, key};
use super::{Jobs, Plan, heads};
use crate::error::Result;
use crate::node::tables::{DEAD_HEADS, JOB_HEADS, JOBS};

/// Dead letters kept of a topic; with more the oldest go.
const MAX_DEAD: usize = 10_000;
/// Dead letters replayed in one batch.
const REPLAY_STEP: usize = 500;

/// A job that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its number.
    pub id: JobId,
    /// How it went.
    pub head: Head,
    /// What was to be done.
    pub payload: Vec<u8>,
}

impl Jobs {
    /// Lays a job aside; the plan has the rest of what changes with it.
    pub(super) fn bury(&self, plan: &mut Plan, topic: Topic, id: JobId, head: &Head) -> Result<()> {
        plan.batch.delete(JOB_HEADS, &key(topic, id)).put(DEAD_HEADS, &key(topic, id), encode(head)?);
        plan.over.push((topic, id));
        if self.desk(topic).dead.fetch_add(1, Ordering::Relaxed) >= MAX_DEAD
            && let Some((oldest, _)) = heads(&self.volume, DEAD_HEADS, topic, 0, 1)?.first()
        {
            plan.batch.delete(DEAD_HEADS, &key(topic, *oldest)).delete(JOBS, &key(topic, *oldest));
            self.desk(topic).dead.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Dead letters of a topic behind `after`, the oldest first, at most `limit`.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn dead(&self, topic: Topic, after: JobId, limit: usize) -> Result<Vec<DeadLetter>> {
        let found = heads(&self.volume, DEAD_HEADS, topic, after, limit)?;
        let letters = found.into_iter().map(|(id, head)| {
            let payload = self.volume.state_get(JOBS, &key(topic, id))?.unwrap_or_default();
            Ok(DeadLetter { id, head, payload })
        });
        letters.collect()
    }

    /// How many dead letters a topic has.
    #[must_use]
    pub fn dead_count(&self, topic: Topic) -> usize {
        self.desk(topic).dead.load(Ordering::Relaxed)
    }

    /// Has dead letters done again, as if they had just been added: those of `ids`, or all of the topic. Gives how many.
    /// Durable on return.
    ///
    /// # Errors
    /// Those of the state log; what was replayed before stays so.
    pub fn replay(&self, topic: Topic, ids: Option<&[JobId]>) -> Result<usize> {
        let (mut after, mut count) = (0, 0);
        loop {
            let page = heads(&self.volume, DEAD_HEADS, topic, after, REPLAY_STEP)?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            after = *last;
            let (mut plan, before) = (Plan::new(), count);
            let wanted = page.into_iter().filter(|(id, _)| ids.is_none_or(|ids| ids.contains(id)));
            for (id, head) in wanted {
                let now = self.now();
                let head = Head { due: now, made: now, first: None, attempts: 0, ..head };
                plan.batch.delete(DEAD_HEADS, &key(topic, id)).put(JOB_HEADS, &key(topic, id), encode(&head)?);
                plan.added.push((topic, id, head));
                count += 1;
            }
            self.commit(plan)?;
            self.desk(topic).dead.fetch_sub(count - before, Ordering::Relaxed);
        }
    }
}

impl Job {
    /// The head after a try that failed.
    pub(super) fn failed(&self, why: &str, now: i64, due: i64) -> Head {
        let first = Some(self.head.first.unwrap_or(now));
        let attempts = self.head.attempts.saturating_add(1);
        Head { due, first, attempts, error: Some(why.to_owned()), ..self.head.clone() }
    }
}
