//! buffer.memory: one bounded pool, one FIFO of waiters for every facade, and the recycling of batch buffers.
//!
//! Memory that comes free is granted to the waiter at the head, so a late caller cannot overtake. A waiter that is
//! cancelled passes on memory that it was granted before (the race that loses memory in naive pools).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::event_loop::{Notice, Notices};
use crate::stats::WaitTime;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, Rank};

/// The pool. Sizes are bytes.
#[derive(Debug)]
pub struct BufferPool {
    total: usize,
    buffer_size: usize,
    /// A larger buffer is not recycled.
    largest: usize,
    /// All of them together hold no more than this.
    most_free: usize,
    state: Mutex<PoolState>,
    /// Calls that ran out of max.block.ms.
    exhausted: AtomicU64,
    /// Time that senders spent waiting for memory.
    pub waited: WaitTime,
}

#[derive(Debug)]
struct PoolState {
    available: usize,
    waiters: VecDeque<Arc<Waiter>>,
    free: Vec<Vec<u8>>,
    /// Capacity of those.
    free_bytes: usize,
}

/// A place in the FIFO.
#[derive(Debug)]
pub struct Waiter {
    needed: usize,
    state: Mutex<WaitState>,
    granted: Condvar,
    /// For a waiter in an event loop.
    notice: Option<Notice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitState {
    Waiting,
    Granted,
    Cancelled,
}

impl BufferPool {
    /// A pool of `total` bytes whose recycled buffers hold `buffer_size` bytes.
    pub fn new(total: usize, buffer_size: usize) -> Self {
        let state = PoolState { available: total, waiters: VecDeque::new(), free: Vec::new(), free_bytes: 0 };
        let largest = buffer_size.saturating_mul(2);
        let (exhausted, waited) = (AtomicU64::new(0), WaitTime::default());
        Self { total, buffer_size, largest, most_free: total, state: Mutex::new(state), exhausted, waited }
    }

    /// Recycle buffers of up to `largest` bytes, too: those of batches that grow because they will be compressed. Such a
    /// buffer may serve a batch that is charged for less. To limit the difference, fewer are kept.
    #[must_use]
    pub fn keeping(mut self, largest: usize) -> Self {
        self.largest = self.largest.max(largest);
        self.most_free = self.total / 4;
        self
    }

    /// buffer.memory
    pub fn total(&self) -> usize {
        self.total
    }

    /// Free bytes.
    pub fn available(&self) -> usize {
        self.state.lock().available
    }

    /// How many callers wait.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiters.len()
    }

    /// Take `bytes` now. False: a caller waits already, or too little is left.
    pub fn try_take(&self, bytes: usize) -> bool {
        let mut state = self.state.lock();
        if state.available < bytes || !state.waiters.is_empty() {
            return false;
        }
        state.available -= bytes;
        true
    }

    /// Queue up for `bytes` (at most [`BufferPool::total`]). A waiter in an event loop has `notice` posted with the grant.
    pub fn queue(&self, bytes: usize, notice: Option<Notice>) -> Arc<Waiter> {
        debug_assert!(bytes <= self.total);
        let waiting = Mutex::ranked(Rank::Nested, WaitState::Waiting);
        let waiter = Arc::new(Waiter { needed: bytes, state: waiting, granted: Condvar::new(), notice });
        let mut state = self.state.lock();
        state.waiters.push_back(Arc::clone(&waiter));
        let granted = Self::grant(&mut state);
        drop(state);
        granted.post();
        waiter
    }

    /// Whether the bytes are the caller's, without waiting.
    pub fn is_granted(&self, waiter: &Waiter) -> bool {
        *waiter.state.lock() == WaitState::Granted
    }

    /// Wait for a grant until `deadline`. True: the bytes are the caller's.
    pub fn wait(&self, waiter: &Waiter, deadline: Instant) -> bool {
        let mut state = waiter.state.lock();
        waiter.granted.wait_while(&mut state, Some(deadline), |state| *state == WaitState::Waiting);
        *state == WaitState::Granted
    }

