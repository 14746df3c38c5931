//! `/webhooks/{name}`: notifications of the upstream. One is durable before it is answered with 200.
//!
//! With an app secret, `X-Hub-Signature-256` must be the HMAC-SHA256 of the body. Without one (360dialog signs nothing)
//! the verify token must be shown: as `Authorization: Bearer`, or as the name in the path. With neither there is no
//! such path.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::node::Secret;
use crate::node::auth;
use crate::node::config::NotificationConfig;
use crate::node::core::{Core, blocking};
use crate::node::envelope::{ApiError, Asked, Code, Faults, Segment, read_body};
use crate::node::queue::{NewJob, Plan, Topic};

/// Bytes a notification may have: Meta's have up to 3 MB.
const MAX_NOTIFICATION: usize = 3 << 20;
/// The header with the signature, and what its value begins with.
const SIGNATURE: &str = "x-hub-signature-256";
const SIGNATURE_PREFIX: &str = "sha256=";
/// Notifications are taken apart one after the other.
const LANE: &str = "events";

/// The routes of notifications.
pub fn router() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(verify, take))
}

/// What a request for verification asks.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct Verification {
    /// `subscribe`.
    #[serde(rename = "hub.mode")]
    mode: String,
    /// The verify token that was set up.
    #[serde(rename = "hub.verify_token")]
    verify_token: String,
    /// What is to be answered.
    #[serde(rename = "hub.challenge")]
    challenge: String,
}

fn is_same(secret: &Secret, shown: &str) -> bool {
    bool::from(secret.expose().as_bytes().ct_eq(shown.as_bytes()))
}

fn no_path() -> ApiError {
    ApiError::new(Code::NotFound, "URL path not found.")
}

fn denied(details: &str) -> ApiError {
    ApiError::new(Code::Denied, details)
}

/// Whether a notification with these headers and this body may be believed.
fn check(config: &NotificationConfig, name: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), ApiError> {
    if let Some(secret) = &config.app_secret {
        let shown = headers.get(SIGNATURE).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| value.strip_prefix(SIGNATURE_PREFIX)).and_then(from_hex);
        let Some(shown) = shown else { return Err(denied("the notification has no X-Hub-Signature-256")) };
        let mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes());
        let mac = mac.map_err(|_| ApiError::new(Code::Internal, "the app secret cannot be a key"))?;
        let is_signed = mac.chain_update(body).verify_slice(&shown).is_ok();
        return if is_signed { Ok(()) } else { Err(denied("the signature is not that of the app's secret")) };
    }
    let Some(token) = &config.verify_token else { return Err(no_path()) };
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, shown) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| shown.trim())
    });
    let is_shown = bearer.is_some_and(|shown| is_same(token, shown)) || is_same(token, name);
    if is_shown { Ok(()) } else { Err(denied("the notification does not show the verify token")) }
}

/// As [`check`]; who guesses is slowed down as one who guesses tokens is.
fn believe(core: &Core, name: &str, request: &Request, body: &[u8]) -> Result<(), ApiError> {
    check(&core.config.notifications, name, request.headers(), body).map_err(|error| slow_down(core, request, error))
}

/// The error for who is not believed, or 429 for who was not too often.
fn slow_down(core: &Core, request: &Request, error: ApiError) -> ApiError {
    match auth::refuse(core, request).status() {
        StatusCode::TOO_MANY_REQUESTS => ApiError::new(Code::TooMany, "too many notifications that are not believed"),
        _ => error,
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// Whether the path is one of notifications: its name, or the verify token in its place.
fn is_path(config: &NotificationConfig, name: &str) -> bool {
    name == config.name || config.verify_token.as_ref().is_some_and(|token| is_same(token, name))
}

/// Answers the challenge by which the upstream makes sure that the URL is ours.
#[utoipa::path(
    get,
    path = "/webhooks/{name}",
    operation_id = "verify_notifications",
    tag = "webhooks",
    params(("name" = String, Path, description = "The name that is configured."), Verification),
    responses(
        (status = 200, description = "The challenge.", body = String, content_type = "text/plain"),
        (status = 400, description = "A parameter twice, or one that is no text.", body = Faults),
        (status = 401, description = "The verify token is another.", body = Faults),
        (status = 404, description = "No notifications are taken here.", body = Faults),
        (status = 429, description = "Too many from this address that are not believed.", body = Faults),
    )
)]
async fn verify(
    State(core): State<Arc<Core>>,
    Segment(name): Segment,
    Asked(asked): Asked<Verification>,
    request: Request,
) -> Result<Response, ApiError> {
    let config = &core.config.notifications;
    let token = config.verify_token.as_ref().filter(|_| is_path(config, &name)).ok_or_else(no_path)?;
    if asked.mode != "subscribe" || !is_same(token, &asked.verify_token) {
        return Err(slow_down(&core, &request, denied("the verify token is not the one that is configured")));
    }
    Ok((StatusCode::OK, asked.challenge).into_response())
}

