//! The life of a volume: made, opened, shut down.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::absent::Absent;
use super::activity::Activity;
use super::audit::AuditLog;
use super::frames::BlobCipher;
use super::history::Noting;
use super::indexing::IndexSealer;
use super::inode::{InodeCache, State};
use super::ledger::Ledger;
use super::lending::Lending;
use super::meter::Meter;
use super::policy::InForce;
use super::publisher::Publisher;
use super::quota::Quota;
use super::reading::ChunkCache;
use super::record::Record;
use super::recovery::Journals;
use super::scrub::Scrubbing;
use super::sealer::{BUDGET, Sealer};
use super::state::StateLog;
use super::sweep::Sweeping;
use super::tracking::Tracking;
use super::types::{FileKind, Policy, Witness};
use super::{Volume, flusher, policy, recovery};
use crate::clock::{self, Clock, SystemClock};
use crate::crypto::{IndexKey, KeySource, Suite, VolumeKey};
use crate::error::{Error, Kind, Result};
use crate::format::attributes::Attributes;
use crate::format::frame::{FrameKind, HEADER_LEN, encode_trailer};
use crate::format::superblock::Superblock;
use crate::ids::{BlobId, Ino, VolumeId};
use crate::index::{self, Index, Opened};
use crate::store::{
    Ballast, DirStore, JournalFile, Layout, Series, Store, StoreLock, mend_superblock, read_superblock,
    write_superblock,
};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread;
use crate::sync::{Condvar, Mutex, RwLock};

/// What damaged records of the journal may have told.
const BACK_AGAIN: &str = "a file that was removed or replaced just before the volume last ended may be back";
/// The note of the session under which a store was last opened.
const SESSION: &str = "session";
/// Inodes kept in memory that nobody uses.
const CACHED_INODES: usize = 4096;
/// Threads that hash and seal.
const SEAL_THREADS: usize = 2;
/// Changes in memory at which the index wants to be written.
const PENDING_LIMIT: usize = 16_384;

/// Called while blobs are looked at: blobs done, blobs in all.
pub type Progress = Box<dyn Fn(u64, u64) + Send + Sync>;

/// How a volume is opened.
pub struct OpenOptions {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Bytes of memory for the index's cache.
    pub index_cache_bytes: u64,
    /// Throw the index away and make it anew from the blobs.
    pub rebuild_index: bool,
    /// Told how a rebuild gets on.
    pub progress: Option<Progress>,
    /// Told of what the end of the process would lose.
    pub witness: Option<Arc<dyn Witness>>,
    /// Write large media of a volume without a cipher apart, for [`Volume::pass_through`].
    pub contents_apart: bool,
    /// Take over from a process whose mount has outlived it: inodes without a name wait for [`Volume::forget`], as if this
    /// process had removed their names, and no number it may have given out is given out again. What of it is not whole
    /// any more goes.
    pub takes_over: bool,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions {
            clock: Arc::new(SystemClock),
            index_cache_bytes: 16 << 20,
            rebuild_index: false,
            progress: None,
            witness: None,
            contents_apart: false,
            takes_over: false,
        }
    }
}

/// What a new volume starts with.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Whether bytes and names are encrypted; if not they are checksummed only.
    pub encrypted: bool,
    /// The policy.
    pub policy: Policy,
    /// Owner of the root directory.
    pub root_uid: u32,
    /// Group of the root directory.
    pub root_gid: u32,
    /// Mode of the root directory.
    pub root_mode: u32,
}

