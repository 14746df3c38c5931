//! The work behind the API: one task per topic of jobs, and one that forgets what is too old.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::core::{Core, blocking};
use super::downloads::{self, Downloads};
use super::messages::{self, Sends, Settles};
use super::queue::{Topic, Worker, run};
use super::services::Gc;
use super::webhooks::{Events, Posts};
use crate::error::Result;

/// How often what is too old is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Does what was taken on until `end` says so; then begins nothing more and lets what is under way end, for as long as
/// the configuration says. What is cut off then is done again by the next call. Without an upstream, what needs one
/// waits for one.
///
/// # Errors
/// `Damaged`, `Io` before anything is begun.
pub async fn work(core: Arc<Core>, end: watch::Receiver<bool>) -> Result<()> {
    let own = Arc::clone(&core);
    let mut workers: Vec<(Topic, Arc<dyn Worker>)> = vec![
        (Topic::Event, Arc::new(Events::new(&core))),
        (Topic::Webhook, Arc::new(Posts::new(&core)?)),
        (Topic::Settle, Arc::new(Settles::new(&core))),
        (Topic::Gc, Arc::new(Gc::new(&core))),
    ];
    if let Some(upstream) = core.upstream.clone() {
        let with_upstream = blocking(move || {
            let downloads: Arc<dyn Worker> = Arc::new(Downloads::new(&own, upstream.clone())?);
            let sends: Arc<dyn Worker> = Arc::new(Sends::new(&own, upstream)?);
            Ok([(Topic::Download, downloads), (Topic::Send, sends)])
        });
        workers.extend(with_upstream.await?);
    }
    let mut tasks = JoinSet::new();
    for (topic, worker) in workers {
        tasks.spawn(run(Arc::clone(&core.jobs), topic, worker, core.config.drain_timeout, end.clone()));
    }
    tasks.spawn(sweep(core, end));
    while tasks.join_next().await.is_some() {}
    Ok(())
}

async fn sweep(core: Arc<Core>, mut end: watch::Receiver<bool>) {
    loop {
        let own = Arc::clone(&core);
        let swept = blocking(move || {
            downloads::sweep(&own)?;
            messages::sweep(&own)
        });
        if let Err(error) = swept.await {
            tracing::warn!(%error, "what is too old could not be forgotten");
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP_EVERY) => {}
            _ = end.wait_for(|end| *end) => return,
        }
    }
}
