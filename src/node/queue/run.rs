//! Doing jobs: one task per topic, woken by what is added and by time.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::record::{Job, JobId, Topic, encode, key};
use super::shelf::{Bounds, Next};
use super::{Jobs, Plan};
use crate::error::Result;
use crate::node::core::blocking;
use crate::node::tables::JOB_HEADS;

/// The longest sleep while something waits for its time: the clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// How long a job waits whose result could not be kept.
const PAUSE_MS: i64 = 5_000;
/// The most bytes that are kept of why a job failed.
const MAX_WHY: usize = 1_000;

/// How a try went; the plan is kept together with it.
#[derive(Debug)]
pub enum Outcome {
    /// The job is over.
    Done(Plan),
    /// The worker has kept everything already, the end of the job too.
    Kept,
    /// It failed, and is tried again: after this time, or when the worker says.
    Retry {
        /// Why it failed.
        why: String,
        /// How long to wait at least.
        after: Option<Duration>,
        /// What else changes.
        plan: Plan,
    },
    /// It is not its time yet. That is no failed try, and not kept: after a restart it is looked at again.
    Wait {
        /// When to look again, in milliseconds since 1970.
        until: i64,
        /// What else changes.
        plan: Plan,
    },
    /// It failed, and trying again does not help.
    Dead {
        /// Why it failed.
        why: String,
        /// What else changes.
        plan: Plan,
    },
}

impl Outcome {
    /// It failed and is tried again.
    pub fn retry(why: impl ToString) -> Outcome {
        Outcome::Retry { why: why.to_string(), after: None, plan: Plan::new() }
    }
}

/// What does the jobs of a topic.
pub trait Worker: Send + Sync + 'static {
    /// Does one. It may be dropped at any point, and done again after a crash.
    fn work(self: Arc<Self>, job: Job) -> BoxFuture<'static, Outcome>;

    /// How much may be under way at a time.
    fn bounds(&self) -> Bounds;

    /// How long to wait after so many failed tries.
    fn delay(&self, attempts: u32) -> Duration;

    /// Whether a job that has failed is given up; `now` in milliseconds since 1970.
    fn gives_up(&self, job: &Job, now: i64) -> bool;

    /// What changes when a job is given up.
    ///
    /// # Errors
    /// Those of the state log.
    fn given_up(&self, _job: &Job, _why: &str, _plan: &mut Plan) -> Result<()> {
        Ok(())
    }
}

/// Does the jobs of a topic until `end` says so; then begins no more and lets those under way end, for as long as
/// `drain`. What is then cut off is done again after the next start.
pub async fn run(
    jobs: Arc<Jobs>,
    topic: Topic,
    worker: Arc<dyn Worker>,
    drain: Duration,
    mut end: watch::Receiver<bool>,
) {
    let mut running: JoinSet<()> = JoinSet::new();
    while !*end.borrow() {
        let next = jobs.take(topic, worker.bounds());
        let sleep = match next {
            Next::Job(id) => {
                running.spawn(one(Arc::clone(&jobs), topic, Arc::clone(&worker), id));
                continue;
            }
            Next::At(at) => {
                let wait = u64::try_from(at.saturating_sub(jobs.now())).unwrap_or(0);
                Some(Duration::from_millis(wait.max(1)).min(LONGEST_SLEEP))
            }
            Next::Nothing => None,
        };
        tokio::select! {
            () = jobs.desk(topic).changed.notified() => {}
            () = tokio::time::sleep(sleep.unwrap_or_default()), if sleep.is_some() => {}
            Some(_) = running.join_next() => {}
            ended = end.wait_for(|end| *end) => if ended.is_err() { break },
        }
    }
    let drained = tokio::time::timeout(drain, async { while running.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(?topic, "work was cut off at the end; it is done again after the next start");
    }
}

/// Does one job and keeps how it went.
async fn one(jobs: Arc<Jobs>, topic: Topic, worker: Arc<dyn Worker>, id: JobId) {
    let read = {
        let jobs = Arc::clone(&jobs);
        blocking(move || jobs.read(topic, id)).await
    };
    let job = match read {
        Ok(Some(job)) => job,
        Ok(None) => {
            tracing::warn!(?topic, id, "a job is gone from the state log");
            return keep(&jobs, topic, id, move |_| Ok(Kept::Over(Outcome::Done(Plan::new())))).await;
        }
        Err(error) => {
            tracing::error!(?topic, id, %error, "a job cannot be read");
            return jobs.put_back(topic, id, jobs.now() + PAUSE_MS);
        }
    };
    let done = AssertUnwindSafe(Arc::clone(&worker).work(job.clone())).catch_unwind().await;
    let outcome = done.unwrap_or_else(|_| Outcome::retry("the worker failed; the log says why"));
    if matches!(outcome, Outcome::Kept) {
        return;
    }
    keep(&jobs, topic, id, move |now| {
        Ok(match outcome {
            Outcome::Retry { why, after, mut plan } => {
                let why = short(why);
                if worker.gives_up(&job, now) {
                    worker.given_up(&job, &why, &mut plan)?;
                    Kept::Buried(job.failed(&why, now, now), plan)
                } else {
                    let wait = after.unwrap_or_default().max(worker.delay(job.head.attempts.saturating_add(1)));
                    let due = now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
                    tracing::info!(?topic, id, why, "a job failed and is tried again");
                    Kept::Again(job.failed(&why, now, due), plan)
                }
            }
            Outcome::Dead { why, mut plan } => {
                let why = short(why);
                worker.given_up(&job, &why, &mut plan)?;
                Kept::Buried(job.failed(&why, now, now), plan)
            }
            outcome => Kept::Over(outcome),
        })
    })
    .await;
}

/// What is kept of a try.
enum Kept {
    Over(Outcome),
    Again(super::Head, Plan),
    Buried(super::Head, Plan),
}

async fn keep(jobs: &Arc<Jobs>, topic: Topic, id: JobId, decide: impl FnOnce(i64) -> Result<Kept> + Send + 'static) {
    let own = Arc::clone(jobs);
    let kept = blocking(move || {
        let now = own.now();
        let (mut plan, due) = match decide(now)? {
            Kept::Over(Outcome::Wait { until, plan }) => (plan, Some(until)),
            Kept::Over(Outcome::Done(mut plan)) => {
                plan.finish(topic, id);
                (plan, None)
            }
            Kept::Over(_) => return Ok(()),
            Kept::Again(head, mut plan) => {
                plan.put(JOB_HEADS, &key(topic, id), encode(&head)?);
                (plan, Some(head.due))
            }
            Kept::Buried(head, mut plan) => {
                tracing::warn!(?topic, id, why = head.error, "a job was given up");
                own.bury(&mut plan, topic, id, &head)?;
                (plan, None)
            }
        };
        let hastened = std::mem::take(&mut plan.hastened);
        own.commit(plan)?;
        if let Some(due) = due {
            own.put_back(topic, id, due);
        }
        // After the job itself waits again, so that it can hasten itself.
        own.commit(Plan { hastened, ..Plan::new() })
    })
    .await;
    if let Err(error) = kept {
        tracing::error!(?topic, id, %error, "how a job went could not be kept: it is done again");
        jobs.put_back(topic, id, jobs.now() + PAUSE_MS);
    }
}

fn short(mut why: String) -> String {
    let end = why.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_WHY).last();
    if why.len() > MAX_WHY {
        why.truncate(end.unwrap_or(0));
    }
    why
}