impl Volume {
    /// Makes a volume in an empty or absent directory; durable on return. `source` opens its first key slot; none only
    /// for a volume that is not encrypted.
    ///
    /// # Errors
    /// `Exists` when something is there already, `Invalid`, `NoSpace`, `Io`.
    pub fn init(path: &Path, source: Option<&KeySource>, options: &InitOptions) -> Result<VolumeId> {
        policy::validate(&options.policy)?;
        let suite = if options.encrypted { Suite::XChaCha20Poly1305 } else { Suite::Checksum };
        if options.encrypted != source.is_some() {
            return Err(Error::new(
                Kind::Invalid,
                "an encrypted volume needs a key, and one without a cipher takes none",
            ));
        }
        let layout = Layout::new(path);
        layout.make()?;
        let mut id = [0; 16];
        clock::random_bytes(&mut id);
        let id = VolumeId(*uuid::Builder::from_random_bytes(id).as_uuid().as_bytes());
        let key = if options.encrypted { VolumeKey::generate() } else { VolumeKey::none() };
        let mut superblock = Superblock::new(id, suite, &key)?;
        if let Some(source) = source {
            superblock.add_slot(&key, source, "")?;
        }
        let store = DirStore::open(&layout.blobs())?;
        write_root(&store, &key, suite, id, options)?;
        policy::write(
            &layout,
            &key.sub_key(suite, id, "policy"),
            id,
            &InForce::new(options.policy.clone(), None, false),
        )?;
        // The superblock makes it a volume, so it is written last.
        write_superblock(path, &superblock)?;
        Ok(id)
    }

    /// Opens the volume at `path`: takes its lock, unlocks its key with the first source that fits, and brings the index
    /// to what the blobs say.
    ///
    /// # Errors
    /// `NotFound`, `Locked` naming the holder, `WrongKey`, `Damaged`, `Version`, `Io`.
    pub fn open(path: &Path, sources: &[KeySource], options: OpenOptions) -> Result<Arc<Volume>> {
        let path = std::path::absolute(path).map_err(|e| Error::io(path.display(), e))?;
        let superblock = read_superblock(&path)?;
        let key = Arc::new(superblock.unlock(sources)?.0);
        let lock = StoreLock::take(&path)?;
        match mend_superblock(&path, &superblock) {
            Ok(true) => tracing::warn!("a damaged copy of the superblock was written again from the other"),
            Ok(false) => {}
            // One copy suffices, and a full disk must not keep a volume from opening.
            Err(e) => tracing::warn!("a damaged copy of the superblock could not be written again: {e}"),
        }
        let volume = match Volume::assemble(&path, &superblock, &key, &options) {
            // Only the index can be damaged as a whole, and it can be made anew.
            Err(e) if e.kind() == Kind::Damaged && !options.rebuild_index => {
                tracing::warn!("the index is made anew from the blobs, since it is damaged: {e}");
                Volume::assemble(&path, &superblock, &key, &OpenOptions { rebuild_index: true, ..options })?
            }
            other => other?,
        };
        *volume.lock.lock() = Some(lock);
        let volume = Arc::new(volume);
        let weak = Arc::downgrade(&volume);
        volume.publisher.start(&weak)?;
        let thread = thread::Builder::new().name("upkeep".into()).spawn(move || flusher::run(&weak));
        *volume.flusher.lock() = Some(thread.map_err(|e| Error::io("a thread", e))?);
        Ok(volume)
    }

