//! The contents, destination and time of requests; connections and throttling.

#[path = "common/rig.rs"]
mod rig;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use penstock_core::append::{Appended, Record};
use penstock_core::boundary::{BatchDecision, Command, Decision, Event, PartitionLeader, Trouble};
use penstock_core::config::Config;
use penstock_core::outcome::Completion;

use rig::{Answer, FINE, MS, Rig, Seen, config, connect_command};

fn plain() -> Config {
    let mut config = config();
    config.rules.idempotent = false;
    config
}

/// Append without naming a partition; where it went.
fn send_anywhere(rig: &Rig, key: Option<&[u8]>, value: &[u8]) -> Arc<Completion> {
    let topic = rig.shared.topics.entry("t").topic.unwrap();
    let record = Record { timestamp: 1, key, value: Some(value), headers: &[] };
    match rig.shared.append(&topic, None, &record, None, &mut 0) {
        Appended::Done { completion, .. } => completion,
        other => panic!("{other:?}"),
    }
}

fn closed(events: &[Event]) -> Option<&str> {
    events.iter().find_map(|event| match event {
        Event::ConnectionClosed { reason, .. } => Some(reason.as_str()),
        _ => None,
    })
}

/// The partitions of each request.
fn requests(seen: &[Seen]) -> Vec<Vec<i32>> {
    seen.chunk_by(|a, b| a.correlation == b.correlation)
        .map(|request| request.iter().map(|batch| batch.partition).collect())
        .collect()
}

fn resume_after(rig: &mut Rig, partition: i32, batch_id: u64, backoff_ms: u64) {
    let decisions = vec![BatchDecision { batch_id, action: Decision::Retry }];
    let (topic, delay_ms) = ("t".to_owned(), backoff_ms);
    rig.command(Command::ResumeLane { topic, partition, decisions, renumber: None, delay_ms });
}

// ------------------------------------------------------------------------------------------------------------ requests

#[test]
fn a_batch_that_does_not_fit_into_a_request_comes_first_in_the_next_one() {
    let mut config = plain();
    config.max_request_size = 2_000;
    config.max_in_flight_requests = 1;
    let mut rig = Rig::ready(config, 4);
    for _ in 0..2 {
        for partition in 0..4 {
            rig.send(partition, &[1; 900]);
        }
    }
    rig.pass(6 * MS);
    let mut served = Vec::new();
    for _ in 0..4 {
        let seen = rig.seen(1);
        served.extend(requests(&seen));
        rig.answer(1, &seen, 0, 0);
    }
    assert_eq!(served, [[0, 1], [2, 3], [0, 1], [2, 3]]);
}

#[test]
fn a_record_larger_than_batch_size_gets_a_batch_of_its_size() {
    let mut rig = Rig::ready(plain(), 1);
    rig.send(0, b"before it");
    rig.send(0, &[1; 5_000]);
    assert!(rig.shared.pool.available() < 95_000, "it takes the memory that it needs");
    rig.send(0, &[2; 100]);
    rig.pass(0);
    let seen = rig.seen(1);
    assert_eq!(seen.iter().map(|batch| batch.records).collect::<Vec<_>>(), [1, 1], "the last one lingers");
    assert!(seen[1].bytes.len() > 5_000);
    for (at, batch) in seen.iter().enumerate() {
        rig.answer(1, std::slice::from_ref(batch), 0, at as i64);
    }
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    assert_eq!(seen[0].records, 1);
    rig.answer(1, &seen, 0, 2);
    assert_eq!(rig.shared.pool.available(), 100_000);
}

#[test]
fn one_partitions_backoff_holds_up_no_other() {
    let mut rig = Rig::ready(config(), 2);
    rig.send(0, b"a");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 19, -1);
    let report = rig.handed_over().remove(0);
    resume_after(&mut rig, 0, report.batches[0].batch_id, 1_000);
    rig.send(1, b"b");
    rig.pass(6 * MS);
    assert_eq!(requests(&rig.seen(1)), [[1]]);
    rig.pass(1_000 * MS);
    assert_eq!(requests(&rig.seen(1)), [[0]]);
}

