//! What goes wrong with any call, and what the caller is told.

use std::time::Duration;

use wamedia::node::upstream::{Upstream, UpstreamError};

use crate::standin::{Call, Dialect, Fault, StandIn, TOKEN};
use crate::{DIALECTS, IMPATIENT, PATIENT, config, pair, source};

/// Makes every kind of call but sending, and gives what came of each.
async fn all_calls(upstream: &Upstream, id: &str) -> [(Call, Result<(), UpstreamError>); 3] {
    let uploaded = upstream.upload(source(b"content"), 7, "image/png", "a.png").await.map(drop);
    let looked_up = upstream.lookup(id).await.map(drop);
    let deleted = upstream.delete(id).await;
    [(Call::Upload, uploaded), (Call::Lookup, looked_up), (Call::Delete, deleted)]
}

fn fail_all(server: &StandIn, fault: &Fault) {
    for call in [Call::Upload, Call::Lookup, Call::Delete] {
        server.fail(call, fault.clone(), 1);
    }
}

#[tokio::test]
async fn a_server_that_is_unwell_may_be_asked_again() {
    for dialect in DIALECTS {
        let (server, upstream) = pair(dialect, PATIENT).await;
        let id = server.put_medium(b"content", "image/png");
        let slow = ("retry-after", "17".to_owned());
        for (fault, wait) in [
            (Fault::status(500), None),
            (Fault::status(502), None),
            (Fault::Answer { status: 503, body: "<html>".to_owned(), headers: vec![slow] }, Some(17)),
            (Fault::graph(400, 1, "An unknown error occurred"), None),
            (Fault::graph(500, 131_016, "Service unavailable"), None),
            (Fault::Drop, None),
            (Fault::Answer { status: 200, body: "[".repeat(1000), headers: Vec::new() }, None),
            (
                Fault::Answer { status: 200, body: format!("{{\"id\":\"{}", "1".repeat(70_000)), headers: Vec::new() },
                None,
            ),
            (Fault::Answer { status: 200, body: "{}".to_owned(), headers: Vec::new() }, None),
        ] {
            fail_all(&server, &fault);
            for (call, result) in all_calls(&upstream, &id).await {
                let error = result.unwrap_err();
                assert!(matches!(error, UpstreamError::Transient { .. }), "{call:?} {fault:?}: {error:?}");
                assert_eq!(error.retry_after(), wait.map(Duration::from_secs));
                assert!(error.may_pass());
            }
        }
        for (call, result) in all_calls(&upstream, &id).await {
            result.unwrap_or_else(|e| panic!("{call:?}: {e}"));
        }
    }
}

#[tokio::test]
async fn a_server_that_asks_for_fewer_requests_is_heard() {
    for dialect in DIALECTS {
        let (server, upstream) = pair(dialect, PATIENT).await;
        let id = server.put_medium(b"content", "image/png");
        for (fault, wait) in [
            (Fault::throttle("120"), Some(120)),
            (Fault::status(429), None),
            (Fault::graph(400, 80_007, "Rate limit issues"), None),
            (Fault::graph(403, 4, "Application request limit reached"), None),
        ] {
            fail_all(&server, &fault);
            for (call, result) in all_calls(&upstream, &id).await {
                let error = result.unwrap_err();
                assert!(matches!(error, UpstreamError::Throttled { .. }), "{call:?} {fault:?}: {error:?}");
                assert_eq!(error.retry_after(), wait.map(Duration::from_secs));
            }
        }
        let lookup = upstream.lookup(&id).await.unwrap();
        server.fail(Call::Download, Fault::throttle("9"), 1);
        let error = upstream.open(&lookup).await.unwrap_err();
        assert_eq!((error.may_pass(), error.retry_after()), (true, Some(Duration::from_secs(9))));
    }
}

#[tokio::test]
async fn a_wrong_token_is_told_and_not_shown() {
    for dialect in DIALECTS {
        let server = StandIn::start(dialect).await;
        let wrong = "a-token-that-nobody-knows";
        let config = config(dialect, server.base(), wrong, PATIENT);
        assert!(!format!("{config:?}").contains(wrong));
        let upstream = Upstream::new(config).unwrap();
        for (call, result) in all_calls(&upstream, "7").await {
            let error = result.unwrap_err();
            assert!(matches!(&error, UpstreamError::Denied(refusal) if refusal.status == 401), "{call:?}: {error:?}");
            assert!(!format!("{error:?} {error} {upstream:?}").contains(wrong));
        }
        assert_eq!(server.seen().denied, 3);
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_the_upstreams_words() {
    let (server, upstream) = pair(Dialect::CloudApi, PATIENT).await;
    let id = server.put_medium(b"content", "image/png");
    let long = "long ".repeat(10_000);
    server.fail(Call::Lookup, Fault::graph(400, 131_009, &long), 1);
    let UpstreamError::Refused(refusal) = upstream.lookup(&id).await.unwrap_err() else { panic!() };
    assert_eq!((refusal.status, refusal.code), (400, Some(131_009)));
    assert!(refusal.title.unwrap().len() < 1000);
    server.fail(Call::Lookup, Fault::status(405), 1);
    let refused = upstream.lookup(&id).await.unwrap_err();
    assert!(matches!(&refused, UpstreamError::Refused(refusal) if refusal.status == 405) && !refused.may_pass());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for dialect in DIALECTS {
        let (server, upstream) = pair(dialect, PATIENT).await;
        let elsewhere = StandIn::start(dialect).await;
        let id = server.put_medium(b"content", "image/png");
        let lookup = upstream.lookup(&id).await.unwrap();
        let headers = vec![("location", format!("{}/{id}", elsewhere.base()))];
        for status in [301, 302, 307, 308] {
            let fault = Fault::Answer { status, body: String::new(), headers: headers.clone() };
            fail_all(&server, &fault);
            server.fail(Call::Download, fault, 1);
            for (call, result) in all_calls(&upstream, &id).await {
                assert!(matches!(result, Err(UpstreamError::Refused(_))), "{call:?} {status}: {result:?}");
            }
            assert!(matches!(upstream.open(&lookup).await, Err(UpstreamError::Refused(_))));
        }
        assert!(elsewhere.seen().requests.is_empty());
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let (server, upstream) = pair(Dialect::CloudApi, IMPATIENT).await;
    for fault in [Fault::Delay(Duration::from_secs(600)), Fault::StallAfter(1)] {
        for id in [server.put_medium(b"content", "image/png"), "7".to_owned()] {
            fail_all(&server, &fault);
            for (call, result) in all_calls(&upstream, &id).await {
                assert!(matches!(result, Err(UpstreamError::Transient { .. })), "{call:?} {fault:?}: {result:?}");
            }
            // If there was a medium, its deletion was done, only the answer was not heard.
            assert!(matches!(upstream.delete(&id).await, Err(UpstreamError::UnknownId { .. })));
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_may_be_asked_again() {
    for dialect in DIALECTS {
        let base = {
            let server = StandIn::start(dialect).await;
            server.base()
        };
        // Nothing listens there once the stand-in is gone.
        while tokio::net::TcpStream::connect(base.split('/').nth(2).unwrap()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let upstream = Upstream::new(config(dialect, base, TOKEN, PATIENT)).unwrap();
        for (call, result) in all_calls(&upstream, "7").await {
            assert!(matches!(result, Err(UpstreamError::Transient { .. })), "{call:?}: {result:?}");
        }
    }
}
