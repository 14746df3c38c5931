//! Sending messages: their media first, then a mark, then the message itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use serde_json::Value;

use super::parts::{Outgoing, Part, Source, fits};
use super::uploads::{AtUpstream, UploadError, Uploads};
use super::{Reason, outcome_of, settle, tell_failure};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::ids::{Ino, MediaId};
use crate::media::Kind;
use crate::node::core::{Core, blocking};
use crate::node::envelope::Code;
use crate::node::fetch::{FetchError, Fetcher};
use crate::node::intake::Intake;
use crate::node::providers;
use crate::node::queue::{Bounds, Job, Outcome, Plan, Topic, Worker, decode};
use crate::node::tables::{ABOUT_TO_SEND, UPLOADED};
use crate::node::upstream::{Upstream, UpstreamError};
use crate::volume::{Class, Medium};

/// Messages under way at a time.
const AT_ONCE: usize = 16;
/// The first delay after a failure, and the longest.
const FIRST_DELAY: Duration = Duration::from_secs(2);
const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// How long it is tried to send a message.
const LIFE_MS: i64 = 24 * 3600 * 1000;
/// Codes of refusals that can be about a medium: a parameter, its value, a medium's download or upload ("WhatsApp error
/// codes").
const OF_MEDIA: [i64; 4] = [100, 131_009, 131_052, 131_053];
/// Bytes gathered before the volume gets them.
const PIECE: usize = 128 << 10;

/// Why a message cannot be sent.
enum Trouble {
    /// Not now.
    Later(String, Option<Duration>),
    /// Not at all.
    Never(Reason),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        match error.kind() {
            ErrorKind::NotFound => Trouble::Never(Reason::new(Code::NotFound, "the medium is no longer there")),
            ErrorKind::Damaged => Trouble::Never(Reason::new(Code::Internal, "the medium is damaged")),
            _ => Trouble::Later(error.to_string(), None),
        }
    }
}

impl From<UploadError> for Trouble {
    fn from(error: UploadError) -> Trouble {
        match error {
            UploadError::Volume(error) => error.into(),
            UploadError::Upstream(UpstreamError::Refused(refusal)) => Trouble::Never(refused(&refusal)),
            UploadError::Upstream(error) => Trouble::Later(error.to_string(), error.retry_after()),
        }
    }
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Trouble {
        let after = match &error {
            FetchError::Status { retry_after, .. } => *retry_after,
            _ => None,
        };
        match error.may_pass() {
            true => Trouble::Later(error.to_string(), after),
            false => Trouble::Never(Reason::new(Code::NotValid, error)),
        }
    }
}

/// What an upstream refused, in its own words.
fn refused(refusal: &crate::node::upstream::Refusal) -> Reason {
    let own = Reason::new(Code::Generic, refusal);
    Reason {
        code: refusal.code.unwrap_or(own.code),
        title: refusal.title.clone().unwrap_or(own.title),
        details: refusal.details.clone().unwrap_or(own.details),
    }
}

/// What sends messages.
pub struct Sends {
    core: Arc<Core>,
    upstream: Upstream,
    fetcher: Fetcher,
    uploads: Uploads,
}

impl Sends {
    /// Makes ready; asks nobody.
    ///
    /// # Errors
    /// `Io` when TLS cannot be set up.
    pub fn new(core: &Arc<Core>, upstream: Upstream) -> Result<Sends> {
        let fetcher = Fetcher::new(core.config.fetch.clone())?;
        Ok(Sends { core: Arc::clone(core), upstream, fetcher, uploads: Uploads::default() })
    }

    async fn run(&self, job: &Job) -> Outcome {
        let outgoing: Outgoing = match decode(&job.payload) {
            Ok(outgoing) => outgoing,
            Err(error) => return Outcome::Dead { why: error.to_string(), plan: Plan::new() },
        };
        let (core, id, job_id) = (Arc::clone(&self.core), outgoing.id.clone(), job.id);
        let found = blocking(move || match settle::mark_of(&core, &id)? {
            Some(_) => settle::leave(&core, job_id, &id).map(Some),
            None => Ok(None),
        });
        match found.await {
            Ok(None) => {}
            Ok(Some(left)) => return left,
            Err(error) => return Outcome::retry(error),
        }
        let mut message = outgoing.message.clone();
        let mut media = Vec::new();
        for part in &outgoing.parts {
            match self.ready(part).await {
                Ok(at_upstream) => {
                    put_id(&mut message, &part.pointer, &at_upstream.id);
                    media.push(at_upstream);
                }
                Err(Trouble::Later(why, after)) => return Outcome::Retry { why, after, plan: Plan::new() },
                Err(Trouble::Never(reason)) => return self.refuse(job, &outgoing, reason).await,
            }
        }
        self.hand_over(job, &outgoing, &message, &media).await
    }

