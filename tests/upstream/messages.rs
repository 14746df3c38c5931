//! Sending: what was certainly not sent is told from what may have been.

use std::time::Duration;

use serde_json::{Value, json};
use wamedia::node::upstream::{Upstream, UpstreamError};

use crate::standin::{Call, Dialect, Fault, StandIn, TOKEN};
use crate::{DIALECTS, IMPATIENT, PATIENT, config, pair};

fn message(id: &str) -> Value {
    json!({
        "messaging_product": "whatsapp", "recipient_type": "individual", "to": "16505551234", "type": "image",
        "image": {"id": id, "caption": "a \"caption\" – ä"}, "biz_opaque_callback_data": "7",
    })
}

#[tokio::test]
async fn a_message_is_sent_as_it_is() {
    for dialect in DIALECTS {
        let (server, upstream) = pair(dialect, PATIENT).await;
        let message = message(&server.put_medium(b"content", "image/png"));
        let sent = upstream.send(&message).await.unwrap();
        let seen = server.seen();
        assert_eq!(seen.messages, [(sent.ids[0].clone(), message)]);
        assert_eq!(sent.ids.len(), 1);
    }
}

#[tokio::test]
async fn what_was_not_sent_is_told_as_such() {
    for dialect in DIALECTS {
        let (server, upstream) = pair(dialect, PATIENT).await;
        let message = message(&server.put_medium(b"content", "image/png"));
        for fault in [
            Fault::status(503),
            Fault::status(429),
            Fault::status(404),
            Fault::graph(500, 131_000, "Something went wrong"),
            Fault::graph(400, 131_056, "Pair rate limit hit"),
            Fault::graph(400, 131_026, "Message undeliverable"),
        ] {
            server.fail(Call::Message, fault.clone(), 1);
            let error = upstream.send(&message).await.unwrap_err();
            assert!(!error.may_have_been_sent(), "{fault:?}: {error:?}");
        }
        let refused = upstream.send(&json!({"messaging_product": "whatsapp", "to": "1", "type": "image"})).await;
        assert!(matches!(refused, Err(UpstreamError::Refused(_))), "{refused:?}");
        assert!(server.seen().messages.is_empty());
    }
}

#[tokio::test]
async fn nothing_is_sent_without_a_connection() {
    let server = StandIn::start(Dialect::CloudApi).await;
    let base = server.base();
    drop(server);
    while tokio::net::TcpStream::connect(base.split('/').nth(2).unwrap()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let upstream = Upstream::new(config(Dialect::CloudApi, base, TOKEN, PATIENT)).unwrap();
    let error = upstream.send(&message("7")).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Transient { .. }), "{error:?}");
    // A name that does not exist (RFC 6761).
    let base = "http://upstream.invalid".to_owned();
    let upstream = Upstream::new(config(Dialect::CloudApi, base, TOKEN, PATIENT)).unwrap();
    let error = upstream.send(&message("7")).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Transient { .. }), "{error:?}");
}

#[tokio::test]
async fn what_may_have_been_sent_is_told_as_such() {
    for dialect in DIALECTS {
        let (server, upstream) = pair(dialect, PATIENT).await;
        let message = message(&server.put_medium(b"content", "image/png"));
        let mut sent = 0;
        for (fault, is_sent) in [
            (Fault::Drop, false),
            (Fault::DropAfter, true),
            (Fault::CutAfter(0), true),
            (Fault::CutAfter(20), true),
            (Fault::EndAfter(20), true),
            (Fault::status(200), false),
            (Fault::status(202), false),
            (Fault::status(502), false),
            (Fault::status(504), false),
            (Fault::json(&json!({"messages": []})), false),
            (Fault::json(&json!({"messages": [{"id": 1}]})), false),
        ] {
            server.fail(Call::Message, fault.clone(), 1);
            let error = upstream.send(&message).await.unwrap_err();
            assert!(error.may_have_been_sent() && !error.may_pass(), "{fault:?}: {error:?}");
            sent += usize::from(is_sent);
            assert_eq!(server.seen().messages.len(), sent, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_message_without_an_answer_in_time_may_have_been_sent() {
    let (server, upstream) = pair(Dialect::CloudApi, IMPATIENT).await;
    let message = message(&server.put_medium(b"content", "image/png"));
    for fault in [Fault::Delay(Duration::from_secs(600)), Fault::StallAfter(20)] {
        server.fail(Call::Message, fault.clone(), 1);
        let error = upstream.send(&message).await.unwrap_err();
        assert!(error.may_have_been_sent(), "{fault:?}: {error:?}");
    }
    assert_eq!(server.seen().messages.len(), 2);
}

#[tokio::test]
async fn one_upstream_serves_many_tasks() {
    let (server, upstream) = pair(Dialect::CloudApi, PATIENT).await;
    let id = server.put_medium(b"content", "image/png");
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (upstream, message): (Upstream, Value) = (upstream.clone(), message(&id));
            tokio::spawn(async move { upstream.send(&message).await.unwrap().ids })
        })
        .collect();
    let mut ids = std::collections::HashSet::new();
    for task in tasks {
        ids.extend(task.await.unwrap());
    }
    assert_eq!(ids.len(), 20);
}
