//! A batch is resolved while futures are read: every callback comes back once, and every wait ends.

use std::sync::Arc;

use loom::thread;
use penstock_core::outcome::{CallbackToken, Completion, Outcome};

use crate::{explore, over};

fn delivered(base_offset: i64) -> Outcome {
    Outcome::Delivered { base_offset, log_append_time_ms: -1 }
}

fn pending() -> Arc<Completion> {
    Completion::new("t".into(), 0)
}

/// The tokens that come back from `resolve`.
fn tokens(resolved: Option<Vec<(u32, CallbackToken)>>) -> Vec<CallbackToken> {
    resolved.unwrap_or_default().into_iter().map(|(_, token)| token).collect()
}

#[test]
fn a_callback_runs_once_for_any_order_with_the_answer() {
    explore(3, || {
        let completion = pending();
        let adder = {
            let completion = Arc::clone(&completion);
            thread::spawn(move || completion.add_callback(0, CallbackToken(7), true).err())
        };
        let waiter = {
            let completion = Arc::clone(&completion);
            thread::spawn(move || {
                assert!(completion.wait(0, None));
                assert!(completion.outcome().is_some());
            })
        };
        let mut called = tokens(completion.resolve(delivered(5)));
        called.extend(adder.join().unwrap());
        waiter.join().unwrap();
        assert_eq!(called, [7].map(CallbackToken));
    });
}

#[test]
fn only_one_of_two_outcomes_counts() {
    explore(3, || {
        let completion = pending();
        completion.add_callback(0, CallbackToken(7), true).unwrap();
        let other = {
            let completion = Arc::clone(&completion);
            thread::spawn(move || tokens(completion.resolve(delivered(1))))
        };
        let mut called = tokens(completion.resolve(delivered(2)));
        called.extend(other.join().unwrap());
        assert_eq!(called, [7].map(CallbackToken));
    });
}

#[test]
fn a_wait_that_times_out_as_the_answer_comes_reports_the_true_state() {
    explore(3, || {
        let completion = pending();
        let waiter = {
            let completion = Arc::clone(&completion);
            thread::spawn(move || !completion.wait(0, Some(over())) || completion.outcome().is_some())
        };
        completion.resolve(delivered(1));
        assert!(waiter.join().unwrap());
    });
}

#[test]
fn callbacks_marks_and_waits_follow_a_split() {
    explore(2, || {
        let parent = pending();
        let (left, right) = (pending(), pending());
        let user = {
            let parent = Arc::clone(&parent);
            thread::spawn(move || {
                parent.observe(4);
                let refused = parent.add_callback(4, CallbackToken(14), false).err();
                assert!(refused.is_none() || parent.leaf(4).0.outcome().is_some(), "called too early");
                refused
            })
        };
        let waiter = {
            let parent = Arc::clone(&parent);
            thread::spawn(move || {
                assert!(parent.wait(4, None));
                let (leaf, index) = parent.leaf(4);
                assert!(matches!(leaf.outcome(), Some(Outcome::Delivered { base_offset: 9, .. })));
                assert_eq!(index, 1);
            })
        };
        assert!(parent.resolve_split(vec![(0, Arc::clone(&left)), (3, Arc::clone(&right))]));
        let mut called = tokens(right.resolve(delivered(9)));
        called.extend(user.join().unwrap());
        waiter.join().unwrap();
        assert_eq!(called, [14].map(CallbackToken));
    });
}

#[test]
fn an_observed_failure_stays_noticed_after_a_split() {
    explore(3, || {
        let parent = pending();
        let (left, right) = (pending(), pending());
        let user = {
            let parent = Arc::clone(&parent);
            thread::spawn(move || parent.observe(4))
        };
        parent.resolve_split(vec![(0, left), (3, Arc::clone(&right))]);
        user.join().unwrap();
        assert_eq!(right.unobserved(2), (1, Some(0)));
    });
}

#[test]
fn a_flush_waits_for_the_children_of_a_split() {
    explore(3, || {
        let parent = pending();
        let (left, right) = (pending(), pending());
        let flush = {
            let (parent, left, right) = (Arc::clone(&parent), Arc::clone(&left), Arc::clone(&right));
            thread::spawn(move || {
                assert!(parent.wait_all(None));
                assert!(left.outcome().is_some() && right.outcome().is_some());
            })
        };
        parent.resolve_split(vec![(0, Arc::clone(&left)), (3, Arc::clone(&right))]);
        left.resolve(delivered(6));
        right.resolve(delivered(9));
        flush.join().unwrap();
    });
}