#[test]
fn a_move_without_an_epoch_does_not_end_the_backoff() {
    let mut rig = Rig::ready(config(), 1);
    rig.leaders(2, &[(1, -1)]);
    rig.send(0, b"a");
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 6, -1);
    let report = rig.handed_over().remove(0);
    rig.connect(2, 2);
    resume_after(&mut rig, 0, report.batches[0].batch_id, 400);
    rig.leaders(3, &[(2, -1)]);
    rig.pass(399 * MS);
    assert!(rig.seen(2).is_empty(), "it cannot be known that this is newer");
    rig.pass(2 * MS);
    assert_eq!(rig.seen(2).len(), 1);
}

// ---------------------------------------------------------------------------------------------------------- partitions

#[test]
fn records_without_a_key_make_one_batch_per_linger_and_no_fragments() {
    let mut config = plain();
    config.batch_size = 512;
    config.partitioning.sticky_bytes = 512;
    let mut rig = Rig::ready(config, 3);
    for round in 0..10 {
        for _ in 0..512 * 2 / 3 / 32 {
            send_anywhere(&rig, None, &[0; 32]);
        }
        rig.pass(6 * MS);
        let seen = rig.seen(1);
        assert_eq!(seen.len(), 1, "round {round}");
        assert!((256..512).contains(&seen[0].bytes.len()));
        rig.answer(1, &seen, 0, 0);
    }
}

#[test]
fn records_without_a_key_fill_their_batch_before_they_move_to_another_partition() {
    let mut config = plain();
    config.batch_size = 512;
    config.partitioning.sticky_bytes = 512;
    config.rules.linger_us = 60_000 * MS;
    let mut rig = Rig::ready(config, 50);
    // Nine records of 48 bytes fill a batch (491 of 512 bytes); the tenth finds no room and begins another elsewhere.
    for _ in 0..90 {
        send_anywhere(&rig, None, &[0; 40]);
    }
    rig.pass(0);
    let seen = rig.seen(1);
    assert_eq!(seen.iter().map(|batch| batch.records).collect::<Vec<_>>(), [9; 9], "the last one is not closed yet");
}

#[test]
fn a_recreated_topic_with_fewer_partitions_has_only_those() {
    let mut rig = Rig::ready(config(), 4);
    let keys: Vec<Vec<u8>> = (0..50u8).map(|key| vec![key]).collect();
    assert!(keys.iter().any(|key| send_anywhere(&rig, Some(key), b"v").partition >= 2));
    rig.pass(6 * MS);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 0, 0);
    let partitions = vec![PartitionLeader { leader: 1, leader_epoch: 0, local: false }; 2];
    rig.command(Command::SetTopic { name: "t".into(), topic_id: [8; 16], version: 2, partitions });
    let topic = rig.shared.topics.entry("t").topic.unwrap();
    assert_eq!(topic.partitions(), 2, "send() compares a partition with this number");
    for key in &keys {
        let expected = penstock_core::wire::murmur2::partition_for_key(key, 2);
        assert_eq!(send_anywhere(&rig, Some(key), b"v").partition, expected as i32);
    }
    assert!((0..50).all(|_| send_anywhere(&rig, None, &[0; 600]).partition < 2));
    // Made once more, with more of them.
    let partitions = vec![PartitionLeader { leader: 1, leader_epoch: 0, local: false }; 5];
    rig.command(Command::SetTopic { name: "t".into(), topic_id: [9; 16], version: 3, partitions });
    assert_eq!(rig.shared.topics.entry("t").topic.unwrap().partitions(), 5);
    assert!(keys.iter().any(|key| send_anywhere(&rig, Some(key), b"v").partition == 4));
}

