//! What the upstream has told already: it delivers some things twice.

use std::collections::{HashMap, VecDeque};

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::node::queue::{Plan, each};
use crate::node::tables::SEEN;
use crate::sync::Mutex;
use crate::volume::Volume;

/// How long it is known that something was seen: the upstream delivers again for up to seven days.
const WINDOW_MS: i64 = 7 * 24 * 3600 * 1000;
/// The most that is known.
const MOST: usize = 200_000;
/// What is forgotten with one that is noted.
const FORGET_STEP: usize = 4;

type Key = [u8; 16];

#[derive(Default)]
struct Known {
    at: HashMap<Key, i64>,
    order: VecDeque<(i64, Key)>,
}

/// The ids that were seen of late.
#[derive(Default)]
pub struct Seen(Mutex<Known>);

fn key(id: &str) -> Key {
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    let mut key = [0; 16];
    key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    key
}

impl Seen {
    /// Reads what a volume keeps.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn load(volume: &Volume) -> Result<Seen> {
        let mut known = Known::default();
        each(volume, SEEN, |key, at| {
            if let (Ok(key), Ok(at)) = (key.try_into(), at.try_into()) {
                let at = i64::from_be_bytes(at);
                known.at.insert(key, at);
                known.order.push_back((at, key));
            }
        })?;
        known.order.make_contiguous().sort_unstable();
        Ok(Seen(Mutex::new(known)))
    }

    /// Whether this was seen. If not, the plan notes it, and [`Seen::remember`] is to be called before that is kept.
    #[must_use]
    pub fn note(&self, plan: &mut Plan, id: &str, now: i64) -> bool {
        let key = key(id);
        let is_known = self.0.lock().at.contains_key(&key);
        if !is_known {
            plan.put(SEEN, &key, now.to_be_bytes().to_vec());
        }
        is_known
    }

    /// What a plan notes is about to be kept.
    pub fn remember(&self, ids: &[String], now: i64) {
        let mut known = self.0.lock();
        for id in ids {
            let key = key(id);
            known.at.insert(key, now);
            known.order.push_back((now, key));
        }
    }

    /// What a plan noted was not kept.
    pub fn take_back(&self, ids: &[String]) {
        let mut known = self.0.lock();
        let gone: Vec<Key> = ids.iter().map(|id| key(id)).collect();
        known.order.retain(|(_, key)| !gone.contains(key));
        for key in gone {
            known.at.remove(&key);
        }
    }

    /// Forgets what is too old or too much, a few for each of `count` that are noted.
    pub fn forget(&self, plan: &mut Plan, count: usize, now: i64) {
        let mut known = self.0.lock();
        for _ in 0..count.saturating_mul(FORGET_STEP) {
            let Some((at, key)) = known.order.front().copied() else { break };
            if known.order.len() <= MOST && now.saturating_sub(at) <= WINDOW_MS {
                break;
            }
            known.order.pop_front();
            known.at.remove(&key);
            plan.delete(SEEN, &key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_known_for_seven_days() {
        let seen = Seen::default();
        let note = |id: &str, now| {
            seen.forget(&mut Plan::new(), 1, now);
            let mut plan = Plan::new();
            let known = seen.note(&mut plan, id, now);
            assert_eq!(plan.is_empty(), known);
            if !known {
                seen.remember(&[id.to_owned()], now);
            }
            known
        };
        seen.remember(&["a".to_owned()], 0);
        seen.take_back(&["a".to_owned()]);
        assert!(!note("a", 0));
        assert!(note("a", WINDOW_MS));
        assert!(!note("b", WINDOW_MS + 1));
        assert!(!note("a", WINDOW_MS + 2));
    }

    #[test]
    fn no_more_is_known_than_has_room() {
        let seen = Seen::default();
        let ids: Vec<_> = (0..MOST + 50).map(|n| n.to_string()).collect();
        seen.remember(&ids, 0);
        let mut plan = Plan::new();
        seen.forget(&mut plan, 100, 0);
        assert!(!plan.is_empty());
        assert_eq!(seen.0.lock().order.len(), MOST);
        assert_eq!(seen.0.lock().at.len(), MOST);
        assert!(!seen.note(&mut Plan::new(), "49", 0));
        assert!(seen.note(&mut Plan::new(), "50", 0));
    }
}
