//! From the Cloud API's notifications to webhooks in the on-premises form. Fields that are not known pass through.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::node::messages::OpaqueId;

/// Types of messages that carry a medium.
const MEDIA: [&str; 5] = ["audio", "document", "image", "sticker", "video"];

/// One thing that a notification tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A user has sent a message.
    Message {
        /// The phone number id it came to.
        number: String,
        /// The webhook's body, its medium still with the upstream's id.
        body: Value,
        /// The message's id.
        id: String,
        /// Who sent it.
        from: String,
        /// The medium it carries.
        medium: Option<Carried>,
    },
    /// What became of a message that was sent.
    Status {
        /// The webhook's body, with our id for the message when it has one.
        body: Value,
        /// The upstream's id of the message.
        id: String,
        /// Our id of the message, when it says so.
        own: Option<String>,
        /// `sent`, `delivered`, `read`, `failed`, ...
        status: String,
        /// Who gets it.
        recipient: String,
    },
    /// Anything else, as it is to be passed on.
    Other(Value),
}

/// The medium of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The name of its object in the webhook: `audio`, `voice`, `document`, `image`, `sticker`, `video`.
    pub kind: String,
    /// The upstream's id.
    pub upstream_id: String,
    /// Its type, as the upstream writes it.
    pub mime_type: String,
    /// Its digest in hex, when the upstream tells it.
    pub sha256: Option<String>,
}

