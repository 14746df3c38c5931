//! `/v1/services/media/gc`: expired media are removed, one run at a time, and a webhook tells how many.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::core::{Core, blocking};
use super::envelope::{ApiError, Meta};
use super::queue::{Bounds, Job, NewJob, Outcome, Plan, Topic, Worker};
use super::webhooks::outgoing::tell_now;

/// How often a run is tried that failed, and how long it waits in between.
const MAX_ATTEMPTS: u32 = 5;
const DELAY: Duration = Duration::from_secs(60);
/// The lane of runs, and of what is told of them.
const LANE: &str = "gc";

/// The routes of services.
pub fn router() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(gc))
}

/// Removes expired media in the background, unless a run is under way already; a webhook tells its end.
#[utoipa::path(
    put,
    path = "/v1/services/media/gc",
    operation_id = "remove_expired",
    tag = "media",
    responses(
        (status = 200, description = "A run is under way.", body = Value),
    ),
    security(("bearer" = []), ("d360" = []))
)]
async fn gc(State(core): State<Arc<Core>>) -> Result<Json<Value>, ApiError> {
    let begun = blocking(move || {
        let _one = core.gc.lock();
        if core.jobs.count(Topic::Gc) > 0 {
            return Ok(());
        }
        let mut plan = Plan::new();
        core.jobs.add(&mut plan, Topic::Gc, NewJob { lane: LANE.to_owned(), ..NewJob::default() })?;
        core.jobs.commit(plan)
    });
    begun.await?;
    Ok(Json(json!({"services": {"media": {"gc": {"status": "processing"}}}, "meta": Meta::new()})))
}

/// What removes expired media.
pub struct Gc(Arc<Core>);

impl Gc {
    /// Makes ready.
    #[must_use]
    pub fn new(core: &Arc<Core>) -> Gc {
        Gc(Arc::clone(core))
    }
}

impl Worker for Gc {
    fn work(self: Arc<Self>, _job: Job) -> BoxFuture<'static, Outcome> {
        let core = Arc::clone(&self.0);
        let purge = blocking(move || {
            let report = core.volume.purge(false, None, &mut |_| {})?;
            tracing::info!(media = report.media, bytes = report.bytes, "expired media were removed");
            let run = json!({"items_deleted": report.media, "status": "complete"});
            let mut plan = Plan::new();
            tell_now(&core.jobs, &mut plan, LANE, json!({"services": [{"media": {"gc": run}}]}))?;
            Ok(Outcome::Done(plan))
        });
        async move { purge.await.unwrap_or_else(Outcome::retry) }.boxed()
    }

    fn bounds(&self) -> Bounds {
        Bounds { at_once: 1, per_group: 1 }
    }

    fn delay(&self, _attempts: u32) -> Duration {
        DELAY
    }

    fn gives_up(&self, job: &Job, _now: i64) -> bool {
        job.head.attempts >= MAX_ATTEMPTS
    }
}
