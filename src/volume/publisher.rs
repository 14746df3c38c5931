//! The threads that publish files after their close, beside the requests that closed them, and tidy blobs up.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Volume;
use super::inode::{Inode, State};
use crate::error::{Error, Result};
use crate::sync::Mutex;
use crate::sync::channel::{Receiver, Sender, bounded};
use crate::sync::thread::{self, JoinHandle};

/// Threads that publish.
const THREADS: usize = 2;
/// Closed files that wait at most; beyond, the close waits. Each holds little more than one chunk.
const QUEUE: usize = 64;
/// Chunks in memory with which a file is published by its close itself.
const MANY_CHUNKS: usize = 4;
/// How long a thread that has published looks away before it waits for the next file: who closes many files one after the
/// other then wakes nobody.
const LINGER: Duration = Duration::from_millis(1);

/// The queue of closed files. Empty before the threads are started, and after the end.
#[derive(Default)]
pub(super) struct Publisher {
    /// A leaf lock, not held while a file is handed over.
    queue: Mutex<Option<Sender<Arc<Inode>>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Publisher {
    /// Starts the threads for `volume`, which they do not keep alive.
    ///
    /// # Errors
    /// `Io` when there can be no further threads.
    pub fn start(&self, volume: &Weak<Volume>) -> Result<()> {
        let (queue, closed) = bounded(QUEUE);
        for n in 0..THREADS {
            let (volume, closed) = (Weak::clone(volume), closed.clone());
            let thread = thread::Builder::new().name(format!("publish-{n}"));
            let thread = thread.spawn(move || publish_all(&volume, &closed)).map_err(|e| Error::io("a thread", e))?;
            self.threads.lock().push(thread);
        }
        *self.queue.lock() = Some(queue);
        Ok(())
    }

    /// Hands a closed file over; waits while too many are under way. False when there is nobody to take it.
    fn take(&self, inode: &Arc<Inode>) -> bool {
        let queue = self.queue.lock().clone();
        queue.is_some_and(|queue| queue.send(Arc::clone(inode)).is_ok())
    }

    /// Has a blob rewritten that is mostly dead, unless too much is under way: whoever changes it again will ask again.
    /// Its state may be locked.
    pub fn offer(&self, inode: &Arc<Inode>) {
        let queue = self.queue.lock().clone();
        if let Some(queue) = queue {
            let _full = queue.try_send(Arc::clone(inode));
        }
    }

    /// Waits until all that was handed over is published, and ends the threads.
    pub fn finish(&self) {
        drop(self.queue.lock().take());
        for thread in self.threads.lock().drain(..) {
            let _panicked = thread.join();
        }
    }
}

fn publish_all(volume: &Weak<Volume>, closed: &Receiver<Arc<Inode>>) {
    while let Ok(first) = closed.recv() {
        let mut next = Some(first);
        while let Some(inode) = next {
            let Some(volume) = volume.upgrade() else { return };
            publish_one(&volume, &inode);
            drop((volume, inode));
            next = closed.try_recv().ok().or_else(|| {
                thread::sleep(LINGER);
                closed.try_recv().ok()
            });
        }
    }
}

fn publish_one(volume: &Volume, inode: &Arc<Inode>) {
    let mut state = inode.state.write();
    if !volume.publish_closed(inode, &mut state) {
        volume.tidy_up(inode, &mut state);
    }
}

impl Volume {
    /// Has a file that nobody writes any more published by a thread of the volume's own, unless much of it waits in memory.
    /// The state is not locked.
    pub(super) fn publish_soon(&self, inode: &Arc<Inode>) {
        let has_little = {
            let state = inode.state.read();
            state.writer.as_ref().is_none_or(|writer| writer.dirty.len() <= MANY_CHUNKS)
        };
        if has_little && self.publisher.take(inode) {
            return;
        }
        self.publish_closed(inode, &mut inode.state.write());
    }

    /// Publishes a closed file, unless it was opened again or published meanwhile; says whether it did.
    pub(super) fn publish_closed(&self, inode: &Arc<Inode>, state: &mut State) -> bool {
        let is_waiting = state.has_unpublished();
        if is_waiting {
            self.publish(inode, state);
        }
        is_waiting
    }
}
