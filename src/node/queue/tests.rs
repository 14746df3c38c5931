use std::path::Path;
use std::sync::atomic::AtomicUsize;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::time::Duration;
use tokio::sync::watch;

use super::*;
use crate::clock::ManualClock;
use crate::volume::{InitOptions, OpenOptions, Policy};

pub fn open(dir: &Path, clock: &Arc<ManualClock>) -> Arc<Volume> {
    let store = dir.join("store");
    if !store.exists() {
        let options =
            InitOptions { encrypted: false, policy: Policy::default(), root_uid: 0, root_gid: 0, root_mode: 0o755 };
        Volume::init(&store, None, &options).unwrap();
    }
    let clock: Arc<dyn crate::clock::Clock> = Arc::clone(clock) as _;
    Volume::open(&store, &[], OpenOptions { clock, ..OpenOptions::default() }).unwrap()
}

type Answer = Box<dyn Fn(&Job) -> Outcome + Send + Sync>;

/// Does as it is told, and notes what it did.
struct Tried {
    answer: Answer,
    seen: Mutex<Vec<(JobId, u32, Vec<u8>)>>,
    at_once: AtomicUsize,
    most: AtomicUsize,
}

impl Tried {
    fn new(answer: impl Fn(&Job) -> Outcome + Send + Sync + 'static) -> Arc<Tried> {
        Arc::new(Tried {
            answer: Box::new(answer),
            seen: Mutex::default(),
            at_once: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    fn payloads(&self) -> Vec<Vec<u8>> {
        self.seen.lock().iter().map(|(_, _, payload)| payload.clone()).collect()
    }
}

impl Worker for Tried {
    fn work(self: Arc<Self>, job: Job) -> BoxFuture<'static, Outcome> {
        async move {
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            tokio::task::yield_now().await;
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            self.seen.lock().push((job.id, job.head.attempts, job.payload.clone()));
            (self.answer)(&job)
        }
        .boxed()
    }

    fn bounds(&self) -> Bounds {
        Bounds { at_once: 3, per_group: 3 }
    }

    fn delay(&self, attempts: u32) -> Duration {
        Duration::from_secs(u64::from(attempts) * 100)
    }

    fn gives_up(&self, job: &Job, _: i64) -> bool {
        job.head.attempts >= 2
    }

    fn given_up(&self, _: &Job, why: &str, plan: &mut Plan) -> Result<()> {
        plan.put(99, b"given up", why.as_bytes().to_vec());
        Ok(())
    }
}

struct World {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    volume: Arc<Volume>,
    jobs: Arc<Jobs>,
    end: watch::Sender<bool>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(1_000_000));
        let volume = open(dir.path(), &clock);
        let jobs = Arc::new(Jobs::load(&volume).unwrap());
        World { dir, clock, volume, jobs, end: watch::channel(false).0, task: None }
    }

    fn start(&mut self, worker: &Arc<Tried>) {
        let worker: Arc<dyn Worker> = Arc::clone(worker) as _;
        let run = run(Arc::clone(&self.jobs), Topic::Webhook, worker, Duration::from_secs(10), self.end.subscribe());
        self.task = Some(tokio::spawn(run));
    }

    fn add(&self, lane: &str, payload: &[u8]) -> JobId {
        let mut plan = Plan::new();
        let job = NewJob { lane: lane.into(), payload: payload.to_vec(), ..NewJob::default() };
        let id = self.jobs.add(&mut plan, Topic::Webhook, job).unwrap();
        self.jobs.commit(plan).unwrap();
        id
    }

    /// Ends without a word and opens what a crash would have left.
    async fn crash(self) -> World {
        if let Some(task) = self.task {
            task.abort();
            let _aborted = task.await;
        }
        let copy = tempfile::tempdir().unwrap();
        let mut copying = std::process::Command::new("cp");
        copying.arg("-a").arg(self.dir.path().join("store")).arg(copy.path());
        assert!(copying.status().unwrap().success());
        let volume = open(copy.path(), &self.clock);
        let jobs = Arc::new(Jobs::load(&volume).unwrap());
        World { dir: copy, clock: self.clock, volume, jobs, end: watch::channel(false).0, task: None }
    }

