//! What a future waits for: one completion per batch, resolved exactly once, and the queue of callbacks that follow.
//!
//! A record's future is (completion, index). A thousand futures of one batch are resolved by one store and one wake-up,
//! which is why a future per record costs so little.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::boundary::literal;
use crate::event_loop::{Notice, Notices};
use crate::outcome::arrivals::Arrivals;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, OnceLock};

/// A callback of the user's, opaque here: the binding keeps the object under this key and gets each key back exactly once.
pub type Token = usize;

literal! {
    /// Why a record failed; it chooses the class of the error.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum FailureKind {
        /// A broker answered with an error code.
        Broker = "broker",
        /// delivery.timeout.ms ran out.
        Timeout = "timeout",
        /// `close` did not wait for it.
        Closed = "closed",
        /// Its transaction was aborted.
        Aborted = "aborted",
        /// It was never buffered: one of many, so that `send` did not raise.
        Refused = "refused",
        /// No bootstrap server could be resolved in time (bootstrap.resolve.timeout.ms).
        Unresolved = "unresolved",
        /// A bug in Penstock.
        Internal = "internal",
    }
}

/// Why the records of a batch failed, with everything an error message needs.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which way.
    pub kind: FailureKind,
    /// Kafka's error code of the last attempt, 0 for none.
    pub code: i16,
    /// Where it died: "linger" (never sent), "in flight" or "retry".
    pub stage: &'static str,
    /// The broker of the last attempt, -1 for none.
    pub broker: i32,
    /// How often it was sent.
    pub attempts: u32,
    /// Whether the log may hold it all the same.
    pub possibly_persisted: bool,
    /// The last cause, for people.
    pub message: String,
    /// Since its first record was buffered.
    pub elapsed_ms: u64,
    /// When the others were.
    pub arrivals: Arrivals,
    /// KIP-467: the records that were at fault (index in the batch, message).
    pub record_errors: Vec<(u32, Option<String>)>,
}

impl Failure {
    /// How long ago record `index` had been buffered when it failed, to within a tick: what its batch's oldest record waited
    /// is not what each of them did.
    pub fn age_ms(&self, index: u32) -> u64 {
        let now_ms = u32::try_from(self.elapsed_ms).unwrap_or(u32::MAX);
        self.elapsed_ms - u64::from(self.arrivals.of(index, now_ms).min(now_ms))
    }
}

/// What became of a batch.
#[derive(Debug)]
pub enum Outcome {
    /// It is in the log. `base_offset` is -1 when it cannot be known; `log_append_time_ms` is -1 under `CreateTime`.
    Delivered {
        /// Offset of the first record.
        base_offset: i64,
        /// The broker's timestamp for all records, or -1.
        log_append_time_ms: i64,
    },
    /// It failed, all of it.
    Failed(Box<Failure>),
    /// KIP-126: its records live on in children; each entry is (index of its first record, child).
    Split(Vec<(u32, Arc<Completion>)>),
}

/// Shared by the futures of one batch and the batch itself.
#[derive(Debug)]
pub struct Completion {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    outcome: OnceLock<Outcome>,
    side: Mutex<Side>,
    resolved: Condvar,
}

/// What is needed only by those who wait or look, so that the hot path never touches it.
#[derive(Debug, Default)]
struct Side {
    callbacks: Vec<(u32, Token)>,
    /// What is due in event loops once the batch is resolved, in the order of asking.
    notices: Vec<(u32, Notice)>,
    /// One bit per record whose future somebody asked, or that had a callback.
    observed: Vec<u64>,
}

impl Side {
    fn mark(&mut self, index: u32) {
        let word = index as usize / 64;
        if self.observed.len() <= word {
            self.observed.resize(word + 1, 0);
        }
        self.observed[word] |= 1 << (index % 64);
    }

    fn unmark(&mut self, index: u32) {
        if let Some(bits) = self.observed.get_mut(index as usize / 64) {
            *bits &= !(1 << (index % 64));
        }
    }

