//! The locks of `parking_lot`, as far as this crate uses them, with the order in which they are taken watched.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use parking_lot::WaitTimeoutResult;

use super::order::{self, Class, Holding};

/// See [`parking_lot::Mutex`].
#[derive(Debug)]
pub struct Mutex<T: ?Sized> {
    class: Class,
    lock: parking_lot::Mutex<T>,
}

/// See [`parking_lot::MutexGuard`].
#[derive(Debug)]
pub struct MutexGuard<'a, T: ?Sized> {
    guard: parking_lot::MutexGuard<'a, T>,
    holding: Option<Holding>,
    of: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    /// A lock around `value`.
    #[track_caller]
    pub fn new(value: T) -> Mutex<T> {
        Mutex { class: Class::here::<T>(), lock: parking_lot::Mutex::new(value) }
    }
}

impl<T: Default> Default for Mutex<T> {
    #[track_caller]
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T: ?Sized> Mutex<T> {
    fn id(&self) -> usize {
        std::ptr::from_ref(&self.lock).addr()
    }

    /// Waits for the lock.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        order::expect(order::ask(self.class, self.id()));
        let guard = self.lock.lock();
        MutexGuard { guard, holding: Some(order::hold(self.class, self.id())), of: self }
    }

    /// The lock, when nobody has it.
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = self.lock.try_lock()?;
        Some(MutexGuard { guard, holding: Some(order::hold(self.class, self.id())), of: self })
    }

    /// The value, which nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.lock.get_mut()
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// See [`parking_lot::Condvar`].
#[derive(Debug, Default)]
pub struct Condvar(parking_lot::Condvar);

impl Condvar {
    /// One that nobody waits for.
    pub const fn new() -> Condvar {
        Condvar(parking_lot::Condvar::new())
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
    #[track_caller]
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        beside(guard, |guard| self.0.wait(guard));
    }

    /// The same, for `patience` at most.
    #[track_caller]
    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, patience: Duration) -> WaitTimeoutResult {
        beside(guard, |guard| self.0.wait_for(guard, patience))
    }

    /// The same, until `condition` is false.
    #[track_caller]
    pub fn wait_while_for<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        condition: impl FnMut(&mut T) -> bool,
        patience: Duration,
    ) -> WaitTimeoutResult {
        beside(guard, |guard| self.0.wait_while_for(guard, condition, patience))
    }
}

/// Waits with the lock let go: it is then asked for with all else held that is.
#[track_caller]
fn beside<'a, T: ?Sized, R>(
    guard: &mut MutexGuard<'a, T>,
    wait: impl FnOnce(&mut parking_lot::MutexGuard<'a, T>) -> R,
) -> R {
    drop(guard.holding.take());
    order::expect(order::ask(guard.of.class, guard.of.id()));
    let waited = wait(&mut guard.guard);
    guard.holding = Some(order::hold(guard.of.class, guard.of.id()));
    waited
}

/// See [`parking_lot::RwLock`].
#[derive(Debug)]
pub struct RwLock<T: ?Sized> {
    class: Class,
    lock: parking_lot::RwLock<T>,
}

/// See [`parking_lot::RwLockReadGuard`].
#[derive(Debug)]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    guard: parking_lot::RwLockReadGuard<'a, T>,
    _holding: Holding,
}

/// See [`parking_lot::RwLockWriteGuard`].
#[derive(Debug)]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    guard: parking_lot::RwLockWriteGuard<'a, T>,
    _holding: Holding,
}

impl<T> RwLock<T> {
    /// A lock around `value`.
    #[track_caller]
    pub fn new(value: T) -> RwLock<T> {
        RwLock { class: Class::here::<T>(), lock: parking_lot::RwLock::new(value) }
    }
}

impl<T: Default> Default for RwLock<T> {
    #[track_caller]
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T: ?Sized> RwLock<T> {
    fn id(&self) -> usize {
        std::ptr::from_ref(&self.lock).addr()
    }

    /// Waits for a share of the lock. To whoever waits for all of it a share is as much in the way, so one who has a share
    /// asks for no other.
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        order::expect(order::ask(self.class, self.id()));
        RwLockReadGuard { guard: self.lock.read(), _holding: order::hold(self.class, self.id()) }
    }

    /// Waits for a share of the lock, ahead of those who wait for all of it.
    #[track_caller]
    pub fn read_recursive(&self) -> RwLockReadGuard<'_, T> {
        order::expect(order::ask(self.class, self.id()));
        RwLockReadGuard { guard: self.lock.read_recursive(), _holding: order::hold(self.class, self.id()) }
    }

    /// Waits for all of the lock.
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        order::expect(order::ask(self.class, self.id()));
        RwLockWriteGuard { guard: self.lock.write(), _holding: order::hold(self.class, self.id()) }
    }

    /// A share of the lock, when nobody has all of it.
    #[track_caller]
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        let guard = self.lock.try_read()?;
        Some(RwLockReadGuard { guard, _holding: order::hold(self.class, self.id()) })
    }

    /// The value, which nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.lock.get_mut()
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}
