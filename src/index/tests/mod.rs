//! The index against a model, and against everything that may be wrong with its directory.

mod crash;
mod damage;
mod later;
mod model;
mod readers;
mod space;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use xxhash_rust::xxh3::xxh3_128;

use super::*;

/// Stands in for a cipher: it hides nothing, but opens only what was sealed under the same key for the same place.
pub(super) struct TestSealer {
    secret: u8,
    /// Whether everything fails to open.
    broken: AtomicBool,
}

impl TestSealer {
    pub(super) fn new(secret: u8) -> Arc<TestSealer> {
        Arc::new(TestSealer { secret, broken: AtomicBool::new(false) })
    }

    pub(super) fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::Relaxed);
    }

    fn tag(&self, key: &[u8], body: &[u8]) -> [u8; 16] {
        let len = (key.len() as u64).to_be_bytes();
        xxh3_128(&[&[self.secret], &len[..], key, body].concat()).to_be_bytes()
    }
}

impl Sealer for TestSealer {
    fn seal(&self, key: &[u8], plain: &[u8]) -> Vec<u8> {
        let body: Vec<u8> = plain.iter().map(|byte| byte ^ self.secret).collect();
        [&self.tag(key, &body)[..], &body].concat()
    }

    fn open(&self, key: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (tag, body) = sealed.split_at_checked(16)?;
        if self.broken.load(Ordering::Relaxed) || tag != self.tag(key, body) {
            return None;
        }
        Some(body.iter().map(|byte| byte ^ self.secret).collect())
    }
}

pub(super) fn sealer() -> Arc<dyn Sealer> {
    TestSealer::new(7)
}

pub(super) fn opened(dir: &Path) -> Index {
    match Index::open(dir, Options::default(), sealer()) {
        Opened::Ready(index) => index,
        Opened::Unusable { reason, .. } => panic!("unusable: {reason}"),
        Opened::Locked => panic!("locked"),
    }
}

/// The reason for which the index in `dir` cannot be used, and whether that is a full disk.
pub(super) fn refused(dir: &Path, sealer: Arc<dyn Sealer>) -> (String, bool) {
    match Index::open(dir, Options::default(), sealer) {
        Opened::Ready(_) => panic!("it opened"),
        Opened::Unusable { reason, full_disk } => (reason, full_disk),
        Opened::Locked => panic!("locked"),
    }
}

/// Writes everything that waits.
pub(super) fn write(index: &Index) {
    assert!(index.freeze());
    index.write_frozen().unwrap();
}

/// Puts `count` records with values that follow from their numbers.
pub(super) fn fill(index: &Index, count: u64) {
    for n in 0..count {
        index.put(Table::Inodes, &n.to_be_bytes(), vec![n as u8; 100 + n as usize % 100]);
        index.put(Table::Names, &xxh3_128(&n.to_be_bytes()).to_be_bytes(), n.to_be_bytes().to_vec());
    }
}
