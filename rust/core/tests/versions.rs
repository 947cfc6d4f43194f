//! Brokers of several versions: topics with and without ids.

#[path = "common/rig.rs"]
mod rig;

use std::sync::Arc;

use penstock_core::append::{Appended, Record};
use penstock_core::boundary::{Command, PartitionLeader};
use penstock_core::outcome::Completion;

use rig::{MS, Rig, config, ended, offset};

/// A topic of that name and id, one partition, led by broker 1.
fn set_topic(rig: &mut Rig, name: &str, topic_id: [u8; 16]) {
    let partitions = vec![PartitionLeader { leader: 1, leader_epoch: 0, local: false }];
    rig.command(Command::SetTopic { name: name.into(), topic_id, version: 1, partitions });
}

/// Buffer one record for each topic, and send them.
fn send_to(rig: &mut Rig, topics: &[&str]) -> Vec<Arc<Completion>> {
    let append = |name: &&str| {
        let topic = rig.shared.topics.entry(name).topic.unwrap();
        let record = Record { timestamp: 1, key: None, value: Some(b"x"), headers: &[] };
        match rig.shared.append(&topic, Some(0), &record, None, &mut 0) {
            Appended::Done { completion, .. } => completion,
            other => panic!("{other:?}"),
        }
    };
    let completions = topics.iter().map(append).collect();
    rig.pass(6 * MS);
    completions
}

/// Version and body of the one request that the broker at the other end of connection 1 has got.
fn request(rig: &mut Rig) -> (i16, Vec<u8>) {
    let frame = std::mem::take(&mut rig.engine.transport().sockets.get_mut(&1).unwrap().outgoing);
    let length = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
    assert_eq!(frame.len(), 4 + length, "one request");
    (i16::from_be_bytes(frame[6..8].try_into().unwrap()), frame)
}

fn holds(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_topic_without_an_id_is_sent_by_name_to_a_broker_that_supports_ids() {
    // A rolling upgrade: metadata came from a broker without topic ids, the data connection speaks Produce 13.
    let mut rig = Rig::ready(config(), 1);
    rig.command(Command::Ready { connection_id: 1, produce_version: 13 });
    set_topic(&mut rig, "nameless", [0; 16]);
    set_topic(&mut rig, "known", [9; 16]);
    send_to(&mut rig, &["nameless"]);
    let (version, body) = request(&mut rig);
    assert_eq!(version, 12, "in version 13 its name would be sixteen zeros");
    assert!(holds(&body, b"nameless"));
    send_to(&mut rig, &["known"]);
    let (version, body) = request(&mut rig);
    assert_eq!(version, 13, "the connection is not held to it");
    assert!(holds(&body, &[9; 16]));
}

#[test]
fn a_request_with_both_kinds_of_topics_goes_by_name_and_its_answer_is_matched_by_name() {
    let mut rig = Rig::ready(config(), 1);
    rig.command(Command::Ready { connection_id: 1, produce_version: 13 });
    set_topic(&mut rig, "a", [0; 16]);
    set_topic(&mut rig, "b", [9; 16]);
    let completions = send_to(&mut rig, &["a", "b"]);
    let (version, body) = request(&mut rig);
    assert_eq!(version, 12);
    // Correlation id, no tags; two topics by name with one partition each, error 0, offsets 5 and 6.
    let mut answer = vec![0, 0, 0, body[11], 0, 3];
    for (name, base_offset) in [(b'a', 5u8), (b'b', 6)] {
        answer.extend([2, name, 2, 0, 0, 0, 0, 0, 0]);
        answer.extend([0, 0, 0, 0, 0, 0, 0, base_offset]);
        answer.extend([0xff; 8]); // log append time
        answer.extend([0; 8]); // log start offset
        answer.extend([1, 0, 0, 0]); // no record errors, no message, no tags of partition and topic
    }
    answer.extend([0, 0, 0, 0, 0]);
    rig.deliver(1, &answer);
    assert_eq!(ended(&rig.events()), []);
    let offsets: Vec<_> = completions.iter().map(|completion| offset(completion)).collect();
    assert_eq!(offsets, [Some(5), Some(6)]);
}
