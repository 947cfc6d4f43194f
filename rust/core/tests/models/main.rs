//! Where threads meet, every order of events tried out (loom): `cargo test -p penstock-core --features models --test models`.
//!
//! The code under test is the crate's own; only its locks and atomics are loom's. No thread may wait forever (loom reports a
//! deadlock), and what each model asserts must hold in every order. Preemptions per order are bounded: by two, or by
//! `MODEL_PREEMPTIONS` (`make models`). Loom has no time: a wait whose deadline is over stands for one that ends then.
//!
//! Each model was seen to fail, by breaking the code on purpose:
//!
//! | model | broken | seen |
//! |---|---|---|
//! | sleep | no fence in `wake`, or in `prepare_sleep` | the end is slept over |
//! | sleep | `prepare_sleep` does not check `stop`; not the inbox | the end, a command is slept over |
//! | sleep | `announce` wakes for no linger; `wake` wakes at any time | slept over; woken for nothing |
//! | sleep | `wake` without its compare-and-exchange | everything is slept over |
//! | memory | `cancel` keeps what was granted; does not grant what is free | memory is lost; a waiter waits forever |
//! | memory | `grant` does not notify; takes the last first; `wait` checks before it locks | a deadlock; overtaken |
//! | memory | `try_take` past those who wait | overtaken |
//! | memory | `end_shortage` without its second check | lingering while a sender waits |
//! | completion | `resolve` sets the outcome after it has released the lock; does not notify | a callback lost; a deadlock |
//! | completion | `at_leaf` does not check again under the lock; does not follow a split | a callback lost; called too early |
//! | completion | `observe`, `wait`, `wait_all` do not follow a split; callbacks stay with the parent | a mark, a wait, a callback lost |
//! | callbacks | `push`, `finish`, `close` do not notify; `take` takes the newest | a deadlock; out of order |
//! | codecs | `submit`, `close` do not notify; a worker is not counted as idle; the lane is not announced | a deadlock |
//! | codecs | `close` leaves what waits; `settle_memory` without what is owed, or without waiting for the worker | memory is lost; given twice |
//! | topics | `TopicTable::notify` counts the change outside the lock (`refuse_sends` and `set_fatal` did) | a deadlock |
//! | loops | `take` clears the pending wake-up after it has released the lock | slept over |
//! | loops | `at_leaf` does not check again under the lock; `resolve_split` leaves notices with the parent | a notice lost |
//! | loops | `cancel` of a waiter does not return whether it was granted; `close` does not notify | a notice that never comes; a deadlock |
//! | flush | `begin_flush` without its sweep, or in a hurry only after it; `sweep` does not wake | a flush that never returns |
//! | flush | `fail_everything` leaves lanes open | a record without an outcome after the end |

mod callbacks;
mod codecs;
mod completion;
mod flush;
mod loops;
mod memory;
#[path = "../common/rig.rs"]
mod rig;
mod sleep;
mod topics;

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_core::config::Config;
use penstock_core::config::PartitionRules;
use penstock_core::config::SendRules;
use penstock_core::lane::Lane;
use penstock_core::shared::Shared;
use penstock_core::sync::{Condvar, Mutex};
use penstock_core::topic::{BrokerHealth, Leader, Topic, TopicState};

const LINGER_US: u64 = 5_000;

/// Try out every order of `scenario` with up to `preemptions` switches away from a thread that could go on.
fn explore(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    let asked = std::env::var("MODEL_PREEMPTIONS").ok().and_then(|text| text.parse().ok());
    model.preemption_bound = Some(asked.unwrap_or(preemptions));
    model.max_branches = 20_000;
    model.check(scenario);
}

/// A deadline that is over.
fn over() -> Instant {
    Instant::now()
}

/// A deadline that never comes.
fn never() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

fn config() -> Config {
    let config = rig::config();
    Config {
        rules: SendRules { idempotent: false, linger_us: LINGER_US, ..config.rules },
        partitioning: PartitionRules { adaptive: false, ..config.partitioning },
        batch_size: 100,
        buffer_memory: 1_000,
        max_idle_us: None,
        ..config
    }
}

/// The clock stands at 1 µs.
fn shared() -> Arc<Shared> {
    let shared = Shared::new(config());
    shared.clock.set_us(1);
    shared
}

/// A topic of one partition that the engine does not have.
fn topic() -> Topic {
    let name: Arc<str> = "t".into();
    Topic {
        lanes: vec![Lane::new(0, Arc::clone(&name), 0)],
        leaders: vec![Leader { id: 1, local: false, health: Arc::new(BrokerHealth::default()) }],
        name,
        id: [0; 16],
        version: 1,
        partitions: 1,
        state: TopicState::new(1, 0),
    }
}

/// The wake-up of the I/O thread, as by an event descriptor: one before the wait ends the wait.
#[derive(Debug, Default)]
struct WakeUp {
    pending: Mutex<bool>,
    changed: Condvar,
}

impl WakeUp {
    fn on(shared: &Shared) -> Arc<Self> {
        let wake_up = Arc::new(Self::default());
        let mine = Arc::clone(&wake_up);
        shared.mailbox.set_waker(Box::new(move || mine.send()));
        wake_up
    }

    fn send(&self) {
        *self.pending.lock() = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let mut pending = self.pending.lock();
        while !*pending {
            self.changed.wait(&mut pending);
        }
        *pending = false;
    }
}
