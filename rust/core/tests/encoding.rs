//! Compression of batches: when, in which order, and which other events can come before it ends.
//!
//! Stepped by hand: the test runs the jobs.

#[path = "common/rig.rs"]
mod rig;

use std::sync::Arc;

use penstock_core::boundary::{Command, Decision, Trouble};
use penstock_core::compression::{Codec, Compression, Encoder, decompress};
use penstock_core::config::Config;
use penstock_core::lane::fate::Fate;
use penstock_core::outcome::{Completion, FailureKind, Outcome};
use penstock_core::shared::Shared;
use penstock_core::wire::crc::crc32c;
use penstock_core::wire::record_batch::{BATCH_HEADER_LEN, MAX_UNCOMPRESSED};

use rig::{MS, Rig, Seen, config, offset};

const LZ4: Compression = Compression { codec: Codec::Lz4, level: 9 };
const ZSTD: Compression = Compression { codec: Codec::Zstd, level: 3 };

fn compressing(compression: Compression) -> Config {
    Config { compression, ..config() }
}

fn ready(config: Config) -> Rig {
    let rig = Rig::ready(config, 1);
    rig.shared.encoding.codecs().unwrap().step_by_hand();
    rig
}

fn jobs(shared: &Shared) -> usize {
    shared.encoding.codecs().unwrap().waiting()
}

/// Compress what waits at that place of the queue.
fn encode(rig: &mut Rig, at: usize) {
    let codecs = rig.shared.encoding.codecs().unwrap();
    let job = codecs.take(at).expect("a job");
    codecs.run(job, &*rig.shared, &mut Encoder::new(codecs.compression).unwrap()).unwrap();
    rig.engine.run_once();
}

fn encode_all(rig: &mut Rig) {
    while jobs(&rig.shared) > 0 {
        encode(rig, 0);
    }
}

/// A second batch is in flight only once a first one has got through.
fn confirm(rig: &mut Rig) {
    rig.send(0, b"first");
    rig.pass(6 * MS);
    encode_all(rig);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 0, 0);
}

/// A value that fills more than half a batch, so that the next one closes it.
fn large(fill: u8) -> Vec<u8> {
    vec![fill; 600]
}

/// The records of a batch: its attributes name their codec, and its checksum covers them as they are sent.
fn records(seen: &Seen, codec: Codec) -> Vec<u8> {
    assert_eq!(seen.bytes[21..23], codec.attributes().to_be_bytes());
    assert_eq!(seen.bytes[17..21], crc32c(&seen.bytes[21..]).to_be_bytes());
    decompress(codec, &seen.bytes[BATCH_HEADER_LEN..], 1 << 22).unwrap()
}

fn holds(seen: &Seen, codec: Codec, value: &[u8]) -> bool {
    records(seen, codec).windows(value.len()).any(|window| window == value)
}

fn failed(completion: &Completion) -> (FailureKind, bool) {
    match completion.outcome() {
        Some(Outcome::Failed(failure)) => (failure.kind, failure.possibly_persisted),
        other => panic!("not failed: {other:?}"),
    }
}

fn all_memory_is_back(rig: &Rig) -> bool {
    rig.shared.pool.available() == rig.shared.pool.total()
}

// ---------------------------------------------------------------------------------------------------------- the way

#[test]
fn a_batch_is_compressed_when_its_linger_is_over_and_sent_when_it_is_compressed() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut config = compressing(Compression { codec, level: 1 });
        config.batch_size = 2_000;
        let mut rig = Rig::speaking(7, config, 1);
        rig.shared.encoding.codecs().unwrap().step_by_hand();
        let (completion, _) = rig.send(0, &[b'x'; 900]);
        assert_eq!(rig.pass(0), rig.now_us + 5 * MS, "it lingers");
        rig.pass(5 * MS);
        assert_eq!((jobs(&rig.shared), rig.seen(1).len()), (1, 0));
        rig.pass(100 * MS);
        assert_eq!(jobs(&rig.shared), 1, "it is requested once");
        encode(&mut rig, 0);
        let seen = rig.seen(1);
        assert!(seen[0].bytes.len() < 300 && holds(&seen[0], codec, &[b'x'; 900]), "{codec:?}");
        rig.answer(1, &seen, 0, 7);
        assert_eq!(offset(&completion), Some(7));
        assert!(all_memory_is_back(&rig));
        let stats = rig.shared.stats.lock();
        assert!(stats.compression.sum < 0.3 && stats.topics["t"].compression.count == 1);
    }
}

