//! Senders that wait for metadata hear of a topic, and of the producer's end, without running out of time first.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::thread;
use penstock_core::accumulator::{Shared, TopicEntry};
use penstock_core::boundary::Trouble;
use penstock_core::outcome::completion::FailureKind;

use crate::{explore, never, shared, topic};

/// A sender that waits until the table of topics changes. It would wait for ever.
fn wait_for_news(shared: &Shared) {
    let seen = shared.topics_version.load(Ordering::Acquire);
    if shared.topic("t").topic.is_none() && !shared.closed.load(Ordering::Acquire) && shared.fatal().is_none() {
        shared.wait_for_topics(seen, never());
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
fn a_topic_that_appears() {
    meets(|shared| {
        shared.update_topic("t", |_| Some(TopicEntry { topic: Some(Arc::new(topic())), ..TopicEntry::default() }));
    });
}

#[test]
fn a_producer_that_closes() {
    meets(Shared::refuse_sends);
}

#[test]
fn a_producer_that_fails() {
    meets(|shared| shared.set_fatal(FailureKind::Internal, Trouble::new("a bug")));
}
