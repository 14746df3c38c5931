//! Scrub: everything is read again from the disk and verified, at a bounded rate, beside all else. It goes on where it was
//! after any end of the volume, and begins by itself when the last one is long ago.

mod note;
mod walk;

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use note::{DamagedMedium, ScrubPast, ScrubRun};

use super::Volume;
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::format::frame::STRIDE;
use crate::ids::Ino;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Mutex};
use note::Note;
use walk::Walk;

/// Bytes a second that a scrub reads when nobody says otherwise.
pub const SCRUB_RATE: u64 = 16 << 20;
/// How long after the last scrub the next one begins when nobody says otherwise.
pub const SCRUB_EVERY: Duration = Duration::from_secs(30 * 86_400);
/// Chunks of one step at most.
const STEP_CHUNKS: u64 = 16;
/// Steps a second at a low rate.
const STEPS_A_SECOND: u64 = 4;
/// Waiting for less than this is put off.
const LEAST_WAIT: Duration = Duration::from_millis(50);
/// How much slower a scrub is while programs use the volume.
const YIELDING: u32 = 4;
/// The place is made durable after so much waiting, or so many bytes.
const SAVE_EVERY: Duration = Duration::from_secs(5);
const SAVE_BYTES: u64 = 256 << 20;
/// Damaged media that the state names.
const NAMED: usize = 100;

/// How scrubs are doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// Whether one runs now.
    pub is_running: bool,
    /// Its rate, in bytes a second; none is as fast as the disk.
    pub rate: Option<u64>,
    /// The one that runs, or waits to go on.
    pub run: Option<ScrubRun>,
    /// The last one that came to its end.
    pub last: Option<ScrubPast>,
    /// When the next one begins by itself, if any does.
    pub next: Option<Timestamp>,
    /// Media known to be damaged: found by the one that runs, or else by the last one. At most 100.
    pub damaged: Vec<DamagedMedium>,
    /// How many there are.
    pub damaged_media: u64,
}

/// What is asked of the thread that scrubs.
#[derive(Default)]
struct Wish {
    is_running: bool,
    stop: bool,
    rate: Option<u64>,
}

#[derive(Default)]
struct Control {
    wish: Mutex<Wish>,
    wake: Condvar,
}

/// When a scrub begins by itself, and how fast it is then.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// How long after the last one.
    pub every: Duration,
    /// Its rate, in bytes a second.
    pub rate: Option<u64>,
}

/// All of a volume's scrubbing.
#[derive(Default)]
pub(super) struct Scrubbing {
    /// A leaf lock.
    note: Mutex<Option<Note>>,
    control: Arc<Control>,
    /// Held while one is started or stopped.
    thread: Mutex<Option<JoinHandle<()>>>,
    schedule: Mutex<Option<Schedule>>,
    /// Media found damaged since the volume was opened.
    found: AtomicU64,
}

impl Scrubbing {
    /// Media found damaged since the volume was opened; one that is found twice counts twice.
    pub fn found(&self) -> u64 {
        self.found.load(Ordering::Acquire)
    }
}

impl Volume {
    fn scrub_note(&self) -> Note {
        let mut note = self.scrubbing.note.lock();
        let key = || self.key.sub_key(self.suite, self.id, "scrub");
        note.get_or_insert_with(|| note::read(&self.layout, &key(), self.id)).clone()
    }

    /// Keeps a note in memory, and in the store if that can be written.
    fn keep_note(&self, note: &Note) {
        *self.scrubbing.note.lock() = Some(note.clone());
        if self.store.latch().reason().is_none() {
            let key = self.key.sub_key(self.suite, self.id, "scrub");
            if let Err(e) = self.store.latch().watch(note::write(&self.layout, &key, self.id, note)) {
                tracing::warn!("the place of the scrub was not noted: {e}");
            }
        }
    }