    /// Leave the queue; a grant goes to the next waiter. True: there was none, and no notice is posted.
    pub fn cancel(&self, waiter: &Arc<Waiter>) -> bool {
        let mut state = self.state.lock();
        let mut mine = waiter.state.lock();
        let was_waiting = *mine == WaitState::Waiting;
        match *mine {
            WaitState::Granted => state.available += waiter.needed,
            WaitState::Waiting => state.waiters.retain(|other| !Arc::ptr_eq(other, waiter)),
            WaitState::Cancelled => return false,
        }
        *mine = WaitState::Cancelled;
        drop(mine);
        let granted = Self::grant(&mut state);
        drop(state);
        granted.post();
        was_waiting
    }

    /// Give `bytes` back.
    pub fn give(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.available += bytes;
        debug_assert!(state.available <= self.total);
        let granted = Self::grant(&mut state);
        drop(state);
        granted.post();
    }

    fn grant(state: &mut PoolState) -> Notices {
        let mut due = Notices::default();
        while let Some(waiter) = state.waiters.front() {
            if waiter.needed > state.available {
                break;
            }
            let Some(waiter) = state.waiters.pop_front() else { break };
            let mut theirs = waiter.state.lock();
            if *theirs == WaitState::Waiting {
                state.available -= waiter.needed;
                *theirs = WaitState::Granted;
                waiter.granted.notify_one();
                due.0.extend(waiter.notice.clone());
            }
        }
        due
    }

    /// An empty buffer for a batch of `capacity` bytes, recycled if there is one.
    pub fn buffer(&self, capacity: usize) -> Vec<u8> {
        if capacity <= self.buffer_size {
            let mut state = self.state.lock();
            if let Some(buffer) = state.free.pop() {
                state.free_bytes -= buffer.capacity();
                return buffer;
            }
        }
        Vec::with_capacity(capacity)
    }

    /// Keep a buffer for reuse. Only its sole owner can call this: a body that a socket still holds is in an `Arc`.
    pub fn recycle(&self, mut buffer: Vec<u8>) {
        // A buffer that grew past batch.size (one oversized record) goes back to the allocator.
        let capacity = buffer.capacity();
        if capacity < self.buffer_size || capacity > self.largest {
            return;
        }
        buffer.clear();
        let mut state = self.state.lock();
        if state.free_bytes + capacity <= self.most_free {
            state.free_bytes += capacity;
            state.free.push(buffer);
        }
    }

    /// Calls that ran out of max.block.ms.
    pub fn exhausted(&self) -> u64 {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// One more call ran out of max.block.ms.
    pub fn count_exhausted(&self) {
        self.exhausted.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now()
    }

    #[test]
    fn memory_is_granted_in_the_order_of_asking() {
        let pool = BufferPool::new(100, 10);
        assert!(pool.try_take(100));
        let (first, second) = (pool.queue(60, None), pool.queue(10, None));
        pool.give(50);
        assert!(!pool.wait(&first, soon()));
        assert!(!pool.wait(&second, soon()), "a small late caller does not overtake a large early one");
        assert!(!pool.try_take(1));
        pool.give(20);
        assert!(pool.wait(&first, soon()));
        assert!(pool.wait(&second, soon()));
        assert_eq!(pool.available(), 0);
    }

    #[test]
    fn a_cancelled_waiter_passes_its_grant_on() {
        let pool = BufferPool::new(100, 10);
        assert!(pool.try_take(100));
        let (first, second) = (pool.queue(60, None), pool.queue(50, None));
        pool.give(60);
        pool.cancel(&first);
        assert!(pool.wait(&second, soon()));
        pool.cancel(&second);
        pool.cancel(&second);
        assert_eq!(pool.available(), 60);
        assert_eq!(pool.waiting(), 0);
    }

    #[test]
    fn buffers_are_recycled_only_at_their_size() {
        let pool = BufferPool::new(100, 10);
        pool.recycle(Vec::with_capacity(500));
        pool.recycle(Vec::with_capacity(3));
        assert_eq!(pool.state.lock().free.len(), 0);
        let mut buffer = Vec::with_capacity(10);
        buffer.push(1);
        let address = buffer.as_ptr();
        pool.recycle(buffer);
        let again = pool.buffer(10);
        assert!(again.is_empty() && again.as_ptr() == address);
    }
}
