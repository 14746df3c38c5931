//! What a service manager is told: sd_notify(3). Where none listens, nothing is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

use super::output;
use crate::fs::Observer;
use crate::volume::Volume;

/// How often the status is told at least.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// Looks at the mount in the time that the watchdog gives: with several, one that comes at a bad moment does no harm.
const LOOKS: u32 = 4;

/// Tells a service manager to go on although nothing is mounted: it, or what it starts then, mounts.
pub fn tell_waiting() {
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status("waits to be mounted")]) {
        debug!(%error, "the service manager was not told");
    }
}

/// Tells a service manager how a daemon is doing.
pub struct Supervisor {
    state: Arc<State>,
    telling: Option<JoinHandle<()>>,
}

struct State {
    volume: Arc<Volume>,
    mount_point: Option<PathBuf>,
    /// A daemon in the background is no service: the socket it has inherited is that of whoever started it.
    is_service: bool,
}

impl Supervisor {
    /// Tells that the daemon is ready as soon as `answering` says so, and from then on how it is doing. The watchdog is fed
    /// only while the mount answers.
    ///
    /// To be called within a runtime.
    #[must_use]
    pub fn start(
        volume: &Arc<Volume>,
        mount: Option<(PathBuf, Observer)>,
        answering: oneshot::Receiver<()>,
        is_service: bool,
    ) -> Supervisor {
        let (mount_point, observer) = mount.unzip();
        let state = Arc::new(State { volume: Arc::clone(volume), mount_point, is_service });
        let telling = tokio::spawn(Arc::clone(&state).tell_on(observer, answering));
        Supervisor { state, telling: Some(telling) }
    }

    /// Takes over the policy as it is in the store now.
    pub async fn reload(&self) {
        let mut told = vec![NotifyState::Reloading];
        told.extend(NotifyState::monotonic_usec_now());
        self.state.notify(&told);
        let volume = Arc::clone(&self.state.volume);
        match tokio::task::spawn_blocking(move || volume.reload_policy()).await {
            Ok(Ok(true)) => info!("SIGHUP: the policy was read again and is in force"),
            Ok(Ok(false)) => info!("SIGHUP: the policy in force is that of the store"),
            Ok(Err(error)) => error!(%error, "SIGHUP: the policy in force stays"),
            Err(error) => error!(%error, "SIGHUP: the policy in force stays"),
        }
        self.state.notify(&[NotifyState::Ready, NotifyState::Status(&self.state.text())]);
    }

    /// Tells that the daemon is about to end; from then on it tells no more.
    pub fn stop(&mut self) {
        if let Some(telling) = self.telling.take() {
            telling.abort();
        }
        self.state.notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }
}

impl State {
    async fn tell_on(self: Arc<State>, mut observer: Option<Observer>, answering: oneshot::Receiver<()>) {
        if answering.await.is_err() {
            return;
        }
        let mut text = self.text();
        self.notify(&[NotifyState::Ready, NotifyState::Status(&text)]);
        let watchdog = sd_notify::watchdog_enabled();
        let every = watchdog.map_or(STATUS_EVERY, |limit| (limit / LOOKS).min(STATUS_EVERY));
        let mut tick = tokio::time::interval(every.max(Duration::from_millis(1)));
        let mut has_answered = true;
        loop {
            tick.tick().await;
            let answers = observer.as_mut().is_none_or(Observer::answers);
            if has_answered && !answers {
                warn!("the mount does not answer");
            }
            has_answered = answers;
            if watchdog.is_some() && answers {
                self.notify(&[NotifyState::Watchdog]);
            }
            let now = self.text();
            if now != text {
                self.notify(&[NotifyState::Status(&now)]);
                text = now;
            }
        }
    }

    /// How the volume is doing, in one line.
    fn text(&self) -> String {
        let (bytes, media) = self.volume.used();
        let policy = self.volume.policy();
        let of = policy.max_bytes.map(|max| format!(" of {}", output::size(max))).unwrap_or_default();
        let filled = policy.max_bytes.filter(|max| *max > 0).map(|max| {
            let percent = u128::from(bytes) * 100 / u128::from(max);
            format!(" ({percent} %)")
        });
        let at = match &self.mount_point {
            Some(place) => format!("mounted on {}", place.display()),
            None => "not mounted".to_owned(),
        };
        let poisoned = self.volume.poisoned().map(|why| format!("poisoned: {why}; ")).unwrap_or_default();
        let filled = filled.unwrap_or_default();
        format!("{poisoned}{media} media, {}{of} used{filled}, {at}", output::size(bytes))
    }

    fn notify(&self, state: &[NotifyState<'_>]) {
        if !self.is_service {
            return;
        }
        if let Err(error) = sd_notify::notify(state) {
            debug!(%error, "the service manager was not told");
        }
    }
}
