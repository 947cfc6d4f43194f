//! A topic that is deleted and created again while its records wait: fate and numbers belong to a topic id.

#[path = "common/rig.rs"]
mod rig;
#[path = "common/wire.rs"]
mod wire;

use std::sync::Arc;

use penstock_core::boundary::{Command, Decision, LaneReport, PartitionLeader};
use penstock_core::lane::fate::Fate;
use penstock_core::lane::identity::Identity;
use penstock_core::outcome::{Completion, Failure, FailureKind, Outcome};
use penstock_core::wire::produce::{PartitionResponse, ProduceResponse, TopicRef};

use rig::{ME, MS, Rig, config, offset};

const OLD: [u8; 16] = [7; 16];
const NEW: [u8; 16] = [8; 16];
const NEXT: Identity = Identity { epoch: 1, ..ME };

/// A Produce request by topic ids with one batch in it.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    correlation: i32,
    topic_id: [u8; 16],
    epoch: i16,
    sequence: i32,
    body: Vec<u8>,
}

/// The batches that arrived on a connection since the last call, one in each request.
fn seen(rig: &mut Rig, connection: u64) -> Vec<Sent> {
    let Some(socket) = rig.engine.transport().sockets.get_mut(&connection) else { return Vec::new() };
    let mut stream = &std::mem::take(&mut socket.outgoing)[..];
    let mut requests = Vec::new();
    while !stream.is_empty() {
        let len = u32::from_be_bytes(stream[..4].try_into().unwrap()) as usize;
        requests.push(parse(&stream[4..4 + len]));
        stream = &stream[4 + len..];
    }
    requests
}

fn parse(frame: &[u8]) -> Sent {
    let correlation = i32::from_be_bytes(frame[4..8].try_into().unwrap());
    let client_id = i16::from_be_bytes(frame[8..10].try_into().unwrap()) as usize;
    assert_eq!(frame[..4], [0, 0, 0, 13], "Produce 13");
    // Behind the header's tags: no transactional id, acks, timeout, one topic.
    let at = 10 + client_id + 1 + 1 + 2 + 4;
    assert_eq!(frame[at], 2, "one topic");
    let topic_id = frame[at + 1..at + 17].try_into().unwrap();
    assert_eq!(frame[at + 17], 2, "one partition");
    let size = frame[at + 22] as usize - 1;
    assert!(size < 0x7f, "a length of one byte");
    let batch = &frame[at + 23..at + 23 + size];
    Sent {
        correlation,
        topic_id,
        epoch: i16::from_be_bytes(batch[51..53].try_into().unwrap()),
        sequence: i32::from_be_bytes(batch[53..57].try_into().unwrap()),
        body: batch[61..].to_vec(),
    }
}

fn answer(rig: &mut Rig, connection: u64, sent: &Sent, code: i16, base_offset: i64) {
    let partition = PartitionResponse {
        topic: TopicRef::Id(sent.topic_id),
        index: 0,
        error_code: code,
        base_offset,
        log_append_time_ms: -1,
        log_start_offset: 0,
        record_errors: Vec::new(),
        error_message: None,
        current_leader: None,
    };
    let response = ProduceResponse { partitions: vec![partition], throttle_time_ms: 0, node_endpoints: Vec::new() };
    let frame = wire::encode(13, false, sent.correlation, &response);
    rig.deliver(connection, &frame);
}

fn name_stands_for(rig: &mut Rig, topic_id: [u8; 16], version: u64) {
    let partitions = vec![PartitionLeader { leader: 1, leader_epoch: 0, local: false }];
    rig.command(Command::SetTopic { name: "t".into(), topic_id, version, partitions });
}

fn lose(rig: &mut Rig, connection: u64) {
    rig.command(Command::Close { connection_id: connection, reason: "cut".into() });
}

fn failure(completion: &Completion) -> Failure {
    match completion.outcome() {
        Some(Outcome::Failed(failure)) => (**failure).clone(),
        other => panic!("{other:?}"),
    }
}

