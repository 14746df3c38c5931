//! Taking notifications apart: every message and status once, its media queued, and the business told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::convert::{Carried, Item, items, set_media_id};
use super::outgoing::{Awaited, Told, tell, tell_now};
use crate::error::{Kind, Result};
use crate::node::core::{Core, blocking};
use crate::node::downloads;
use crate::node::messages;
use crate::node::queue::{Bounds, Job, Outcome, Plan, Topic, Worker};

/// Things of a notification that are kept in one batch, so that it stays small.
const STEP: usize = 50;
/// How long a notification waits at most between two tries.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// What takes notifications apart.
pub struct Events(Arc<Core>);

impl Events {
    /// Makes ready.
    #[must_use]
    pub fn new(core: &Arc<Core>) -> Events {
        Events(Arc::clone(core))
    }
}

fn take_apart(core: &Core, job: &Job) -> Result<Outcome> {
    let Ok(notification) = serde_json::from_slice::<Value>(&job.payload) else {
        return Ok(Outcome::Dead { why: "the notification is no JSON".to_owned(), plan: Plan::new() });
    };
    let items = items(&notification);
    let mut steps = items.chunks(STEP).peekable();
    if steps.peek().is_none() {
        return Ok(Outcome::Done(Plan::new()));
    }
    while let Some(step) = steps.next() {
        let (mut plan, mut noted, now) = (Plan::new(), Vec::new(), core.jobs.now());
        for item in step {
            let id = match item {
                Item::Message { number, id, .. } if !id.is_empty() => format!("m {number} {id}"),
                Item::Status { id, status, .. } if !id.is_empty() => format!("s {status} {id}"),
                _ => String::new(),
            };
            if !id.is_empty() && (noted.contains(&id) || core.seen.note(&mut plan, &id, now)) {
                continue;
            }
            pass_on(core, &mut plan, item)?;
            noted.extend((!id.is_empty()).then_some(id));
        }
        core.seen.forget(&mut plan, noted.len(), now);
        if steps.peek().is_none() {
            plan.finish(Topic::Event, job.id);
        }
        // Before the next notification can begin, which it does when this one is over.
        core.seen.remember(&noted, now);
        core.jobs.commit(plan).inspect_err(|_| core.seen.take_back(&noted))?;
    }
    Ok(Outcome::Kept)
}

fn pass_on(core: &Core, plan: &mut Plan, item: &Item) -> Result<()> {
    match item {
        Item::Message { number, body, from, medium, .. } => {
            let lane = format!("chat {number} {from}");
            match medium {
                None => tell_now(&core.jobs, plan, &lane, body.clone()),
                Some(medium) => pass_medium_on(core, plan, number, &lane, body.clone(), medium),
            }
        }
        Item::Status { body, own, status, recipient, .. } => {
            if let Some(own) = own {
                messages::settle(core, own)?;
            }
            let is_wanted = status != "sent" || core.settings.current().sent_status;
            if is_wanted { tell_now(&core.jobs, plan, &format!("status {recipient}"), body.clone()) } else { Ok(()) }
        }
        Item::Other(body) => tell_now(&core.jobs, plan, "account", body.clone()),
    }
}

/// A message with a medium: queued for fetching when its kind is, and told when it is stored.
fn pass_medium_on(
    core: &Core,
    plan: &mut Plan,
    number: &str,
    lane: &str,
    mut body: Value,
    medium: &Carried,
) -> Result<()> {
    if medium.upstream_id.len() + number.len() > downloads::MAX_ID {
        tracing::warn!(number, "a message carries a medium whose id is too long to be one");
        return tell_now(&core.jobs, plan, lane, body);
    }
    let id = downloads::media_id(core, number, &medium.upstream_id)?;
    set_media_id(&mut body, &medium.kind, &id.to_string());
    let is_wanted = core.upstream.is_some() && core.settings.current().media.auto_download.contains(&medium.kind);
    let until = if is_wanted { core.jobs.now().saturating_add(core.config.hold_messages_ms()) } else { 0 };
    let awaited = Awaited { id, kind: medium.kind.clone(), until };
    let webhook = tell(&core.jobs, plan, lane, &Told { body, waits_for: Some(awaited), to_operator: false })?;
    downloads::note_inbound(core, plan, id, number, medium, is_wanted.then_some(webhook))
}

impl Worker for Events {
    fn work(self: Arc<Self>, job: Job) -> BoxFuture<'static, Outcome> {
        async move {
            let core = Arc::clone(&self.0);
            let done = blocking(move || take_apart(&core, &job)).await;
            done.unwrap_or_else(|error| match error.kind() {
                // Those behind it must not wait for what will never pass.
                Kind::TooBig | Kind::Damaged => Outcome::Dead { why: error.to_string(), plan: Plan::new() },
                _ => Outcome::retry(error),
            })
        }
        .boxed()
    }

    fn bounds(&self) -> Bounds {
        Bounds { at_once: 1, per_group: 1 }
    }

    fn delay(&self, attempts: u32) -> Duration {
        Duration::from_secs(u64::from(attempts)).min(MAX_DELAY)
    }

    fn gives_up(&self, _job: &Job, _now: i64) -> bool {
        false
    }
}
