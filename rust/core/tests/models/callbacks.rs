//! The queue of callbacks between the I/O thread, the callback thread and a flush.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use penstock_core::outcome::{Burst, CallbackQueue, CallbackToken, Completion};

use crate::{explore, over};

const LONG: Duration = Duration::from_secs(3600);

fn burst(number: usize) -> Burst {
    Burst { completion: Completion::new("t".into(), 0), callbacks: vec![(0, CallbackToken(number))], charged: 0 }
}

/// The callback thread: the calls that it made, in order.
fn run(queue: &CallbackQueue) -> Vec<usize> {
    let mut ran = Vec::new();
    while let Ok(burst) = queue.take(LONG) {
        if let Some(burst) = burst {
            ran.push(burst.callbacks[0].1.0);
            queue.finish(1);
        }
    }
    ran
}

#[test]
fn every_burst_runs_in_order_and_the_end_arrives() {
    explore(3, || {
        let queue = Arc::new(CallbackQueue::default());
        let runner = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || run(&queue))
        };
        queue.push(burst(1));
        queue.push(burst(2));
        assert!(queue.wait_until_run(None));
        queue.close();
        assert_eq!(runner.join().unwrap(), [1, 2]);
    });
}

#[test]
fn a_flush_returns_after_the_callbacks_queued_before_it() {
    explore(3, || {
        let queue = Arc::new(CallbackQueue::default());
        queue.push(burst(1));
        let runner = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || run(&queue))
        };
        let flush = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                assert!(queue.wait_until_run(None));
                assert!(queue.wait_until_run(Some(over())), "it has run");
            })
        };
        flush.join().unwrap();
        queue.close();
        assert_eq!(runner.join().unwrap(), [1]);
    });
}
