//! Gives the kernel the whole chunk when a program has asked for a little of it.
//!
//! A few bytes cost as much as their chunk, since it is decrypted as a whole. The rest of it then goes into the kernel's
//! page cache, so that the next read nearby does not come here at all.
//!
//! The kernel locks each page it is given, and pages it has asked for stay locked until they are answered. So this is
//! done by a thread of its own, which no request waits for, and after the answer.

use std::sync::{Arc, OnceLock};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use fuser::{INodeNo, Notifier};

use crate::error::{Error, Result};
use crate::ids::Ino;
use crate::volume::{CHUNK_LEN, Volume};

/// Chunks that may wait; more are not worth waiting for.
const QUEUE: usize = 64;
/// A read of so many bytes is no small one.
const SMALL: usize = CHUNK_LEN / 2;

/// A read that was answered.
struct Small {
    ino: Ino,
    offset: u64,
    len: usize,
}

/// The way to the thread; none before the session has begun.
#[derive(Default)]
pub(super) struct ChunkGiver {
    queue: OnceLock<Sender<Small>>,
}

impl ChunkGiver {
    /// Starts the thread. It ends when this is dropped.
    pub(super) fn start(&self, volume: &Arc<Volume>, notifier: Notifier) -> Result<()> {
        let (queue, reads) = bounded(QUEUE);
        let volume = Arc::clone(volume);
        thread::Builder::new()
            .name("fuse-chunks".to_owned())
            .spawn(move || give_all(&volume, &notifier, &reads))
            .map_err(|e| Error::io("starting the thread for whole chunks", e))?;
        let _only_once = self.queue.set(queue);
        Ok(())
    }

    /// Tells of a read that was answered with `len` bytes.
    pub(super) fn was_read(&self, ino: Ino, offset: u64, len: usize) {
        if len > 0
            && len < SMALL
            && let Some(queue) = self.queue.get()
        {
            let _full = queue.try_send(Small { ino, offset, len });
        }
    }
}

fn give_all(volume: &Volume, notifier: &Notifier, reads: &Receiver<Small>) {
    let mut last = None;
    while let Ok(read) = reads.recv() {
        let chunk = read.offset / CHUNK_LEN as u64;
        if last == Some((read.ino, chunk)) {
            continue;
        }
        last = Some((read.ino, chunk));
        let given = volume.lend_chunk(read.ino, chunk, |offset, bytes| {
            // A file that is no longer than what was asked for is there already.
            if read.offset == offset && read.len >= bytes.len() {
                return;
            }
            if let Err(error) = notifier.store(INodeNo(read.ino.0), offset, bytes) {
                tracing::debug!(%error, "a chunk was refused by the kernel");
            }
        });
        match given {
            Ok(None) => {}
            // It is changed already.
            Ok(Some((offset, len))) => {
                let len = i64::try_from(len).unwrap_or_default();
                let _ = notifier.inval_inode(INodeNo(read.ino.0), offset as i64, len);
            }
            Err(error) => {
                tracing::debug!(%error, ino = %read.ino, "a chunk could not be given to the kernel");
            }
        }
    }
}
