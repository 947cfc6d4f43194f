//! Produce answers other than plain success: errors with an offset, log starts, throttling, one bad lane of many.

#[path = "common/rig.rs"]
mod rig;

use penstock_core::boundary::{Command, Decision, Event, LaneReport, Trouble};
use penstock_core::lane::fate::Fate;
use penstock_core::lane::identity::Identity;
use penstock_core::outcome::{Completion, FailureKind, Outcome};

use rig::{MS, Rig, Seen, config, offset};

/// The answer about one partition.
#[derive(Clone, Copy)]
struct Reply {
    code: i16,
    base_offset: i64,
    log_start: i64,
}

const REFUSED: Reply = Reply { code: 6, base_offset: -1, log_start: -1 };

/// A rig with a connection that speaks this version of Produce.
fn rig_of(version: i16, partitions: usize) -> Rig {
    let mut rig = Rig::ready(config(), partitions);
    rig.command(Command::Ready { connection_id: 1, produce_version: version });
    rig
}

/// Answer in a version from 3 to 7.
fn answer(rig: &mut Rig, version: i16, seen: &[(&Seen, Reply)], throttle_ms: i32) {
    let mut frame = Vec::new();
    frame.extend_from_slice(&seen[0].0.correlation.to_be_bytes());
    frame.extend_from_slice(&(seen.len() as i32).to_be_bytes());
    for (batch, reply) in seen {
        frame.extend_from_slice(&(batch.topic.len() as i16).to_be_bytes());
        frame.extend_from_slice(batch.topic.as_bytes());
        frame.extend_from_slice(&1i32.to_be_bytes());
        frame.extend_from_slice(&batch.partition.to_be_bytes());
        frame.extend_from_slice(&reply.code.to_be_bytes());
        frame.extend_from_slice(&reply.base_offset.to_be_bytes());
        frame.extend_from_slice(&(-1i64).to_be_bytes());
        if version >= 5 {
            frame.extend_from_slice(&reply.log_start.to_be_bytes());
        }
    }
    frame.extend_from_slice(&throttle_ms.to_be_bytes());
    rig.deliver(1, &frame);
}

/// One batch is sent and answered like this; the lane that comes back.
fn settled(reply: Reply) -> LaneReport {
    let mut rig = rig_of(7, 1);
    rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    answer(&mut rig, 7, &[(&seen[0], reply)], 0);
    rig.handed_over().remove(0)
}

