//! Batches that grow while they cannot be sent: how far, with which memory, and when they leave.
//!
//! batch.size is 1,000 bytes in all of these, and growth ends at 8,000 unless a test says otherwise.

#[path = "common/rig.rs"]
mod rig;

use penstock_core::append::{Appended, Chunk, Partitions, Placed, Progress, Record, Rows, Timestamps};
use penstock_core::boundary::{Command, Decision};
use penstock_core::compression::{Codec, Compression, Encoder};
use penstock_core::config::{Allocation, Config};

use rig::{MS, Rig, Seen, config, offset};

const MESSAGE_TOO_LARGE: i16 = 10;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;

/// 100 bytes each in a batch, nearly.
const VALUE: [u8; 92] = [b'v'; 92];

fn growing() -> Config {
    let mut config = Config { growth_max_bytes: 8_000, buffer_memory: 1 << 20, ..config() };
    config.rules.linger_us = 10_000 * MS;
    config
}

/// A batch of about batch.size leaves: at once if it may grow beyond, else when it need not linger any more.
fn leave(rig: &mut Rig) {
    let linger_us = rig.shared.config.rules.linger_us;
    rig.pass(if rig.shared.config.grows() { 0 } else { linger_us });
}

fn confirmed(config: Config, partitions: usize) -> Rig {
    let mut rig = Rig::ready(config, partitions);
    for partition in 0..partitions as u32 {
        rig.send(partition, &[0; 980]);
        leave(&mut rig);
        let seen = rig.seen(1);
        assert_eq!(seen.len(), 1, "it is worth sending");
        rig.answer(1, &seen, 0, 0);
    }
    rig
}

fn send(rig: &Rig, partition: u32, records: usize) {
    for _ in 0..records {
        rig.send(partition, &VALUE);
    }
}

/// Fill the window of the lane: five requests on the way.
fn window(rig: &mut Rig, partition: u32) -> Vec<Vec<Seen>> {
    let mut sent = Vec::new();
    for _ in 0..5 {
        rig.send(partition, &[0; 980]);
        leave(rig);
        sent.push(rig.seen(1));
    }
    assert!(sent.iter().all(|seen| seen.len() == 1));
    sent
}

fn held(rig: &Rig) -> usize {
    rig.shared.pool.total() - rig.shared.pool.available()
}

#[test]
fn a_batch_leaves_at_batch_size_if_it_can() {
    let mut rig = confirmed(growing(), 1);
    send(&rig, 0, 9);
    rig.engine.run_once();
    assert_eq!(rig.seen(1), [], "it lingers");
    send(&rig, 0, 1);
    rig.engine.run_once();
    let seen = rig.seen(1);
    assert_eq!((seen.len(), seen[0].records), (1, 10), "announced without a timer");
}

#[test]
fn while_the_window_is_full_records_join_the_open_batch_up_to_the_limit() {
    let mut rig = confirmed(growing(), 1);
    let sent = window(&mut rig, 0);
    send(&rig, 0, 200);
    rig.engine.run_once();
    assert_eq!(rig.seen(1), []);
    rig.answer(1, &sent[0], 0, 1);
    let seen = rig.seen(1);
    assert!((7_800..=8_000).contains(&seen[0].bytes.len()), "{}", seen[0].bytes.len());
    assert_eq!((seen.len(), seen[0].sequence), (1, 6));
    rig.answer(1, &sent[1], 0, 2);
    let next = rig.seen(1);
    assert_eq!(next[0].sequence, 6 + seen[0].records);
    let last = rig.send(0, &VALUE);
    rig.answer(1, &sent[2], 0, 3);
    let rest = rig.seen(1);
    assert_eq!(seen[0].records + next[0].records + rest[0].records, 201);
    for (at, batch) in [&sent[3], &sent[4], &seen, &next, &rest].into_iter().enumerate() {
        rig.answer(1, batch, 0, 10 + at as i64);
    }
    assert_eq!(offset(&last.0), Some(14));
    assert_eq!(held(&rig), 0);
}

#[test]
fn what_was_sent_never_grows() {
    let mut rig = confirmed(growing(), 1);
    send(&rig, 0, 10);
    rig.engine.run_once();
    let first = rig.seen(1);
    send(&rig, 0, 3);
    // The broker refuses for now; the batch is sent again.
    rig.answer(1, &first, 6, -1);
    let report = rig.handed_over().remove(0);
    rig.resume(&report, |_| Decision::Retry, None);
    rig.pass(MS);
    assert_eq!(rig.seen(1)[0].bytes, first[0].bytes);
}

