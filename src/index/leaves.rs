//! Pages that were opened lately. What is read from an index lies close together, and several records share a page.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::pages::Leaf;
use crate::sync::Mutex;

/// Pages kept, of a KiB or so each.
const KEPT: usize = 128;

#[derive(Default)]
struct Kept {
    /// By name, so that the page of a key is the first above it.
    leaves: BTreeMap<Vec<u8>, Arc<Leaf>>,
    /// Names in the order they came.
    order: VecDeque<Vec<u8>>,
    /// How often all were dropped.
    epoch: u64,
}

/// The opened pages. Its lock is a leaf, held for moments.
///
/// They are dropped as a whole when a batch has gone into the base, and before its records leave the layers above: whoever
/// still finds a page as it was before has looked at those records first.
#[derive(Default)]
pub(super) struct Leaves(Box<Mutex<Kept>>);

impl Leaves {
    /// The page that holds a full key, when it is here, and the moment of this look.
    pub(super) fn holding(&self, key: &[u8]) -> (Option<Arc<Leaf>>, u64) {
        let kept = self.0.lock();
        let found = kept.leaves.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded)).next();
        let leaf = found.filter(|(_, leaf)| leaf.holds(key)).map(|(_, leaf)| Arc::clone(leaf));
        (leaf, kept.epoch)
    }

    /// Keeps a page that was read after the look at the moment `epoch`, unless it may be another one by now.
    pub(super) fn keep(&self, name: Vec<u8>, leaf: &Arc<Leaf>, epoch: u64) {
        let mut kept = self.0.lock();
        if kept.epoch != epoch || kept.leaves.contains_key(&name) {
            return;
        }
        if kept.order.len() >= KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.leaves.remove(&oldest);
        }
        kept.order.push_back(name.clone());
        kept.leaves.insert(name, Arc::clone(leaf));
    }

    /// Drops all of them.
    pub(super) fn clear(&self) {
        let mut kept = self.0.lock();
        kept.leaves.clear();
        kept.order.clear();
        kept.epoch += 1;
    }
}