#[test]
fn records_for_a_removed_partition_fail_in_time() {
    let mut rig = Rig::new(config());
    rig.leaders(1, &[(1, 0), (1, 0)]);
    let (completion, _) = rig.send(1, b"x");
    let partitions = vec![PartitionLeader { leader: 1, leader_epoch: 0, local: false }];
    rig.command(Command::SetTopic { name: "t".into(), topic_id: [8; 16], version: 2, partitions });
    let pending = rig.shared.begin_flush();
    assert_eq!(pending.len(), 1, "a flush waits for it");
    rig.shared.hurry.end_flush();
    rig.pass(121_000 * MS);
    assert!(completion.outcome().is_some());
}

// --------------------------------------------------------------------------------------------------------- connections

#[test]
fn nothing_is_sent_before_the_handshake_is_done_nor_to_a_broker_that_leads_nothing() {
    let mut rig = Rig::ready(config(), 1);
    rig.connect(2, 2);
    rig.command(Command::Close { connection_id: 1, reason: "cut".into() });
    rig.command(connect_command(3, 1));
    rig.engine.on_socket(3, false, true);
    rig.send(0, b"x");
    rig.pass(6 * MS);
    assert!(rig.seen(3).is_empty());
    rig.command(Command::Ready { connection_id: 3, produce_version: 3 });
    rig.pass(0);
    assert_eq!(rig.seen(3).len(), 1);
    assert!(rig.seen(2).is_empty());
}

#[test]
fn a_connection_that_does_not_come_up_in_time_is_closed() {
    let mut rig = Rig::new(config());
    rig.command(connect_command(1, 1));
    rig.pass(900 * MS);
    assert!(rig.events().is_empty());
    rig.pass(150 * MS);
    let events = rig.events();
    let reason = closed(&events).unwrap();
    assert!(reason.contains("socket.connection.setup.timeout.ms"), "{reason}");
    // Another to the same broker starts again; one that is closed while it connects is gone as well.
    rig.command(connect_command(2, 1));
    rig.command(Command::Close { connection_id: 2, reason: "not needed".into() });
    assert_eq!(closed(&rig.events()), Some("not needed"));
    rig.pass(2_000 * MS);
    assert!(rig.events().is_empty());
    rig.connect(3, 1);
    assert_eq!(rig.engine.transport().sockets.len(), 1);
}

#[test]
fn a_handshake_that_is_never_answered_ends_with_its_request() {
    let mut rig = Rig::new(config());
    rig.command(connect_command(1, 1));
    rig.engine.on_socket(1, false, true);
    let frame = vec![0, 18, 0, 3, 0, 0, 0, 1];
    rig.command(Command::SendFrame { connection_id: 1, correlation_id: 1, frame, timeout_ms: 500 });
    rig.events();
    rig.pass(400 * MS);
    assert!(rig.events().is_empty());
    rig.pass(150 * MS);
    let events = rig.events();
    let reason = closed(&events).unwrap();
    assert!(reason.contains("request.timeout.ms"), "{reason}");
}

// ---------------------------------------------------------------------------------------------------------- throttling

/// A rig with one request answered and throttled for a second, and another one out.
fn throttled(produce_version: i16) -> (Rig, Vec<Seen>) {
    let mut config = plain();
    config.request_timeout_us = 1_000 * MS;
    let mut rig = Rig::speaking(produce_version, config, 1);
    for _ in 0..2 {
        rig.send(0, &[1; 900]);
        rig.pass(6 * MS);
    }
    let seen = rig.seen(1);
    assert_eq!(seen.len(), 2);
    rig.answer_with(1, &seen[..1], Answer { throttle_ms: 1_000, ..FINE });
    (rig, seen)
}

