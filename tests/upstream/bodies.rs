//! Looking up and reading media.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};
use wamedia::node::upstream::UpstreamError;

use crate::standin::{Call, Dialect, Fault};
use crate::{DIALECTS, IMPATIENT, PATIENT, bytes, pair, whole};

#[tokio::test]
async fn a_medium_is_looked_up_and_read_whole() {
    for dialect in DIALECTS {
        let (server, upstream) = pair(dialect, PATIENT).await;
        let content = bytes(3 * 1024 * 1024 + 1);
        let id = server.put_medium(&content, "audio/ogg; codecs=opus");
        let lookup = upstream.lookup(&id).await.unwrap();
        assert_eq!((lookup.id.as_str(), lookup.mime_type.as_str()), (id.as_str(), "audio/ogg; codecs=opus"));
        assert_eq!(lookup.file_size, Some(content.len() as u64));
        assert_eq!(lookup.sha256.unwrap().as_slice(), Sha256::digest(&content).as_slice());
        let body = upstream.open(&lookup).await.unwrap();
        assert_eq!(body.length(), Some(content.len() as u64));
        assert_eq!(body.content_type(), Some("audio/ogg; codecs=opus"));
        assert_eq!(whole(body).await.unwrap(), content);
        let seen = server.seen();
        assert_eq!((seen.denied, seen.without_agent, seen.downloads), (0, 0, 1));
        assert_eq!(seen.requests.len(), 2, "{:?}", seen.requests);
    }
}

#[tokio::test]
async fn what_a_lookup_says_is_read_in_all_its_forms() {
    let (server, upstream) = pair(Dialect::CloudApi, PATIENT).await;
    let id = server.put_medium(b"content", "image/png");
    let digest: [u8; 32] = Sha256::digest(b"content").into();
    server.patch_lookup(json!({"sha256": STANDARD.encode(digest), "file_size": "7"}));
    let lookup = upstream.lookup(&id).await.unwrap();
    assert_eq!((lookup.sha256, lookup.file_size), (Some(digest), Some(7)));
    server.patch_lookup(json!({"sha256": null, "file_size": null}));
    let lookup = upstream.lookup(&id).await.unwrap();
    assert_eq!((lookup.sha256, lookup.file_size), (None, None));
    assert_eq!(whole(upstream.open(&lookup).await.unwrap()).await.unwrap(), b"content");
    for nonsense in
        [json!({"sha256": "00"}), json!({"url": null}), json!({"mime_type": 1}), json!({"url": "x".repeat(9000)})]
    {
        server.patch_lookup(nonsense.clone());
        let failed = upstream.lookup(&id).await;
        assert!(matches!(failed, Err(UpstreamError::Transient { .. })), "{nonsense}: {failed:?}");
    }
}

#[tokio::test]
async fn the_url_of_a_lookup_is_no_way_out() {
    let (server, upstream) = pair(Dialect::CloudApi, PATIENT).await;
    let id = server.put_medium(b"content", "image/png");
    for url in ["file:///etc/passwd", "nothing", "ftp://127.0.0.1/", "http://user:word@127.0.0.1/"] {
        server.patch_lookup(json!({"url": url}));
        let lookup = upstream.lookup(&id).await.unwrap();
        let failed = upstream.open(&lookup).await;
        assert!(matches!(failed, Err(UpstreamError::Transient { .. })), "{url}: {failed:?}");
    }
}

#[tokio::test]
async fn an_unknown_medium_is_told_as_such() {
    for dialect in DIALECTS {
        let (server, upstream) = pair(dialect, PATIENT).await;
        let id = server.put_medium(b"content", "image/png");
        let lookup = upstream.lookup(&id).await.unwrap();
        server.forget(&id);
        let unknown = UpstreamError::UnknownId { id: id.clone() };
        assert_eq!(upstream.lookup(&id).await.unwrap_err(), unknown);
        assert_eq!(upstream.delete(&id).await.unwrap_err(), unknown);
        assert_eq!(upstream.open(&lookup).await.unwrap_err(), UpstreamError::UrlExpired);
        let asked = server.seen().requests.len();
        assert!(matches!(upstream.lookup("../x").await, Err(UpstreamError::UnknownId { .. })));
        assert_eq!(server.seen().requests.len(), asked, "what can be no id is not asked for");
    }
}

