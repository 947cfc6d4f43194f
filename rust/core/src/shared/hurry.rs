//! Whether batches may linger: not while a flush is under way, a sender waits for memory, or the producer is closed.

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// See the module.
#[derive(Debug, Default)]
pub struct Hurry {
    /// Flushes under way.
    flushes: AtomicUsize,
    /// A sender waits for memory.
    shortage: AtomicBool,
    /// No more sends.
    closed: AtomicBool,
}

impl Hurry {
    /// No batch may linger now.
    pub fn is_on(&self) -> bool {
        self.flushes.load(Ordering::Acquire) > 0 || self.shortage.load(Ordering::Acquire) || self.is_closed()
    }

    /// A flush begins.
    pub(super) fn begin_flush(&self) {
        self.flushes.fetch_add(1, Ordering::AcqRel);
    }

    /// A flush is over.
    pub fn end_flush(&self) {
        self.flushes.fetch_sub(1, Ordering::AcqRel);
    }

    /// A sender waits for memory. True: it is the first one.
    pub(super) fn begin_shortage(&self) -> bool {
        !self.shortage.swap(true, Ordering::AcqRel)
    }

    /// The shortage is over unless `waiting` returns some senders. True: it has begun again.
    pub(super) fn end_shortage(&self, waiting: impl Fn() -> usize) -> bool {
        if !self.shortage.load(Ordering::Acquire) || waiting() > 0 {
            return false;
        }
        self.shortage.store(false, Ordering::SeqCst);
        // A sender may have queued up between the check and the store, and have found the flag still set.
        waiting() > 0 && !self.shortage.swap(true, Ordering::SeqCst)
    }

    /// No more sends.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether the producer takes no more sends.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}
