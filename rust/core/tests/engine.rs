//! The engine stepped by hand: requests, answers, and lanes that are handed over.

#[path = "common/rig.rs"]
mod rig;

use std::collections::VecDeque;

use penstock_core::append::{Appended, Record};
use penstock_core::boundary::{BatchDecision, Command, Decision, Event};
use penstock_core::lane::fate::Fate;
use penstock_core::lane::identity::Identity;
use penstock_core::outcome::{Completion, FailureKind, Outcome};

use rig::{ME, MS, Rig, Seen, config, offset};

#[test]
fn a_record_lingers_leaves_and_is_acknowledged() {
    let mut rig = Rig::ready(config(), 1);
    let (completion, index) = rig.send(0, b"hello");
    rig.pass(4 * MS);
    assert!(rig.seen(1).is_empty(), "it lingers");
    rig.pass(2 * MS);
    let seen = rig.seen(1);
    assert_eq!((seen.len(), seen[0].producer_id, seen[0].sequence), (1, 42, 0));
    assert!(completion.outcome().is_none());
    rig.answer(1, &seen, 0, 17);
    assert_eq!((offset(&completion), index), (Some(17), 0));
    assert_eq!(rig.shared.pool.available(), 100_000, "its memory is back");
}

#[test]
fn one_request_carries_one_batch_of_each_partition() {
    let mut rig = Rig::ready(config(), 3);
    for partition in 0..3 {
        rig.send(partition, &[1; 900]);
        rig.send(partition, &[1; 900]);
    }
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    let places: Vec<_> = seen.iter().map(|batch| (batch.correlation, batch.partition)).collect();
    assert_eq!(places, [(1, 0), (1, 1), (1, 2)], "the second batches wait for a first success");
    rig.answer(1, &seen, 0, 0);
    assert_eq!(rig.seen(1).len(), 3);
}

#[test]
fn five_requests_are_in_flight_at_most_and_sequences_follow_each_other() {
    let mut rig = Rig::ready(config(), 1);
    for _ in 0..10 {
        rig.send(0, &[1; 900]);
    }
    rig.pass(6 * MS);
    let first = rig.seen(1);
    assert_eq!(first.len(), 1);
    rig.answer(1, &first, 0, 0);
    let next = rig.seen(1);
    assert_eq!(next.iter().map(|batch| batch.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    rig.answer(1, &next[..1], 0, 1);
    assert_eq!(rig.seen(1).iter().map(|batch| batch.sequence).collect::<Vec<_>>(), [6]);
}

#[test]
fn without_an_identity_nothing_is_sent() {
    let mut rig = Rig::new(config());
    rig.leaders(1, &[(1, 0)]);
    rig.connect(1, 1);
    rig.send(0, b"x");
    rig.pass(10 * MS);
    assert!(rig.seen(1).is_empty());
    rig.command(Command::SetIdentity(ME));
    rig.pass(MS);
    assert_eq!(rig.seen(1).len(), 1);
}

#[test]
fn a_lost_connection_hands_the_lane_over_and_the_retry_is_byte_identical() {
    let mut rig = Rig::ready(config(), 1);
    let (completion, _) = rig.send(0, b"hello");
    rig.pass(6 * MS);
    let before = rig.seen(1);
    rig.command(Command::Close { connection_id: 1, reason: "cut".into() });
    let report = rig.handed_over().remove(0);
    let batch = &report.batches[0];
    assert_eq!((batch.fate, batch.error_code, batch.attempts, batch.base_sequence), (Fate::Unknown, 13, 1, 0));
    assert_eq!(batch.error_message, "cut");
    rig.connect(2, 1);
    assert!(rig.seen(2).is_empty(), "the control plane has not decided yet");
    rig.resume(&report, |_| Decision::Retry, None);
    rig.pass(MS);
    let after = rig.seen(2);
    assert_eq!(after[0].bytes, before[0].bytes);
    rig.answer(2, &after, 0, 3);
    assert_eq!(offset(&completion), Some(3));
}

#[test]
fn a_lane_settles_only_when_every_answer_is_in() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let first = rig.seen(1);
    rig.answer(1, &first, 0, 0);
    for _ in 0..3 {
        rig.send(0, &[1; 900]);
    }
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    assert_eq!(seen.len(), 3);
    rig.answer(1, &seen[..1], 6, -1);
    rig.answer(1, &seen[1..2], 45, -1);
    assert!(rig.handed_over().is_empty());
    rig.send(0, &[1; 900]);
    rig.answer(1, &seen[2..], 45, -1);
    let report = rig.handed_over().remove(0);
    assert_eq!(report.batches.iter().map(|batch| batch.error_code).collect::<Vec<_>>(), [6, 45, 45]);
    assert_eq!(report.last_acked_sequence, 0);
    assert!(rig.seen(1).is_empty());
    // Fail the first and renumber its successors, in one step.
    let fail = |at| match at {
        0 => Decision::Fail { kind: FailureKind::Broker, code: 6, message: "moved".into() },
        _ => Decision::Retry,
    };
    rig.resume(&report, fail, Some((ME, 1)));
    rig.pass(6 * MS);
    let again = rig.seen(1);
    assert_eq!(again.iter().map(|batch| batch.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(again[0].bytes[61..], seen[1].bytes[61..], "the body stays as it was");
}

#[test]
fn nothing_goes_to_a_new_leader_before_the_old_ones_answer() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, b"old");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.connect(2, 2);
    rig.leaders(2, &[(2, 1)]);
    rig.send(0, &[2; 990]);
    rig.pass(6 * MS);
    assert!(rig.seen(2).is_empty());
    rig.answer(1, &seen, 0, 0);
    rig.pass(MS);
    assert_eq!(rig.seen(2).len(), 1);
}

#[test]
fn a_newer_leader_epoch_ends_backoff() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, b"x");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 6, -1);
    let report = rig.handed_over().remove(0);
    rig.connect(2, 2);
    let decisions = vec![BatchDecision { batch_id: report.batches[0].batch_id, action: Decision::Retry }];
    let (topic, delay_ms) = ("t".to_owned(), 1_000);
    rig.command(Command::ResumeLane { topic, partition: 0, decisions, renumber: None, delay_ms });
    rig.pass(10 * MS);
    assert!(rig.seen(2).is_empty());
    rig.leaders(2, &[(2, 1)]);
    rig.pass(MS);
    assert_eq!(rig.seen(2).len(), 1);
}

