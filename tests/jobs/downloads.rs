//! Inbound media: fetched at once or when asked for, whole or not at all.

use reqwest::Method;
use serde_json::{Value, json};
use wamedia::ids::{Ino, MediaId};
use wamedia::node::queue::Topic;
use wamedia::volume::{Class, NewNode, Policy};

use crate::standin::{Call, Fault};
use crate::world::{World, a_while, fault, sample, until};

const NODE: NewNode = NewNode { mode: 0o644, uid: 0, gid: 0 };

fn no_auto(world: &World) {
    world.core.settings.patch(&world.core.volume, &json!({"media": {"auto_download": []}})).unwrap();
}

fn id_of(told: &Value) -> String {
    told["messages"][0]["image"]["id"].as_str().expect("an image").to_owned()
}

async fn ask_for(world: &World, id: &str) {
    let answer = world.ask(Method::GET, &format!("/v1/media/{id}/download")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["media_items"], json!([{"id": id}]));
    assert_eq!(answer["meta"]["api_status"], "stable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_medium_is_fetched_when_the_business_asks_for_it() {
    let world = World::new().await;
    no_auto(&world);
    let bytes = sample("image/photo.jpg");
    let upstream_id = world.upstream.put_medium(&bytes, "image/jpeg");
    world.told(&world.upstream.media_message("image", &upstream_id, None)).await;
    let told = world.heard(1).await;
    assert_eq!(told[0]["messages"][0]["image"]["status"], "undownloaded");
    let id = id_of(&told[0]);
    assert!(world.medium(&id).is_none());
    ask_for(&world, &id).await;
    let told = world.heard(2).await;
    let medium = world.medium(&id).expect("it is stored");
    let image = json!({"id": id, "mime_type": "image/jpeg", "sha256": medium.sha256, "status": "downloaded"});
    assert_eq!(told[1], json!({"media_items": [{"image": image, "type": "image"}]}));
    ask_for(&world, &id).await;
    world.heard(3).await;
    assert_eq!(world.upstream.seen().downloads, 1, "what is there is not fetched again");
    assert_eq!(world.ask(Method::DELETE, &format!("/v1/media/{id}")).send().await.unwrap().status(), 200);
    ask_for(&world, &id).await;
    world.heard(4).await;
    assert!(world.medium(&id).is_some());
    assert_eq!(world.upstream.seen().downloads, 2);
    for unknown in ["1b671a64-40d5-491e-99b0-da01ff1f3341", "12345", "x"] {
        let answer = world.ask(Method::GET, &format!("/v1/media/{unknown}/download")).send().await.unwrap();
        assert_eq!(fault(answer).await, (404, 1006, "URL path not found.".to_owned()));
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_upstream_no_longer_has_is_told_so() {
    let world = World::new().await;
    let upstream_id = world.upstream.put_medium(b"gone", "image/jpeg");
    let event = world.upstream.media_message("image", &upstream_id, None);
    world.upstream.forget(&upstream_id);
    world.told(&event).await;
    let told = world.heard(1).await;
    assert_eq!(told[0]["messages"][0]["image"]["status"], "undownloaded");
    ask_for(&world, &id_of(&told[0])).await;
    let told = world.heard(2).await;
    let item = &told[1]["media_items"][0];
    assert_eq!((item["image"]["status"].as_str(), item["type"].as_str()), (Some("undownloaded"), Some("image")));
    let details = "Media not found in the datastore.";
    assert_eq!(item["errors"], json!([{"code": 400, "title": "Parameter not valid", "details": details}]));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_than_were_told_are_never_published() {
    let world = World::new().await;
    let upstream_id = world.upstream.put_medium(b"these are the bytes", "image/jpeg");
    let mut event = world.upstream.media_message("image", &upstream_id, None);
    event["entry"][0]["changes"][0]["value"]["messages"][0]["image"]["sha256"] =
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".into();
    world.upstream.patch_lookup(json!({"sha256": null}));
    world.told(&event).await;
    for (attempts, wait) in [(1, 5), (2, 10), (3, 20), (4, 40)] {
        until("it failed", || {
            let waiting = world.core.jobs.waiting(Topic::Download, 0, 1).unwrap();
            waiting.first().is_some_and(|(_, head)| head.attempts == attempts)
        })
        .await;
        world.pass(wait);
    }
    let told = world.heard(1).await;
    assert_eq!(told[0]["messages"][0]["image"]["status"], "undownloaded");
    assert!(world.medium(&id_of(&told[0])).is_none());
    assert_eq!(world.upstream.seen().downloads, 5);
    assert_eq!(world.core.volume.status().unwrap().used_bytes, 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_before_a_crash_is_not_fetched_again() {
    let world = World::new().await;
    let bytes = sample("image/photo.jpg");
    let upstream_id = world.upstream.put_medium(&bytes, "image/jpeg");
    world.upstream.fail(Call::Lookup, Fault::status(500), 1);
    world.told(&world.upstream.media_message("image", &upstream_id, None)).await;
    until("it failed", || {
        world.core.jobs.waiting(Topic::Download, 0, 1).unwrap().first().is_some_and(|(_, head)| head.attempts == 1)
    })
    .await;
    let mut world = world.crash().await;
    // As if the crash had come between the publication and the end of the job.
    let lane = world.core.jobs.waiting(Topic::Download, 0, 1).unwrap().remove(0).1.lane;
    let id = MediaId::parse(lane.trim_start_matches("medium ").as_bytes()).unwrap();
    let volume = &world.core.volume;
    let file = volume.begin_upload(Class::Uploads, &NODE).unwrap();
    volume.write(&file, 0, &bytes, false).unwrap();
    let mut dir = Ino::ROOT;
    let path = id.shared_path();
    for name in ["shared", path[0].as_str(), path[1].as_str()] {
        dir = volume.mkdir(dir, name.as_bytes(), &NewNode { mode: 0o755, ..NODE }).unwrap().ino;
    }
    volume.publish_upload(file, dir, path[2].as_bytes()).unwrap();
    world.pass(5);
    world.work();
    let told = world.heard(1).await;
    assert_eq!(id_of(&told[0]), id.to_string());
    assert!(told[0]["messages"][0]["image"].get("status").is_none());
    assert_eq!(world.upstream.seen().downloads, 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_rests_after_ten_failures_within_an_hour_also_after_a_crash() {
    let world = World::new().await;
    world.upstream.fail(Call::Lookup, Fault::status(500), 1000);
    for n in 0..30u8 {
        let upstream_id = world.upstream.put_medium(&[n; 100], "image/jpeg");
        world.told(&world.upstream.media_message("image", &upstream_id, None)).await;
    }
    let lookups = |world: &World| world.upstream.seen().requests.len();
    until("ten failed", || lookups(&world) >= 10).await;
    a_while().await;
    let before = lookups(&world);
    assert!(before < 20, "{before} failures");
    let mut world = world.crash().await;
    world.work();
    world.pass(3000);
    a_while().await;
    assert_eq!(lookups(&world), before, "within the hour nothing more is asked");
    world.pass(601);
    until("it goes on", || lookups(&world) > before).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_volume_keeps_the_job_and_says_why() {
    let world = World::new().await;
    let policy = Policy { max_bytes: Some(200_000), ..Policy::default() };
    world.core.volume.set_policy(policy.clone()).unwrap();
    let upstream_id = world.upstream.put_medium(&vec![7; 300_000], "image/jpeg");
    world.told(&world.upstream.media_message("image", &upstream_id, None)).await;
    let error = || {
        let waiting = world.core.jobs.waiting(Topic::Download, 0, 1).unwrap();
        waiting.first().and_then(|(_, head)| head.error.clone()).unwrap_or_default()
    };
    until("it says why", || error().contains("quota")).await;
    assert_eq!(world.upstream.seen().downloads, 0, "what has no room is not asked for");
    world.pass(16 * 60);
    let told = world.heard(1).await;
    assert_eq!(told[0]["messages"][0]["image"]["status"], "undownloaded", "it is not held back for ever");
    world.core.volume.set_policy(Policy { max_bytes: Some(1 << 20), ..policy }).unwrap();
    world.pass(16 * 60);
    let told = world.heard(2).await;
    assert_eq!(told[1]["media_items"][0]["image"]["status"], "downloaded");
    assert!(world.medium(&id_of(&told[0])).is_some());
    world.finish().await;
}
