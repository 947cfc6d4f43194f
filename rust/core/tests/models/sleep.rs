//! The I/O thread goes to sleep while other threads leave something for it: nothing is slept over.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::thread;
use penstock_core::append::{Appended, Record};
use penstock_core::boundary::{Command, Trouble};
use penstock_core::shared::Shared;

use crate::{LINGER_US, WakeUp, explore, shared, topic};

/// The loop of `net::run`, without sockets: until `done` with the inbox.
fn sleep_until(shared: &Shared, wake_up: &WakeUp, until_us: u64, mut done: impl FnMut(&Shared) -> bool) {
    while !done(shared) {
        if shared.mailbox.prepare_sleep(until_us) {
            wake_up.wait();
        }
        shared.mailbox.awake();
    }
}

fn status() -> Command {
    Command::SetStatus { trouble: Trouble::default() }
}

#[test]
fn commands_of_two_threads_wake_the_io_thread() {
    explore(3, || {
        let shared = shared();
        let wake_up = WakeUp::on(&shared);
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.mailbox.command([status()]))
            })
            .collect();
        let mut commands = 0;
        sleep_until(&shared, &wake_up, u64::MAX, |shared| {
            commands += shared.mailbox.take().commands.len();
            commands == 2
        });
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn the_end_of_the_producer_wakes_the_io_thread() {
    explore(3, || {
        let shared = shared();
        let wake_up = WakeUp::on(&shared);
        let closer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.mailbox.request_stop())
        };
        sleep_until(&shared, &wake_up, u64::MAX, |shared| shared.mailbox.is_stopped());
        closer.join().unwrap();
    });
}

#[test]
fn a_linger_that_ends_before_the_sleep_wakes_the_io_thread() {
    explore(3, || {
        let shared = shared();
        let wake_up = WakeUp::on(&shared);
        let sender = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || append(&shared))
        };
        let mut timers = Vec::new();
        sleep_until(&shared, &wake_up, 2 * LINGER_US, |shared| {
            timers.extend(shared.mailbox.take().timers.into_iter().map(|(at_us, _)| at_us));
            !timers.is_empty()
        });
        assert_eq!(timers, [1 + LINGER_US]);
        sender.join().unwrap();
    });
}

#[test]
fn a_linger_that_ends_after_the_sleep_causes_no_wake_up() {
    explore(3, || {
        let shared = shared();
        let woken = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let wake_up = Arc::clone(&woken);
        shared.mailbox.set_waker(Box::new(move || wake_up.store(true, Ordering::Relaxed)));
        let sender = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || append(&shared))
        };
        shared.mailbox.prepare_sleep(LINGER_US);
        sender.join().unwrap();
        assert!(!woken.load(Ordering::Relaxed), "the I/O thread is up before the linger is over");
        assert_eq!(shared.mailbox.take().timers.len(), 1);
    });
}

fn append(shared: &Shared) {
    let record = Record { timestamp: 1, key: None, value: Some(b"x"), headers: &[] };
    assert!(matches!(shared.append(&topic(), Some(0), &record, None, &mut 0), Appended::Done { .. }));
}
