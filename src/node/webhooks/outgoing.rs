//! Telling the business: every webhook is a durable job, tried until its URL answers 200, for 24 hours.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::ids::MediaId;
use crate::node::client;
use crate::node::core::{Core, blocking};
use crate::node::downloads;
use crate::node::queue::{Bounds, Job, JobId, Jobs, NewJob, Outcome, Plan, Topic, Worker, decode, encode};

/// How long a webhook is tried, as the WhatsApp Business API client has it.
const LIFE_MS: i64 = 24 * 3600 * 1000;
/// How long a connection to the business's server, and its answer, may take.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(20);
/// Bytes of an answer that are looked at, so that the connection can be used again.
const MAX_ANSWER: usize = 64 << 10;

/// A webhook as its job keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    /// The body.
    pub body: Value,
    /// The medium that the message in it has: it is held back until that is stored, or `until`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<Awaited>,
    /// Whether it goes to the operator's URL for events instead of the business's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub to_operator: bool,
}

/// A medium that a message waits for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Awaited {
    /// Its media id.
    pub id: MediaId,
    /// The kind, which names its object in the message.
    pub kind: String,
    /// Until when, in milliseconds since 1970.
    pub until: i64,
}

/// Adds a webhook to a plan; those of one lane come in their order.
///
/// # Errors
/// `NoSpace` when too many wait.
pub fn tell(jobs: &Jobs, plan: &mut Plan, lane: &str, told: &Told) -> Result<JobId> {
    let payload = encode(told)?;
    jobs.add(plan, Topic::Webhook, NewJob { lane: lane.to_owned(), payload, ..NewJob::default() })
}

/// Adds a webhook that waits for nothing.
///
/// # Errors
/// As [`tell`].
pub fn tell_now(jobs: &Jobs, plan: &mut Plan, lane: &str, body: Value) -> Result<()> {
    tell(jobs, plan, lane, &Told { body, waits_for: None, to_operator: false }).map(drop)
}

/// What delivers webhooks.
pub struct Posts {
    core: Arc<Core>,
    client: reqwest::Client,
}

impl Posts {
    /// Makes ready; asks nobody.
    ///
    /// # Errors
    /// `Io` when TLS cannot be set up.
    pub fn new(core: &Arc<Core>) -> Result<Posts> {
        Ok(Posts { core: Arc::clone(core), client: client::build(client::builder(CONNECT))? })
    }

    async fn deliver(&self, job: Job) -> Outcome {
        let told: Told = match decode(&job.payload) {
            Ok(told) => told,
            Err(error) => return Outcome::Dead { why: error.to_string(), plan: Plan::new() },
        };
        let mut body = told.body;
        if let Some(awaited) = told.waits_for {
            let core = Arc::clone(&self.core);
            let asked = awaited.clone();
            match blocking(move || downloads::look(&core, &asked.id, asked.until)).await {
                Ok(downloads::Look::Wait) => return Outcome::Wait { until: awaited.until, plan: Plan::new() },
                Ok(downloads::Look::Stored) => {}
                Ok(downloads::Look::Missing) => mark_undownloaded(&mut body, &awaited.kind),
                Err(error) => return Outcome::retry(error),
            }
        }
        let sent = match told.to_operator {
            true => self.post_event(&body).await,
            false => {
                let url = &self.core.settings.current().webhooks.url;
                match url.is_empty() {
                    true => Err("no URL for webhooks is set: set webhooks.url".to_owned()),
                    false => self.post_to(url, &body).await,
                }
            }
        };
        sent.map_or_else(Outcome::retry, |()| Outcome::Done(Plan::new()))
    }

    /// Posts an event to the operator's URL once.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn post_event(&self, body: &Value) -> std::result::Result<(), String> {
        match &self.core.config.event_url {
            Some(url) => self.post_to(url.expose(), body).await,
            None => Err("no URL for events is given: start with --event-url".to_owned()),
        }
    }

    async fn post_to(&self, url: &str, body: &Value) -> std::result::Result<(), String> {
        match self.post(url, body).await {
            Ok(200) => Ok(()),
            Ok(status) => Err(format!("the webhook's server answers with status {status} instead of 200")),
            Err(why) => Err(format!("the webhook's server cannot be reached: {why}")),
        }
    }

    async fn post(&self, url: &str, body: &Value) -> std::result::Result<u16, String> {
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json").body(body.to_string());
        let work = async {
            let mut response = request.send().await.map_err(|error| client::reason(&error.without_url()))?;
            let (status, mut seen) = (response.status().as_u16(), 0);
            while seen < MAX_ANSWER {
                // The status is what counts: a body that ends early does not make it another.
                let Ok(Some(piece)) = response.chunk().await else { break };
                seen += piece.len();
            }
            Ok(status)
        };
        tokio::time::timeout(ANSWER, work).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }
}

/// Says in the message of a webhook that its medium was not downloaded.
fn mark_undownloaded(body: &mut Value, kind: &str) {
    let medium = body.get_mut("messages").and_then(|messages| messages.get_mut(0)).and_then(|one| one.get_mut(kind));
    if let Some(Value::Object(medium)) = medium {
        medium.insert("status".to_owned(), "undownloaded".into());
    }
}

impl Worker for Posts {
    fn work(self: Arc<Self>, job: Job) -> BoxFuture<'static, Outcome> {
        async move { self.deliver(job).await }.boxed()
    }

    fn bounds(&self) -> Bounds {
        let most = self.core.settings.current().webhooks.max_concurrent_requests as usize;
        Bounds { at_once: most, per_group: most }
    }

    fn delay(&self, attempts: u32) -> Duration {
        let settings = self.core.settings.current();
        let grown = settings.callback_backoff_delay_ms.saturating_mul(u64::from(attempts));
        Duration::from_millis(grown.min(settings.max_callback_backoff_delay_ms))
    }

    fn gives_up(&self, job: &Job, now: i64) -> bool {
        now.saturating_sub(job.head.first.unwrap_or(now)) >= LIFE_MS
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_says_that_its_medium_is_missing() {
        let mut body = json!({"messages": [{"type": "image", "image": {"id": "1"}}]});
        mark_undownloaded(&mut body, "image");
        assert_eq!(body["messages"][0]["image"], json!({"id": "1", "status": "undownloaded"}));
        let before = body.clone();
        mark_undownloaded(&mut body, "video");
        assert_eq!(body, before);
    }
}
