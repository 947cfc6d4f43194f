//! A broker that acknowledges everything and keeps nothing: the ceiling of a client on this machine.
//!
//! `null-sink [--partitions N]` prints `{"port": …}` and serves 127.0.0.1 until its stdin ends. Every topic exists and has
//! N partitions. A line on stdin is answered with the totals so far: requests, batches, records, bytes.
//!
//! Serves ApiVersions 0–4, Metadata 12, InitProducerId 0–4, Produce 3–13 (and acks=0, which has no answer). Simplifications:
//! checksums and sequences are not checked; a batch's frame and count are.

use std::collections::HashMap;
use std::io::{self, BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

use penstock_bench_limits::wire::{Malformed, Reader, Writer};
use penstock_bench_limits::{
    API_VERSIONS, FETCH, INIT_PRODUCER_ID, METADATA, PRODUCE, PRODUCE_BY_ID, PRODUCE_FLEXIBLE, batch,
};

/// Kafka's own socket.request.max.bytes.
const MAX_FRAME: usize = 100 << 20;
const READ: usize = 1 << 20;
const UNSUPPORTED_VERSION: i16 = 35;
/// Produce from 0 on, though nothing below 3 is served: so does Kafka itself, for librdkafka's sake (KAFKA-18659).
const VERSIONS: [(i16, i16, i16); 5] =
    [(PRODUCE, 0, 13), (FETCH, 4, 12), (METADATA, 12, 12), (API_VERSIONS, 0, 4), (INIT_PRODUCER_ID, 0, 4)];

#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    batches: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
}

struct Topic {
    name: String,
    id: [u8; 16],
    ends: Vec<AtomicI64>,
}

struct Sink {
    port: u16,
    partitions: usize,
    topics: Mutex<HashMap<String, Arc<Topic>>>,
    by_id: Mutex<HashMap<[u8; 16], Arc<Topic>>>,
    next_producer_id: AtomicI64,
    seen: Seen,
}

impl Sink {
    fn topic(&self, name: &str) -> Arc<Topic> {
        let mut topics = self.topics.lock().expect("no thread panics while it holds the lock");
        if let Some(known) = topics.get(name) {
            return Arc::clone(known);
        }
        let mut id = [0; 16];
        id[..8].copy_from_slice(b"nullsink");
        id[8..].copy_from_slice(&(topics.len() as u64 + 1).to_be_bytes());
        let ends = (0..self.partitions).map(|_| AtomicI64::new(0)).collect();
        let made = Arc::new(Topic { name: name.to_owned(), id, ends });
        topics.insert(name.to_owned(), Arc::clone(&made));
        self.by_id.lock().expect("no thread panics while it holds the lock").insert(id, Arc::clone(&made));
        made
    }

    fn topic_by_id(&self, id: [u8; 16]) -> Option<Arc<Topic>> {
        self.by_id.lock().expect("no thread panics while it holds the lock").get(&id).map(Arc::clone)
    }

    /// The answer to a request; `None` if it expects none.
    fn answer(&self, frame: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
        let mut reader = Reader::new(frame);
        let (key, version, correlation) = (reader.i16()?, reader.i16()?, reader.i32()?);
        reader.string(false)?;
        let mut writer = Writer::default();
        writer.i32(correlation);
        match (key, version) {
            (API_VERSIONS, _) => api_versions(&mut writer, version),
            (METADATA, 12) => self.metadata(&mut reader, &mut writer)?,
            (INIT_PRODUCER_ID, 0..=4) => self.init_producer_id(&mut writer, version),
            (PRODUCE, 3..=13) => {
                if !self.produce(&mut reader, &mut writer, version)? {
                    return Ok(None);
                }
            }
            _ => return Err(Malformed("an API or version that was not offered")),
        }
        Ok(Some(writer.finish()))
    }

    fn metadata(&self, reader: &mut Reader, writer: &mut Writer) -> Result<(), Malformed> {
        reader.tags(true)?;
        let mut asked = Vec::new();
        let count = reader.count(true)?;
        for _ in 0..count {
            let id = reader.uuid()?;
            match reader.string(true)? {
                Some(name) => asked.push(self.topic(name)),
                None => asked.extend(self.topic_by_id(id)),
            }
            reader.tags(true)?;
        }
        if count < 0 {
            asked
                .extend(self.topics.lock().expect("no thread panics while it holds the lock").values().map(Arc::clone));
        }
        writer.tags(true).i32(0); // throttle time
        writer.count(1, true).i32(1).string("127.0.0.1", true).i32(i32::from(self.port)).null(true).tags(true);
        writer.string("null-sink", true).i32(1); // cluster, controller
        writer.count(asked.len(), true);
        for topic in &asked {
            writer.i16(0).string(&topic.name, true).bytes(&topic.id).i8(0);
            writer.count(topic.ends.len(), true);
            for index in 0..topic.ends.len() {
                writer.i16(0).i32(index as i32).i32(1).i32(0); // error, index, leader, epoch
                writer.count(1, true).i32(1).count(1, true).i32(1).count(0, true).tags(true); // replicas, in sync, offline
            }
            writer.i32(i32::MIN).tags(true); // authorized operations: not asked
        }
        writer.tags(true);
        Ok(())
    }

    fn init_producer_id(&self, writer: &mut Writer, version: i16) {
        let flexible = version >= 2;
        let id = self.next_producer_id.fetch_add(1, Relaxed);
        writer.tags(flexible).i32(0).i16(0).i64(id).i16(0).tags(flexible);
    }

