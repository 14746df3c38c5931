//! `/v1/media`: uploads, downloads by clients, removal.

mod range;
pub mod reading;
mod serve;
mod upload;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Caller;
use super::core::Core;
use super::envelope::{ApiError, Done, Meta};
use crate::ids::MediaId;
use crate::volume::origin;

/// The routes of media.
pub fn router() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(upload::upload)).routes(routes!(serve::get, serve::head, remove))
}

/// The media id at the end of a path, if it is one.
fn id_of(uri: &Uri) -> Option<MediaId> {
    MediaId::parse(uri.path().rsplit('/').next().unwrap_or_default().as_bytes())
}

/// The answer for a medium that is not there: no body, as the published protocol has it.
fn unknown() -> Response {
    StatusCode::NOT_FOUND.into_response()
}

/// Removes a medium.
#[utoipa::path(
    delete,
    path = "/v1/media/{id}",
    operation_id = "remove_medium",
    tag = "media",
    params(("id" = Uuid, Path, description = "The media id.")),
    responses(
        (status = 200, description = "It is gone, for good.", body = Done),
        (status = 404, description = "No such medium; no body."),
    ),
    security(("bearer" = []), ("d360" = []))
)]
async fn remove(State(core): State<Arc<Core>>, caller: Caller, uri: Uri) -> Result<Response, ApiError> {
    let Some(id) = id_of(&uri) else { return Ok(unknown()) };
    let origin = caller.origin();
    let removed = core.ask(move |volume| match volume.find(&id)? {
        Some(ino) => origin::acting(origin, || volume.remove(ino)).map(|_| true),
        None => Ok(false),
    });
    match removed.await {
        Ok(true) => {}
        Ok(false) => return Ok(unknown()),
        Err(error) if error.kind() == crate::error::Kind::NotFound => return Ok(unknown()),
        Err(error) => return Err(error.into()),
    }
    tracing::info!(%id, "medium removed through the API");
    Ok((StatusCode::OK, Json(Done { meta: Meta::new() })).into_response())
}
