//! Lending a chunk to who keeps it for others: the kernel's page cache.
//!
//! While a chunk is lent nobody begins to change its medium. No lock is held meanwhile: who is lent it may have to wait
//! until a read of the same bytes is answered, by a thread that may be waiting for a lock.

use std::sync::Arc;
use std::time::Duration;

use super::Volume;
use super::inode::{Inode, State};
use crate::error::Result;
use crate::format::frame::CHUNK_LEN;
use crate::format::geometry::chunk_len;
use crate::ids::Ino;
use crate::sync::{Condvar, Mutex, RwLockWriteGuard};

/// How long who wants to change a medium waits for a chunk of it that is lent. It comes back within microseconds, unless who
/// has it waits for an answer by this very thread.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 2000 } else { 100 });

/// What is lent; one chunk at a time.
#[derive(Default)]
pub(super) struct Lending {
    lent: Mutex<Lent>,
    is_back: Condvar,
}

#[derive(Default)]
struct Lent {
    /// The medium that the chunk is of.
    of: Option<Ino>,
    /// Whether somebody has begun to change it all the same.
    is_void: bool,
}

/// Takes back what was lent, once, at the latest when it is dropped.
struct Loan<'a>(Option<&'a Lending>);

impl Loan<'_> {
    /// Whether it was void.
    fn end(&mut self) -> bool {
        self.0.take().is_some_and(|lending| {
            let lent = std::mem::take(&mut *lending.lent.lock());
            lending.is_back.notify_all();
            lent.is_void
        })
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

impl Lending {
    /// Lends a chunk of `ino`, whose state the caller has locked; `None` when one is lent already.
    fn lend(&self, ino: Ino) -> Option<Loan<'_>> {
        let mut lent = self.lent.lock();
        if lent.of.is_some() {
            return None;
        }
        *lent = Lent { of: Some(ino), is_void: false };
        Some(Loan(Some(self)))
    }

    /// Waits until no chunk of `ino` is lent, or has what is lent void.
    fn claim(&self, ino: Ino) {
        let mut lent = self.lent.lock();
        let is_lent = |lent: &mut Lent| lent.of == Some(ino) && !lent.is_void;
        self.is_back.wait_while_for(&mut lent, is_lent, PATIENCE);
        lent.is_void |= lent.of == Some(ino);
    }

    /// Whether a chunk of `ino` is lent, and not void.
    fn has(&self, ino: Ino) -> bool {
        let lent = self.lent.lock();
        lent.of == Some(ino) && !lent.is_void
    }
}

impl Volume {
    /// Shows a whole chunk of a medium, with its offset, to `keep`; not at all when somebody has it open for writing, the chunk
    /// is not in the blob as long as it is now, or another chunk is lent. Gives the offset and length of what must not be
    /// kept after all: somebody has begun to change the medium, since `keep` took longer than a tenth of a second.
    ///
    /// # Errors
    /// As [`Volume::read`].
    pub fn lend_chunk(&self, ino: Ino, chunk: u64, keep: impl FnOnce(u64, &[u8])) -> Result<Option<(u64, usize)>> {
        let inode = self.inode(ino)?;
        let (plain, mut loan) = {
            let state = inode.state.read_recursive();
            if state.writers > 0 || state.writer.is_some() || state.removed {
                return Ok(None);
            }
            let (Some(content), Some(open)) = (&state.content, &state.blob) else { return Ok(None) };
            let Some(place) = content.map.find(chunk) else { return Ok(None) };
            let plain = self.plain_chunk(open, &*self.blob_of(open)?, place, chunk)?;
            if plain.len() != chunk_len(state.record.len, chunk) {
                return Ok(None);
            }
            let Some(loan) = self.lending.lend(ino) else { return Ok(None) };
            (plain, loan)
        };
        let offset = chunk * CHUNK_LEN as u64;
        keep(offset, &plain);
        Ok(loan.end().then_some((offset, plain.len())))
    }

    /// Locks the state of an inode whose content somebody may be about to change who has not had it open for writing.
    pub(super) fn claim<'a>(&self, inode: &'a Arc<Inode>) -> RwLockWriteGuard<'a, State> {
        loop {
            let state = inode.state.write();
            if !self.lending.has(inode.ino) {
                return state;
            }
            drop(state);
            self.lending.claim(inode.ino);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::aging_tests::{Bench, put};
    use super::super::{OpenMode, Policy, SetAttr};
    use super::*;

    const WRITE: OpenMode = OpenMode { read: false, write: true, append: false, truncate: false };
    const READ: OpenMode = OpenMode { read: true, write: false, append: false, truncate: false };

    #[test]
    fn while_a_chunk_is_lent_its_medium_is_read_and_not_changed() {
        let bench = Bench::new(Policy::default());
        let volume = bench.open();
        let ino = put(&volume, Ino::ROOT, "a.txt", &[7; 9000]);
        let is_back = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let mut changers = Vec::new();
            let void = volume.lend_chunk(ino, 0, |offset, bytes| {
                assert_eq!((offset, bytes), (0, &[7; 9000][..]));
                assert_eq!(volume.lend_chunk(ino, 0, |_, _| panic!("two are lent")).unwrap(), None);
                changers.push(scope.spawn(|| {
                    let file = volume.open_file(ino, WRITE).unwrap();
                    assert!(is_back.load(Ordering::SeqCst), "opened for writing while a chunk of it was lent");
                    volume.close(file);
                }));
                changers.push(scope.spawn(|| {
                    volume.setattr(ino, &SetAttr { size: Some(5), ..SetAttr::default() }).unwrap();
                    assert!(is_back.load(Ordering::SeqCst), "cut while a chunk of it was lent");
                }));
                std::thread::sleep(PATIENCE / 100);
                let file = volume.open_file(ino, READ).unwrap();
                let mut some = [0; 4];
                assert_eq!((volume.read(&file, 100, &mut some).unwrap(), some), (4, [7; 4]));
                volume.close(file);
                is_back.store(true, Ordering::SeqCst);
            });
            assert_eq!(void.unwrap(), None);
            changers.into_iter().for_each(|changer| changer.join().unwrap());
        });
        assert_eq!(volume.getattr(ino).unwrap().size, 5);
    }

    #[test]
    fn who_keeps_a_chunk_for_long_is_told_that_it_is_void() {
        let bench = Bench::new(Policy::default());
        let volume = bench.open();
        let ino = put(&volume, Ino::ROOT, "a.txt", &[7; 9000]);
        // The thread that is to change it is the one that this waits for.
        let void = volume.lend_chunk(ino, 0, |_, _| {
            volume.setattr(ino, &SetAttr { size: Some(5), ..SetAttr::default() }).unwrap();
            volume.close(volume.open_file(ino, WRITE).unwrap());
        });
        assert_eq!(void.unwrap(), Some((0, 9000)));
        let whole = volume.lend_chunk(ino, 0, |_, bytes| assert_eq!(bytes, [7; 5])).unwrap();
        assert_eq!(whole, None);
    }
}