/// Takes a notification apart.
#[must_use]
pub fn items(notification: &Value) -> Vec<Item> {
    let mut found = Vec::new();
    for entry in list(notification, "entry") {
        for change in list(entry, "changes") {
            match (text(change, "field"), change.get("value")) {
                ("messages", Some(value)) => of_messages(value, &mut found),
                _ => {
                    let mut entry = entry.clone();
                    entry["changes"] = json!([change]);
                    found.push(Item::Other(json!({"object": notification["object"], "entry": [entry]})));
                }
            }
        }
    }
    found
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn of_messages(value: &Value, found: &mut Vec<Item>) {
    let number = value.get("metadata").map_or("", |metadata| text(metadata, "phone_number_id"));
    for message in list(value, "messages") {
        let from = text(message, "from");
        let mut message = message.clone();
        let medium = carried(&mut message);
        let own = |contact: &&Value| text(contact, "wa_id") == from;
        let mut contacts: Vec<Value> = list(value, "contacts").filter(own).cloned().collect();
        if contacts.is_empty() {
            contacts = list(value, "contacts").cloned().collect();
        }
        fix_errors(&mut message);
        let (id, from) = (text(&message, "id").to_owned(), from.to_owned());
        let mut body = Map::new();
        if !contacts.is_empty() {
            body.insert("contacts".to_owned(), contacts.into());
        }
        body.insert("messages".to_owned(), json!([message]));
        found.push(Item::Message { number: number.to_owned(), body: body.into(), id, from, medium });
    }
    for status in list(value, "statuses") {
        let mut status = status.clone();
        let id = text(&status, "id").to_owned();
        let opaque = OpaqueId::parse(text(&status, "biz_opaque_callback_data"));
        if let (Some(opaque), Value::Object(fields)) = (&opaque, &mut status) {
            fields.insert("id".to_owned(), opaque.message_id.clone().into());
            match &opaque.rest {
                Some(rest) => drop(fields.insert("biz_opaque_callback_data".to_owned(), rest.clone().into())),
                None => drop(fields.remove("biz_opaque_callback_data")),
            }
        }
        fix_errors(&mut status);
        let (word, recipient) = (text(&status, "status").to_owned(), text(&status, "recipient_id").to_owned());
        let body = json!({"statuses": [status]});
        found.push(Item::Status { body, id, own: opaque.map(|own| own.message_id), status: word, recipient });
    }
    if let Some(errors) = value.get("errors") {
        let mut body = json!({"errors": errors});
        fix_errors(&mut body);
        found.push(Item::Other(body));
    }
}

/// Errors tell their details at another place.
fn fix_errors(holder: &mut Value) {
    let errors = holder.get_mut("errors").and_then(Value::as_array_mut);
    for error in errors.into_iter().flatten() {
        let details = error.get("error_data").and_then(|data| data.get("details")).cloned();
        if let (Some(details), Value::Object(fields)) = (details, error) {
            fields.remove("error_data");
            fields.entry("details").or_insert(details);
        }
    }
}

/// The medium of a message, whose object gets the on-premises form.
fn carried(message: &mut Value) -> Option<Carried> {
    let told = MEDIA.into_iter().find(|kind| text(message, "type") == *kind)?;
    let fields = message.as_object_mut()?;
    let mut medium = match fields.remove(told)? {
        Value::Object(medium) => medium,
        other => {
            fields.insert(told.to_owned(), other);
            return None;
        }
    };
    let is_voice = told == "audio" && medium.get("voice").and_then(Value::as_bool) == Some(true);
    let kind = if is_voice { "voice" } else { told };
    medium.remove("voice");
    // A key to the bytes, which only the upstream's client may have.
    medium.remove("url");
    let sha256 = medium.get("sha256").and_then(Value::as_str).and_then(hex_digest);
    if let Some(sha256) = &sha256 {
        medium.insert("sha256".to_owned(), sha256.clone().into());
    }
    let field = |name: &str| medium.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let carried = Carried { kind: kind.to_owned(), upstream_id: field("id"), mime_type: field("mime_type"), sha256 };
    fields.insert("type".to_owned(), kind.into());
    fields.insert(kind.to_owned(), medium.into());
    (!carried.upstream_id.is_empty()).then_some(carried)
}

/// Gives the medium of a message its media id.
pub fn set_media_id(body: &mut Value, kind: &str, id: &str) {
    let medium = body.get_mut("messages").and_then(|messages| messages.get_mut(0)).and_then(|one| one.get_mut(kind));
    if let Some(Value::Object(medium)) = medium {
        medium.insert("id".to_owned(), id.into());
    }
}

/// A digest in hex, from hex or from the base64 of the Cloud API's webhooks.
fn hex_digest(told: &str) -> Option<String> {
    if told.len() == 64 && told.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(told.to_ascii_lowercase());
    }
    let bytes: [u8; 32] = STANDARD.decode(told).ok()?.try_into().ok()?;
    Some(crate::volume::hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(value: Value) -> Value {
        json!({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"value": value, "field": "messages"}]}]})
    }

    #[test]
    fn a_medium_gets_the_on_premises_form_and_the_rest_passes_through() {
        let items = items(&notification(json!({
            "metadata": {"phone_number_id": "77"},
            "contacts": [{"profile": {"name": "Ada"}, "wa_id": "1"}, {"profile": {"name": "Bob"}, "wa_id": "2"}],
            "messages": [{
                "from": "2", "id": "wamid.A", "timestamp": "3", "type": "image", "context": {"id": "x"}, "new": [1],
                "image": {"id": "99", "mime_type": "image/jpeg", "caption": "c", "url": "https://secret",
                          "sha256": STANDARD.encode([7u8; 32])},
            }],
        })));
        let hex = "07".repeat(32);
        let [Item::Message { number, body, id, from, medium }] = items.as_slice() else { panic!("{items:?}") };
        assert_eq!((number.as_str(), id.as_str(), from.as_str()), ("77", "wamid.A", "2"));
        let medium = medium.as_ref().unwrap();
        assert_eq!((medium.kind.as_str(), medium.upstream_id.as_str()), ("image", "99"));
        assert_eq!(medium.sha256.as_deref(), Some(hex.as_str()));
        let mut body = body.clone();
        set_media_id(&mut body, "image", "uuid");
        assert_eq!(
            body,
            json!({
                "contacts": [{"profile": {"name": "Bob"}, "wa_id": "2"}],
                "messages": [{
                    "from": "2", "id": "wamid.A", "timestamp": "3", "type": "image", "context": {"id": "x"}, "new": [1],
                    "image": {"id": "uuid", "mime_type": "image/jpeg", "caption": "c", "sha256": hex},
                }],
            })
        );
    }

    #[test]
    fn a_voice_message_is_one_by_type() {
        let items = items(&notification(json!({
            "messages": [{"from": "1", "id": "a", "type": "audio", "audio": {"id": "5", "voice": true}}],
        })));
        let [Item::Message { body, medium: Some(medium), .. }] = items.as_slice() else { panic!("{items:?}") };
        assert_eq!(medium.kind, "voice");
        assert_eq!(body["messages"][0], json!({"from": "1", "id": "a", "type": "voice", "voice": {"id": "5"}}));
    }

    #[test]
    fn a_status_gets_our_id_back_and_its_errors_their_details() {
        let opaque = OpaqueId { message_id: "m-1".into(), rest: Some("theirs".into()) };
        let items = items(&notification(json!({
            "statuses": [{
                "id": "wamid.B", "status": "failed", "recipient_id": "9", "biz_opaque_callback_data": opaque.to_string(),
                "errors": [{"code": 131_053, "title": "t", "error_data": {"details": "d"}}],
            }],
        })));
        let [Item::Status { body, id, own, status, recipient }] = items.as_slice() else { panic!("{items:?}") };
        assert_eq!(
            (id.as_str(), own.as_deref(), status.as_str(), recipient.as_str()),
            ("wamid.B", Some("m-1"), "failed", "9")
        );
        assert_eq!(
            body["statuses"][0],
            json!({
                "id": "m-1", "status": "failed", "recipient_id": "9", "biz_opaque_callback_data": "theirs",
                "errors": [{"code": 131_053, "title": "t", "details": "d"}],
            })
        );
    }

    #[test]
    fn what_is_not_known_is_passed_on() {
        let other = json!({"object": "o", "entry": [{"id": "1", "changes": [{"field": "new", "value": {"a": 1}}]}]});
        assert_eq!(items(&other), [Item::Other(other.clone())]);
        for nothing in [json!({}), json!([]), json!({"entry": 5}), json!({"entry": [{"changes": {}}]})] {
            assert_eq!(items(&nothing), [], "{nothing}");
        }
    }
}
