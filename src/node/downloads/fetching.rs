//! Fetching inbound media from the upstream.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::pace;
use super::table::{self, End, Inbound};
use crate::error::{Error, Kind, Result};
use crate::ids::MediaId;
use crate::node::core::{Core, blocking};
use crate::node::intake::Intake;
use crate::node::queue::{Bounds, Job, Outcome, Plan, Topic, Worker};
use crate::node::upstream::{Upstream, UpstreamError};
use crate::volume::hex;
use crate::volume::{Class, Volume};

/// Fetches under way at a time, in all and of one number.
const AT_ONCE: usize = 16;
const PER_NUMBER: usize = 4;
/// The first delay after a failure, and the longest.
const FIRST_DELAY: Duration = Duration::from_secs(5);
const LONGEST_DELAY: Duration = Duration::from_secs(900);
/// How long a medium is tried: the upstream forgets it after seven days.
const LIFE_MS: i64 = 7 * 24 * 3600 * 1000;
/// How often a medium is fetched whose bytes are not those that were told.
const MAX_DIFFERING: u32 = 5;
/// Bytes gathered before the volume gets them.
const PIECE: usize = 128 << 10;

/// Why a try failed.
enum Failure {
    Upstream(UpstreamError),
    Volume(Error),
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Failure {
        Failure::Upstream(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Volume(error)
    }
}

/// What fetches inbound media.
pub struct Downloads {
    core: Arc<Core>,
    upstream: Upstream,
}

impl Downloads {
    /// Makes ready; numbers that were paused before a restart are paused again.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn new(core: &Arc<Core>, upstream: Upstream) -> Result<Downloads> {
        pace::restore(&core.jobs, &core.volume)?;
        Ok(Downloads { core: Arc::clone(core), upstream })
    }

    async fn run(&self, job: &Job) -> Outcome {
        let Ok(id) = Uuid::from_slice(&job.payload).map(MediaId) else { return Outcome::Done(Plan::new()) };
        let inbound = match self.core.ask(move |volume| table::get(volume, &id)).await {
            Ok(Some(inbound)) => inbound,
            Ok(None) => return Outcome::Done(Plan::new()),
            Err(error) => return Outcome::retry(error),
        };
        match self.fetch(id, &inbound).await {
            Ok(sha256) => self.end(job, id, End::Stored(sha256)).await,
            Err(Failure::Volume(error)) => Outcome::retry(error),
            Err(Failure::Upstream(error)) => self.failed(job, inbound, error).await,
        }
    }

    /// Keeps how it ended together with the end of the job.
    async fn end(&self, job: &Job, id: MediaId, end: End) -> Outcome {
        let (core, job) = (Arc::clone(&self.core), job.id);
        let kept = blocking(move || {
            let mut plan = Plan::new();
            plan.finish(Topic::Download, job);
            table::end(&core, &id, &end, plan)
        });
        match kept.await {
            Ok(()) => Outcome::Kept,
            Err(error) => Outcome::retry(error),
        }
    }

    async fn failed(&self, job: &Job, inbound: Inbound, error: UpstreamError) -> Outcome {
        let (core, mut plan) = (Arc::clone(&self.core), Plan::new());
        let is_ours = matches!(error, UpstreamError::Local { .. });
        if !is_ours {
            let number = inbound.number.clone();
            let noted = blocking(move || {
                pace::note_failure(&core.jobs, &core.volume, &mut plan, &number)?;
                Ok(plan)
            });
            plan = match noted.await {
                Ok(plan) => plan,
                Err(error) => return Outcome::retry(error),
            };
        }
        let is_differing = matches!(error, UpstreamError::Differs { .. });
        let is_hopeless = matches!(error, UpstreamError::UnknownId { .. } | UpstreamError::Refused(_))
            || (is_differing && job.head.attempts.saturating_add(1) >= MAX_DIFFERING);
        match is_hopeless {
            true => Outcome::Dead { why: error.to_string(), plan },
            false => Outcome::Retry { why: error.to_string(), after: error.retry_after(), plan },
        }
    }

