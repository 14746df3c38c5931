//! Ranges over all layers: the changes in memory laid over the records of the pages, in order, upwards or downwards.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use super::base::page_name;
use super::layers::Layers;
use super::page::Record;
use super::pages::{Leaf, Pages};
use crate::error::Result;

/// How many changes in memory are looked at in one go.
const CHUNK: usize = 1024;

/// Pages that are read together at most, when one after the other is needed. A node of sled holds 9 to 16.
const RUN: usize = 16;

/// What to look for. The bounds are full keys.
pub(super) struct Span<'a> {
    /// Twice the table's number.
    pub(super) front: u8,
    pub(super) from: Bound<&'a [u8]>,
    pub(super) to: Bound<&'a [u8]>,
    /// From the upper end to the lower.
    pub(super) down: bool,
    /// Whether values are wanted.
    pub(super) values: bool,
}

impl Span<'_> {
    fn above_start(&self, key: &[u8]) -> bool {
        match short(self.from) {
            Bound::Included(from) => key >= from,
            Bound::Excluded(from) => key > from,
            Bound::Unbounded => true,
        }
    }

    fn below_end(&self, key: &[u8]) -> bool {
        match short(self.to) {
            Bound::Included(to) => key <= to,
            Bound::Excluded(to) => key < to,
            Bound::Unbounded => true,
        }
    }

    /// Whether no key can lie between the bounds; a map must not be asked for such a range.
    fn is_empty(&self) -> bool {
        match (self.from, self.to) {
            (Bound::Included(from), Bound::Included(to)) => from > to,
            (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
            _ => false,
        }
    }

    /// How `a` and `b` follow each other in the direction of the span.
    fn order(&self, a: &[u8], b: &[u8]) -> Ordering {
        if self.down { b.cmp(a) } else { a.cmp(b) }
    }
}

/// A bound of full keys as one of keys without the table's byte.
fn short(bound: Bound<&[u8]>) -> Bound<&[u8]> {
    bound.map(|full| full.get(1..).unwrap_or_default())
}

/// The records of the pages, one after the other.
struct Cursor<'a> {
    pages: &'a Pages,
    span: &'a Span<'a>,
    leaf: Option<Arc<Leaf>>,
    ready: VecDeque<Record>,
    /// Pages that were read together last.
    run: usize,
}

impl<'a> Cursor<'a> {
    fn new(pages: &'a Pages, span: &'a Span<'a>) -> Result<Cursor<'a>> {
        let leaf = match (span.down, span.from, span.to) {
            (false, Bound::Included(from) | Bound::Excluded(from), _) => pages.holding(from)?,
            (false, Bound::Unbounded, _) => pages.holding(&page_name(span.front, None))?,
            (true, _, Bound::Excluded(to)) => pages.below(to)?,
            (true, _, Bound::Included(to)) => pages.holding(to)?,
            (true, _, Bound::Unbounded) => pages.last(span.front)?,
        };
        let mut cursor = Cursor { pages, span, leaf, ready: VecDeque::new(), run: 1 };
        cursor.load()?;
        Ok(cursor)
    }

    /// Takes the wanted records of the current page.
    fn load(&mut self) -> Result<()> {
        let Some(leaf) = &self.leaf else { return Ok(()) };
        let mut reader = leaf.reader()?;
        while let Some(value) = reader.next()? {
            let key = reader.key();
            if !self.span.below_end(key) {
                break;
            }
            if !self.span.above_start(key) {
                continue;
            }
            let record = (key.to_vec(), if self.span.values { value.to_vec() } else { Vec::new() });
            if self.span.down {
                self.ready.push_front(record);
            } else {
                self.ready.push_back(record);
            }
        }
        Ok(())
    }

    /// Moves to the neighbouring page while there may be something of the span in it.
    fn turn(&mut self) -> Result<()> {
        let Some(leaf) = self.leaf.take() else { return Ok(()) };
        self.leaf = if self.span.down {
            if self.span.above_start(leaf.reader()?.low()) { self.pages.previous(&leaf)? } else { None }
        } else if leaf.end.as_deref().is_some_and(|end| self.span.below_end(end)) {
            self.run = (self.run * 2).min(RUN);
            self.pages.next(&leaf, self.run)?
        } else {
            None
        };
        self.load()
    }

    /// The next record, left in place.
    fn peek(&mut self) -> Result<Option<&Record>> {
        while self.ready.is_empty() && self.leaf.is_some() {
            self.turn()?;
        }
        Ok(self.ready.front())
    }
}

/// Up to `limit` records of the span over `layers` and `pages`.
///
/// # Errors
/// `Damaged`, `Io` when a page cannot be read.
pub(super) fn scan(layers: &Layers, pages: &Pages, span: &Span, limit: usize) -> Result<Vec<Record>> {
    let mut out = Vec::new();
    if limit == 0 || span.is_empty() {
        return Ok(out);
    }
    let (first, behind) = (page_name(span.front, None), page_name(span.front | 1, None));
    let from = if span.from == Bound::Unbounded { Bound::Included(first.as_slice()) } else { span.from };
    let to = if span.to == Bound::Unbounded { Bound::Excluded(behind.as_slice()) } else { span.to };
    // The layers must be looked at before the pages: a batch moves from there to here, never back.
    let mut changes = layers.range(from, to, CHUNK, span.down);
    let mut cursor = Cursor::new(pages, span)?;
    loop {
        let full = changes.len() == CHUNK;
        let edge = changes.last().map(|(key, _)| key.clone());
        for (full_key, value) in changes {
            let key = full_key.get(1..).unwrap_or_default();
            while let Some(below) = cursor.peek()? {
                let order = span.order(&below.0, key);
                if order == Ordering::Greater {
                    break;
                }
                if let (Some(record), Ordering::Less) = (cursor.ready.pop_front(), order) {
                    out.push(record);
                    if out.len() == limit {
                        return Ok(out);
                    }
                }
            }
            if let Some(value) = value {
                out.push((key.to_vec(), if span.values { value } else { Vec::new() }));
                if out.len() == limit {
                    return Ok(out);
                }
            }
        }
        let Some(edge) = edge.filter(|_| full) else { break };
        let edge = Bound::Excluded(edge.as_slice());
        changes = if span.down { layers.range(from, edge, CHUNK, true) } else { layers.range(edge, to, CHUNK, false) };
    }
    while out.len() < limit && cursor.peek()?.is_some() {
        out.extend(cursor.ready.pop_front());
    }
    Ok(out)
}
