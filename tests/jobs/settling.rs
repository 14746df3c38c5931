//! No message is sent twice, and none is forgotten.

use std::time::Duration;

use serde_json::{Value, json};
use wamedia::node::queue::Topic;

use crate::standin::webhooks::status;
use crate::standin::{Call, Fault};
use crate::world::{World, a_while, until};

fn text(to: &str) -> Value {
    json!({"to": to, "type": "text", "text": {"body": "b"}})
}

/// The one message that the upstream took: its id there, and our data in it.
fn taken(world: &World) -> (String, String) {
    let messages = world.upstream.seen().messages;
    assert_eq!(messages.len(), 1, "sent twice");
    (messages[0].0.clone(), messages[0].1["biz_opaque_callback_data"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_lost_is_replaced_by_a_status() {
    let world = World::new().await;
    world.upstream.fail(Call::Message, Fault::DropAfter, 1);
    let id = world.post(&text("1")).await;
    until("nobody knows", || world.core.jobs.count(Topic::Settle) == 1).await;
    let (wamid, opaque) = taken(&world);
    world.told(&status(&wamid, "sent", Some(&opaque))).await;
    until("it is settled", || world.core.jobs.count(Topic::Settle) == 0).await;
    world.pass(24 * 3600);
    a_while().await;
    assert!(world.business.all().is_empty());
    world.told(&status(&wamid, "read", Some(&opaque))).await;
    assert_eq!(world.heard(1).await[0]["statuses"][0]["id"], id.as_str());
    taken(&world);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_status_it_is_told_that_nobody_knows() {
    let world = World::new().await;
    world.upstream.fail(Call::Message, Fault::DropAfter, 1);
    let id = world.post(&text("1")).await;
    until("nobody knows", || world.core.jobs.count(Topic::Settle) == 1).await;
    world.pass(599);
    a_while().await;
    assert!(world.business.all().is_empty());
    let mut world = world.crash().await;
    world.work();
    world.pass(1);
    let told = world.heard(1).await;
    let status = &told[0]["statuses"][0];
    assert_eq!((&status["id"], &status["status"]), (&json!(id), &json!("failed")));
    assert!(status["errors"][0]["details"].as_str().unwrap().contains("outcome unknown"), "{status}");
    taken(&world);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_was_under_way_when_the_node_died_is_not_sent_again() {
    for has_status in [true, false] {
        let world = World::new().await;
        world.upstream.fail(Call::Message, Fault::Delay(Duration::from_secs(600)), 1);
        let id = world.post(&text("1")).await;
        until("the upstream has it", || world.upstream.seen().messages.len() == 1).await;
        let mut world = world.crash().await;
        world.work();
        world.post(&text("1")).await;
        until("the next one goes on", || world.upstream.seen().messages.len() == 2).await;
        until("nobody knows", || world.core.jobs.count(Topic::Settle) == 1).await;
        let (wamid, body) = world.upstream.seen().messages[0].clone();
        if has_status {
            let opaque = body["biz_opaque_callback_data"].as_str().unwrap();
            world.told(&status(&wamid, "delivered", Some(opaque))).await;
            until("it is settled", || world.core.jobs.count(Topic::Settle) == 0).await;
        }
        world.pass(600);
        let told = world.heard(1).await;
        assert_eq!(told[0]["statuses"][0]["id"], id.as_str());
        assert_eq!(told[0]["statuses"][0]["status"], if has_status { "delivered" } else { "failed" });
        assert_eq!(world.upstream.seen().messages.len(), 2, "one each");
        world.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_comes_before_the_crash_settles_it_too() {
    let world = World::new().await;
    world.upstream.fail(Call::Message, Fault::Delay(Duration::from_secs(600)), 1);
    world.post(&text("1")).await;
    until("the upstream has it", || world.upstream.seen().messages.len() == 1).await;
    let (wamid, opaque) = taken(&world);
    world.told(&status(&wamid, "delivered", Some(&opaque))).await;
    world.heard(1).await;
    let mut world = world.crash().await;
    world.work();
    until("it is over", || world.core.jobs.count(Topic::Send) + world.core.jobs.count(Topic::Settle) == 0).await;
    world.pass(24 * 3600);
    a_while().await;
    world.heard(1).await;
    taken(&world);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_certainly_not_sent_is_sent_later() {
    let world = World::new().await;
    world.upstream.fail(Call::Message, Fault::graph(503, 131_016, "(#131016) Service unavailable"), 1);
    world.post(&text("1")).await;
    until("it failed", || world.core.jobs.waiting(Topic::Send, 0, 1).unwrap().iter().any(|(_, h)| h.attempts == 1))
        .await;
    assert!(world.upstream.seen().messages.is_empty());
    world.pass(2);
    until("it is sent", || world.core.jobs.count(Topic::Send) == 0).await;
    taken(&world);
    assert!(world.business.all().is_empty());
    world.finish().await;
}
