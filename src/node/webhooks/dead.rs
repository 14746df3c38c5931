//! `/v1/webhooks/dead`: webhooks that were given up, to be looked at and replayed.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::schema::{Array, ArrayBuilder, Object, ObjectBuilder, SchemaType, Type};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::outgoing::Told;
use crate::error::Result;
use crate::node::core::{Core, blocking};
use crate::node::envelope::{ApiError, Asked, Body, Faults, Meta};
use crate::node::queue::{DeadLetter, JobId, Jobs, Topic, decode};

/// Dead webhooks in one answer, unless asked for fewer.
const PAGE: usize = 100;

/// The routes of dead webhooks.
pub fn router() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(replay))
}

/// A webhook that was given up.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeadWebhook {
    /// Its number, by which it is replayed.
    pub id: JobId,
    /// When it came up, RFC 3339.
    pub made: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last try failed.
    pub error: String,
    /// What was to be told.
    pub body: Value,
}

impl From<DeadLetter> for DeadWebhook {
    fn from(letter: DeadLetter) -> DeadWebhook {
        let body = decode::<Told>(&letter.payload).map_or(Value::Null, |told| told.body);
        let made = jiff::Timestamp::from_millisecond(letter.head.made).unwrap_or_default().to_string();
        DeadWebhook {
            id: letter.id,
            made,
            attempts: letter.head.attempts,
            error: letter.head.error.unwrap_or_default(),
            body,
        }
    }
}

/// A number as the document tells it: any that fits into 64 bits, not what fits with a sign.
fn number() -> Object {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build()
}

fn numbers() -> Array {
    let types = SchemaType::from_iter([Type::Array, Type::Null]);
    ArrayBuilder::new().schema_type(types).items(number()).description(Some("Their numbers; without it: all.")).build()
}

/// Which dead webhooks are asked for.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Only those behind the one with this number.
    #[param(schema_with = number)]
    pub after: JobId,
    /// At most so many, and no more than 100.
    #[param(schema_with = number)]
    pub limit: Option<usize>,
}

/// The answer with dead webhooks.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeadWebhooks {
    /// They, the oldest first; fewer than were asked for when there are no more.
    pub dead: Vec<DeadWebhook>,
    /// As in every answer.
    pub meta: Meta,
}

/// Which dead webhooks are to be replayed.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Replay {
    /// Their numbers; without it: all.
    #[schema(schema_with = numbers)]
    pub ids: Option<Vec<JobId>>,
}

/// The answer to a replay.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Replayed {
    /// How many are tried again.
    pub replayed: usize,
    /// As in every answer.
    pub meta: Meta,
}

/// Webhooks that were given up, behind `after`, at most `limit`.
///
/// # Errors
/// `Damaged`, `Io`.
pub fn dead_webhooks(jobs: &Jobs, after: JobId, limit: usize) -> Result<Vec<DeadWebhook>> {
    Ok(jobs.dead(Topic::Webhook, after, limit)?.into_iter().map(DeadWebhook::from).collect())
}

/// Has given-up webhooks tried again for another 24 hours: those of `ids`, or all. Durable on return.
///
/// # Errors
/// Those of the state log.
pub fn replay_webhooks(jobs: &Jobs, ids: Option<&[JobId]>) -> Result<usize> {
    jobs.replay(Topic::Webhook, ids)
}

/// Lists the webhooks that were given up.
#[utoipa::path(
    get,
    path = "/v1/webhooks/dead",
    operation_id = "list_dead_webhooks",
    tag = "webhooks",
    params(Page),
    responses(
        (status = 200, description = "They.", body = DeadWebhooks),
        (status = 400, description = "A parameter that is no number.", body = Faults),
    ),
    security(("bearer" = []), ("d360" = []))
)]
async fn list(
    State(core): State<Arc<Core>>,
    Asked(page): Asked<Page>,
) -> std::result::Result<Json<DeadWebhooks>, ApiError> {
    let limit = page.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let dead = blocking(move || dead_webhooks(&core.jobs, page.after, limit)).await?;
    Ok(Json(DeadWebhooks { dead, meta: Meta::new() }))
}

/// Has webhooks that were given up tried again.
#[utoipa::path(
    post,
    path = "/v1/webhooks/dead/replay",
    operation_id = "replay_dead_webhooks",
    tag = "webhooks",
    request_body(content = Replay, description = "Which; an empty object: all."),
    responses(
        (status = 200, description = "They are tried again, for another 24 hours.", body = Replayed),
    ),
    security(("bearer" = []), ("d360" = []))
)]
async fn replay(
    State(core): State<Arc<Core>>,
    Body(which): Body<Replay>,
) -> std::result::Result<Json<Replayed>, ApiError> {
    let replayed = blocking(move || replay_webhooks(&core.jobs, which.ids.as_deref())).await?;
    Ok(Json(Replayed { replayed, meta: Meta::new() }))
}
