//! Names that were looked up a moment ago and are not there. A program that makes a file looks for it first, and the
//! index need not be asked twice.

use std::hash::{BuildHasher, RandomState};

use super::record::Named;
use crate::error::Result;
use crate::ids::Ino;
use crate::sync::Mutex;

const SHARDS: usize = 64;

#[derive(Default)]
struct Shard {
    name: Option<(Ino, Vec<u8>)>,
    /// Counts the names that were made.
    made: u64,
}

/// The name of each shard that was last found absent. The locks are leaves.
pub(super) struct Absent {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

impl Default for Absent {
    fn default() -> Absent {
        Absent { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

impl Absent {
    fn shard(&self, parent: Ino, name: &[u8]) -> &Mutex<Shard> {
        let nth = self.hasher.hash_one((parent, name)) as usize % SHARDS;
        // In bounds: the remainder of their number.
        #[expect(clippy::indexing_slicing, reason = "in bounds by the remainder above")]
        &self.shards[nth]
    }

    /// Looks a name up, and remembers that it is not there unless it is made meanwhile.
    pub fn watch(
        &self,
        parent: Ino,
        name: &[u8],
        look_up: impl FnOnce() -> Result<Option<Named>>,
    ) -> Result<Option<Named>> {
        let shard = self.shard(parent, name);
        let made = shard.lock().made;
        let found = look_up()?;
        if found.is_none() {
            let mut shard = shard.lock();
            if shard.made == made {
                shard.name = Some((parent, name.to_vec()));
            }
        }
        Ok(found)
    }

    /// Whether a name is known not to be there. The caller holds the namespace lock, under which names are made.
    pub fn is_known(&self, parent: Ino, name: &[u8]) -> bool {
        let shard = self.shard(parent, name).lock();
        shard.name.as_ref().is_some_and(|(dir, absent)| *dir == parent && absent == name)
    }

    /// A name is made.
    pub fn forget(&self, parent: Ino, name: &[u8]) {
        let mut shard = self.shard(parent, name).lock();
        shard.made += 1;
        shard.name = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::FileKind;

    #[test]
    fn a_name_is_known_absent_until_it_is_made() {
        let absent = Absent::default();
        let dir = Ino(1);
        assert!(!absent.is_known(dir, b"a"));
        assert!(absent.watch(dir, b"a", || Ok(None)).unwrap().is_none());
        assert!(absent.is_known(dir, b"a") && !absent.is_known(Ino(2), b"a"));
        absent.forget(dir, b"a");
        assert!(!absent.is_known(dir, b"a"));

        let made_meanwhile = || {
            absent.forget(dir, b"b");
            Ok(None)
        };
        absent.watch(dir, b"b", made_meanwhile).unwrap();
        assert!(!absent.is_known(dir, b"b"));
        let there = Named { ino: Ino(9), link: 3, kind: FileKind::Regular };
        absent.watch(dir, b"c", || Ok(Some(there))).unwrap();
        assert!(!absent.is_known(dir, b"c"));
    }
}
