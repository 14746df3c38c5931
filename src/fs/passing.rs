//! Reading by the kernel alone (`-o pass_through`): handles that are answered with the contents file of a medium.
//!
//! The kernel has one rule for each of its inodes: as long as a handle reads through the page cache none may be passed
//! through, and as long as one is passed through all others must be too, to the same file (`fs/fuse/iomode.c`). Here is
//! counted what it has; it counts down before it tells of a release, so it never has more than is counted here.

use std::collections::HashMap;
use std::sync::Arc;

use fuser::{BackingId, Errno, ReplyOpen};

use crate::ids::Ino;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::volume::{OpenFile, OpenMode, Volume};

use super::adapter::Answer;

/// The handles of one inode that the kernel has rules for.
#[derive(Default)]
struct Counted {
    cached: u32,
    passed: u32,
    backing: Option<Arc<BackingId>>,
}

/// All of them; nothing is counted unless something may be passed through.
#[derive(Default)]
pub(super) struct Passing {
    is_on: AtomicBool,
    counted: Mutex<HashMap<Ino, Counted>>,
}

/// How the kernel has a handle.
enum How {
    Cached,
    Passed,
}

/// A handle that is counted until this is dropped.
pub(super) struct Passage {
    passing: Arc<Passing>,
    ino: Ino,
    how: Option<How>,
}

/// How an open is to be answered.
pub(super) enum Way {
    /// As ever.
    Ordinary,
    /// With this file; the handle's own reads and writes come here if it can write.
    Passed(Arc<BackingId>),
}

impl Passing {
    /// The kernel passes through, from now on.
    pub(super) fn begin(&self) {
        self.is_on.store(true, Ordering::Release);
    }

    fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// A handle is made by creating its file.
    pub(super) fn created(self: &Arc<Passing>, ino: Ino, mode: OpenMode) -> Option<Passage> {
        let is_counted = self.is_on() && mode.read;
        is_counted.then(|| self.count(&mut self.counted.lock(), ino, How::Cached))
    }

    /// A handle that both reads and writes is about to be opened. It cannot be had as long as others are passed through: a
    /// mapping of it would change the contents file and nothing else.
    ///
    /// # Errors
    /// `ETXTBSY`.
    pub(super) fn begin_open(self: &Arc<Passing>, ino: Ino, mode: OpenMode) -> Answer<Option<Passage>> {
        let is_both = mode.read && mode.write;
        if !self.is_on() || !is_both {
            return Ok(None);
        }
        let mut counted = self.counted.lock();
        if counted.get(&ino).is_some_and(|counted| counted.passed > 0) {
            return Err(Errno::ETXTBSY);
        }
        Ok(Some(self.count(&mut counted, ino, How::Cached)))
    }

    /// A handle that only reads or only writes was opened: how it is answered.
    pub(super) fn opened(
        self: &Arc<Passing>,
        volume: &Volume,
        file: &OpenFile,
        reply: &ReplyOpen,
    ) -> (Option<Passage>, Way) {
        let (ino, mode) = (file.ino(), file.mode());
        if !self.is_on() || (mode.read && mode.write) {
            return (None, Way::Ordinary);
        }
        let mut counted = self.counted.lock();
        let of_ino = counted.entry(ino).or_default();
        if of_ino.backing.is_none() && of_ino.cached == 0 && mode.read {
            of_ino.backing = self.backing(volume, file, reply).map(Arc::new);
        }
        match of_ino.backing.clone() {
            Some(backing) => (Some(self.count(&mut counted, ino, How::Passed)), Way::Passed(backing)),
            None if mode.read => (Some(self.count(&mut counted, ino, How::Cached)), Way::Ordinary),
            None => {
                Passing::tidy(&mut counted, ino);
                (None, Way::Ordinary)
            }
        }
    }

    /// Has the kernel take the contents file of a medium, if it may be passed through.
    fn backing(&self, volume: &Volume, file: &OpenFile, reply: &ReplyOpen) -> Option<BackingId> {
        let view = match volume.pass_through(file) {
            Ok(view) => view?,
            Err(error) => {
                tracing::debug!(ino = %file.ino(), %error, "a medium is not passed through");
                return None;
            }
        };
        match reply.open_backing(&view) {
            Ok(backing) => Some(backing),
            Err(error) => {
                volume.end_pass(file);
                self.is_on.store(false, Ordering::Release);
                tracing::info!(%error, "the kernel passes nothing through: media are read the ordinary way");
                None
            }
        }
    }

    fn count(self: &Arc<Passing>, counted: &mut HashMap<Ino, Counted>, ino: Ino, how: How) -> Passage {
        let of_ino = counted.entry(ino).or_default();
        match how {
            How::Cached => of_ino.cached += 1,
            How::Passed => of_ino.passed += 1,
        }
        Passage { passing: Arc::clone(self), ino, how: Some(how) }
    }

    fn tidy(counted: &mut HashMap<Ino, Counted>, ino: Ino) {
        if counted.get(&ino).is_some_and(|counted| counted.cached == 0 && counted.passed == 0) {
            counted.remove(&ino);
        }
    }
}

impl Passage {
    /// The kernel has released the handle: with the last that was passed through, the file is nobody's view any more.
    pub(super) fn end(mut self, volume: &Volume, file: &OpenFile) {
        self.leave(|| volume.end_pass(file));
    }

    /// Counts it no more; `is_last` is called before another handle is decided about.
    fn leave(&mut self, is_last: impl FnOnce()) {
        let Some(how) = self.how.take() else { return };
        let mut counted = self.passing.counted.lock();
        if let Some(of_ino) = counted.get_mut(&self.ino) {
            match how {
                How::Cached => of_ino.cached = of_ino.cached.saturating_sub(1),
                How::Passed => of_ino.passed = of_ino.passed.saturating_sub(1),
            }
            if matches!(how, How::Passed) && of_ino.passed == 0 {
                of_ino.backing = None;
                is_last();
            }
        }
        Passing::tidy(&mut counted, self.ino);
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.leave(|| {});
    }
}
