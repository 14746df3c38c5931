//! Messages as their jobs keep them, and where the media are in them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::MediaId;
use crate::media::{self, Kind};
use crate::volume::Medium;

/// A message that is to be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outgoing {
    /// Our id of it.
    pub id: String,
    /// Who gets it.
    pub to: String,
    /// The message in the Cloud API's form, but for its media.
    pub message: Value,
    /// Its media.
    pub parts: Vec<Part>,
}

/// A medium in a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Where its object is, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// The kind it is sent as.
    pub kind: String,
    /// Where it comes from.
    pub source: Source,
}

/// Where a medium comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The volume.
    Id(MediaId),
    /// A link, fetched into the volume under an id that is chosen beforehand.
    Link {
        /// The link.
        url: String,
        /// Whose credentials it is fetched with.
        provider: Option<String>,
        /// The media id it gets.
        becomes: MediaId,
    },
}

/// Whether a medium may be sent as this kind; why not, if not.
///
/// # Errors
/// A sentence that names the reason.
pub fn fits(kind: Kind, medium: &Medium) -> Result<(), String> {
    let most = media::limit(kind);
    if medium.size == 0 || medium.size > most {
        return Err(format!("the medium has {} bytes, and one that is sent as {kind} has 1 to {most}", medium.size));
    }
    if kind == Kind::Document {
        return Ok(());
    }
    if medium.kind != kind.as_str() || media::kind_of(&medium.mime_type) != kind {
        return Err(format!("the medium is of type {}, which cannot be sent as {kind}", medium.mime_type));
    }
    match medium.verdict.as_deref() {
        Some(verdict) if verdict.starts_with("unfit") => {
            Err(format!("WhatsApp would refuse this {kind}: {}", verdict.trim_start_matches("unfit: ")))
        }
        _ => Ok(()),
    }
}

/// Media by id in the parts of templates and interactive messages: pointers to their objects, and their kinds.
#[must_use]
pub fn nested(message: &Value) -> Vec<(String, &'static str)> {
    let mut holders = vec!["/interactive/header".to_owned()];
    let components = message.pointer("/template/components").and_then(Value::as_array);
    for (nth, component) in components.into_iter().flatten().enumerate() {
        let parameters = component.get("parameters").and_then(Value::as_array).map_or(0, Vec::len);
        holders.extend((0..parameters).map(|of| format!("/template/components/{nth}/parameters/{of}")));
    }
    let found = holders.into_iter().flat_map(|holder| {
        ["document", "image", "video"].into_iter().map(move |kind| (format!("{holder}/{kind}"), kind))
    });
    found.filter(|(pointer, _)| message.pointer(pointer).is_some_and(|object| object.get("id").is_some())).collect()
}