#[test]
fn a_full_batch_is_compressed_without_the_io_thread() {
    let mut rig = ready(compressing(LZ4));
    rig.send(0, &large(1));
    assert_eq!(jobs(&rig.shared), 0);
    rig.send(0, &large(2));
    assert_eq!(jobs(&rig.shared), 1, "the second found no room: the first is closed");
    rig.shared.begin_flush();
    rig.pass(0);
    assert_eq!(jobs(&rig.shared), 1, "the other batch still waits");
    rig.shared.hurry.end_flush();
}

#[test]
fn a_batch_that_is_ready_early_waits_for_the_batches_before_it() {
    let mut rig = ready(compressing(LZ4));
    confirm(&mut rig);
    let completions: Vec<_> = (0..4).map(|fill| rig.send(0, &large(fill)).0).collect();
    assert_eq!(jobs(&rig.shared), 3);
    encode(&mut rig, 2);
    encode(&mut rig, 1);
    assert!(rig.seen(1).is_empty(), "the first is still with its worker");
    encode(&mut rig, 0);
    let seen = rig.seen(1);
    let sequences: Vec<_> = seen.iter().map(|batch| batch.sequence).collect();
    assert_eq!(sequences, [1, 2, 3]);
    for (fill, batch) in seen.iter().enumerate() {
        assert!(holds(batch, Codec::Lz4, &large(fill as u8)), "in the order of sending");
    }
    for (at, batch) in seen.iter().enumerate() {
        rig.answer(1, std::slice::from_ref(batch), 0, at as i64);
    }
    rig.pass(6 * MS);
    encode_all(&mut rig);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 0, 3);
    assert_eq!(completions.iter().map(|it| offset(it)).collect::<Vec<_>>(), [Some(0), Some(1), Some(2), Some(3)]);
    assert!(all_memory_is_back(&rig));
}

#[test]
fn a_retry_is_the_same_to_the_last_byte() {
    let mut rig = ready(compressing(ZSTD));
    rig.produce_version = 7;
    rig.connect(2, 1);
    rig.send(0, &large(1));
    rig.pass(6 * MS);
    encode_all(&mut rig);
    let seen = rig.seen(2);
    rig.answer(2, &seen, 6, -1);
    let report = rig.handed_over().remove(0);
    rig.resume(&report, |_| Decision::Retry, None);
    let again = rig.seen(2);
    assert_eq!(seen[0].bytes, again[0].bytes);
    assert_eq!(jobs(&rig.shared), 0);
}

#[test]
fn records_that_do_not_compress_are_sent() {
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(800).collect();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut rig = Rig::speaking(7, compressing(Compression { codec, level: 9 }), 1);
        rig.shared.encoding.codecs().unwrap().step_by_hand();
        rig.send(0, &noise);
        rig.pass(6 * MS);
        encode_all(&mut rig);
        let seen = rig.seen(1);
        assert!(seen[0].bytes.len() > 61 + 800 && holds(&seen[0], codec, &noise));
        assert!(rig.shared.encoding.codecs().unwrap().ratios.estimate("t") > 1.0);
    }
}

// ---------------------------------------------------------------------------------------------------------- filling

#[test]
fn a_topic_that_compresses_well_gets_fuller_batches_and_is_charged_for_them() {
    let mut config = compressing(LZ4);
    config.buffer_memory = 10_000;
    let mut rig = ready(config);
    let topic = Arc::from("t");
    let ratios = &rig.shared.encoding.codecs().unwrap().ratios;
    for _ in 0..200 {
        ratios.observe(&topic, 0.2);
    }
    let available = rig.shared.pool.available();
    rig.send(0, &large(1));
    assert_eq!(available - rig.shared.pool.available(), 1_000, "batch.size, as long as that is enough");
    let mut sent = 1;
    while jobs(&rig.shared) == 0 {
        rig.send(0, &large(1));
        sent += 1;
    }
    // 61 + 939 / (0.2 × 1.05) bytes make an estimated batch.size of 1,000.
    assert_eq!(sent - 1, 7, "4,532 bytes at most, in records of 610");
    let held = available - rig.shared.pool.available();
    assert_eq!(held, 1_000 + 3_862 + 1_000, "all that it may hold uncompressed is charged for; and the next batch");
    rig.pass(6 * MS);
    encode_all(&mut rig);
    let seen = rig.seen(1);
    assert_eq!(seen[0].records, 7);
    assert!(seen[0].bytes.len() < 1_000);
}

