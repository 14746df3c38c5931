//! The check of all pages that an open has put off, made in steps beside everything else.
//!
//! The head holds the sum of all pages, and a batch changes it by the pages it read and wrote. So the pages sum up to the
//! head now exactly when they did at the open, and the check may take its time. What lies before the place it has reached
//! is summed up already; a batch that changes something there changes that sum with it.

use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::base::{Changes, HEAD_NAME};
use super::head::{Head, Mark};
use super::{Index, files};
use crate::error::{Error, Kind, Result};

/// How far the check has come.
pub(super) struct Checking {
    dir: PathBuf,
    /// The last page it has seen.
    at: Vec<u8>,
    sum: Head,
}

/// The failure that the pages are not those that were written.
pub(super) fn lost() -> Error {
    Error::new(Kind::Damaged, "the index lost or mixed pages; it is made anew at the next mount")
}

impl Index {
    /// Has all pages checked by calls of [`Index::check_some`].
    pub(super) fn with_check_put_off(self, dir: &Path) -> Index {
        *self.checking.lock() = Some(Box::new(Checking { dir: dir.to_owned(), at: Vec::new(), sum: Head::default() }));
        self
    }

    /// Checks `limit` pages more; says whether there is more to check. No batch is written meanwhile.
    ///
    /// # Errors
    /// `Damaged` when the last page was seen and all do not sum up: the index can only be discarded, which the next open
    /// does. `Io`.
    pub fn check_some(&self, limit: usize) -> Result<bool> {
        let head = self.head.lock();
        let mut place = self.checking.lock();
        let Some(checking) = place.as_mut() else { return Ok(false) };
        let (mut seen, mut last) = (0, None);
        self.pages.base.each(Bound::Excluded(&checking.at), limit, &mut |name, sealed| {
            seen += 1;
            last = Some(name.to_vec());
            if name != HEAD_NAME {
                checking.sum.add(Mark::of(name, sealed));
            }
        })?;
        if let Some(name) = last {
            checking.at = name;
        }
        if seen == limit {
            return Ok(true);
        }
        let (is_whole, dir) = (checking.sum.same_pages(&head), checking.dir.clone());
        if is_whole {
            *place = None;
            return Ok(false);
        }
        // Without a session to rely on, the next open looks at all pages first.
        files::write_session(&dir, None)?;
        Err(lost())
    }

    /// What the sum of the pages checked already will be after `changes`; none when nothing is being checked.
    pub(super) fn sum_after(&self, changes: &Changes) -> Result<Option<Head>> {
        let place = self.checking.lock();
        let Some(checking) = place.as_ref() else { return Ok(None) };
        let (at, mut sum) = (&checking.at, checking.sum);
        for (name, page) in changes.range::<[u8], _>((Bound::Unbounded, Bound::Included(at.as_slice()))) {
            if *name == HEAD_NAME {
                continue;
            }
            if let Some(old) = self.pages.base.page(name)? {
                sum.remove(Mark::of(name, &old));
            }
            if let Some(new) = page {
                sum.add(Mark::of(name, new));
            }
        }
        Ok(Some(sum))
    }

    /// The changes were made. The lock of the head is held from [`Index::sum_after`] on.
    pub(super) fn check_from(&self, after: Option<Head>) {
        if let (Some(checking), Some(after)) = (self.checking.lock().as_mut(), after) {
            checking.sum = after;
        }
    }
}