    fn is_marked(&self, index: u32) -> bool {
        self.observed.get(index as usize / 64).is_some_and(|bits| bits & (1 << (index % 64)) != 0)
    }
}

impl Completion {
    /// A pending completion.
    pub fn new(topic: Arc<str>, partition: i32) -> Arc<Self> {
        Arc::new(Self { topic, partition, outcome: OnceLock::new(), side: Mutex::default(), resolved: Condvar::new() })
    }

    /// The outcome of this batch, if it is known; a split shows as such (see [`Completion::leaf`]).
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    /// Follow splits down to the completion that holds record `index` now, and its index there.
    pub fn leaf(self: &Arc<Self>, mut index: u32) -> (Arc<Self>, u32) {
        let mut at = Arc::clone(self);
        loop {
            let Some(Outcome::Split(children)) = at.outcome.get() else { return (at, index) };
            let child = children.partition_point(|(first, _)| *first <= index) - 1;
            index -= children[child].0;
            let next = Arc::clone(&children[child].1);
            at = next;
        }
    }

    /// Resolve it. Only the first call counts; it returns the callbacks to run, in the order in which they were added.
    pub fn resolve(&self, outcome: Outcome) -> Option<Vec<(u32, Token)>> {
        let mut side = self.side.lock();
        // Under the lock, so that a waiter between its look and its wait, or an `add_callback`, cannot miss it.
        if self.outcome.set(outcome).is_err() {
            return None;
        }
        let callbacks = std::mem::take(&mut side.callbacks);
        let notices = std::mem::take(&mut side.notices);
        drop(side);
        self.resolved.notify_all();
        if !notices.is_empty() {
            Notices(notices.into_iter().map(|(_, notice)| notice).collect()).give();
        }
        Some(callbacks)
    }

    /// Resolve it as split: callbacks and marks move to the children. False if it was resolved before.
    pub fn resolve_split(&self, children: Vec<(u32, Arc<Self>)>) -> bool {
        let mut side = self.side.lock();
        if self.outcome.get().is_some() {
            return false;
        }
        for (index, token) in std::mem::take(&mut side.callbacks) {
            let child = children.partition_point(|(first, _)| *first <= index) - 1;
            let mut child_side = children[child].1.side.lock_nested();
            child_side.callbacks.push((index - children[child].0, token));
        }
        for (index, notice) in std::mem::take(&mut side.notices) {
            let child = children.partition_point(|(first, _)| *first <= index) - 1;
            children[child].1.side.lock_nested().notices.push((index - children[child].0, notice));
        }
        for word in 0..side.observed.len() {
            for bit in 0..64 {
                let index = (word * 64 + bit) as u32;
                if side.is_marked(index) {
                    let child = children.partition_point(|(first, _)| *first <= index) - 1;
                    children[child].1.side.lock_nested().mark(index - children[child].0);
                }
            }
        }
        let set = self.outcome.set(Outcome::Split(children));
        debug_assert!(set.is_ok(), "checked under the lock");
        drop(side);
        self.resolved.notify_all();
        true
    }

    /// Have `token` come back when the batch is resolved; gives it back at once when it already is. `observed`: it is the
    /// user's, so a failure of this record will not go unnoticed.
    pub fn add_callback(self: &Arc<Self>, index: u32, token: Token, observed: bool) -> Result<(), Token> {
        let (leaf, index) = self.leaf(index);
        let mut side = leaf.side.lock();
        if leaf.outcome.get().is_some() {
            drop(side);
            // A split may have come between; its children take the token then.
            return if matches!(leaf.outcome(), Some(Outcome::Split(_))) {
                leaf.add_callback(index, token, observed)
            } else {
                Err(token)
            };
        }
        side.callbacks.push((index, token));
        if observed {
            side.mark(index);
        }
        Ok(())
    }