#[tokio::test]
async fn a_medium_is_deleted() {
    for dialect in DIALECTS {
        let (server, upstream) = pair(dialect, PATIENT).await;
        let id = server.put_medium(b"content", "image/png");
        upstream.delete(&id).await.unwrap();
        assert_eq!(server.seen().deleted, std::slice::from_ref(&id));
        assert!(server.medium(&id).is_none());
        let other = server.put_medium(b"content", "image/png");
        server.fail(Call::Delete, Fault::json(&json!({"success": false})), 1);
        assert!(matches!(upstream.delete(&other).await, Err(UpstreamError::Transient { .. })));
    }
}

#[tokio::test]
async fn an_expired_url_asks_for_another_lookup() {
    for dialect in DIALECTS {
        let (server, upstream) = pair(dialect, PATIENT).await;
        let id = server.put_medium(b"content", "image/png");
        let lookup = upstream.lookup(&id).await.unwrap();
        server.expire_urls();
        let expired = upstream.open(&lookup).await.unwrap_err();
        assert!(expired == UpstreamError::UrlExpired && expired.may_pass());
        let lookup = upstream.lookup(&id).await.unwrap();
        assert_eq!(whole(upstream.open(&lookup).await.unwrap()).await.unwrap(), b"content");
        server.set_url_life(Duration::ZERO);
        let lookup = upstream.lookup(&id).await.unwrap();
        assert_eq!(upstream.open(&lookup).await.unwrap_err(), UpstreamError::UrlExpired);
    }
}

#[tokio::test]
async fn a_body_that_is_cut_is_no_medium() {
    for dialect in DIALECTS {
        let (server, upstream) = pair(dialect, PATIENT).await;
        let content = bytes(300_000);
        let id = server.put_medium(&content, "image/png");
        for keep in [0, 1, 100_000, 299_999] {
            let lookup = upstream.lookup(&id).await.unwrap();
            server.fail(Call::Download, Fault::CutAfter(keep), 1);
            let cut = whole(upstream.open(&lookup).await.unwrap()).await;
            assert!(matches!(cut, Err(UpstreamError::Transient { .. })), "{keep}: {cut:?}");
            assert!(cut.unwrap_err().to_string().contains("lost after"));
        }
    }
}

#[tokio::test]
async fn a_body_of_another_length_than_promised_is_no_medium() {
    let (server, upstream) = pair(Dialect::CloudApi, PATIENT).await;
    let content = bytes(300_000);
    let id = server.put_medium(&content, "image/png");
    // With a length that contradicts the lookup.
    for size in [299_999, 300_001] {
        server.patch_lookup(json!({"file_size": size}));
        let lookup = upstream.lookup(&id).await.unwrap();
        let differs = upstream.open(&lookup).await;
        assert!(matches!(differs, Err(UpstreamError::Differs { .. })), "{size}: {differs:?}");
    }
    // Without one: found out by counting.
    for (size, sent) in [(300_000, 100_000), (300_000, 0), (100_000, 300_000)] {
        server.patch_lookup(json!({"file_size": size}));
        let lookup = upstream.lookup(&id).await.unwrap();
        server.fail(Call::Download, Fault::EndAfter(sent), 1);
        let body = upstream.open(&lookup).await.unwrap();
        assert_eq!(body.length(), Some(size));
        let differs = whole(body).await;
        assert!(matches!(differs, Err(UpstreamError::Differs { .. })), "{size} {sent}: {differs:?}");
    }
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let (server, upstream) = pair(Dialect::CloudApi, IMPATIENT).await;
    let id = server.put_medium(&bytes(300_000), "image/png");
    for keep in [0, 100_000] {
        server.fail(Call::Download, Fault::StallAfter(keep), 1);
        let lookup = upstream.lookup(&id).await.unwrap();
        let stalled = whole(upstream.open(&lookup).await.unwrap()).await;
        assert!(matches!(stalled, Err(UpstreamError::Transient { .. })), "{keep}: {stalled:?}");
        assert!(stalled.unwrap_err().to_string().contains("nothing came"));
    }
    server.fail(Call::Download, Fault::Delay(Duration::from_secs(600)), 1);
    let lookup = upstream.lookup(&id).await.unwrap();
    assert!(matches!(upstream.open(&lookup).await, Err(UpstreamError::Transient { .. })));
}
