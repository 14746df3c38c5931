//! The Cloud API and 360dialog's v2 API, which are one protocol in two dialects.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt, TryStreamExt};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::multipart::{Form, Part};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

use super::failure::{self, Asked};
use super::sending::{Progress, watched, while_it_moves};
use super::{Body, Lookup, MAX_MEDIUM_BYTES, Sent, Source, Timeouts, UpstreamConfig, UpstreamError};
use crate::error::{Error, Kind, Result};
use crate::node::Secret;
use crate::node::client::{self, Bounds, Broken, bounded};

/// The most bytes of an answer that is JSON; the published ones have some hundred.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;
/// The longest media id that is asked for; the published ones have some twenty digits.
const MAX_ID_BYTES: usize = 256;
/// The longest url of a medium that is believed.
const MAX_URL_BYTES: usize = 8 * 1024;

type Answer<T> = std::result::Result<T, UpstreamError>;

/// A client of one phone number.
pub(super) struct Graph {
    client: reqwest::Client,
    dialect: Dialect,
    base: Url,
    header: (HeaderName, HeaderValue),
    timeouts: Timeouts,
}

enum Dialect {
    CloudApi { phone_number_id: String },
    Dialog360,
}

#[derive(Deserialize)]
struct Found {
    url: String,
    mime_type: String,
    sha256: Option<String>,
    file_size: Option<Value>,
}

impl Graph {
    pub(super) fn new(config: UpstreamConfig) -> Result<Graph> {
        let (base, dialect, header, timeouts) = match config {
            UpstreamConfig::CloudApi { base, phone_number_id, token, timeouts } => {
                let plain = phone_number_id.bytes().all(|b| b.is_ascii_alphanumeric());
                if phone_number_id.is_empty() || !plain {
                    return Err(invalid("the phone number id is made of letters and digits"));
                }
                let header = (AUTHORIZATION, secret_header("Bearer ", &token)?);
                (base, Dialect::CloudApi { phone_number_id }, header, timeouts)
            }
            UpstreamConfig::Dialog360 { base, api_key, timeouts } => {
                let header = (HeaderName::from_static("d360-api-key"), secret_header("", &api_key)?);
                (base, Dialect::Dialog360, header, timeouts)
            }
            UpstreamConfig::Directory { .. } => return Err(invalid("a directory is no server")),
        };
        let client = client::build(client::builder(timeouts.connect))?;
        Ok(Graph { client, dialect, base: parse_base(&base)?, header, timeouts })
    }

    pub(super) async fn lookup(&self, id: &str) -> Answer<Lookup> {
        let request = self.client.get(self.medium_url(id)?);
        let found: Found = json(&self.ask(request, Asked::Medium(id)).await?).map_err(UpstreamError::transient)?;
        let sha256 = match found.sha256.as_deref() {
            None | Some("") => None,
            Some(text) => Some(digest(text).ok_or_else(|| {
                UpstreamError::transient(format!("the sha256 of the lookup is none: {:?}", bounded(text)))
            })?),
        };
        if found.url.len() > MAX_URL_BYTES {
            return Err(UpstreamError::transient("the url of the lookup is too long"));
        }
        Ok(Lookup {
            id: id.to_owned(),
            url: found.url,
            mime_type: bounded(&found.mime_type),
            sha256,
            file_size: found.file_size.and_then(|size| size.as_u64().or_else(|| size.as_str()?.parse().ok())),
        })
    }

    pub(super) async fn open(&self, lookup: &Lookup) -> Answer<Body> {
        let request = self.client.get(self.bytes_url(&lookup.url)?);
        let response = timeout(self.timeouts.answer, self.authorized(request).send()).await;
        let response = response.map_err(|_| UpstreamError::transient(no_answer(self.timeouts.answer)))?;
        let response = response.map_err(|e| UpstreamError::transient(client::reason(&e.without_url())))?;
        if response.status() != StatusCode::OK {
            return Err(self.failure(response, Asked::Bytes).await);
        }
        let told = response.content_length();
        if let (Some(told), Some(promised)) = (told, lookup.file_size)
            && told != promised
        {
            return Err(UpstreamError::Differs { what: format!("{told} bytes instead of {promised}") });
        }
        let exactly = told.or(lookup.file_size);
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(bounded);
        let bounds = Bounds { idle: self.timeouts.idle, deadline: None, most: MAX_MEDIUM_BYTES, exactly };
        let pieces = client::body(response, bounds).map_err(broken).boxed();
        Ok(Body { length: exactly, content_type, pieces })
    }