    /// Have `notice` given when the batch is resolved. False: it already is. `observed` as in [`Completion::add_callback`].
    pub fn add_notice(self: &Arc<Self>, index: u32, notice: &Notice, observed: bool) -> bool {
        let (leaf, index) = self.leaf(index);
        let mut side = leaf.side.lock();
        if leaf.outcome.get().is_some() {
            drop(side);
            // As above: a split may have come between.
            return matches!(leaf.outcome(), Some(Outcome::Split(_))) && leaf.add_notice(index, notice, observed);
        }
        side.notices.push((index, notice.clone()));
        if observed {
            side.mark(index);
        }
        true
    }

    /// The tokens of what waits for record `index`.
    pub fn notices(self: &Arc<Self>, index: u32) -> Vec<Token> {
        let (leaf, index) = self.leaf(index);
        let side = leaf.side.lock();
        side.notices.iter().filter(|(at, _)| *at == index).map(|(_, notice)| notice.token).collect()
    }

    /// Take back what waits for record `index` and is `wanted`; what was given meanwhile is not found. `forget`: nobody
    /// will be told of this record, so that a failure of it is unnoticed again.
    pub fn take_notices(
        self: &Arc<Self>,
        index: u32,
        forget: bool,
        mut wanted: impl FnMut(Token) -> bool,
    ) -> Vec<Notice> {
        let (leaf, index) = self.leaf(index);
        let mut side = leaf.side.lock();
        if matches!(leaf.outcome(), Some(Outcome::Split(_))) {
            drop(side);
            return leaf.take_notices(index, forget, wanted);
        }
        let mut taken = Vec::new();
        side.notices.retain(|(at, notice)| {
            let take = *at == index && wanted(notice.token);
            if take {
                taken.push(notice.clone());
            }
            !take
        });
        if forget && leaf.outcome.get().is_none() {
            side.unmark(index);
        }
        taken
    }

    /// The first completion under this one that is unresolved, itself or a child of its split.
    pub fn first_unresolved(self: &Arc<Self>) -> Option<Arc<Self>> {
        match self.outcome.get() {
            None => Some(Arc::clone(self)),
            Some(Outcome::Split(children)) => children.iter().find_map(|(_, child)| child.first_unresolved()),
            Some(_) => None,
        }
    }

    /// Somebody asked for this record's result: a failure of it is no longer unnoticed.
    pub fn observe(self: &Arc<Self>, index: u32) {
        let (leaf, index) = self.leaf(index);
        if matches!(leaf.outcome(), Some(Outcome::Delivered { .. })) {
            return;
        }
        let mut side = leaf.side.lock();
        if matches!(leaf.outcome(), Some(Outcome::Split(_))) {
            drop(side);
            return leaf.observe(index); // it was split meanwhile, and its marks have moved on
        }
        side.mark(index);
    }

    /// [`Completion::observe`] for `count` neighbours.
    pub fn observe_run(self: &Arc<Self>, first: u32, count: u32) {
        self.leaves(first, count, &mut |leaf, first, count| {
            if matches!(leaf.outcome(), Some(Outcome::Delivered { .. })) {
                return;
            }
            let mut side = leaf.side.lock();
            if matches!(leaf.outcome(), Some(Outcome::Split(_))) {
                drop(side);
                return leaf.observe_run(first, count); // as above
            }
            for index in first..first + count {
                side.mark(index);
            }
        });
    }

    /// Where `count` neighbours are now, splits followed: `see(completion, first, count)` for each batch, in order.
    pub fn leaves(self: &Arc<Self>, first: u32, count: u32, see: &mut dyn FnMut(&Arc<Self>, u32, u32)) {
        let Some(Outcome::Split(children)) = self.outcome.get() else { return see(self, first, count) };
        let end = first + count;
        for (at, (begin, child)) in children.iter().enumerate() {
            let until = children.get(at + 1).map_or(u32::MAX, |(next, _)| *next);
            let (from, to) = (first.max(*begin), end.min(until));
            if from < to {
                child.leaves(from - begin, to - from, see);
            }
        }
    }

