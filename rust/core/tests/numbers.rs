//! Sequences and identities in the engine: past the last number, adopted by quiet lanes only, answered twice.

#[path = "common/rig.rs"]
mod rig;

use penstock_core::boundary::{Command, Decision, Event};
use penstock_core::lane::fate::Fate;
use penstock_core::lane::identity::Identity;
use penstock_core::outcome::{FailureKind, Outcome};

use rig::{ME, MS, Rig, config, offset};

/// A lane with this next sequence, in a producer with one batch in flight until its first success.
fn at_sequence(first: i32) -> Rig {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, &[0; 900]);
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 87, -1);
    let report = rig.handed_over().remove(0);
    rig.resume(
        &report,
        |_| Decision::Fail { kind: FailureKind::Broker, code: 87, message: String::new() },
        Some((ME, first)),
    );
    rig
}

/// Batches of `records` small records each; full ones, so that nothing lingers.
fn send_batches(rig: &mut Rig, batches: usize, records: usize) {
    for _ in 0..batches * records {
        rig.send(0, &vec![7; 900 / records]);
    }
    rig.pass(6 * MS);
}

#[test]
fn sequences_continue_at_zero_after_the_last_number() {
    let mut rig = at_sequence(i32::MAX - 3);
    send_batches(&mut rig, 1, 3);
    let first = rig.seen(1);
    assert_eq!((first[0].sequence, first[0].records), (i32::MAX - 3, 3));
    rig.answer(1, &first, 0, 0);
    send_batches(&mut rig, 3, 3);
    let seen = rig.seen(1);
    assert_eq!(seen.iter().map(|batch| batch.sequence).collect::<Vec<_>>(), [i32::MAX, 2, 5]);
    assert!(seen.iter().all(|batch| (batch.producer_id, batch.epoch) == (ME.producer_id, ME.epoch)));
    rig.answer(1, &seen[..1], 0, 3);
    rig.answer(1, &seen[1..2], 19, -1);
    rig.answer(1, &seen[2..], 45, -1);
    let report = rig.handed_over().remove(0);
    // The batch that began with the last number ended with 1.
    assert_eq!(report.last_acked_sequence, 1);
    assert_eq!(report.batches.iter().map(|batch| batch.base_sequence).collect::<Vec<_>>(), [2, 5]);
    rig.resume(&report, |_| Decision::Retry, None);
    rig.pass(MS);
    let resent = rig.seen(1);
    assert_eq!(resent.iter().map(|batch| &batch.bytes).collect::<Vec<_>>(), [&seen[1].bytes, &seen[2].bytes]);
}

#[test]
fn a_new_identity_waits_until_the_lane_is_quiescent() {
    let newer = Identity { producer_id: ME.producer_id, epoch: 1 };
    let mut rig = Rig::ready(config(), 1);
    send_batches(&mut rig, 1, 1);
    let first = rig.seen(1);
    rig.answer(1, &first, 0, 0);
    send_batches(&mut rig, 2, 1);
    let seen = rig.seen(1);
    assert_eq!(seen.len(), 2);
    rig.command(Command::SetIdentity(newer));
    send_batches(&mut rig, 1, 1);
    let meanwhile = rig.seen(1);
    assert_eq!((meanwhile[0].epoch, meanwhile[0].sequence), (0, 3), "two are in flight under the old one");
    rig.answer(1, &seen[..1], 0, 1);
    rig.answer(1, &seen[1..], 0, 2);
    rig.answer(1, &meanwhile, 0, 3);
    send_batches(&mut rig, 2, 1);
    let quiet = rig.seen(1);
    assert_eq!(quiet.iter().map(|batch| (batch.epoch, batch.sequence)).collect::<Vec<_>>(), [(1, 0)], "one at first");
    rig.answer(1, &quiet, 0, 4);
    rig.pass(MS);
    assert_eq!(rig.seen(1)[0].sequence, 1);
}

#[test]
fn a_batch_that_waits_to_be_sent_again_keeps_its_identity() {
    let newer = Identity { producer_id: ME.producer_id, epoch: 1 };
    let mut rig = Rig::ready(config(), 1);
    send_batches(&mut rig, 1, 1);
    let sent = rig.seen(1);
    rig.command(Command::Close { connection_id: 1, reason: "cut".into() });
    let report = rig.handed_over().remove(0);
    assert_eq!(report.batches[0].fate, Fate::Unknown);
    rig.command(Command::SetIdentity(newer));
    rig.resume(&report, |_| Decision::Retry, None);
    rig.connect(2, 1);
    rig.pass(MS);
    let resent = rig.seen(2);
    assert_eq!(resent[0].bytes, sent[0].bytes, "it may be in the log: other numbers would put it there twice");
    rig.answer(2, &resent, 0, 0);
    send_batches(&mut rig, 1, 1);
    assert_eq!((rig.seen(2)[0].epoch), 1);
}

#[test]
fn an_answer_that_comes_twice_ends_its_connection_and_counts_once() {
    let mut rig = Rig::ready(config(), 1);
    let (sent, _) = rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 0, 5);
    rig.answer(1, &seen, 0, 6);
    assert_eq!(offset(&sent), Some(5));
    assert!(rig.events().iter().any(|event| matches!(event, Event::ConnectionClosed { connection_id: 1, .. })));
}

#[test]
fn a_duplicate_is_delivered_without_an_offset_and_numbers_go_on_behind_it() {
    let mut rig = Rig::ready(config(), 1);
    let (sent, _) = rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 46, -1);
    let report = rig.handed_over().remove(0);
    rig.resume(&report, |_| Decision::Complete { base_offset: -1 }, None);
    assert!(matches!(sent.outcome(), Some(Outcome::Delivered { base_offset: -1, .. })));
    send_batches(&mut rig, 1, 1);
    assert_eq!(rig.seen(1)[0].sequence, 1);
}

#[test]
fn renumbering_a_batch_of_unknown_fate_fails_the_producer() {
    let mut rig = Rig::ready(config(), 1);
    let (sent, _) = rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 7, 3);
    let report = rig.handed_over().remove(0);
    rig.resume(&report, |_| Decision::Retry, Some((Identity { producer_id: 42, epoch: 1 }, 0)));
    assert!(matches!(sent.outcome(), Some(Outcome::Failed(failure)) if failure.possibly_persisted));
    assert!(rig.events().iter().any(|event| matches!(event, Event::EngineFailed { .. })));
}

#[test]
fn an_offset_at_the_maximum_is_harmless() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, b"x");
    let (completion, _) = rig.send(0, b"y");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 0, i64::MAX);
    assert_eq!(offset(&completion), Some(i64::MAX));
}