fn failure(completion: &Completion) -> (FailureKind, i16, &'static str, bool) {
    match completion.outcome() {
        Some(Outcome::Failed(failure)) => (failure.kind, failure.code, failure.stage, failure.possibly_persisted),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_error_with_an_offset_came_after_the_append() {
    // Seen on Kafka 4.4: a leader that waits for its followers and loses the partition meanwhile answers
    // NOT_LEADER_OR_FOLLOWER with the offset of its append, and the record is in the new leader's log.
    for (code, base_offset, fate) in [(6, 1, Fate::Unknown), (3, 0, Fate::Unknown), (6, -1, Fate::Rejected)] {
        let mut config = config();
        config.rules.delivery_timeout_us = 1_000 * MS;
        let mut rig = Rig::ready(config, 1);
        let (sent, _) = rig.send(0, b"hello");
        rig.pass(6 * MS);
        let seen = rig.seen(1);
        rig.answer(1, &seen, code, base_offset);
        let report = rig.handed_over().remove(0);
        assert_eq!(report.batches[0].fate, fate, "error {code} with offset {base_offset}");
        rig.pass(1_000 * MS);
        let Some(Outcome::Failed(failure)) = sent.outcome() else { panic!("not expired") };
        assert_eq!(failure.possibly_persisted, fate == Fate::Unknown);
    }
}

#[test]
fn every_error_states_whether_the_batch_may_be_in_the_log() {
    let open: Vec<i16> = (-1..=137)
        .filter(|&code| code != 0 && settled(Reply { code, ..REFUSED }).batches[0].fate == Fate::Unknown)
        .collect();
    assert_eq!(open, [-1, 7, 13, 20, 56, 137]);
}

#[test]
fn the_log_start_of_an_error_answer_is_reported() {
    let report = settled(Reply { code: 59, base_offset: -1, log_start: 400 });
    assert_eq!(report.log_start_offset, 400);
    assert_eq!(settled(Reply { code: 59, base_offset: -1, log_start: -1 }).log_start_offset, -1);
}

#[test]
fn a_throttled_broker_gets_no_requests_for_that_time_and_others_do() {
    let mut rig = rig_of(6, 2);
    rig.leaders(2, &[(1, 0), (2, 0)]);
    rig.connect(2, 2);
    rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    answer(&mut rig, 6, &[(&seen[0], Reply { code: 0, base_offset: 0, log_start: 0 })], 100);
    rig.send(0, &[2; 900]);
    rig.send(1, &[3; 900]);
    rig.pass(99 * MS);
    assert_eq!((rig.seen(1).len(), rig.seen(2).len()), (0, 1));
    rig.pass(MS);
    assert_eq!(rig.seen(1).len(), 1);
}

#[test]
fn requests_in_flight_while_the_broker_throttles_do_not_time_out() {
    let mut rig = rig_of(6, 1);
    rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let first = rig.seen(1);
    answer(&mut rig, 6, &[(&first[0], Reply { code: 0, base_offset: 0, log_start: 0 })], 0);
    rig.send(0, &[2; 900]);
    rig.send(0, &[3; 900]);
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    assert_eq!(seen.len(), 2);
    answer(&mut rig, 6, &[(&seen[0], Reply { code: 0, base_offset: 1, log_start: 0 })], 40_000);
    let closed = |rig: &Rig| rig.events().iter().any(|event| matches!(event, Event::ConnectionClosed { .. }));
    rig.pass(69_900 * MS);
    assert!(!closed(&rig), "request.timeout.ms begins when the broker reads again");
    rig.pass(200 * MS);
    assert!(closed(&rig));
}

#[test]
fn before_version_6_the_broker_delays_the_answer_itself() {
    let mut rig = rig_of(5, 1);
    rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    answer(&mut rig, 5, &[(&seen[0], Reply { code: 0, base_offset: 0, log_start: 0 })], 100);
    rig.send(0, &[2; 900]);
    rig.pass(6 * MS);
    assert_eq!(rig.seen(1).len(), 1);
}

#[test]
fn mixed_results_affect_only_their_own_lanes() {
    let mut rig = rig_of(7, 3);
    let sent: Vec<_> = (0..3).map(|partition| rig.send(partition, &[1; 900]).0).collect();
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    let fine = Reply { code: 0, base_offset: 5, log_start: 0 };
    let replies = [fine, Reply { code: 29, ..REFUSED }, fine];
    let pairs: Vec<_> = seen.iter().map(|batch| (batch, replies[batch.partition as usize])).collect();
    answer(&mut rig, 7, &pairs, 0);
    let reports = rig.handed_over();
    assert_eq!(reports.iter().map(|report| report.partition).collect::<Vec<_>>(), [1]);
    assert_eq!([offset(&sent[0]), offset(&sent[2])], [Some(5), Some(5)]);
    rig.send(0, &[2; 900]);
    rig.send(1, &[2; 900]);
    rig.pass(6 * MS);
    let partitions: Vec<_> = rig.seen(1).iter().map(|batch| batch.partition).collect();
    assert_eq!(partitions, [0], "the troubled lane waits for its decision");
}

#[test]
fn the_first_of_two_answers_for_a_partition_counts() {
    let mut rig = rig_of(7, 1);
    let (sent, _) = rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    answer(&mut rig, 7, &[(&seen[0], Reply { code: 0, base_offset: 5, log_start: 0 }), (&seen[0], REFUSED)], 0);
    assert_eq!(offset(&sent), Some(5));
    let events = rig.events();
    assert!(!events.iter().any(|event| matches!(event, Event::LanesHandedOver { .. })));
    assert!(events.iter().any(|event| matches!(event, Event::ConnectionClosed { connection_id: 1, .. })));
}

#[test]
fn buffered_records_can_be_refused_and_the_producer_goes_on() {
    let mut rig = Rig::new(config());
    rig.leaders(1, &[(1, 0)]);
    rig.connect(1, 1);
    let (refused, _) = rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    rig.command(Command::FailBuffered {
        kind: FailureKind::Broker,
        trouble: Trouble { code: 31, message: "not allowed".into() },
    });
    assert_eq!(failure(&refused), (FailureKind::Broker, 31, "linger", false));
    assert!(rig.handed_over().is_empty(), "nothing was numbered, so that nothing is to be decided");

    let (later, _) = rig.send(0, &[2; 900]);
    rig.command(Command::SetIdentity(Identity { producer_id: 9, epoch: 0 }));
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    assert_eq!((seen[0].producer_id, seen[0].sequence), (9, 0));
    rig.answer(1, &seen, 0, 3);
    assert_eq!(offset(&later), Some(3));
}

#[test]
fn a_batch_in_flight_when_records_are_refused_is_possibly_persisted_and_keeps_its_numbers() {
    let mut rig = rig_of(7, 1);
    let (refused, _) = rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.command(Command::FailBuffered {
        kind: FailureKind::Broker,
        trouble: Trouble { code: 31, message: "not allowed".into() },
    });
    assert_eq!(failure(&refused), (FailureKind::Broker, 31, "in flight", true));
    let (later, _) = rig.send(0, &[2; 900]);
    rig.pass(6 * MS);
    assert!(rig.seen(1).is_empty(), "its lane settles first");
    answer(&mut rig, 7, &[(&seen[0], Reply { code: 0, base_offset: 5, log_start: 0 })], 0);
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    assert_eq!(seen[0].sequence, 1);
    answer(&mut rig, 7, &[(&seen[0], Reply { code: 0, base_offset: 6, log_start: 0 })], 0);
    assert_eq!(offset(&later), Some(6));
}

#[test]
fn a_lane_with_the_control_plane_can_be_refused_before_it_comes_back() {
    let mut rig = rig_of(7, 1);
    let (refused, _) = rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    answer(&mut rig, 7, &[(&seen[0], Reply { code: 19, ..REFUSED })], 0);
    let report = rig.handed_over().remove(0);
    rig.command(Command::FailBuffered {
        kind: FailureKind::Broker,
        trouble: Trouble { code: 31, message: "not allowed".into() },
    });
    assert_eq!(failure(&refused), (FailureKind::Broker, 31, "retry", false));
    rig.resume(&report, |_| Decision::Retry, None);
    rig.pass(MS);
    assert!(rig.seen(1).is_empty(), "its record was reported as not persisted");
    let again = rig.handed_over().remove(0);
    assert!(again.batches[0].expired);
    rig.resume(&again, |_| Decision::Fail { kind: FailureKind::Timeout, code: 19, message: String::new() }, None);
    assert_eq!(failure(&refused), (FailureKind::Broker, 31, "retry", false), "once");
}

#[test]
fn a_decided_batch_does_not_show_the_offset_of_its_old_answer() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let first = rig.seen(1);
    rig.answer(1, &first, 0, 0);
    for _ in 0..2 {
        rig.send(0, &[1; 900]);
    }
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    // REQUEST_TIMED_OUT carries the offset at which the leader appended; the replicas may never have seen it.
    rig.answer(1, &seen[..1], 7, 1);
    rig.answer(1, &seen[1..], 7, 2);
    let report = rig.handed_over().remove(0);
    assert_eq!(report.batches[1].base_offset, 2);
    rig.leaders(2, &[(2, 1)]);
    rig.connect(2, 2);
    rig.resume(&report, |_| Decision::Retry, None);
    rig.pass(MS);
    assert_eq!(rig.seen(2).len(), 1);
    rig.command(Command::Close { connection_id: 2, reason: "cut".into() });
    let report = rig.handed_over().remove(0);
    let reported: Vec<_> = report.batches.iter().map(|batch| (batch.error_code, batch.base_offset)).collect();
    assert_eq!(reported, [(13, -1), (0, -1)], "0 with an offset would be taken for an acknowledgement");
}

#[test]
fn an_answer_with_an_unknown_or_a_missing_partition_closes_the_connection_and_its_valid_parts_count() {
    let mut rig = Rig::ready(config(), 2);
    let (named, _) = rig.send(0, b"a");
    let (omitted, _) = rig.send(1, b"b");
    rig.pass(6 * MS);
    let mut seen = rig.seen(1);
    seen[1].partition = 7;
    rig.answer(1, &seen, 0, 4);
    assert_eq!(offset(&named), Some(4));
    assert!(omitted.outcome().is_none());
    let report = rig.handed_over().remove(0);
    assert_eq!((report.partition, report.batches[0].fate), (1, Fate::Unknown));
    assert!(rig.engine.transport().sockets.is_empty());
}

#[test]
fn a_decided_answer_is_not_reported_again() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let first = rig.seen(1);
    rig.answer(1, &first, 0, 0);
    for _ in 0..2 {
        rig.send(0, &[1; 900]);
    }
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen[..1], 6, -1);
    rig.answer(1, &seen[1..], 45, -1);
    let report = rig.handed_over().remove(0);
    // The leader moves, so that one batch goes out first, and is lost.
    rig.leaders(2, &[(2, 1)]);
    rig.connect(2, 2);
    rig.resume(&report, |_| Decision::Retry, None);
    rig.pass(MS);
    assert_eq!(rig.seen(2).len(), 1);
    rig.command(Command::Close { connection_id: 2, reason: "cut".into() });
    let report = rig.handed_over().remove(0);
    assert_eq!(report.batches.iter().map(|batch| batch.error_code).collect::<Vec<_>>(), [13, 0]);
}
