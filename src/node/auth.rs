//! Who asks: a bearer token, or the same in `D360-API-KEY`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;

use super::core::Core;
use super::envelope::{ApiError, Code};
use super::linger::{LITTLE, linger};
use super::tokens::{Role, Token, TokenId};
use crate::volume::origin::{Actor, Origin, Way};

/// The header in which 360dialog's clients send their key.
const D360_API_KEY: &str = "d360-api-key";

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The token's digest.
    pub id: TokenId,
    /// What is known of it.
    pub token: Token,
}

impl Caller {
    /// In whose name something is removed for it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        let actor = Actor { name: self.token.name.clone(), ..Actor::default() };
        Origin { way: Way::Api, actor: Some(actor) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Caller, ApiError> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(denied)
    }
}

fn denied() -> ApiError {
    ApiError::new(Code::Denied, "a valid token is needed: `wamedia token create` makes one")
}

/// The token that a request shows.
fn token_of(request: &Request) -> Option<&str> {
    let headers = request.headers();
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    bearer.or_else(|| headers.get(D360_API_KEY).and_then(|value| value.to_str().ok()))
}

/// The name and the secret of HTTP's basic authentication (RFC 7617).
#[must_use]
pub fn basic_of(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (name, secret) = text.split_once(':')?;
    Some((name.to_owned(), secret.to_owned()))
}

/// The address a request comes from.
pub(super) fn address_of(request: &Request) -> Option<SocketAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0)
}

/// Lets in who shows a valid token, before anything of the body is read.
pub async fn require_token(State(core): State<Arc<Core>>, mut request: Request, next: Next) -> Response {
    let Some((id, token)) = token_of(&request).and_then(|text| core.tokens.find(text, core.volume.now())) else {
        let refused = refuse(&core, &request);
        linger(request.into_body(), LITTLE);
        return refused;
    };
    if !core.limits.let_in(&id) {
        linger(request.into_body(), LITTLE);
        return ApiError::new(Code::TooMany, "too many requests with this token; slow down").into_response();
    }
    request.extensions_mut().insert(Caller { id, token });
    next.run(request).await
}

/// The answer to who is not let in.
pub(super) fn refuse(core: &Core, request: &Request) -> Response {
    let is_counted = address_of(request).is_none_or(|address| core.limits.note_denial(address.ip()));
    match is_counted {
        true => denied().into_response(),
        false => ApiError::new(Code::TooMany, "too many requests without a valid token").into_response(),
    }
}

/// Lets in who is an admin; behind [`require_token`].
pub async fn require_admin(caller: Caller, request: Request, next: Next) -> Response {
    match caller.token.role {
        Role::Admin => next.run(request).await,
        Role::User => ApiError::new(Code::Denied, "only an admin's token may do this")
            .with_status(axum::http::StatusCode::FORBIDDEN)
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, value: &str) -> Request {
        Request::builder().header(name, value).body(axum::body::Body::empty()).unwrap()
    }

    #[test]
    fn a_token_is_found_in_either_header() {
        assert_eq!(token_of(&request("authorization", "Bearer abc")), Some("abc"));
        assert_eq!(token_of(&request("authorization", "bearer  abc ")), Some("abc"));
        assert_eq!(token_of(&request("D360-API-KEY", "abc")), Some("abc"));
        assert_eq!(token_of(&request("authorization", "Basic YWJj")), None);
        assert_eq!(token_of(&request("authorization", "Bearer")), None);
    }

    #[test]
    fn basic_authentication_is_read_with_colons_in_the_secret() {
        assert_eq!(basic_of("Basic YTpiOmM="), Some(("a".into(), "b:c".into())));
        assert_eq!(basic_of("basic YTpi"), Some(("a".into(), "b".into())));
        for wrong in ["Basic", "Basic ???", "Bearer YTpi", "Basic YWI="] {
            assert_eq!(basic_of(wrong), None, "{wrong}");
        }
    }
}
