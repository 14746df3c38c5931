//! What stands before the page: the headers of every answer, the session, and whence a form comes.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, HeaderName, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::Page;
use super::session::Session;
use super::views::refusal;
use crate::node::envelope::read_body;
use crate::node::tokens::Role;

/// Nothing but what this server itself gives, and no script at all.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";
/// Bytes of a form.
const MAX_FORM: usize = 256 << 10;
/// The name of the cookie; behind TLS one that a browser takes only from this very host, by TLS.
const COOKIE_NAME: &str = "wamedia-session";
const SECURE_COOKIE_NAME: &str = "__Host-wamedia-session";

/// Puts the headers on every answer that tell a browser how little it may do.
pub async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let set: [(HeaderName, &'static str); 6] = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        // With `no-referrer` a browser would tell no origin of forms either.
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
    ];
    for (name, value) in set {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The secret of the session that a request shows.
pub fn secret_of(page: &Page, headers: &HeaderMap) -> Option<String> {
    let name = cookie_name(page);
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
}

fn cookie_name(page: &Page) -> &'static str {
    if page.is_secure { SECURE_COOKIE_NAME } else { COOKIE_NAME }
}

/// A cookie with the secret of a session, that lasts so many seconds.
pub fn cookie(page: &Page, secret: &str, secs: u64) -> HeaderValue {
    let secure = if page.is_secure { "; Secure" } else { "" };
    let name = cookie_name(page);
    let text = format!("{name}={secret}; Path=/; Max-Age={secs}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// The session that a request shows, whose token is still an admin's.
pub fn session_of(page: &Page, headers: &HeaderMap) -> Option<Session> {
    let session = page.sessions.find(&secret_of(page, headers)?)?;
    let token = page.core.tokens.known(&session.token, page.core.volume.now())?;
    (token.role == Role::Admin).then_some(session)
}

impl FromRequestParts<Arc<Page>> for Session {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, page: &Arc<Page>) -> Result<Session, Response> {
        session_of(page, &parts.headers).ok_or_else(|| Redirect::to("/login").into_response())
    }
}

/// Whether a form comes from a page of this server, as far as a browser tells.
fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text(HeaderName::from_static("sec-fetch-site")) {
        return matches!(site, "same-origin" | "none");
    }
    match (text(ORIGIN), text(HOST)) {
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, from)| from == host),
        (Some(_), None) => false,
        // No browser that sends cookies to another site leaves it out.
        (None, _) => true,
    }
}

/// Refuses what a page of another site has a browser send.
pub async fn from_here(State(page): State<Arc<Page>>, request: Request, next: Next) -> Response {
    if request.method() == axum::http::Method::POST && !is_from_here(request.headers()) {
        let shown = session_of(&page, request.headers());
        return refusal(StatusCode::FORBIDDEN, shown.as_ref(), "This form comes from another site.");
    }
    next.run(request).await
}

/// The fields of a form, each with all its values.
pub struct Form(HashMap<String, Vec<String>>);

impl Form {
    /// Reads one.
    ///
    /// # Errors
    /// The answer to one that is too long or cut short.
    pub async fn read(request: Request) -> Result<Form, Response> {
        let bytes = read_body(request, MAX_FORM).await.map_err(IntoResponse::into_response)?;
        let mut fields: HashMap<String, Vec<String>> = HashMap::new();
        for (name, value) in url::form_urlencoded::parse(&bytes) {
            fields.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        Ok(Form(fields))
    }

    /// Reads one that changes something.
    ///
    /// # Errors
    /// As [`Form::read`]; the answer to one that is not the session's own.
    pub async fn of_session(session: &Session, request: Request) -> Result<Form, Response> {
        let form = Form::read(request).await?;
        match session.has_made(form.one("form_key")) {
            true => Ok(form),
            false => {
                let what = "This form is not of this session. Go back, load the page anew, and try again.";
                Err(refusal(StatusCode::FORBIDDEN, Some(session), what))
            }
        }
    }

    /// The first value of a field; nothing when there is none.
    pub fn one(&self, name: &str) -> &str {
        self.all(name).first().map_or("", String::as_str)
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pairs: &[(&'static str, &'static str)]) -> bool {
        let headers =
            pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        is_from_here(&headers.collect())
    }

    #[test]
    fn forms_of_other_sites_are_told_from_our_own() {
        assert!(told(&[("sec-fetch-site", "same-origin")]) && told(&[("sec-fetch-site", "none")]));
        for site in ["cross-site", "same-site", ""] {
            assert!(!told(&[("sec-fetch-site", site), ("origin", "http://a:1"), ("host", "a:1")]), "{site}");
        }
        assert!(told(&[("origin", "http://a:1"), ("host", "a:1")]) && told(&[("host", "a:1")]));
        for origin in ["http://a:2", "http://b", "null", ""] {
            assert!(!told(&[("origin", origin), ("host", "a:1")]), "{origin}");
        }
    }
}