#[test]
fn memory_is_charged_as_the_batch_grows_and_never_more_than_there_is() {
    let mut config = growing();
    config.growth_max_bytes = 1 << 20;
    config.buffer_memory = 60_000;
    let mut rig = confirmed(config, 1);
    let sent = window(&mut rig, 0);
    let topic = rig.shared.topics.entry("t").topic.unwrap();
    let record = Record { timestamp: 1, key: None, value: Some(&VALUE), headers: &[] };
    let mut records = 0;
    let needed = loop {
        match rig.shared.append(&topic, Some(0), &record, None, &mut 0) {
            Appended::Done { .. } => records += 1,
            Appended::NeedsMemory(bytes) => break bytes,
            Appended::Closed => unreachable!(),
        }
    };
    assert_eq!(needed, 1_000);
    assert!(records > 500 && held(&rig) <= 60_000, "{records} records");
    // Bytes that a caller waited for extend the same batch.
    rig.answer(1, &sent[0], 0, 1);
    let seen = rig.seen(1);
    assert_eq!(seen[0].records, records);
    drop(seen);
    assert!(matches!(rig.shared.append(&topic, Some(0), &record, None, &mut 0), Appended::Done { index: 0, .. }));
}

#[test]
fn a_waiters_bytes_extend_the_open_batch() {
    let mut config = growing();
    config.buffer_memory = 8_000;
    let mut rig = confirmed(config, 1);
    let _sent = window(&mut rig, 0);
    let topic = rig.shared.topics.entry("t").topic.unwrap();
    let record = Record { timestamp: 1, key: None, value: Some(&VALUE), headers: &[] };
    let mut next = 0;
    while let Appended::Done { index, .. } = rig.shared.append(&topic, Some(0), &record, None, &mut 0) {
        assert_eq!(index, next, "one batch");
        next += 1;
    }
    let mut grant = 1_000;
    let appended = rig.shared.append(&topic, Some(0), &record, None, &mut grant);
    assert!(matches!(appended, Appended::Done { index, .. } if index == next), "{appended:?}");
    assert_eq!(grant, 0);
}

#[test]
fn a_request_has_room_for_a_batch_of_each_ready_lane() {
    let mut config = growing();
    config.growth_max_bytes = 1 << 20;
    config.max_request_size = 200_000;
    config.buffer_memory = 1 << 24;
    let mut rig = confirmed(config, 5);
    let sent = window(&mut rig, 0);
    for round in 0..4_000 {
        send(&rig, round % 4 + 1, 1);
        if round == 100 {
            rig.engine.run_once();
        }
    }
    rig.answer(1, &sent[0], 0, 1);
    let sizes: Vec<_> = rig.seen(1).iter().map(|batch| batch.bytes.len()).collect();
    assert_eq!(sizes.len(), 4, "{sizes:?}");
    assert!(sizes.iter().all(|size| (49_800..=50_000).contains(size)), "{sizes:?}");
}

#[test]
fn a_large_batch_does_not_keep_small_ones_from_the_request() {
    let mut config = growing();
    config.growth_max_bytes = 9_000;
    config.max_request_size = 10_000;
    let mut rig = confirmed(config, 4);
    let sent = window(&mut rig, 0);
    send(&rig, 1, 30);
    send(&rig, 2, 85);
    send(&rig, 3, 20);
    rig.engine.run_once();
    rig.answer(1, &sent[0], 0, 1);
    let seen = rig.seen(1);
    assert_eq!(seen.iter().map(|batch| batch.partition).collect::<Vec<_>>(), [1, 3], "2 has the larger one");
    rig.answer(1, &sent[1], 0, 1);
    assert_eq!(rig.seen(1)[0].partition, 2, "and comes first then");
}

#[test]
fn a_flush_waits_for_nothing_that_still_grows() {
    let mut rig = confirmed(growing(), 1);
    let sent = window(&mut rig, 0);
    let (before, _) = rig.send(0, &VALUE);
    let pending = rig.shared.begin_flush();
    let (after, index) = rig.send(0, &VALUE);
    assert!(!std::sync::Arc::ptr_eq(&before, &after) && index == 0);
    assert_eq!(pending.len(), 6);
    rig.answer(1, &sent[0], 0, 1);
    assert_eq!(rig.seen(1)[0].records, 1);
    rig.shared.hurry.end_flush();
}