    /// Opens all parts but the lock, and recovers.
    fn assemble(path: &Path, superblock: &Superblock, key: &Arc<VolumeKey>, options: &OpenOptions) -> Result<Volume> {
        let (id, suite) = (superblock.volume(), superblock.suite());
        let layout = Layout::new(path);
        let store = DirStore::open(&layout.blobs())?;
        let is_plain = suite == Suite::Checksum;
        let store: Arc<dyn Store> = Arc::new(if is_plain { store.with_contents() } else { store });
        let index_key = Arc::new(key.index_key(suite, id));
        let policy_key = key.sub_key(suite, id, "policy");
        let (policy, mut notes) = policy::read(&layout, &policy_key, id)?;
        let ballast = Arc::new(Ballast::new(path));
        let mut generations = JournalFile::generations(Series::Changes, path)?;
        let cache = options.index_cache_bytes;
        let mut opened = open_index(&layout, &ballast, cache, options.rebuild_index, &index_key, &mut notes)?;
        let mut known = recovery::generation_of(&opened).unwrap_or(None);
        Ledger::forget_unbegun(path, &mut generations, known)?;
        let session = index::session(&layout.blobs());
        let noted = layout.read_small(SESSION)?;
        // Whether neither the machine nor the mount of the file system has ended since the store was last open.
        let same_session = session.is_some() && noted.as_deref() == session.as_ref().map(|session| session.as_bytes());
        let read = |known| read_journals(path, id, &index_key, &generations, known, same_session);
        let mut journals = read(known)?;
        if !opened.is_new() && !journals.is_complete {
            notes.push("the index did not fit the store and was made anew from the blobs".into());
            opened.close()?;
            drop(opened);
            opened = open_index(&layout, &ballast, cache, true, &index_key, &mut notes)?;
            known = None;
            journals = read(known)?;
        }
        let sealer = Sealer::start(SEAL_THREADS, BUDGET, Arc::clone(&store), Arc::clone(&ballast))
            .map_err(|e| Error::io("a thread", e))?;
        let latch = Arc::clone(store.latch());
        let audit_key = key.sub_key(suite, id, "audit");
        let audit = Arc::new(AuditLog::new(path.to_owned(), id, audit_key, Arc::clone(&latch), Arc::clone(&ballast)));
        let ledger = Ledger::start(path, id, &index_key, &generations, (&latch, &ballast), Arc::clone(&audit))?;
        let state_key = key.sub_key(suite, id, "state");
        let state = StateLog::open(path, id, state_key, Arc::clone(&latch), Arc::clone(&ballast), &mut notes)?;
        let mut volume = Volume {
            id,
            suite,
            key: Arc::clone(key),
            policy_key,
            index_key,
            layout,
            ballast,
            index: opened,
            ledger,
            clock: Arc::clone(&options.clock),
            policy: RwLock::new(policy),
            quota: Quota::default(),
            totals: Mutex::default(),
            cache: InodeCache::new(CACHED_INODES),
            absent: Absent::default(),
            chunks: ChunkCache::new(),
            lending: Lending::default(),
            sealer,
            activity: Activity::default(),
            contents_apart: is_plain && options.contents_apart,
            meter: Meter::new(),
            publisher: Publisher::default(),
            scrubbing: Scrubbing::default(),
            store,
            tracking: Tracking { witness: options.witness.clone(), ..Tracking::default() },
            state,
            audit,
            sweeping: Sweeping::default(),
            noting: Noting::default(),
            known_types: Mutex::new(HashSet::new()),
            names: Mutex::new(()),
            draining: Mutex::new(()),
            policy_change: Mutex::new(()),
            watcher: RwLock::new(None),
            recovery_notes: Vec::new(),
            index_is_checked: AtomicBool::new(false),
            index_waits: AtomicBool::new(false),
            stop: Mutex::new(false),
            wake: Condvar::new(),
            flusher: Mutex::new(None),
            lock: Mutex::new(None),
        };
        // Another session of the machine has ended every mount.
        journals.takes_over = options.takes_over && same_session;
        volume.bring_up(&journals, &options.progress, &mut notes)?;
        if same_session && journals.lost_records > 0 && !journals.is_complete {
            notes.push(format!("{} records of the journal are damaged: {}", journals.lost_records, BACK_AGAIN));
        }
        if !same_session {
            // Only now: a recovery that is cut short has to verify all of it again.
            note_session(&volume.layout, session.as_deref());
        }
        for note in &notes {
            tracing::warn!("{note}");
        }
        volume.recovery_notes = notes;
        Ok(volume)
    }

