//! The pages of the base, opened: which one holds a key, and which one is its neighbour.

use std::ops::Bound;
use std::sync::Arc;

use super::Sealer;
use super::base::{Base, HEAD_NAME, page_name};
use super::head::{Head, Mark};
use super::leaves::Leaves;
use super::page::Reader;
use crate::error::{Error, Kind, Result};

/// A page as read: opened, with its place.
pub(super) struct Leaf {
    /// Twice the table's number.
    pub(super) front: u8,
    /// Where it ends (exclusive), without the table's byte; `None`: with the table.
    pub(super) end: Option<Vec<u8>>,
    /// Its bytes.
    pub(super) plain: Vec<u8>,
    /// What it adds to the head.
    pub(super) mark: Mark,
}

impl Leaf {
    /// Reads its records.
    pub(super) fn reader(&self) -> Result<Reader<'_>> {
        Reader::new(&self.plain)
    }

    /// Whether a full key below its end is not below its start.
    pub(super) fn holds(&self, full_key: &[u8]) -> bool {
        let Some((front, key)) = full_key.split_first() else { return false };
        *front == self.front && self.reader().is_ok_and(|reader| reader.low() <= key)
    }
}

/// The base together with what opens and seals its pages.
pub(super) struct Pages {
    pub(super) base: Box<dyn Base>,
    pub(super) leaves: Leaves,
    sealer: Arc<dyn Sealer>,
}

/// The error for a page that is not where it must be.
fn missing() -> Error {
    Error::new(Kind::Damaged, "a page of the index is missing; rebuild the index")
}

impl Pages {
    pub(super) fn new(base: Box<dyn Base>, sealer: Arc<dyn Sealer>) -> Pages {
        Pages { base, leaves: Leaves::default(), sealer }
    }

    /// Seals a page.
    pub(super) fn seal(&self, name: &[u8], plain: &[u8]) -> Vec<u8> {
        self.sealer.seal(name, plain)
    }

    /// Opens a page.
    fn open(&self, name: &[u8], sealed: &[u8]) -> Result<Leaf> {
        let plain = self.sealer.open(name, sealed);
        let plain =
            plain.ok_or_else(|| Error::new(Kind::Damaged, "a page of the index does not open; rebuild the index"))?;
        let (first, rest) = name.split_first().ok_or_else(missing)?;
        let end = (first % 2 == 0).then(|| rest.to_vec());
        Ok(Leaf { front: first & !1, end, plain, mark: Mark::of(name, sealed) })
    }

    /// The page that holds the full key `at` (`Excluded`), or the one that holds what lies just below it (`Included`).
    fn find(&self, at: Bound<&[u8]>) -> Result<Option<Arc<Leaf>>> {
        let (Bound::Included(full_key) | Bound::Excluded(full_key)) = at else { return Err(missing()) };
        let (front, key) = full_key.split_first().ok_or_else(missing)?;
        let (kept, epoch) = self.leaves.holding(full_key);
        if let (Some(leaf), Bound::Excluded(_)) = (kept, at) {
            return Ok(Some(leaf));
        }
        let Some((name, sealed)) = self.base.first(at)? else { return Ok(None) };
        if name.first().is_none_or(|byte| byte & !1 != *front) {
            return Ok(None);
        }
        let leaf = Arc::new(self.open(&name, &sealed)?);
        if leaf.reader()?.low() > key {
            return Err(missing());
        }
        self.leaves.keep(name, &leaf, epoch);
        Ok(Some(leaf))
    }

    /// The page that holds the full key; `None` when its table has no pages.
    ///
    /// # Errors
    /// `Damaged` when the page is missing, does not open or is no page.
    pub(super) fn holding(&self, key: &[u8]) -> Result<Option<Arc<Leaf>>> {
        self.find(Bound::Excluded(key))
    }