/// A batch was sent to the old topic, its answer is lost, and it waits to be sent again.
fn of_unknown_fate() -> (Rig, Arc<Completion>, Sent) {
    let mut rig = Rig::speaking(13, config(), 1);
    let (completion, _) = rig.send(0, b"x");
    rig.pass(6 * MS);
    let first = seen(&mut rig, 1).remove(0);
    assert_eq!((first.topic_id, first.sequence), (OLD, 0));
    lose(&mut rig, 1);
    let report = rig.handed_over().remove(0);
    assert_eq!((report.batches[0].fate, report.numbers_used_elsewhere), (Fate::Unknown, false));
    rig.resume(&report, |_| Decision::Retry, None);
    (rig, completion, first)
}

fn refused(rig: &mut Rig, connection: u64, sent: &Sent, code: i16) -> LaneReport {
    // As a broker that is not Kafka's answers it: with offset 0.
    answer(rig, connection, sent, code, 0);
    rig.handed_over().remove(0)
}

#[test]
fn a_batch_can_be_renumbered_under_the_new_id() {
    let (mut rig, completion, first) = of_unknown_fate();
    name_stands_for(&mut rig, NEW, 2);
    rig.connect(2, 1);
    rig.pass(MS);
    let again = seen(&mut rig, 2).remove(0);
    assert_eq!((again.topic_id, again.sequence, &again.body), (NEW, 0, &first.body));
    let report = refused(&mut rig, 2, &again, 45);
    assert_eq!(report.batches[0].fate, Fate::Rejected, "a record in the old topic's log is not in this one");
    assert!(report.numbers_used_elsewhere);
    rig.resume(&report, |_| Decision::Retry, Some((NEXT, 0)));
    rig.pass(MS);
    let renumbered = seen(&mut rig, 2).remove(0);
    assert_eq!((renumbered.topic_id, renumbered.epoch, renumbered.sequence), (NEW, 1, 0));
    answer(&mut rig, 2, &renumbered, 0, 0);
    assert_eq!(offset(&completion), Some(0));
}

#[test]
fn a_record_that_expires_under_the_new_id_may_be_in_the_deleted_log() {
    let (mut rig, completion, _) = of_unknown_fate();
    name_stands_for(&mut rig, NEW, 2);
    rig.pass(120_000 * MS);
    let failed = failure(&completion);
    assert!(failed.possibly_persisted, "metadata may have been wrong about which topic is the newer one");
    assert!(failed.message.contains("the topic was deleted and created again"), "{}", failed.message);
    let report = rig.handed_over().remove(0);
    assert!(report.batches[0].expired && report.numbers_used_elsewhere, "its number may be in the old topic's log");

    let (mut rig, completion, _) = of_unknown_fate();
    rig.pass(120_000 * MS);
    let failed = failure(&completion);
    assert!(failed.possibly_persisted && !failed.message.contains("created again"));
}

#[test]
fn an_answer_lost_after_the_change_does_not_affect_the_fate_in_the_new_topic() {
    let mut rig = Rig::speaking(13, config(), 1);
    rig.send(0, b"x");
    rig.pass(6 * MS);
    seen(&mut rig, 1);
    name_stands_for(&mut rig, NEW, 2);
    lose(&mut rig, 1);
    let report = rig.handed_over().remove(0);
    assert_eq!((report.batches[0].fate, report.numbers_used_elsewhere), (Fate::Unsent, true));
}

#[test]
fn a_batch_that_went_by_name_may_still_arrive_in_the_new_topic() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, b"x");
    rig.pass(6 * MS);
    let first = rig.seen(1).remove(0);
    lose(&mut rig, 1);
    let report = rig.handed_over().remove(0);
    rig.resume(&report, |_| Decision::Retry, None);
    name_stands_for(&mut rig, NEW, 2);
    rig.connect(2, 1);
    rig.pass(MS);
    let again = rig.seen(2);
    assert_eq!(again[0].bytes, first.bytes);
    rig.answer(2, &again, 45, 0);
    assert_eq!(rig.handed_over()[0].batches[0].fate, Fate::Unknown);
}

