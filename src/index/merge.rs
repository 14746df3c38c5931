//! Turns a batch of changed records into changed pages.
//!
//! The batch is walked in key order. The page of a record is read once, changed as a draft, and written when the walk
//! leaves it: split when it grew too large, joined to the page after it when it became small.

use std::collections::BTreeMap;

use super::Table;
use super::base::{Changes, HEAD_NAME, page_name};
use super::head::{Head, Mark};
use super::layers::Layer;
use super::page::{self, Record};
use super::pages::{Leaf, Pages};
use crate::error::Result;

/// The bytes of records from which on a page is split. A record larger than that has a page of its own.
///
/// Small, because sled rewrites a whole node of up to 16 pages for every tenth change of one; not smaller, because
/// each node costs some 300 bytes of memory even while it is not cached.
const PAGE_BYTES: usize = 1024;

/// The same for tables whose keys are digests, so that each change hits a page of its own.
const SCATTERED_PAGE_BYTES: usize = 256;

/// The page size of the table of `front`.
fn page_bytes(front: u8) -> usize {
    let scattered = [Table::Names, Table::Ids].map(|table| table as u8 * 2);
    if scattered.contains(&front) { SCATTERED_PAGE_BYTES } else { PAGE_BYTES }
}

/// A page being changed.
struct Draft {
    front: u8,
    low: Vec<u8>,
    end: Option<Vec<u8>>,
    records: Vec<Record>,
    /// The pages it was made of.
    marks: Vec<Mark>,
    /// Whether it differs from those.
    changed: bool,
    /// Whether every new record came after all others, as in a table that grows at its end.
    grew_at_end: bool,
}

impl Draft {
    /// The draft of a page.
    fn new(leaf: &Leaf) -> Result<Draft> {
        let mut reader = leaf.reader()?;
        let mut records = Vec::new();
        while let Some(value) = reader.next()? {
            records.push((reader.key().to_vec(), value.to_vec()));
        }
        Ok(Draft {
            front: leaf.front,
            low: reader.low().to_vec(),
            end: leaf.end.clone(),
            records,
            marks: vec![leaf.mark],
            changed: false,
            grew_at_end: true,
        })
    }

    /// The draft of the first page of a table.
    fn first(front: u8) -> Draft {
        Draft {
            front,
            low: Vec::new(),
            end: None,
            records: Vec::new(),
            marks: Vec::new(),
            changed: false,
            grew_at_end: true,
        }
    }

    fn covers(&self, front: u8, key: &[u8]) -> bool {
        self.front == front && self.end.as_deref().is_none_or(|end| key < end)
    }

    /// Makes one change.
    fn change(&mut self, key: &[u8], value: Option<&Vec<u8>>) {
        let at = match self.records.last() {
            Some((last, _)) if last.as_slice() < key => Err(self.records.len()),
            _ => self.records.binary_search_by(|(other, _)| other.as_slice().cmp(key)),
        };
        match (at, value) {
            (Ok(at), Some(value)) => {
                if let Some((_, old)) = self.records.get_mut(at) {
                    self.changed |= old != value;
                    old.clone_from(value);
                }
            }
            (Ok(at), None) => {
                self.records.remove(at);
                self.changed = true;
            }
            (Err(at), Some(value)) => {
                self.grew_at_end &= at == self.records.len();
                self.records.insert(at, (key.to_vec(), value.clone()));
                self.changed = true;
            }
            (Err(_), None) => {}
        }
    }

    /// The bytes of its records.
    fn len(&self) -> usize {
        let mut before = self.low.as_slice();
        let mut len = 0;
        for record in &self.records {
            len += page::record_len(before, record);
            before = &record.0;
        }
        len
    }

    /// Takes the page after it in.
    fn join(&mut self, next: Draft) {
        self.end = next.end;
        self.records.extend(next.records);
        self.marks.extend(next.marks);
        self.changed = true;
        self.grew_at_end = false;
    }
}

/// The shortest key above `left` and not above `right`, where `left < right`.
fn border(left: &[u8], right: &[u8]) -> Vec<u8> {
    let shared = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    right.iter().take(shared + 1).copied().collect()
}

