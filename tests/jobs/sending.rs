//! Messages: what is refused at once, and how media get to the upstream.

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use reqwest::Method;
use serde_json::{Value, json};
use wamedia::ids::MediaId;
use wamedia::node::queue::Topic;

use crate::receiver::axum_serve;
use crate::standin::webhooks::status;
use crate::standin::{Call, Fault};
use crate::world::{World, fault, sample, until};

fn image(to: &str, id: &str) -> Value {
    json!({"recipient_type": "individual", "to": to, "type": "image", "image": {"id": id, "caption": "c"}})
}

async fn refused(world: &World, message: Value) -> (u64, String) {
    let answer = world.ask(Method::POST, "/v1/messages").json(&message).send().await.unwrap();
    let (status, code, details) = fault(answer).await;
    assert_eq!(status, 400, "{message}: {details}");
    (code, details)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_is_refused_by_name_at_once() {
    let world = World::new().await;
    let photo = world.upload(&sample("image/photo.jpg"), "image/jpeg").await;
    let transparent = world.upload(&sample("image/transparent.png"), "image/png").await;
    let animated = world.upload(&sample("sticker/animated.webp"), "image/webp").await;
    let stereo = world.upload(&sample("audio/voice-stereo.ogg"), "audio/ogg; codecs=opus").await;
    let hevc = world.upload(&sample("video/hevc-aac.mp4"), "video/mp4").await;
    let large = world.upload(&[&sample("image/photo.jpg")[..], &vec![0; 5 << 20]].concat(), "image/jpeg").await;
    let of = |kind: &str, object: Value| json!({"to": "1", "type": kind, kind: object});
    for (message, code, word) in [
        (json!({"type": "text", "text": {"body": "b"}}), 1008, "to"),
        (json!({"to": "", "type": "text", "text": {"body": "b"}}), 1009, "to"),
        (json!({"to": "1", "type": "image"}), 1008, "image"),
        (json!({"to": "1", "recipient_type": "everybody", "text": {"body": "b"}}), 1009, "recipient_type"),
        (of("image", json!({})), 1008, "image.id"),
        (of("image", json!("x")), 1009, "image"),
        (of("image", json!({"id": photo, "link": "https://a.example/"})), 1009, "not both"),
        (of("image", json!({"id": "12345"})), 1009, "image.id"),
        (of("image", json!({"id": "1b671a64-40d5-491e-99b0-da01ff1f3341"})), 1009, "no medium"),
        (of("image", json!({"link": "ftp://a.example/"})), 1009, "image.link"),
        (of("image", json!({"link": "https://u:p@a.example/"})), 1009, "image.link"),
        (of("image", json!({"link": "https://a.example/", "provider": {"name": "who"}})), 1009, "provider"),
        (of("image", json!({"id": photo, "provider": {"name": "who"}})), 1010, "provider"),
        (of("image", json!({"id": photo, "caption": "c".repeat(1025)})), 1009, "caption"),
        (of("image", json!({"id": photo, "filename": "a.jpg"})), 1010, "filename"),
        (of("audio", json!({"id": stereo, "caption": "c"})), 1010, "caption"),
        (of("document", json!({"id": photo, "filename": ""})), 1009, "filename"),
        (of("video", json!({"id": photo})), 1009, "image/jpeg"),
        (of("image", json!({"id": transparent})), 1009, "transparent-background"),
        (of("sticker", json!({"id": animated})), 1009, "animated-sticker"),
        (of("audio", json!({"id": stereo})), 1009, "not-single-channel"),
        (of("video", json!({"id": hevc})), 1009, "video-codec-not-h264"),
        (of("image", json!({"id": large})), 1009, "5242880"),
        (json!({"to": "1", "type": "text", "text": {}, "biz_opaque_callback_data": "x".repeat(512)}), 1009, "opaque"),
    ] {
        let told = refused(&world, message.clone()).await;
        assert!(told.0 == code && told.1.contains(word), "{message}: {told:?}");
    }
    assert!(world.upstream.seen().requests.is_empty());
    // As a document each of them may go.
    for id in [&transparent, &hevc] {
        world.post(&of("document", json!({"id": id, "filename": "a b.bin", "caption": ""}))).await;
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_for_many_people_is_uploaded_once() {
    let mut world = World::new().await;
    let bytes = sample("image/photo.jpg");
    let id = world.upload(&bytes, "image/jpeg").await;
    let used = world.medium(&id).unwrap().used;
    world.pass(2 * 24 * 3600);
    for to in 0..40 {
        world.post(&image(&format!("{to}"), &id)).await;
    }
    until("all are sent", || world.core.jobs.count(Topic::Send) == 0).await;
    let seen = world.upstream.seen();
    assert_eq!((seen.uploads.len(), seen.messages.len()), (1, 40));
    assert_eq!(seen.uploads[0].length, bytes.len());
    assert!(seen.messages.iter().all(|(_, body)| body["image"]["id"] == seen.uploads[0].id.as_str()));
    assert_eq!(seen.messages[0].1["image"]["caption"], "c");
    assert!(world.medium(&id).unwrap().used > used, "sending is a use");
    // That it was uploaded outlives a crash, and ends before the upstream forgets it.
    world = world.crash().await;
    world.work();
    world.post(&image("41", &id)).await;
    until("it is sent", || world.upstream.seen().messages.len() == 41).await;
    assert_eq!(world.upstream.seen().uploads.len(), 1);
    world.pass(29 * 24 * 3600 + 1);
    world.post(&image("42", &id)).await;
    until("it is sent", || world.upstream.seen().messages.len() == 42).await;
    assert_eq!(world.upstream.seen().uploads.len(), 2);
    // Forgotten before its time.
    let upstream_id = world.upstream.seen().uploads[1].id.clone();
    world.upstream.forget(&upstream_id);
    world.post(&image("43", &id)).await;
    until("it is tried", || world.core.jobs.waiting(Topic::Send, 0, 1).unwrap().iter().any(|(_, h)| h.attempts == 1))
        .await;
    world.pass(2);
    until("it is sent", || world.upstream.seen().messages.len() == 43).await;
    assert_eq!(world.upstream.seen().uploads.len(), 3);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_speaks_of_the_id_that_was_answered() {
    let world = World::new().await;
    let text = json!({"to": "1", "type": "text", "preview_url": true, "text": {"body": "b"},
                      "biz_opaque_callback_data": "mine"});
    let id = world.post(&text).await;
    until("it is sent", || world.core.jobs.count(Topic::Send) == 0).await;
    let (wamid, body) = world.upstream.seen().messages[0].clone();
    assert_eq!(body["text"], json!({"body": "b", "preview_url": true}));
    let opaque = body["biz_opaque_callback_data"].as_str().unwrap();
    world.told(&status(&wamid, "delivered", Some(opaque))).await;
    let told = world.heard(1).await;
    assert_eq!(told[0]["statuses"][0]["id"], id.as_str());
    assert_eq!(told[0]["statuses"][0]["biz_opaque_callback_data"], "mine");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_messages_for_one_go_in_order_and_outlive_a_crash() {
    let mut world = World::new().await;
    world.rest().await;
    for n in 0..10 {
        world.post(&json!({"to": "1", "type": "text", "text": {"body": n.to_string()}})).await;
    }
    let mut world = world.crash().await;
    world.upstream.fail(Call::Message, Fault::throttle("7"), 1);
    world.work();
    until("it is asked to wait", || {
        world.core.jobs.waiting(Topic::Send, 0, 1).unwrap().iter().any(|(_, head)| head.attempts == 1)
    })
    .await;
    let (_, head) = world.core.jobs.waiting(Topic::Send, 0, 1).unwrap().remove(0);
    assert_eq!(head.due - world.core.jobs.now(), 7000);
    world.pass(7);
    until("all are sent", || world.core.jobs.count(Topic::Send) == 0).await;
    let bodies: Vec<_> = world.upstream.seen().messages.iter().map(|(_, m)| m["text"]["body"].clone()).collect();
    assert_eq!(bodies, (0..10).map(|n| json!(n.to_string())).collect::<Vec<_>>());
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_upstream_refuses_is_told() {
    let world = World::new().await;
    world.upstream.fail(Call::Message, Fault::graph(400, 131_026, "(#131026) Message undeliverable"), 1);
    let id = world.post(&json!({"to": "1", "type": "text", "text": {"body": "b"}})).await;
    let told = world.heard(1).await;
    let status = &told[0]["statuses"][0];
    assert_eq!(
        (&status["id"], &status["status"], &status["recipient_id"]),
        (&json!(id), &json!("failed"), &json!("1"))
    );
    assert_eq!(status["errors"][0]["code"], 131_026);
    assert!(status["errors"][0]["title"].as_str().unwrap().contains("undeliverable"), "{status}");
    let photo = world.upload(&sample("image/photo.jpg"), "image/jpeg").await;
    world.upstream.fail(Call::Upload, Fault::Drop, 1);
    world.post(&image("2", &photo)).await;
    until("it waits", || world.core.jobs.waiting(Topic::Send, 0, 1).unwrap().iter().any(|(_, h)| h.attempts == 1))
        .await;
    world.ask(Method::DELETE, &format!("/v1/media/{photo}")).send().await.unwrap();
    world.pass(2);
    let told = world.heard(2).await;
    assert_eq!(told[1]["statuses"][0]["errors"][0]["code"], 1006, "it was deleted meanwhile");
    assert!(world.upstream.seen().messages.is_empty());
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_is_fetched_into_the_volume_with_its_providers_credentials() {
    let world = World::with(|config| config.fetch.allow = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let photo = |headers: HeaderMap| async move {
        match headers.get("authorization").is_some_and(|shown| shown == "Bearer hush") {
            true => ([("content-type", "image/jpeg")], sample("image/photo.jpg")).into_response(),
            false => StatusCode::FORBIDDEN.into_response(),
        }
    };
    let page = || async { ([("content-type", "text/html")], "<html>") };
    let router = Router::new().route("/photo", get(photo)).route("/page", get(page));
    let server = tokio::spawn(axum_serve(listener, router));

    let providers = "/v1/settings/application/media/providers";
    let provider = json!([{"name": "cdn", "type": "www", "config": {"bearer": "hush"}}]);
    assert_eq!(world.ask(Method::POST, providers).json(&provider).send().await.unwrap().status(), 403);
    assert_eq!(world.ask_as_admin(Method::POST, providers).json(&provider).send().await.unwrap().status(), 200);
    let listed = world.ask_as_admin(Method::GET, providers).send().await.unwrap().text().await.unwrap();
    assert!(listed.contains("cdn") && !listed.contains("hush"), "{listed}");

    let link = |path: &str| json!({"link": format!("{base}{path}"), "provider": {"name": "cdn"}});
    world.post(&json!({"to": "1", "type": "image", "image": link("/photo")})).await;
    until("it is sent", || world.upstream.seen().messages.len() == 1).await;
    let seen = world.upstream.seen();
    assert_eq!(seen.uploads.len(), 1);
    assert_eq!(seen.messages[0].1["image"], json!({"id": seen.uploads[0].id}));
    let filename = seen.uploads[0].filename.clone().unwrap();
    let id = filename.split('.').next().unwrap();
    assert!(MediaId::parse(id.as_bytes()).is_some() && world.medium(id).is_some(), "{filename}");

    world.post(&json!({"to": "2", "type": "image", "image": link("/page")})).await;
    let told = world.heard(1).await;
    let details = told[0]["statuses"][0]["errors"][0]["details"].as_str().unwrap();
    assert!(details.contains("text/html"), "{details}");
    let remove = format!("{providers}/cdn");
    assert_eq!(world.ask_as_admin(Method::DELETE, &remove).send().await.unwrap().status(), 200);
    assert_eq!(world.ask_as_admin(Method::DELETE, &remove).send().await.unwrap().status(), 404);
    world.post(&json!({"to": "3", "type": "image", "image": {"link": format!("{base}/photo")}})).await;
    let told = world.heard(2).await;
    assert!(told[1].to_string().contains("403"), "{}", told[1]);
    world.finish().await;
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_in_the_parts_of_other_messages_are_uploaded_too() {
    let world = World::new().await;
    let id = world.upload(&sample("image/photo.jpg"), "image/jpeg").await;
    let parameters = json!([{"type": "image", "image": {"id": id}}]);
    let template =
        json!({"name": "t", "language": {"code": "en"}, "components": [{"type": "header", "parameters": parameters}]});
    world.post(&json!({"to": "1", "type": "template", "template": template})).await;
    until("it is sent", || world.upstream.seen().messages.len() == 1).await;
    let seen = world.upstream.seen();
    let sent = seen.messages[0].1.pointer("/template/components/0/parameters/0/image/id").unwrap();
    assert_eq!(*sent, seen.uploads[0].id.as_str());
    world.finish().await;
}
