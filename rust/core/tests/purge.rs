//! `purge`: what was never sent fails at once; what was sent ends as it ends.

#[path = "common/rig.rs"]
mod rig;

use std::sync::Arc;
use std::time::Duration;

use penstock_core::boundary::{Command, Decision};
use penstock_core::compression::{Codec, Compression, Encoder};
use penstock_core::config::Config;
use penstock_core::outcome::{CallbackToken, Completion, FailureKind, Outcome};

use rig::{MS, Rig, config, offset};

/// Failed as purged, and not in the log.
fn is_purged(completion: &Arc<Completion>) -> bool {
    match completion.outcome() {
        None | Some(Outcome::Delivered { .. }) => false,
        Some(Outcome::Failed(failure)) => {
            assert_eq!((failure.kind, failure.stage), (FailureKind::Purged, "linger"));
            assert!(!failure.possibly_persisted && failure.attempts == 0);
            true
        }
        Some(Outcome::Split(_)) => panic!("split"),
    }
}

#[test]
fn what_is_in_flight_is_not_touched_and_later_records_are_sent() {
    let mut rig = Rig::ready(config(), 1);
    let (flying, _) = rig.send(0, b"flying");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    let waiting: Vec<_> = (0..3).map(|n| rig.send(0, &[n; 700]).0).collect();
    assert_eq!(rig.shared.purge(None), 3);
    assert!(waiting.iter().all(is_purged));
    assert_eq!(rig.shared.purge(None), 0);
    assert_eq!(rig.shared.pool.available(), 99_000, "the one in flight has its memory");
    let (next, _) = rig.send(0, b"next");
    rig.answer(1, &seen, 0, 4);
    assert_eq!(offset(&flying), Some(4));
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    assert_eq!((seen.len(), seen[0].sequence), (1, 1), "no gap");
    rig.answer(1, &seen, 0, 5);
    assert_eq!(offset(&next), Some(5));
    assert_eq!(rig.shared.pool.available(), 100_000);
}

#[test]
fn a_batch_that_waits_for_its_retry_is_sent_again() {
    let mut rig = Rig::ready(config(), 1);
    let (tried, _) = rig.send(0, b"tried");
    rig.pass(6 * MS);
    let first = rig.seen(1);
    let (behind, _) = rig.send(0, b"behind");
    rig.answer(1, &first, 19, -1);
    let report = rig.handed_over().remove(0);
    assert_eq!(rig.shared.purge(None), 1, "while the control plane decides");
    rig.resume(&report, |_| Decision::Retry, None);
    assert_eq!(rig.shared.purge(None), 0);
    rig.pass(MS);
    let again = rig.seen(1);
    assert_eq!(again[0].bytes, first[0].bytes);
    rig.answer(1, &again, 0, 0);
    assert!(is_purged(&behind) && offset(&tried) == Some(0));
    assert_eq!(rig.shared.pool.available(), 100_000);
}

#[test]
fn only_records_of_the_topic_are_purged() {
    let mut rig = Rig::ready(config(), 2);
    let sent = [rig.send(0, b"a").0, rig.send(1, b"b").0];
    assert_eq!(rig.shared.purge(Some("another")), 0);
    assert!(sent.iter().all(|completion| completion.outcome().is_none()));
    assert_eq!(rig.shared.purge(Some("t")), 2);
    assert!(sent.iter().all(is_purged));
    rig.pass(6 * MS);
    assert!(rig.seen(1).is_empty());
}

#[test]
fn a_flush_and_a_sender_that_waits_for_memory_go_on() {
    let rig = Rig::ready(config(), 1);
    let sent: Vec<_> = (0..100).map(|_| rig.send(0, &[1; 900]).0).collect();
    assert_eq!(rig.shared.pool.available(), 0);
    let pending = rig.shared.begin_flush();
    let waiter = rig.shared.queue_for_memory(1_000, None);
    assert!(!rig.shared.pool.is_granted(&waiter));
    assert_eq!(rig.shared.purge(None), 100);
    assert!(rig.shared.pool.is_granted(&waiter));
    assert!(pending.iter().all(Completion::is_resolved));
    assert!(sent.iter().all(is_purged));
    assert_eq!(rig.shared.failures.take_unnoticed().0.len(), 0, "the caller knows");
}

#[test]
fn callbacks_are_called_and_keep_the_memory_until_then() {
    let mut rig = Rig::ready(config(), 1);
    let (completion, index) = rig.send(0, b"x");
    completion.add_callback(index, CallbackToken(7), true).unwrap();
    assert_eq!(rig.shared.purge(None), 1);
    assert_eq!(rig.shared.pool.available(), 99_000);
    let burst = rig.shared.callbacks.take(Duration::ZERO).unwrap().unwrap();
    assert_eq!((burst.callbacks, burst.charged), (vec![(0, CallbackToken(7))], 1_000));
    rig.pass(6 * MS);
    rig.engine.shut_down();
    assert!(rig.seen(1).is_empty());
}

#[test]
fn a_batch_that_a_codec_worker_has_is_abandoned() {
    let compression = Compression { codec: Codec::Lz4, level: 9 };
    let mut rig = Rig::ready(Config { compression, ..config() }, 1);
    let codecs = rig.shared.encoding.codecs().unwrap();
    codecs.step_by_hand();
    let (completion, _) = rig.send(0, b"x");
    rig.pass(6 * MS);
    let codecs = rig.shared.encoding.codecs().unwrap();
    let job = codecs.take(0).unwrap();
    assert_eq!(rig.shared.purge(None), 1);
    assert!(is_purged(&completion));
    assert_eq!(rig.shared.pool.available(), 99_000, "the worker reads the records");
    codecs.run(job, &*rig.shared, &mut Encoder::new(codecs.compression).unwrap()).unwrap();
    assert_eq!(rig.shared.pool.available(), 100_000);
    rig.pass(6 * MS);
    assert!(rig.seen(1).is_empty());
}

#[test]
fn without_a_leader_or_after_the_end_nothing_breaks() {
    let mut rig = Rig::ready(config(), 1);
    rig.leaders(2, &[(-1, 1)]);
    let (completion, _) = rig.send(0, b"x");
    rig.pass(6 * MS);
    assert_eq!(rig.shared.purge(None), 1);
    assert!(is_purged(&completion));
    rig.leaders(3, &[(1, 2)]);
    let (next, _) = rig.send(0, b"next");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 0, 0);
    assert_eq!(offset(&next), Some(0));
    rig.engine.shut_down();
    assert_eq!(rig.shared.purge(None), 0);
    rig.command(Command::ForgetTopic { name: "t".into() });
    assert_eq!(rig.shared.purge(Some("t")), 0);
}
