//! Messages: checked as far as the published reference says what must be there.

use axum::Json;
use axum::body::to_bytes;
use axum::extract::Request;
use serde_json::{Value, json};

use super::Shared;
use super::answers::{Refused, error_body};
use super::media::essence;

/// Kinds of messages with a medium, the members that may stand beside `id` or `link`, and the types of media they take.
const MEDIA_KINDS: &[(&str, &[&str], &[&str])] = &[
    ("audio", &["voice"], &["audio/"]),
    ("document", &["caption", "filename"], &["application/", "text/", "image/", "audio/", "video/"]),
    ("image", &["caption"], &["image/jpeg", "image/png"]),
    ("sticker", &[], &["image/webp"]),
    ("video", &["caption"], &["video/"]),
];
/// Other kinds that are taken if their object is there.
const OTHER_KINDS: &[&str] = &["contacts", "interactive", "location", "reaction", "template", "text"];
/// The most bytes of a message.
const MAX_MESSAGE: usize = 1024 * 1024;

pub(super) async fn take(shared: &Shared, request: Request) -> Result<Json<Value>, Refused> {
    let body = to_bytes(request.into_body(), MAX_MESSAGE).await.map_err(|e| Refused::parameter(&e.to_string()))?;
    let message: Value = serde_json::from_slice(&body).map_err(|e| Refused::parameter(&e.to_string()))?;
    let to = check(shared, &message)?;
    let mut state = shared.state();
    state.next += 1;
    let id = format!("wamid.HBgLMTY0NjcwNDM1OTUVAgARGBI{:016X}", state.next);
    state.seen.messages.push((id.clone(), message));
    Ok(Json(json!({
        "messaging_product": "whatsapp",
        "contacts": [{"input": to, "wa_id": to.trim_start_matches('+')}],
        "messages": [{"id": id}],
    })))
}

fn check(shared: &Shared, message: &Value) -> Result<String, Refused> {
    let text = |name: &str| message.get(name).and_then(Value::as_str);
    if text("messaging_product").ok_or_else(|| Refused::missing("messaging_product"))? != "whatsapp" {
        return Err(Refused::parameter("(#100) Param messaging_product must be one of {WHATSAPP}"));
    }
    let to = text("to").ok_or_else(|| Refused::missing("to"))?;
    let digits = to.trim_start_matches('+');
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Refused(400, error_body(131_009, None, "(#131009) Parameter value is not valid", Some("to"))));
    }
    if text("recipient_type").is_some_and(|kind| kind != "individual" && kind != "group") {
        return Err(Refused::parameter("recipient_type"));
    }
    if text("biz_opaque_callback_data").is_some_and(|data| data.len() > 512) {
        return Err(Refused::parameter("biz_opaque_callback_data has more than 512 characters"));
    }
    let kind = text("type").unwrap_or("text");
    let object = message.get(kind).filter(|object| object.is_object() || object.is_array());
    let object = object.ok_or_else(|| Refused::missing(kind))?;
    match MEDIA_KINDS.iter().find(|(name, ..)| *name == kind) {
        Some((_, members, types)) => check_medium(shared, kind, object, members, types)?,
        None if OTHER_KINDS.contains(&kind) => {}
        None => return Err(Refused::parameter("type")),
    }
    Ok(to.to_owned())
}

fn check_medium(shared: &Shared, kind: &str, object: &Value, members: &[&str], types: &[&str]) -> Result<(), Refused> {
    for name in object.as_object().into_iter().flat_map(|object| object.keys()) {
        if name != "id" && name != "link" && !members.contains(&name.as_str()) {
            return Err(Refused::parameter(&format!("Unexpected key \"{name}\" on param \"{kind}\".")));
        }
    }
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    match (text("id"), text("link")) {
        (Some(id), None) => {
            let medium = shared.state().media.get(id).cloned().ok_or_else(|| Refused::no_object("get", id))?;
            let essence = essence(&medium.mime_type);
            if !types.iter().any(|start| essence.starts_with(start)) {
                let details = format!("{essence} is no {kind}");
                return Err(Refused(400, error_body(131_053, None, "(#131053) Media upload error", Some(&details))));
            }
            Ok(())
        }
        (None, Some(link)) if link.starts_with("https://") || link.starts_with("http://") => Ok(()),
        _ => Err(Refused::parameter(&format!("{kind} needs one of id and link"))),
    }
}
