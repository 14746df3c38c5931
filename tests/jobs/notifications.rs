//! Notifications of the upstream.

use serde_json::{Value, json};
use wamedia::node::queue::Topic;

use crate::standin::webhooks::notification;
use crate::standin::{Call, Fault};
use crate::world::{VERIFY_TOKEN, World, a_while, sample, until};

fn image_of(told: &Value) -> &Value {
    assert_eq!(told["messages"][0]["type"], "image", "{told}");
    &told["messages"][0]["image"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_url_is_verified_and_only_what_is_signed_is_taken() {
    let mut world = World::new().await;
    assert!(world.upstream.verify(&world.hook(), VERIFY_TOKEN).await);
    assert!(!world.upstream.verify(&world.hook(), "another").await);
    assert!(!world.upstream.verify(&format!("{}/webhooks/other", world.base), VERIFY_TOKEN).await);
    world.rest().await;
    let event = notification(&json!({"messages": [{"from": "1", "id": "a", "type": "text"}]}));
    assert_eq!(world.upstream.deliver_signed(&world.hook(), &event, "another secret").await, 401);
    let other = format!("{}/webhooks/other", world.base);
    assert_eq!(world.upstream.deliver(&other, &event).await, 404);
    let unsigned = world.client.post(world.hook()).json(&event).send().await.unwrap();
    assert_eq!(unsigned.status(), 401);
    let with_token = format!("{}/webhooks/{VERIFY_TOKEN}", world.base);
    let unsigned = world.client.post(with_token).json(&event).send().await.unwrap();
    assert_eq!(unsigned.status(), 401, "the token is no signature");
    assert_eq!(world.core.jobs.count(Topic::Event), 0);
    world.told(&event).await;
    assert_eq!(world.core.jobs.count(Topic::Event), 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_secret_the_token_is_wanted_and_without_both_nothing_is_taken() {
    let event = notification(&json!({"messages": [{"from": "1", "id": "a", "type": "text"}]}));
    let world = World::with(|config| config.notifications.app_secret = None).await;
    let post = |url: String| world.client.post(url).json(&event);
    assert_eq!(post(world.hook()).send().await.unwrap().status(), 401);
    assert_eq!(post(world.hook()).bearer_auth("another").send().await.unwrap().status(), 401);
    assert_eq!(post(world.hook()).bearer_auth(VERIFY_TOKEN).send().await.unwrap().status(), 200);
    assert_eq!(post(format!("{}/webhooks/{VERIFY_TOKEN}", world.base)).send().await.unwrap().status(), 200);
    world.heard(1).await;
    world.finish().await;
    let world = World::with(|config| {
        config.notifications.app_secret = None;
        config.notifications.verify_token = None;
    })
    .await;
    assert_eq!(world.client.post(world.hook()).json(&event).send().await.unwrap().status(), 404);
    assert!(!world.upstream.verify(&world.hook(), "").await);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_medium_is_stored_before_the_business_is_told_of_its_message() {
    let mut world = World::new().await;
    let bytes = sample("image/photo.jpg");
    let id = world.upstream.put_medium(&bytes, "image/jpeg");
    // The first fetch fails: the message, and what comes behind it in its conversation, waits.
    world.upstream.fail(Call::Download, Fault::Drop, 1);
    world.told(&world.upstream.media_message("image", &id, Some("look"))).await;
    let behind = json!({"messages": [{"from": "16505551234", "id": "behind", "type": "text", "text": {"body": "b"}}]});
    world.told(&notification(&behind)).await;
    until("it failed", || {
        world.core.jobs.waiting(Topic::Download, 0, 1).unwrap().first().is_some_and(|(_, head)| head.attempts == 1)
    })
    .await;
    a_while().await;
    assert!(world.business.all().is_empty());
    world = world.crash().await;
    world.work();
    a_while().await;
    assert!(world.business.all().is_empty(), "a crash does not tell early");
    world.pass(5);
    let told = world.heard(2).await;
    let image = image_of(&told[0]);
    let medium = world.medium(image["id"].as_str().unwrap()).expect("it is stored");
    assert_eq!(image["sha256"].as_str(), medium.sha256.as_deref());
    assert_eq!(image["caption"], "look");
    assert_eq!(image["mime_type"], "image/jpeg");
    assert!(image.get("status").is_none() && image.get("url").is_none(), "{image}");
    assert_eq!(told[0]["contacts"][0]["profile"]["name"], "Ada");
    assert_eq!(told[1]["messages"][0]["id"], "behind");
    let path = format!("/v1/media/{}", image["id"].as_str().unwrap());
    let got = world.ask(reqwest::Method::GET, &path).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(got, bytes);
    assert_eq!(world.upstream.seen().downloads, 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_with_200_outlives_a_crash_and_is_told_once() {
    let mut world = World::new().await;
    world.rest().await;
    let id = world.upstream.put_medium(&sample("image/photo.jpg"), "image/jpeg");
    let event = world.upstream.media_message("image", &id, None);
    world.told(&event).await;
    world.told(&event).await;
    let mut world = world.crash().await;
    world.work();
    world.heard(1).await;
    world.told(&event).await;
    until("it was taken apart", || world.core.jobs.count(Topic::Event) == 0).await;
    let mut world = world.crash().await;
    world.work();
    world.told(&event).await;
    until("it was taken apart", || world.core.jobs.count(Topic::Event) == 0).await;
    a_while().await;
    world.heard(1).await;
    assert_eq!(world.upstream.seen().downloads, 1);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_is_passed_on() {
    let world = World::new().await;
    let other = json!({"object": "whatsapp_business_account", "entry": [
        {"id": "1", "changes": [{"field": "account_update", "value": {"event": "x"}}]}]});
    world.told(&other).await;
    world.told(&notification(&json!({"errors": [{"code": 1, "error_data": {"details": "d"}}]}))).await;
    let told = world.heard(2).await;
    assert_eq!(told, [other, json!({"errors": [{"code": 1, "details": "d"}]})]);
    world.finish().await;
}
