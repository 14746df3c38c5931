//! The forms of answers: the Graph API's error body, and an answer that a fault has got at.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::knobs::Fault;
use super::serve::Connection;

pub(super) fn error_body(code: i64, subcode: Option<i64>, message: &str, details: Option<&str>) -> Value {
    let kind = if subcode == Some(33) { "GraphMethodException" } else { "OAuthException" };
    let mut error = json!({"message": message, "type": kind, "code": code, "fbtrace_id": "Az8or2yhqkZfEZ-_4Qn_Bam"});
    if let Some(subcode) = subcode {
        error["error_subcode"] = subcode.into();
    }
    if let Some(details) = details {
        error["error_data"] = json!({"messaging_product": "whatsapp", "details": details});
    }
    json!({"error": error})
}

/// A refusal, as the Graph API words one.
pub(super) struct Refused(pub(super) u16, pub(super) Value);

impl Refused {
    pub(super) fn parameter(details: &str) -> Refused {
        Refused(400, error_body(100, None, "(#100) Invalid parameter", Some(details)))
    }

    pub(super) fn missing(name: &str) -> Refused {
        let message = format!("(#100) The parameter {name} is required.");
        Refused(400, error_body(100, None, &message, None))
    }

    pub(super) fn no_object(method: &str, id: &str) -> Refused {
        let message = format!(
            "Unsupported {method} request. Object with ID '{id}' does not exist, cannot be loaded due to missing \
             permissions, or does not support this operation."
        );
        Refused(400, error_body(100, Some(33), &message, None))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0).unwrap();
        (status, [(header::CONTENT_TYPE, "application/json")], self.1.to_string()).into_response()
    }
}

/// An answer in place of the true one.
pub(super) fn instead(status: u16, body: String, headers: &[(&'static str, String)]) -> Response {
    let mut answer = (StatusCode::from_u16(status).unwrap(), body).into_response();
    for (name, value) in headers {
        answer.headers_mut().insert(*name, value.parse().unwrap());
    }
    answer
}

/// The true answer, after a fault that lets the call be done has got at it.
pub(super) async fn disturbed(answer: Response, fault: Option<Fault>, connection: &Connection) -> Response {
    let (keep, end) = match fault {
        Some(Fault::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            return answer;
        }
        Some(Fault::DropAfter) => connection.cut().await,
        Some(Fault::CutAfter(keep)) => (keep, End::Cut),
        Some(Fault::StallAfter(keep)) => (keep, End::Stall),
        Some(Fault::EndAfter(keep)) => (keep, End::Quiet),
        _ => return answer,
    };
    let (mut parts, body) = answer.into_parts();
    let whole = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let kept = whole.slice(..keep.min(whole.len()));
    parts.headers.remove(header::CONTENT_LENGTH);
    if !matches!(end, End::Quiet) {
        parts.headers.insert(header::CONTENT_LENGTH, whole.len().into());
    }
    let connection = connection.clone();
    let rest = stream::once(async move {
        match end {
            // Not before what was kept has left: hyper writes it while this waits.
            End::Cut => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                connection.cut().await
            }
            End::Stall => std::future::pending().await,
            End::Quiet => Ok::<_, Infallible>(Bytes::new()),
        }
    });
    Response::from_parts(parts, Body::from_stream(stream::iter([Ok(kept)]).chain(rest)))
}

enum End {
    Cut,
    Stall,
    Quiet,
}

/// One header as text.
pub(super) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
