//! An event loop's inbox: no wake-up is lost, a burst wakes as often as needed, and a withdrawn notice is not given.

use std::sync::Arc;

use loom::thread;
use penstock_core::event_loop::{LoopInbox, LoopToken, Notice};
use penstock_core::memory::BufferPool;
use penstock_core::outcome::{Completion, Outcome};

use crate::explore;

/// A loop: sleep until it is woken, read the inbox, until it has that many tokens.
fn receive(inbox: &LoopInbox, count: usize) -> Vec<usize> {
    let mut seen = Vec::new();
    while seen.len() < count {
        assert!(inbox.wait());
        loop {
            let (tokens, more) = inbox.take(1);
            seen.extend(tokens.into_iter().map(|LoopToken(number)| number));
            if !more {
                break;
            }
        }
    }
    seen
}

fn notice(inbox: &Arc<LoopInbox>, token: usize) -> Notice {
    Notice { inbox: Arc::clone(inbox), token: LoopToken(token) }
}

fn delivered() -> Outcome {
    Outcome::Delivered { base_offset: 1, log_append_time_ms: -1 }
}

#[test]
fn tokens_of_two_threads_are_received() {
    explore(3, || {
        let inbox = LoopInbox::with_thread();
        let putter = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || inbox.post([1, 2].map(LoopToken)))
        };
        inbox.post([3].map(LoopToken));
        let mut seen = receive(&inbox, 3);
        putter.join().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
    });
}

#[test]
fn a_notice_is_given_or_refused_for_any_order_with_the_answer() {
    explore(3, || {
        let inbox = LoopInbox::with_thread();
        let completion = Completion::new("t".into(), 0);
        let resolver = {
            let completion = Arc::clone(&completion);
            thread::spawn(move || completion.resolve(delivered()))
        };
        if completion.add_notice(0, &notice(&inbox, 7), true) {
            assert_eq!(receive(&inbox, 1), [7]);
        }
        resolver.join().unwrap();
        assert!(completion.outcome().is_some());
        assert_eq!(inbox.take(9), (vec![], false));
    });
}

#[test]
fn a_withdrawn_notice_reaches_no_other_waiter() {
    explore(3, || {
        let inbox = LoopInbox::with_thread();
        let completion = Completion::new("t".into(), 0);
        assert!(completion.add_notice(0, &notice(&inbox, 7), true));
        let resolver = {
            let completion = Arc::clone(&completion);
            thread::spawn(move || completion.resolve(delivered()))
        };
        let taken = completion.take_notices(0, true, |_| true).len();
        resolver.join().unwrap();
        assert_eq!(taken + inbox.take(9).0.len(), 1);
    });
}

#[test]
fn a_notice_follows_a_split() {
    explore(2, || {
        let inbox = LoopInbox::with_thread();
        let (parent, left, right) =
            (Completion::new("t".into(), 0), Completion::new("t".into(), 0), Completion::new("t".into(), 0));
        let splitter = {
            let (parent, left, right) = (Arc::clone(&parent), Arc::clone(&left), Arc::clone(&right));
            thread::spawn(move || {
                parent.resolve_split(vec![(0, left), (3, Arc::clone(&right))]);
                right.resolve(delivered());
            })
        };
        if parent.add_notice(4, &notice(&inbox, 7), true) {
            assert_eq!(receive(&inbox, 1), [7]);
        }
        splitter.join().unwrap();
        assert!(right.outcome().is_some());
    });
}

#[test]
fn memory_that_a_cancelled_waiter_was_granted_goes_to_the_next_in_a_loop() {
    explore(3, || {
        let inbox = LoopInbox::with_thread();
        let pool = Arc::new(BufferPool::new(10, [1, 1]));
        assert!(pool.try_take(10));
        let first = pool.queue(6, Some(notice(&inbox, 1)));
        let second = pool.queue(6, Some(notice(&inbox, 2)));
        let giver = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.give(10))
        };
        let was_waiting = pool.cancel(&first);
        let received = receive(&inbox, if was_waiting { 1 } else { 2 });
        giver.join().unwrap();
        // The other's notice may be posted later, when no caller waits.
        assert!(received.contains(&2), "notified of its grant");
        assert!(pool.is_granted(&second));
        pool.give(6);
        assert_eq!((pool.available(), pool.waiting()), (10, 0));
    });
}

#[test]
fn a_closed_inbox_ends_the_wait_of_its_loop() {
    explore(3, || {
        let inbox = LoopInbox::with_thread();
        let waiter = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || while inbox.wait() {})
        };
        inbox.post([1].map(LoopToken));
        inbox.close();
        waiter.join().unwrap();
    });
}
