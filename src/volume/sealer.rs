//! The threads that hash and seal chunks beside the requests that brought them.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::apart::{begin_contents_sync, write_batch_apart};
use super::frames::BlobCipher;
use crate::format::frame::{CHUNK_LEN, FRAME_OVERHEAD, FrameKind, HEAD_LEN};
use crate::store::{Ballast, Blob, Store};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::channel::{Receiver, Sender, unbounded};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Mutex};

/// Bytes of plaintext that may wait to be sealed, over all files.
pub(super) const BUDGET: usize = 8 << 20;
/// With more than this waiting both threads have enough to do, and no digest is begun.
const BUSY: usize = 128 << 10;
/// With more than this waiting, digests that were begun are given up.
const BEHIND: usize = 2 << 20;
/// Bytes of a blob that the disk is asked to begin with at once.
const STRETCH: u64 = 8 << 20;
/// Buffers kept for the next chunks.
const SPARE_BUFFERS: usize = 64;

/// The bytes of one chunk in memory, in the layout of its frame; given back to the pool when dropped.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    pool: Arc<Pool>,
}

/// Spare buffers.
#[derive(Default)]
struct Pool {
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    fn take(pool: &Arc<Pool>) -> Buffer {
        let mut bytes = pool.spare.lock().pop().unwrap_or_default();
        bytes.clear();
        bytes.resize(HEAD_LEN, 0);
        Buffer { bytes, pool: Arc::clone(pool) }
    }
}

impl std::ops::Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut spare = self.pool.spare.lock();
        if spare.len() < SPARE_BUFFERS && bytes.capacity() >= CHUNK_LEN + FRAME_OVERHEAD {
            spare.push(bytes);
        }
    }
}

/// A chunk on its way into a blob: room for the head, then the plaintext.
pub(super) struct Pending {
    /// The chunk.
    pub chunk: u64,
    /// The number of its frame.
    pub number: u64,
    /// Where the frame goes.
    pub offset: u64,
    /// The frame-to-be.
    pub frame: Buffer,
    /// The frame, without its payload, of a chunk that lies apart.
    pub apart: Option<[u8; FRAME_OVERHEAD]>,
}

impl Pending {
    /// What stands in the blob of it.
    fn in_blob(&self) -> &[u8] {
        match &self.apart {
            None => &self.frame,
            Some(frame) => frame,
        }
    }
}

/// Frames that lie behind one another in a blob.
pub(super) struct Batch {
    /// The blob.
    pub blob: Arc<dyn Blob>,
    /// Its key.
    pub cipher: Arc<BlobCipher>,
    /// The header, when it goes first.
    pub header: Option<Vec<u8>>,
    /// Where the first of these bytes goes.
    pub offset: u64,
    /// The chunks, in order.
    pub chunks: Vec<Pending>,
    /// Told when all is written.
    pub flight: Arc<Flight>,
}

/// Batches of one file that wait for the same thing. One thread at a time sees to them.
#[derive(Default)]
struct Line(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    is_served: bool,
}

impl Line {
    /// Takes a batch; whether the caller is to have what waits seen to.
    fn join(&self, batch: Batch) -> bool {
        let mut waiting = self.0.lock();
        waiting.batches.push_back(batch);
        !std::mem::replace(&mut waiting.is_served, true)
    }

    /// The next batch, for who sees to them; ends that when there is none.
    fn next(&self) -> Option<Batch> {
        let mut waiting = self.0.lock();
        let next = waiting.batches.pop_front();
        waiting.is_served = next.is_some();
        next
    }
}

/// The batches of one file that are on their way.
#[derive(Default)]
pub(super) struct Flight {
    pending: Mutex<usize>,
    landed: Condvar,
    /// Those that wait to be written: the kernel lets one thread at a time write to a file, and a second one that waited for it
    /// there can seal meanwhile.
    sealed: Line,
}

impl Flight {
    /// Waits until none is.
    pub fn wait(&self) {
        let mut pending = self.pending.lock();
        while *pending > 0 {
            self.landed.wait(&mut pending);
        }
    }

    fn start(&self) {
        *self.pending.lock() += 1;
    }

    fn land(&self) {
        let mut pending = self.pending.lock();
        *pending -= 1;
        if *pending == 0 {
            self.landed.notify_all();
        }
    }
}

/// The running digest of one file; its batches pass it in order.
#[derive(Default)]
pub(super) struct Lane {
    line: Line,
    sha: Mutex<Sha256>,
}

impl Lane {
    /// The digest of what has passed so far. Wait for the flight first.
    pub fn digest(&self) -> Sha256 {
        self.sha.lock().clone()
    }

    /// Adds a chunk that is sealed elsewhere.
    pub fn update(&self, plaintext: &[u8]) {
        self.sha.lock().update(plaintext);
    }
}

enum Job {
    Hash(Arc<Lane>),
    Seal(Batch),
    End,
}

struct Shared {
    store: Arc<dyn Store>,
    ballast: Arc<Ballast>,
    budget: usize,
    in_use: Mutex<usize>,
    freed: Condvar,
    taken: AtomicU64,
}

/// A small pool of threads. Before it is dropped, every flight has landed.
pub(super) struct Sealer {
    jobs: Option<Sender<Job>>,
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    threads: Vec<JoinHandle<()>>,
}

