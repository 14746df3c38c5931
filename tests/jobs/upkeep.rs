//! The clean-up.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use wamedia::volume::{AgeBy, Policy, RetentionRule, Selector};

use crate::world::{World, sample};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_media_are_removed_and_how_many_is_told() {
    let world = World::new().await;
    let keep = Some(Duration::from_secs(30 * 24 * 3600));
    let retention = vec![RetentionRule { selector: Selector::Default, keep }];
    world.core.volume.set_policy(Policy { retention, age_by: AgeBy::Used, ..Policy::default() }).unwrap();
    let old = world.upload(b"old", "text/plain").await;
    let sent = world.upload(&sample("image/photo.jpg"), "image/jpeg").await;
    world.pass(29 * 24 * 3600);
    world.post(&json!({"to": "1", "type": "image", "image": {"id": sent}})).await;
    crate::world::until("it is sent", || world.upstream.seen().messages.len() == 1).await;
    world.pass(2 * 24 * 3600);
    let young = world.upload(b"young", "text/plain").await;
    let path = "/v1/services/media/gc";
    assert_eq!(world.ask(Method::PUT, path).send().await.unwrap().status(), 403);
    let answer: Value = world.ask_as_admin(Method::PUT, path).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["services"], json!({"media": {"gc": {"status": "processing"}}}));
    let told = world.heard(1).await;
    assert_eq!(told[0], json!({"services": [{"media": {"gc": {"items_deleted": 1, "status": "complete"}}}]}));
    assert!(world.medium(&old).is_none());
    assert!(world.medium(&sent).is_some() && world.medium(&young).is_some(), "what was sent or is young stays");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_clean_up_runs_at_a_time() {
    let mut world = World::new().await;
    world.rest().await;
    for _ in 0..3 {
        let answer = world.ask_as_admin(Method::PUT, "/v1/services/media/gc").send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let mut world = world.crash().await;
    world.work();
    world.heard(1).await;
    crate::world::a_while().await;
    world.heard(1).await;
    world.finish().await;
}
