//! `append_many` does the same as one append per record, for all lanes, buffers and partitions.

#[path = "common/rig.rs"]
mod rig;

use penstock_core::append::{Appended, Record};
use penstock_core::append::{CHOOSE, Chunk, NOT_BUFFERED, Partitions, Placed, Progress, Rows, Timestamps};
use penstock_core::boundary::Decision;
use penstock_core::compression::{Codec, Compression, Encoder, decompress};
use penstock_core::config::Config;
use penstock_core::outcome::Completion;
use penstock_core::wire::murmur2::partition_for_key;
use penstock_core::wire::record_batch::{BATCH_HEADER_LEN, record_len_upper_bound};
use rig::{MS, Rig, Seen, config, offset};
use std::sync::Arc;

const COMPRESSIONS: [Compression; 5] = [
    Compression { codec: Codec::None, level: 0 },
    Compression { codec: Codec::Gzip, level: 6 },
    Compression { codec: Codec::Snappy, level: 0 },
    Compression { codec: Codec::Lz4, level: 9 },
    Compression { codec: Codec::Zstd, level: 3 },
];

fn rows<'a>(values: &'a [Option<&'a [u8]>], keys: &'a [Option<&'a [u8]>], partitions: Partitions<'a>) -> Rows<'a> {
    Rows { values, keys, headers: &[], timestamps: Timestamps::All(1), partitions }
}

/// Append all; the memory that it needs is granted without a check.
fn append(rig: &Rig, rows: &Rows<'_>) -> Placed {
    let topic = rig.shared.topics.entry("t").topic.expect("the rig has one");
    let (mut chunk, mut placed, mut grant) = (Chunk::default(), Placed::default(), 0);
    chunk.begin(&topic, rows, false);
    assert_eq!(rig.shared.append_many(&topic, rows, &mut chunk, &mut placed, &mut grant), Progress::Done);
    assert_eq!(chunk.finish(rows, &mut placed), [] as [u32; 0]);
    placed
}

/// (partition, batch, index) of each record.
fn places(placed: &Placed) -> Vec<Option<(i32, *const Completion, u32)>> {
    placed
        .runs
        .iter()
        .flat_map(|run| {
            (run.first..run.first + run.count).map(|index| {
                (run.batch != NOT_BUFFERED).then(|| {
                    let batch = &placed.batches[run.batch as usize];
                    (batch.partition, Arc::as_ptr(batch), index)
                })
            })
        })
        .collect()
}

#[test]
fn records_of_one_partition_keep_their_order_over_batches() {
    let rig = Rig::ready(config(), 2);
    let value = [7; 100];
    let values = vec![Some(&value[..]); 100];
    let placed = append(&rig, &rows(&values, &[], Partitions::All(1)));
    let found = places(&placed);
    assert_eq!(found.len(), 100);
    assert!(placed.batches.len() > 5, "batches of 1,000 bytes");
    assert_eq!(placed.runs.len(), placed.batches.len());
    assert!(found.iter().flatten().all(|place| place.0 == 1));
    assert_eq!(placed.bytes, 10_000);
}

#[test]
fn keys_choose_and_each_partition_keeps_its_order() {
    let rig = Rig::ready(config(), 3);
    let texts: Vec<[u8; 1]> = (0..200).map(|number| [number as u8]).collect();
    let keys: Vec<Option<&[u8]>> = texts.iter().map(|text| Some(&text[..])).collect();
    let placed = append(&rig, &rows(&keys, &keys, Partitions::Choose));
    let mut last = std::collections::HashMap::new();
    for (place, key) in places(&placed).into_iter().zip(&texts) {
        let (partition, batch, index) = place.expect("buffered");
        assert_eq!(partition as u32, penstock_core::wire::murmur2::partition_for_key(key, 3));
        if let Some((before, at)) = last.insert(partition, (batch, index))
            && before == batch
        {
            assert!(at < index);
        }
    }
}

