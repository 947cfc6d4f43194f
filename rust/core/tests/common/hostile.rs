//! Checks that no bytes of a broker cause a panic, take memory out of proportion, or end more than their own connection.
//! Shared by the fuzz targets (`rust/fuzz`) and by the tests that replay their corpus and mutate it.

#![allow(dead_code, reason = "each fuzz target uses a part of it")]

use std::io::{self, IoSlice};
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use peak_alloc::PeakAlloc;
use penstock_core::boundary::{Command, Decision, Event, LaneReport};
use penstock_core::compression::{Codec, Compression, Encoder, decompress};
use penstock_core::io::connection::Connection;
use penstock_core::io::frames::{MAX_FRAME, ReadEnd};
use penstock_core::io::transport::Transport;
use penstock_core::wire::produce::{
    MAX_VERSION, MIN_VERSION, PartitionResponse, ProduceResponse, TopicRef, parse_response,
};

use crate::rig::{ME, MS, Rig, config, offset};
use crate::wire::encode;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

static ALONE: Mutex<()> = Mutex::new(());

/// One test at a time: the peak of memory is the whole process's.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The memory that a response may take per byte of it. A record error is six bytes on the wire and 32 here, and a vector
/// that grows holds up to three times what is in it.
const PER_BYTE: usize = 24;
const ALWAYS: usize = 4096;

/// Run `work`, which may not take more than `limit` bytes at any moment.
fn within<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = work();
    let peak = MEMORY.peak_usage().saturating_sub(before);
    assert!(peak <= limit, "{peak} bytes were taken, {limit} are in proportion");
    result
}

pub fn version_of(byte: u8) -> i16 {
    MIN_VERSION + i16::from(byte) % (MAX_VERSION - MIN_VERSION + 1)
}

/// A version (one byte) and a Produce response in it: refused, or understood in such a way that saying it again means the same.
pub fn response(data: &[u8]) {
    let Some((version, frame)) = data.split_first() else { return };
    let version = version_of(*version);
    let parsed = within(ALWAYS + PER_BYTE * frame.len(), || parse_response(version, frame));
    match parsed {
        Ok((correlation_id, response)) => {
            let again = encode(version, false, correlation_id, &response);
            assert_eq!(parse_response(version, &again), Ok((correlation_id, response)));
        }
        Err(error) => assert!(error.at <= frame.len(), "{error}, of {} bytes", frame.len()),
    }
}

/// The limit of decompressed bytes here.
const GROWN: usize = 1 << 16;

/// A codec (one byte) and compressed bytes: refused, or understood within the limit, and what they hold survives compression.
pub fn compression(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    let codec = CODECS[usize::from(*which) % CODECS.len()];
    // Decoders have buffers of a constant size; a C library's are not seen here.
    let held = within((1 << 20) + 4 * GROWN + PER_BYTE * bytes.len(), || decompress(codec, bytes, GROWN));
    if let Ok(held) = held {
        assert!(held.len() <= GROWN);
        let level = if codec == Codec::Lz4 { 9 } else { 1 };
        let again = Encoder::new(Compression { codec, level }).unwrap().encode(&held).unwrap().to_vec();
        assert_eq!(decompress(codec, &again, GROWN), Ok(held));
    }
}

/// By their first byte in the data of [`compression`].
pub const CODECS: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// Gives out a stream in pieces of one size.
struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl Transport for Pieces<'_> {
    fn connect(&mut self, _: u64, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }
    fn connected(&mut self, _: u64) -> io::Result<bool> {
        Ok(true)
    }
    fn write(&mut self, _: u64, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn read(&mut self, _: u64, into: &mut [u8]) -> io::Result<usize> {
        let (piece, rest) = self.rest.split_at(self.size.min(into.len()).min(self.rest.len()));
        into[..piece.len()].copy_from_slice(piece);
        self.rest = rest;
        Ok(piece.len())
    }
    fn close(&mut self, _: u64) {}
}

/// A piece size (one byte) and a stream: the same frames come out, and the same nonsense is refused, however it is cut.
pub fn framing(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let mut transport = Pieces { rest: stream, size: usize::from(*size) + 1 };
    let (expected, nonsense) = frames_of(stream);
    let mut connection = Connection::new(1, 1, "127.0.0.1:9092".parse().unwrap(), 0, 0);
    let mut scratch = [0; 64];
    within(ALWAYS + 8 * stream.len(), || {
        let mut frames = 0;
        loop {
            let end = connection.read(&mut transport, &mut scratch).unwrap();
            loop {
                match connection.next_frame() {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        assert_eq!(expected.get(frames), Some(&&frame[..]));
                        frames += 1;
                    }
                    Err(_) => {
                        assert!(nonsense);
                        assert_eq!(frames, expected.len());
                        return;
                    }
                }
            }
            if end == ReadEnd::Closed {
                assert_eq!((frames, false), (expected.len(), nonsense));
                return;
            }
        }
    });
}

/// The whole frames of a stream up to the first impossible length, and whether there is one.
fn frames_of(mut stream: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut frames = Vec::new();
    while let Some((head, rest)) = stream.split_first_chunk::<4>() {
        let len = i32::from_be_bytes(*head);
        let Some(len) = usize::try_from(len).ok().filter(|len| (4..=MAX_FRAME).contains(len)) else {
            return (frames, true);
        };
        if rest.len() < len {
            break;
        }
        frames.push(&rest[..len]);
        stream = &rest[len..];
    }
    (frames, false)
}

