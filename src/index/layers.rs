//! The records in memory that lie above the pages: the overlay, which takes every change at once, and the frozen
//! batch below it, which is being written.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::sync::RwLock;

/// Changes by full key: the value, or `None` for a record that is gone.
pub(super) type Layer = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

#[derive(Default)]
struct Both {
    overlay: Layer,
    frozen: Option<Arc<Layer>>,
}

/// Overlay and frozen batch. Its lock is held for moments only, never over a read or write of the base.
#[derive(Default)]
pub(super) struct Layers(RwLock<Both>);

impl Layers {
    /// Puts a change on top.
    pub(super) fn insert(&self, key: Vec<u8>, change: Option<Vec<u8>>) {
        self.0.write().overlay.insert(key, change);
    }

    /// The topmost change of a key, if there is one.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let both = self.0.read();
        let change = both.overlay.get(key).or_else(|| both.frozen.as_ref()?.get(key));
        change.cloned()
    }

    /// How many changes wait, in both layers.
    pub(super) fn len(&self) -> usize {
        let both = self.0.read();
        both.overlay.len() + both.frozen.as_ref().map_or(0, |frozen| frozen.len())
    }

    /// Moves the overlay into the frozen batch, onto what is still in there; returns whether a batch waits.
    pub(super) fn freeze(&self) -> bool {
        let mut both = self.0.write();
        let overlay = std::mem::take(&mut both.overlay);
        match &mut both.frozen {
            Some(frozen) if !overlay.is_empty() => Arc::make_mut(frozen).extend(overlay),
            None if !overlay.is_empty() => both.frozen = Some(Arc::new(overlay)),
            _ => {}
        }
        both.frozen.is_some()
    }

    /// The batch that waits to be written.
    pub(super) fn frozen(&self) -> Option<Arc<Layer>> {
        self.0.read().frozen.clone()
    }

    /// Forgets the frozen batch: the base now holds it.
    pub(super) fn drop_frozen(&self) {
        let frozen = self.0.write().frozen.take();
        drop(frozen);
    }

    /// Up to `limit` changes between the bounds, from the lower end or, when `down`, from the upper end.
    pub(super) fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        limit: usize,
        down: bool,
    ) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let both = self.0.read();
        let mut found: BTreeMap<&Vec<u8>, &Option<Vec<u8>>> = BTreeMap::new();
        for layer in both.frozen.as_deref().into_iter().chain([&both.overlay]) {
            let range = layer.range::<[u8], _>((from, to));
            if down {
                found.extend(range.rev().take(limit));
            } else {
                found.extend(range.take(limit));
            }
        }
        let copy = |(key, change): (&&Vec<u8>, &&Option<Vec<u8>>)| ((*key).clone(), (*change).clone());
        if down {
            found.iter().rev().take(limit).map(copy).collect()
        } else {
            found.iter().take(limit).map(copy).collect()
        }
    }
}
