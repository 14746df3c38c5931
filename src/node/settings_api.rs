//! `/v1/settings`: what an admin sets through the API.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::core::{Core, blocking};
use super::envelope::{ApiError, Body, Code, Done, Faults, Meta};
use super::settings::Application;

/// The routes of settings.
pub fn router() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(get, patch, reset))
}

/// The settings.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SettingsOf {
    /// Those of the application.
    pub application: Application,
}

/// The answer with the settings.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SettingsAnswer {
    /// The settings.
    pub settings: SettingsOf,
    /// As in every answer.
    pub meta: Meta,
}

/// The settings in force.
#[utoipa::path(
    get,
    path = "/v1/settings/application",
    operation_id = "get_settings",
    tag = "settings",
    responses(
        (status = 200, description = "The settings in force.", body = SettingsAnswer),
    ),
    security(("bearer" = []), ("d360" = []))
)]
async fn get(State(core): State<Arc<Core>>) -> Json<SettingsAnswer> {
    let settings = SettingsOf { application: (*core.settings.current()).clone() };
    Json(SettingsAnswer { settings, meta: Meta::new() })
}

/// Changes the settings that are named.
#[utoipa::path(
    patch,
    path = "/v1/settings/application",
    operation_id = "change_settings",
    tag = "settings",
    request_body(content = Application, description = "The settings to change; the others stay."),
    responses(
        (status = 200, description = "They are in force, and durable.", body = Done),
        (status = 400, description = "A setting that is unknown or makes no sense, by name.", body = Faults),
    ),
    security(("bearer" = []), ("d360" = []))
)]
async fn patch(State(core): State<Arc<Core>>, Body(change): Body<Value>) -> Result<Json<Done>, ApiError> {
    if !change.is_object() {
        return Err(ApiError::new(Code::NotValid, "the body is a JSON object of settings"));
    }
    blocking(move || core.settings.patch(&core.volume, &change)).await?;
    Ok(Json(Done { meta: Meta::new() }))
}

/// Puts all settings back to their defaults.
#[utoipa::path(
    delete,
    path = "/v1/settings/application",
    operation_id = "reset_settings",
    tag = "settings",
    responses(
        (status = 200, description = "The defaults are in force.", body = Done),
    ),
    security(("bearer" = []), ("d360" = []))
)]
async fn reset(State(core): State<Arc<Core>>) -> Result<Json<Done>, ApiError> {
    blocking(move || core.settings.reset(&core.volume)).await?;
    Ok(Json(Done { meta: Meta::new() }))
}