    /// False: acks=0, no answer.
    fn produce(&self, reader: &mut Reader, writer: &mut Writer, version: i16) -> Result<bool, Malformed> {
        let (flexible, by_id) = (version >= PRODUCE_FLEXIBLE, version >= PRODUCE_BY_ID);
        reader.tags(flexible)?;
        reader.string(flexible)?; // transactional id
        let acks = reader.i16()?;
        reader.i32()?; // timeout
        self.seen.requests.fetch_add(1, Relaxed);
        writer.tags(flexible);
        let topics = reader.count(flexible)?.max(0) as usize;
        writer.count(topics, flexible);
        for _ in 0..topics {
            let topic = if by_id {
                self.topic_by_id(reader.uuid()?).ok_or(Malformed("a topic id that was not given out"))?
            } else {
                self.topic(reader.string(flexible)?.ok_or(Malformed("a topic without a name"))?)
            };
            if by_id {
                writer.bytes(&topic.id);
            } else {
                writer.string(&topic.name, flexible);
            }
            let partitions = reader.count(flexible)?.max(0) as usize;
            writer.count(partitions, flexible);
            for _ in 0..partitions {
                let index = reader.i32()?;
                let data = reader.blob(flexible)?;
                let count = batch::count(data)?;
                let end = topic.ends.get(index as usize).ok_or(Malformed("a partition that is not there"))?;
                let base = end.fetch_add(i64::from(count), Relaxed);
                self.seen.batches.fetch_add(1, Relaxed);
                self.seen.records.fetch_add(count as u64, Relaxed);
                self.seen.bytes.fetch_add(data.len() as u64, Relaxed);
                writer.i32(index).i16(0).i64(base).i64(-1);
                if version >= 5 {
                    writer.i64(0); // log start offset
                }
                if version >= 8 {
                    writer.count(0, flexible).null(flexible); // record errors, error message
                }
                reader.tags(flexible)?;
                writer.tags(flexible);
            }
            reader.tags(flexible)?;
            writer.tags(flexible);
        }
        writer.i32(0).tags(flexible);
        Ok(acks != 0)
    }

    fn serve(&self, mut connection: TcpStream) -> io::Result<()> {
        connection.set_nodelay(true)?;
        let mut buffer = vec![0; 2 * READ];
        let (mut start, mut end) = (0, 0);
        loop {
            let mut answers = Vec::new();
            let mut missing = READ;
            while end - start >= 4 {
                let size = i32::from_be_bytes(buffer[start..start + 4].try_into().expect("four bytes"));
                if !(8..=MAX_FRAME as i32).contains(&size) {
                    return Err(io::Error::other(format!("a frame of {size} bytes")));
                }
                let whole = 4 + size as usize;
                if end - start < whole {
                    missing = whole - (end - start);
                    break;
                }
                let answer = self.answer(&buffer[start + 4..start + whole]);
                answers.extend(answer.map_err(|Malformed(why)| io::Error::other(why))?.unwrap_or_default());
                start += whole;
            }
            connection.write_all(&answers)?;
            if start == end {
                (start, end) = (0, 0);
            }
            // Space for the rest of a started frame: it is moved to the front, and the buffer grows as bytes arrive, not by the
            // announced length.
            let room = missing.min(READ);
            if buffer.len() - end < room {
                buffer.copy_within(start..end, 0);
                (start, end) = (0, end - start);
                if buffer.len() < end + room {
                    buffer.resize(2 * buffer.len(), 0);
                }
            }
            match connection.read(&mut buffer[end..])? {
                0 => return Ok(()),
                read => end += read,
            }
        }
    }
}

fn api_versions(writer: &mut Writer, version: i16) {
    let known = (0..=4).contains(&version);
    // A request in an unsupported version is answered in version 0, with the supported versions (KIP-511).
    let flexible = known && version >= 3;
    writer.i16(if known { 0 } else { UNSUPPORTED_VERSION });
    writer.count(VERSIONS.len(), flexible);
    for (key, low, high) in VERSIONS {
        writer.i16(key).i16(low).i16(high).tags(flexible);
    }
    if known && version >= 1 {
        writer.i32(0); // throttle time
    }
    writer.tags(flexible); // the header has none in any version
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let partitions = match arguments.get(1).map(String::as_str) {
        None => 6,
        Some("--partitions") if arguments.len() == 3 => arguments[2].parse().expect("--partitions takes a number"),
        Some(_) => panic!("usage: null-sink [--partitions N]"),
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let sink = Arc::new(Sink {
        port,
        partitions,
        topics: Mutex::default(),
        by_id: Mutex::default(),
        next_producer_id: AtomicI64::new(1),
        seen: Seen::default(),
    });
    println!("{{\"port\": {port}}}");
    let accepting = Arc::clone(&sink);
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let sink = Arc::clone(&accepting);
            thread::spawn(move || {
                if let Err(error) = sink.serve(connection) {
                    // A client that closes with unread answers resets the connection; all other errors are logged.
                    if !matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) {
                        eprintln!("null-sink closed a connection: {error}");
                    }
                }
            });
        }
    });
    for line in io::stdin().lock().lines() {
        line?;
        let Seen { requests, batches, records, bytes } = &sink.seen;
        println!(
            "{{\"requests\": {}, \"batches\": {}, \"records\": {}, \"bytes\": {}}}",
            requests.load(Relaxed),
            batches.load(Relaxed),
            records.load(Relaxed),
            bytes.load(Relaxed)
        );
    }
    Ok(())
}
