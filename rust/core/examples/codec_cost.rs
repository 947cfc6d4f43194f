//! The cost of compressing one batch, by codec and level: `cargo run --release --example codec_cost`.
//!
//! JSON text of the kind that services log, in batches of 16 and 64 KB, one encoder for all of them as a worker has it.
//! Best of several rounds, since noise only adds time.

use std::fmt::Write;
use std::time::Instant;

use penstock_core::compression::{Codec, Compression, Encoder, decompress};

const BYTES: usize = 4 << 20;
const ROUNDS: usize = 5;
const CODECS: [(Codec, i32); 12] = [
    (Codec::Gzip, 1),
    (Codec::Gzip, -1),
    (Codec::Gzip, 9),
    (Codec::Snappy, 0),
    (Codec::Lz4, 9),
    (Codec::Lz4, 1),
    (Codec::Lz4, 12),
    (Codec::Zstd, -5),
    (Codec::Zstd, 1),
    (Codec::Zstd, 3),
    (Codec::Zstd, 9),
    (Codec::Zstd, 19),
];

fn main() {
    let text = json(BYTES);
    println!("{:24} {:>8} {:>8} {:>8} {:>8}", "codec, level, batch", "MB/s", "ratio", "µs", "back MB/s");
    for size in [16 << 10, 64 << 10] {
        for (codec, level) in CODECS {
            measure(&text, codec, level, size);
        }
    }
}

fn measure(text: &[u8], codec: Codec, level: i32, size: usize) {
    let mut encoder = Encoder::new(Compression { codec, level }).expect("a level that exists");
    let batches: Vec<&[u8]> = text.chunks_exact(size).collect();
    let (mut encode_s, mut decode_s) = (f64::MAX, f64::MAX);
    let mut results: Vec<Vec<u8>> = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        results = batches.iter().map(|batch| encoder.encode(batch).expect("memory").to_vec()).collect();
        encode_s = encode_s.min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        for bytes in &results {
            assert_eq!(decompress(codec, bytes, size).expect("our own bytes").len(), size);
        }
        decode_s = decode_s.min(start.elapsed().as_secs_f64());
    }
    let bytes = (batches.len() * size) as f64;
    let ratio = results.iter().map(Vec::len).sum::<usize>() as f64 / bytes;
    let what = format!("{} {level}, {} KB", codec.as_str(), size >> 10);
    let (speed, cost) = (bytes / 1e6 / encode_s, encode_s * 1e6 / batches.len() as f64);
    println!("{what:24} {speed:8.0} {ratio:8.3} {cost:8.0} {:8.0}", bytes / 1e6 / decode_s);
}

/// Orders with names, notes, prices and random ids.
fn json(bytes: usize) -> Vec<u8> {
    let words = ["order", "shipped", "warehouse", "invoice", "express", "review", "address", "session", "discount"];
    let mut random = fastrand::Rng::with_seed(1);
    let mut text = String::with_capacity(bytes + 1_000);
    while text.len() < bytes {
        let _ = write!(text, "{{\"id\": \"{:032x}\", \"ts\": {}, \"items\": [", random.u128(..), random.u32(..));
        for _ in 0..8 {
            let note: Vec<&str> = (0..5).map(|_| words[random.usize(..words.len())]).collect();
            let (sku, price) = (random.u32(..200_000), f64::from(random.u32(100..20_000)) / 100.0);
            let _ =
                write!(text, "{{\"sku\": \"SKU-{sku:06}\", \"price\": {price}, \"note\": \"{}\"}}, ", note.join(" "));
        }
        text.push_str("]}\n");
    }
    text.into_bytes()
}