    /// Recovers, or rebuilds when the index and the journals do not fit together, and starts a new journal.
    fn bring_up(&self, journals: &Journals, progress: &Option<Progress>, notes: &mut Vec<String>) -> Result<()> {
        let silent = |_: u64, _: u64| {};
        let progress: &dyn Fn(u64, u64) = match progress {
            Some(told) => told,
            None => &silent,
        };
        if journals.is_complete {
            notes.extend(self.recover(journals)?);
        } else {
            notes.extend(self.rebuild(journals, progress)?);
        }
        self.sort_late();
        let is_sorted = !journals.is_complete || self.is_sorted()?;
        if is_sorted {
            self.note_sorting();
        } else {
            // What recovery has put in is under the policy in force, and the rest is not.
            self.forget_sorting();
        }
        let totals = self.totals.lock().clone();
        self.quota.set(totals.bytes, totals.media);
        self.known_types.lock().extend(self.types_known()?);
        let first_new = self.first_unknown_blob();
        self.tracking.first_new_blob.store(first_new, Ordering::Release);
        let lost = std::mem::take(&mut *self.tracking.to_commit.lock());
        for ino in lost {
            let inode = self.inode(ino)?;
            let mut state = inode.state.write();
            if let Err(e) = self.load(&mut state) {
                if e.kind() != Kind::Damaged {
                    return Err(e);
                }
                // Its new name stands in the index alone, since its blob is left as it is.
                notes.push(format!("inode {ino} has a new name that its blob does not tell: {e}"));
                continue;
            }
            state.attrs_changed = true;
            if state.record.location.is_none() && self.store.open(BlobId(ino.0))?.is_some() {
                // What is left of its blob says nothing; it stays where it is, for who can make something of it.
                state.blob = Some(self.new_blob(self.next_blob()));
            }
            self.note_change(&inode, &state)?;
            self.commit(&inode, &mut state)?;
        }
        self.checkpoint_if_room()?;
        self.tend_ballast();
        if is_sorted { Ok(()) } else { self.reclass_all() }
    }

    /// Publishes what is open, completes the index and lets go of the store. Nothing may be asked of the volume after.
    ///
    /// # Errors
    /// `NoSpace`, `Poisoned`, `Io`: what was acknowledged and synced is safe all the same, and the next open recovers.
    pub fn shutdown(&self) -> Result<()> {
        self.end(false)
    }

    /// The same for a process that another one follows, while programs go on using the mount: what they have open, inodes
    /// without a name included, is committed as it is now and waits for the next open, with [`OpenOptions::takes_over`].
    ///
    /// # Errors
    /// As [`Volume::shutdown`]. The witness knows what was not committed.
    pub fn pass_on(&self) -> Result<()> {
        self.end(true)
    }

    fn end(&self, hands_over: bool) -> Result<()> {
        *self.stop.lock() = true;
        self.end_scrub();
        self.wake.notify_all();
        if let Some(thread) = self.flusher.lock().take() {
            let _panicked = thread.join();
        }
        self.publisher.finish();
        let outcome = self.close_all(hands_over);
        *self.lock.lock() = None;
        outcome
    }

    fn close_all(&self, hands_over: bool) -> Result<()> {
        self.store.latch().pass()?;
        *self.watcher.write() = None;
        let stale = std::mem::take(&mut *self.tracking.stale_dirs.lock());
        for ino in stale {
            let Ok(inode) = self.inode(ino) else { continue };
            let mut state = inode.state.write();
            if !state.removed {
                self.note_change(&inode, &state)?;
                state.attrs_changed = true;
                self.commit(&inode, &mut state)?;
            }
        }
        let uncommitted: Vec<_> = self.tracking.uncommitted.lock().values().map(Arc::clone).collect();
        for inode in uncommitted {
            // Nobody will close what is still open: this is its close.
            self.commit(&inode, &mut inode.state.write())?;
        }
        if hands_over {
            self.commit_nameless()?;
        }
        self.sync_all()?;
        let orphans: Vec<Ino> = self.tracking.orphans.lock().keys().copied().collect();
        for ino in orphans.into_iter().filter(|_| !hands_over) {
            if let Some((inode, _)) = self.tracking.orphans.lock().get(&ino) {
                inode.state.write().opens = 0;
            }
            self.forget(ino);
        }
        self.reap()?;
        self.reap()?;
        self.audit.sync()?;
        match self.checkpoint().and_then(|()| self.index.close()) {
            // Everything is in the store; the next open reads the journals, as after an unclean end.
            Err(e) if e.kind() == Kind::NoSpace => {
                tracing::warn!("the index could not be completed: {e}");
                Ok(())
            }
            other => other,
        }
    }
}