    /// A batch among this one and those it was split into that is not resolved yet.
    pub fn unresolved(self: &Arc<Self>) -> Option<Arc<Self>> {
        match self.outcome.get() {
            None => Some(Arc::clone(self)),
            Some(Outcome::Split(children)) => children.iter().find_map(|(_, child)| child.unresolved()),
            Some(_) => None,
        }
    }

    /// Whether every record is resolved, split children included.
    pub fn is_resolved(&self) -> bool {
        match self.outcome.get() {
            None => false,
            Some(Outcome::Split(children)) => children.iter().all(|(_, child)| child.is_resolved()),
            Some(_) => true,
        }
    }

    /// How many of `count` failed records nobody has asked about, and the index of the first of them.
    pub fn unobserved(&self, count: u32) -> (u32, Option<u32>) {
        let side = self.side.lock();
        let seen: u32 = side.observed.iter().map(|word| word.count_ones()).sum();
        if seen >= count {
            return (0, None);
        }
        (count - seen, (0..count).find(|&index| !side.is_marked(index)))
    }

    /// Wait until record `index` is resolved, at most until `deadline`. True when it is.
    pub fn wait(self: &Arc<Self>, index: u32, deadline: Option<Instant>) -> bool {
        let (mut leaf, mut at) = self.leaf(index);
        loop {
            {
                let mut side = leaf.side.lock();
                while leaf.outcome.get().is_none() {
                    match deadline {
                        None => leaf.resolved.wait(&mut side),
                        Some(deadline) => {
                            if leaf.resolved.wait_until(&mut side, deadline).timed_out() && leaf.outcome.get().is_none()
                            {
                                return false;
                            }
                        }
                    }
                }
            }
            if !matches!(leaf.outcome.get(), Some(Outcome::Split(_))) {
                return true;
            }
            (leaf, at) = leaf.leaf(at);
        }
    }

    /// Wait until every record is resolved, split children included.
    pub fn wait_all(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        if !self.wait_self(deadline) {
            return false;
        }
        match self.outcome.get() {
            Some(Outcome::Split(children)) => children.iter().all(|(_, child)| child.wait_all(deadline)),
            _ => true,
        }
    }

    fn wait_self(&self, deadline: Option<Instant>) -> bool {
        let mut side = self.side.lock();
        while self.outcome.get().is_none() {
            match deadline {
                None => self.resolved.wait(&mut side),
                Some(deadline) => {
                    if self.resolved.wait_until(&mut side, deadline).timed_out() && self.outcome.get().is_none() {
                        return false;
                    }
                }
            }
        }
        true
    }
}

/// Callbacks of one resolved batch, to be run on the callback thread.
#[derive(Debug)]
pub struct Burst {
    /// The resolved completion.
    pub completion: Arc<Completion>,
    /// Record index and callback, in order.
    pub callbacks: Vec<(u32, Token)>,
    /// Bytes of buffer.memory that are given back when its turn comes: so slow callbacks slow down `send`, as in Java,
    /// and a callback that sends finds the memory of its own batch free.
    pub charged: usize,
}

/// No more bursts will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// The way from the I/O thread to the callback thread: unbounded in form, bounded by buffer.memory in fact, because the
/// bursts in it hold their batches' memory.
#[derive(Debug, Default)]
pub struct CallbackQueue {
    state: Mutex<CallbackState>,
    arrived: Condvar,
    progressed: Condvar,
    /// Bursts pushed so far; read without the lock by `flush`.
    pushed: AtomicU64,
}

