//! A medium as the page shows it: nothing that is in it is ever run.

use axum::body::Body;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Page;
use crate::error::{Kind, Result};
use crate::ids::MediaId;
use crate::node::core::blocking;
use crate::node::media::reading::{Content, Open};

/// Bytes by which pictures are told from all else.
const HEAD: u64 = 16;
/// Whatever a browser makes of it, it may do nothing.
const POLICY: &str = "default-src 'none'; sandbox";

/// The type of a picture that browsers show and that holds nothing to run, by its first bytes.
fn picture(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// A medium that was found, with its length and first bytes.
struct Found {
    open: Open,
    len: u64,
    head: Vec<u8>,
}

/// Gives a medium to look at: pictures as such, all else only to be saved. That is no use of it.
pub async fn medium(page: &Page, id: &str) -> Response {
    let Some(id) = MediaId::parse(id.as_bytes()) else { return StatusCode::NOT_FOUND.into_response() };
    let volume = std::sync::Arc::clone(&page.core.volume);
    let found = blocking(move || -> Result<Option<Found>> {
        let Some(ino) = volume.find(&id)? else { return Ok(None) };
        let len = volume.medium(ino, false)?.size;
        let open = Open::to_look(&volume, ino)?;
        let head = open.first(HEAD.min(len))?;
        Ok(Some(Found { open, len, head }))
    });
    let Found { open, len, head } = match found.await {
        Ok(Some(found)) => found,
        Ok(None) => return StatusCode::NOT_FOUND.into_response(),
        Err(error) if error.kind() == Kind::NotFound => return StatusCode::NOT_FOUND.into_response(),
        Err(error) => {
            tracing::error!(%error, %id, "a medium cannot be shown");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let kind = picture(&head);
    let content = match blocking(move || open.content(len)).await {
        Ok(Content::Read(bytes)) => Body::from(bytes),
        Ok(Content::Open(open)) => Body::from_stream(open.pieces(0, len)),
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let mut response = content.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind.unwrap_or("application/octet-stream")));
    if kind.is_none() {
        headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pictures_without_anything_to_run_are_pictures() {
        assert_eq!(picture(b"\xff\xd8\xff\xe0 and so on"), Some("image/jpeg"));
        assert_eq!(picture(b"\x89PNG\r\n\x1a\n"), Some("image/png"));
        assert_eq!(picture(b"RIFF\0\0\0\0WEBPVP8 "), Some("image/webp"));
        assert_eq!(picture(b"GIF89a"), Some("image/gif"));
        for other in [&b"<svg xmlns"[..], b"<html>", b"%PDF-1.7", b"", b"\xff\xd8", b"RIFF\0\0\0\0WAVE"] {
            assert_eq!(picture(other), None);
        }
    }
}
