//! Which path leads where, and what stands before it.

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::IntoResponse;
use axum::{Json, Router};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::normalize_path::NormalizePath;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::core::Core;
use super::envelope::{ApiError, Code};
use super::openapi::{Document, Reach, complete};
use super::webhooks::{dead, incoming};
use super::{auth, downloads, health, media, messages, metrics, providers, services, settings_api, users};

/// Everybody's routes.
fn open() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new()
        .merge(incoming::router())
        .routes(routes!(users::login))
        .routes(routes!(health::healthz))
        .routes(routes!(openapi))
}

/// The routes of who shows a token.
fn users_routes() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new()
        .merge(media::router())
        .merge(downloads::router())
        .merge(messages::router())
        .routes(routes!(users::logout))
        .routes(routes!(health::health))
        .routes(routes!(metrics::metrics))
        .routes(routes!(metrics::stats))
}

/// The routes of admins.
fn admins() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new()
        .merge(settings_api::router())
        .merge(providers::router())
        .merge(services::router())
        .merge(dead::router())
}

/// The OpenAPI document of all routes.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let parts = [(open(), Reach::Open), (users_routes(), Reach::Users), (admins(), Reach::Admins)];
    for (router, reach) in parts {
        let mut part = router.into_openapi();
        complete(&mut part, reach);
        document.merge(part);
    }
    document
}

/// Tells this document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "get_document",
    tag = "document",
    responses((status = 200, description = "The OpenAPI document of this node.", body = Object))
)]
async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}

/// All routes of a node; a path with a slash at its end is the same path.
pub fn router(core: &Arc<Core>) -> NormalizePath<Router> {
    let admins = Router::from(admins()).layer(middleware::from_fn(auth::require_admin));
    let known = Router::from(users_routes())
        .merge(admins)
        .layer(middleware::from_fn_with_state(Arc::clone(core), auth::require_token));
    let router = Router::from(open())
        .merge(known)
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(Arc::clone(core), metrics::count))
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::new(Code::Internal, "the node failed; its log says why").into_response()
        }))
        .with_state(Arc::clone(core));
    NormalizePath::trim_trailing_slash(router)
}

async fn no_route() -> ApiError {
    ApiError::new(Code::NotFound, "URL path not found.")
}

async fn no_method() -> ApiError {
    ApiError::new(Code::NotValidRequest, "this path does not take this method")
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
}