#[test]
fn unsent_records_expire_without_the_control_plane() {
    let mut rig = Rig::ready(config(), 1);
    rig.command(Command::Close { connection_id: 1, reason: "cut".into() });
    let (completion, _) = rig.send(0, b"x");
    rig.pass(119_000 * MS);
    assert!(completion.outcome().is_none());
    rig.pass(1_100 * MS);
    let Some(Outcome::Failed(failure)) = completion.outcome() else { panic!("not failed") };
    assert_eq!((failure.kind, failure.stage, failure.possibly_persisted), (FailureKind::Timeout, "linger", false));
    assert_eq!(rig.shared.pool.available(), 100_000);
    assert!(rig.handed_over().is_empty(), "nothing was numbered: nothing to decide");
}

#[test]
fn a_record_that_expires_in_flight_is_possibly_persisted_and_settles_its_lane() {
    let mut config = config();
    config.rules.delivery_timeout_us = 1_000 * MS;
    let mut rig = Rig::ready(config, 1);
    let (completion, _) = rig.send(0, b"x");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    assert_eq!(seen.len(), 1);
    rig.pass(1_100 * MS);
    let Some(Outcome::Failed(failure)) = completion.outcome() else { panic!("not failed") };
    assert_eq!((failure.stage, failure.possibly_persisted, failure.attempts), ("in flight", true, 1));
    assert!(rig.shared.pool.available() < 100_000, "the socket may still hold it");
    assert!(rig.handed_over().is_empty(), "its answer is still out");
    rig.answer(1, &seen, 0, 5);
    assert!(rig.handed_over().is_empty(), "a late success leaves nothing to decide");
    assert_eq!(rig.shared.pool.available(), 100_000);
    rig.send(0, b"y");
    rig.pass(6 * MS);
    assert_eq!(rig.seen(1)[0].sequence, 1, "the lane flows on with the next sequence");
}

