//! Batches against a decoder written from the format alone: it reads the records that went in, whole, renumbered and split.

mod common;

use common::check;
use penstock_core::wire::crc::crc32c;
use penstock_core::wire::record_batch::{
    BATCH_HEADER_LEN, BatchBuilder, Header, SealedBatch, record_len, record_len_upper_bound,
};
use proptest::prelude::*;

type Bytes = Option<Vec<u8>>;

#[derive(Clone, Debug, PartialEq)]
struct Record {
    timestamp: i64,
    key: Bytes,
    value: Bytes,
    headers: Vec<(Vec<u8>, Bytes)>,
}

impl Record {
    fn headers(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect()
    }
}

fn append_all(builder: &mut BatchBuilder, records: &[Record]) {
    for (i, record) in records.iter().enumerate() {
        let index = builder.append(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers());
        assert_eq!(index as usize, i);
    }
}

/// Reads a batch as a broker would, checking every field that is redundant.
fn decode(header: &[u8; BATCH_HEADER_LEN], body: &[u8]) -> Vec<Record> {
    let mut r = Reader(header);
    assert_eq!(r.i64(), 0, "base offset");
    assert_eq!(r.i32() as usize, 61 - 12 + body.len(), "batch length");
    assert_eq!(r.i32(), -1, "partition leader epoch");
    assert_eq!(r.take(1), [2], "magic");
    assert_eq!(r.i32() as u32, crc32c(&[&header[21..], body].concat()), "checksum");
    r.take(2);
    let last_offset_delta = r.i32();
    let base_timestamp = r.i64();
    let max_timestamp = r.i64();
    r.take(14);
    let count = r.i32();
    assert_eq!(last_offset_delta, count - 1);

    let mut r = Reader(body);
    let records: Vec<_> = (0..count).map(|i| record(&mut r, base_timestamp, i)).collect();
    assert!(r.0.is_empty(), "bytes after the last record");
    assert_eq!(records.iter().map(|r| r.timestamp).max(), Some(max_timestamp));
    records
}

fn record(r: &mut Reader<'_>, base_timestamp: i64, index: i32) -> Record {
    let len = r.varlong() as usize;
    let mut r = Reader(r.take(len));
    assert_eq!(r.take(1), [0], "record attributes");
    let timestamp = base_timestamp + r.varlong();
    assert_eq!(r.varlong(), i64::from(index), "offset delta");
    let key = r.bytes();
    let value = r.bytes();
    let headers = (0..r.varlong()).map(|_| (r.bytes().expect("header keys are never null"), r.bytes())).collect();
    assert!(r.0.is_empty(), "bytes after the record");
    Record { timestamp, key, value, headers }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    fn varlong(&mut self) -> i64 {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return (value >> 1) as i64 ^ -((value & 1) as i64);
            }
        }
        panic!("a varint without end");
    }

    fn bytes(&mut self) -> Bytes {
        usize::try_from(self.varlong()).ok().map(|n| self.take(n).to_vec())
    }
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let headers = prop::collection::vec((bytes(8), prop::option::of(bytes(8))), 0..4);
    let record = (0..1i64 << 45, prop::option::of(bytes(80)), prop::option::of(bytes(200)), headers)
        .prop_map(|(timestamp, key, value, headers)| Record { timestamp, key, value, headers });
    prop::collection::vec(record, 1..150)
}

fn sealed(records: &[Record]) -> SealedBatch {
    let mut builder = BatchBuilder::new(Vec::new(), usize::MAX);
    append_all(&mut builder, records);
    builder.seal()
}

#[test]
fn a_batch_decodes_to_its_input_under_any_identity() {
    let input = (records(), any::<(i64, i16, i32)>());
    check(&input, |(records, (producer_id, epoch, sequence))| {
        let batch = sealed(&records);
        let header = batch.header(producer_id, epoch, sequence, 0x10);
        prop_assert_eq!(&header[21..23], 0x10i16.to_be_bytes());
        prop_assert_eq!(&header[43..51], producer_id.to_be_bytes());
        prop_assert_eq!(&header[51..53], epoch.to_be_bytes());
        prop_assert_eq!(&header[53..57], sequence.to_be_bytes());
        prop_assert_eq!(batch.size(), BATCH_HEADER_LEN + batch.body().bytes().len());
        prop_assert_eq!(decode(&header, &batch.body().bytes()), records);
        Ok(())
    });
}

#[test]
fn lengths_are_exact_and_bounded() {
    check(&records(), |records| {
        let mut builder = BatchBuilder::new(Vec::new(), usize::MAX);
        for (i, record) in records.iter().enumerate() {
            let (key, value, headers) = (record.key.as_deref(), record.value.as_deref(), record.headers());
            let delta = record.timestamp - records[0].timestamp;
            let len = record_len(i as i32, delta, key, value, &headers);
            let before = builder.size();
            builder.append(record.timestamp, key, value, &headers);
            prop_assert_eq!(builder.size() - before, len);
            prop_assert!(len <= record_len_upper_bound(key, value, &headers));
        }
        Ok(())
    });
}

#[test]
fn children_of_a_split_hold_the_same_records_in_order_within_the_limit() {
    check(&(records(), 80..4_000usize), |(records, limit)| {
        let mut decoded = Vec::new();
        for (first, child) in sealed(&records).split(limit).unwrap() {
            prop_assert_eq!(first as usize, decoded.len());
            let child = child.seal();
            prop_assert!(child.size() <= limit || child.count() == 1);
            decoded.extend(decode(&child.header(1, 0, first as i32, 0), &child.body().bytes()));
        }
        prop_assert_eq!(decoded, records);
        Ok(())
    });
}

#[test]
fn try_append_fills_a_batch_to_the_byte_and_then_refuses() {
    check(&(records(), 80..4_000usize), |(records, limit)| {
        let mut builder = BatchBuilder::new(Vec::new(), limit);
        for record in &records {
            let (key, value, headers) = (record.key.as_deref(), record.value.as_deref(), record.headers());
            let delta = if builder.count() == 0 { 0 } else { record.timestamp - builder.base_timestamp() };
            let len = record_len(builder.count() as i32, delta, key, value, &headers);
            let fits = builder.count() == 0 || builder.size() + len <= limit;
            let index = builder.count();
            let appended = builder.try_append(record.timestamp, key, value, &headers);
            prop_assert_eq!(appended, fits.then_some(index));
        }
        Ok(())
    });
}