impl Sealer {
    /// Starts `threads` threads, for `budget` bytes of plaintext that may wait. The latch of `store` is closed when
    /// acknowledged bytes cannot be written.
    pub fn start(
        threads: usize,
        budget: usize,
        store: Arc<dyn Store>,
        ballast: Arc<Ballast>,
    ) -> std::io::Result<Sealer> {
        let (jobs, work) = unbounded();
        let (in_use, freed, taken) = (Mutex::new(0), Condvar::new(), AtomicU64::new(0));
        let shared = Arc::new(Shared { store, ballast, budget, in_use, freed, taken });
        let threads = (0..threads.max(1))
            .map(|n| {
                let (work, again, shared) = (work.clone(), jobs.clone(), Arc::clone(&shared));
                thread::Builder::new().name(format!("seal-{n}")).spawn(move || serve(&work, &again, &shared))
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        Ok(Sealer { jobs: Some(jobs), shared, pool: Arc::default(), threads })
    }

    /// A buffer for one chunk: room for the head, no plaintext yet.
    pub fn buffer(&self) -> Buffer {
        Pool::take(&self.pool)
    }

    /// Bytes of plaintext that were handed over so far.
    pub fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed)
    }

    /// Whether there is time to hash what is handed over next: less for a digest that was not begun than for one that
    /// would be given up.
    pub fn has_time(&self, is_begun: bool) -> bool {
        *self.shared.in_use.lock() <= if is_begun { BEHIND } else { BUSY }
    }

    /// Hands a batch over; waits while too many bytes are on their way. With a `lane`, the batch passes its digest
    /// after those handed over before it.
    pub fn submit(&self, batch: Batch, lane: Option<&Arc<Lane>>) {
        self.shared.take(batch.chunks.len() * CHUNK_LEN);
        batch.flight.start();
        let Some(jobs) = &self.jobs else { return };
        let job = match lane {
            None => Job::Seal(batch),
            Some(lane) if lane.line.join(batch) => Job::Hash(Arc::clone(lane)),
            Some(_) => return,
        };
        // The receivers live as long as this sender.
        let _alive = jobs.send(job);
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        // Each thread holds a sender of its own, so an explicit end is sent to each.
        if let Some(jobs) = self.jobs.take() {
            for _ in &self.threads {
                let _alive = jobs.send(Job::End);
            }
        }
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

impl Shared {
    fn take(&self, bytes: usize) {
        let mut in_use = self.in_use.lock();
        // A batch larger than the whole budget passes alone.
        while *in_use > 0 && *in_use + bytes > self.budget {
            self.freed.wait(&mut in_use);
        }
        *in_use += bytes;
        self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn give(&self, bytes: usize) {
        *self.in_use.lock() -= bytes;
        self.freed.notify_all();
    }
}

fn serve(work: &Receiver<Job>, again: &Sender<Job>, shared: &Shared) {
    while let Ok(job) = work.recv() {
        match job {
            Job::Hash(lane) => hash(&lane, again),
            Job::Seal(mut batch) => {
                let flight = Arc::clone(&batch.flight);
                watched(shared, || seal(&mut batch));
                if flight.sealed.join(batch) {
                    while let Some(batch) = flight.sealed.next() {
                        let bytes = batch.chunks.len() * CHUNK_LEN;
                        watched(shared, || write(batch, shared));
                        shared.give(bytes);
                        flight.land();
                    }
                }
            }
            Job::End => return,
        }
    }
}

/// Whatever happens to acknowledged bytes, who waits for them must hear of it.
fn watched(shared: &Shared, work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        shared.store.latch().close("acknowledged bytes could not be written: a thread gave up on them");
    }
}

/// Passes the batches of a lane through its digest, each then going on to be sealed by whoever is free.
fn hash(lane: &Lane, again: &Sender<Job>) {
    while let Some(batch) = lane.line.next() {
        {
            let mut sha = lane.sha.lock();
            for pending in &batch.chunks {
                sha.update(pending.frame.get(HEAD_LEN..).unwrap_or_default());
            }
        }
        let _alive = again.send(Job::Seal(batch));
    }
}

fn seal(batch: &mut Batch) {
    for pending in &mut batch.chunks {
        let (offset, number, chunk) = (pending.offset, pending.number, pending.chunk);
        match &mut pending.apart {
            None => {
                batch.cipher.seal(FrameKind::Data, offset, number, chunk, &mut pending.frame);
            }
            Some(frame) => {
                let plain = pending.frame.get_mut(HEAD_LEN..).unwrap_or_default();
                *frame = batch.cipher.seal_apart(offset, number, chunk, plain);
            }
        }
    }
}

/// Writes a sealed batch. The latch lets none through that could not be sealed.
fn write(batch: Batch, shared: &Shared) {
    let outcome = {
        let header = batch.header.iter().map(|h| IoSlice::new(h));
        let frames = batch.chunks.iter().map(|p| IoSlice::new(p.in_blob()));
        let bufs: Vec<IoSlice<'_>> = header.chain(frames).collect();
        // Contents first: a frame that a crash leaves has what it tells of.
        shared.ballast.with_room(|| {
            write_batch_apart(&batch)?;
            batch.blob.write_at(&bufs, batch.offset)
        })
    };
    let end = batch.chunks.last().map_or(batch.offset, |last| last.offset + last.in_blob().len() as u64);
    // A whole stretch is behind us: the disk may begin with it.
    if outcome.is_ok() && batch.offset / STRETCH != end / STRETCH {
        let to = end / STRETCH * STRETCH;
        batch.blob.begin_sync(to - STRETCH, to);
    }
    if outcome.is_ok() {
        begin_contents_sync(&batch, STRETCH);
    }
    if let Err(e) = outcome {
        shared.store.latch().close(format!("acknowledged bytes could not be written: {e}"));
    }
}
