//! Whether a message can be sent, as far as that is known before it is.

use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::opaque::{MAX_OPAQUE, OpaqueId};
use super::parts::{Outgoing, Part, Source, fits, nested};
use crate::ids::MediaId;
use crate::media::Kind;
use crate::node::envelope::{ApiError, Code};
use crate::node::providers;
use crate::volume::Volume;

/// Characters a caption may have, as the Cloud API has it.
const MAX_CAPTION: usize = 1024;
/// Characters the name of a document may have, as the Cloud API has it.
const MAX_FILENAME: usize = 240;
/// Bytes of a link, a recipient, a type.
const MAX_LINK: usize = 8 * 1024;
const MAX_WORD: usize = 256;

type Checked<T> = Result<T, ApiError>;

fn not_valid<T>(details: impl Into<String>) -> Checked<T> {
    Err(ApiError::new(Code::NotValid, details))
}

/// Reads a message and gives it the Cloud API's form.
///
/// # Errors
/// 1008, 1009 and 1010 naming the parameter and what is wrong with it.
pub fn check(volume: &Volume, message: Value) -> Checked<Outgoing> {
    let Value::Object(mut fields) = message else { return not_valid("the body is a JSON object: a message") };
    let to = word(&fields, "to")?.ok_or_else(|| ApiError::new(Code::Missing, "to"))?.to_owned();
    if word(&fields, "recipient_type")?.is_some_and(|kind| !matches!(kind, "individual" | "group")) {
        return not_valid("recipient_type is individual or group");
    }
    let kind = word(&fields, "type")?.unwrap_or("text").to_owned();
    if !fields.contains_key(&kind) {
        return Err(ApiError::new(Code::Missing, format!("{kind}: the object that the type names")));
    }
    let id = Uuid::new_v4().to_string();
    let rest = match fields.get("biz_opaque_callback_data") {
        None => None,
        Some(Value::String(rest)) => Some(rest.clone()),
        Some(_) => return not_valid("biz_opaque_callback_data is a text"),
    };
    let opaque = OpaqueId { message_id: id.clone(), rest }.to_string();
    if opaque.chars().count() > MAX_OPAQUE {
        let most = MAX_OPAQUE - OpaqueId { message_id: id, rest: Some(String::new()) }.to_string().len();
        return not_valid(format!("biz_opaque_callback_data has more than {most} characters"));
    }
    fields.insert("messaging_product".to_owned(), "whatsapp".into());
    fields.insert("type".to_owned(), kind.clone().into());
    fields.insert("biz_opaque_callback_data".to_owned(), opaque.into());
    // Of texts, the Cloud API wants it beside the body.
    if let (true, Some(preview)) = (kind == "text", fields.remove("preview_url"))
        && let Some(Value::Object(text)) = fields.get_mut("text")
    {
        text.entry("preview_url").or_insert(preview);
    }
    let parts = match Kind::parse(&kind) {
        Some(medium) => vec![of_medium(volume, &mut fields, medium)?],
        None => Vec::new(),
    };
    let mut outgoing = Outgoing { id, to, message: fields.into(), parts };
    if outgoing.parts.is_empty() {
        for (pointer, kind) in nested(&outgoing.message) {
            let id = outgoing.message.pointer(&pointer).and_then(|object| object.get("id")).and_then(Value::as_str);
            let Some(id) = id.and_then(|id| MediaId::parse(id.as_bytes())) else {
                return not_valid(format!("{pointer}/id is no media id"));
            };
            fit(volume, id, Kind::parse(kind).unwrap_or(Kind::Document))?;
            outgoing.parts.push(Part { pointer, kind: kind.to_owned(), source: Source::Id(id) });
        }
    }
    Ok(outgoing)
}

/// A text of a message.
fn word<'a>(fields: &'a Map<String, Value>, name: &str) -> Checked<Option<&'a str>> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && text.len() <= MAX_WORD => Ok(Some(text)),
        Some(_) => not_valid(format!("{name} is a text of 1 to {MAX_WORD} bytes")),
    }
}

fn of_medium(volume: &Volume, fields: &mut Map<String, Value>, kind: Kind) -> Checked<Part> {
    let name = kind.as_str();
    let Some(Value::Object(object)) = fields.get_mut(name) else { return not_valid(format!("{name} is an object")) };
    // Clients write members that they have nothing for as null.
    object.retain(|_, value| !value.is_null());
    check_text(object, name, "caption", MAX_CAPTION, matches!(kind, Kind::Image | Kind::Video | Kind::Document))?;
    check_text(object, name, "filename", MAX_FILENAME, kind == Kind::Document)?;
    if object.get("caption").and_then(Value::as_str).is_some_and(str::is_empty) {
        object.remove("caption");
    }
    let provider = object.remove("provider");
    let source = match (object.remove("id"), object.remove("link")) {
        (None, None) => return Err(ApiError::new(Code::Missing, format!("{name}.id or {name}.link"))),
        (Some(_), Some(_)) => return not_valid(format!("{name} has either id or link, not both")),
        (Some(id), None) => {
            if provider.is_some() {
                return Err(ApiError::new(Code::NotRequired, format!("{name}.provider goes with a link")));
            }
            let id = id.as_str().and_then(|id| MediaId::parse(id.as_bytes()));
            let Some(id) = id else { return not_valid(format!("{name}.id is no media id")) };
            fit(volume, id, kind)?;
            Source::Id(id)
        }
        (None, Some(link)) => {
            let url = link.as_str().unwrap_or_default();
            check_link(name, url)?;
            let provider = provider.map(|provider| known_provider(volume, name, &provider)).transpose()?;
            Source::Link { url: url.to_owned(), provider, becomes: MediaId(Uuid::new_v4()) }
        }
    };
    Ok(Part { pointer: format!("/{name}"), kind: name.to_owned(), source })
}

fn check_text(object: &Map<String, Value>, of: &str, name: &str, most: usize, is_taken: bool) -> Checked<()> {
    let Some(value) = object.get(name) else { return Ok(()) };
    if !is_taken {
        return Err(ApiError::new(Code::NotRequired, format!("{of}.{name}: no {of} has one")));
    }
    let is_line = name == "filename";
    let fits = |text: &str| {
        text.chars().count() <= most && !(is_line && (text.is_empty() || text.chars().any(char::is_control)))
    };
    match value.as_str() {
        Some(text) if fits(text) => Ok(()),
        _ if is_line => not_valid(format!("{of}.{name} is one line of 1 to {most} characters")),
        _ => not_valid(format!("{of}.{name} is a text of at most {most} characters")),
    }
}

fn check_link(of: &str, link: &str) -> Checked<()> {
    let is_web = Url::parse(link).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    });
    match is_web && link.len() <= MAX_LINK {
        true => Ok(()),
        false => not_valid(format!("{of}.link is an http or https URL without name and password in it")),
    }
}

fn known_provider(volume: &Volume, of: &str, provider: &Value) -> Checked<String> {
    let name = provider.get("name").and_then(Value::as_str).unwrap_or_default();
    match providers::get(volume, name)? {
        Some(_) => Ok(name.to_owned()),
        None => not_valid(format!("{of}.provider.name: no provider has this name")),
    }
}

fn fit(volume: &Volume, id: MediaId, kind: Kind) -> Checked<()> {
    let Some(ino) = volume.find(&id)? else { return not_valid(format!("no medium has the id {id}")) };
    fits(kind, &volume.medium(ino, true)?).or_else(not_valid)
}
