//! The latch that a failed write or sync closes.

use std::sync::OnceLock;

use crate::error::{Error, Kind, Result};

/// Closed by the first failed write or sync, and then for good: after a failed `fsync(2)` the page cache no longer
/// tells what is on the disk, so no later success could be believed.
#[derive(Debug, Default)]
pub struct Latch {
    reason: OnceLock<String>,
}

impl Latch {
    /// Lets a change pass.
    ///
    /// # Errors
    /// `Poisoned` with the reason once closed.
    pub fn pass(&self) -> Result<()> {
        match self.reason.get() {
            None => Ok(()),
            Some(reason) => Err(Error::new(
                Kind::Poisoned,
                format!(
                    "the volume refuses writes since the store failed ({reason}); mend the disk and mount it again"
                ),
            )),
        }
    }

    /// Why it is closed.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// Closes it; the first reason stays.
    pub fn close(&self, reason: impl Into<String>) {
        let reason = reason.into();
        if self.reason.set(reason.clone()).is_ok() {
            tracing::error!(%reason, "the store failed: no more writes until the volume is mounted again");
        }
    }

    /// Closes the latch when a change failed for another reason than a full disk.
    ///
    /// # Errors
    /// The failure itself.
    pub fn watch<T>(&self, outcome: Result<T>) -> Result<T> {
        if let Err(e) = &outcome
            && e.kind() == Kind::Io
        {
            self.close(e.to_string());
        }
        outcome
    }

    /// Closes the latch when a sync failed, for whatever reason: bytes that were acknowledged may be gone, and a second
    /// sync would not tell.
    ///
    /// # Errors
    /// `Io`, also for a full disk: there is nothing to try again.
    pub fn watch_sync<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|e| {
            self.close(e.to_string());
            Error::new(Kind::Io, e.to_string()).with_source(e)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_closes_the_latch_when_a_sync_meets_it_and_not_when_a_write_does() {
        for code in [libc::ENOSPC, libc::EDQUOT, libc::EIO] {
            let failed = || Err::<(), _>(Error::io("blob 1", std::io::Error::from_raw_os_error(code)));
            let latch = Latch::default();
            assert!(latch.watch(failed()).is_err());
            assert_eq!(latch.reason().is_some(), code == libc::EIO);

            let latch = Latch::default();
            assert_eq!(latch.watch_sync(failed()).unwrap_err().kind(), Kind::Io);
            assert!(latch.reason().is_some_and(|reason| reason.starts_with("blob 1")));
            assert_eq!(latch.pass().unwrap_err().kind(), Kind::Poisoned);
        }
    }
}
