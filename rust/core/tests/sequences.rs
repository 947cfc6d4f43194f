//! Numbers and order: sequences, identities, retries and splits, as the broker sees them.

#[path = "common/rig.rs"]
mod rig;

use std::collections::VecDeque;

use penstock_core::boundary::{Command, Decision};
use penstock_core::lane::fate::Fate;
use penstock_core::lane::identity::Identity;
use penstock_core::outcome::{FailureKind, Outcome};

use rig::{Answer, FINE, ME, MS, Rig, Seen, config, offset};

const BUMPED: Identity = Identity { producer_id: ME.producer_id, epoch: ME.epoch + 1 };

/// A rig with a first success on each lane: sequence 0, offset 0. From now on five batches may be in flight.
fn confirmed(produce_version: i16, partitions: usize) -> Rig {
    let mut rig = Rig::speaking(produce_version, config(), partitions);
    for partition in 0..partitions {
        rig.send(partition as u32, &[1; 900]);
    }
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 0, 0);
    rig.events();
    rig
}

/// So many batches of one record each for partition 0, all of them in flight.
fn in_flight(rig: &mut Rig, batches: usize) -> Vec<Seen> {
    for _ in 0..batches {
        rig.send(0, &[1; 900]);
    }
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    assert_eq!(seen.len(), batches);
    seen
}

fn sequences(seen: &[Seen]) -> Vec<i32> {
    seen.iter().map(|batch| batch.sequence).collect()
}

fn fail(code: i16) -> Decision {
    Decision::Fail { kind: FailureKind::Broker, code, message: "refused".into() }
}

#[test]
fn sequences_count_records() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, b"a");
    rig.send(0, b"b");
    rig.pass(6 * MS);
    let first = rig.seen(1);
    assert_eq!((first[0].sequence, first[0].records), (0, 2));
    rig.answer(1, &first, 0, 0);
    rig.send(0, b"c");
    rig.pass(6 * MS);
    assert_eq!(sequences(&rig.seen(1)), [2]);
}

#[test]
fn batches_that_failed_together_are_resent_in_order_before_later_ones() {
    let mut rig = confirmed(3, 1);
    let seen = in_flight(&mut rig, 3);
    rig.answer(1, &seen[..1], 5, -1);
    rig.send(0, &[2; 900]);
    rig.answer(1, &seen[1..2], 45, -1);
    rig.answer(1, &seen[2..], 45, -1);
    let report = rig.handed_over().remove(0);
    rig.resume(&report, |_| Decision::Retry, None);
    rig.pass(6 * MS);
    let again = rig.seen(1);
    assert_eq!(sequences(&again), [1, 2, 3, 4]);
    assert!(again.iter().zip(&seen).all(|(second, first)| second.bytes == first.bytes));
    for batch in &again {
        rig.answer(1, std::slice::from_ref(batch), 0, i64::from(batch.sequence));
    }
    assert_eq!(rig.shared.pool.available(), 100_000);
}

#[test]
fn a_batch_whose_successor_was_acknowledged_is_resent_unchanged() {
    for complete in [false, true] {
        let mut rig = confirmed(3, 1);
        let seen = in_flight(&mut rig, 2);
        rig.answer(1, &seen[..1], 7, 1);
        rig.answer(1, &seen[1..], 0, 2);
        let report = rig.handed_over().remove(0);
        assert_eq!((report.batches.len(), report.batches[0].fate), (1, Fate::Unknown));
        assert_eq!(report.last_acked_sequence, 2);
        if complete {
            // As after DUPLICATE_SEQUENCE_NUMBER.
            rig.resume(&report, |_| Decision::Complete { base_offset: -1 }, None);
        } else {
            rig.resume(&report, |_| Decision::Retry, None);
            rig.pass(MS);
            let again = rig.seen(1);
            assert_eq!(again[0].bytes, seen[0].bytes);
            rig.answer(1, &again, 0, 1);
        }
        let refused = in_flight(&mut rig, 1);
        assert_eq!(sequences(&refused), [3]);
        rig.answer(1, &refused, 87, -1);
        let report = rig.handed_over().remove(0);
        assert_eq!(report.last_acked_sequence, 2, "3 is the number that is due");
    }
}