/// Takes a notification. It is durable when this is answered.
#[utoipa::path(
    post,
    path = "/webhooks/{name}",
    operation_id = "take_notification",
    tag = "webhooks",
    params(("name" = String, Path, description = "The name that is configured.")),
    request_body(content = serde_json::Value, description = "A notification of the Cloud API.", content_type = "application/json"),
    responses(
        (status = 200, description = "It is kept, and will be passed on."),
        (status = 400, description = "It is no JSON.", body = Faults),
        (status = 401, description = "It is not signed, or not by the app.", body = Faults),
        (status = 404, description = "No notifications are taken here.", body = Faults),
        (status = 429, description = "Too many from this address that are not believed.", body = Faults),
        (status = 413, description = "It is too long.", body = Faults),
        (status = 429, description = "Too many that are not signed from this address.", body = Faults),
        (status = 503, description = "The volume takes no changes now.", body = Faults),
        (status = 507, description = "There is no room to keep it.", body = Faults),
    )
)]
async fn take(State(core): State<Arc<Core>>, Segment(name): Segment, request: Request) -> Result<StatusCode, ApiError> {
    let config = &core.config.notifications;
    let is_configured = config.app_secret.is_some() || config.verify_token.is_some();
    if !is_configured || (config.app_secret.is_some() && !is_path(config, &name)) {
        return Err(no_path());
    }
    if config.app_secret.is_none() {
        // Nothing of the body is read of who shows no token.
        believe(&core, &name, &request, b"")?;
    }
    // Who is not let in now sends it again.
    let Ok(_place) = core.limits.notifications.try_acquire() else {
        return Err(ApiError::new(Code::Overloaded, "too many notifications at a time; send it again"));
    };
    let (parts, body) = request.into_parts();
    let body = read_body(Request::from_parts(parts.clone(), body), MAX_NOTIFICATION).await?;
    believe(&core, &name, &Request::from_parts(parts, axum::body::Body::empty()), &body)?;
    if serde_json::from_slice::<IgnoredAny>(&body).is_err() {
        return Err(ApiError::new(Code::NotValidRequest, "the notification is no JSON"));
    }
    let own = Arc::clone(&core);
    let kept = blocking(move || {
        let core = own;
        let mut plan = Plan::new();
        let job = NewJob { lane: LANE.to_owned(), payload: body.to_vec(), ..NewJob::default() };
        core.jobs.add(&mut plan, Topic::Event, job)?;
        core.jobs.commit(plan)
    });
    kept.await?;
    Ok(StatusCode::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(app_secret: Option<&str>, verify_token: Option<&str>) -> NotificationConfig {
        let secret = |text: &str| Secret::new(text.to_owned());
        NotificationConfig {
            app_secret: app_secret.map(secret),
            verify_token: verify_token.map(secret),
            ..NotificationConfig::default()
        }
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn a_signature_is_that_of_the_body_with_the_secret() {
        // RFC 4231, test case 2.
        let config = config(Some("Jefe"), Some("token"));
        let body = b"what do ya want for nothing?";
        let good = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let check = |value: &str, body: &[u8]| check(&config, "cloud", &headers(SIGNATURE, value), body);
        assert!(check(good, body).is_ok());
        assert!(check(&good.to_uppercase().replace("SHA", "sha"), body).is_ok());
        assert!(check(good, b"what do ya want for nothing!").is_err());
        for bad in ["", "sha256=", &good[7..], &good[..70], "sha1=5bdc", "sha256=zz"] {
            assert!(check(bad, body).is_err(), "{bad}");
        }
        let bearer = headers("authorization", "Bearer token");
        assert!(super::check(&config, "token", &bearer, body).is_err(), "the token does not replace the signature");
    }

    #[test]
    fn without_a_secret_the_token_must_be_shown() {
        let config = config(None, Some("token"));
        let none = HeaderMap::new();
        assert!(check(&config, "cloud", &none, b"").is_err());
        assert!(check(&config, "token", &none, b"").is_ok());
        assert!(check(&config, "cloud", &headers("authorization", "Bearer token"), b"").is_ok());
        assert!(check(&config, "cloud", &headers("authorization", "Bearer other"), b"").is_err());
        assert!(check(&self::config(None, None), "", &none, b"").is_err());
    }
}
