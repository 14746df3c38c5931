//! Durable jobs over the volume's state log: what was added is done at least once, also after a crash.
//!
//! A [`Plan`] gathers what changes together: facts in the state log, jobs that are added, jobs that are over. It is kept
//! whole or not at all, so that "this job is done and that one follows" is never half true. What jobs are to do is read
//! when they are done; memory holds 180 to 270 bytes a job. Jobs that cannot be done are tried again, ever later, and at
//! last laid aside as dead letters, which can be listed and replayed.

mod dead;
mod record;
mod run;
mod shelf;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

pub use dead::DeadLetter;
pub use record::{Head, Job, JobId, NewJob, Topic, decode, encode, millis};
pub use run::{Outcome, Worker, run};
pub use shelf::Bounds;

use crate::error::{Error, Kind, Result};
use crate::node::tables::{DEAD_HEADS, JOB_HEADS, JOBS};
use crate::sync::Mutex;
use crate::volume::{StateBatch, Volume};
use record::key;
use shelf::{Next, Shelf};

/// Heads in one page of the state log.
const PAGE: usize = 500;
/// Jobs of one topic; more are refused, so that neither memory nor the state log grows without bound.
const MAX_JOBS: usize = 500_000;

/// The jobs of one topic and who waits for them.
#[derive(Default)]
struct Desk {
    shelf: Mutex<Shelf>,
    changed: Notify,
    next: AtomicU64,
    dead: AtomicUsize,
}

/// All jobs of a node.
pub struct Jobs {
    volume: Arc<Volume>,
    desks: [Desk; Topic::ALL.len()],
}

/// Changes that belong together.
#[derive(Debug, Default)]
pub struct Plan {
    batch: StateBatch,
    added: Vec<(Topic, JobId, Head)>,
    over: Vec<(Topic, JobId)>,
    hastened: Vec<(Topic, JobId)>,
}

impl Plan {
    /// One that changes nothing.
    #[must_use]
    pub fn new() -> Plan {
        Plan::default()
    }

    /// Gives a key of a table of the state log a value.
    pub fn put(&mut self, table: u8, key: &[u8], value: Vec<u8>) -> &mut Plan {
        self.batch.put(table, key, value);
        self
    }

    /// Takes the value of a key away.
    pub fn delete(&mut self, table: u8, key: &[u8]) -> &mut Plan {
        self.batch.delete(table, key);
        self
    }

    /// A job is over.
    pub fn finish(&mut self, topic: Topic, id: JobId) -> &mut Plan {
        self.batch.delete(JOBS, &key(topic, id)).delete(JOB_HEADS, &key(topic, id));
        self.over.push((topic, id));
        self
    }

    /// A job need wait no longer.
    pub fn hasten(&mut self, topic: Topic, id: JobId) -> &mut Plan {
        self.hastened.push((topic, id));
        self
    }

    /// Whether it changes nothing that lasts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }
}