    /// The page that holds the keys just below the full key `end`. Else as for [`Pages::holding`].
    pub(super) fn below(&self, end: &[u8]) -> Result<Option<Arc<Leaf>>> {
        self.find(Bound::Included(end))
    }

    /// The last page of the table of `front`. Else as for [`Pages::holding`].
    pub(super) fn last(&self, front: u8) -> Result<Option<Arc<Leaf>>> {
        let name = page_name(front | 1, None);
        match self.base.page(&name)? {
            Some(sealed) => Ok(Some(Arc::new(self.open(&name, &sealed)?))),
            None => Ok(None),
        }
    }

    /// The page after `leaf`; `None` after the last one. Where it has to be read, it is together with those behind it, `run`
    /// pages in all. Errors as for [`Pages::holding`].
    pub(super) fn next(&self, leaf: &Leaf, run: usize) -> Result<Option<Arc<Leaf>>> {
        let Some(end) = &leaf.end else { return Ok(None) };
        self.keep_run(leaf.front, &page_name(leaf.front, Some(end)), run);
        self.next_at(leaf.front, end).map(Some)
    }

    /// Opens and keeps up to `run` pages of `front` from the one that holds the full key `at` on, unless that one is here. The
    /// base finds neighbours far sooner than each by its name. What fails is left to whoever needs that page.
    fn keep_run(&self, front: u8, at: &[u8], run: usize) {
        let (kept, epoch) = self.leaves.holding(at);
        if kept.is_some() {
            return;
        }
        let mut found = Vec::with_capacity(run);
        let read = self.base.each(Bound::Excluded(at), run, &mut |name, sealed| {
            if name.first().is_some_and(|byte| byte & !1 == front) {
                found.push((name.to_vec(), sealed.to_vec()));
            }
        });
        for (name, sealed) in read.map(|()| found).unwrap_or_default() {
            let Ok(leaf) = self.open(&name, &sealed) else { return };
            self.leaves.keep(name, &Arc::new(leaf), epoch);
        }
    }

    /// The page of `front` that starts at `low`, which must exist. Errors as for [`Pages::holding`].
    pub(super) fn next_at(&self, front: u8, low: &[u8]) -> Result<Arc<Leaf>> {
        let next = self.holding(&page_name(front, Some(low)))?.ok_or_else(missing)?;
        if next.reader()?.low() == low { Ok(next) } else { Err(missing()) }
    }

    /// The page before `leaf`; `None` before the first one. Errors as for [`Pages::holding`].
    pub(super) fn previous(&self, leaf: &Leaf) -> Result<Option<Arc<Leaf>>> {
        let low = leaf.reader()?.low();
        if low.is_empty() {
            return Ok(None);
        }
        let name = page_name(leaf.front, Some(low));
        let sealed = self.base.page(&name)?.ok_or_else(missing)?;
        Ok(Some(Arc::new(self.open(&name, &sealed)?)))
    }

    /// Reads the head; `None` when there is none yet.
    ///
    /// # Errors
    /// `Damaged` when it does not open, `Version` when it is of another format.
    pub(super) fn read_head(&self) -> Result<Option<Head>> {
        let Some(sealed) = self.base.page(&HEAD_NAME)? else { return Ok(None) };
        let plain = self.sealer.open(&HEAD_NAME, &sealed);
        let plain = plain.ok_or_else(|| Error::new(Kind::Damaged, "the index does not open with this volume's key"))?;
        let head = Head::decode(&plain);
        head.map(Some).ok_or_else(|| Error::new(Kind::Version, "the index is of another format"))
    }

    /// Sums up all pages anew, reading each.
    ///
    /// # Errors
    /// `Damaged`, `Io` from the base.
    pub(super) fn sum_up(&self) -> Result<Head> {
        let mut head = Head::default();
        self.base.each(Bound::Unbounded, usize::MAX, &mut |name, sealed| {
            if name != HEAD_NAME {
                head.add(Mark::of(name, sealed));
            }
        })?;
        Ok(head)
    }
}
