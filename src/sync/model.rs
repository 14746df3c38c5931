//! What [`shuttle`] runs: one thread at a time, and at each call here it chooses which goes on. A deadlock is then a run in
//! which none can.
//!
//! Time is not modelled: whoever waits for a while, or sleeps, may go on at any moment.
#![expect(clippy::expect_used, reason = "a model has no poisoned locks: the first panic ends it")]

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync as model;
pub use shuttle::sync::atomic;

/// Threads of the model.
pub mod thread {
    pub use shuttle::thread::{Builder, JoinHandle, park, sleep, spawn};
}

const UNPOISONED: &str = "no thread of a model panics and goes on";

/// Runs `scenario` in `runs` interleavings of its threads chosen at random, and in as many with few changes from one thread to
/// another at unlikely places. `WAMEDIA_INTERLEAVINGS` is a factor of `runs`.
///
/// # Panics
/// When a run does, or deadlocks: what is told then is a schedule for `shuttle::replay`.
pub fn explore(runs: usize, scenario: impl Fn() + Clone + Send + Sync + 'static) {
    let factor = std::env::var("WAMEDIA_INTERLEAVINGS").map_or(1, |n| n.parse().expect("a number"));
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    shuttle::Runner::new(RandomScheduler::new(runs * factor), config.clone()).run(scenario.clone());
    shuttle::Runner::new(PctScheduler::new(3, runs * factor), config).run(scenario);
}

/// See `parking_lot::Mutex`.
#[derive(Debug, Default)]
pub struct Mutex<T>(model::Mutex<T>);

/// See `parking_lot::MutexGuard`.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    /// None only while it waits.
    guard: Option<model::MutexGuard<'a, T>>,
    of: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    /// A lock around `value`.
    pub fn new(value: T) -> Mutex<T> {
        Mutex(model::Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { guard: Some(self.0.lock().expect(UNPOISONED)), of: self }
    }

    /// The lock, when nobody has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|guard| MutexGuard { guard: Some(guard), of: self })
    }

    /// The value, which nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().expect(UNPOISONED)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("nobody looks while it waits")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("nobody looks while it waits")
    }
}

/// See `parking_lot::Condvar`.
#[derive(Debug, Default)]
pub struct Condvar(model::Condvar);

impl Condvar {
    /// One that nobody waits for.
    pub fn new() -> Condvar {
        Condvar::default()
    }

    /// Wakes one who waits.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Lets the lock go, waits to be woken, and waits for the lock again.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.guard.take().expect("nobody waits twice");
        guard.guard = Some(self.0.wait(held).expect(UNPOISONED));
    }

    /// The same, for a while.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _patience: Duration) {
        drop(guard.guard.take());
        shuttle::thread::yield_now();
        guard.guard = Some(guard.of.0.lock().expect(UNPOISONED));
    }

    /// The same, until `condition` is false.
    pub fn wait_while_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        patience: Duration,
    ) {
        if condition(guard) {
            self.wait_for(guard, patience);
        }
    }
}

/// See `parking_lot::RwLock`.
#[derive(Debug, Default)]
pub struct RwLock<T>(model::RwLock<T>);

pub use model::{RwLockReadGuard, RwLockWriteGuard};

impl<T> RwLock<T> {
    /// A lock around `value`.
    pub fn new(value: T) -> RwLock<T> {
        RwLock(model::RwLock::new(value))
    }

    /// Waits for a share of the lock.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().expect(UNPOISONED)
    }

    /// The same: those who wait for all of it are never in the way here.
    pub fn read_recursive(&self) -> RwLockReadGuard<'_, T> {
        self.read()
    }

    /// Waits for all of the lock.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().expect(UNPOISONED)
    }

    /// A share of the lock, when nobody has all of it.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.0.try_read().ok()
    }

    /// The value, which nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().expect(UNPOISONED)
    }
}

/// Channels as those of `crossbeam-channel`, made of the locks above.
pub mod channel {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::time::Duration;

