//! `append_many`: as many appends as there are records, whatever the lanes, the buffer and the partitions look like.

#[path = "common/rig.rs"]
mod rig;

use penstock_core::bulk::{CHOOSE, Chunk, NOT_BUFFERED, Partitions, Placed, Progress, Rows, Timestamps};
use penstock_core::completion::Completion;
use rig::{Rig, config};
use std::sync::Arc;

fn rows<'a>(values: &'a [Option<&'a [u8]>], keys: &'a [Option<&'a [u8]>], partitions: Partitions<'a>) -> Rows<'a> {
    Rows { values, keys, headers: &[], timestamps: Timestamps::All(1), partitions }
}

/// Append all; what memory was asked for is granted out of thin air.
fn append(rig: &Rig, rows: &Rows<'_>) -> Placed {
    let topic = rig.shared.topic("t").topic.expect("the rig has one");
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
        assert_eq!(partition as u32, penstock_core::murmur2::partition_for_key(key, 3));
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
fn what_is_too_large_is_passed_over() {
    let rig = Rig::ready(config(), 1);
    let large = vec![0; rig.shared.config.max_request_size];
    let values = [Some(&b"a"[..]), Some(&large), None, Some(&large), Some(b"b")];
    for partitions in [Partitions::Choose, Partitions::Each(&[0; 5])] {
        let topic = rig.shared.topic("t").topic.expect("the rig has one");
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
fn a_full_buffer_stops_it_where_it_is_and_a_grant_goes_on() {
    let mut config = config();
    config.buffer_memory = 3 * config.batch_size;
    let rig = Rig::ready(config, 2);
    let value = [7; 100];
    let values = vec![Some(&value[..]); 100];
    let topic = rig.shared.topic("t").topic.expect("the rig has one");
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
