//! Webhooks to the business.

use reqwest::Method;
use serde_json::{Value, json};
use wamedia::node::queue::Topic;

use crate::standin::webhooks::{notification, status};
use crate::world::{World, a_while, until};

fn text(from: &str, id: &str) -> Value {
    notification(&json!({"messages": [{"from": from, "id": id, "type": "text", "text": {"body": id}}]}))
}

fn ids(told: &[Value]) -> Vec<String> {
    told.iter().map(|body| body["messages"][0]["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anything_but_200_is_tried_again_ever_later_and_in_order() {
    let world = World::new().await;
    world.business.answer(&[500, 201, 302, 200]);
    world.told(&text("1", "a")).await;
    world.told(&text("1", "b")).await;
    let mut due = 0;
    for attempts in 1..=3 {
        until("it failed", || {
            let waiting = world.core.jobs.waiting(Topic::Webhook, 0, 1).unwrap();
            waiting.first().is_some_and(|(_, head)| head.attempts == attempts)
        })
        .await;
        let (_, head) = world.core.jobs.waiting(Topic::Webhook, 0, 1).unwrap().remove(0);
        due = head.due - world.core.jobs.now();
        assert_eq!(due, 3000 * i64::from(attempts), "the delay grows by 3 s");
        world.pass(3 * i64::from(attempts));
    }
    assert_eq!(due, 9000);
    world.told(&text("2", "c")).await;
    let told = world.heard(3).await;
    let ids = ids(&told);
    assert!(ids.iter().position(|id| id == "a") < ids.iter().position(|id| id == "b"), "{ids:?}");
    assert_eq!(world.business.all().len(), 6);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_outlives_a_crash_and_no_conversation_waits_for_another() {
    let world = World::new().await;
    world.business.answer(&[500]);
    world.told(&text("1", "a")).await;
    until("it failed", || world.business.all().len() == 1).await;
    world.told(&text("1", "b")).await;
    world.told(&text("2", "c")).await;
    assert_eq!(ids(&world.heard(1).await), ["c"]);
    until("both wait", || world.core.jobs.count(Topic::Webhook) == 2).await;
    let mut world = world.crash().await;
    world.pass(3);
    world.work();
    assert_eq!(ids(&world.heard(3).await)[1..], ["a", "b"]);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_day_it_is_a_dead_letter_that_can_be_replayed() {
    let world = World::new().await;
    world.business.always(503);
    world.told(&text("1", "a")).await;
    until("it failed", || world.business.all().len() == 1).await;
    until("it waits", || world.core.jobs.waiting(Topic::Webhook, 0, 1).unwrap()[0].1.attempts == 1).await;
    world.pass(24 * 3600 + 1);
    until("it is given up", || world.core.jobs.count(Topic::Webhook) == 0).await;
    let mut world = world.crash().await;
    world.work();
    let forbidden = world.ask(Method::GET, "/v1/webhooks/dead").send().await.unwrap();
    assert_eq!(forbidden.status(), 403);
    let list = world.ask_as_admin(Method::GET, "/v1/webhooks/dead").send().await.unwrap();
    let list: Value = list.json().await.unwrap();
    assert_eq!(list["dead"][0]["body"]["messages"][0]["id"], "a");
    assert_eq!(list["dead"][0]["attempts"], 2);
    assert!(list["dead"][0]["error"].as_str().unwrap().contains("503"), "{list}");
    world.business.always(200);
    let replay = world.ask_as_admin(Method::POST, "/v1/webhooks/dead/replay").json(&json!({"ids": [12345]}));
    let replayed: Value = replay.send().await.unwrap().json().await.unwrap();
    assert_eq!(replayed["replayed"], 0);
    let replay = world.ask_as_admin(Method::POST, "/v1/webhooks/dead/replay").json(&json!({}));
    let replayed: Value = replay.send().await.unwrap().json().await.unwrap();
    assert_eq!(replayed["replayed"], 1);
    world.heard(1).await;
    let list = world.ask_as_admin(Method::GET, "/v1/webhooks/dead").send().await.unwrap();
    assert_eq!(list.json::<Value>().await.unwrap()["dead"], json!([]));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_url_it_waits_for_one() {
    let world = World::new().await;
    world.core.settings.patch(&world.core.volume, &json!({"webhooks": {"url": ""}})).unwrap();
    world.told(&text("1", "a")).await;
    let error = || {
        let waiting = world.core.jobs.waiting(Topic::Webhook, 0, 1).unwrap();
        waiting.first().and_then(|(_, head)| head.error.clone()).unwrap_or_default()
    };
    until("it says so", || error().contains("webhooks.url")).await;
    let url = world.business.url.clone();
    world.core.settings.patch(&world.core.volume, &json!({"webhooks": {"url": url}})).unwrap();
    world.pass(3);
    world.heard(1).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_a_message_was_sent_is_told_when_it_is_wanted() {
    let world = World::new().await;
    world.told(&status("wamid.1", "sent", None)).await;
    world.told(&status("wamid.1", "delivered", None)).await;
    assert_eq!(world.heard(1).await[0]["statuses"][0]["status"], "delivered");
    world.core.settings.patch(&world.core.volume, &json!({"sent_status": true})).unwrap();
    world.told(&status("wamid.2", "sent", None)).await;
    assert_eq!(world.heard(2).await[1]["statuses"][0]["status"], "sent");
    a_while().await;
    world.heard(2).await;
    world.finish().await;
}
