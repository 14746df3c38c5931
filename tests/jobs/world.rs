//! A node with its volume, its upstream and its business.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wamedia::clock::{Clock, ManualClock};
use wamedia::ids::MediaId;
use wamedia::node::router::router;
use wamedia::node::tokens::Role;
use wamedia::node::upstream::{Timeouts, UpstreamConfig};
use wamedia::node::{Core, NodeConfig, NotificationConfig, Secret, server, work};
use wamedia::volume::{InitOptions, Medium, OpenOptions, Policy, Volume};

use crate::receiver::Receiver;
use crate::standin::{APP_SECRET, Dialect, PHONE_NUMBER_ID, StandIn, TOKEN};

/// What a URL is verified with.
pub const VERIFY_TOKEN: &str = "the-verify-token-of-the-test";

/// A running node.
pub struct World {
    dir: TempDir,
    pub clock: Arc<ManualClock>,
    pub core: Arc<Core>,
    pub upstream: Arc<StandIn>,
    pub business: Arc<Receiver>,
    pub base: String,
    pub admin: String,
    pub user: String,
    pub client: Client,
    adjust: fn(&mut NodeConfig),
    end: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

fn open(dir: &Path, clock: &Arc<ManualClock>) -> Arc<Volume> {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    Volume::open(&dir.join("store"), &[], OpenOptions { clock, ..OpenOptions::default() }).unwrap()
}

impl World {
    pub async fn new() -> World {
        World::with(|_| {}).await
    }

    /// With a configuration of its own.
    pub async fn with(adjust: fn(&mut NodeConfig)) -> World {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let options =
            InitOptions { encrypted: false, policy: Policy::default(), root_uid: 0, root_gid: 0, root_mode: 0o755 };
        Volume::init(&dir.path().join("store"), None, &options).unwrap();
        let upstream = Arc::new(StandIn::start(Dialect::CloudApi).await);
        let business = Arc::new(Receiver::start().await);
        let mut world = World::start(dir, Arc::new(ManualClock::new(1_900_000_000)), upstream, business, adjust).await;
        let url = world.business.url.clone();
        world.core.settings.patch(&world.core.volume, &json!({"webhooks": {"url": url}})).unwrap();
        world.work();
        world
    }

    async fn start(
        dir: TempDir,
        clock: Arc<ManualClock>,
        upstream: Arc<StandIn>,
        business: Arc<Receiver>,
        adjust: fn(&mut NodeConfig),
    ) -> World {
        let volume = open(dir.path(), &clock);
        let timeouts = Timeouts { answer: Duration::from_secs(20), ..Timeouts::default() };
        let mut config = NodeConfig::new("127.0.0.1:0".parse().unwrap());
        config.upstream = Some(UpstreamConfig::CloudApi {
            base: upstream.base(),
            phone_number_id: PHONE_NUMBER_ID.to_owned(),
            token: Secret::new(TOKEN.to_owned()),
            timeouts,
        });
        config.notifications = NotificationConfig {
            app_secret: Some(Secret::new(APP_SECRET.to_owned())),
            verify_token: Some(Secret::new(VERIFY_TOKEN.to_owned())),
            ..NotificationConfig::default()
        };
        config.drain_timeout = Duration::from_secs(20);
        config.requests_per_second = 100_000;
        adjust(&mut config);
        let core = Core::new(volume, config).unwrap();
        let (admin, _) = core.tokens.create(&core.volume, "ops", Role::Admin, None).unwrap();
        let (user, _) = core.tokens.create(&core.volume, "shop", Role::User, None).unwrap();
        let listener = server::bind(core.config.listen.unwrap()).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let end = watch::channel(false).0;
        let serving = tokio::spawn(server::serve(Arc::clone(&core), router(&core), listener, None, end.subscribe()));
        let tasks = vec![serving];
        World { dir, clock, core, upstream, business, base, admin, user, client: Client::new(), adjust, end, tasks }
    }

    /// Begins the work behind the API.
    pub fn work(&mut self) {
        let work = work(Arc::clone(&self.core), self.end.subscribe());
        self.tasks.push(tokio::spawn(async move { work.await.unwrap() }));
    }

    /// Stops all work without a word; the API goes on.
    pub async fn rest(&mut self) {
        for task in self.tasks.drain(1..) {
            task.abort();
            let _aborted = task.await;
        }
    }

    /// Ends without a word, and starts on what a crash would have left; does no work yet.
    pub async fn crash(self) -> World {
        for task in &self.tasks {
            task.abort();
        }
        let copy = tempfile::tempdir().unwrap();
        let mut copying = std::process::Command::new("cp");
        copying.arg("-a").arg(self.dir.path().join("store")).arg(copy.path());
        assert!(copying.status().unwrap().success());
        World::start(copy, self.clock, self.upstream, self.business, self.adjust).await
    }

    /// Ends as it should.
    pub async fn finish(self) {
        self.end.send_replace(true);
        for task in self.tasks {
            task.await.unwrap();
        }
        let report = self.core.volume.check(true, &mut |_, _| {}).unwrap();
        assert_eq!(report.findings, []);
    }

    /// Time goes by.
    pub fn pass(&self, secs: i64) {
        self.clock.advance(secs);
    }

    pub fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.user)
    }

    pub fn ask_as_admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.admin)
    }

    /// Where the upstream tells of what happens.
    pub fn hook(&self) -> String {
        format!("{}/webhooks/cloud", self.base)
    }

    /// The upstream tells something, which is taken.
    pub async fn told(&self, notification: &Value) {
        assert_eq!(self.upstream.deliver(&self.hook(), notification).await, 200);
    }

    /// Uploads a medium and gives its id.
    pub async fn upload(&self, bytes: &[u8], mime_type: &str) -> String {
        let request = self.ask(Method::POST, "/v1/media").header("content-type", mime_type).body(bytes.to_vec());
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["media"][0]["id"].as_str().expect("an id").to_owned()
    }

    /// Posts a message, which is taken, and gives its id.
    pub async fn post(&self, message: &Value) -> String {
        let answer = self.ask(Method::POST, "/v1/messages").json(message).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let answer: Value = answer.json().await.unwrap();
        answer["messages"][0]["id"].as_str().unwrap().to_owned()
    }

    /// The medium with an id, if it is in the volume.
    pub fn medium(&self, id: &str) -> Option<Medium> {
        let volume = &self.core.volume;
        let ino = volume.find(&MediaId::parse(id.as_bytes()).expect("a media id")).unwrap()?;
        Some(volume.medium(ino, true).unwrap())
    }

    /// Waits until the business was told so many things, and gives them.
    pub async fn heard(&self, count: usize) -> Vec<Value> {
        until("the business is told", || self.business.good().len() >= count).await;
        let good = self.business.good();
        assert_eq!(good.len(), count, "{good:?}");
        good
    }
}

/// Waits for something.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to that: {what}");
}

/// Long enough for what must not happen to happen.
pub async fn a_while() {
    tokio::time::sleep(Duration::from_millis(1500)).await;
}

/// Status, code and details of an answer that is an error.
pub async fn fault(answer: Response) -> (u16, u64, String) {
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    let error = &body["errors"][0];
    (status, error["code"].as_u64().unwrap(), error["details"].as_str().unwrap().to_owned())
}

/// A sample medium.
pub fn sample(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media").join(path)).unwrap()
}
