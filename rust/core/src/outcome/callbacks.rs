//! The queue of callbacks between the I/O thread and the callback thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::completion::{CallbackToken, Completion};
use crate::event_loop::{LoopToken, Notice, Notices};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex};

/// Callbacks of one resolved batch, to be run on the callback thread.
#[derive(Debug)]
pub struct Burst {
    /// The resolved completion.
    pub completion: Arc<Completion>,
    /// Record index and callback, in order.
    pub callbacks: Vec<(u32, CallbackToken)>,
    /// Bytes of buffer.memory that are released when the burst is taken. So slow callbacks slow down `send`, as in Java,
    /// and a callback that sends finds the memory of its own batch free.
    pub charged: usize,
}

/// No more bursts will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// The queue. It has no limit of its own: buffer.memory bounds it, because the bursts hold their batches' memory.
#[derive(Debug, Default)]
pub struct CallbackQueue {
    state: Mutex<QueueState>,
    arrived: Condvar,
    progressed: Condvar,
    /// Bursts pushed so far; `flush` reads it without the lock.
    pushed: AtomicU64,
}

#[derive(Debug, Default)]
struct QueueState {
    bursts: VecDeque<Burst>,
    finished: u64,
    /// Each is posted when that many bursts have run.
    notices: Vec<(u64, Notice)>,
    closed: bool,
}

impl CallbackQueue {
    /// Append a burst.
    pub fn push(&self, burst: Burst) {
        let mut state = self.state.lock();
        state.bursts.push_back(burst);
        self.pushed.fetch_add(1, Ordering::Release);
        drop(state);
        self.arrived.notify_one();
    }

    /// The next burst, waiting up to `timeout` for it. An error when the queue is closed and empty.
    pub fn take(&self, timeout: Duration) -> Result<Option<Burst>, Closed> {
        let mut state = self.state.lock();
        if state.bursts.is_empty() && !state.closed {
            self.arrived.wait_for(&mut state, timeout);
        }
        match state.bursts.pop_front() {
            None if state.closed => Err(Closed),
            burst => Ok(burst),
        }
    }

    /// `count` bursts have run.
    pub fn finish(&self, count: u64) {
        let mut state = self.state.lock();
        state.finished = state.finished.saturating_add(count);
        let finished = state.finished;
        let mut due = Notices::default();
        state.notices.retain(|(goal, notice)| {
            if *goal <= finished {
                due.0.push(notice.clone());
            }
            *goal > finished
        });
        drop(state);
        self.progressed.notify_all();
        due.post();
    }

    /// Bursts pushed so far.
    pub fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Acquire)
    }

    /// Have `notice` posted when `goal` bursts have run. False: they have.
    pub fn add_notice(&self, goal: u64, notice: &Notice) -> bool {
        let mut state = self.state.lock();
        if state.finished < goal {
            state.notices.push((goal, notice.clone()));
            return true;
        }
        false
    }

    /// Take a notice back. False: it was posted.
    pub fn take_notice(&self, token: LoopToken) -> bool {
        let mut state = self.state.lock();
        let before = state.notices.len();
        state.notices.retain(|(_, notice)| notice.token != token);
        state.notices.len() < before
    }

    /// Wait until all bursts pushed before this call have run, at most until `deadline`. True when they have.
    pub fn wait_until_run(&self, deadline: Option<Instant>) -> bool {
        let goal = self.pushed.load(Ordering::Acquire);
        let mut state = self.state.lock();
        self.progressed.wait_while(&mut state, deadline, |state| state.finished < goal)
    }

    /// No more bursts will come: the callback thread ends when it has run the rest.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
    }

    /// The rest will not be run, nor any later burst: all waits for them end.
    pub fn abandon(&self) {
        self.close();
        self.finish(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_the_bursts_that_were_pushed_have_run() {
        let queue = CallbackQueue::default();
        let completion = Completion::new("t".into(), 0);
        queue.push(Burst { completion, callbacks: vec![(0, CallbackToken(1))], charged: 7 });
        assert!(!queue.wait_until_run(Some(Instant::now())));
        assert_eq!(queue.take(Duration::ZERO).unwrap().unwrap().charged, 7);
        queue.finish(1);
        assert!(queue.wait_until_run(None));
        queue.close();
        assert_eq!(queue.take(Duration::ZERO).unwrap_err(), Closed);
    }

    #[test]
    fn a_wait_for_abandoned_callbacks_ends() {
        let queue = CallbackQueue::default();
        let burst =
            || Burst { completion: Completion::new("t".into(), 0), callbacks: vec![(0, CallbackToken(1))], charged: 7 };
        queue.push(burst());
        queue.abandon();
        assert!(queue.wait_until_run(None));
        queue.push(burst());
        queue.finish(1);
        assert!(queue.wait_until_run(None));
    }
}
