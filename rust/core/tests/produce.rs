//! Produce requests and responses of every version against an encoder and a decoder written from Kafka's message
//! definitions, and responses that no honest broker would send.

mod common;
#[path = "common/wire.rs"]
mod wire;

use std::sync::Arc;

use common::check;
use penstock_core::wire::produce::{
    MAX_VERSION, MIN_VERSION, NodeEndpoint, PartitionResponse, ProducePartition, ProduceResponse, ProduceTopic,
    Segment, TopicRef, encode_request, parse_response,
};
use penstock_core::wire::record_batch::{BatchBuilder, SealedBatch};
use proptest::prelude::*;
use wire::{Wire, as_of, encode};

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>(), 0..20).prop_map(String::from_iter)
}

fn partition_response() -> impl Strategy<Value = PartitionResponse> {
    (
        any::<(i32, i16, i64, i64, i64)>(),
        prop::collection::vec((any::<i32>(), prop::option::of(text())), 0..3),
        prop::option::of(text()),
        prop::option::of((0..i32::MAX, 0..i32::MAX)),
    )
        .prop_map(|(numbers, record_errors, error_message, current_leader)| PartitionResponse {
            topic: TopicRef::Id([0; 16]),
            index: numbers.0,
            error_code: numbers.1,
            base_offset: numbers.2,
            log_append_time_ms: numbers.3,
            log_start_offset: numbers.4,
            record_errors,
            error_message,
            current_leader,
        })
}

fn response() -> impl Strategy<Value = ProduceResponse> {
    let endpoint = (any::<i32>(), text(), any::<i32>(), prop::option::of(text()))
        .prop_map(|(broker_id, host, port, rack)| NodeEndpoint { broker_id, host, port, rack });
    (any::<i32>(), prop::collection::vec(partition_response(), 0..5), prop::collection::vec(endpoint, 0..3)).prop_map(
        |(throttle_time_ms, partitions, node_endpoints)| ProduceResponse {
            throttle_time_ms,
            partitions,
            node_endpoints,
        },
    )
}

fn versions() -> std::ops::RangeInclusive<i16> {
    MIN_VERSION..=MAX_VERSION
}

#[test]
fn responses_of_every_version_are_read_as_written() {
    let input = (response(), any::<i32>(), any::<bool>());
    check(&input, |(response, correlation_id, unknown_tags)| {
        for version in versions() {
            let response = as_of(version, response.clone());
            let frame = encode(version, unknown_tags, correlation_id, &response);
            prop_assert_eq!(parse_response(version, &frame), Ok((correlation_id, response)));
        }
        Ok(())
    });
}

#[test]
fn a_response_cut_anywhere_or_continued_is_an_error() {
    check(&response(), |response| {
        for version in versions() {
            let mut frame = encode(version, true, 7, &as_of(version, response.clone()));
            for end in 0..frame.len() {
                prop_assert!(parse_response(version, &frame[..end]).is_err());
            }
            frame.push(0);
            prop_assert!(parse_response(version, &frame).is_err());
        }
        Ok(())
    });
}

#[test]
fn mutated_responses_never_panic() {
    let mutations = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
    check(&(response(), mutations), |(response, mutations)| {
        for version in versions() {
            let frame = encode(version, true, 7, &as_of(version, response.clone()));
            for (at, byte) in &mutations {
                let mut mutant = frame.clone();
                let at = at.index(mutant.len());
                for value in [*byte, 0, 0xff, 0x7f, 0x80] {
                    mutant[at] = value;
                    let _ = parse_response(version, &mutant);
                }
            }
        }
        Ok(())
    });
}

#[test]
fn random_bytes_never_panic() {
    check(&prop::collection::vec(any::<u8>(), 0..200), |frame| {
        for version in versions() {
            let _ = parse_response(version, &frame);
        }
        Ok(())
    });
}

#[test]
fn text_that_is_not_utf8_is_an_error() {
    let response = as_of(3, one_answer());
    let mut frame = encode(3, false, 7, &response);
    frame[10] = 0xff;
    let error = parse_response(3, &frame).unwrap_err();
    assert_eq!((error.what, error.at), ("text that is not UTF-8", 10));
}