/// Opens the index. One that cannot be used is thrown away; on a full disk that makes room, for it or for the journal,
/// and when there is still too little the index is kept in memory.
fn open_index(
    layout: &Layout,
    ballast: &Ballast,
    cache_bytes: u64,
    anew: bool,
    key: &Arc<IndexKey>,
    notes: &mut Vec<String>,
) -> Result<Index> {
    let dir = layout.index();
    let sealer = || Arc::new(IndexSealer(Arc::clone(key)));
    let settings = index::Options { cache_bytes, pending_limit: PENDING_LIMIT };
    if anew {
        index::discard(&dir)?;
    }
    let mut opened = Index::open(&dir, settings, sealer());
    if matches!(opened, Opened::Unusable { full_disk: true, .. }) {
        ballast.release();
        opened = Index::open(&dir, settings, sealer());
    }
    if let Opened::Unusable { reason, .. } = &opened {
        notes.push(format!("the index was made anew from the blobs ({reason})"));
        index::discard(&dir)?;
        opened = Index::open(&dir, settings, sealer());
    }
    match opened {
        Opened::Ready(index) => Ok(index),
        Opened::Locked => Err(Error::new(Kind::Locked, format!("{} is in use by another process", dir.display()))),
        Opened::Unusable { reason, .. } => {
            notes.push(format!("the index is kept in memory until the next mount ({reason})"));
            Ok(Index::in_memory(sealer()))
        }
    }
}

/// Notes the session under which everything in the store is known to be whole. On a full disk the old note stays, and the
/// next open verifies more than it needs to.
fn note_session(layout: &Layout, session: Option<&str>) {
    if let Some(session) = session
        && let Err(e) = layout.write_small(SESSION, session.as_bytes())
    {
        tracing::warn!("the session was not noted: {e}");
    }
}

/// Reads the journals from generation `known` on, which the index is complete up to.
fn read_journals(
    path: &Path,
    id: VolumeId,
    key: &IndexKey,
    generations: &[u64],
    known: Option<u64>,
    same_session: bool,
) -> Result<Journals> {
    let is_complete = known.is_some_and(|known| generations.contains(&known));
    let mut journals = Journals { is_complete, same_session, ..Journals::default() };
    let mut is_first = true;
    for generation in generations.iter().filter(|g| known.is_none_or(|known| **g >= known)) {
        match Ledger::read(path, id, key, *generation)? {
            Some(read) => {
                if is_first {
                    journals.first_new_blob = read.header.first_new_blob;
                }
                journals.add(read.records);
                // Only a power loss tears records.
                journals.is_complete &= read.is_whole && (read.lost == 0 || !same_session);
                journals.lost_records += read.lost;
            }
            None => journals.is_complete = false,
        }
        is_first = false;
    }
    Ok(journals)
}

/// Writes the blob of the root directory.
fn write_root(store: &DirStore, key: &VolumeKey, suite: Suite, id: VolumeId, options: &InitOptions) -> Result<()> {
    let mut salt = [0; 24];
    clock::random_bytes(&mut salt);
    let cipher = BlobCipher::new(key, suite, id, BlobId(Ino::ROOT.0), salt);
    let mut attrs = Attributes::new(Ino::ROOT, FileKind::Directory, SystemClock.now());
    (attrs.mode, attrs.uid, attrs.gid) = (options.root_mode & 0o7777, options.root_uid, options.root_gid);
    attrs.seq = 1;
    let payload = State::new(Record::new(attrs), false).record.attrs.encode();
    let frame = cipher.seal_meta(FrameKind::Attributes, HEADER_LEN as u64, 0, &payload);
    let trailer = encode_trailer(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    let blob = store.create(cipher.blob)?;
    let parts = [cipher.header(), frame.bytes, trailer.to_vec()];
    blob.write_at(&parts.each_ref().map(|p| std::io::IoSlice::new(p)), 0)?;
    blob.sync()
}
