//! Whether a mount answers, without asking it: a request of our own would keep an automount from ever going idle.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::sync::atomic::{AtomicU64, Ordering};

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
}

impl Pulse {
    /// For a mount that `threads` threads serve.
    pub(super) fn new(device: Device, threads: usize) -> Arc<Pulse> {
        let waiting = open_control(device, "waiting", File::options().read(true))
            .inspect_err(|error| tracing::debug!(%error, "requests that nobody has taken up cannot be seen"))
            .ok();
        let threads = u64::try_from(threads).unwrap_or(u64::MAX).max(1);
        Arc::new(Pulse { begun: AtomicU64::new(0), ended: AtomicU64::new(0), waiting, threads })
    }

    /// Counts a request, from now until the guard is dropped.
    pub(super) fn request(&self) -> Served<'_> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Served(self)
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
        self.0.ended.fetch_add(1, Ordering::Relaxed);
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
        Arc::new(Pulse { begun: AtomicU64::new(0), ended: AtomicU64::new(0), waiting: Some(file), threads })
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
}
