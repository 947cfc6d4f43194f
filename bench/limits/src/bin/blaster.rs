//! Sends the same pre-encoded Produce request repeatedly: the ceiling of a broker (or of the null sink).
//!
//! `blaster '{"bootstrap": "host:port", "topic": …, "partitions": 6, "size": 100, "count": …}'` prints one measurement as
//! JSON. A request carries one batch of about a megabyte for each of the first few partitions; five are in flight. Batches
//! have no producer id, because numbered ones would have to be encoded again: a broker checks less of them.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use penstock_bench_limits::task::{Task, cpu_seconds};
use penstock_bench_limits::wire::{Malformed, Reader, Writer};
use penstock_bench_limits::{API_VERSIONS, PRODUCE, PRODUCE_FLEXIBLE, batch};

/// The last version that names topics: it saves requests for ids, and the bytes that a broker stores are the same.
const BY_NAME: i16 = 12;

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    fn receive(&mut self) -> io::Result<Reader<'_>> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = i32::from_be_bytes(size);
        if !(4..=16 << 20).contains(&size) {
            return Err(io::Error::other(format!("an answer of {size} bytes")));
        }
        self.answer.resize(size as usize, 0);
        self.stream.read_exact(&mut self.answer)?;
        Ok(Reader::new(&self.answer))
    }

    /// The version in which to produce: the broker's latest that still names topics.
    fn produce_version(&mut self) -> io::Result<i16> {
        let mut ask = Writer::default();
        ask.i16(API_VERSIONS).i16(0).i32(0).string("blaster", false);
        self.stream.write_all(&ask.finish())?;
        let offered = self.receive()?;
        let latest = latest_of(offered, PRODUCE).map_err(|Malformed(why)| io::Error::other(why))?;
        if latest < PRODUCE_FLEXIBLE {
            return Err(io::Error::other(format!("the broker speaks Produce up to {latest}, 9 is needed")));
        }
        Ok(latest.min(BY_NAME))
    }
}

fn latest_of(mut offered: Reader, wanted: i16) -> Result<i16, Malformed> {
    offered.i32()?; // correlation id
    if offered.i16()? != 0 {
        return Err(Malformed("ApiVersions was refused"));
    }
    for _ in 0..offered.count(false)? {
        let (key, _, high) = (offered.i16()?, offered.i16()?, offered.i16()?);
        if key == wanted {
            return Ok(high);
        }
    }
    Err(Malformed("the broker does not offer Produce"))
}

/// How many batches of an answer carry an error.
fn refused(mut answer: Reader) -> Result<u64, Malformed> {
    let mut refused = 0;
    answer.i32()?; // correlation id
    answer.tags(true)?;
    for _ in 0..answer.count(true)? {
        answer.string(true)?;
        for _ in 0..answer.count(true)? {
            answer.i32()?;
            let error = answer.i16()?;
            if error != 0 {
                eprintln!("blaster: a batch was refused with error code {error}");
                refused += 1;
            }
            answer.bytes(24)?; // base offset, append time, log start offset
            for _ in 0..answer.count(true)? {
                answer.i32()?;
                answer.string(true)?;
                answer.tags(true)?;
            }
            answer.string(true)?;
            answer.tags(true)?;
        }
        answer.tags(true)?;
    }
    Ok(refused)
}

fn main() -> io::Result<()> {
    let task = Task::from_arguments();
    let value = vec![b'x'; task.number("size", 100) as usize];
    let partitions = task.number("partitions", 6).min(task.number("partitions_per_request", 2));
    let (limit, depth) = (task.number("batch_bytes", 1_000_000) as usize, task.number("in_flight", 5));
    #[allow(clippy::disallowed_methods, reason = "a record's timestamp is a time of day")]
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock behind 1970").as_millis() as i64;
    let (encoded, records) = batch::encode(&value, limit, now_ms);
    let stream = TcpStream::connect(task.text("bootstrap"))?;
    stream.set_nodelay(true)?;
    let mut connection = Connection { stream, answer: Vec::new() };
    let version = connection.produce_version()?;

    let (topic, all) = (task.text("topic"), task.number("partitions", 6));
    // One request for each group of partitions, so that every partition gets its share.
    let requests: Vec<Vec<u8>> = (0..all.div_ceil(partitions))
        .map(|group| {
            let mut request = Writer::default();
            request.i16(PRODUCE).i16(version).i32(1).string("blaster", false).tags(true);
            request.null(true).i16(-1).i32(30_000).count(1, true).string(&topic, true);
            request.count(partitions as usize, true);
            for index in 0..partitions {
                request.i32(((group * partitions + index) % all) as i32);
                request.varint(encoded.len() as u32 + 1).bytes(&encoded).tags(true);
            }
            request.tags(true).tags(true);
            request.finish()
        })
        .collect();

    let per_request = records as u64 * partitions;
    let wanted = task.number("count", 1_000_000).div_ceil(per_request);
    connection.stream.write_all(&requests[0])?; // the partition's log is open, the connection warm
    let read = connection.receive()?;
    let mut failures = refused(read).map_err(|Malformed(why)| io::Error::other(why))?;
    let (cpu, began) = (cpu_seconds(), Instant::now());
    let (mut sent, mut answered) = (0, 0);
    while answered < wanted {
        while sent < wanted && sent - answered < depth {
            connection.stream.write_all(&requests[sent as usize % requests.len()])?;
            sent += 1;
        }
        failures += refused(connection.receive()?).map_err(|Malformed(why)| io::Error::other(why))?;
        answered += 1;
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    println!(
        "{{\"version\": \"{}\", \"count\": {}, \"seconds\": {seconds:.6}, \"cpu_seconds\": {cpu:.6}, \"failures\": {}, \
         \"settings\": {{\"produce version\": {version}, \"batch bytes\": {}, \"batches per request\": {partitions}, \
         \"in flight\": {depth}}}}}",
        env!("CARGO_PKG_VERSION"),
        wanted * per_request,
        failures * records as u64,
        encoded.len()
    );
    Ok(())
}