    pub(super) async fn upload(&self, source: Source, length: u64, mime_type: &str, filename: &str) -> Answer<String> {
        let progress = Progress::of(length);
        let stream = reqwest::Body::wrap_stream(watched(source, progress.clone()));
        let part = Part::stream_with_length(stream, length)
            // A line break in it would begin a header of its own: reqwest lets it through.
            .file_name(bounded(filename))
            .mime_str(mime_type)
            .map_err(|_| UpstreamError::local(format!("{:?} is no content type", bounded(mime_type))))?;
        // The short fields first, so that the server knows what comes before it comes.
        let form =
            Form::new().text("messaging_product", "whatsapp").text("type", mime_type.to_owned()).part("file", part);
        let request = self.authorized(self.client.post(self.number_url("media")).multipart(form)).send();
        let sent = while_it_moves(request, &progress, self.timeouts).await;
        if let Some(failure) = progress.failure() {
            return Err(failure);
        }
        let response = match sent {
            None => return Err(UpstreamError::transient("the upload stood still")),
            Some(Err(e)) => return Err(UpstreamError::transient(client::reason(&e.without_url()))),
            Some(Ok(response)) => response,
        };
        if response.status() != StatusCode::OK {
            return Err(self.failure(response, Asked::Upload).await);
        }
        let answer = self.small_body(response).await.map_err(|e| UpstreamError::transient(e.to_string()))?;
        let answer: Value = json(&answer).map_err(UpstreamError::transient)?;
        let id = answer.get("id").and_then(Value::as_str).filter(|id| is_id(id));
        id.map(str::to_owned).ok_or_else(|| UpstreamError::transient("the answer to the upload holds no media id"))
    }

    pub(super) async fn delete(&self, id: &str) -> Answer<()> {
        let answer = self.ask(self.client.delete(self.medium_url(id)?), Asked::Medium(id)).await?;
        let answer: Value = json(&answer).map_err(UpstreamError::transient)?;
        match answer.get("success").and_then(Value::as_bool) {
            Some(true) => Ok(()),
            _ => Err(UpstreamError::transient("the answer to the deletion tells no success")),
        }
    }

    pub(super) async fn send(&self, message: &Value) -> Answer<Sent> {
        let request = self.client.post(self.number_url("messages")).json(message);
        let answer = self.ask(request, Asked::Message).await?;
        let unknown = |what| UpstreamError::OutcomeUnknown { what };
        let answer: Value = json(&answer).map_err(unknown)?;
        let messages = answer.get("messages").and_then(Value::as_array);
        let ids = messages.into_iter().flatten().filter_map(|message| message.get("id")?.as_str().map(bounded));
        let ids: Vec<_> = ids.collect();
        if ids.is_empty() {
            return Err(unknown("the message was taken, but the answer holds no message id".to_owned()));
        }
        Ok(Sent { ids })
    }

    /// Sends a small request and reads its small answer, all within the time for an answer.
    async fn ask(&self, request: RequestBuilder, asked: Asked<'_>) -> Answer<Vec<u8>> {
        let work = async {
            let response = self.authorized(request).send().await.map_err(|e| {
                let what = client::reason(&e);
                // No connection, no request.
                if e.is_connect() || e.is_builder() { UpstreamError::transient(what) } else { lost(asked, what) }
            })?;
            if response.status() != StatusCode::OK {
                return Err(self.failure(response, asked).await);
            }
            self.small_body(response).await.map_err(|e| lost(asked, e.to_string()))
        };
        timeout(self.timeouts.answer, work).await.unwrap_or_else(|_| Err(lost(asked, no_answer(self.timeouts.answer))))
    }