impl Jobs {
    /// Reads the jobs of a volume.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn load(volume: &Arc<Volume>) -> Result<Jobs> {
        let jobs = Jobs { volume: Arc::clone(volume), desks: Default::default() };
        // 0 is before the first.
        Topic::ALL.into_iter().for_each(|topic| jobs.know(topic, 0));
        each(volume, JOB_HEADS, |key, value| {
            let head = decode::<Head>(value);
            match (record::parse_key(key), head) {
                (Some((topic, id)), Ok(head)) => {
                    jobs.know(topic, id);
                    jobs.desk(topic).shelf.lock().add(id, &head);
                }
                _ => tracing::warn!("a job in the state log makes no sense and is left out"),
            }
        })?;
        each(volume, DEAD_HEADS, |key, _| {
            if let Some((topic, id)) = record::parse_key(key) {
                jobs.know(topic, id);
                jobs.desk(topic).dead.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        Ok(jobs)
    }

    fn know(&self, topic: Topic, id: JobId) {
        self.desk(topic).next.fetch_max(id.saturating_add(1), Ordering::Relaxed);
    }

    #[allow(clippy::indexing_slicing, reason = "there is a desk for each topic")]
    fn desk(&self, topic: Topic) -> &Desk {
        &self.desks[topic.place()]
    }

    /// Now, in milliseconds since 1970, by the volume's clock.
    #[must_use]
    pub fn now(&self) -> i64 {
        millis(self.volume.now())
    }

    /// Adds a job to a plan; it is begun when the plan was committed.
    ///
    /// # Errors
    /// `NoSpace` when too many jobs of the topic wait.
    pub fn add(&self, plan: &mut Plan, topic: Topic, job: NewJob) -> Result<JobId> {
        let desk = self.desk(topic);
        if desk.shelf.lock().len() >= MAX_JOBS {
            return Err(Error::new(Kind::NoSpace, "too much work is queued; see that its receiver answers"));
        }
        let id = desk.next.fetch_add(1, Ordering::Relaxed);
        let NewJob { lane, group, due, payload } = job;
        let head = Head { lane, group, due, made: self.now(), first: None, attempts: 0, error: None };
        plan.batch.put(JOBS, &key(topic, id), payload).put(JOB_HEADS, &key(topic, id), encode(&head)?);
        plan.added.push((topic, id, head));
        Ok(id)
    }

    /// Makes the changes of a plan; durable on return. May wait for the disk.
    ///
    /// # Errors
    /// Those of [`Volume::state_commit`]: nothing is changed.
    pub fn commit(&self, plan: Plan) -> Result<()> {
        self.volume.state_commit(&plan.batch)?;
        for (topic, id) in plan.over {
            self.desk(topic).shelf.lock().remove(id);
            self.desk(topic).changed.notify_one();
        }
        for (topic, id, head) in plan.added {
            self.desk(topic).shelf.lock().add(id, &head);
            self.desk(topic).changed.notify_one();
        }
        let now = self.now();
        for (topic, id) in plan.hastened {
            self.desk(topic).shelf.lock().hasten(id, now);
            self.desk(topic).changed.notify_one();
        }
        Ok(())
    }

    /// How many jobs of a topic wait or are under way.
    #[must_use]
    pub fn count(&self, topic: Topic) -> usize {
        self.desk(topic).shelf.lock().len()
    }

    /// Whether a job is not over yet.
    #[must_use]
    pub fn has(&self, topic: Topic, id: JobId) -> bool {
        self.desk(topic).shelf.lock().has(id)
    }

    /// No job of a group is begun before `until`, in milliseconds since 1970.
    pub fn pause(&self, topic: Topic, group: &str, until: i64) {
        self.desk(topic).shelf.lock().pause(group, until);
    }

    /// How the jobs of a topic went so far, behind `after`, at most `limit`.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn waiting(&self, topic: Topic, after: JobId, limit: usize) -> Result<Vec<(JobId, Head)>> {
        heads(&self.volume, JOB_HEADS, topic, after, limit)
    }

    fn take(&self, topic: Topic, bounds: Bounds) -> Next {
        let now = self.now();
        self.desk(topic).shelf.lock().take(bounds, now)
    }

    fn put_back(&self, topic: Topic, id: JobId, due: i64) {
        self.desk(topic).shelf.lock().put_back(id, due);
        self.desk(topic).changed.notify_one();
    }

    /// A job as the state log has it; none for one whose record is gone.
    fn read(&self, topic: Topic, id: JobId) -> Result<Option<Job>> {
        let key = key(topic, id);
        let head = self.volume.state_get(JOB_HEADS, &key)?;
        let payload = self.volume.state_get(JOBS, &key)?;
        match (head, payload) {
            (Some(head), Some(payload)) => Ok(Some(Job { id, head: decode(&head)?, payload })),
            _ => Ok(None),
        }
    }
}

/// Calls `visit` with every key and value of a table, a page at a time.
///
/// # Errors
/// `Damaged`, `Io`.
pub fn each(volume: &Volume, table: u8, mut visit: impl FnMut(&[u8], &[u8])) -> Result<()> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = volume.state_scan(table, after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        page.iter().for_each(|(key, value)| visit(key, value));
    }
}

/// Heads of a topic's jobs in a table, behind `after`, at most `limit`.
fn heads(volume: &Volume, table: u8, topic: Topic, after: JobId, limit: usize) -> Result<Vec<(JobId, Head)>> {
    let page = volume.state_scan(table, Some(&key(topic, after)), limit)?;
    let own = page.into_iter().map_while(|(key, value)| {
        let (of, id) = record::parse_key(&key)?;
        (of == topic).then(|| decode(&value).map(|head| (id, head)))
    });
    own.collect()
}