/// The walk.
struct Walk<'a> {
    pages: &'a Pages,
    head: Head,
    changes: Changes,
}

impl Walk<'_> {
    /// The page of a key as a draft.
    fn draft(&self, full_key: &[u8], front: u8) -> Result<Draft> {
        match self.pages.holding(full_key)? {
            Some(leaf) => Draft::new(&leaf),
            None => Ok(Draft::first(front)),
        }
    }

    /// Ends the work on `draft`; returns it joined with the page after it when it became too small to stand alone.
    fn leave(&mut self, mut draft: Draft) -> Result<Option<Draft>> {
        let len = draft.len();
        if draft.changed
            && len < page_bytes(draft.front) / 4
            && let Some(end) = draft.end.clone()
        {
            let next = self.pages.next_at(draft.front, &end)?;
            let next = Draft::new(&next)?;
            if draft.records.is_empty() || len + next.len() <= page_bytes(draft.front) {
                self.changes.insert(page_name(draft.front, Some(&end)), None);
                draft.join(next);
                return Ok(Some(draft));
            }
        }
        if draft.changed {
            self.write(draft, len);
        }
        Ok(None)
    }

    /// Writes `draft`, whose records take `len` bytes, as one page or more.
    fn write(&mut self, mut draft: Draft, len: usize) {
        for mark in draft.marks.drain(..) {
            self.head.remove(mark);
        }
        if draft.records.is_empty() && draft.low.is_empty() && draft.end.is_none() {
            self.changes.insert(page_name(draft.front | 1, None), None);
            return;
        }
        let limit = page_bytes(draft.front);
        let fill = if draft.grew_at_end { limit } else { len.div_ceil(len.div_ceil(limit).max(1)) };
        let mut low = std::mem::take(&mut draft.low);
        let mut rest = draft.records.as_slice();
        if len > limit {
            while let Some((left, right)) = split(&low, rest, fill) {
                let (Some((last, _)), Some((first, _))) = (left.last(), right.first()) else { break };
                let end = border(last, first);
                self.put(page_name(draft.front, Some(&end)), &low, left);
                low = end;
                rest = right;
            }
        }
        let name = match &draft.end {
            Some(end) => page_name(draft.front, Some(end)),
            None => page_name(draft.front | 1, None),
        };
        self.put(name, &low, rest);
    }

    fn put(&mut self, name: Vec<u8>, low: &[u8], records: &[Record]) {
        let sealed = self.pages.seal(&name, &page::encode(low, records));
        self.head.add(Mark::of(&name, &sealed));
        self.changes.insert(name, Some(sealed));
    }
}

/// Cuts about `fill` bytes off the front of `records`; `None` when all fit.
fn split<'a>(low: &[u8], records: &'a [Record], fill: usize) -> Option<(&'a [Record], &'a [Record])> {
    let mut before = low;
    let mut len = 0;
    for (at, record) in records.iter().enumerate() {
        len += page::record_len(before, record);
        if len > fill && at > 0 {
            return records.split_at_checked(at);
        }
        before = &record.0;
    }
    None
}

/// The page changes, the new head among them, that bring `batch` into the pages whose head is `head`.
///
/// # Errors
/// `Damaged`, `Io` when a page cannot be read.
pub(super) fn merge(pages: &Pages, head: Head, batch: &Layer) -> Result<(Changes, Head)> {
    let mut walk = Walk { pages, head, changes: BTreeMap::new() };
    let mut current: Option<Draft> = None;
    for (full_key, value) in batch {
        let Some((front, key)) = full_key.split_first() else { continue };
        let mut draft = loop {
            match current.take() {
                Some(draft) if draft.covers(*front, key) => break draft,
                Some(draft) => current = walk.leave(draft)?,
                None => break walk.draft(full_key, *front)?,
            }
        };
        draft.change(key, value.as_ref());
        current = Some(draft);
    }
    while let Some(draft) = current.take() {
        current = walk.leave(draft)?;
    }
    walk.head.batches += 1;
    let sealed = pages.seal(&HEAD_NAME, &walk.head.encode());
    walk.changes.insert(HEAD_NAME.to_vec(), Some(sealed));
    Ok((walk.changes, walk.head))
}