#[test]
fn records_with_and_without_a_partition_of_their_own_keep_the_order_of_all() {
    let rig = Rig::ready(config(), 1);
    let values: Vec<Option<&[u8]>> = vec![Some(b"v"); 6];
    let placed = append(&rig, &rows(&values, &[], Partitions::Each(&[0, CHOOSE, CHOOSE, 0, CHOOSE, 0])));
    let indexes: Vec<u32> = places(&placed).into_iter().map(|place| place.expect("buffered").2).collect();
    assert_eq!(indexes, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn too_large_records_are_skipped() {
    let rig = Rig::ready(config(), 1);
    let large = vec![0; rig.shared.config.max_request_size];
    let values = [Some(&b"a"[..]), Some(&large), None, Some(&large), Some(b"b")];
    for partitions in [Partitions::Choose, Partitions::Each(&[0; 5])] {
        let topic = rig.shared.topics.entry("t").topic.expect("the rig has one");
        let rows = rows(&values, &[], partitions);
        let (mut chunk, mut placed, mut grant) = (Chunk::default(), Placed::default(), 0);
        chunk.begin(&topic, &rows, false);
        assert_eq!(rig.shared.append_many(&topic, &rows, &mut chunk, &mut placed, &mut grant), Progress::Done);
        assert_eq!(chunk.too_large, [1, 3]);
        assert!(chunk.finish(&rows, &mut placed).is_empty());
        let buffered: Vec<bool> = places(&placed).iter().map(Option::is_some).collect();
        assert_eq!(buffered, [true, false, true, false, true]);
    }
}

#[test]
fn a_full_buffer_stops_the_append_and_a_grant_continues_it() {
    let mut config = config();
    config.buffer_memory = 3 * config.batch_size;
    let rig = Rig::ready(config, 2);
    let value = [7; 100];
    let values = vec![Some(&value[..]); 100];
    let topic = rig.shared.topics.entry("t").topic.expect("the rig has one");
    let rows = rows(&values, &[], Partitions::All(0));
    let (mut chunk, mut placed, mut grant) = (Chunk::default(), Placed::default(), 0);
    chunk.begin(&topic, &rows, false);
    let Progress::NeedsMemory(bytes) = rig.shared.append_many(&topic, &rows, &mut chunk, &mut placed, &mut grant)
    else {
        panic!("there is room for three batches");
    };
    let before = placed.records;
    assert!(before > 0 && before < 100);
    grant = bytes;
    let again = rig.shared.append_many(&topic, &rows, &mut chunk, &mut placed, &mut grant);
    assert_eq!((again, grant), (Progress::NeedsMemory(bytes), 0));
    assert!(placed.records > before);
    let left = chunk.finish(&rows, &mut placed);
    assert_eq!(left.last(), Some(&99));
    assert_eq!(placed.records, 100);
    assert_eq!(places(&placed).iter().filter(|place| place.is_none()).count(), left.len());
}

// ---------------------------------------------------------------------------------------------------------- compression

/// A rig whose jobs the test runs, with an estimate of how well its topic compresses.
fn compressing(config: Config, partitions: usize, ratio: f32) -> Rig {
    let rig = Rig::speaking(7, config, partitions);
    if let Some(codecs) = rig.shared.encoding.codecs() {
        codecs.step_by_hand();
        let topic = Arc::from("t");
        while codecs.ratios.estimate("t") > ratio {
            codecs.ratios.observe(&topic, ratio);
        }
    }
    rig
}

fn encode_all(rig: &mut Rig) {
    let Some(codecs) = rig.shared.encoding.codecs() else { return };
    let mut encoder = Encoder::new(codecs.compression).unwrap();
    while let Some(job) = codecs.take(0) {
        codecs.run(job, &*rig.shared, &mut encoder).unwrap();
    }
    rig.engine.run_once();
}

/// Receive everything that is buffered, and acknowledge each batch.
fn drain(rig: &mut Rig, seen: &mut Vec<Seen>) {
    while rig.shared.pool.available() < rig.shared.pool.total() {
        rig.pass(6 * MS);
        encode_all(rig);
        let news = rig.seen(1);
        assert!(!news.is_empty(), "batches that hold memory are sent");
        for request in news.chunk_by(|one, other| one.correlation == other.correlation) {
            rig.answer(1, request, 0, i64::from(request[0].sequence));
        }
        seen.extend(news);
    }
}

fn is_too_large(rig: &Rig, rows: &Rows<'_>, row: usize) -> bool {
    let config = &rig.shared.config;
    let largest = config.max_request_size.min(config.buffer_memory) - BATCH_HEADER_LEN;
    record_len_upper_bound(rows.key(row), rows.values[row], &[]) > largest
}

/// All rows, one [`penstock_core::shared::Shared::append`] each; without memory it is drained and tried again.
fn one_by_one(rig: &mut Rig, rows: &Rows<'_>, seen: &mut Vec<Seen>) -> Vec<Option<(i32, u32)>> {
    let topic = rig.shared.topics.entry("t").topic.expect("the rig has one");
    let mut places = Vec::new();
    for row in 0..rows.values.len() {
        if is_too_large(rig, rows, row) {
            places.push(None);
            continue;
        }
        let record = Record { timestamp: 1, key: rows.key(row), value: rows.values[row], headers: &[] };
        let partition = if record.key.is_none() { Some(0) } else { None };
        let place = loop {
            match rig.shared.append(&topic, partition, &record, None, &mut 0) {
                Appended::Done { completion, index } => break (completion.partition, index),
                Appended::NeedsMemory(_) => drain(rig, seen),
                Appended::Closed => panic!("it is open"),
            }
        };
        places.push(Some(place));
    }
    drain(rig, seen);
    places
}

/// The same by one [`penstock_core::shared::Shared::append_many`].
fn at_once(rig: &mut Rig, rows: &Rows<'_>, seen: &mut Vec<Seen>) -> Vec<Option<(i32, u32)>> {
    let topic = rig.shared.topics.entry("t").topic.expect("the rig has one");
    let (mut chunk, mut placed) = (Chunk::default(), Placed::default());
    chunk.begin(&topic, rows, false);
    loop {
        match rig.shared.append_many(&topic, rows, &mut chunk, &mut placed, &mut 0) {
            Progress::Done => break,
            Progress::NeedsMemory(_) => drain(rig, seen),
            Progress::Closed => panic!("it is open"),
        }
    }
    assert!(chunk.finish(rows, &mut placed).is_empty());
    drain(rig, seen);
    places(&placed).into_iter().map(|place| place.map(|(partition, _, index)| (partition, index))).collect()
}

/// Text, which compresses well, and noise, which does not; rarely nothing at all.
fn value(random: &mut fastrand::Rng, longest: usize) -> Option<Vec<u8>> {
    let len = if random.u8(..20) == 0 { random.usize(..4 * longest) } else { random.usize(..longest) };
    match random.u8(..10) {
        0 => None,
        1..3 => Some(std::iter::repeat_with(|| random.u8(..)).take(len).collect()),
        _ => Some(b"the quick brown fox ".iter().copied().cycle().take(len).collect()),
    }
}

#[test]
fn batches_are_filled_grown_and_compressed_as_by_single_appends() {
    let (mut grown, mut waited, mut refused) = (0, 0, 0);
    for seed in 0..400 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let mut config = config();
        config.compression = *random.choice(COMPRESSIONS.iter()).unwrap();
        config.batch_size = *random.choice([0, 1, 100, 1_000, 5_000].iter()).unwrap();
        config.buffer_memory = *random.choice([6_000, 20_000, 1 << 24].iter()).unwrap();
        config.max_request_size = *random.choice([4_000, 1 << 20].iter()).unwrap();
        let ratio = *random.choice([1.0, 0.5, 0.05].iter()).unwrap();
        let longest = *random.choice([30, 300, 2_000].iter()).unwrap();
        let made: Vec<_> = (0..random.usize(1..300)).map(|_| value(random, longest)).collect();
        let values: Vec<_> = made.iter().map(Option::as_deref).collect();
        let rows = rows(&values, &[], Partitions::All(0));

        let (mut one, mut many) = (compressing(config.clone(), 1, ratio), compressing(config.clone(), 1, ratio));
        let (mut seen_one, mut seen_many) = (Vec::new(), Vec::new());
        let places = one_by_one(&mut one, &rows, &mut seen_one);
        assert_eq!(at_once(&mut many, &rows, &mut seen_many), places, "seed {seed}");
        let bytes = |seen: Vec<Seen>| seen.into_iter().map(|batch| batch.bytes).collect::<Vec<_>>();
        waited += u32::from(seen_one.len() > 5 && config.buffer_memory <= 20_000);
        refused += places.iter().filter(|place| place.is_none()).count();
        let (one, many) = (bytes(seen_one), bytes(seen_many));
        assert_eq!(one, many, "seed {seed}");
        let codec = config.compression.codec;
        let uncompressed = |batch: &[u8]| decompress(codec, &batch[BATCH_HEADER_LEN..], 1 << 24).unwrap().len();
        let has_grown = |batch: &[u8]| batch[57..61] != 1_i32.to_be_bytes() && uncompressed(batch) > config.batch_size;
        grown += one.iter().filter(|batch| codec != Codec::None && has_grown(batch)).count();
    }
    assert!(grown > 100 && waited > 10 && refused > 10, "{grown} {waited} {refused}: it was put to the test");
}

#[test]
fn keyed_records_fill_and_grow_the_batches_of_their_partitions_as_single_appends_do() {
    for seed in 0..100 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let mut config = config();
        config.compression = *random.choice(COMPRESSIONS.iter()).unwrap();
        config.batch_size = *random.choice([1, 100, 1_000].iter()).unwrap();
        config.buffer_memory = 1 << 24;
        let ratio = *random.choice([1.0, 0.1].iter()).unwrap();
        let made: Vec<_> = (0..300).map(|_| (value(random, 200), [random.u8(..)])).collect();
        let values: Vec<_> = made.iter().map(|(value, _)| value.as_deref()).collect();
        let keys: Vec<_> = made.iter().map(|(_, key)| Some(&key[..])).collect();
        let rows = rows(&values, &keys, Partitions::Choose);

        let (mut one, mut many) = (compressing(config.clone(), 3, ratio), compressing(config.clone(), 3, ratio));
        let (mut seen_one, mut seen_many) = (Vec::new(), Vec::new());
        let places = one_by_one(&mut one, &rows, &mut seen_one);
        assert_eq!(at_once(&mut many, &rows, &mut seen_many), places, "seed {seed}");
        for (place, key) in places.iter().zip(&keys) {
            assert_eq!(place.map(|place| place.0 as u32), key.map(|key| partition_for_key(key, 3)));
        }
        let sorted = |mut seen: Vec<Seen>| {
            seen.sort_by_key(|batch| (batch.partition, batch.sequence));
            seen.into_iter().map(|batch| (batch.partition, batch.bytes)).collect::<Vec<_>>()
        };
        assert_eq!(sorted(seen_one), sorted(seen_many), "seed {seed}");
    }
}

