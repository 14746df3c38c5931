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

use super::core::Core;
use super::envelope::{ApiError, Done, Meta};
use crate::ids::{Ino, MediaId};

/// The routes of media.
pub fn router() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(upload::upload)).routes(routes!(serve::get, serve::head, remove))
}

/// The medium with the id at the end of a path; none for one that is unknown or no id at all.
async fn find(core: &Core, uri: &Uri) -> Result<Option<(MediaId, Ino)>, ApiError> {
    let id = uri.path().rsplit('/').next().unwrap_or_default();
    let Some(id) = MediaId::parse(id.as_bytes()) else { return Ok(None) };
    let found = core.ask(move |volume| volume.find(&id)).await?;
    Ok(found.map(|ino| (id, ino)))
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
async fn remove(State(core): State<Arc<Core>>, uri: Uri) -> Result<Response, ApiError> {
    let Some((id, ino)) = find(&core, &uri).await? else { return Ok(unknown()) };
    match core.ask(move |volume| volume.remove(ino)).await {
        Err(error) if error.kind() == crate::error::Kind::NotFound => return Ok(unknown()),
        removed => removed?,
    }
    tracing::info!(%id, "medium removed through the API");
    Ok((StatusCode::OK, Json(Done { meta: Meta::new() })).into_response())
}
