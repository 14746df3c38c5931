//! Whether the node and its volume are well.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::core::Core;
use super::envelope::Meta;

/// `gateway_status` of a node that works.
const CONNECTED: &str = "connected";
/// `gateway_status` of one whose volume takes nothing.
const DISCONNECTED: &str = "disconnected";

/// The state of the node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `connected` when the volume takes and gives media, else `disconnected`.
    pub gateway_status: String,
    /// The volume's own word: `ok`, or `poisoned` with the reason.
    pub volume: String,
}

/// The answer to a question for the node's health.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HealthAnswer {
    /// The state.
    pub health: Health,
    /// As in every answer.
    pub meta: Meta,
}

/// How the node is.
#[utoipa::path(
    get,
    path = "/v1/health",
    operation_id = "get_health",
    tag = "health",
    responses(
        (status = 200, description = "How it is.", body = HealthAnswer),
    ),
    security(("bearer" = []), ("d360" = []))
)]
pub async fn health(State(core): State<Arc<Core>>) -> Json<HealthAnswer> {
    let (gateway_status, volume) = match core.volume.poisoned() {
        None => (CONNECTED, "ok".to_owned()),
        Some(why) => (DISCONNECTED, format!("poisoned: {why}")),
    };
    let health = Health { gateway_status: gateway_status.to_owned(), volume };
    Json(HealthAnswer { health, meta: Meta::new() })
}

/// Whether it works, for probes that have no token: 200 or 503, and no body.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "probe",
    tag = "health",
    responses((status = 200, description = "It works."), (status = 503, description = "The volume takes nothing."))
)]
pub async fn healthz(State(core): State<Arc<Core>>) -> Response {
    match core.volume.poisoned() {
        None => StatusCode::OK.into_response(),
        Some(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
