//! The whole way, through the built program, a real mount and real sockets: uploaded, sent, received, told; and the same with
//! `kill -9` in the middle of it. The upstream is a stand-in (`tests/standin`), the business a receiver of our own.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

use crate::receiver::Receiver;
use crate::served::{Served, make_token};
use crate::standin::webhooks::status;
use crate::standin::{APP_SECRET, Dialect, PHONE_NUMBER_ID, StandIn, TOKEN};
use crate::support::machine::can_mount;
use crate::support::place::{Place, text};
use crate::support::{samples, tree};

const VERIFY_TOKEN: &str = "the-verify-token-of-the-test";
/// How long anything may take to come about.
const PATIENCE: Duration = Duration::from_secs(60);

/// A business, its upstream, and the node between them.
struct Chain {
    runtime: Runtime,
    upstream: StandIn,
    business: Receiver,
    options: Vec<String>,
    served: Option<Served>,
}

impl Chain {
    fn start() -> Chain {
        let runtime = Runtime::new().unwrap();
        let upstream = runtime.block_on(StandIn::start(Dialect::CloudApi));
        let business = runtime.block_on(Receiver::start());
        let place = Place::with_volume(&[]);
        let (user, admin) = (make_token(&place, "user", "shop"), make_token(&place, "admin", "ops"));
        let mut options = Vec::new();
        for (name, secret) in [("upstream-token", TOKEN), ("app-secret", APP_SECRET), ("verify-token", VERIFY_TOKEN)] {
            let path = place.path(name);
            fs::write(&path, format!("{secret}\n")).unwrap();
            options.extend([format!("--{name}-file"), text(&path).to_owned()]);
        }
        let upstream_options =
            ["--upstream", "cloud", "--phone-number-id", PHONE_NUMBER_ID, "--settle-grace", "30s", "--upstream-url"];
        options.extend(upstream_options.map(str::to_owned));
        options.push(upstream.base());
        let served = Served::again(place, user, &options.iter().map(String::as_str).collect::<Vec<_>>());
        let url = format!("{}/v1/settings/application", served.base);
        let change = json!({"webhooks": {"url": business.url}, "callback_backoff_delay_ms": 50});
        let answer = served.client.patch(url).bearer_auth(admin).json(&change).send().unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        Chain { runtime, upstream, business, options, served: Some(served) }
    }

    fn served(&self) -> &Served {
        self.served.as_ref().unwrap()
    }

    /// Kills the daemon and starts it again.
    fn kill(&mut self) {
        let Served { mounted, place, token, .. } = self.served.take().unwrap();
        mounted.kill();
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.served = Some(Served::again(place, token, &options));
    }

    fn hook(&self) -> String {
        format!("{}/webhooks/cloud", self.served().base)
    }

    /// Posts a message; gives its id when that was answered.
    fn post(&self, message: &Value) -> Option<String> {
        let answer = self.served().ask(Method::POST, "/v1/messages").json(message).send().ok()?;
        assert_eq!(answer.status(), StatusCode::CREATED);
        let answer: Value = answer.json().ok()?;
        Some(answer["messages"][0]["id"].as_str().unwrap().to_owned())
    }

