//! buffer.memory: grants, timeouts and returns at once; no byte is lost, and no waiter overtakes.

use std::sync::Arc;

use loom::thread;
use penstock_core::memory::BufferPool;

use crate::{explore, never, over, shared};

fn exhausted(bytes: usize) -> Arc<BufferPool> {
    let pool = Arc::new(BufferPool::new(bytes, [1, 1]));
    assert!(pool.try_take(bytes));
    pool
}

/// A caller of `send` that runs out of max.block.ms, whenever that is.
fn give_up(pool: &BufferPool, bytes: usize) {
    let waiter = pool.queue(bytes, None);
    if pool.wait(&waiter, over()) {
        pool.give(bytes);
    } else {
        pool.cancel(&waiter);
    }
}

#[test]
fn a_cancelled_waiter_loses_no_memory_and_blocks_no_other_waiter() {
    explore(3, || {
        let pool = exhausted(10);
        let patient = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let waiter = pool.queue(6, None);
                while !pool.wait(&waiter, never()) {}
                pool.give(6);
            })
        };
        let impatient = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || give_up(&pool, 6))
        };
        pool.give(10);
        patient.join().unwrap();
        impatient.join().unwrap();
        assert_eq!((pool.available(), pool.waiting()), (10, 0));
    });
}

#[test]
fn a_small_late_waiter_is_not_served_before_a_large_early_one() {
    explore(3, || {
        let pool = exhausted(10);
        let (early, late) = (pool.queue(8, None), pool.queue(1, None));
        let givers: Vec<_> = [4, 6]
            .map(|bytes| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || pool.give(bytes))
            })
            .into();
        while !pool.wait(&late, never()) {}
        assert!(pool.wait(&early, over()));
        for giver in givers {
            giver.join().unwrap();
        }
        assert_eq!(pool.available(), 1);
    });
}

#[test]
fn a_new_caller_does_not_take_the_memory_of_a_waiter() {
    explore(3, || {
        let pool = exhausted(10);
        let waiter = pool.queue(10, None);
        let passer = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.try_take(1))
        };
        pool.give(4);
        pool.give(6);
        assert!(!passer.join().unwrap());
        assert!(pool.wait(&waiter, over()));
    });
}

#[test]
fn while_a_sender_waits_for_memory_no_batch_lingers() {
    explore(3, || {
        let shared = shared();
        assert!(shared.pool.try_take(1_000));
        // A shortage that is over, but `relax` has not run yet.
        let waiter = shared.queue_for_memory(1, None);
        shared.pool.cancel(&waiter);
        let sender = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.queue_for_memory(1, None))
        };
        shared.relax();
        let _waiter = sender.join().unwrap();
        assert!(shared.hurry.is_on());
    });
}
