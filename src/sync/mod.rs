//! Locks, atomics, threads and channels: all of the crate's are named through here.
//!
//! A build without debug assertions gets those of `parking_lot`, `crossbeam-channel` and the standard library as they
//! are. Tests and debug builds get locks that know in which order they are taken, and end the process when two threads
//! could wait for each other, whether or not they do (`order`). Tests with the feature `interleavings` get those of
//! shuttle, which runs one thread at a time and chooses which.

#[cfg(all(test, feature = "interleavings"))]
mod model;
#[cfg(all(any(test, debug_assertions), not(all(test, feature = "interleavings"))))]
mod order;
#[cfg(all(any(test, debug_assertions), not(all(test, feature = "interleavings"))))]
mod ordered;

#[cfg(all(test, feature = "interleavings"))]
pub use model::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic, channel, explore, thread,
};
#[cfg(all(any(test, debug_assertions), not(all(test, feature = "interleavings"))))]
pub use ordered::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(not(any(test, debug_assertions)))]
pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

#[cfg(not(all(test, feature = "interleavings")))]
pub use crossbeam_channel as channel;
#[cfg(not(all(test, feature = "interleavings")))]
pub use std::sync::atomic;
#[cfg(not(all(test, feature = "interleavings")))]
pub use std::thread;