#[test]
fn growth_is_charged_and_a_full_batch_goes_to_the_codecs_at_once() {
    let mut config = config();
    config.compression = COMPRESSIONS[3];
    config.buffer_memory = 10_000;
    let rig = compressing(config, 1, 0.2);
    let value = [1; 600];
    let values = vec![Some(&value[..]); 8];
    let placed = append(&rig, &rows(&values, &[], Partitions::All(0)));
    assert_eq!(placed.runs.iter().map(|run| run.count).collect::<Vec<_>>(), [7, 1], "4,532 bytes, in records of 610");
    assert_eq!(rig.shared.encoding.codecs().unwrap().waiting(), 1);
    assert_eq!(
        rig.shared.pool.total() - rig.shared.pool.available(),
        1_000 + 3_862 + 1_000,
        "its first chunk, one for all that it may still hold, uncompressed; and the next batch"
    );
}

#[test]
fn the_last_batch_goes_to_the_codecs_if_it_is_full() {
    for partitions in [Partitions::All(0), Partitions::Choose, Partitions::Each(&[0; 3])] {
        let mut config = config();
        config.compression = COMPRESSIONS[3];
        let rig = compressing(config, 1, 1.0);
        let value = [1; 930];
        let placed = append(&rig, &rows(&[Some(&value[..]); 3], &[], partitions));
        let jobs = rig.shared.encoding.codecs().unwrap().waiting();
        assert_eq!((placed.batches.len(), jobs), (3, 3), "each is expected to outgrow batch.size");
    }
}

