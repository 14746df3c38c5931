//! What lies below the layers: an ordered map from page names to sealed pages, on disk or in memory.
//!
//! A page is named by where it ends: table `t` gives its pages the names `[2t] + end` (exclusive), and `[2t + 1]` to the
//! one page without an end, which every table that ever held a record has. So the page of a key is the first one whose
//! name is above `[2t] + key`.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::Table;
use crate::error::Result;
use crate::sync::RwLock;

/// The name of the head, above all pages.
pub(super) const HEAD_NAME: [u8; 1] = [0xff];

/// What a batch does to the pages: name to sealed page, or to nothing.
pub(super) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The full key of a record, in the order of page names.
pub(super) fn full_key(table: Table, key: &[u8]) -> Vec<u8> {
    page_name(table as u8 * 2, Some(key))
}

/// The name of the page of `front` (twice the table's number) that ends at `end`.
pub(super) fn page_name(front: u8, end: Option<&[u8]>) -> Vec<u8> {
    let end = end.unwrap_or_default().iter().copied();
    std::iter::once(front).chain(end).collect()
}

/// An ordered map that changes in atomic steps.
pub(super) trait Base: Send + Sync {
    /// The first page at or above `from`, with its name.
    ///
    /// # Errors
    /// `Damaged` when it is not what was written; `Io` when the base failed earlier.
    fn first(&self, from: Bound<&[u8]>) -> Result<Option<(Vec<u8>, Vec<u8>)>>;

    /// The page of this very name. Errors as for [`Base::first`].
    fn page(&self, name: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Shows up to `limit` pages from `from` on, in order of names. Errors as for [`Base::first`].
    fn each(&self, from: Bound<&[u8]>, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()>;

    /// Makes all `changes` or, across a crash or an error, none. Not durable before [`Base::flush`].
    ///
    /// # Errors
    /// `NoSpace` when the disk has no room for it, in which case nothing was touched and it can be tried again; any
    /// other error leaves the base unusable.
    fn apply(&self, changes: Changes) -> Result<()>;

    /// Makes everything applied so far durable, and notes that it was so after `batches` batches.
    ///
    /// # Errors
    /// `Io`, also on a full disk; the base is then unusable.
    fn flush(&self, batches: u64) -> Result<()>;

    /// The bytes taken on disk.
    fn disk_bytes(&self) -> u64;

    /// Gets the files ready to be closed; still readable afterwards.
    ///
    /// # Errors
    /// As for [`Base::flush`].
    fn settle(&self) -> Result<Settled>;

    /// Has the next open trust nothing that it finds: best effort.
    fn distrust(&self);

    /// Lets go of the files; all later calls fail. `mark` tells the next open that it finds what was left.
    ///
    /// # Errors
    /// As for [`Base::flush`].
    fn close(&self, mark: Option<&str>) -> Result<()>;
}

/// What [`Base::settle`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Nothing was written since the files were opened.
    Unchanged,
    /// They were opened anew, and what they hold must be checked before it can be trusted.
    Reopened,
    /// The disk has no room for it; the next open has more to do.
    NoRoom,
}

/// The base of an index without a disk.
#[derive(Default)]
pub(super) struct Memory(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Base for Memory {
    fn first(&self, from: Bound<&[u8]>) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let map = self.0.read();
        let found = map.range::<[u8], _>((from, Bound::Unbounded)).next();
        Ok(found.map(|(name, page)| (name.clone(), page.clone())))
    }

    fn page(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.read().get(name).cloned())
    }

    fn each(&self, from: Bound<&[u8]>, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let map = self.0.read();
        map.range::<[u8], _>((from, Bound::Unbounded)).take(limit).for_each(|(name, page)| visit(name, page));
        Ok(())
    }

    fn apply(&self, changes: Changes) -> Result<()> {
        let mut map = self.0.write();
        for (name, page) in changes {
            match page {
                Some(page) => map.insert(name, page),
                None => map.remove(&name),
            };
        }
        Ok(())
    }

    fn flush(&self, _batches: u64) -> Result<()> {
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        0
    }

    fn settle(&self) -> Result<Settled> {
        Ok(Settled::Unchanged)
    }

    fn distrust(&self) {}

    fn close(&self, _mark: Option<&str>) -> Result<()> {
        Ok(())
    }
}