/// The bit of the second byte of [`engine`]'s data that means: length and correlation id are right, the rest of the data follows them.
pub const ANSWER: u8 = 1;

/// A version, flags, and what broker 1 answers after a Produce request: its connection may end, and nothing else. The records
/// sent to it are delivered over its next connection, those for broker 2 over the one that there is, and no memory is lost.
pub fn engine(data: &[u8]) {
    let [version, flags, answer @ ..] = data else { return };
    let version = version_of(*version);
    let mut rig = Rig::new(config());
    rig.command(Command::SetIdentity(ME));
    rig.leaders(1, &[(1, 0), (2, 0)]);
    open(&mut rig, 1, 1, version);
    open(&mut rig, 2, 2, version);
    let (hit, _) = rig.send(0, b"hit");
    let (spared, _) = rig.send(1, b"spared");
    rig.pass(6 * MS);
    let (asked, spared_asked) = (requests(&mut rig, 1), requests(&mut rig, 2));
    assert_eq!((asked.len(), spared_asked.len()), (1, 1));

    if flags & ANSWER == 0 {
        arrive(&mut rig, answer, usize::from(flags >> 1) + 1);
    } else {
        let frame = [&asked[0].to_be_bytes(), answer].concat();
        arrive(&mut rig, &[&(frame.len() as u32).to_be_bytes(), &frame[..]].concat(), usize::MAX);
    }
    let mut events = rig.events();
    rig.deliver(2, &success(version, spared_asked[0], 1));
    assert_eq!(offset(&spared), Some(5), "broker 2 has answered");

    // By now it has been understood, or will never be.
    rig.pass(30_100 * MS);
    open(&mut rig, 3, 1, version);
    for _ in 0..3 {
        events.extend(rig.events());
        for report in reports(&mut events) {
            assert_eq!(report.partition, 0, "the other lane has nothing to be decided");
            rig.resume(&report, |_| Decision::Retry, None);
        }
        rig.pass(MS);
        for correlation in requests(&mut rig, 3) {
            rig.deliver(3, &success(version, correlation, 0));
        }
    }
    assert!(offset(&hit).is_some(), "delivered in the end: {:?}", hit.outcome());
    assert!(rig.shared.failures.fatal().is_none());
    assert_eq!(rig.shared.pool.available(), rig.shared.pool.total());
    assert_eq!(rig.shared.stats.lock().in_flight, 0);
}

pub fn open(rig: &mut Rig, connection_id: u64, broker_id: i32, produce_version: i16) {
    rig.command(Command::Connect {
        connection_id,
        broker_id,
        ip: Ipv4Addr::LOCALHOST.into(),
        port: 9092,
        setup_timeout_ms: 1_000,
    });
    rig.engine.on_socket(connection_id, false, true);
    rig.command(Command::Ready { connection_id, produce_version });
}

/// The correlation ids of the requests that arrived at the broker's end.
pub fn requests(rig: &mut Rig, connection: u64) -> Vec<i32> {
    let Some(socket) = rig.engine.transport().sockets.get_mut(&connection) else { return Vec::new() };
    let sent = std::mem::take(&mut socket.outgoing);
    let (frames, nonsense) = frames_of(&sent);
    assert!(!nonsense);
    frames.iter().map(|frame| i32::from_be_bytes(frame[4..8].try_into().unwrap())).collect()
}

fn arrive(rig: &mut Rig, stream: &[u8], piece: usize) {
    for piece in stream.chunks(piece) {
        let Some(socket) = rig.engine.transport().sockets.get_mut(&1) else { return };
        socket.incoming.extend(piece);
        rig.engine.on_socket(1, true, false);
        rig.engine.run_once();
    }
}

/// The lanes that were handed over; of all events only those that bytes on connection 1 may bring are there.
fn reports(events: &mut Vec<Event>) -> Vec<LaneReport> {
    let mut reports = Vec::new();
    for event in events.drain(..) {
        match event {
            Event::LanesHandedOver { lanes, .. } => reports.extend(lanes),
            Event::ConnectionClosed { connection_id, .. } => assert_eq!(connection_id, 1),
            Event::ConnectionOpened { .. } | Event::ConnectionWanted { broker_id: 1 } => {}
            other => panic!("{other:?}"),
        }
    }
    reports
}

/// One partition of topic "t", acknowledged at offset 5.
pub fn success(version: i16, correlation: i32, partition: i32) -> Vec<u8> {
    encode(version, false, correlation, &answer(version, partition, 0))
}

/// One partition of topic "t", answered with a code.
pub fn answer(version: i16, partition: i32, error_code: i16) -> ProduceResponse {
    ProduceResponse {
        throttle_time_ms: 0,
        partitions: vec![PartitionResponse {
            topic: if version >= 13 { TopicRef::Id([7; 16]) } else { TopicRef::Name("t".into()) },
            index: partition,
            error_code,
            base_offset: 5,
            log_append_time_ms: -1,
            log_start_offset: 0,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }],
        node_endpoints: Vec::new(),
    }
}