    async fn failure(&self, response: Response, asked: Asked<'_>) -> UpstreamError {
        let (status, wait) = (response.status().as_u16(), client::retry_after(response.headers()));
        let body = match self.small_body(response).await {
            Ok(body) => body,
            // The status says enough.
            Err(Broken::TooLong(_)) => Vec::new(),
            Err(e) => return lost(asked, e.to_string()),
        };
        failure::read(asked, status, wait, &body)
    }

    async fn small_body(&self, response: Response) -> std::result::Result<Vec<u8>, Broken> {
        let bounds = Bounds {
            idle: self.timeouts.idle,
            deadline: Some(client::Deadline::new(self.timeouts.answer)),
            most: MAX_ANSWER_BYTES,
            exactly: None,
        };
        let pieces = client::body(response, bounds);
        pieces
            .try_fold(Vec::new(), |mut all, piece| async move {
                all.extend_from_slice(&piece);
                Ok(all)
            })
            .await
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        request.header(self.header.0.clone(), self.header.1.clone())
    }

    fn medium_url(&self, id: &str) -> Answer<Url> {
        if !is_id(id) {
            return Err(UpstreamError::UnknownId { id: bounded(id) });
        }
        Ok(below(&self.base, &[id]))
    }

    fn number_url(&self, what: &str) -> Url {
        match &self.dialect {
            Dialect::CloudApi { phone_number_id } => below(&self.base, &[phone_number_id, what]),
            Dialect::Dialog360 => below(&self.base, &[what]),
        }
    }

    /// Where the bytes are asked for. The key goes along: never in the clear, unless the base itself is.
    fn bytes_url(&self, url: &str) -> Answer<Url> {
        let mut url = Url::parse(url).map_err(|_| UpstreamError::transient("the url of the lookup is none"))?;
        if let Dialect::Dialog360 = self.dialect {
            let mut rewritten = self.base.clone();
            rewritten.set_path(&format!("{}{}", self.base.path().trim_end_matches('/'), url.path()));
            rewritten.set_query(url.query());
            url = rewritten;
        }
        let allowed = url.scheme() == "https" || (url.scheme() == "http" && self.base.scheme() == "http");
        if !allowed || !url.has_host() || !url.username().is_empty() || url.password().is_some() {
            return Err(UpstreamError::transient("the url of the lookup is not https"));
        }
        url.set_fragment(None);
        Ok(url)
    }
}

/// An answer that was not heard to its end.
fn lost(asked: Asked<'_>, what: String) -> UpstreamError {
    match asked {
        Asked::Message => UpstreamError::OutcomeUnknown { what },
        _ => UpstreamError::transient(what),
    }
}

fn no_answer(within: Duration) -> String {
    format!("no answer within {}", crate::clock::short(within))
}

fn broken(broken: Broken) -> UpstreamError {
    match broken {
        Broken::TooLong(_) | Broken::Short(..) => UpstreamError::Differs { what: broken.to_string() },
        Broken::Cut(..) | Broken::Idle(..) | Broken::Late(_) => UpstreamError::transient(broken.to_string()),
    }
}

fn json<T: serde::de::DeserializeOwned>(body: &[u8]) -> std::result::Result<T, String> {
    serde_json::from_slice(body).map_err(|_| "the answer is not what the protocol says".to_owned())
}

/// A SHA-256 in hex, as a lookup gives it, or in base64, as webhooks do.
fn digest(text: &str) -> Option<[u8; 32]> {
    if text.len() == 64 {
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        return Some(digest);
    }
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// Whether a text can be a media id: what needs no escape in a path, and leads nowhere else.
fn is_id(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'=');
    !id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(plain) && !id.bytes().all(|b| b == b'.')
}

fn below(base: &Url, parts: &[&str]) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{}", base.path().trim_end_matches('/'), parts.join("/")));
    url
}

fn parse_base(base: &str) -> Result<Url> {
    let url = Url::parse(base).map_err(|e| invalid(&format!("the upstream's base URL: {e}")))?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain || url.fragment().is_some() {
        return Err(invalid("the upstream's base URL is http or https, a host, and a path at most"));
    }
    Ok(url)
}

