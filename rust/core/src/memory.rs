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
    /// Of the first chunk of a batch, and of those with which it grows.
    kept: [Kept; 2],
    /// Capacity of all that are kept; never more than buffer.memory.
    kept_bytes: usize,
}

/// Buffers of one size, to be used again.
#[derive(Debug)]
struct Kept {
    size: usize,
    buffers: Vec<Vec<u8>>,
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
    /// A pool of `total` bytes. It keeps buffers of these sizes.
    pub fn new(total: usize, sizes: [usize; 2]) -> Self {
        let kept = sizes.map(|size| Kept { size, buffers: Vec::new() });
        let state = PoolState { available: total, waiters: VecDeque::new(), kept, kept_bytes: 0 };
        Self { total, state: Mutex::new(state), exhausted: AtomicU64::new(0), waited: WaitTime::default() }
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

    /// An empty buffer of `capacity` bytes, recycled if there is one.
    pub fn buffer(&self, capacity: usize) -> Vec<u8> {
        let mut state = self.state.lock();
        let recycled = state.kept.iter_mut().find(|kept| kept.size == capacity).and_then(|kept| kept.buffers.pop());
        if let Some(buffer) = &recycled {
            state.kept_bytes -= buffer.capacity();
        }
        drop(state);
        recycled.unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    /// Keep buffers for reuse. Only their sole owner can call this: a body that a socket still holds is in an `Arc`.
    ///
    /// A buffer of another size (one large record's) goes back to the allocator, so that a batch never holds more memory
    /// than it is charged for.
    pub fn recycle(&self, buffers: impl Iterator<Item = Vec<u8>>) {
        let mut state = self.state.lock();
        for mut buffer in buffers {
            let capacity = buffer.capacity();
            let fits = state.kept_bytes + capacity <= self.total;
            if let Some(kept) = state.kept.iter_mut().find(|kept| kept.size == capacity && fits) {
                buffer.clear();
                kept.buffers.push(buffer);
                state.kept_bytes += capacity;
            }
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
        let pool = BufferPool::new(100, [10, 20]);
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
        let pool = BufferPool::new(100, [10, 20]);
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
        let pool = BufferPool::new(100, [10, 20]);
        pool.recycle([Vec::with_capacity(500), Vec::with_capacity(3), Vec::with_capacity(15)].into_iter());
        assert_eq!(pool.state.lock().kept_bytes, 0);
        for size in [10, 20] {
            let mut buffer = Vec::with_capacity(size);
            buffer.push(1);
            let address = buffer.as_ptr();
            pool.recycle([buffer].into_iter());
            let again = pool.buffer(size);
            assert!(again.is_empty() && again.as_ptr() == address);
        }
        pool.recycle((0..10).map(|_| Vec::with_capacity(20)));
        assert_eq!(pool.state.lock().kept_bytes, 100, "no more than buffer.memory");
    }
}