#[test]
fn a_sticky_partition_that_is_left_hands_its_batch_to_the_codecs() {
    let mut config = config();
    config.compression = COMPRESSIONS[3];
    config.buffer_memory = 1 << 24;
    let mut rig = compressing(config, 3, 0.1);
    let value = [1; 100];
    let values = vec![Some(&value[..]); 2_000];
    let placed = append(&rig, &rows(&values, &[], Partitions::Choose));
    let full = placed.batches.len() - 1;
    assert!(full > 5 && placed.runs.iter().rev().skip(1).all(|run| run.count > 70), "batches that have grown");
    assert_eq!(rig.shared.encoding.codecs().unwrap().waiting(), full, "all but the last, without the I/O thread");
    let mut seen = Vec::new();
    drain(&mut rig, &mut seen);
    assert_eq!(seen.iter().map(|batch| batch.records).sum::<i32>(), 2_000);
}

#[test]
fn a_compressed_batch_that_is_too_large_is_split_and_its_records_are_found_in_its_children() {
    for compression in COMPRESSIONS {
        let mut config = config();
        config.compression = compression;
        config.batch_size = 4_000;
        let mut rig = compressing(config, 1, 1.0);
        let made: Vec<_> = (0..5).map(|fill| vec![fill; 600]).collect();
        let values: Vec<_> = made.iter().map(|value| Some(&value[..])).collect();
        let placed = append(&rig, &rows(&values, &[], Partitions::All(0)));
        assert_eq!(placed.runs.len(), 1);
        rig.pass(6 * MS);
        encode_all(&mut rig);
        let seen = rig.seen(1);
        rig.answer(1, &seen, 10, -1);
        let report = rig.handed_over().remove(0);
        rig.resume(&report, |_| Decision::Split, None);
        drain(&mut rig, &mut Vec::new());
        for at in 0..5 {
            let (leaf, index) = placed.batches[0].leaf(at);
            assert!(!Arc::ptr_eq(&leaf, &placed.batches[0]));
            assert_eq!(offset(&leaf).map(|base| base + i64::from(index)), Some(i64::from(at)), "{compression:?}");
        }
    }
}
