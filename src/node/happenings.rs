//! What happens in the volume, told to the operator's own URL: a durable job like every webhook.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::core::{Core, blocking};
use super::queue::{Plan, Topic, run};
use super::webhooks::Posts;
use super::webhooks::outgoing::{Told, tell};
use crate::error::Result;
use crate::volume::Happening;

/// The lane of what happens: it comes in its order.
const LANE: &str = "volume";
/// How often, and how far apart, something is posted that cannot be kept.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(5);

fn body(core: &Core, happening: &Happening) -> Value {
    json!({"volume": {
        "id": core.volume.id().to_string(),
        "event": happening.event.as_str(),
        "time": happening.at.rfc3339(),
        "used_bytes": happening.used_bytes,
        "size_bytes": happening.size_bytes,
        "percent": happening.percent,
        "count": happening.count,
        "bytes": happening.bytes,
    }})
}

/// Keeps a happening to be posted to [`NodeConfig::event_url`](super::NodeConfig::event_url). One that cannot be kept, since the disk is
/// full or has failed, is posted at once, three times at most.
pub async fn tell_happening(core: &Arc<Core>, happening: &Happening) {
    let (own, told) = (Arc::clone(core), body(core, happening));
    let kept = told.clone();
    let keeping = blocking(move || {
        let mut plan = Plan::new();
        tell(&own.jobs, &mut plan, LANE, &Told { body: kept, waits_for: None, to_operator: true })?;
        own.jobs.commit(plan)
    });
    let Err(error) = keeping.await else { return };
    tracing::warn!(%error, "an event cannot be kept, and is posted at once");
    let posts = match Posts::new(core) {
        Ok(posts) => posts,
        Err(error) => return tracing::warn!(%error, "an event is not told"),
    };
    for attempt in 1..=TRIES {
        match posts.post_event(&told).await {
            Ok(()) => return,
            Err(why) if attempt == TRIES => tracing::warn!("an event is not told: {why}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Delivers webhooks, those of events above all, for a volume without a node that answers.
///
/// # Errors
/// `Io` when TLS cannot be set up.
pub async fn work_for_events(core: Arc<Core>, end: watch::Receiver<bool>) -> Result<()> {
    let posts = Arc::new(Posts::new(&core)?);
    run(Arc::clone(&core.jobs), Topic::Webhook, posts, core.config.drain_timeout, end).await;
    Ok(())
}