/// A broker whose topic takes batches of `limit` bytes at most. Returns the sizes of the batches that it refused.
fn serve(rig: &mut Rig, mut requests: Vec<Vec<Seen>>, limit: usize, expected: &mut i32) -> Vec<usize> {
    let mut refused = Vec::new();
    while !requests.is_empty() {
        let batch = requests.remove(0);
        let code = if batch[0].bytes.len() > limit {
            refused.push(batch[0].bytes.len());
            MESSAGE_TOO_LARGE
        } else if batch[0].sequence == *expected {
            *expected += batch[0].records;
            0
        } else {
            OUT_OF_ORDER_SEQUENCE_NUMBER
        };
        rig.answer(1, &batch, code, if code == 0 { 1 } else { -1 });
        for report in rig.handed_over() {
            let too_large = |at: usize| report.batches[at].error_code == MESSAGE_TOO_LARGE;
            rig.resume(&report, |at| if too_large(at) { Decision::Split } else { Decision::Retry }, None);
        }
        rig.pass(MS);
        requests.extend(by_request(&rig.seen(1)));
    }
    refused
}

fn by_request(seen: &[Seen]) -> Vec<Vec<Seen>> {
    seen.chunk_by(|one, other| one.correlation == other.correlation).map(<[Seen]>::to_vec).collect()
}

#[test]
fn a_topic_teaches_its_limit_once() {
    let mut config = growing();
    config.growth_max_bytes = 60_000;
    config.buffer_memory = 1 << 25;
    let mut rig = confirmed(config, 1);
    let mut expected = 1;
    let sent = window(&mut rig, 0);
    send(&rig, 0, 49_999);
    let (last, index) = rig.send(0, &VALUE);
    let refused = serve(&mut rig, sent, 10_000, &mut expected);
    assert!((1..=5 + 4).contains(&refused.len()), "{refused:?}");
    assert_eq!(offset(&last.leaf(index).0), Some(1));
    // Whatever waits later: nothing is refused any more.
    let sent = window(&mut rig, 0);
    send(&rig, 0, 50_000);
    assert_eq!(serve(&mut rig, sent, 10_000, &mut expected), []);
    assert_eq!(expected, 1 + 2 * (5 + 50_000));
    assert_eq!(held(&rig), 0);
}

#[test]
fn a_topic_that_is_created_again_has_to_teach_again() {
    let mut config = growing();
    config.growth_max_bytes = 1_000_000;
    config.buffer_memory = 1 << 24;
    let mut rig = confirmed(config, 1);
    let state = rig.shared.topics.entry("t").topic.unwrap().state.clone();
    assert_eq!(state.learn_refused(1_000_000, 0), 500_000);
    assert_eq!(state.learn_refused(500_000, 400_000), 400_000);
    assert_eq!(state.learn_refused(300_000, 400_000), 150_000, "the limit was lowered");
    rig.leaders(2, &[(1, 0)]);
    assert_eq!(state.accepted_bytes(), 150_000);
    let partitions = vec![penstock_core::boundary::PartitionLeader { leader: 1, leader_epoch: 0, local: false }];
    rig.command(Command::SetTopic { name: "t".into(), topic_id: [8; 16], version: 3, partitions });
    assert_eq!(state.accepted_bytes(), usize::MAX);
}

#[test]
fn a_slow_link_gets_batches_of_a_fifth_of_a_second() {
    let mut config = growing();
    config.growth_max_bytes = 1_000_000;
    config.buffer_memory = 1 << 24;
    let mut rig = confirmed(config, 1);
    let health = rig.shared.topics.entry("t").topic.unwrap().leaders[0].health.clone();
    health.set_pace(1_000_000);
    let sent = window(&mut rig, 0);
    send(&rig, 0, 5_000);
    rig.answer(1, &sent[0], 0, 1);
    let seen = rig.seen(1);
    // The answer told another pace; the batch was closed under the old one.
    assert!((195_000..=200_000).contains(&seen[0].bytes.len()), "{}", seen[0].bytes.len());
    assert_eq!(health.fifth_of_a_second(), 64 * 1024, "of 2,000 bytes; small batches are no burden for any link");
    rig.pass(2_000 * MS);
    assert_eq!(health.fifth_of_a_second(), usize::MAX, "nothing was acknowledged: nothing is known");
}

