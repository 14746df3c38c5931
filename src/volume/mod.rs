//! The domain: namespace, write and publish, read, remove, quota, retention, holds, recovery, check, rebuild.
//!
//! Joins the store, whose blobs are the truth, and the index, which is derived from them. Knows no FUSE, no HTTP and no
//! command line. The order of locks stands in `docs/ARCHITECTURE.md`.

mod absent;
mod activity;
mod aging;
#[cfg(test)]
mod aging_tests;
mod ahead;
mod apart;
#[cfg(test)]
mod apart_tests;
mod audit;
mod check;
#[cfg(test)]
mod check_tests;
mod commit;
mod contents;
mod copying;
#[cfg(test)]
mod crash_tests;
mod cursor;
mod erasing;
mod facts;
mod findings;
mod flusher;
mod frames;
#[cfg(test)]
mod growth_tests;
mod happenings;
mod history;
#[cfg(test)]
mod history_tests;
mod indexing;
mod inode;
#[cfg(all(test, feature = "interleavings"))]
mod interleaving_tests;
mod ledger;
mod lending;
mod life;
mod listed;
mod meter;
mod names;
pub mod origin;
mod overview;
mod own_id;
mod packed;
mod passing;
mod policy;
mod publisher;
mod purge;
mod quota;
mod reading;
mod reaping;
mod record;
mod records;
mod recovery;
mod renaming;
mod repair;
mod report;
mod retention;
mod retired;
mod rewrite;
mod room;
mod scrub;
mod sealer;
mod state;
mod strays;
mod sweep;
#[cfg(test)]
mod sweep_tests;
mod takeover;
mod tracking;
mod truth;
pub mod types;
mod upload;
#[cfg(test)]
mod upload_tests;
mod vacated;
mod writer;
mod writing;
mod xattr;

use std::collections::HashSet;
use std::sync::Arc;

pub use audit::{AuditFilter, AuditState, Removed};
pub use cursor::{cursor_bytes, cursor_text};
pub use erasing::{
    ErasedMedium, ErasureReport, ErasureWish, KeptMedium, KeptReason, MAX_ERASED, Selection, SignedReport,
};
pub use facts::hex;
pub use findings::{CheckReport, Fault, Finding, Repair, RepairOptions};
pub use happenings::{Happening, HappeningKind, Listener};
pub use history::{Growth, Sample};
pub use life::{InitOptions, OpenOptions};
pub use meter::{BOUNDS, Meter, MountFigures, Operation, OperationFigures};
pub use overview::{AgeClass, Overview};
pub use quota::Class;
pub use scrub::{DamagedMedium, SCRUB_EVERY, SCRUB_RATE, Schedule, ScrubPast, ScrubRun, ScrubStatus};
pub use state::StateBatch;
pub use sweep::SweepStatus;
pub use types::*;

pub use crate::format::frame::CHUNK_LEN;
pub use crate::store::View;
#[doc(hidden)]
pub use record::decode_index_values;

use crate::clock::{Clock, Timestamp};
use crate::crypto::{BlobKey, IndexKey, Suite, VolumeKey};
use crate::ids::{Ino, VolumeId};
use crate::index::Index;
use crate::media::SNIFF_BYTES;
use crate::store::{Ballast, Layout, Store, StoreLock};
use crate::sync::atomic::AtomicBool;
use crate::sync::thread;
use crate::sync::{Condvar, Mutex, RwLock};
use absent::Absent;
use activity::Activity;
use ahead::ReadAhead;
use audit::AuditLog;
use inode::{Inode, InodeCache};
use ledger::Ledger;
use lending::Lending;
use policy::InForce;
use publisher::Publisher;
use quota::Quota;
use reading::ChunkCache;
use record::Totals;
use scrub::Scrubbing;
use sealer::Sealer;
use state::StateLog;
use sweep::Sweeping;
use tracking::Tracking;

/// The deepest a directory lies.
const MAX_DEPTH: usize = 4096;
/// With more unsynced inodes than this, one sync of the whole store is cheaper than one of each.
const MANY_UNSYNCED: usize = 32;

/// An open volume. Shared in an `Arc`; every method may be called from any thread and may block on the disk.
pub struct Volume {
    id: VolumeId,
    suite: Suite,
    key: Arc<VolumeKey>,
    policy_key: BlobKey,
    index_key: Arc<IndexKey>,
    layout: Layout,
    ballast: Arc<Ballast>,
    store: Arc<dyn Store>,
    index: Index,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    policy: RwLock<InForce>,
    quota: Quota,
    totals: Mutex<Totals>,
    cache: InodeCache,
    absent: Absent,
    chunks: ChunkCache,
    lending: Lending,
    sealer: Sealer,
    activity: Activity,
    /// Whether large contents without a cipher are written apart.
    contents_apart: bool,
    meter: Meter,
    publisher: Publisher,
    scrubbing: Scrubbing,
    tracking: Tracking,
    state: StateLog,
    audit: Arc<AuditLog>,
    sweeping: Sweeping,
    noting: history::Noting,
    known_types: Mutex<HashSet<String>>,
    /// Lock 1: held while names change, and while a batch for the index is cut off.
    names: Mutex<()>,
    /// Lock 0: one batch or checkpoint at a time.
    draining: Mutex<()>,
    policy_change: Mutex<()>,
    watcher: RwLock<Option<Arc<dyn Watcher>>>,
    recovery_notes: Vec<String>,
    /// Whether the check of the index that its open has put off is over.
    index_is_checked: AtomicBool,
    /// Whether a full disk keeps the index from being written.
    index_waits: AtomicBool,
    stop: Mutex<bool>,
    wake: Condvar,
    flusher: Mutex<Option<thread::JoinHandle<()>>>,
    lock: Mutex<Option<StoreLock>>,
}

/// An open regular file. Give it back with [`Volume::close`] or [`Volume::close_soon`], which publish what was written.
pub struct OpenFile {
    inode: Arc<Inode>,
    mode: OpenMode,
    class: Class,
    /// Whether it can be read without that being a use.
    is_look: bool,
    ahead: ReadAhead,
}

impl OpenFile {
    /// The inode.
    #[must_use]
    pub fn ino(&self) -> Ino {
        self.inode.ino
    }

    /// How it was opened.
    #[must_use]
    pub fn mode(&self) -> OpenMode {
        self.mode
    }

    /// The same handle, whose writes are charged to `class`.
    #[must_use]
    pub fn charged_to(mut self, class: Class) -> OpenFile {
        self.class = class;
        self
    }
}

impl Volume {
    /// The volume's id.
    #[must_use]
    pub fn id(&self) -> VolumeId {
        self.id
    }

    /// The time by the volume's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What counts the requests of a mount.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// How often sealed bytes were not what had been written, since the volume was opened, whoever read them. What a crash
    /// has torn counts too when recovery comes upon it.
    #[must_use]
    pub fn forged(&self) -> u64 {
        self.key.forged()
    }

    /// Has `watcher` told of changes that the kernel does not know of. While there is one, an inode without a name waits
    /// for [`Volume::forget`].
    pub fn set_watcher(&self, watcher: Arc<dyn Watcher>) {
        *self.watcher.write() = Some(watcher);
    }

    fn has_watcher(&self) -> bool {
        self.watcher.read().is_some()
    }

    fn tell_changed(&self, ino: Ino) {
        let watcher = self.watcher.read().clone();
        if let Some(watcher) = watcher {
            watcher.inode_changed(ino);
        }
    }
}
