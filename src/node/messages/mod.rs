//! `/v1/messages`: checked at once, sent by durable jobs, and never twice.

mod body;
mod check;
mod opaque;
mod parts;
mod send;
mod settle;
mod uploads;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use opaque::OpaqueId;
pub use send::Sends;
pub use settle::{Settles, settle};
pub use uploads::sweep;

use super::core::{Core, blocking};
use super::envelope::{ApiError, Body, Code, Faults, Meta};
use super::queue::{Jobs, NewJob, Plan, Topic, encode};
use super::webhooks::outgoing::tell_now;
use crate::error::Result;

/// The routes of messages.
pub fn router() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(send_message))
}

/// A message by its id.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MessageRef {
    /// The id by which webhooks speak of it.
    pub id: String,
}

/// The answer to a message.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// The message.
    pub messages: Vec<MessageRef>,
    /// As in every answer.
    pub meta: Meta,
}

/// Takes a message. It is durable when this is answered, and sent once; how that went is told by webhook.
#[utoipa::path(
    post,
    path = "/v1/messages",
    operation_id = "send_message",
    tag = "messages",
    request_body(content = body::Message, content_type = "application/json",
        description = "`to`, `type`, and the object that the type names; media by `id` or `link`."),
    responses(
        (status = 201, description = "It will be sent.", body = Accepted),
        (status = 400, description = "What is wrong with it, by name.", body = Faults),
        (status = 503, description = "No upstream is configured.", body = Faults),
        (status = 507, description = "Too much is queued.", body = Faults),
    ),
    security(("bearer" = []), ("d360" = []))
)]
async fn send_message(
    State(core): State<Arc<Core>>,
    Body(message): Body<Value>,
) -> std::result::Result<Response, ApiError> {
    if core.upstream.is_none() {
        return Err(ApiError::new(Code::NotReady, "no upstream is configured to send messages to"));
    }
    let accepted = tokio::task::spawn_blocking(move || {
        let outgoing = check::check(&core.volume, message)?;
        let id = outgoing.id.clone();
        let mut plan = Plan::new();
        let job = NewJob { lane: format!("to {}", outgoing.to), payload: encode(&outgoing)?, ..NewJob::default() };
        core.jobs.add(&mut plan, Topic::Send, job)?;
        core.jobs.commit(plan)?;
        Ok::<_, ApiError>(id)
    });
    let failed = |_| ApiError::new(Code::Internal, "the node failed; its log says why");
    let id = accepted.await.map_err(failed)??;
    let answer = Accepted { messages: vec![MessageRef { id }], meta: Meta::new() };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// Why a message was not sent, as webhooks tell it.
pub(super) struct Reason {
    code: i64,
    title: String,
    details: String,
}

impl Reason {
    fn new(code: Code, details: impl ToString) -> Reason {
        Reason { code: i64::from(code as u16), title: code.title().to_owned(), details: details.to_string() }
    }
}

/// Tells the business that a message was not sent.
fn tell_failure(jobs: &Jobs, plan: &mut Plan, id: &str, to: &str, reason: &Reason) -> Result<()> {
    let error = json!({"code": reason.code, "title": reason.title, "details": reason.details});
    let timestamp = (jobs.now() / 1000).to_string();
    let status = json!({"id": id, "recipient_id": to, "status": "failed", "timestamp": timestamp, "errors": [error]});
    tell_now(jobs, plan, &format!("status {to}"), json!({"statuses": [status]}))
}

/// Does blocking work for a job, whose failure is a try that failed.
async fn outcome_of(work: impl FnOnce() -> Result<super::queue::Outcome> + Send + 'static) -> super::queue::Outcome {
    blocking(work).await.unwrap_or_else(super::queue::Outcome::retry)
}