    fn end(mut self) {
        let served = self.served.take().unwrap();
        let place = served.place;
        served.mounted.unmount();
        place.check().expect_success();
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "it did not come to that: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Messages and statuses the business was told, each as it came.
fn told(chain: &Chain, member: &str) -> Vec<Value> {
    let good = chain.business.good();
    good.iter().filter_map(|body| body[member].as_array()).flatten().cloned().collect()
}

#[test]
fn an_upload_is_a_file_and_is_sent_with_one_upload_upstream_and_what_comes_in_is_a_file_before_it_is_told() {
    if !can_mount("an_upload_is_a_file_and_is_sent") {
        return;
    }
    let chain = Chain::start();
    assert!(chain.runtime.block_on(chain.upstream.verify(&chain.hook(), VERIFY_TOKEN)));
    let photo = samples::all().into_iter().find(|sample| sample.path == "image/photo.jpg").unwrap();
    let id = chain.served().upload("image/jpeg", &photo.bytes);
    assert!(fs::read(chain.served().file_of(&id)).unwrap() == photo.bytes);
    for nth in 0..20 {
        let image = json!({"id": id, "caption": format!("number {nth}")});
        chain
            .post(&json!({"recipient_type": "individual", "to": "16505551234", "type": "image", "image": image}))
            .unwrap();
    }
    until("all are sent", || chain.upstream.seen().messages.len() == 20);
    let seen = chain.upstream.seen();
    assert_eq!(seen.uploads.len(), 1, "a picture for twenty people is uploaded once");
    assert_eq!(seen.uploads[0].sha256[..], Sha256::digest(&photo.bytes)[..]);
    for (_, message) in &seen.messages {
        assert_eq!(message["image"]["id"], seen.uploads[0].id.as_str());
    }

    let upstream_id = chain.upstream.put_medium(&photo.bytes[..photo.bytes.len() - 2], "image/jpeg");
    let inbound = chain.upstream.media_message("image", &upstream_id, Some("hello"));
    assert_eq!(chain.runtime.block_on(chain.upstream.deliver(&chain.hook(), &inbound)), 200);
    until("the business is told", || told(&chain, "messages").len() == 1);
    let message = &told(&chain, "messages")[0];
    let image = &message["image"];
    assert_eq!((&message["from"], &image["caption"]), (&json!("16505551234"), &json!("hello")));
    let bytes = fs::read(chain.served().file_of(image["id"].as_str().unwrap())).unwrap();
    assert!(bytes == photo.bytes[..photo.bytes.len() - 2], "the bytes are a file in the mount");
    assert_eq!(image["sha256"], tree::hex(&Sha256::digest(&bytes)), "hex, as the on-premises client has it");
    assert!(image.get("link").is_none());
    let forged = chain.runtime.block_on(chain.upstream.deliver_signed(&chain.hook(), &inbound, "another secret"));
    assert!(forged == 401 || forged == 403, "a notification with a wrong signature is answered with {forged}");
    chain.end();
}

#[test]
fn kills_in_the_middle_lose_no_message_and_send_none_twice() {
    if !can_mount("kills_in_the_middle_lose_no_message_and_send_none_twice") {
        return;
    }
    let mut chain = Chain::start();
    let pdf = samples::all().into_iter().find(|sample| sample.mime == "application/pdf").unwrap();
    let id = chain.served().upload(&pdf.mime, &pdf.bytes);
    let mut answered = HashMap::new();
    for round in 0..6 {
        let deadline = Instant::now() + Duration::from_millis(60 + 45 * round);
        while Instant::now() < deadline {
            let name = format!("message {}", answered.len() + 1000 * usize::try_from(round).unwrap());
            let document = json!({"id": id, "caption": name});
            if let Some(id) = chain.post(&json!({"to": "16505551234", "type": "document", "document": document})) {
                answered.insert(id, name);
            }
        }
        chain.kill();
    }
    assert!(answered.len() > 20, "too few messages to tell");
    // What the upstream has taken it tells of, as it does; the rest is told as unknown after the grace.
    let mut spoken_of = HashSet::new();
    let is_settled = |chain: &Chain, spoken_of: &mut HashSet<String>| {
        for (wamid, body) in chain.upstream.seen().messages {
            let opaque = body["biz_opaque_callback_data"].as_str().map(str::to_owned);
            if spoken_of.insert(wamid.clone()) {
                let told = status(&wamid, "delivered", opaque.as_deref());
                assert_eq!(chain.runtime.block_on(chain.upstream.deliver(&chain.hook(), &told)), 200);
            }
        }
        let ends: HashSet<String> =
            told(chain, "statuses").iter().filter_map(|status| status["id"].as_str().map(str::to_owned)).collect();
        answered.keys().all(|id| ends.contains(id))
    };
    until("the business knows of each what became of it", || is_settled(&chain, &mut spoken_of));
    let seen = chain.upstream.seen();
    let captions: Vec<&str> =
        seen.messages.iter().map(|(_, body)| body["document"]["caption"].as_str().unwrap()).collect();
    let different: HashSet<&str> = captions.iter().copied().collect();
    assert_eq!(captions.len(), different.len(), "a message was sent twice");
    let statuses = told(&chain, "statuses");
    for (id, name) in &answered {
        let of_it: Vec<&Value> = statuses.iter().filter(|status| status["id"] == id.as_str()).collect();
        let is_sent = different.contains(name.as_str());
        let is_failed = of_it.iter().any(|status| status["status"] == "failed");
        assert!(is_sent != is_failed, "{name}: sent {is_sent}, told {of_it:?}");
    }
    assert!(seen.uploads.len() <= 7, "{} uploads of one medium: more than kills", seen.uploads.len());
    chain.end();
}

#[test]
fn kills_in_the_middle_lose_nothing_that_came_in_and_store_it_once() {
    if !can_mount("kills_in_the_middle_lose_nothing_that_came_in_and_store_it_once") {
        return;
    }
    let mut chain = Chain::start();
    let mut delivered = Vec::new();
    for round in 0u64..6 {
        let deadline = Instant::now() + Duration::from_millis(40 + 50 * round);
        while Instant::now() < deadline {
            let bytes = format!("%PDF-1.4 number {}", delivered.len()).into_bytes();
            let upstream_id = chain.upstream.put_medium(&[&bytes[..], &[b' '; 200_000]].concat(), "application/pdf");
            let inbound = chain.upstream.media_message("document", &upstream_id, None);
            // As Meta does: again until it is answered with 200.
            let taken = chain.runtime.block_on(chain.upstream.deliver(&chain.hook(), &inbound)) == 200;
            delivered.push((upstream_id, inbound, taken));
        }
        chain.kill();
    }
    for (_, inbound, taken) in &delivered {
        if !taken {
            assert_eq!(chain.runtime.block_on(chain.upstream.deliver(&chain.hook(), inbound)), 200);
        }
    }
    assert!(delivered.len() > 10, "too few messages to tell");
    let ids_of = |chain: &Chain| -> HashMap<String, HashSet<String>> {
        let mut ids: HashMap<String, HashSet<String>> = HashMap::new();
        for message in told(chain, "messages") {
            let medium = message["document"]["id"].as_str().unwrap().to_owned();
            ids.entry(message["id"].as_str().unwrap().to_owned()).or_default().insert(medium);
        }
        ids
    };
    until("all are told", || ids_of(&chain).len() == delivered.len());
    let ids = ids_of(&chain);
    for (upstream_id, ..) in &delivered {
        let media = &ids[&format!("wamid.in.{upstream_id}")];
        assert_eq!(media.len(), 1, "one message was told with two media");
        let bytes = fs::read(chain.served().file_of(media.iter().next().unwrap())).unwrap();
        assert!(bytes[..] == chain.upstream.medium(upstream_id).unwrap().bytes[..]);
    }
    let status = chain.served().place.run(&["status", "--json", text(chain.served().mounted.root())]).json();
    assert_eq!(status["media"].as_u64().unwrap(), delivered.len() as u64, "each is stored once");
    chain.end();
}
