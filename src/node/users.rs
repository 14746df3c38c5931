//! `/v1/users`: logging in and out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{self, Caller, basic_of};
use super::core::{Core, blocking};
use super::envelope::{ApiError, Done, Faults, Meta};
use crate::clock::Timestamp;
use crate::error::Kind;

/// A login's token.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Login {
    /// To be sent as `Authorization: Bearer`.
    pub token: String,
    /// When it ends, `YYYY-MM-DD HH:MM:SS+00:00`.
    pub expires_after: String,
}

/// The answer to a login.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Logins {
    /// The one login.
    pub users: Vec<Login>,
    /// As in every answer.
    pub meta: Meta,
}

/// Gives who shows a token's name and the token, by basic authentication, a token for seven days.
#[utoipa::path(
    post,
    path = "/v1/users/login",
    operation_id = "log_in",
    tag = "users",
    responses(
        (status = 200, description = "A token for seven days.", body = Logins),
        (status = 401, description = "Name and token do not belong together.", body = Faults),
        (status = 429, description = "Too many wrong logins from this address.", body = Faults),
        (status = 503, description = "The volume takes no changes now.", body = Faults),
    ),
    security(("basic" = []))
)]
pub async fn login(State(core): State<Arc<Core>>, request: Request) -> Result<Response, ApiError> {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(basic_of);
    let Some((name, secret)) = shown else { return Ok(auth::refuse(&core, &request)) };
    let sharing = Arc::clone(&core);
    let made = blocking(move || sharing.tokens.log_in(&sharing.volume, &name, &secret)).await;
    match made {
        Err(error) if error.kind() == Kind::WrongKey => Ok(auth::refuse(&core, &request)),
        made => {
            let (token, known) = made?;
            let login = Login { token, expires_after: known.expires.map(shown_time).unwrap_or_default() };
            Ok(Json(Logins { users: vec![login], meta: Meta::new() }).into_response())
        }
    }
}

fn shown_time(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.secs)
        .map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S+00:00").to_string())
        .unwrap_or_default()
}

/// Ends the token that is shown, when a login gave it.
#[utoipa::path(
    post,
    path = "/v1/users/logout",
    operation_id = "log_out",
    tag = "users",
    responses(
        (status = 200, description = "The token has ended.", body = Done),
    ),
    security(("bearer" = []), ("d360" = []))
)]
pub async fn logout(State(core): State<Arc<Core>>, caller: Caller) -> Result<Json<Done>, ApiError> {
    if caller.token.login {
        blocking(move || core.tokens.end(&core.volume, &caller.id)).await?;
    }
    Ok(Json(Done { meta: Meta::new() }))
}
