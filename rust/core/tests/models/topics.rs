//! Senders that wait for metadata are notified of a topic, and of the producer's end, before they run out of time.

use std::sync::Arc;

use loom::thread;
use penstock_core::boundary::Trouble;
use penstock_core::outcome::FailureKind;
use penstock_core::shared::{Shared, TopicEntry};

use crate::{explore, never, shared, topic};

/// A sender that waits until the table of topics changes. It would wait forever.
fn wait_for_news(shared: &Shared) {
    let seen = shared.topics.version();
    if shared.topics.entry("t").topic.is_none() && !shared.hurry.is_closed() && shared.failures.fatal().is_none() {
        shared.topics.wait(seen, never());
    }
}

fn meets(news: fn(&Shared)) {
    explore(3, move || {
        let shared = shared();
        let sender = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || wait_for_news(&shared))
        };
        news(&shared);
        sender.join().unwrap();
    });
}

#[test]
fn a_waiting_sender_gets_a_topic_that_appears() {
    meets(|shared| {
        shared.topics.update("t", |_| Some(TopicEntry { topic: Some(Arc::new(topic())), ..TopicEntry::default() }));
    });
}

#[test]
fn a_waiting_sender_notices_that_the_producer_closes() {
    meets(Shared::refuse_sends);
}

#[test]
fn a_waiting_sender_notices_that_the_producer_fails() {
    meets(|shared| shared.set_fatal(FailureKind::Internal, Trouble::new("a bug")));
}