#[test]
fn the_last_acknowledged_sequence_wraps_after_the_last_number() {
    let mut rig = confirmed(3, 1);
    let seen = in_flight(&mut rig, 1);
    rig.answer(1, &seen, 6, -1);
    let report = rig.handed_over().remove(0);
    rig.command(Command::SetIdentity(BUMPED));
    rig.resume(&report, |_| Decision::Retry, Some((BUMPED, i32::MAX)));
    rig.pass(MS);
    let last = rig.seen(1);
    assert_eq!(sequences(&last), [i32::MAX]);
    rig.answer(1, &last, 0, 1);
    let seen = in_flight(&mut rig, 2);
    assert_eq!(sequences(&seen), [0, 1]);
    rig.answer(1, &seen[..1], 0, 2);
    rig.answer(1, &seen[1..], 6, -1);
    assert_eq!(rig.handed_over()[0].last_acked_sequence, 0);
}

#[test]
fn an_idle_lane_adopts_a_new_identity_with_its_next_batch() {
    let mut rig = confirmed(3, 2);
    rig.command(Command::SetIdentity(BUMPED));
    for partition in [1, 0] {
        rig.send(partition, &[1; 900]);
        rig.pass(6 * MS);
        let seen = rig.seen(1);
        assert_eq!((seen[0].partition, seen[0].epoch, seen[0].sequence), (partition as i32, 1, 0));
        rig.answer(1, &seen, 0, 1);
    }
}

#[test]
fn a_lane_that_retries_keeps_its_identity_until_it_is_quiescent() {
    for succeeds in [true, false] {
        let mut rig = confirmed(3, 1);
        let seen = in_flight(&mut rig, 1);
        rig.command(Command::SetIdentity(BUMPED));
        rig.answer(1, &seen, 6, -1);
        let report = rig.handed_over().remove(0);
        assert_eq!((report.producer_id, report.epoch), (ME.producer_id, ME.epoch));
        rig.send(0, &[2; 900]);
        rig.resume(&report, |_| Decision::Retry, None);
        rig.pass(6 * MS);
        let mut again = rig.seen(1);
        assert_eq!(again[0].bytes, seen[0].bytes);
        if succeeds {
            // The one behind it was numbered while the lane was not quiet.
            assert_eq!((again[1].epoch, again[1].sequence), (0, 2));
            rig.answer(1, &again[..1], 0, 1);
        } else {
            again.truncate(2);
            rig.answer(1, &again[..1], 6, -1);
            rig.answer(1, &again[1..], 45, -1);
            let report = rig.handed_over().remove(0);
            rig.resume(&report, |_| fail(6), Some((ME, 1)));
            rig.send(0, &[3; 900]);
            rig.pass(6 * MS);
            let fresh = rig.seen(1);
            assert_eq!((fresh[0].epoch, fresh[0].sequence), (1, 0), "nothing under the old identity is left");
            continue;
        }
        rig.answer(1, &again[1..], 0, 2);
        let fresh = in_flight(&mut rig, 1);
        assert_eq!((fresh[0].epoch, fresh[0].sequence), (1, 0));
    }
}

#[test]
fn a_report_has_the_log_start_of_the_answer_that_caused_it() {
    let mut rig = confirmed(6, 1);
    for (log_start_offset, expected) in [(10, 10), (-1, -1), (20, 20)] {
        let seen = in_flight(&mut rig, 1);
        rig.answer_with(1, &seen, Answer { code: 59, base_offset: -1, log_start_offset, ..FINE });
        let report = rig.handed_over().remove(0);
        assert_eq!(report.log_start_offset, expected, "it decides whether the broker has lost our state, or is moving");
        rig.resume(&report, |_| Decision::Complete { base_offset: -1 }, None);
    }
}

#[test]
fn all_batches_in_flight_on_a_lost_connection_are_handed_over_in_order() {
    let mut rig = confirmed(3, 1);
    in_flight(&mut rig, 5);
    rig.command(Command::Close { connection_id: 1, reason: "cut".into() });
    let reports = rig.handed_over();
    assert_eq!(reports.len(), 1);
    let reported: Vec<_> = reports[0].batches.iter().map(|batch| (batch.base_sequence, batch.fate)).collect();
    assert_eq!(reported, [1, 2, 3, 4, 5].map(|sequence| (sequence, Fate::Unknown)));
}

