//! Whether a mount answers, without asking it: a request of our own would keep an automount from ever going idle.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::thread;

use super::mountinfo::Device;
use super::unmount::open_control;

/// The requests of one mount, counted by those who serve them.
#[derive(Debug)]
pub(super) struct Pulse {
    begun: AtomicU64,
    ended: AtomicU64,
    /// How many requests the kernel waits for. Opened for this mount, it never tells of another that gets its number.
    waiting: Option<File>,
    threads: u64,
    /// Whether no further request is to be served by this process.
    is_closed: AtomicBool,
}

/// How long between two looks at requests that are under way.
const PAUSE: Duration = Duration::from_millis(1);

impl Pulse {
    /// For a mount that `threads` threads serve.
    pub(super) fn new(device: Device, threads: usize) -> Arc<Pulse> {
        let waiting = open_control(device, "waiting", File::options().read(true))
            .inspect_err(|error| tracing::debug!(%error, "requests that nobody has taken up cannot be seen"))
            .ok();
        let threads = u64::try_from(threads).unwrap_or(u64::MAX).max(1);
        let (begun, ended) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Pulse { begun, ended, waiting, threads, is_closed: AtomicBool::new(false) })
    }

    /// Counts a request, from now until the guard is dropped, which is after its answer. Does not return once no further
    /// request is to be served: the next process gets it.
    pub(super) fn request(&self) -> Served<'_> {
        // In one order with the looks of `close`: either that sees this request, or this sees that.
        self.begun.fetch_add(1, Ordering::SeqCst);
        let served = Served(self);
        if self.is_closed.load(Ordering::SeqCst) {
            drop(served);
            loop {
                thread::park();
            }
        }
        served
    }

    /// Has no further request served, and waits until those under way are answered, for `patience` at most; whether they
    /// are.
    fn close(&self, patience: Duration) -> bool {
        self.is_closed.store(true, Ordering::SeqCst);
        let mut left = patience;
        loop {
            let ended = self.ended.load(Ordering::SeqCst);
            if self.begun.load(Ordering::SeqCst) == ended {
                return true;
            }
            let Some(rest) = left.checked_sub(PAUSE) else { return false };
            left = rest;
            thread::sleep(PAUSE);
        }
    }

    /// How many requests the kernel has no answer to. None when that cannot be learned, or the mount is gone.
    fn waiting(&self) -> Option<u64> {
        let mut text = [0; 24];
        let length = self.waiting.as_ref()?.read_at(&mut text, 0).ok()?;
        std::str::from_utf8(text.get(..length)?).ok()?.trim().parse().ok()
    }
}

/// A request that is being served.
pub(super) struct Served<'a>(&'a Pulse);

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// Ends the service of a mount by this process, and leaves the mount.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Pulse>);

impl Gate {
    pub(super) fn new(pulse: &Arc<Pulse>) -> Gate {
        Gate(Arc::clone(pulse))
    }

    /// Answers what is under way and nothing that comes after, which waits for the next process. Blocks for `patience` at
    /// most; false when something is under way still, which the next process is asked for once more.
    #[must_use]
    pub fn close(&self, patience: Duration) -> bool {
        self.0.close(patience)
    }
}

/// Tells from one look to the next whether a mount answers.
#[derive(Debug)]
pub struct Observer {
    pulse: Arc<Pulse>,
    seen: u64,
}

impl Observer {
    pub(super) fn new(pulse: &Arc<Pulse>) -> Observer {
        Observer { pulse: Arc::clone(pulse), seen: 0 }
    }

    /// Whether the mount has answered a request since the last look, or would take one up now: somebody is free, and no
    /// request waits for being taken up. Where the kernel's control file system is missing, requests that nobody takes
    /// up are not seen.
    pub fn answers(&mut self) -> bool {
        // The end is read first, so that what is under way is never taken for less than it was.
        let ended = self.pulse.ended.load(Ordering::Acquire);
        let under_way = self.pulse.begun.load(Ordering::Acquire).saturating_sub(ended);
        let has_moved = std::mem::replace(&mut self.seen, ended) != ended;
        let waiting = self.pulse.waiting().unwrap_or(0);
        has_moved || (under_way < self.pulse.threads && waiting <= under_way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pulse(waiting: &str, threads: u64) -> Arc<Pulse> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(waiting.as_bytes()).unwrap();
        let (begun, ended) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Pulse { begun, ended, waiting: Some(file), threads, is_closed: AtomicBool::new(false) })
    }

    #[test]
    fn an_idle_mount_answers() {
        let mut observer = Observer::new(&pulse("0\n", 2));
        assert!(observer.answers() && observer.answers());
    }

    #[test]
    fn a_request_that_nobody_takes_up_is_noticed() {
        let mut observer = Observer::new(&pulse("1\n", 2));
        assert!(!observer.answers());
    }

    #[test]
    fn a_request_that_takes_long_keeps_nobody_from_answering_others() {
        let pulse = pulse("1\n", 2);
        let mut observer = Observer::new(&pulse);
        let _served = pulse.request();
        assert!(observer.answers() && observer.answers());
    }

    #[test]
    fn when_everybody_is_stuck_nothing_answers_until_one_goes_on() {
        let pulse = pulse("2\n", 2);
        let mut observer = Observer::new(&pulse);
        let (one, _two) = (pulse.request(), pulse.request());
        assert!(!observer.answers());
        drop(one);
        let _three = pulse.request();
        assert!(observer.answers(), "one was answered since the last look");
        assert!(!observer.answers());
    }

    #[test]
    fn who_closes_waits_for_what_is_under_way_and_nothing_is_begun_after() {
        let pulse = pulse("0\n", 2);
        let gate = Gate::new(&pulse);
        let served = pulse.request();
        assert!(!gate.close(Duration::from_millis(3)));
        drop(served);
        assert!(gate.close(Duration::ZERO));
        let late = Arc::clone(&pulse);
        let thread = std::thread::spawn(move || drop(late.request()));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!thread.is_finished() && gate.close(Duration::ZERO));
    }
}
