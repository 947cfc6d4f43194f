//! Completions: one per batch, resolved exactly once.
//!
//! A record's future is (completion, index). A thousand futures of one batch are resolved by one store and one wake-up,
//! so a future per record costs little.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::failure::Failure;
use super::observed::Observed;
use crate::event_loop::{LoopToken, Notice, Notices};
use crate::sync::{Condvar, Mutex, MutexGuard, OnceLock};

/// A callback of the application's, opaque here: the binding keeps the object under this key and gets each key back
/// exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallbackToken(pub usize);

/// The outcome of a batch.
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
    /// KIP-126: its records continue in children; each entry is (index of its first record, child).
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
    watchers: Mutex<Watchers>,
    resolved: Condvar,
}

/// The waiters for the outcome, and the records observed. Separate, so that a batch without them never touches it.
#[derive(Debug, Default)]
struct Watchers {
    callbacks: Vec<(u32, CallbackToken)>,
    /// Posted to event loops once the batch is resolved, in this order.
    notices: Vec<(u32, Notice)>,
    /// Records that the application has observed, or that have a callback.
    observed: Observed,
}

impl Completion {
    /// A pending completion.
    pub fn new(topic: Arc<str>, partition: i32) -> Arc<Self> {
        let (watchers, resolved) = (Mutex::default(), Condvar::new());
        Arc::new(Self { topic, partition, outcome: OnceLock::new(), watchers, resolved })
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
            let child = child_of(children, &mut index);
            let next = Arc::clone(child);
            at = next;
        }
    }

    /// `act(index there, its watchers, whether it is resolved)` on the completion that holds record `index` now, locked.
    #[inline]
    fn at_leaf<R>(self: &Arc<Self>, index: u32, act: impl FnOnce(u32, &mut Watchers, bool) -> R) -> R {
        let (mut leaf, mut index) = self.leaf(index);
        loop {
            let mut watchers = leaf.watchers.lock();
            match leaf.outcome.get() {
                // The split came after the search and before the lock: the watchers have moved to the children.
                Some(Outcome::Split(_)) => {}
                outcome => return act(index, &mut watchers, outcome.is_some()),
            }
            drop(watchers);
            (leaf, index) = leaf.leaf(index);
        }
    }

    /// Resolve it. Only the first call counts; it returns the callbacks to run, in the order in which they were added.
    pub fn resolve(&self, outcome: Outcome) -> Option<Vec<(u32, CallbackToken)>> {
        let mut watchers = self.watchers.lock();
        // Under the lock, so that a waiter between its check and its wait, or an `add_callback`, cannot miss it.
        if self.outcome.set(outcome).is_err() {
            return None;
        }
        let callbacks = std::mem::take(&mut watchers.callbacks);
        let notices = std::mem::take(&mut watchers.notices);
        drop(watchers);
        self.resolved.notify_all();
        if !notices.is_empty() {
            Notices(notices.into_iter().map(|(_, notice)| notice).collect()).post();
        }
        Some(callbacks)
    }

    /// Resolve it as split: its watchers move to the children. False if it was resolved before.
    pub fn resolve_split(&self, children: Vec<(u32, Arc<Self>)>) -> bool {
        let mut watchers = self.watchers.lock();
        if self.outcome.get().is_some() {
            return false;
        }
        let old = std::mem::take(&mut *watchers);
        hand_down(&children, old.callbacks, |child, index, token| child.callbacks.push((index, token)));
        hand_down(&children, old.notices, |child, index, notice| child.notices.push((index, notice)));
        hand_down(&children, old.observed.iter().map(|index| (index, ())), |child, index, ()| {
            child.observed.mark(index);
        });
        let set = self.outcome.set(Outcome::Split(children));
        debug_assert!(set.is_ok(), "checked under the lock");
        drop(watchers);
        self.resolved.notify_all();
        true
    }

    /// Have `token` come back when the batch is resolved. An error returns it at once: the batch is already resolved.
    /// `observed`: the callback is the application's, so a failure of this record does not go unnoticed.
    pub fn add_callback(
        self: &Arc<Self>,
        index: u32,
        token: CallbackToken,
        observed: bool,
    ) -> Result<(), CallbackToken> {
        self.at_leaf(index, |index, watchers, resolved| {
            if resolved {
                return Err(token);
            }
            watchers.callbacks.push((index, token));
            if observed {
                watchers.observed.mark(index);
            }
            Ok(())
        })
    }

    /// Have `notice` posted when the batch is resolved. False: it already is. `observed` as in
    /// [`Completion::add_callback`].
    pub fn add_notice(self: &Arc<Self>, index: u32, notice: &Notice, observed: bool) -> bool {
        self.at_leaf(index, |index, watchers, resolved| {
            if resolved {
                return false;
            }
            watchers.notices.push((index, notice.clone()));
            if observed {
                watchers.observed.mark(index);
            }
            true
        })
    }

    /// The tokens of the notices that wait for record `index`.
    pub fn notices(self: &Arc<Self>, index: u32) -> Vec<LoopToken> {
        self.at_leaf(index, |index, watchers, _| {
            watchers.notices.iter().filter(|(at, _)| *at == index).map(|(_, notice)| notice.token).collect()
        })
    }

    /// Take back the notices for record `index` that are `wanted`; those that were posted are not found. `forget`: no one
    /// else will be notified of this record, so a failure of it is unnoticed again.
    pub fn take_notices(
        self: &Arc<Self>,
        index: u32,
        forget: bool,
        mut wanted: impl FnMut(LoopToken) -> bool,
    ) -> Vec<Notice> {
        self.at_leaf(index, |index, watchers, resolved| {
            let taken = watchers.notices.extract_if(.., |(at, notice)| *at == index && wanted(notice.token));
            let taken = taken.map(|(_, notice)| notice).collect();
            if forget && !resolved {
                watchers.observed.unmark(index);
            }
            taken
        })
    }

    /// The application read this record's result: its failure is no longer unnoticed.
    pub fn observe(self: &Arc<Self>, index: u32) {
        let (leaf, index) = self.leaf(index);
        if !matches!(leaf.outcome(), Some(Outcome::Delivered { .. })) {
            leaf.at_leaf(index, |index, watchers, _| watchers.observed.mark(index));
        }
    }

    /// [`Completion::observe`] for `count` neighbours.
    pub fn observe_run(self: &Arc<Self>, first: u32, count: u32) {
        self.leaves(first, count, &mut |leaf, first, count| {
            if matches!(leaf.outcome(), Some(Outcome::Delivered { .. })) {
                return;
            }
            let mut watchers = leaf.watchers.lock();
            if matches!(leaf.outcome(), Some(Outcome::Split(_))) {
                drop(watchers);
                return leaf.observe_run(first, count); // as in `at_leaf`
            }
            for index in first..first + count {
                watchers.observed.mark(index);
            }
        });
    }

    /// Where `count` neighbours are now, splits followed: `visit(completion, first, count)` for each batch, in order.
    pub fn leaves(self: &Arc<Self>, first: u32, count: u32, visit: &mut dyn FnMut(&Arc<Self>, u32, u32)) {
        let (mut at, mut first, mut end) = (self, first, first + count);
        // A batch whose records run out of time one after the other splits again and again, at its last part: that is
        // followed by a loop, here and below.
        while let Some(Outcome::Split(children)) = at.outcome.get() {
            let Some(((begin, last), others)) = children.split_last() else { return };
            for (place, (from, child)) in others.iter().enumerate() {
                let (from, until) = (first.max(*from), end.min(children[place + 1].0));
                if from < until {
                    child.leaves(from - others[place].0, until - from, visit);
                }
            }
            if end <= *begin {
                return;
            }
            (at, first, end) = (last, first.max(*begin) - begin, end - begin);
        }
        visit(at, first, end - first);
    }

    /// The completions of each record, splits followed, in order, until `done`: the one that it accepts.
    fn find(self: &Arc<Self>, done: &mut dyn FnMut(&Arc<Self>) -> bool) -> Option<Arc<Self>> {
        let mut at = self;
        loop {
            if done(at) {
                return Some(Arc::clone(at));
            }
            let Some(Outcome::Split(children)) = at.outcome.get() else { return None };
            let ((_, last), others) = children.split_last()?;
            if let Some(found) = others.iter().find_map(|(_, child)| child.find(done)) {
                return Some(found);
            }
            at = last;
        }
    }

    /// Whether every record is resolved, split children included.
    pub fn is_resolved(self: &Arc<Self>) -> bool {
        self.find(&mut |completion| completion.outcome.get().is_none()).is_none()
    }

    /// The first of these records that is not resolved: the completion that holds it now, and its index there. Younger
    /// records of the same batch may take longer.
    pub fn first_unresolved_in(self: &Arc<Self>, span: Range<u32>) -> Option<(Arc<Self>, u32)> {
        let mut found = None;
        self.leaves(span.start, span.end.saturating_sub(span.start), &mut |leaf, first, count| {
            if count == 0 || found.is_some() {
                return;
            }
            found = match leaf.outcome.get() {
                None => Some((Arc::clone(leaf), first)),
                // It was split since it was found to be none.
                Some(Outcome::Split(_)) => leaf.first_unresolved_in(first..first.saturating_add(count)),
                Some(_) => None,
            };
        });
        found
    }

    /// How many of `count` failed records the application has not observed, and the index of the first of them.
    pub fn unobserved(&self, count: u32) -> (u32, Option<u32>) {
        let watchers = self.watchers.lock();
        let seen = watchers.observed.count();
        if seen >= count {
            return (0, None);
        }
        (count - seen, (0..count).find(|&index| !watchers.observed.is_marked(index)))
    }

    /// Wait until record `index` is resolved, at most until `deadline`. True when it is.
    pub fn wait(self: &Arc<Self>, index: u32, deadline: Option<Instant>) -> bool {
        let (mut leaf, mut at) = self.leaf(index);
        loop {
            if !leaf.wait_self(deadline) {
                return false;
            }
            if !matches!(leaf.outcome.get(), Some(Outcome::Split(_))) {
                return true;
            }
            (leaf, at) = leaf.leaf(at);
        }
    }

    /// Wait until every record is resolved, split children included, at most until `deadline`. True when they are.
    pub fn wait_all(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        self.find(&mut |completion| !completion.wait_self(deadline)).is_none()
    }

    fn wait_self(&self, deadline: Option<Instant>) -> bool {
        let mut watchers = self.watchers.lock();
        self.resolved.wait_while(&mut watchers, deadline, |_| self.outcome.get().is_none())
    }
}

