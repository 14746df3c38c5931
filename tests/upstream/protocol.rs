//! The stand-in itself: it refuses what Meta's servers refuse, or it would prove nothing.

use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::standin::webhooks::{self, signature};
use crate::standin::{APP_SECRET, Dialect, PHONE_NUMBER_ID, StandIn, TOKEN};

/// What a request with a body is answered: the status and the error's code.
async fn post(server: &StandIn, path: &str, content_type: &str, body: String) -> (u16, Option<i64>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let request = reqwest::Client::new().post(format!("{}/{path}", server.base())).bearer_auth(TOKEN);
    let answer = request.header("content-type", content_type).body(body).send().await.unwrap();
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    (status, body["error"]["code"].as_i64())
}

fn field(name: &str, value: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn file(mime_type: &str, content: &str) -> String {
    format!(
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\nContent-Type: {mime_type}\r\n\r\n\
         {content}\r\n"
    )
}

#[tokio::test]
async fn uploads_are_checked() {
    let server = StandIn::start(Dialect::CloudApi).await;
    let path = format!("{PHONE_NUMBER_ID}/media");
    let (product, kind) = (field("messaging_product", "whatsapp"), field("type", "image/png"));
    let good = file("image/png", "x");
    for parts in [
        vec![&product, &kind],
        vec![&product, &good],
        vec![&kind, &good],
        vec![&product, &kind, &file("image/jpeg", "x")],
        vec![&field("messaging_product", "sms"), &kind, &good],
        vec![&product, &field("type", "image/gif"), &file("image/gif", "x")],
        vec![&product, &kind, &good, &field("more", "x")],
    ] {
        let body: String = parts.into_iter().cloned().chain(["--b--\r\n".to_owned()]).collect();
        let answer = post(&server, &path, "multipart/form-data; boundary=b", body.clone()).await;
        assert_eq!(answer, (400, Some(100)), "{body}");
    }
    let cut = format!("{product}{kind}{good}");
    assert_eq!(post(&server, &path, "multipart/form-data; boundary=b", cut).await.0, 400);
    assert_eq!(post(&server, &path, "application/json", "{}".to_owned()).await, (400, Some(100)));
    let whole = format!("{product}{kind}{good}--b--\r\n");
    assert_eq!(post(&server, "999/media", "multipart/form-data; boundary=b", whole.clone()).await.0, 400);
    assert!(server.seen().uploads.is_empty());
    assert_eq!(post(&server, &path, "multipart/form-data; boundary=b", whole).await, (200, None));
    assert_eq!(server.seen().uploads.len(), 1);
}

#[tokio::test]
async fn messages_are_checked() {
    let server = StandIn::start(Dialect::CloudApi).await;
    let path = format!("{PHONE_NUMBER_ID}/messages");
    let (image, audio) = (server.put_medium(b"x", "image/png"), server.put_medium(b"x", "audio/aac"));
    let whole = json!({"messaging_product": "whatsapp", "to": "+1650", "type": "image", "image": {"id": image}});
    let with = |name: &str, value: Value| {
        let mut message = whole.clone();
        message[name] = value;
        message
    };
    for message in [
        with("messaging_product", Value::Null),
        with("messaging_product", "sms".into()),
        with("to", Value::Null),
        with("to", "somebody".into()),
        with("recipient_type", "many".into()),
        with("type", "picture".into()),
        with("type", "video".into()),
        with("image", "7".into()),
        with("image", json!({})),
        with("image", json!({"id": "7"})),
        with("image", json!({"id": audio})),
        with("image", json!({"id": image, "link": "https://host/a"})),
        with("image", json!({"id": image, "filename": "a.png"})),
        with("image", json!({"link": "ftp://host/a"})),
        with("biz_opaque_callback_data", "x".repeat(513).into()),
    ] {
        assert_eq!(post(&server, &path, "application/json", message.to_string()).await.0, 400, "{message}");
    }
    assert!(server.seen().messages.is_empty());
    assert_eq!(post(&server, &path, "application/json", whole.to_string()).await, (200, None));
    let linked = with("image", json!({"link": "https://host/a", "caption": "c"}));
    assert_eq!(post(&server, &path, "application/json", linked.to_string()).await, (200, None));
    assert_eq!(server.seen().messages.len(), 2);
}

#[tokio::test]
async fn each_dialect_lets_in_its_own_clients_alone() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    for (dialect, other) in [(Dialect::CloudApi, "D360-API-KEY"), (Dialect::Dialog360, "Authorization")] {
        let server = StandIn::start(dialect).await;
        let id = server.put_medium(b"x", "image/png");
        let value = if other == "Authorization" { format!("Bearer {TOKEN}") } else { TOKEN.to_owned() };
        let url = format!("{}/{id}", server.base());
        for request in [client.get(&url), client.get(&url).header(other, value)] {
            assert_eq!(request.send().await.unwrap().status(), 401);
        }
        assert_eq!(server.seen().denied, 2);
    }
}

/// A server that takes webhooks and hands over what came: the query, the signature, the body.
async fn receiver() -> (String, mpsc::UnboundedReceiver<(String, String, Vec<u8>)>) {
    let (give, take) = mpsc::unbounded_channel();
    let router = axum::Router::new().fallback(move |request: Request| {
        let give = give.clone();
        async move {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let signed = request.headers().get("x-hub-signature-256").map(|v| v.to_str().unwrap().to_owned());
            let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap().to_vec();
            let challenge = query.split('&').find_map(|pair| pair.strip_prefix("hub.challenge=").map(str::to_owned));
            let is_known = query.contains("hub.verify_token=known");
            give.send((query, signed.unwrap_or_default(), body)).unwrap();
            match challenge {
                Some(challenge) if is_known => (StatusCode::OK, challenge),
                Some(_) => (StatusCode::FORBIDDEN, String::new()),
                None => (StatusCode::OK, String::new()),
            }
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, take)
}

#[tokio::test]
async fn notifications_are_signed_and_complete() {
    // RFC 4231, test case 2.
    assert_eq!(
        signature("Jefe", b"what do ya want for nothing?"),
        "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    let server = StandIn::start(Dialect::CloudApi).await;
    let (url, mut came) = receiver().await;
    let id = server.put_medium(b"abc", "image/png");
    assert_eq!(server.deliver(&url, &server.media_message("image", &id, Some("c"))).await, 200);
    let (_, signed, body) = came.recv().await.unwrap();
    assert_eq!(signed, signature(APP_SECRET, &body));
    let body: Value = serde_json::from_slice(&body).unwrap();
    let value = &body["entry"][0]["changes"][0]["value"];
    assert_eq!(value["messages"][0]["image"]["sha256"], "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    assert_eq!(value["metadata"]["phone_number_id"], PHONE_NUMBER_ID);
    let failed = webhooks::status("wamid.7", "failed", Some("job 7"));
    server.deliver_signed(&url, &failed, "another").await;
    let (_, signed, body) = came.recv().await.unwrap();
    assert_ne!(signed, signature(APP_SECRET, &body));
    let body: Value = serde_json::from_slice(&body).unwrap();
    let status = &body["entry"][0]["changes"][0]["value"]["statuses"][0];
    assert_eq!((&status["biz_opaque_callback_data"], &status["errors"][0]["code"]), (&json!("job 7"), &json!(131_053)));
}

#[tokio::test]
async fn a_webhook_url_is_verified() {
    let server = StandIn::start(Dialect::CloudApi).await;
    let (url, _came) = receiver().await;
    assert!(server.verify(&url, "known").await);
    assert!(!server.verify(&url, "unknown").await);
}