#[derive(Debug, Default)]
struct CallbackState {
    bursts: VecDeque<Burst>,
    finished: u64,
    /// To be given when that many bursts have run.
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
        due.give();
    }

    /// Bursts pushed so far.
    pub fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Acquire)
    }

    /// Have `notice` given when `goal` bursts have run. False: they have.
    pub fn add_notice(&self, goal: u64, notice: &Notice) -> bool {
        let mut state = self.state.lock();
        if state.finished < goal {
            state.notices.push((goal, notice.clone()));
            return true;
        }
        false
    }

    /// Take a notice back. False: it was given.
    pub fn take_notice(&self, token: Token) -> bool {
        let mut state = self.state.lock();
        let before = state.notices.len();
        state.notices.retain(|(_, notice)| notice.token != token);
        state.notices.len() < before
    }

    /// Wait until all bursts pushed before this call have run.
    pub fn wait_until_run(&self, deadline: Option<Instant>) -> bool {
        let goal = self.pushed.load(Ordering::Acquire);
        let mut state = self.state.lock();
        while state.finished < goal {
            match deadline {
                None => self.progressed.wait(&mut state),
                Some(deadline) => {
                    if self.progressed.wait_until(&mut state, deadline).timed_out() && state.finished < goal {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// No more bursts will come: the callback thread ends when it has run what is left.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
    }

    /// What is left will not be run, nor what may still come: a wait for it is over.
    pub fn abandon(&self) {
        self.close();
        self.finish(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(base_offset: i64) -> Outcome {
        Outcome::Delivered { base_offset, log_append_time_ms: -1 }
    }

    #[test]
    fn only_the_first_outcome_counts() {
        let completion = Completion::new("t".into(), 0);
        assert!(completion.add_callback(3, 7, true).is_ok());
        assert_eq!(completion.resolve(delivered(5)), Some(vec![(3, 7)]));
        assert_eq!(completion.resolve(delivered(6)), None);
        assert!(matches!(completion.outcome(), Some(Outcome::Delivered { base_offset: 5, .. })));
        assert_eq!(completion.add_callback(1, 9, true), Err(9));
    }

    #[test]
    fn a_split_takes_callbacks_marks_and_waiters_to_the_children() {
        let parent = Completion::new("t".into(), 0);
        parent.add_callback(1, 11, true).unwrap();
        parent.add_callback(4, 14, true).unwrap();
        parent.observe(2);
        let (left, right) = (Completion::new("t".into(), 0), Completion::new("t".into(), 0));
        assert!(parent.resolve_split(vec![(0, Arc::clone(&left)), (3, Arc::clone(&right))]));
        assert!(!parent.wait(4, Some(Instant::now())));
        assert_eq!(right.resolve(delivered(9)), Some(vec![(1, 14)]));
        assert!(parent.wait(4, None));
        assert!(!parent.wait_all(Some(Instant::now())));
        assert_eq!(left.unobserved(3), (1, Some(0)));
        assert_eq!(left.resolve(delivered(6)), Some(vec![(1, 11)]));
        assert!(parent.wait_all(None));
        assert_eq!(parent.add_callback(0, 1, true), Err(1));
    }

    #[test]
    fn the_queue_of_callbacks_says_when_what_was_pushed_has_run() {
        let queue = CallbackQueue::default();
        let completion = Completion::new("t".into(), 0);
        queue.push(Burst { completion, callbacks: vec![(0, 1)], charged: 7 });
        assert!(!queue.wait_until_run(Some(Instant::now())));
        assert_eq!(queue.take(Duration::ZERO).unwrap().unwrap().charged, 7);
        queue.finish(1);
        assert!(queue.wait_until_run(None));
        queue.close();
        assert_eq!(queue.take(Duration::ZERO).unwrap_err(), Closed);
    }

    #[test]
    fn nobody_waits_for_callbacks_that_were_abandoned() {
        let queue = CallbackQueue::default();
        let burst = || Burst { completion: Completion::new("t".into(), 0), callbacks: vec![(0, 1)], charged: 7 };
        queue.push(burst());
        queue.abandon();
        assert!(queue.wait_until_run(None));
        queue.push(burst());
        queue.finish(1);
        assert!(queue.wait_until_run(None));
    }
}
