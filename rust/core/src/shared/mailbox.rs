//! The mailbox of the I/O thread: messages of other threads to it, and the end of its sleep.
//!
//! The I/O thread stores until when it sleeps, and then checks the inbox once more. A sender puts something into the inbox
//! and then reads until when the thread sleeps. A fence on each side makes one of the two see the other's store, so that
//! nothing is slept over. The wake-up is a system call, so it is sent only if the thread sleeps beyond the time at which
//! it is needed, and the compare-and-exchange lets one sender send it.

use std::sync::Arc;

use crate::boundary::Command;
use crate::lane::Lane;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::sync::{Mutex, OnceLock};

/// The content of the mailbox.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Lanes that can send.
    pub ready: Vec<Arc<Lane>>,
    /// Lanes that can send from a time (µs) on.
    pub timers: Vec<(u64, Arc<Lane>)>,
    /// The I/O thread is to be awake at this time (µs), for one of those.
    awake_us: Option<u64>,
    /// From the control plane.
    pub commands: Vec<Command>,
    /// Check every lane (flush, memory shortage, close).
    pub sweep: bool,
}

impl Inbox {
    /// Whether nothing in it is due before `until_us`.
    fn is_quiet(&self, until_us: u64) -> bool {
        self.ready.is_empty()
            && self.commands.is_empty()
            && !self.sweep
            && self.awake_us.is_none_or(|at_us| at_us >= until_us)
    }
}

type Waker = Box<dyn Fn() + Send + Sync>;

/// See the module.
#[derive(Default)]
pub struct Mailbox {
    inbox: Mutex<Inbox>,
    /// Until when the I/O thread sleeps, µs; 0 while it works.
    sleeping_until: AtomicU64,
    waker: OnceLock<Waker>,
    /// The I/O thread is to end.
    stop: AtomicBool,
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

impl Mailbox {
    /// How to end the I/O thread's sleep. Once.
    pub fn set_waker(&self, waker: Waker) {
        assert!(self.waker.set(waker).is_ok(), "one I/O thread per producer");
    }

    /// Commands for the I/O thread.
    pub fn command(&self, commands: impl IntoIterator<Item = Command>) {
        let mut inbox = self.inbox.lock();
        inbox.commands.extend(commands);
        let some = !inbox.commands.is_empty();
        drop(inbox);
        if some {
            self.wake(0);
        }
    }

    /// A lane can send. The caller holds its lock.
    pub(super) fn ready(&self, lane: &Arc<Lane>) {
        self.inbox.lock().ready.push(Arc::clone(lane));
        self.wake(0);
    }

    /// A lane can send from `at_us` on; the I/O thread is to be awake at `awake_us`. The caller holds the lane's lock.
    pub(super) fn timer(&self, at_us: u64, awake_us: u64, lane: &Arc<Lane>) {
        let mut inbox = self.inbox.lock();
        inbox.timers.push((at_us, Arc::clone(lane)));
        inbox.awake_us = Some(inbox.awake_us.map_or(awake_us, |before| before.min(awake_us)));
        drop(inbox);
        self.wake(awake_us);
    }

    /// Have the I/O thread check every lane.
    pub fn sweep(&self) {
        self.inbox.lock().sweep = true;
        self.wake(0);
    }

    /// End the I/O thread.
    pub fn request_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake(0);
    }

    /// Whether the I/O thread is to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// End the I/O thread's sleep if it sleeps beyond `at_us`.
    fn wake(&self, at_us: u64) {
        // Pairs with the fence in `prepare_sleep`: either this thread sees the sleep, or that one sees the inbox.
        fence(Ordering::SeqCst);
        let until = self.sleeping_until.load(Ordering::Relaxed);
        if until > at_us
            && self.sleeping_until.compare_exchange(until, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            && let Some(waker) = self.waker.get()
        {
            waker();
        }
    }

    /// The I/O thread is about to sleep until `until_us`. False: something is due before, do not sleep.
    pub fn prepare_sleep(&self, until_us: u64) -> bool {
        self.sleeping_until.store(until_us.max(1), Ordering::Relaxed);
        // Pairs with the fence in `wake`.
        fence(Ordering::SeqCst);
        let quiet = self.inbox.lock().is_quiet(until_us) && !self.is_stopped();
        if !quiet {
            self.awake();
        }
        quiet
    }

    /// The I/O thread is awake.
    pub fn awake(&self) {
        self.sleeping_until.store(0, Ordering::Relaxed);
    }

    /// Everything in the inbox.
    pub fn take(&self) -> Inbox {
        std::mem::take(&mut self.inbox.lock())
    }
}
