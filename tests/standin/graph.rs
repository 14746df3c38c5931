//! The calls: who is let in, and which path is whose.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::answers::{Refused, disturbed, error_body, header_text, instead};
use super::knobs::{Call, Fault};
use super::serve::connection;
use super::{Dialect, PHONE_NUMBER_ID, Shared, TOKEN, VERSION, media, messages};

/// Where the urls of media lie.
pub(super) const ATTACHMENTS: &str = "/whatsapp_business/attachments/";

/// A call as it was understood.
enum Asked {
    Upload,
    Lookup(String),
    Download,
    Delete(String),
    Message,
    /// Another phone number than the one that is known.
    Stranger(String),
    Nothing,
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(call).with_state(shared)
}

async fn call(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let connection = connection(&request);
    {
        let seen = &mut shared.state().seen;
        seen.requests.push(format!("{} {}", request.method(), request.uri()));
        if header_text(request.headers(), "user-agent").is_none() {
            seen.without_agent += 1;
        }
    }
    if !is_let_in(shared.dialect, &request) {
        shared.state().seen.denied += 1;
        return denied(shared.dialect);
    }
    let asked = understand(shared.dialect, &request);
    let kind = match &asked {
        Asked::Upload => Call::Upload,
        Asked::Lookup(_) => Call::Lookup,
        Asked::Download => Call::Download,
        Asked::Delete(_) => Call::Delete,
        Asked::Message => Call::Message,
        Asked::Stranger(id) => return Refused::no_object("post", id).into_response(),
        Asked::Nothing => {
            return Refused(400, error_body(2500, None, "Unknown path components", None)).into_response();
        }
    };
    let fault = shared.state().take_fault(kind);
    match &fault {
        Some(Fault::Answer { status, body, headers }) => return instead(*status, body.clone(), headers),
        Some(Fault::Drop) => connection.cut().await,
        _ => {}
    }
    let answer = match asked {
        Asked::Upload => media::upload(&shared, request).await.into_response(),
        Asked::Lookup(id) => media::lookup(&shared, &id).into_response(),
        Asked::Download => media::download(&shared, &request),
        Asked::Delete(id) => media::delete(&shared, &id).into_response(),
        Asked::Message => messages::take(&shared, request).await.into_response(),
        Asked::Stranger(_) | Asked::Nothing => unreachable!("answered above"),
    };
    disturbed(answer, fault, &connection).await
}

fn is_let_in(dialect: Dialect, request: &Request) -> bool {
    match dialect {
        Dialect::CloudApi => {
            let told = header_text(request.headers(), header::AUTHORIZATION.as_str());
            told.and_then(|value| value.strip_prefix("Bearer ")) == Some(TOKEN)
        }
        Dialect::Dialog360 => header_text(request.headers(), "d360-api-key") == Some(TOKEN),
    }
}

fn denied(dialect: Dialect) -> Response {
    match dialect {
        Dialect::CloudApi => {
            let message = "Invalid OAuth access token - Cannot parse access token";
            Refused(401, error_body(190, None, message, None)).into_response()
        }
        Dialect::Dialog360 => (StatusCode::UNAUTHORIZED, r#"{"error":"Invalid api_key"}"#).into_response(),
    }
}

fn understand(dialect: Dialect, request: &Request) -> Asked {
    let path = request.uri().path();
    if path == ATTACHMENTS {
        return if request.method() == Method::GET { Asked::Download } else { Asked::Nothing };
    }
    let parts: Vec<_> = path.split('/').skip(1).collect();
    let parts = match (dialect, parts.as_slice()) {
        (Dialect::CloudApi, [VERSION, rest @ ..]) => rest,
        (Dialect::CloudApi, _) => return Asked::Nothing,
        (Dialect::Dialog360, rest) => rest,
    };
    let posted = |what: &str| match what {
        "media" => Asked::Upload,
        "messages" => Asked::Message,
        _ => Asked::Nothing,
    };
    match (dialect, request.method(), parts) {
        (Dialect::CloudApi, &Method::POST, [PHONE_NUMBER_ID, what]) => posted(what),
        (Dialect::CloudApi, &Method::POST, [number, _]) => Asked::Stranger((*number).to_owned()),
        (Dialect::Dialog360, &Method::POST, [what]) => posted(what),
        (_, &Method::GET, [id]) if !id.is_empty() => Asked::Lookup((*id).to_owned()),
        (_, &Method::DELETE, [id]) if !id.is_empty() => Asked::Delete((*id).to_owned()),
        _ => Asked::Nothing,
    }
}
