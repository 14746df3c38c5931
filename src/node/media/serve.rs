//! Media given out: whole or in part, with the digest as their tag.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED,
    RANGE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;

use super::super::core::Core;
use super::super::envelope::ApiError;
use super::range::{Wanted, wanted};
use super::reading::{Content, Open};
use super::{id_of, unknown};
use crate::error::Kind;
use crate::volume::Medium;

/// Gives a medium, or a part of it.
#[utoipa::path(
    get,
    path = "/v1/media/{id}",
    operation_id = "get_medium",
    tag = "media",
    params(
        ("id" = Uuid, Path, description = "The media id."),
        ("Range" = Option<String>, Header, description = "One range of bytes."),
        ("If-Match" = Option<String>, Header, description = "Tags, one of which it must have."),
        ("If-Range" = Option<String>, Header, description = "The tag that it must have for a range to be given."),
        ("If-None-Match" = Option<String>, Header, description = "Tags of what the client has."),
    ),
    responses(
        (status = 200, description = "The bytes, with their type.", body = Vec<u8>, content_type = "*/*", headers(
            ("ETag" = String, description = "The SHA-256 of the bytes, in quotes."),
            ("Last-Modified" = String, description = "When they were last written."),
            ("Accept-Ranges" = String, description = "`bytes`."),
        )),
        (status = 206, description = "The part that was asked for.", body = Vec<u8>, content_type = "*/*", headers(
            ("ETag" = String, description = "The SHA-256 of all bytes, in quotes."),
            ("Content-Range" = String, description = "Which bytes of how many."),
        )),
        (status = 304, description = "The client has it already.", headers(("ETag" = String, description = "Its tag."))),
        (status = 404, description = "No such medium; no body."),
        (status = 412, description = "The client expected another one."),
        (status = 416, description = "It has no such part.", headers(
            ("Content-Range" = String, description = "How many bytes there are."),
        )),
    ),
    security(("bearer" = []), ("d360" = []))
)]
pub async fn get(
    State(core): State<Arc<Core>>,
    uri: Uri,
    headers: HeaderMap,
) -> std::result::Result<Response, ApiError> {
    answer(&core, &uri, &headers, true).await
}

/// Tells of a medium what GET would, without its bytes.
#[utoipa::path(
    head,
    path = "/v1/media/{id}",
    operation_id = "head_medium",
    tag = "media",
    params(("id" = Uuid, Path, description = "The media id.")),
    responses(
        (status = 200, description = "It is there.", headers(
            ("ETag" = String, description = "The SHA-256 of the bytes, in quotes."),
            ("Last-Modified" = String, description = "When they were last written."),
            ("Accept-Ranges" = String, description = "`bytes`."),
        )),
        (status = 304, description = "The client has it already."),
        (status = 404, description = "No such medium."),
        (status = 412, description = "The client expected another one."),
    ),
    security(("bearer" = []), ("d360" = []))
)]
pub async fn head(
    State(core): State<Arc<Core>>,
    uri: Uri,
    headers: HeaderMap,
) -> std::result::Result<Response, ApiError> {
    answer(&core, &uri, &headers, false).await
}

/// The headers on which it depends what is given.
const CONDITIONS: [HeaderName; 4] = [IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE];

async fn answer(
    core: &Core,
    uri: &Uri,
    headers: &HeaderMap,
    with_bytes: bool,
) -> std::result::Result<Response, ApiError> {
    let Some(id) = id_of(uri) else { return Ok(unknown()) };
    let is_plain = with_bytes && CONDITIONS.iter().all(|name| !headers.contains_key(name));
    let opened = core
        .ask(move |volume| {
            let Some(ino) = volume.find(&id)? else { return Ok(None) };
            let open = Open::new(volume, ino)?;
            // The digest is what the answer is tagged with: computed now if it never was.
            let medium = volume.medium(ino, true)?;
            let content = if is_plain { open.content(medium.size)? } else { Content::Open(open) };
            Ok(Some((content, medium)))
        })
        .await;
    let (content, medium) = match opened {
        Ok(Some(opened)) => opened,
        Ok(None) => return Ok(unknown()),
        Err(error) if error.kind() == Kind::NotFound => return Ok(unknown()),
        Err(error) => return Err(error.into()),
    };
    let tag = format!("\"{}\"", medium.sha256.clone().unwrap_or_default());
    if !header(headers, &IF_MATCH).is_none_or(|expected| names_strongly(expected, &tag)) {
        return Ok(StatusCode::PRECONDITION_FAILED.into_response());
    }
    if header(headers, &IF_NONE_MATCH).is_some_and(|known| names_tag(known, &tag)) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, text(&tag))]).into_response());
    }
    let is_same = header(headers, &IF_RANGE).is_none_or(|known| known.trim() == tag);
    let range = header(headers, &RANGE).filter(|_| is_same && with_bytes);
    let (status, first, last) = match wanted(range, medium.size) {
        Wanted::Nothing => {
            let range = text(&format!("bytes */{}", medium.size));
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, range)]).into_response());
        }
        Wanted::Part(first, last) => (StatusCode::PARTIAL_CONTENT, first, last + 1),
        Wanted::All => (StatusCode::OK, 0, medium.size),
    };
    let given = core.metrics.given.clone();
    let body = match content {
        Content::Read(bytes) => {
            given.inc_by(bytes.len() as u64);
            Body::from(bytes)
        }
        Content::Open(open) if with_bytes => Body::from_stream(open.pieces(first, last).inspect_ok(move |piece| {
            given.inc_by(piece.len() as u64);
        })),
        Content::Open(_) => Body::empty(),
    };
    let mut response = (status, body).into_response();
    let answered = response.headers_mut();
    answered.insert(CONTENT_TYPE, text(&medium.mime_type));
    answered.insert(CONTENT_LENGTH, HeaderValue::from(last - first));
    answered.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answered.insert(ETAG, text(&tag));
    if let Some(written) = last_modified(&medium) {
        answered.insert(LAST_MODIFIED, written);
    }
    if status == StatusCode::PARTIAL_CONTENT {
        answered.insert(CONTENT_RANGE, text(&format!("bytes {first}-{}/{}", last - 1, medium.size)));
    }
    Ok(response)
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether a list of tags has this one as a strong one, or is `*` (RFC 9110, 8.8.3.2).
fn names_strongly(list: &str, tag: &str) -> bool {
    list.split(',').map(str::trim).any(|one| one == "*" || one == tag)
}

/// Whether a list of tags has this one, weak or strong, or is `*`.
fn names_tag(list: &str, tag: &str) -> bool {
    list.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// The time of the last write, as HTTP writes times (RFC 9110, 5.6.7).
fn last_modified(medium: &Medium) -> Option<HeaderValue> {
    let at = jiff::Timestamp::from_second(medium.mtime.secs).ok()?;
    let shown = at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    HeaderValue::from_str(&shown).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly_and_in_lists() {
        for (list, expected) in
            [("\"a\"", true), ("W/\"a\"", true), ("\"b\", \"a\"", true), ("*", true), ("\"b\"", false), ("a", false)]
        {
            assert_eq!(names_tag(list, "\"a\""), expected, "{list}");
            assert_eq!(names_strongly(list, "\"a\""), expected && !list.starts_with("W/"), "{list}");
        }
    }
}
