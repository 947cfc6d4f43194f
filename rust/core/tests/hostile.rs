//! Bytes that no honest broker sends: the corpus of the fuzz targets replayed, and its seeds mutated, the same way
//! every time.
//!
//! The promises for any bytes are in `common/hostile.rs`. `make fuzz` searches for worse ones.

#[path = "common/hostile.rs"]
mod hostile;
#[path = "common/rig.rs"]
mod rig;
#[path = "common/wire.rs"]
mod wire;

use std::fs;
use std::path::PathBuf;

use fastrand::Rng;
use hostile::ANSWER;
use penstock_core::boundary::Command;
use penstock_core::compression::{Codec, Compression, Encoder};
use penstock_core::wire::produce::{MAX_VERSION, MIN_VERSION, NodeEndpoint, ProduceResponse, TopicRef};
use rig::{ME, MS, Rig, config, offset};
use wire::{as_of, encode};

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 4] = [
    ("response", hostile::response),
    ("framing", hostile::framing),
    ("engine", hostile::engine),
    ("compression", hostile::compression),
];

fn corpus(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "fuzz", "corpus", target].iter().collect()
}

/// Everything that an answer can hold.
fn rich(version: i16) -> ProduceResponse {
    let mut response = hostile::answer(version, 0, 87);
    let mut refused = response.partitions[0].clone();
    refused.index = 1;
    refused.record_errors = vec![(0, Some("too old".into())), (7, None)];
    refused.error_message = Some("a record was refused ✗".into());
    let mut moved = response.partitions[0].clone();
    (moved.index, moved.error_code, moved.current_leader) = (2, 6, Some((2, 9)));
    response.partitions.extend([refused, moved]);
    response.throttle_time_ms = 100;
    response.node_endpoints =
        vec![NodeEndpoint { broker_id: 2, host: "broker-2".into(), port: 9092, rack: Some("a".into()) }];
    as_of(version, response)
}

/// Answers to the request that `hostile::engine` sends, for and against the rules.
fn answers(version: i16) -> Vec<(&'static str, ProduceResponse)> {
    let good = hostile::answer(version, 0, 0);
    let with = |change: &dyn Fn(&mut ProduceResponse)| {
        let mut response = good.clone();
        change(&mut response);
        response
    };
    vec![
        ("moved", hostile::answer(version, 0, 6)),
        ("unknown-code", hostile::answer(version, 0, i16::MIN)),
        ("far-offset", with(&|r| r.partitions[0].base_offset = i64::MAX)),
        ("negative-offset", with(&|r| r.partitions[0].base_offset = i64::MIN)),
        ("throttled", with(&|r| r.throttle_time_ms = i32::MAX)),
        ("left-out", with(&|r| r.partitions.clear())),
        ("twice", with(&|r| r.partitions.push(r.partitions[0].clone()))),
        ("invented", with(&|r| r.partitions[0].index = i32::MAX)),
        ("others", with(&|r| r.partitions[0].index = 1)),
        ("other-topic", with(&|r| r.partitions[0].topic = other_topic(version))),
        ("good", good),
    ]
}

fn other_topic(version: i16) -> TopicRef {
    if version >= 13 { TopicRef::Id([8; 16]) } else { TopicRef::Name("u".into()) }
}

/// Bytes that an honest broker might send, and errors that a mutation finds only by luck.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for version in MIN_VERSION..=MAX_VERSION {
        let byte = (version - MIN_VERSION) as u8;
        let mut add = |name: &str, head: &[u8], body: &[u8]| {
            seeds.push((format!("v{version:02}-{name}"), [head, body].concat()));
        };
        match target {
            "response" => {
                add("rich", &[byte], &encode(version, true, 7, &rich(version)));
                add("success", &[byte], &hostile::success(version, 7, 0));
            }
            "engine" => {
                for (name, response) in answers(version) {
                    add(name, &[byte, ANSWER], &encode(version, false, 0, &response)[4..]);
                }
                let frame = hostile::success(version, 1, 0);
                let stream = [&(frame.len() as u32).to_be_bytes(), &frame[..]].concat();
                add("in-pieces", &[byte, 0b110], &stream);
                add("unexpected", &[byte, 0], &[&stream[..], &stream].concat());
            }
            _ => {}
        }
    }
    if target == "compression" {
        for (which, codec) in hostile::CODECS.into_iter().enumerate() {
            let level = if codec == Codec::Lz4 { 9 } else { 1 };
            let mut encoder = Encoder::new(Compression { codec, level }).unwrap();
            let text = b"a record like the one before it, ".repeat(30);
            let noise: Vec<u8> = (0..600u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            for (name, input) in [("nothing", &b""[..]), ("text", &text), ("noise", &noise)] {
                let bytes = encoder.encode(input).unwrap();
                seeds.push((format!("{}-{name}", codec.as_str()), [&[which as u8][..], bytes].concat()));
                let twice = [&[which as u8][..], bytes, bytes].concat();
                seeds.push((format!("{}-{name}-twice", codec.as_str()), twice));
            }
        }
    }
    if target == "framing" {
        let frame = |len: u8| [&[0, 0, 0, len][..], &vec![7; usize::from(len)]].concat();
        let heads: [(&str, Vec<u8>); 6] = [
            ("frames", [frame(4), frame(200), frame(5)].concat()),
            ("negative", [frame(4), vec![0xff; 8]].concat()),
            ("too-short", vec![0, 0, 0, 3, 1, 2, 3]),
            ("too-long", vec![0x06, 0x40, 0, 1]),
            ("tls", vec![0x15, 3, 3, 0, 2, 2, 70]),
            ("http", b"HTTP/1.1 400 Bad Request\r\n".to_vec()),
        ];
        for (name, stream) in heads {
            for size in [0, 2, 255] {
                seeds.push((format!("{name}-{size}"), [&[size][..], &stream].concat()));
            }
        }
    }
    seeds
}

