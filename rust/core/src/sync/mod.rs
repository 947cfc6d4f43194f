//! Locks that survive a fork: `std`'s, without poisoning. The locks and atomics that threads share come from here.
//!
//! `parking_lot` keeps all waiting threads in one table for the whole process. After a fork the child finds the parent's
//! threads in it, whose memory is gone or reused, and walks the table at the next wait: a producer made in the child then
//! crashed. A futex has no such memory. A panic while a lock is held ends the I/O thread, and `fail_engine` fails every record;
//! until then readers may see a half-made change, as with `parking_lot`.
//!
//! With the feature `models` they are loom's, which tries every order of events (`tests/models`). In debug builds a
//! thread that takes a lock against the order panics, see [`Rank`].

mod order;

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

#[cfg(feature = "models")]
use loom::sync as backend;
#[cfg(not(feature = "models"))]
use std::sync as backend;

#[cfg(not(feature = "models"))]
pub use std::sync::OnceLock;

pub use backend::atomic;
pub use order::Rank;

/// A lock around a value.
#[derive(Debug, Default)]
pub struct Mutex<T> {
    inner: backend::Mutex<T>,
    place: order::Place,
}

/// A locked [`Mutex`].
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    inner: Option<backend::MutexGuard<'a, T>>,
    held: order::Held,
}

/// A wait for a change of the value in a [`Mutex`]. A notification is a system call only if a thread waits: most batches
/// are resolved before their futures are read.
#[derive(Debug, Default)]
pub struct Condvar {
    inner: backend::Condvar,
    /// Threads that wait. Changed under the lock, so that a thread that has made a change under it sees all that missed it.
    waiting: atomic::AtomicUsize,
}

/// How a wait with a limit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// The time ran out first.
    pub fn timed_out(self) -> bool {
        self.0
    }
}

const HELD: &str = "only a wait takes the guard, and puts it back";

#[cfg(not(feature = "models"))]
impl<T> Mutex<T> {
    /// Unlocked; while it is held no other is taken.
    pub const fn new(value: T) -> Self {
        Self::ranked(Rank::Leaf, value)
    }

    /// Unlocked, with its place in the order.
    pub const fn ranked(rank: Rank, value: T) -> Self {
        Self { inner: backend::Mutex::new(value), place: order::Place::new(rank) }
    }
}

#[cfg(feature = "models")]
#[expect(missing_docs, reason = "as above; loom's locks cannot be made in a constant")]
impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self::ranked(Rank::Leaf, value)
    }

    pub fn ranked(rank: Rank, value: T) -> Self {
        Self { inner: backend::Mutex::new(value), place: order::Place::new(rank) }
    }
}

impl<T> Mutex<T> {
    /// The value, without locking: the reference is exclusive.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wait for the lock.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.lock_as(self.place.take())
    }

    /// Wait for a lock below one that is already held with the same rank: a child's, below its parent's.
    #[inline]
    pub fn lock_nested(&self) -> MutexGuard<'_, T> {
        self.lock_as(order::Place::new(Rank::Nested).take())
    }

    /// The place is taken before the wait: a wrong order is reported even where it would be a deadlock.
    #[inline]
    fn lock_as(&self, held: order::Held) -> MutexGuard<'_, T> {
        MutexGuard { inner: Some(self.inner.lock().unwrap_or_else(PoisonError::into_inner)), held }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.inner.as_ref().expect(HELD)
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect(HELD)
    }
}

impl Condvar {
    /// No thread waits.
    #[cfg(not(feature = "models"))]
    pub const fn new() -> Self {
        Self { inner: backend::Condvar::new(), waiting: atomic::AtomicUsize::new(0) }
    }

    /// No thread waits.
    #[cfg(feature = "models")]
    pub fn new() -> Self {
        Self { inner: backend::Condvar::new(), waiting: atomic::AtomicUsize::new(0) }
    }

    /// Wake one that waits, after a change under the lock.
    pub fn notify_one(&self) {
        if self.is_awaited() {
            self.inner.notify_one();
        }
    }

    /// Wake all that wait, after a change under the lock.
    pub fn notify_all(&self) {
        if self.is_awaited() {
            self.inner.notify_all();
        }
    }

    fn is_awaited(&self) -> bool {
        self.waiting.load(atomic::Ordering::Relaxed) > 0
    }

    /// Wait without limit. It may end without a reason: check again.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        guard.held.assert_alone();
        let inner = guard.inner.take().expect(HELD);
        self.waiting.fetch_add(1, atomic::Ordering::Relaxed);
        guard.inner = Some(self.inner.wait(inner).unwrap_or_else(PoisonError::into_inner));
        self.waiting.fetch_sub(1, atomic::Ordering::Relaxed);
    }

    /// Wait for `timeout` at most.
    #[cfg(not(feature = "models"))]
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> WaitTimeoutResult {
        guard.held.assert_alone();
        let inner = guard.inner.take().expect(HELD);
        self.waiting.fetch_add(1, atomic::Ordering::Relaxed);
        let (inner, result) = self.inner.wait_timeout(inner, timeout).unwrap_or_else(PoisonError::into_inner);
        guard.inner = Some(inner);
        self.waiting.fetch_sub(1, atomic::Ordering::Relaxed);
        WaitTimeoutResult(result.timed_out())
    }

    /// Wait for `timeout` at most. There is no time in a model: a wait for zero is one that ran out, at whatever moment
    /// that may be, and any other one never does.
    #[cfg(feature = "models")]
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> WaitTimeoutResult {
        if !timeout.is_zero() {
            self.wait(guard);
        }
        WaitTimeoutResult(timeout.is_zero())
    }

    /// Wait while `pending` holds, at most until `deadline` (`None`: without limit). False: it still holds.
    pub fn wait_while<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Option<Instant>,
        mut pending: impl FnMut(&T) -> bool,
    ) -> bool {
        while pending(guard) {
            let Some(deadline) = deadline else {
                self.wait(guard);
                continue;
            };
            if self.wait_for(guard, deadline.saturating_duration_since(Instant::now())).timed_out() {
                return !pending(guard);
            }
        }
        true
    }
}

/// A value that is set once, in models: loom has none. Loom must know when other threads see it.
#[cfg(feature = "models")]
#[derive(Debug)]
pub struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    is_set: atomic::AtomicBool,
}

#[cfg(feature = "models")]
#[expect(missing_docs, reason = "as std's")]
impl<T> OnceLock<T> {
    pub fn new() -> Self {
        Self { value: std::sync::OnceLock::new(), is_set: atomic::AtomicBool::new(false) }
    }

    pub fn get(&self) -> Option<&T> {
        if self.is_set.load(atomic::Ordering::Acquire) { self.value.get() } else { None }
    }

    pub fn set(&self, value: T) -> Result<(), T> {
        // No other thread runs between the two: a model switches threads only at calls into loom.
        if self.is_set.swap(true, atomic::Ordering::AcqRel) { Err(value) } else { self.value.set(value) }
    }

    pub fn take(&mut self) -> Option<T> {
        self.value.take()
    }
}

#[cfg(feature = "models")]
impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}