    async fn drain(&mut self) {
        self.end.send_replace(true);
        self.task.take().unwrap().await.unwrap();
        self.end.send_replace(false);
    }
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..2000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come to that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_done_in_their_lanes_and_never_more_than_may_be() {
    let mut world = World::new();
    let worker = Tried::new(|_| Outcome::Done(Plan::new()));
    for n in 0..40u8 {
        world.add(["", "a", "b", "c"][n as usize % 4], &[n]);
    }
    world.start(&worker);
    until(|| world.jobs.count(Topic::Webhook) == 0).await;
    let done = worker.payloads();
    assert_eq!(done.len(), 40);
    for lane in 1..4 {
        let own: Vec<_> = done.iter().filter(|p| p[0] % 4 == lane).collect();
        assert!(own.is_sorted(), "{own:?}");
    }
    assert!(worker.most.load(Ordering::SeqCst) <= 3);
    world.drain().await;
    assert_eq!(world.volume.state_count(JOBS) + world.volume.state_count(JOB_HEADS), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_done_before_a_crash_is_done_after_it() {
    let mut world = World::new();
    let worker = Tried::new(|job| match job.payload.as_slice() {
        b"good" => Outcome::Done(Plan::new()),
        _ => Outcome::retry("not today"),
    });
    let bad = world.add("x", b"bad");
    world.add("x", b"behind");
    world.add("", b"good");
    world.start(&worker);
    until(|| worker.seen.lock().len() == 2).await;
    until(|| world.jobs.waiting(Topic::Webhook, 0, 9).unwrap().iter().any(|(_, head)| head.attempts == 1)).await;
    until(|| world.jobs.count(Topic::Webhook) == 2).await;
    let mut world = world.crash().await;
    let waiting = world.jobs.waiting(Topic::Webhook, 0, 10).unwrap();
    assert_eq!(waiting.len(), 2);
    let (_, head) = waiting.iter().find(|(id, _)| *id == bad).unwrap();
    assert_eq!((head.attempts, head.error.as_deref(), head.due), (1, Some("not today"), 1_000_100_000));
    let worker = Tried::new(|_| Outcome::Done(Plan::new()));
    world.start(&worker);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(worker.seen.lock().is_empty(), "it is not its time yet");
    world.clock.advance(100);
    until(|| worker.seen.lock().len() == 2).await;
    assert_eq!(worker.payloads(), [b"bad".to_vec(), b"behind".to_vec()]);
    let next = world.add("", b"new");
    assert!(next > bad, "no number is used twice while its job is known");
    world.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_too_often_is_laid_aside_and_can_be_replayed() {
    let mut world = World::new();
    let worker = Tried::new(|job| match job.payload.as_slice() {
        b"hopeless" => Outcome::Dead { why: "never".into(), plan: Plan::new() },
        _ => Outcome::retry("not today"),
    });
    let bad = world.add("x", b"bad");
    let hopeless = world.add("x", b"hopeless");
    world.start(&worker);
    until(|| {
        world.clock.advance(300);
        world.jobs.count(Topic::Webhook) == 0
    })
    .await;
    assert_eq!(world.volume.state_get(99, b"given up").unwrap().unwrap(), b"never");
    let mut world = world.crash().await;
    let dead = world.jobs.dead(Topic::Webhook, 0, 10).unwrap();
    assert_eq!(dead.iter().map(|dead| dead.id).collect::<Vec<_>>(), [bad, hopeless]);
    assert_eq!((dead[0].head.attempts, dead[0].head.error.as_deref()), (3, Some("not today")));
    assert_eq!(dead[0].payload, b"bad");
    assert!(world.add("", b"new") > hopeless);
    assert_eq!(world.jobs.replay(Topic::Webhook, Some(&[hopeless])).unwrap(), 1);
    assert_eq!(world.jobs.replay(Topic::Webhook, None).unwrap(), 1);
    assert_eq!(world.jobs.replay(Topic::Webhook, None).unwrap(), 0);
    let worker = Tried::new(|job| {
        assert_eq!(job.head.attempts, 0);
        Outcome::Done(Plan::new())
    });
    world.start(&worker);
    until(|| worker.seen.lock().len() == 3 && world.jobs.count(Topic::Webhook) == 0).await;
    assert!(world.jobs.dead(Topic::Webhook, 0, 10).unwrap().is_empty());
    world.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_follows_is_there_when_the_one_before_is_over() {
    let mut world = World::new();
    let jobs = Arc::clone(&world.jobs);
    let worker = Tried::new(move |job| match job.payload.as_slice() {
        b"panics" if job.head.attempts == 0 => panic!("as it was told"),
        b"first" => {
            let mut plan = Plan::new();
            let next = NewJob { payload: b"second".to_vec(), ..NewJob::default() };
            jobs.add(&mut plan, Topic::Webhook, next).unwrap();
            Outcome::Done(plan)
        }
        b"waits" => Outcome::Wait { until: i64::MAX, plan: Plan::new() },
        _ => Outcome::Done(Plan::new()),
    });
    world.add("", b"first");
    let waits = world.add("", b"waits");
    world.start(&worker);
    until(|| worker.payloads().iter().any(|p| p == b"second")).await;
    until(|| worker.payloads().iter().filter(|p| *p == b"waits").count() == 1).await;
    let mut plan = Plan::new();
    plan.hasten(Topic::Webhook, waits);
    world.jobs.commit(plan).unwrap();
    until(|| worker.payloads().iter().filter(|p| *p == b"waits").count() == 2).await;
    assert_eq!(world.jobs.waiting(Topic::Webhook, 0, 9).unwrap()[0].1.attempts, 0);
    world.add("", b"panics");
    until(|| world.jobs.waiting(Topic::Webhook, 0, 9).unwrap().iter().any(|(_, head)| head.attempts == 1)).await;
    world.drain().await;
}

/// Takes its time.
struct Slow(Arc<AtomicUsize>);

impl Worker for Slow {
    fn work(self: Arc<Self>, _: Job) -> BoxFuture<'static, Outcome> {
        async move {
            self.0.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(400)).await;
            Outcome::Done(Plan::new())
        }
        .boxed()
    }

    fn bounds(&self) -> Bounds {
        Bounds { at_once: 1, per_group: 1 }
    }

    fn delay(&self, _: u32) -> Duration {
        Duration::ZERO
    }

    fn gives_up(&self, _: &Job, _: i64) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_what_is_under_way_ends_or_is_left_for_the_next_start() {
    let world = World::new();
    let begun = Arc::new(AtomicUsize::new(0));
    for (drain, left) in [(Duration::from_secs(60), 1), (Duration::ZERO, 2)] {
        world.add("", b"one");
        world.add("", b"two");
        let before = begun.load(Ordering::SeqCst);
        let worker: Arc<dyn Worker> = Arc::new(Slow(Arc::clone(&begun)));
        let jobs = Arc::new(Jobs::load(&world.volume).unwrap());
        let task = tokio::spawn(run(Arc::clone(&jobs), Topic::Webhook, worker, drain, world.end.subscribe()));
        until(|| begun.load(Ordering::SeqCst) > before).await;
        world.end.send_replace(true);
        task.await.unwrap();
        world.end.send_replace(false);
        assert_eq!(begun.load(Ordering::SeqCst), before + 1, "nothing more is begun");
        assert_eq!(world.volume.state_count(JOB_HEADS), left);
        for (id, _) in Jobs::load(&world.volume).unwrap().waiting(Topic::Webhook, 0, 9).unwrap() {
            let mut plan = Plan::new();
            plan.finish(Topic::Webhook, id);
            world.jobs.commit(plan).unwrap();
        }
    }
}
