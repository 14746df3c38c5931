//! Whether the volume has time for work that nobody waits for.

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts what programs ask for.
#[derive(Debug, Default)]
pub(super) struct Activity {
    requests: AtomicU64,
    seen: AtomicU64,
    fsyncs: AtomicBool,
}

impl Activity {
    /// Something was asked for.
    pub fn note(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// How much was asked for so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether nothing was asked for since this was last called.
    pub fn was_idle(&self) -> bool {
        let now = self.requests.load(Ordering::Relaxed);
        self.seen.swap(now, Ordering::Relaxed) == now
    }

    /// Whether nothing was asked for since [`Activity::was_idle`].
    pub fn is_idle(&self) -> bool {
        self.seen.load(Ordering::Relaxed) == self.requests.load(Ordering::Relaxed)
    }

    /// A file was synced, or closed with what was not.
    pub fn note_end(&self, synced: bool) {
        self.fsyncs.store(synced, Ordering::Relaxed);
    }

    /// Whether files are being written by somebody who waits for them to be synced, to judge by the last one.
    pub fn expects_fsync(&self) -> bool {
        self.fsyncs.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_idle_while_nothing_is_asked_for() {
        let activity = Activity::default();
        assert!(activity.was_idle() && activity.is_idle());
        activity.note();
        assert!(!activity.is_idle());
        assert!(!activity.was_idle());
        assert!(activity.is_idle() && activity.was_idle());
    }
}