#[test]
fn a_throttled_connection_sends_nothing_for_that_time() {
    let (mut rig, _) = throttled(6);
    rig.send(0, &[2; 900]);
    assert!(rig.pass(500 * MS) <= rig.now_us + 500 * MS);
    rig.pass(490 * MS);
    assert!(rig.seen(1).is_empty());
    rig.pass(10 * MS);
    assert_eq!(rig.seen(1).len(), 1, "as soon as it is over");
}

#[test]
fn a_broker_that_throttles_by_a_late_answer_adds_no_second_wait() {
    // KIP-219: before Produce 6 the answer comes when the throttling is over.
    let (mut rig, _) = throttled(5);
    rig.send(0, &[2; 900]);
    rig.pass(6 * MS);
    assert_eq!(rig.seen(1).len(), 1);
}

#[test]
fn a_throttle_extends_the_deadlines_of_requests_in_flight() {
    let (mut rig, seen) = throttled(6);
    rig.pass(1_500 * MS);
    assert!(closed(&rig.events()).is_none(), "the broker did not even read it for a second");
    rig.answer(1, &seen[1..], 0, 1);
    let (mut rig, _) = throttled(6);
    rig.pass(2_100 * MS);
    assert!(closed(&rig.events()).is_some());
}

#[test]
fn a_broker_counts_as_stuck_only_while_something_is_ready_for_it() {
    let (mut rig, seen) = throttled(6);
    rig.answer(1, &seen[1..], 0, 1);
    let health = Arc::clone(&rig.shared.topics.entry("t").topic.unwrap().leaders[0].health);
    let stuck = || health.stuck_since_us.load(Ordering::Relaxed);
    rig.pass(100 * MS);
    assert_eq!(stuck(), 0, "it is throttled, but nothing waits");
    rig.send(0, &[2; 900]);
    rig.pass(6 * MS);
    let since = rig.now_us;
    assert_eq!(stuck(), since);
    rig.pass(100 * MS);
    assert_eq!(stuck(), since, "since the first moment");
    rig.pass(1_000 * MS);
    assert_eq!(stuck(), 0);
}

// -------------------------------------------------------------------------------------------------------------- topics

#[test]
fn a_snapshot_clears_an_error() {
    let mut rig = Rig::ready(config(), 1);
    rig.command(Command::FailTopic {
        name: "t".into(),
        trouble: Trouble { code: 29, message: "no".into() },
        is_final: true,
    });
    assert!(rig.shared.topics.entry("t").error.is_some());
    assert!(rig.shared.topics.entry("t").topic.is_some(), "its lanes keep their records");
    rig.leaders(2, &[(1, 0)]);
    assert!(rig.shared.topics.entry("t").error.is_none());
}

#[test]
fn partitions_without_a_leader_have_no_broker_in_common() {
    let mut rig = Rig::new(config());
    rig.leaders(1, &[(-1, 0), (-1, 0), (2, 0), (2, 0)]);
    let leaders = &rig.shared.topics.entry("t").topic.unwrap().leaders;
    assert!(Arc::ptr_eq(&leaders[2].health, &leaders[3].health));
    assert!(!Arc::ptr_eq(&leaders[0].health, &leaders[1].health), "-1 is no broker");
}

#[test]
fn a_leaderless_partition_requests_metadata_once_per_snapshot_and_sends_when_a_leader_appears() {
    let mut rig = Rig::ready(config(), 1);
    rig.leaders(2, &[(-1, 1)]);
    rig.send(0, b"x");
    rig.pass(6 * MS);
    rig.pass(6 * MS);
    let wanted = |events: &[Event]| events.iter().filter(|event| matches!(event, Event::LeaderWanted { .. })).count();
    assert_eq!(wanted(&rig.events()), 1);
    rig.leaders(3, &[(-1, 1)]);
    rig.pass(6 * MS);
    assert_eq!(wanted(&rig.events()), 1);
    rig.leaders(4, &[(1, 2)]);
    rig.pass(MS);
    assert_eq!(rig.seen(1).len(), 1);
}