#[test]
fn the_memory_that_a_caller_waited_for_extends_the_open_batch() {
    let mut config = compressing(LZ4);
    config.buffer_memory = 2_500;
    let rig = ready(config);
    let topic = Arc::from("t");
    for _ in 0..200 {
        rig.shared.encoding.codecs().unwrap().ratios.observe(&topic, 0.1);
    }
    for _ in 0..2 {
        rig.send(0, &large(1));
    }
    assert_eq!((jobs(&rig.shared), rig.shared.pool.available()), (0, 500), "it grew to 2,000");
    let topic = rig.shared.topics.entry("t").topic.unwrap();
    let value = large(1);
    let record = penstock_core::append::Record { timestamp: 1, key: None, value: Some(&value), headers: &[] };
    let mut grant = 0;
    let appended = rig.shared.append(&topic, Some(0), &record, None, &mut grant);
    assert!(matches!(appended, penstock_core::append::Appended::NeedsMemory(1_000)), "{appended:?}");
    grant = 1_000;
    let appended = rig.shared.append(&topic, Some(0), &record, None, &mut grant);
    assert!(matches!(appended, penstock_core::append::Appended::Done { index: 2, .. }), "{appended:?}");
    assert_eq!((grant, jobs(&rig.shared)), (0, 0));
}

#[test]
fn a_batch_does_not_grow_without_end() {
    let mut config = compressing(LZ4);
    config.buffer_memory = 1 << 24;
    config.batch_size = 100_000;
    let rig = ready(config);
    let topic = Arc::from("t");
    for _ in 0..300 {
        rig.shared.encoding.codecs().unwrap().ratios.observe(&topic, 0.001);
    }
    let value = vec![0; 10_000];
    let mut sent = 0;
    while jobs(&rig.shared) == 0 {
        rig.send(0, &value);
        sent += 1;
    }
    assert_eq!(sent - 1, MAX_UNCOMPRESSED / 10_011);
}

// ---------------------------------------------------------------------------------------------------------- what else can happen

#[test]
fn a_batch_expires_without_waiting_for_its_worker() {
    let mut config = compressing(LZ4);
    config.rules.delivery_timeout_us = 1_000 * MS;
    let mut rig = ready(config);
    let (completion, _) = rig.send(0, &large(1));
    rig.pass(6 * MS);
    assert_eq!(jobs(&rig.shared), 1);
    rig.pass(1_100 * MS);
    assert_eq!(failed(&completion), (FailureKind::Timeout, false));
    let Some(Outcome::Failed(failure)) = completion.outcome() else { unreachable!() };
    assert_eq!(failure.message, "its batch is still being compressed");
    assert!(!all_memory_is_back(&rig), "its worker still reads it");
    // The next one does not wait for it.
    let (next, _) = rig.send(0, &large(2));
    rig.pass(6 * MS);
    encode(&mut rig, 1);
    let seen = rig.seen(1);
    assert_eq!(seen[0].sequence, 0, "nothing was numbered before it");
    rig.answer(1, &seen, 0, 5);
    assert_eq!(offset(&next), Some(5));
    encode(&mut rig, 0);
    assert!(all_memory_is_back(&rig) && rig.seen(1).is_empty());
}

#[test]
fn a_close_does_not_wait_for_compression_and_loses_no_memory() {
    let mut rig = ready(compressing(LZ4));
    let completions: Vec<_> = (0..3).map(|fill| rig.send(0, &large(fill)).0).collect();
    encode(&mut rig, 1);
    rig.engine.shut_down();
    for completion in completions {
        assert_eq!(failed(&completion), (FailureKind::Closed, false));
    }
    encode_all(&mut rig);
    assert!(all_memory_is_back(&rig));
}

#[test]
fn a_fatal_error_fails_batches_in_compression() {
    let mut rig = ready(compressing(LZ4));
    let (completion, _) = rig.send(0, &large(1));
    rig.send(0, &large(2));
    rig.command(Command::FailProducer {
        kind: FailureKind::Broker,
        trouble: Trouble { code: 31, message: "no".into() },
    });
    assert_eq!(failed(&completion), (FailureKind::Broker, false));
    encode_all(&mut rig);
    assert!(all_memory_is_back(&rig));
}

