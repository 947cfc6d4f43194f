//! The cost of one append, the hottest path of the producer: `cargo run --release --example append_cost`.
//!
//! Best of several rounds, since noise only adds time. Sealing is reported beside it per record, because every record
//! pays its share of that too; so is the price of a header, which every attempt pays once.

use std::hint::black_box;
use std::time::Instant;

use penstock_core::wire::crc::{crc32c, crc32c_combine};
use penstock_core::wire::record_batch::{BatchBuilder, Header, SealedBatch};

const ROUNDS: usize = 40;
const BATCHES: usize = 500;
const LIMIT: usize = 16_384;

fn main() {
    let value = [b'v'; 100];
    let header = [Header { key: b"source", value: Some(b"docs") }];
    measure("100-byte value", None, &value, &[]);
    measure("100-byte value, 16-byte key", Some(&[b'k'; 16]), &value, &[]);
    measure("100-byte value, one header", None, &value, &header);
    measure("10-byte value", None, &value[..10], &[]);
    measure("1,000-byte value", None, &[b'v'; 1_000], &[]);
    measure_checksums();
}

fn measure(what: &str, key: Option<&[u8]>, value: &[u8], headers: &[Header<'_>]) {
    let mut append_ns = f64::MAX;
    let mut seal_ns = f64::MAX;
    let mut buffers: Vec<Vec<u8>> = (0..BATCHES).map(|_| Vec::with_capacity(LIMIT)).collect();
    for _ in 0..ROUNDS {
        let mut records = 0;
        let start = Instant::now();
        let builders: Vec<_> = buffers.drain(..).map(|buffer| fill(buffer, key, value, headers)).collect();
        let append = start.elapsed().as_nanos() as f64;
        for builder in &builders {
            records += builder.count();
        }
        let start = Instant::now();
        let sealed: Vec<_> = builders.into_iter().map(BatchBuilder::seal).collect();
        let seal = start.elapsed().as_nanos() as f64;
        append_ns = append_ns.min(append / f64::from(records));
        seal_ns = seal_ns.min(seal / f64::from(records));
        buffers.extend(sealed.into_iter().map(buffer_of));
    }
    println!("{what:30} {append_ns:6.1} ns/append {seal_ns:6.1} ns/record for sealing");
}

fn fill(buffer: Vec<u8>, key: Option<&[u8]>, value: &[u8], headers: &[Header<'_>]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(buffer, LIMIT);
    let mut timestamp = 1_700_000_000_000;
    while builder.try_append(black_box(timestamp), black_box(key), black_box(Some(value)), black_box(headers)).is_some()
    {
        timestamp += 1;
    }
    builder
}

fn buffer_of(batch: SealedBatch) -> Vec<u8> {
    std::sync::Arc::try_unwrap(batch.into_body())
        .expect("held once")
        .into_chunks()
        .into_buffers()
        .next()
        .expect("one chunk")
}

fn measure_checksums() {
    let body = vec![7; LIMIT];
    let batch = fill(Vec::new(), None, &[0; 100], &[]).seal();
    time("header for one attempt", || u32::from(batch.header(black_box(1), 0, 0, 0)[17]));
    time("combine, ours", || crc32c_combine(black_box(1), 2, LIMIT - 5));
    time("combine, the crate's", || ::crc32c::crc32c_combine(black_box(1), 2, LIMIT - 5));
    time("checksum of 16 KiB", || crc32c(black_box(&body)));
}

fn time(what: &str, mut f: impl FnMut() -> u32) {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..1_000 {
            black_box(f());
        }
        best = best.min(start.elapsed().as_nanos() as f64 / 1_000.0);
    }
    println!("{what:30} {best:6.1} ns");
}
