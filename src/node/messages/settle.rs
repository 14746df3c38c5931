//! Messages of which nobody knows whether they were sent: never sent again, but settled by a status that speaks of
//! them, or told as unknown when none comes.
//!
//! A mark is durable before a message is handed to the upstream, and taken away with the end of its job. A job that
//! finds the mark of its message was cut off in between.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{Reason, outcome_of, tell_failure};
use crate::error::Result;
use crate::node::core::Core;
use crate::node::envelope::Code;
use crate::node::queue::{Bounds, Job, JobId, NewJob, Outcome, Plan, Topic, Worker, decode, encode};
use crate::node::tables::ABOUT_TO_SEND;

/// Marks settled at a time.
const AT_ONCE: usize = 4;
/// How long a job waits whose result could not be kept.
const DELAY: Duration = Duration::from_secs(5);

/// The mark of a message that was about to be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// Since when, in milliseconds since 1970.
    pub since: i64,
    /// Who gets it.
    pub to: String,
    /// Whether a status spoke of it.
    #[serde(default)]
    pub is_settled: bool,
    /// The job that waits for that.
    #[serde(default)]
    pub waiter: Option<JobId>,
}

pub(super) fn mark_of(core: &Core, id: &str) -> Result<Option<Mark>> {
    core.volume.state_get(ABOUT_TO_SEND, id.as_bytes())?.map(|bytes| decode(&bytes)).transpose()
}

/// Marks a message; durable on return.
pub(super) fn mark(core: &Core, id: &str, to: &str) -> Result<()> {
    let mark = Mark { since: core.jobs.now(), to: to.to_owned(), is_settled: false, waiter: None };
    let mut plan = Plan::new();
    plan.put(ABOUT_TO_SEND, id.as_bytes(), encode(&mark)?);
    core.jobs.commit(plan)
}

/// Ends the job of a message and takes its mark away, with what else the plan has; durable on return.
pub(super) fn unmark(core: &Core, id: &str, mut plan: Plan) -> Result<Outcome> {
    let _one = core.marks.lock();
    plan.delete(ABOUT_TO_SEND, id.as_bytes());
    core.jobs.commit(plan)?;
    Ok(Outcome::Kept)
}

/// Leaves a message of which nobody knows whether it was sent to a job of its own, so that those behind it go on.
pub(super) fn leave(core: &Core, job: JobId, id: &str) -> Result<Outcome> {
    let _one = core.marks.lock();
    let mut plan = Plan::new();
    plan.finish(Topic::Send, job);
    match mark_of(core, id)? {
        Some(mark) if mark.is_settled => {
            plan.delete(ABOUT_TO_SEND, id.as_bytes());
        }
        Some(mut mark) => {
            let due = mark.since.saturating_add(core.config.settle_grace_ms());
            let payload = id.as_bytes().to_vec();
            let waiter = core.jobs.add(&mut plan, Topic::Settle, NewJob { due, payload, ..NewJob::default() })?;
            mark.waiter = Some(waiter);
            plan.put(ABOUT_TO_SEND, id.as_bytes(), encode(&mark)?);
        }
        None => {}
    }
    core.jobs.commit(plan)?;
    Ok(Outcome::Kept)
}

/// A status spoke of a message: it was sent, or refused, and the status says which. Durable on return.
///
/// # Errors
/// Those of the state log.
pub fn settle(core: &Core, id: &str) -> Result<()> {
    let _one = core.marks.lock();
    let Some(mut mark) = mark_of(core, id)?.filter(|mark| !mark.is_settled) else { return Ok(()) };
    let mut plan = Plan::new();
    mark.is_settled = true;
    plan.put(ABOUT_TO_SEND, id.as_bytes(), encode(&mark)?);
    if let Some(waiter) = mark.waiter {
        plan.hasten(Topic::Settle, waiter);
    }
    core.jobs.commit(plan)
}

/// What waits for statuses.
pub struct Settles(Arc<Core>);

impl Settles {
    /// Makes ready.
    #[must_use]
    pub fn new(core: &Arc<Core>) -> Settles {
        Settles(Arc::clone(core))
    }
}

fn look(core: &Core, job: &Job) -> Result<Outcome> {
    let id = String::from_utf8_lossy(&job.payload);
    let _one = core.marks.lock();
    let mut plan = Plan::new();
    let Some(mark) = mark_of(core, &id)? else { return Ok(Outcome::Done(plan)) };
    if !mark.is_settled {
        let until = mark.since.saturating_add(core.config.settle_grace_ms());
        if core.jobs.now() < until {
            return Ok(Outcome::Wait { until, plan });
        }
        tracing::warn!(id = &*id, "whether a message was sent is not known");
        let details = "outcome unknown: the message may have been sent or not, and is not sent again";
        tell_failure(&core.jobs, &mut plan, &id, &mark.to, &Reason::new(Code::Generic, details))?;
    }
    plan.delete(ABOUT_TO_SEND, id.as_bytes()).finish(Topic::Settle, job.id);
    core.jobs.commit(plan)?;
    Ok(Outcome::Kept)
}

impl Worker for Settles {
    fn work(self: Arc<Self>, job: Job) -> BoxFuture<'static, Outcome> {
        let core = Arc::clone(&self.0);
        outcome_of(move || look(&core, &job)).boxed()
    }

    fn bounds(&self) -> Bounds {
        Bounds { at_once: AT_ONCE, per_group: AT_ONCE }
    }

    fn delay(&self, _attempts: u32) -> Duration {
        DELAY
    }

    fn gives_up(&self, _job: &Job, _now: i64) -> bool {
        false
    }
}