    /// Begins a scrub, or goes on with one that was cut short; with `anew` from the beginning. Returns at once. One that
    /// runs goes on at the new rate.
    ///
    /// # Errors
    /// `Busy` when one runs and is to begin anew, or the volume is being shut down; `Io` when no thread can be had.
    pub fn start_scrub(self: &Arc<Volume>, rate: Option<u64>, anew: bool) -> Result<()> {
        let mut thread = self.scrubbing.thread.lock();
        // Under the lock with which a shutdown ends scrubs: none begins behind it.
        if *self.stop.lock() {
            return Err(Error::new(Kind::Busy, "the volume is being shut down"));
        }
        let control = Arc::clone(&self.scrubbing.control);
        {
            let mut wish = control.wish.lock();
            if wish.is_running && anew {
                return Err(Error::new(Kind::Busy, "a scrub runs; stop it first"));
            }
            wish.rate = rate.map(|rate| rate.max(1));
            if wish.is_running {
                // It may be waiting at the old rate.
                control.wake.notify_all();
                return Ok(());
            }
            (wish.is_running, wish.stop) = (true, false);
        }
        if let Some(over) = thread.take() {
            let _panicked = over.join();
        }
        let mut note = self.scrub_note();
        note.stopped = None;
        if anew {
            note.run = None;
        }
        let started = self.clock.now();
        note.run.get_or_insert(ScrubRun { started, inode: 0, chunk: None, blobs: 0, bytes: 0, damaged: 0 });
        self.keep_note(&note);
        tracing::info!(rate, "a scrub begins or goes on");
        let (weak, of_thread) = (Arc::downgrade(self), Arc::clone(&control));
        let spawned = thread::Builder::new().name("scrub".into()).spawn(move || scrub(&weak, &of_thread, note));
        match spawned {
            Ok(spawned) => *thread = Some(spawned),
            Err(e) => {
                control.wish.lock().is_running = false;
                return Err(Error::io("a thread", e));
            }
        }
        Ok(())
    }

    /// Stops the scrub that runs, or waits to go on; it does not go on by itself before the next is due. Its place is
    /// durable on return.
    pub fn stop_scrub(&self) {
        self.end_scrub();
        let mut note = self.scrub_note();
        if note.run.is_some() && note.stopped.is_none() {
            note.stopped = Some(self.clock.now());
            self.keep_note(&note);
        }
    }

    /// Ends the thread, which notes its place.
    pub(super) fn end_scrub(&self) {
        let mut thread = self.scrubbing.thread.lock();
        self.scrubbing.control.wish.lock().stop = true;
        self.scrubbing.control.wake.notify_all();
        if let Some(thread) = thread.take() {
            let _panicked = thread.join();
        }
    }

    /// Has scrubs begin by themselves, or not.
    pub fn schedule_scrubs(&self, schedule: Option<Schedule>) {
        *self.scrubbing.schedule.lock() = schedule;
    }

    /// How scrubs are doing.
    #[must_use]
    pub fn scrub_status(&self) -> ScrubStatus {
        // In this order: one that has ended has noted so before.
        let (is_running, rate) = {
            let wish = self.scrubbing.control.wish.lock();
            (wish.is_running, wish.rate.filter(|_| wish.is_running))
        };
        let note = self.scrub_note();
        let schedule = *self.scrubbing.schedule.lock();
        let of_run = note.run.as_ref().map_or(0, |run| run.damaged);
        let damaged_media = of_run.max(note.damaged.len() as u64);
        ScrubStatus {
            is_running,
            rate,
            next: schedule.filter(|_| !is_running).map(|schedule| self.scrub_due(&note, schedule)),
            damaged_media: if note.run.is_some() {
                damaged_media
            } else {
                note.last.as_ref().map_or(0, |last| last.damaged)
            },
            damaged: note.damaged.into_iter().take(NAMED).collect(),
            run: note.run,
            last: note.last,
        }
    }

