//! Media: upload, lookup, download, deletion.

use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::answers::{Refused, error_body, header_text};
use super::graph::ATTACHMENTS;
use super::{Medium, Shared, Upload};

const KB: usize = 1024;
const MB: usize = 1024 * KB;

/// The published types of media and the most bytes of each ("Supported Media Types"). Documents are these and no
/// others.
const TYPES: &[(&str, usize)] = &[
    ("audio/aac", 16 * MB),
    ("audio/amr", 16 * MB),
    ("audio/mpeg", 16 * MB),
    ("audio/mp4", 16 * MB),
    ("audio/ogg", 16 * MB),
    ("text/plain", 100 * MB),
    ("application/pdf", 100 * MB),
    ("application/msword", 100 * MB),
    ("application/vnd.ms-excel", 100 * MB),
    ("application/vnd.ms-powerpoint", 100 * MB),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", 100 * MB),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", 100 * MB),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation", 100 * MB),
    ("image/jpeg", 5 * MB),
    ("image/png", 5 * MB),
    ("image/webp", 500 * KB),
    ("video/3gpp", 16 * MB),
    ("video/mp4", 16 * MB),
];

/// A type without its parameters, in lower case.
pub(super) fn essence(mime_type: &str) -> String {
    mime_type.split(';').next().unwrap_or_default().trim().to_lowercase()
}

pub(super) async fn upload(shared: &Shared, request: Request) -> Result<Json<Value>, Refused> {
    let content_type = header_text(request.headers(), header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let boundary = multer::parse_boundary(content_type).map_err(|_| Refused::missing("file"))?;
    let mut form = multer::Multipart::new(request.into_body().into_data_stream(), boundary);
    let (mut product, mut told, mut file) = (None, None, None);
    while let Some(field) = form.next_field().await.map_err(|e| Refused::parameter(&e.to_string()))? {
        let broken = |e: multer::Error| Refused::parameter(&e.to_string());
        match field.name() {
            Some("messaging_product") => product = Some(field.text().await.map_err(broken)?),
            Some("type") => told = Some(field.text().await.map_err(broken)?),
            Some("file") => {
                let filename = field.file_name().map(str::to_owned);
                let own = field.content_type().map(ToString::to_string);
                file = Some((filename, own, field.bytes().await.map_err(broken)?));
            }
            name => return Err(Refused::parameter(&format!("Unexpected parameter {name:?}"))),
        }
    }
    if product.ok_or_else(|| Refused::missing("messaging_product"))? != "whatsapp" {
        return Err(Refused::parameter("(#100) Param messaging_product must be one of {WHATSAPP}"));
    }
    let told = told.ok_or_else(|| Refused::missing("type"))?;
    let (filename, own, bytes) = file.ok_or_else(|| Refused::missing("file"))?;
    if filename.is_none() || own.is_none_or(|own| essence(&own) != essence(&told)) {
        return Err(Refused::parameter("Param file must have a name and the type that was told"));
    }
    store(shared, told, filename, bytes).map(|id| Json(json!({"id": id})))
}

fn store(shared: &Shared, mime_type: String, filename: Option<String>, bytes: Bytes) -> Result<String, Refused> {
    let wanted = essence(&mime_type);
    let Some((_, most)) = TYPES.iter().find(|(name, _)| *name == wanted) else {
        let types: Vec<_> = TYPES.iter().map(|(name, _)| *name).collect();
        let details = format!(
            "(#100) Param file must be a file with one of the following types: {}. Received file of type '{mime_type}'.",
            types.join(", ")
        );
        return Err(Refused(400, error_body(100, None, &details, None)));
    };
    if bytes.is_empty() || bytes.len() > *most {
        let details = format!("File size is {} bytes; a {wanted} has 1 to {most}.", bytes.len());
        return Err(Refused(400, error_body(131_053, None, "(#131053) Media upload error", Some(&details))));
    }
    let mut state = shared.state();
    let medium = Medium { bytes, mime_type: mime_type.clone(), filename: filename.clone() };
    let (length, sha256) = (medium.bytes.len(), medium.sha256());
    let id = state.add(medium);
    state.seen.uploads.push(Upload { id: id.clone(), mime_type, filename, length, sha256 });
    Ok(id)
}

pub(super) fn lookup(shared: &Shared, id: &str) -> Result<Json<Value>, Refused> {
    let mut state = shared.state();
    let medium = state.media.get(id).cloned().ok_or_else(|| Refused::no_object("get", id))?;
    state.next += 1;
    let path = format!("{ATTACHMENTS}?mid={id}&ext=1737&hash=ATvZ{}%2B", state.next);
    let until = Instant::now() + state.url_life;
    state.urls.insert(path.clone(), (id.to_owned(), until));
    let host = shared.url_host.lock().unwrap().clone().unwrap_or_else(|| format!("http://{}", shared.address));
    let digest: String = medium.sha256().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut answer = json!({
        "url": format!("{host}{path}"),
        "mime_type": medium.mime_type,
        "sha256": digest,
        "file_size": medium.bytes.len(),
        "id": id,
        "messaging_product": "whatsapp",
    });
    for (name, value) in state.lookup_patch.iter().filter_map(Value::as_object).flatten() {
        match value {
            Value::Null => drop(answer.as_object_mut().unwrap().remove(name)),
            value => answer[name] = value.clone(),
        }
    }
    Ok(Json(answer))
}

pub(super) fn download(shared: &Shared, request: &Request) -> Response {
    let mut state = shared.state();
    let path = request.uri().path_and_query().map(|path| path.as_str()).unwrap_or_default();
    let medium = match state.urls.get(path) {
        Some((id, until)) if Instant::now() < *until => state.media.get(id).cloned(),
        _ => None,
    };
    let Some(medium) = medium else { return StatusCode::NOT_FOUND.into_response() };
    state.seen.downloads += 1;
    ([(header::CONTENT_TYPE, medium.mime_type)], medium.bytes).into_response()
}

pub(super) fn delete(shared: &Shared, id: &str) -> Result<Json<Value>, Refused> {
    let mut state = shared.state();
    state.media.remove(id).ok_or_else(|| Refused::no_object("delete", id))?;
    state.seen.deleted.push(id.to_owned());
    Ok(Json(json!({"success": true})))
}