fn compressing(rig: &Rig) {
    rig.shared.encoding.codecs().unwrap().step_by_hand();
}

fn encode_all(rig: &mut Rig) -> Vec<u32> {
    let mut counts = Vec::new();
    let codecs = rig.shared.encoding.codecs().unwrap();
    while let Some(job) = codecs.take(0) {
        counts.push(job.builder.count());
        codecs.run(job, &*rig.shared, &mut Encoder::new(codecs.compression).unwrap()).unwrap();
    }
    rig.engine.run_once();
    counts
}

#[test]
fn a_compressed_batch_is_closed_when_the_lane_would_run_dry_and_grows_otherwise() {
    let mut config = growing();
    config.compression = Compression { codec: Codec::Lz4, level: 9 };
    let mut rig = Rig::ready(config, 1);
    compressing(&rig);
    rig.send(0, &[0; 980]);
    encode_all(&mut rig);
    let first = rig.seen(1);
    // One on the way until the first success. Two batches of about batch.size are prepared behind it; then one grows.
    let prepared: Vec<_> = (0..60)
        .flat_map(|_| {
            send(&rig, 0, 1);
            encode_all(&mut rig)
        })
        .collect();
    assert_eq!(prepared.len(), 2, "{prepared:?}");
    rig.answer(1, &first, 0, 0);
    assert_eq!(rig.seen(1).len(), 2, "the window is open");
    assert_eq!(encode_all(&mut rig), [60 - prepared[0] - prepared[1]]);
    assert_eq!(rig.seen(1).len(), 1);
}

#[test]
fn a_bulk_call_announces_and_changes_the_sticky_partition_at_each_batch_size() {
    let mut config = growing();
    config.growth_max_bytes = 1_000_000;
    let mut rig = confirmed(config, 4);
    let topic = rig.shared.topics.entry("t").topic.unwrap();
    let values = vec![Some(&VALUE[..]); 400];
    let rows = Rows {
        values: &values,
        keys: &[],
        headers: &[],
        timestamps: Timestamps::All(1),
        partitions: Partitions::Choose,
    };
    let (mut chunk, mut placed) = (Chunk::default(), Placed::default());
    chunk.begin(&topic, &rows, false);
    assert_eq!(rig.shared.append_many(&topic, &rows, &mut chunk, &mut placed, &mut 0), Progress::Done);
    assert!(placed.runs.len() > 400 / 10 / 2, "{:?}", placed.runs);
    rig.engine.run_once();
    assert_eq!(rig.seen(1).iter().map(|batch| batch.records).sum::<i32>(), 400, "nothing lingers");
}

#[test]
fn a_lanes_load_is_counted_in_batches_of_batch_size() {
    let mut rig = confirmed(growing(), 1);
    let _sent = window(&mut rig, 0);
    let load = |rig: &Rig| {
        rig.shared.topics.entry("t").topic.unwrap().lanes[0].load.load(std::sync::atomic::Ordering::Relaxed)
    };
    send(&rig, 0, 5);
    assert_eq!(load(&rig), 1);
    send(&rig, 0, 30);
    assert_eq!(load(&rig), 4);
}

#[test]
fn without_growth_batches_are_as_javas() {
    let mut config = growing();
    config.growth_max_bytes = 0;
    config.rules.linger_us = 100 * MS;
    let mut rig = confirmed(config, 1);
    let sent = window(&mut rig, 0);
    send(&rig, 0, 30);
    for (at, seen) in sent.iter().enumerate() {
        rig.answer(1, seen, 0, at as i64);
    }
    assert_eq!(rig.seen(1).iter().map(|batch| batch.records).collect::<Vec<_>>(), [9, 9, 9]);
}

#[test]
fn with_allocation_incremental_a_batch_is_charged_as_records_come() {
    for (allocation, charged) in [(Allocation::Full, 100_000), (Allocation::Incremental, 16_384)] {
        let mut config = growing();
        (config.batch_size, config.buffer_memory, config.allocation) = (100_000, 1 << 20, allocation);
        let rig = Rig::ready(config, 1);
        rig.send(0, &VALUE);
        assert_eq!(held(&rig), charged);
        send(&rig, 0, 200);
        assert_eq!(held(&rig), charged.max(32_768));
    }
}