#[test]
fn an_unanswered_request_closes_its_connection_in_time() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, b"x");
    rig.pass(6 * MS);
    rig.pass(29_000 * MS);
    assert!(rig.events().is_empty());
    rig.pass(1_100 * MS);
    let events = rig.events();
    let closed = events.iter().find_map(|event| match event {
        Event::ConnectionClosed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    let reason = closed.unwrap();
    assert!(reason.contains("request.timeout.ms"), "{reason}");
    assert!(events.iter().any(|event| matches!(event, Event::LanesHandedOver { .. })));
}

#[test]
fn a_malformed_answer_closes_only_its_connection() {
    for frame in [&[0, 0, 0, 99][..], &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]] {
        let mut rig = Rig::ready(config(), 2);
        rig.leaders(2, &[(1, 0), (2, 0)]);
        rig.connect(2, 2);
        rig.send(0, b"a");
        let (other, _) = rig.send(1, b"b");
        rig.pass(6 * MS);
        rig.seen(1);
        let seen = rig.seen(2);
        rig.deliver(1, frame);
        let report = rig.handed_over().remove(0);
        assert_eq!((report.partition, report.batches[0].fate), (0, Fate::Unknown));
        rig.answer(2, &seen, 0, 9);
        assert_eq!(offset(&other), Some(9));
    }
}

#[test]
fn a_frame_that_left_in_part_was_not_read_by_any_broker() {
    let mut rig = Rig::ready(config(), 1);
    rig.engine.transport().sockets.get_mut(&1).unwrap().room = 50;
    rig.send(0, b"x");
    rig.pass(6 * MS);
    rig.command(Command::Close { connection_id: 1, reason: "cut".into() });
    assert_eq!(rig.handed_over()[0].batches[0].fate, Fate::PartlyWritten);
}

#[test]
fn a_flush_ends_lingering_and_memory_shortage_does_too() {
    let mut config = config();
    config.rules.linger_us = 60_000 * MS;
    let mut rig = Rig::ready(config, 1);
    rig.send(0, b"x");
    rig.pass(MS);
    assert!(rig.seen(1).is_empty());
    let pending = rig.shared.begin_flush();
    rig.pass(MS);
    let seen = rig.seen(1);
    assert_eq!((pending.len(), seen.len()), (1, 1));
    rig.answer(1, &seen, 0, 0);
    assert!(pending[0].outcome().is_some());
    rig.shared.hurry.end_flush();
    rig.send(0, b"y");
    rig.pass(MS);
    assert!(rig.seen(1).is_empty());
    let waiter = rig.shared.queue_for_memory(100_000, None);
    rig.pass(MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 0, 1);
    assert!(rig.shared.pool.wait(&waiter, std::time::Instant::now()));
}

#[test]
fn a_wrong_decision_fails_every_record_loudly() {
    let mut rig = Rig::ready(config(), 1);
    let (completion, _) = rig.send(0, b"x");
    rig.pass(6 * MS);
    rig.command(Command::Close { connection_id: 1, reason: "cut".into() });
    let report = rig.handed_over().remove(0);
    let other = Identity { producer_id: 42, epoch: 1 };
    rig.resume(&report, |_| Decision::Retry, Some((other, 0)));
    assert!(rig.events().iter().any(|event| matches!(event, Event::EngineFailed { .. })));
    assert!(rig.shared.failures.fatal().is_some());
    assert!(matches!(completion.outcome(), Some(Outcome::Failed(_))));
}

#[test]
fn a_split_batch_goes_out_as_children_in_order() {
    let mut rig = Rig::ready(config(), 1);
    let sent: Vec<_> = (0..40).map(|n| rig.send(0, &[n; 12])).collect();
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    assert_eq!((seen.len(), seen[0].records), (1, 40));
    rig.answer(1, &seen, 10, -1);
    let report = rig.handed_over().remove(0);
    rig.resume(&report, |_| Decision::Split, None);
    rig.pass(MS);
    let mut base = 0;
    let mut arrived: VecDeque<Seen> = rig.seen(1).into();
    while let Some(first) = arrived.pop_front() {
        assert_eq!(first.sequence, base);
        rig.answer(1, std::slice::from_ref(&first), 0, i64::from(base));
        base += first.records;
        arrived.extend(rig.seen(1));
    }
    assert_eq!(base, 40);
    for (position, (completion, index)) in sent.iter().enumerate() {
        let (leaf, index) = completion.leaf(*index);
        assert_eq!(offset(&leaf).map(|base| base + i64::from(index)), Some(position as i64));
    }
    assert_eq!(rig.shared.pool.available(), 100_000);
}

