//! Uploads: streamed into the volume, published whole or not at all.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::core::Core;
use super::super::envelope::{ApiError, Code, Faults, Meta};
use super::super::intake::Intake;
use super::super::linger::linger;
use crate::ids::MediaId;
use crate::media;
use crate::volume::Class;

/// Bytes gathered before the volume gets them.
const PIECE: usize = 128 << 10;

/// A medium by its id.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MediaRef {
    /// The media id, a UUID.
    pub id: String,
}

/// The answer to an upload.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Uploaded {
    /// What was uploaded.
    pub media: Vec<MediaRef>,
    /// As in every answer.
    pub meta: Meta,
}

/// Uploads a medium. It is durable, and a file in the volume, when this is answered.
#[utoipa::path(
    post,
    path = "/v1/media",
    operation_id = "upload_medium",
    tag = "media",
    request_body(content = Option<Vec<u8>>, content_type = "application/octet-stream",
        description = "The bytes of the medium; `Content-Type` is its type."),
    responses(
        (status = 201, description = "Stored (200 when the node is configured so).", body = Uploaded),
        (status = 400, description = "Strict: WhatsApp would refuse it; or the body is not whole.", body = Faults),
        (status = 408, description = "Nothing more of the body came for too long.", body = Faults),
        (status = 413, description = "Larger than any upload may be.", body = Faults),
        (status = 503, description = "Too many uploads at a time.", body = Faults),
        (status = 507, description = "The volume has no room for it; nothing is stored.", body = Faults),
    ),
    security(("bearer" = []), ("d360" = []))
)]
pub async fn upload(State(core): State<Arc<Core>>, request: Request) -> Result<Response, ApiError> {
    let (head, mut body) = request.into_parts();
    match store(&core, &head.headers, &mut body).await {
        Ok(id) => {
            let answer = Uploaded { media: vec![MediaRef { id: id.to_string() }], meta: Meta::new() };
            let status = StatusCode::from_u16(core.config.created_status).unwrap_or(StatusCode::CREATED);
            Ok((status, Json(answer)).into_response())
        }
        Err(error) => {
            linger(body, core.config.max_upload_bytes);
            Err(error)
        }
    }
}

async fn store(core: &Core, headers: &HeaderMap, body: &mut Body) -> Result<MediaId, ApiError> {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let len = match headers.get(CONTENT_LENGTH) {
        None => None,
        Some(value) => Some(
            value
                .to_str()
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or_else(|| ApiError::new(Code::NotValidRequest, "Content-Length is no number"))?,
        ),
    };
    let most = most_bytes(core, declared.as_deref());
    if len.is_some_and(|len| len > most) {
        return Err(too_large(most));
    }
    let Ok(_permit) = Arc::clone(&core.limits.uploads).try_acquire_owned() else {
        return Err(ApiError::new(Code::Overloaded, "too many uploads at a time; try again"));
    };
    let mut intake = Intake::begin(core, Class::Uploads, declared.clone(), len).await?;
    receive(core, body, &mut intake, most).await?;
    if core.config.strict {
        refuse_unfit(&mut intake, declared.as_deref()).await?;
    }
    let len = intake.len();
    let id = intake.publish().await?;
    core.metrics.received.inc_by(len);
    Ok(id)
}

/// What an upload of this type may have: with `strict`, no more than its kind.
fn most_bytes(core: &Core, declared: Option<&str>) -> u64 {
    let most = core.config.max_upload_bytes;
    match core.config.strict {
        true => most.min(media::limit(media::kind_of(declared.unwrap_or_default()))),
        false => most,
    }
}

fn too_large(most: u64) -> ApiError {
    ApiError::new(Code::NotValid, format!("the medium is larger than the {most} bytes it may have"))
        .with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

async fn receive(core: &Core, body: &mut Body, intake: &mut Intake, most: u64) -> Result<(), ApiError> {
    let mut piece = BytesMut::with_capacity(PIECE);
    let mut taken = 0u64;
    loop {
        let frame = tokio::time::timeout(core.config.stall_timeout, body.frame()).await;
        let frame = frame.map_err(|_| {
            ApiError::new(Code::NotValidRequest, "nothing more of the body came for too long")
                .with_status(StatusCode::REQUEST_TIMEOUT)
        })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| ApiError::new(Code::NotValidRequest, "the body ends before it is whole"))?;
        let Ok(data) = frame.into_data() else { continue };
        taken += data.len() as u64;
        if taken > most {
            return Err(too_large(most));
        }
        piece.extend_from_slice(&data);
        if piece.len() >= PIECE {
            piece = intake.write(piece).await?;
        }
    }
    if !piece.is_empty() {
        intake.write(piece).await?;
    }
    Ok(())
}

async fn refuse_unfit(intake: &mut Intake, declared: Option<&str>) -> Result<(), ApiError> {
    let facts = intake.inspect().await?;
    let refuse = |why: String| Err(ApiError::new(Code::NotValid, why));
    if let media::Verdict::Unfit(reason) = facts.verdict {
        return refuse(format!("WhatsApp would refuse this {}: {reason}", facts.kind));
    }
    let declared = media::kind_of(declared.unwrap_or_default());
    if declared != media::Kind::Document && declared != facts.kind {
        return refuse(format!("the bytes are {}, which is no {declared}", facts.mime));
    }
    Ok(())
}