#[test]
fn a_leader_without_id_or_epoch_is_no_leader() {
    let mut partition = as_of(10, one_answer()).partitions[0].clone();
    for leader in [(-1, -1), (3, -1), (-1, 3)] {
        partition.current_leader = Some(leader);
        let response = ProduceResponse { partitions: vec![partition.clone()], ..one_answer() };
        let (_, parsed) = parse_response(10, &encode(10, false, 1, &response)).unwrap();
        assert_eq!(parsed.partitions[0].current_leader, None);
    }
}

#[test]
fn a_tag_that_only_later_versions_know_is_skipped() {
    let mut response = as_of(10, one_answer());
    response.partitions[0].current_leader = Some((1, 2));
    let (_, parsed) = parse_response(9, &encode(9, false, 1, &response)).unwrap();
    assert_eq!(parsed, as_of(9, response));
}

#[test]
fn the_partitions_of_a_topic_share_its_name() {
    let mut response = as_of(12, one_answer());
    response.partitions.push(response.partitions[0].clone());
    let (_, parsed) = parse_response(12, &encode(12, false, 1, &response)).unwrap();
    match (&parsed.partitions[0].topic, &parsed.partitions[1].topic) {
        (TopicRef::Name(a), TopicRef::Name(b)) => assert!(Arc::ptr_eq(a, b)),
        other => panic!("expected names: {other:?}"),
    }
}

fn one_answer() -> ProduceResponse {
    ProduceResponse {
        throttle_time_ms: 0,
        partitions: vec![PartitionResponse {
            topic: TopicRef::Id([0; 16]),
            index: 0,
            error_code: 6,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }],
        node_endpoints: Vec::new(),
    }
}

fn batch(values: &[&[u8]]) -> SealedBatch {
    let mut builder = BatchBuilder::new(Vec::new(), 1 << 20);
    for value in values {
        builder.append(1_000, None, Some(value), &[]);
    }
    builder.seal()
}

fn joined(segments: &[Segment]) -> Vec<u8> {
    segments.iter().flat_map(|segment| segment.bytes().to_vec()).collect()
}

/// The request as the definitions have it, in one buffer.
fn expected_request(version: i16, ids: (Option<&str>, Option<&str>), topics: &[ProduceTopic<'_>]) -> Vec<u8> {
    let mut w = Wire { version, unknown_tags: false, out: Vec::new() };
    w.put([0, 0]);
    w.put(version.to_be_bytes());
    w.put(77i32.to_be_bytes());
    w.put(ids.0.map_or(-1, |s| s.len() as i16).to_be_bytes());
    w.put(ids.0.unwrap_or_default());
    w.tags(None);
    w.string(ids.1);
    w.put((-1i16).to_be_bytes());
    w.put(30_000i32.to_be_bytes());
    w.len(topics.len());
    for topic in topics {
        if version >= 13 {
            w.put(topic.id);
        } else {
            w.string(Some(topic.name));
        }
        w.len(topic.partitions.len());
        for partition in topic.partitions {
            w.put(partition.index.to_be_bytes());
            w.len(61 + partition.body.bytes().len());
            w.put(partition.header);
            for piece in partition.body.chunks().iter() {
                w.put(piece);
            }
            w.tags(None);
        }
        w.tags(None);
    }
    w.tags(None);
    let mut frame = (w.out.len() as i32).to_be_bytes().to_vec();
    frame.extend_from_slice(&w.out);
    frame
}

fn partition(index: i32, batch: &SealedBatch) -> ProducePartition<'_> {
    ProducePartition { index, header: batch.header(5, 1, 9, 0), body: batch.body() }
}

#[test]
fn requests_of_every_version_are_laid_out_as_defined() {
    let (small, large) = (batch(&[b"a"]), batch(&[&[7; 300], &[8; 300]]));
    let first = [partition(0, &small), partition(1, &large)];
    let second = [partition(2, &small)];
    let long_name = "n".repeat(200);
    let topics = [
        ProduceTopic { name: "flights", id: [1; 16], partitions: &first },
        ProduceTopic { name: &long_name, id: [2; 16], partitions: &second },
    ];
    for version in versions() {
        for ids in [(None, None), (Some("client"), Some("transaction"))] {
            let request = encode_request(version, 77, ids.0, ids.1, -1, 30_000, &topics);
            assert_eq!(joined(&request), expected_request(version, ids, &topics), "version {version}");
        }
    }
}