#[test]
fn closing_fails_pending_records_and_reports_those_possibly_persisted() {
    let mut rig = Rig::ready(config(), 1);
    let (flying, _) = rig.send(0, b"x");
    rig.pass(6 * MS);
    let (waiting, _) = rig.send(0, b"y");
    rig.engine.shut_down();
    let failed = |completion: &Completion| match completion.outcome() {
        Some(Outcome::Failed(failure)) => (failure.kind, failure.possibly_persisted),
        other => panic!("{other:?}"),
    };
    assert_eq!(failed(&flying), (FailureKind::Closed, true));
    assert_eq!(failed(&waiting), (FailureKind::Closed, false));
    let topic = rig.shared.topics.entry("t").topic.unwrap();
    let record = Record { timestamp: 1, key: None, value: None, headers: &[] };
    assert!(matches!(rig.shared.append(&topic, Some(0), &record, None, &mut 0), Appended::Closed));
}

#[test]
fn a_backoff_is_not_held_up_by_a_long_linger() {
    let mut config = config();
    config.rules.linger_us = 60_000 * MS;
    let mut rig = Rig::ready(config, 1);
    rig.send(0, &[1; 900]);
    rig.send(0, &[2; 900]);
    rig.pass(MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 6, -1);
    let report = rig.handed_over().remove(0);
    let decisions = vec![BatchDecision { batch_id: report.batches[0].batch_id, action: Decision::Retry }];
    let (topic, delay_ms) = ("t".to_owned(), 100);
    rig.command(Command::ResumeLane { topic, partition: 0, decisions, renumber: None, delay_ms });
    assert!(rig.pass(99 * MS) <= rig.now_us + MS, "the engine means to wake up for it");
    rig.pass(MS);
    assert_eq!(rig.seen(1).len(), 1);
}

#[test]
fn a_forgotten_topic_keeps_its_sequences_when_it_is_used_again() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, b"a");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.command(Command::ForgetTopic { name: "t".into() });
    assert!(rig.shared.topics.entry("t").topic.is_some(), "it holds a record");
    rig.answer(1, &seen, 0, 0);
    let old = rig.shared.topics.entry("t").topic.unwrap();
    rig.command(Command::ForgetTopic { name: "t".into() });
    assert!(rig.shared.topics.entry("t").topic.is_none());
    let record = Record { timestamp: 1, key: None, value: None, headers: &[] };
    assert!(matches!(rig.shared.append(&old, Some(0), &record, None, &mut 0), Appended::Closed));
    rig.leaders(9, &[(1, 0)]);
    rig.send(0, b"b");
    rig.pass(6 * MS);
    assert_eq!(rig.seen(1)[0].sequence, 1);
}

#[test]
fn a_lane_whose_leader_went_and_came_back_sends_one_batch_per_request() {
    let mut rig = Rig::ready(config(), 2);
    for partition in 0..2 {
        rig.send(partition, &[1; 900]);
    }
    rig.pass(6 * MS);
    let first = rig.seen(1);
    rig.answer(1, &first, 0, 0);
    // Partition 1 takes all five requests, so that partition 0 waits in the broker's queue.
    for _ in 0..5 {
        rig.send(1, &[1; 900]);
    }
    rig.pass(6 * MS);
    let busy = rig.seen(1);
    assert_eq!(busy.len(), 5);
    for _ in 0..4 {
        rig.send(0, &[2; 900]);
    }
    rig.pass(6 * MS);
    rig.leaders(2, &[(2, 1), (1, 0)]);
    rig.leaders(3, &[(1, 2), (1, 0)]);
    let mut seen = Vec::new();
    for batch in &busy {
        rig.answer(1, std::slice::from_ref(batch), 0, i64::from(batch.sequence));
        seen.extend(rig.seen(1));
    }
    let requests: std::collections::BTreeSet<_> = seen.iter().map(|batch| batch.correlation).collect();
    assert_eq!(requests.len(), seen.len(), "one batch per request");
    assert_eq!(seen.iter().map(|batch| batch.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
}
