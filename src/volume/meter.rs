//! What programs ask of a mount, counted where it is answered: a few relaxed additions to a place of the thread's own.

use std::cell::Cell;

use serde::{Deserialize, Serialize};

use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

macro_rules! operations {
    ($($name:ident = $word:literal),* $(,)?) => {
        /// A kind of request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Operation { $(#[doc = concat!("`", $word, "`")] $name),* }

        impl Operation {
            /// All of them.
            pub const ALL: &[Operation] = &[$(Operation::$name),*];

            /// The word for it, as in the log and in figures.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Operation::$name => $word),* }
            }
        }
    };
}

operations! {
    CopyFileRange = "copy_file_range",
    Create = "create",
    Fallocate = "fallocate",
    Forget = "forget",
    Fsync = "fsync",
    Fsyncdir = "fsyncdir",
    Getattr = "getattr",
    Getxattr = "getxattr",
    Link = "link",
    Listxattr = "listxattr",
    Lookup = "lookup",
    Lseek = "lseek",
    Mkdir = "mkdir",
    Mknod = "mknod",
    Open = "open",
    Read = "read",
    Readdir = "readdir",
    Readlink = "readlink",
    Release = "release",
    Removexattr = "removexattr",
    Rename = "rename",
    Rmdir = "rmdir",
    Setattr = "setattr",
    Setxattr = "setxattr",
    Statfs = "statfs",
    Symlink = "symlink",
    Unlink = "unlink",
    Write = "write",
}

/// Upper ends of the classes of durations, in nanoseconds: from a microsecond to 16 seconds, each four times the one before
/// but where a rounder number is near. What takes longer is in a class of its own.
pub const BOUNDS: [u64; 13] = [
    1_000,
    4_000,
    16_000,
    64_000,
    250_000,
    1_000_000,
    4_000_000,
    16_000_000,
    64_000_000,
    250_000_000,
    1_000_000_000,
    4_000_000_000,
    16_000_000_000,
];
const CLASSES: usize = BOUNDS.len() + 1;

/// Places to count in. More threads than this share some.
const PLACES: usize = 8;

#[derive(Default)]
struct Counts {
    nanos: AtomicU64,
    failures: AtomicU64,
    classes: [AtomicU64; CLASSES],
}

/// One place. Two cache lines apart from the next, since processors fetch them in pairs.
#[repr(align(128))]
struct Place {
    operations: Vec<Counts>,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl Place {
    fn new() -> Place {
        let operations = Operation::ALL.iter().map(|_| Counts::default()).collect();
        Place { operations, read_bytes: AtomicU64::new(0), written_bytes: AtomicU64::new(0) }
    }
}

/// Counts requests. Counting costs a few nanoseconds and takes no lock; reading the figures costs some thousand loads.
pub struct Meter {
    places: Vec<Place>,
}

/// The figures of one kind of request since the volume was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationFigures {
    /// The kind's word.
    pub operation: String,
    /// Requests that took no longer than the bound of the same place in [`BOUNDS`] and longer than the one before; at the
    /// end those that took longer than all.
    pub classes: Vec<u64>,
    /// Nanoseconds that all of them took together.
    pub nanos: u64,
    /// Those that failed because of the disk, of damage, or of a poisoned volume.
    pub failures: u64,
}

impl OperationFigures {
    /// Requests.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }
}

/// What a mount was asked since the volume was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountFigures {
    /// By kind, in the order of [`Operation::ALL`].
    pub operations: Vec<OperationFigures>,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
}

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
}
static NEXT_PLACE: AtomicUsize = AtomicUsize::new(0);

/// The place of this thread; its number is drawn once.
fn own_place() -> usize {
    PLACE.with(|place| {
        if place.get() == usize::MAX {
            place.set(NEXT_PLACE.fetch_add(1, Ordering::Relaxed) % PLACES);
        }
        place.get()
    })
}

impl Meter {
    pub(super) fn new() -> Meter {
        Meter { places: (0..PLACES).map(|_| Place::new()).collect() }
    }

    /// A request was answered after `nanos` nanoseconds.
    pub fn answered(&self, operation: Operation, nanos: u64) {
        if let Some(counts) = self.own(operation) {
            let class = BOUNDS.iter().take_while(|bound| nanos > **bound).count();
            if let Some(count) = counts.classes.get(class) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            counts.nanos.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// A request failed because of the disk, of damage, or of a poisoned volume.
    pub fn failed(&self, operation: Operation) {
        if let Some(counts) = self.own(operation) {
            counts.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// So many bytes were read.
    pub fn read(&self, bytes: u64) {
        if let Some(place) = self.places.get(own_place()) {
            place.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// So many bytes were written.
    pub fn written(&self, bytes: u64) {
        if let Some(place) = self.places.get(own_place()) {
            place.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn own(&self, operation: Operation) -> Option<&Counts> {
        self.places.get(own_place())?.operations.get(operation as usize)
    }

    /// The figures so far. What is counted meanwhile may be in some of them and not in others.
    #[must_use]
    pub fn figures(&self) -> MountFigures {
        let sum = |of: &dyn Fn(&Place) -> u64| self.places.iter().map(of).sum();
        let of_operation = |operation: &Operation| {
            let mut figures = OperationFigures {
                operation: operation.as_str().to_owned(),
                classes: vec![0; CLASSES],
                nanos: 0,
                failures: 0,
            };
            for counts in self.places.iter().filter_map(|place| place.operations.get(*operation as usize)) {
                figures.nanos += counts.nanos.load(Ordering::Relaxed);
                figures.failures += counts.failures.load(Ordering::Relaxed);
                for (sum, class) in figures.classes.iter_mut().zip(&counts.classes) {
                    *sum += class.load(Ordering::Relaxed);
                }
            }
            figures
        };
        MountFigures {
            operations: Operation::ALL.iter().map(of_operation).collect(),
            read_bytes: sum(&|place| place.read_bytes.load(Ordering::Relaxed)),
            written_bytes: sum(&|place| place.written_bytes.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_place_and_its_word() {
        for (nth, operation) in Operation::ALL.iter().enumerate() {
            assert_eq!(*operation as usize, nth);
        }
        let words: Vec<&str> = Operation::ALL.iter().map(|operation| operation.as_str()).collect();
        assert!(words.is_sorted(), "an operator finds it by its word");
    }

    #[test]
    fn what_threads_count_is_told_in_one_sum() {
        let meter = Meter::new();
        std::thread::scope(|scope| {
            for _ in 0..PLACES + 3 {
                scope.spawn(|| {
                    for nanos in [0, 1_000, 1_001, u64::from(u32::MAX) * 10] {
                        meter.answered(Operation::Read, nanos);
                    }
                    meter.failed(Operation::Write);
                    meter.read(5);
                    meter.written(7);
                });
            }
        });
        let (threads, figures) = (PLACES as u64 + 3, meter.figures());
        let of = |operation: Operation| &figures.operations[operation as usize];
        let read = of(Operation::Read);
        assert_eq!((read.classes[0], read.classes[1], read.classes[13]), (2 * threads, threads, threads));
        assert_eq!(read.count(), 4 * threads);
        assert_eq!(read.nanos, threads * (2_001 + u64::from(u32::MAX) * 10));
        assert_eq!((of(Operation::Write).failures, of(Operation::Write).count()), (threads, 0));
        assert_eq!((figures.read_bytes, figures.written_bytes), (5 * threads, 7 * threads));
    }
}
