//! How often the kernel was told of each inode, so that the volume learns when it has forgotten one.

use std::collections::HashMap;

use crate::ids::Ino;
use crate::sync::{Mutex, RwLock, RwLockReadGuard};

const SHARDS: usize = 16;

/// The kernel counts an inode once for each reply that names it, and gives all counts back at once when it forgets it.
///
/// Lock order: `gate` before a shard. `gate` is read-held from before the volume is asked for an inode until the
/// answer is counted, and write-held while the volume is told that one is forgotten; so an inode that is found again
/// at that moment is never forgotten after it was found. Calls into the volume are made while `gate` is held; the
/// volume never calls back into here.
pub(super) struct References {
    gate: RwLock<()>,
    /// An earlier process has told the kernel of inodes too, and how often is not known.
    is_inherited: bool,
    shards: [Mutex<HashMap<u64, u64>>; SHARDS],
}

/// The right to tell the kernel of inodes.
pub(super) struct Telling<'a> {
    references: &'a References,
    _gate: RwLockReadGuard<'a, ()>,
}

impl References {
    /// Counts from nothing; `is_inherited` when an earlier process has told the kernel of inodes too.
    pub(super) fn new(is_inherited: bool) -> References {
        References { gate: RwLock::new(()), is_inherited, shards: Default::default() }
    }

    /// To be called before the volume is asked.
    pub(super) fn telling(&self) -> Telling<'_> {
        Telling { references: self, _gate: self.gate.read() }
    }

    /// Gives `count` counts of an inode back and calls `forget` when none is left.
    pub(super) fn give_back(&self, ino: Ino, count: u64, forget: impl FnOnce(Ino)) {
        if !self.lower(ino, count) {
            return;
        }
        let _gate = self.gate.write();
        if self.shard(ino).is_some_and(|shard| !shard.lock().contains_key(&ino.0)) {
            forget(ino);
        }
    }

    /// Whether the kernel knows the inode, or is about to be told of it by an answer that was found before now: what was removed
    /// from the volume before this call and is not known will not become so. Waits for the answers that are being made.
    pub(super) fn knows(&self, ino: Ino) -> bool {
        let _gate = self.gate.write();
        self.is_inherited || ino == Ino::ROOT || self.shard(ino).is_none_or(|shard| shard.lock().contains_key(&ino.0))
    }

    /// Whether nothing is left of the inode's count.
    fn lower(&self, ino: Ino, count: u64) -> bool {
        let Some(shard) = self.shard(ino) else { return false };
        let mut shard = shard.lock();
        let Some(held) = shard.get_mut(&ino.0) else { return self.is_inherited };
        debug_assert!(self.is_inherited || *held >= count, "the kernel gave back more than it was told");
        if *held > count {
            *held -= count;
            return false;
        }
        shard.remove(&ino.0);
        true
    }

    fn shard(&self, ino: Ino) -> Option<&Mutex<HashMap<u64, u64>>> {
        self.shards.get(usize::try_from(ino.0 % SHARDS as u64).ok()?)
    }
}

impl Telling<'_> {
    /// Counts one reply that names this inode. To be called before the reply is sent.
    pub(super) fn told(&self, ino: Ino) {
        if let Some(shard) = self.references.shard(ino) {
            *shard.lock().entry(ino.0).or_insert(0) += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forgotten(references: &References, ino: u64, count: u64) -> bool {
        let mut forgotten = false;
        references.give_back(Ino(ino), count, |_| forgotten = true);
        forgotten
    }

    #[test]
    fn an_inode_is_forgotten_with_its_last_count_only() {
        let references = References::new(false);
        for ino in [7, 7, 7, 23] {
            references.telling().told(Ino(ino));
        }
        assert!(!forgotten(&references, 7, 2));
        assert!(forgotten(&references, 7, 1));
        assert!(forgotten(&references, 23, 1));
        assert!(!forgotten(&references, 7, 1), "nothing is forgotten twice");
    }

    #[test]
    fn an_inode_told_again_starts_anew() {
        let references = References::new(false);
        references.telling().told(Ino(5));
        assert!(forgotten(&references, 5, 1));
        references.telling().told(Ino(5));
        assert!(forgotten(&references, 5, 1));
    }

    #[test]
    fn what_the_kernel_was_told_of_it_knows_until_it_forgets_it() {
        let references = References::new(false);
        assert!(references.knows(Ino::ROOT) && !references.knows(Ino(5)));
        references.telling().told(Ino(5));
        assert!(references.knows(Ino(5)));
        assert!(forgotten(&references, 5, 1));
        assert!(!references.knows(Ino(5)));
    }

    #[test]
    fn what_an_earlier_process_has_told_is_forgotten_too() {
        let references = References::new(true);
        assert!(forgotten(&references, 7, 3));
        references.telling().told(Ino(8));
        assert!(forgotten(&references, 8, 3));
    }

    #[cfg(feature = "interleavings")]
    #[test]
    fn interleaving_of_a_look_up_and_the_last_forget_leaves_the_inode_known() {
        use std::collections::HashSet;
        use std::sync::Arc;

        use crate::sync::{explore, thread};

        explore(2000, || {
            let (references, known) = (Arc::new(References::new(false)), Arc::new(Mutex::new(HashSet::from([5]))));
            references.telling().told(Ino(5));
            let look_up = {
                let (references, known) = (Arc::clone(&references), Arc::clone(&known));
                move || {
                    let telling = references.telling();
                    let found = known.lock().contains(&5);
                    if found {
                        telling.told(Ino(5));
                    }
                    found
                }
            };
            let others = [thread::spawn(look_up.clone()), thread::spawn(look_up)];
            references.give_back(Ino(5), 1, |ino| assert!(known.lock().remove(&ino.0)));
            let told = others.map(|other| other.join().unwrap()).into_iter().filter(|found| *found).count();
            assert_eq!(known.lock().contains(&5), told > 0, "told {told} times");
            references.give_back(Ino(5), told as u64, |ino| assert!(known.lock().remove(&ino.0)));
        });
    }
}