    /// When the next one begins by itself.
    fn scrub_due(&self, note: &Note, schedule: Schedule) -> Timestamp {
        let born = self.inode(Ino::ROOT).map_or_else(|_| self.clock.now(), |root| root.state.read().record.attrs.btime);
        let last = note.last.as_ref().map_or(born, |last| last.finished);
        match (&note.run, note.stopped) {
            (Some(run), None) => run.started,
            (_, stopped) => {
                let since = stopped.map_or(last, |stopped| stopped.max(last));
                since.plus_secs(i64::try_from(schedule.every.as_secs()).unwrap_or(i64::MAX))
            }
        }
    }

    /// Begins one when it is time. For the volume's own thread.
    pub(super) fn start_due_scrub(self: &Arc<Volume>) {
        let Some(schedule) = *self.scrubbing.schedule.lock() else { return };
        if self.scrubbing.control.wish.lock().is_running || *self.stop.lock() {
            return;
        }
        let due = self.scrub_due(&self.scrub_note(), schedule);
        if due <= self.clock.now()
            && let Err(e) = self.start_scrub(schedule.rate, false)
        {
            tracing::warn!("the scrub that is due does not begin: {e}");
        }
    }
}

/// What has to be waited for, and what was not made durable yet.
#[derive(Default)]
struct Debts {
    wait: Duration,
    unsaved_wait: Duration,
    unsaved_bytes: u64,
    requests: u64,
}

/// The thread that scrubs.
fn scrub(volume: &Weak<Volume>, control: &Control, mut note: Note) {
    let (mut walk, mut debts) = (Walk::default(), Debts::default());
    loop {
        let Some(volume) = volume.upgrade() else { return };
        let rate = {
            let wish = control.wish.lock();
            if wish.stop {
                drop(wish);
                volume.keep_note(&note);
                break;
            }
            wish.rate
        };
        let chunks = rate.map_or(STEP_CHUNKS, |rate| (rate / STEPS_A_SECOND / STRIDE).clamp(1, STEP_CHUNKS));
        let step = match walk.step(&volume, &mut note, chunks) {
            Ok(step) => step,
            Err(e) => {
                tracing::error!("the scrub ends before its time: {e}");
                // It goes on when it is asked to.
                note.stopped = Some(volume.clock.now());
                volume.keep_note(&note);
                break;
            }
        };
        if step.is_end {
            finish(&volume, &mut note);
            break;
        }
        debts.unsaved_bytes += step.cost;
        if step.is_hurt || debts.unsaved_wait >= SAVE_EVERY || debts.unsaved_bytes >= SAVE_BYTES {
            volume.keep_note(&note);
            (debts.unsaved_wait, debts.unsaved_bytes) = (Duration::ZERO, 0);
        } else {
            *volume.scrubbing.note.lock() = Some(note.clone());
        }
        let requests = volume.activity.requests();
        let is_used = std::mem::replace(&mut debts.requests, requests) != requests;
        drop(volume);
        if let Some(rate) = rate {
            let wait = Duration::from_secs_f64(step.cost as f64 / rate as f64);
            debts.wait += if is_used { wait * YIELDING } else { wait };
        }
        if debts.wait >= LEAST_WAIT {
            let mut wish = control.wish.lock();
            if !wish.stop {
                control.wake.wait_for(&mut wish, debts.wait);
            }
            debts.unsaved_wait += std::mem::take(&mut debts.wait);
        }
    }
    control.wish.lock().is_running = false;
}

fn finish(volume: &Volume, note: &mut Note) {
    let Some(run) = note.run.take() else { return };
    // What an earlier one found and this one did not meet is gone.
    note.damaged.retain(|damaged| damaged.found >= run.started);
    let ScrubRun { started, blobs, bytes, damaged, .. } = run;
    tracing::info!(blobs, bytes, damaged, "the scrub is finished");
    note.last = Some(ScrubPast { started, finished: volume.clock.now(), blobs, bytes, damaged });
    volume.keep_note(note);
}
