//! Handing media over.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use wamedia::node::upstream::{Timeouts, UpstreamError};

use crate::standin::{Call, Dialect, Fault};
use crate::{DIALECTS, IMPATIENT, PATIENT, bytes, pair, source};

#[tokio::test]
async fn a_medium_arrives_whole_with_its_type_and_name() {
    for dialect in DIALECTS {
        let (server, upstream) = pair(dialect, PATIENT).await;
        for (length, mime_type, filename) in [
            (1, "text/plain", "a.txt"),
            (3 * 1024 * 1024 + 1, "audio/ogg; codecs=opus", "voice.ogg"),
            (1000, "application/pdf", "Größe 1.pdf"),
        ] {
            let content = bytes(length);
            let id = upstream.upload(source(&content), length as u64, mime_type, filename).await.unwrap();
            let upload = server.seen().uploads.pop().unwrap();
            assert_eq!((upload.id, upload.length), (id.clone(), length));
            assert_eq!((upload.mime_type.as_str(), upload.filename.as_deref()), (mime_type, Some(filename)));
            assert_eq!(upload.sha256.as_slice(), Sha256::digest(&content).as_slice());
            assert_eq!(upstream.lookup(&id).await.unwrap().file_size, Some(length as u64));
        }
    }
}

#[tokio::test]
async fn a_name_cannot_break_out_of_its_field() {
    let (server, upstream) = pair(Dialect::CloudApi, PATIENT).await;
    let name = "a\"; name=\"type\"\r\nContent-Type: text/html\r\n\r\n.png";
    upstream.upload(source(b"content"), 7, "image/png", name).await.unwrap();
    let upload = server.seen().uploads.pop().unwrap();
    assert_eq!((upload.mime_type.as_str(), upload.length), ("image/png", 7));
}

#[tokio::test]
async fn a_medium_that_the_upstream_will_not_have_is_refused() {
    for dialect in DIALECTS {
        let (server, upstream) = pair(dialect, PATIENT).await;
        let refused = upstream.upload(source(b"content"), 7, "application/zip", "a.zip").await;
        let Err(UpstreamError::Refused(refusal)) = refused else { panic!("{refused:?}") };
        assert_eq!((refusal.status, refusal.code), (400, Some(100)));
        assert!(refusal.title.unwrap().contains("must be a file with one of the following types"));
        let large = bytes(600 * 1024);
        let refused = upstream.upload(source(&large), large.len() as u64, "image/webp", "a.webp").await;
        let Err(UpstreamError::Refused(refusal)) = refused else { panic!("{refused:?}") };
        assert_eq!(refusal.code, Some(131_053));
        assert!(refusal.details.unwrap().contains("614400"));
        assert!(server.seen().uploads.is_empty());
        let untyped = upstream.upload(source(b"content"), 7, "no type", "a").await;
        assert!(matches!(untyped, Err(UpstreamError::Local { .. })), "{untyped:?}");
    }
}

#[tokio::test]
async fn a_source_that_fails_is_not_the_upstreams_fault() {
    let (server, upstream) = pair(Dialect::CloudApi, PATIENT).await;
    let piece = || Ok(Bytes::from(bytes(100_000)));
    for (pieces, length) in [
        (vec![piece(), Err(io::Error::other("a damaged chunk"))], 200_000),
        (vec![piece()], 200_000),
        (vec![piece(), piece()], 100_000),
        (vec![piece()], 0),
    ] {
        let told = format!("{pieces:?}").len();
        let failed = upstream.upload(stream::iter(pieces).boxed(), length, "text/plain", "a").await;
        assert!(matches!(failed, Err(UpstreamError::Local { .. })), "{told} {length}: {failed:?}");
    }
    assert!(server.seen().uploads.is_empty());
}

#[tokio::test]
async fn an_upload_that_moves_may_take_its_time() {
    let idle = Duration::from_secs(2);
    let (server, upstream) = pair(Dialect::CloudApi, Timeouts { idle, ..PATIENT }).await;
    let pieces = stream::iter(0..50).then(|_| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(Bytes::from_static(b"0123456789"))
    });
    upstream.upload(pieces.boxed(), 500, "text/plain", "a").await.unwrap();
    assert_eq!(server.seen().uploads[0].length, 500);
}

#[tokio::test]
async fn an_upload_that_stands_still_is_given_up() {
    let (server, upstream) = pair(Dialect::CloudApi, IMPATIENT).await;
    let pieces = stream::iter([Ok(Bytes::from_static(b"0"))]).chain(stream::pending());
    let stalled = upstream.upload(pieces.boxed(), 500, "text/plain", "a").await;
    assert!(matches!(stalled, Err(UpstreamError::Transient { .. })), "{stalled:?}");
    server.fail(Call::Upload, Fault::Delay(Duration::from_secs(600)), 1);
    let unanswered = upstream.upload(source(b"content"), 7, "text/plain", "a").await;
    assert!(matches!(unanswered, Err(UpstreamError::Transient { .. })), "{unanswered:?}");
}

#[tokio::test]
async fn an_answer_that_is_lost_gives_no_id() {
    for dialect in DIALECTS {
        let (server, upstream) = pair(dialect, PATIENT).await;
        for fault in [Fault::DropAfter, Fault::CutAfter(3), Fault::json(&serde_json::json!({"id": "../x"}))] {
            server.fail(Call::Upload, fault.clone(), 1);
            let lost = upstream.upload(source(b"content"), 7, "text/plain", "a").await;
            assert!(matches!(lost, Err(UpstreamError::Transient { .. })), "{fault:?}: {lost:?}");
        }
    }
}