#[test]
fn the_corpus_does_no_harm() {
    let _alone = hostile::alone();
    for (target, check) in TARGETS {
        let mut files: Vec<_> = fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= seeds(target).len(), "{target}: the corpus is not there");
        for file in files {
            let data = fs::read(&file).unwrap();
            let harm = std::panic::catch_unwind(|| check(&data));
            assert!(harm.is_ok(), "{} does harm", file.display());
        }
    }
}

#[test]
fn mutated_responses_do_no_harm() {
    mutate("response", hostile::response, 3_000);
}

#[test]
fn mutated_compressed_records_do_no_harm() {
    mutate("compression", hostile::compression, 1_000);
}

#[test]
fn mutated_streams_do_no_harm() {
    mutate("framing", hostile::framing, 1_000);
}

#[test]
fn mutated_answers_end_their_own_connection_and_nothing_else() {
    mutate("engine", hostile::engine, 60);
}

#[test]
fn an_implausible_throttle_does_not_stop_a_connection() {
    let _alone = hostile::alone();
    let mut rig = Rig::new(config());
    rig.command(Command::SetIdentity(ME));
    rig.leaders(1, &[(1, 0)]);
    hostile::open(&mut rig, 1, 1, MAX_VERSION);
    rig.send(0, b"first");
    rig.pass(6 * MS);
    let asked = hostile::requests(&mut rig, 1);
    let throttled = ProduceResponse { throttle_time_ms: i32::MAX, ..hostile::answer(MAX_VERSION, 0, 0) };
    rig.deliver(1, &encode(MAX_VERSION, false, asked[0], &throttled));
    rig.pass(119_000 * MS);
    let (second, _) = rig.send(0, b"second");
    rig.pass(6 * MS);
    assert!(hostile::requests(&mut rig, 1).is_empty(), "it is believed for delivery.timeout.ms");
    rig.pass(1_000 * MS);
    let asked = hostile::requests(&mut rig, 1);
    rig.deliver(1, &hostile::success(MAX_VERSION, asked[0], 0));
    assert_eq!(offset(&second), Some(5));
}

fn mutate(target: &str, check: Target, times: usize) {
    let _alone = hostile::alone();
    let seeds = seeds(target);
    let mut random = Rng::with_seed(4);
    for (name, seed) in &seeds {
        for round in 0..times {
            let mut data = seed.clone();
            for _ in 0..random.usize(1..4) {
                mutate_once(&mut data, &seeds[random.usize(..seeds.len())].1, &mut random);
            }
            let harm = std::panic::catch_unwind(|| check(&data));
            assert!(harm.is_ok(), "{target}: {name}, mutation {round} does harm: {data:02x?}");
        }
    }
}

/// Change, cut, double or cross; numbers at their edges more often than by chance.
fn mutate_once(data: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
    const EDGES: [&[u8]; 9] = [
        &[0],
        &[0xff],
        &[0x7f],
        &[0x80, 0],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 1],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
    ];
    let at = random.usize(..=data.len());
    let upto = (at + random.usize(..9)).min(data.len());
    match random.u8(..5) {
        0 => drop(data.splice(at..upto, EDGES[random.usize(..EDGES.len())].iter().copied())),
        1 => data.truncate(at),
        2 => drop(data.splice(at..upto, [])),
        3 => drop(data.splice(at..at, data[at..upto].to_vec())),
        _ => {
            let from = random.usize(..=other.len());
            data.truncate(at);
            data.extend_from_slice(&other[from..]);
        }
    }
}

#[test]
#[ignore = "rewrites the corpus's seeds: run it when they change"]
fn write_seeds() {
    for (target, _) in TARGETS {
        fs::create_dir_all(corpus(target)).unwrap();
        for (name, data) in seeds(target) {
            fs::write(corpus(target).join(name), data).unwrap();
        }
    }
}
