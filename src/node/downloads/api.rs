//! `GET /v1/media/{id}/download`: an inbound medium is fetched (again).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::table;
use crate::ids::MediaId;
use crate::node::core::{Core, blocking};
use crate::node::envelope::{ApiError, Code, Faults, Meta, Segment};

/// The routes of downloads.
pub fn router() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(download))
}

/// A medium that is being fetched.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MediaItem {
    /// The media id.
    pub id: String,
}

/// The answer to a download.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Downloading {
    /// What is being fetched.
    pub media_items: Vec<MediaItem>,
    /// As in every answer.
    pub meta: Meta,
}

/// Fetches an inbound medium from the upstream, in the background; a webhook tells how it ended.
#[utoipa::path(
    get,
    path = "/v1/media/{id}/download",
    operation_id = "download_medium",
    tag = "media",
    params(("id" = Uuid, Path, description = "The media id from a webhook.")),
    responses(
        (status = 200, description = "It will be fetched, whatever happens to the node.", body = Downloading),
        (status = 404, description = "No inbound medium has this id.", body = Faults),
        (status = 503, description = "No upstream is configured.", body = Faults),
        (status = 507, description = "Too much is queued.", body = Faults),
    ),
    security(("bearer" = []), ("d360" = []))
)]
async fn download(State(core): State<Arc<Core>>, Segment(id): Segment) -> Result<Json<Downloading>, ApiError> {
    let unknown = || ApiError::new(Code::NotFound, "URL path not found.");
    let media_id = MediaId::parse(id.as_bytes()).ok_or_else(unknown)?;
    if core.upstream.is_none() {
        return Err(ApiError::new(Code::NotReady, "no upstream is configured to fetch media from"));
    }
    match blocking(move || table::ask_for(&core, &media_id)).await? {
        true => Ok(Json(Downloading { media_items: vec![MediaItem { id: media_id.to_string() }], meta: Meta::new() })),
        false => Err(unknown()),
    }
}