/// The children of a split are dropped by a loop: there may be a thousand generations.
impl Drop for Completion {
    fn drop(&mut self) {
        let mut splits: Vec<_> = self.outcome.take().into_iter().collect();
        while let Some(outcome) = splits.pop() {
            let Outcome::Split(children) = outcome else { continue };
            let mine = children.into_iter().filter_map(|(_, child)| Arc::into_inner(child));
            splits.extend(mine.filter_map(|mut child| child.outcome.take()));
        }
    }
}

/// Move what watches records of a split batch to its children; neighbours mostly go to the same one.
fn hand_down<T>(
    children: &[(u32, Arc<Completion>)],
    watching: impl IntoIterator<Item = (u32, T)>,
    put: impl Fn(&mut Watchers, u32, T),
) {
    let mut locked: Option<(&Arc<Completion>, MutexGuard<'_, Watchers>)> = None;
    for (mut index, what) in watching {
        let child = child_of(children, &mut index);
        if !locked.as_ref().is_some_and(|(other, _)| Arc::ptr_eq(other, child)) {
            drop(locked.take());
        }
        let (_, watchers) = locked.get_or_insert_with(|| (child, child.watchers.lock_nested()));
        put(watchers, index, what);
    }
}

/// The child of a split that holds record `index`, which becomes the index there.
fn child_of<'a>(children: &'a [(u32, Arc<Completion>)], index: &mut u32) -> &'a Arc<Completion> {
    let (first, child) = &children[children.partition_point(|(first, _)| *first <= *index) - 1];
    *index -= first;
    child
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
        assert!(completion.add_callback(3, CallbackToken(7), true).is_ok());
        assert_eq!(completion.resolve(delivered(5)), Some(vec![(3, CallbackToken(7))]));
        assert_eq!(completion.resolve(delivered(6)), None);
        assert!(matches!(completion.outcome(), Some(Outcome::Delivered { base_offset: 5, .. })));
        assert_eq!(completion.add_callback(1, CallbackToken(9), true), Err(CallbackToken(9)));
    }

    #[test]
    fn a_split_takes_callbacks_marks_and_waiters_to_the_children() {
        let parent = Completion::new("t".into(), 0);
        parent.add_callback(1, CallbackToken(11), true).unwrap();
        parent.add_callback(4, CallbackToken(14), true).unwrap();
        parent.observe(2);
        let (left, right) = (Completion::new("t".into(), 0), Completion::new("t".into(), 0));
        assert!(parent.resolve_split(vec![(0, Arc::clone(&left)), (3, Arc::clone(&right))]));
        assert!(!parent.wait(4, Some(Instant::now())));
        assert_eq!(right.resolve(delivered(9)), Some(vec![(1, CallbackToken(14))]));
        assert!(parent.wait(4, None));
        assert!(!parent.wait_all(Some(Instant::now())));
        assert_eq!(left.unobserved(3), (1, Some(0)));
        assert_eq!(left.resolve(delivered(6)), Some(vec![(1, CallbackToken(11))]));
        assert!(parent.wait_all(None));
        assert_eq!(parent.add_callback(0, CallbackToken(1), true), Err(CallbackToken(1)));
    }

    #[test]
    fn a_batch_whose_records_fail_one_after_the_other_splits_as_often() {
        let root = Completion::new("t".into(), 0);
        let records = 50_000;
        let mut last = Arc::clone(&root);
        for index in 0..records - 1 {
            let (front, rest) = (Completion::new("t".into(), 0), Completion::new("t".into(), 0));
            assert!(last.resolve_split(vec![(0, Arc::clone(&front)), (1, Arc::clone(&rest))]));
            front.resolve(delivered(i64::from(index)));
            last = rest;
        }
        assert!(!root.is_resolved() && !root.wait_all(Some(Instant::now())));
        let (unresolved, index) = root.first_unresolved_in(0..records).unwrap();
        assert!(Arc::ptr_eq(&unresolved, &last) && index == 0);
        assert!(root.first_unresolved_in(0..records - 1).is_none(), "younger records do not count");
        last.resolve(delivered(i64::from(records) - 1));
        assert!(root.is_resolved() && root.wait_all(None));
        let mut visited = 0;
        root.leaves(2, records - 3, &mut |leaf, first, count| {
            let expected = delivered(2 + visited);
            assert_eq!((format!("{:?}", leaf.outcome()), first, count), (format!("{:?}", Some(&expected)), 0, 1));
            visited += 1;
        });
        assert_eq!(visited, i64::from(records) - 3);
        drop((root, last));
    }
}