    pub use crossbeam_channel::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

    use super::{Condvar, Mutex};

    #[derive(Debug)]
    struct Queue<T> {
        waiting: VecDeque<T>,
        room: usize,
        senders: usize,
        receivers: usize,
    }

    #[derive(Debug)]
    struct Shared<T> {
        queue: Mutex<Queue<T>>,
        changed: Condvar,
    }

    /// See `crossbeam_channel::Sender`.
    #[derive(Debug)]
    pub struct Sender<T>(Arc<Shared<T>>);

    /// See `crossbeam_channel::Receiver`.
    #[derive(Debug)]
    pub struct Receiver<T>(Arc<Shared<T>>);

    /// A channel that never makes a sender wait.
    pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
        bounded(usize::MAX)
    }

    /// A channel in which `room` may wait.
    pub fn bounded<T>(room: usize) -> (Sender<T>, Receiver<T>) {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), room, senders: 1, receivers: 1 });
        let shared = Arc::new(Shared { queue, changed: Condvar::new() });
        (Sender(Arc::clone(&shared)), Receiver(shared))
    }

    impl<T> Sender<T> {
        /// Sends, and waits for room.
        pub fn send(&self, value: T) -> Result<(), SendError<T>> {
            let mut queue = self.0.queue.lock();
            while queue.receivers > 0 && queue.waiting.len() >= queue.room {
                self.0.changed.wait(&mut queue);
            }
            if queue.receivers == 0 {
                return Err(SendError(value));
            }
            queue.waiting.push_back(value);
            self.0.changed.notify_all();
            Ok(())
        }

        /// Sends where there is room.
        pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
            let mut queue = self.0.queue.lock();
            if queue.receivers == 0 {
                return Err(TrySendError::Disconnected(value));
            }
            if queue.waiting.len() >= queue.room {
                return Err(TrySendError::Full(value));
            }
            queue.waiting.push_back(value);
            self.0.changed.notify_all();
            Ok(())
        }
    }

    impl<T> Receiver<T> {
        /// Waits for a value, or for the last sender to go.
        pub fn recv(&self) -> Result<T, RecvError> {
            let mut queue = self.0.queue.lock();
            loop {
                if let Some(value) = queue.waiting.pop_front() {
                    self.0.changed.notify_all();
                    return Ok(value);
                }
                if queue.senders == 0 {
                    return Err(RecvError);
                }
                self.0.changed.wait(&mut queue);
            }
        }

        /// A value that is there already.
        pub fn try_recv(&self) -> Result<T, TryRecvError> {
            let mut queue = self.0.queue.lock();
            match queue.waiting.pop_front() {
                Some(value) => {
                    self.0.changed.notify_all();
                    Ok(value)
                }
                None if queue.senders == 0 => Err(TryRecvError::Disconnected),
                None => Err(TryRecvError::Empty),
            }
        }

        /// The same, for a while.
        pub fn recv_timeout(&self, patience: Duration) -> Result<T, RecvTimeoutError> {
            let mut queue = self.0.queue.lock();
            if queue.waiting.is_empty() && queue.senders > 0 {
                self.0.changed.wait_for(&mut queue, patience);
            }
            match queue.waiting.pop_front() {
                Some(value) => {
                    self.0.changed.notify_all();
                    Ok(value)
                }
                None if queue.senders == 0 => Err(RecvTimeoutError::Disconnected),
                None => Err(RecvTimeoutError::Timeout),
            }
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Sender<T> {
            self.0.queue.lock().senders += 1;
            Sender(Arc::clone(&self.0))
        }
    }

    impl<T> Clone for Receiver<T> {
        fn clone(&self) -> Receiver<T> {
            self.0.queue.lock().receivers += 1;
            Receiver(Arc::clone(&self.0))
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.queue.lock().senders -= 1;
            self.0.changed.notify_all();
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            self.0.queue.lock().receivers -= 1;
            self.0.changed.notify_all();
        }
    }
}