fn secret_header(prefix: &str, secret: &Secret) -> Result<HeaderValue> {
    let text = zeroize::Zeroizing::new(format!("{prefix}{}", secret.expose()));
    let header = HeaderValue::from_str(&text).ok().filter(|_| !secret.expose().is_empty());
    let mut header = header.ok_or_else(|| invalid("the upstream's token or key is empty or cannot be a header"))?;
    header.set_sensitive(true);
    Ok(header)
}

fn invalid(message: &str) -> Error {
    Error::new(Kind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud(base: &str, number: &str, token: &str) -> Result<Graph> {
        Graph::new(UpstreamConfig::CloudApi {
            base: base.to_owned(),
            phone_number_id: number.to_owned(),
            token: Secret::new(token.to_owned()),
            timeouts: Timeouts::default(),
        })
    }

    fn dialog(base: &str) -> Graph {
        let api_key = Secret::new("k".to_owned());
        Graph::new(UpstreamConfig::Dialog360 { base: base.to_owned(), api_key, timeouts: Timeouts::default() }).unwrap()
    }

    #[test]
    fn a_configuration_without_sense_is_refused() {
        assert!(cloud("https://host/v21.0", "1", "t").is_ok());
        for (base, number, token) in [
            ("ftp://host", "1", "t"),
            ("host", "1", "t"),
            ("https://user:word@host", "1", "t"),
            ("https://host?a=b", "1", "t"),
            ("https://host", "", "t"),
            ("https://host", "1/../2", "t"),
            ("https://host", "1", ""),
            ("https://host", "1", "a\nb"),
        ] {
            assert!(cloud(base, number, token).is_err_and(|e| e.kind() == Kind::Invalid), "{base} {number} {token:?}");
        }
    }

    #[test]
    fn urls_are_those_of_the_dialect() {
        let graph = cloud("https://host/v21.0/", "12", "t").unwrap();
        assert_eq!(graph.number_url("media").as_str(), "https://host/v21.0/12/media");
        assert_eq!(graph.medium_url("34").unwrap().as_str(), "https://host/v21.0/34");
        assert_eq!(graph.bytes_url("https://cdn/a/?b=c#d").unwrap().as_str(), "https://cdn/a/?b=c");
        let graph = dialog("https://waba/in");
        assert_eq!(graph.number_url("messages").as_str(), "https://waba/in/messages");
        assert_eq!(graph.bytes_url("https://cdn:8/a/?b=c%2F").unwrap().as_str(), "https://waba/in/a/?b=c%2F");
    }

    #[test]
    fn the_token_is_not_sent_in_the_clear() {
        let graph = cloud("https://host", "12", "t").unwrap();
        for url in ["http://host/a", "ftp://host/a", "data:,a", "a", "https://user@host/a"] {
            assert!(graph.bytes_url(url).is_err(), "{url}");
        }
        assert!(cloud("http://host", "12", "t").unwrap().bytes_url("http://host/a").is_ok());
        // 360dialog's url has the base's scheme whatever the lookup says.
        assert_eq!(dialog("https://waba").bytes_url("http://cdn/a").unwrap().scheme(), "https");
    }

    #[test]
    fn ids_that_would_ask_for_something_else_are_unknown() {
        let graph = cloud("https://host/v21.0", "12", "t").unwrap();
        let long = "1".repeat(MAX_ID_BYTES + 1);
        for id in ["", ".", "..", "12/messages", "1?a=b", "1#", "%2e%2e", "a b", "ä", &long] {
            assert!(matches!(graph.medium_url(id), Err(UpstreamError::UnknownId { .. })), "{id}");
        }
    }

    #[test]
    fn digests_are_hex_or_base64() {
        let all = (0..32).collect::<Vec<u8>>();
        let hex = all.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let wanted: Option<[u8; 32]> = all.clone().try_into().ok();
        assert_eq!(digest(&hex), wanted);
        assert_eq!(digest(&hex.to_uppercase()), wanted);
        assert_eq!(digest(&STANDARD.encode(&all)), wanted);
        for bad in ["", "00", &hex[2..], &hex.replace('0', "+"), &STANDARD.encode(&all[1..]), &"ä".repeat(32)] {
            assert_eq!(digest(bad), None, "{bad}");
        }
    }
}