#[test]
fn the_fate_is_unknown_again_under_the_old_id() {
    let (mut rig, completion, first) = of_unknown_fate();
    name_stands_for(&mut rig, NEW, 2);
    name_stands_for(&mut rig, OLD, 3);
    rig.connect(2, 1);
    rig.pass(MS);
    let again = seen(&mut rig, 2).remove(0);
    assert_eq!((again.topic_id, again.sequence, &again.body), (OLD, 0, &first.body));
    assert_eq!(refused(&mut rig, 2, &again, 45).batches[0].fate, Fate::Unknown);
    assert!(completion.outcome().is_none());
}

#[test]
fn a_batch_with_other_numbers_is_not_sent_to_the_old_topic_again() {
    // Metadata goes back at each moment at which that makes a difference: before the lane is given back, and after.
    for early in [true, false] {
        let (mut rig, completion, _) = of_unknown_fate();
        name_stands_for(&mut rig, NEW, 2);
        rig.connect(2, 1);
        rig.pass(MS);
        let again = seen(&mut rig, 2).remove(0);
        let report = refused(&mut rig, 2, &again, 45);
        if early {
            name_stands_for(&mut rig, OLD, 3);
        }
        rig.resume(&report, |_| Decision::Retry, Some((NEXT, 0)));
        if !early {
            seen(&mut rig, 2);
            lose(&mut rig, 2);
            let report = rig.handed_over().remove(0);
            name_stands_for(&mut rig, OLD, 3);
            rig.resume(&report, |_| Decision::Retry, None);
        }
        let failed = failure(&completion);
        assert_eq!((failed.kind, failed.code, failed.possibly_persisted), (FailureKind::Broker, 100, true));
        let report = rig.handed_over().remove(0);
        assert!(report.batches[0].expired);
        rig.connect(3, 1);
        rig.pass(MS);
        assert!(seen(&mut rig, 2).is_empty() && seen(&mut rig, 3).is_empty(), "it would be stored twice");
        let gone = |_| Decision::Fail { kind: FailureKind::Timeout, code: 0, message: String::new() };
        rig.resume(&report, gone, Some((Identity { epoch: 2, ..ME }, 0)));
        rig.command(Command::SetIdentity(Identity { epoch: 2, ..ME }));
        let (later, _) = rig.send(0, b"y");
        rig.pass(6 * MS);
        let next = seen(&mut rig, 3).remove(0);
        assert_eq!((next.topic_id, next.epoch, next.sequence), (OLD, 2, 0));
        answer(&mut rig, 3, &next, 0, 5);
        assert_eq!(offset(&later), Some(5));
    }
}

#[test]
fn a_recreated_topic_gets_one_batch_until_a_first_success() {
    let mut rig = Rig::ready(config(), 1);
    rig.send(0, &[1; 900]);
    rig.pass(6 * MS);
    let first = rig.seen(1);
    rig.answer(1, &first, 0, 0);
    for _ in 0..9 {
        rig.send(0, &[1; 900]);
    }
    rig.pass(6 * MS);
    let old = rig.seen(1);
    assert_eq!(old.len(), 5);
    let partitions = vec![PartitionLeader { leader: 1, leader_epoch: 0, local: false }];
    rig.command(Command::SetTopic { name: "t".into(), topic_id: [8; 16], version: 2, partitions });
    for (at, batch) in old.iter().enumerate() {
        assert!(rig.seen(1).is_empty(), "answers of the old topic are still out");
        rig.answer(1, std::slice::from_ref(batch), 0, at as i64);
    }
    assert_eq!(rig.seen(1).len(), 1, "the new topic's leader has no state of this producer");
}