    /// Fetches a medium unless it is there; gives its digest.
    async fn fetch(&self, id: MediaId, inbound: &Inbound) -> std::result::Result<String, Failure> {
        let expected = inbound.sha256.clone();
        if let Some(sha256) = self.core.ask(move |volume| stored(volume, id, expected.as_deref())).await? {
            return Ok(sha256);
        }
        let lookup = self.upstream.lookup(&inbound.upstream_id).await?;
        let told = lookup.sha256.map(|digest| hex(&digest));
        if let (Some(told), Some(expected)) = (&told, &inbound.sha256)
            && told != expected
        {
            let what = "its digest is not the one of the notification".to_owned();
            return Err(UpstreamError::Differs { what }.into());
        }
        let mime_type = if inbound.mime_type.is_empty() { &lookup.mime_type } else { &inbound.mime_type };
        // Room first: what has none is not asked for.
        let mut intake = Intake::begin(&self.core, Class::General, Some(mime_type.clone()), lookup.file_size).await?;
        let mut body = self.upstream.open(&lookup).await?;
        let (mut digest, mut piece) = (Sha256::new(), BytesMut::with_capacity(PIECE));
        while let Some(bytes) = body.next().await {
            let bytes = bytes?;
            digest.update(&bytes);
            piece.extend_from_slice(&bytes);
            if piece.len() >= PIECE {
                piece = intake.write(piece).await?;
            }
        }
        if !piece.is_empty() {
            intake.write(piece).await?;
        }
        let sha256 = hex(&digest.finalize());
        if inbound.sha256.as_ref().or(told.as_ref()).is_some_and(|expected| *expected != sha256) {
            let what = "the digest of its bytes is another".to_owned();
            return Err(UpstreamError::Differs { what }.into());
        }
        let own = sha256.clone();
        // What is there under its id is not what was told, or cannot be read.
        self.core.ask(move |volume| clear_way(volume, id, &own)).await?;
        match intake.publish_as(id).await {
            Err(error) if error.kind() == Kind::Invalid => {
                Err(UpstreamError::Differs { what: "it is not as long as was told".to_owned() }.into())
            }
            published => {
                published?;
                tracing::info!(%id, "an inbound medium is stored");
                Ok(sha256)
            }
        }
    }
}

/// The digest of the medium with this id, if it is there and is what is expected.
fn stored(volume: &Volume, id: MediaId, expected: Option<&str>) -> Result<Option<String>> {
    let Some(ino) = volume.find(&id)? else { return Ok(None) };
    match volume.medium(ino, true) {
        Ok(medium) => Ok(medium.sha256.filter(|found| expected.is_none_or(|expected| expected == found))),
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged) => Ok(None),
        Err(error) => Err(error),
    }
}

fn clear_way(volume: &Volume, id: MediaId, sha256: &str) -> Result<()> {
    if stored(volume, id, Some(sha256))?.is_some() {
        return Ok(());
    }
    match volume.find(&id)? {
        Some(ino) => volume.remove(ino),
        None => Ok(()),
    }
}

impl Worker for Downloads {
    fn work(self: Arc<Self>, job: Job) -> BoxFuture<'static, Outcome> {
        async move { self.run(&job).await }.boxed()
    }

    fn bounds(&self) -> Bounds {
        Bounds { at_once: AT_ONCE, per_group: PER_NUMBER }
    }

    fn delay(&self, attempts: u32) -> Duration {
        let doubled = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        FIRST_DELAY.saturating_mul(doubled).min(LONGEST_DELAY)
    }

    fn gives_up(&self, job: &Job, now: i64) -> bool {
        now.saturating_sub(job.head.made) >= LIFE_MS
    }

    fn given_up(&self, job: &Job, _why: &str, plan: &mut Plan) -> Result<()> {
        let Ok(id) = Uuid::from_slice(&job.payload).map(MediaId) else { return Ok(()) };
        table::end(&self.core, &id, &End::Failed, std::mem::take(plan))
    }
}