#[test]
fn a_too_large_batch_is_split_and_its_children_are_compressed_again() {
    for compression in
        [LZ4, ZSTD, Compression { codec: Codec::Gzip, level: 9 }, Compression { codec: Codec::Snappy, level: 0 }]
    {
        let mut config = compressing(compression);
        config.batch_size = 4_000;
        let mut rig = Rig::speaking(7, config, 1);
        rig.shared.encoding.codecs().unwrap().step_by_hand();
        let sent: Vec<_> = (0..5u8).map(|fill| rig.send(0, &large(fill))).collect();
        rig.pass(6 * MS);
        encode_all(&mut rig);
        let seen = rig.seen(1);
        rig.answer(1, &seen, 10, -1);
        let report = rig.handed_over().remove(0);
        rig.resume(&report, |_| Decision::Split, None);
        assert_eq!(jobs(&rig.shared), 3, "half of 3,100 bytes holds two records");
        assert!((rig.shared.encoding.codecs().unwrap().ratios.estimate("t") - 1.0).abs() < 1e-6, "nothing is believed");
        encode(&mut rig, 2);
        assert!(rig.seen(1).is_empty());
        encode(&mut rig, 0);
        let seen = rig.seen(1);
        assert_eq!((seen.len(), seen[0].sequence, seen[0].records), (1, 0, 2), "one in flight until the first success");
        rig.answer(1, &seen, 0, 0);
        encode(&mut rig, 0);
        let seen = rig.seen(1);
        assert_eq!(seen.iter().map(|batch| (batch.sequence, batch.records)).collect::<Vec<_>>(), [(2, 2), (4, 1)]);
        assert!(holds(&seen[1], compression.codec, &large(4)));
        rig.answer(1, &seen[..1], 0, 2);
        rig.answer(1, &seen[1..], 0, 4);
        for (at, (completion, index)) in sent.iter().enumerate() {
            let (leaf, index) = completion.leaf(*index);
            assert_eq!(offset(&leaf).map(|base| base + i64::from(index)), Some(at as i64));
        }
        assert!(all_memory_is_back(&rig));
    }
}

#[test]
fn a_child_that_expires_while_it_is_compressed_keeps_its_place_for_its_numbers() {
    let mut config = compressing(LZ4);
    config.batch_size = 4_000;
    config.rules.delivery_timeout_us = 1_000 * MS;
    let mut rig = ready(config);
    let sent: Vec<_> = (0..4u8).map(|fill| rig.send(0, &large(fill))).collect();
    rig.pass(6 * MS);
    encode_all(&mut rig);
    let seen = rig.seen(1);
    rig.answer(1, &seen, 10, -1);
    let report = rig.handed_over().remove(0);
    rig.resume(&report, |_| Decision::Split, None);
    assert_eq!(jobs(&rig.shared), 4, "half of it holds one record");
    rig.pass(1_100 * MS);
    for (completion, index) in &sent {
        assert_eq!(failed(&completion.leaf(*index).0), (FailureKind::Timeout, false));
    }
    let report = rig.handed_over().remove(0);
    assert_eq!(
        report.batches.iter().map(|batch| (batch.record_count, batch.expired)).collect::<Vec<_>>(),
        [(1, true); 4]
    );
    // With the control plane, and compressed there: still found.
    encode(&mut rig, 0);
    let fail = |_| Decision::Fail { kind: FailureKind::Timeout, code: 0, message: String::new() };
    rig.resume(&report, fail, None);
    assert!(!all_memory_is_back(&rig));
    encode_all(&mut rig);
    assert!(all_memory_is_back(&rig));
}

#[test]
fn a_broker_without_zstd_support_gets_no_zstd() {
    let mut rig = Rig::speaking(6, compressing(ZSTD), 1);
    rig.shared.encoding.codecs().unwrap().step_by_hand();
    rig.send(0, &large(1));
    rig.pass(6 * MS);
    encode_all(&mut rig);
    assert!(rig.seen(1).is_empty());
    let report = rig.handed_over().remove(0);
    let batch = &report.batches[0];
    assert_eq!((batch.error_code, batch.fate), (76, Fate::Unsent));
    assert!(batch.error_message.contains("zstd needs 7 (Kafka 2.1)"), "{}", batch.error_message);
    let fail = |_| Decision::Fail { kind: FailureKind::Broker, code: 76, message: String::new() };
    rig.resume(&report, fail, Some((rig::ME, 0)));
    assert!(all_memory_is_back(&rig));
}

// ---------------------------------------------------------------------------------------------------------- threads

#[test]
fn workers_start_with_the_first_record_and_end_with_the_producer() {
    let mut rig = Rig::ready(compressing(LZ4), 1);
    let shared = Arc::clone(&rig.shared);
    let sent: Vec<_> = (0..40).map(|fill| rig.send(0, &large(fill)).0).collect();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let mut base = 0;
    while !sent.iter().all(|completion| completion.outcome().is_some()) {
        assert!(std::time::Instant::now() < until);
        rig.pass(MS);
        for batch in rig.seen(1) {
            rig.answer(1, &[batch], 0, base);
            base += 1;
        }
        std::thread::yield_now();
    }
    rig.engine.shut_down();
    shared.end_codecs();
    assert_eq!(Arc::strong_count(&shared), 3, "this one, the rig's and the engine's: no thread holds it");
    assert!(all_memory_is_back(&rig));
}