/// A broker that refuses everything of more than `limit` records. Returns the records of its log.
fn split_until_taken(rig: &mut Rig, limit: i32) -> Vec<i32> {
    let mut log = Vec::new();
    let mut arrived: VecDeque<Seen> = rig.seen(1).into();
    for _ in 0..1_000 {
        let Some(batch) = arrived.pop_front() else { return log };
        if batch.sequence != log.len() as i32 {
            rig.answer(1, std::slice::from_ref(&batch), 45, -1);
        } else if batch.records <= limit {
            log.extend((0..batch.records).map(|n| batch.sequence + n));
            rig.answer(1, std::slice::from_ref(&batch), 0, i64::from(batch.sequence));
        } else {
            rig.answer(1, std::slice::from_ref(&batch), 10, -1);
        }
        for report in rig.handed_over() {
            // As the control plane decides: one record that is too large fails, and closes ranks.
            let single = report.batches.iter().any(|batch| batch.error_code == 10 && batch.record_count == 1);
            let decide = |at: usize| match (report.batches[at].error_code, report.batches[at].record_count) {
                (10, 1) => fail(10),
                (10, _) => Decision::Split,
                _ => Decision::Retry,
            };
            let renumber = single.then_some((ME, report.last_acked_sequence + 1));
            rig.resume(&report, decide, renumber);
        }
        rig.pass(MS);
        arrived.extend(rig.seen(1));
    }
    panic!("it never ends");
}

#[test]
fn a_batch_is_split_again_and_again_down_to_single_records() {
    let mut rig = Rig::ready(config(), 1);
    let sent: Vec<_> = (0..40).map(|n| rig.send(0, &[n; 12])).collect();
    rig.pass(6 * MS);
    assert_eq!(split_until_taken(&mut rig, 1), (0..40).collect::<Vec<_>>(), "each once, in order");
    for (position, (completion, index)) in sent.iter().enumerate() {
        let (leaf, index) = completion.leaf(*index);
        assert_eq!(offset(&leaf).map(|base| base + i64::from(index)), Some(position as i64));
    }
    assert!(rig.shared.stats.lock().splits > 1);
    rig.events();
    rig.pass(300_000 * MS);
    assert!(rig.handed_over().is_empty(), "nothing is left of it that could expire");
    assert_eq!(rig.shared.pool.available(), 100_000);
}

#[test]
fn splitting_ends_when_single_records_are_refused() {
    let mut rig = Rig::ready(config(), 1);
    let sent: Vec<_> = (0..40).map(|n| rig.send(0, &[n; 12])).collect();
    rig.pass(6 * MS);
    assert!(split_until_taken(&mut rig, 0).is_empty());
    for (completion, index) in &sent {
        let (leaf, _) = completion.leaf(*index);
        let Some(Outcome::Failed(failure)) = leaf.outcome() else { panic!("not failed") };
        assert_eq!((failure.code, failure.possibly_persisted), (10, false));
    }
    assert_eq!(rig.shared.pool.available(), 100_000);
}

#[test]
fn with_one_request_in_flight_order_is_kept_without_numbers() {
    let mut config = config();
    config.rules.idempotent = false;
    config.rules.max_in_flight = 1;
    config.max_in_flight_requests = 1;
    config.rules.delivery_timeout_us = 1_000 * MS;
    let mut rig = Rig::ready(config, 1);
    rig.send(0, b"first");
    rig.pass(600 * MS);
    let first = rig.seen(1);
    assert_eq!((first[0].producer_id, first[0].sequence), (-1, -1));
    let (second, _) = rig.send(0, b"second");
    rig.pass(500 * MS);
    assert!(rig.seen(1).is_empty(), "the first has expired, but its answer is still out");
    rig.answer(1, &first, 0, 0);
    rig.pass(MS);
    let next = rig.seen(1);
    rig.answer(1, &next, 0, 1);
    assert_eq!(offset(&second), Some(1));
}