    /// Marks the message, hands it over, and keeps what came of it.
    async fn hand_over(&self, job: &Job, outgoing: &Outgoing, message: &Value, media: &[AtUpstream]) -> Outcome {
        let (core, id, to) = (Arc::clone(&self.core), outgoing.id.clone(), outgoing.to.clone());
        if let Err(error) = blocking(move || settle::mark(&core, &id, &to)).await {
            return Outcome::retry(error);
        }
        let sent = self.upstream.send(message).await;
        let (core, id, job_id) = (Arc::clone(&self.core), outgoing.id.clone(), job.id);
        let unmarked = || {
            let mut plan = Plan::new();
            plan.delete(ABOUT_TO_SEND, outgoing.id.as_bytes());
            plan
        };
        match sent {
            Ok(sent) => {
                tracing::info!(id, upstream = ?sent.ids, "a message was sent");
                outcome_of(move || {
                    let mut plan = Plan::new();
                    plan.finish(Topic::Send, job_id);
                    settle::unmark(&core, &id, plan)
                })
                .await
            }
            Err(error) if error.may_have_been_sent() => {
                tracing::warn!(id, %error, "whether a message was sent is not known yet");
                outcome_of(move || settle::leave(&core, job_id, &id)).await
            }
            Err(UpstreamError::Refused(refusal))
                if refusal.code.is_some_and(|code| OF_MEDIA.contains(&code)) && media.iter().any(|one| one.is_old) =>
            {
                // The upstream may have forgotten a medium before its time: it is uploaded again, once.
                let mut plan = unmarked();
                for medium in media {
                    plan.delete(UPLOADED, &medium.key);
                }
                let why = "the upstream refuses the message; its media are uploaded again".to_owned();
                Outcome::Retry { why, after: None, plan }
            }
            Err(UpstreamError::Refused(refusal)) => self.refuse(job, outgoing, refused(&refusal)).await,
            Err(error) => Outcome::Retry { why: error.to_string(), after: error.retry_after(), plan: unmarked() },
        }
    }

    /// Ends a message that cannot be sent, and tells the business.
    async fn refuse(&self, job: &Job, outgoing: &Outgoing, reason: Reason) -> Outcome {
        tracing::warn!(id = outgoing.id, why = reason.details, "a message cannot be sent");
        let (core, id, to, job) = (Arc::clone(&self.core), outgoing.id.clone(), outgoing.to.clone(), job.id);
        outcome_of(move || {
            let mut plan = Plan::new();
            tell_failure(&core.jobs, &mut plan, &id, &to, &reason)?;
            plan.finish(Topic::Send, job);
            settle::unmark(&core, &id, plan)
        })
        .await
    }

    /// Sees to it that the upstream has a medium.
    async fn ready(&self, part: &Part) -> std::result::Result<AtUpstream, Trouble> {
        let (id, medium) = match &part.source {
            Source::Id(id) => (*id, self.find(*id).await?),
            Source::Link { url, provider, becomes } => match self.find(*becomes).await? {
                Some(medium) => (*becomes, Some(medium)),
                None => {
                    self.fetch(url, provider.as_deref(), *becomes).await?;
                    (*becomes, self.find(*becomes).await?)
                }
            },
        };
        let medium = medium.ok_or_else(|| Error::from(ErrorKind::NotFound))?;
        let kind = Kind::parse(&part.kind).unwrap_or(Kind::Document);
        fits(kind, &medium).map_err(|why| Trouble::Never(Reason::new(Code::NotValid, why)))?;
        Ok(self.uploads.id_of(&self.core, &self.upstream, id, &medium).await?)
    }

    async fn find(&self, id: MediaId) -> Result<Option<Medium>> {
        let found = self.core.ask(move |volume| match volume.find(&id)? {
            Some(ino) => volume.medium(Ino(ino.0), true).map(Some),
            None => Ok(None),
        });
        match found.await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            found => found,
        }
    }

    /// Fetches a link into the volume.
    async fn fetch(&self, url: &str, provider: Option<&str>, id: MediaId) -> std::result::Result<(), Trouble> {
        let name = provider.map(str::to_owned);
        let credentials = self.core.ask(move |volume| match name {
            Some(name) => providers::get(volume, &name),
            None => Ok(None),
        });
        let credentials = credentials.await?;
        if provider.is_some() && credentials.is_none() {
            return Err(Trouble::Never(Reason::new(Code::NotValid, "the provider of the link was removed")));
        }
        let mut fetched = self.fetcher.fetch(url, credentials.as_ref()).await?;
        let mime_type = fetched.content_type().map(str::to_owned);
        let mut intake = Intake::begin(&self.core, Class::Uploads, mime_type, fetched.length()).await?;
        let mut piece = BytesMut::with_capacity(PIECE);
        while let Some(bytes) = fetched.next().await {
            piece.extend_from_slice(&bytes?);
            if piece.len() >= PIECE {
                piece = intake.write(piece).await?;
            }
        }
        if !piece.is_empty() {
            intake.write(piece).await?;
        }
        match intake.publish_as(id).await {
            // It was fetched before, by a try that was cut off.
            Err(error) if error.kind() == ErrorKind::Exists => Ok(()),
            published => Ok(published?),
        }
    }
}

/// Gives the object of a medium the upstream's id.
fn put_id(message: &mut Value, pointer: &str, id: &str) {
    if let Some(Value::Object(object)) = message.pointer_mut(pointer) {
        object.insert("id".to_owned(), id.into());
    }
}

impl Worker for Sends {
    fn work(self: Arc<Self>, job: Job) -> BoxFuture<'static, Outcome> {
        async move { self.run(&job).await }.boxed()
    }

    fn bounds(&self) -> Bounds {
        Bounds { at_once: AT_ONCE, per_group: AT_ONCE }
    }

    fn delay(&self, attempts: u32) -> Duration {
        let doubled = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        FIRST_DELAY.saturating_mul(doubled).min(LONGEST_DELAY)
    }

    fn gives_up(&self, job: &Job, now: i64) -> bool {
        now.saturating_sub(job.head.made) >= LIFE_MS
    }

    fn given_up(&self, job: &Job, why: &str, plan: &mut Plan) -> Result<()> {
        let Ok(outgoing) = decode::<Outgoing>(&job.payload) else { return Ok(()) };
        tell_failure(&self.core.jobs, plan, &outgoing.id, &outgoing.to, &Reason::new(Code::Generic, why))
    }
}
