//! Counters for `metrics()`: counted where things happen, turned into Java's names and windows in `metrics.py`.
//!
//! Counters only grow. A maximum is one since the last reading, so that each reader has maxima of its own: a reading of one
//! reader passes the maxima since then on to all others before it begins new ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::atomic::{AtomicU64, Ordering};

/// Time that senders spent waiting for something, over all threads.
#[derive(Debug, Default)]
pub struct WaitTime(AtomicU64);

impl WaitTime {
    /// One more wait, or a part of one.
    pub fn add(&self, waited: Duration) {
        self.0.fetch_add(waited.as_nanos() as u64, Ordering::Relaxed);
    }

    /// All waits so far, ns.
    pub fn ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many values, their sum, and the largest since the last reading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Meter {
    /// Number of values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The largest.
    pub max: f64,
}

impl Meter {
    /// Note one value.
    pub fn record(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.max = self.max.max(value);
    }
}

/// Of one broker.
#[derive(Clone, Debug, Default)]
pub struct NodeStats {
    /// Bytes read.
    pub incoming_bytes: u64,
    /// Bytes written.
    pub outgoing_bytes: u64,
    /// Request sizes, bytes.
    pub requests: Meter,
    /// Answers.
    pub responses: u64,
    /// Request to answer, ms.
    pub latency: Meter,
}

/// Of one topic.
#[derive(Clone, Debug, Default)]
pub struct TopicStats {
    /// Records sent for the first time.
    pub records: u64,
    /// Bytes of their batches.
    pub bytes: u64,
    /// Records failed.
    pub errors: u64,
    /// Records sent again.
    pub retries: u64,
    /// Bytes of a batch's records on the wire per byte of them.
    pub compression: Meter,
}

/// One reader of [`Stats`]; see [`Stats::add_reader`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReaderId(u64);

/// Which meter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum MeterPlace {
    Producer(&'static str),
    Node(i32, &'static str),
    Topic(Arc<str>),
}

/// Maxima that a reader has not seen yet.
type Maxima = HashMap<MeterPlace, f64>;

/// Of one producer. Written by the I/O thread.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Bytes of batches sent.
    pub batch_size: Meter,
    /// Bytes of a batch's records on the wire per byte of them.
    pub compression: Meter,
    /// Records per Produce request.
    pub records_per_request: Meter,
    /// From the first record's arrival to sending, ms, per batch.
    pub queue_time: Meter,
    /// Largest record per batch, bytes.
    pub record_size: Meter,
    /// produce throttle times, ms.
    pub throttle: Meter,
    /// KIP-126 splits.
    pub splits: u64,
    /// TCP connections opened.
    pub connections_created: u64,
    /// Connections closed.
    pub connections_closed: u64,
    /// Connections open.
    pub connections: u64,
    /// Requests without an answer yet.
    pub in_flight: u64,
    /// Times the I/O thread polled its sockets.
    pub selects: u64,
    /// Time in it that was spent waiting, ns.
    pub io_wait_ns: u64,
    /// Time spent working, ns.
    pub io_ns: u64,
    /// By broker id; bootstrap and control connections under their own (negative: bootstrap).
    pub nodes: HashMap<i32, NodeStats>,
    /// By topic.
    pub topics: HashMap<Arc<str>, TopicStats>,
    readers: HashMap<ReaderId, Maxima>,
    last_reader: u64,
}

impl Stats {
    /// Of that topic.
    pub fn topic(&mut self, name: &Arc<str>) -> &mut TopicStats {
        if !self.topics.contains_key(name) {
            self.topics.insert(Arc::clone(name), TopicStats::default());
        }
        self.topics.get_mut(name).expect("inserted above")
    }

    /// A reader, whose first maxima are those from now on (and those that no reader has read yet).
    pub fn add_reader(&mut self) -> ReaderId {
        self.last_reader += 1;
        let reader = ReaderId(self.last_reader);
        self.readers.insert(reader, Maxima::new());
        reader
    }

    /// Forget a reader.
    pub fn remove_reader(&mut self, reader: ReaderId) {
        self.readers.remove(&reader);
    }

    /// A snapshot: counters since the beginning, maxima since this reader's last reading.
    #[must_use]
    pub fn read(&mut self, reader: ReaderId) -> Self {
        let mut fresh = Maxima::new();
        self.for_each_meter(|place, meter| {
            let max = std::mem::take(&mut meter.max);
            if max > 0.0 {
                fresh.insert(place, max);
            }
        });
        for unseen in self.readers.values_mut() {
            for (place, &max) in &fresh {
                let known = unseen.entry(place.clone()).or_default();
                *known = known.max(max);
            }
        }
        let mine = self.readers.get_mut(&reader).map(std::mem::take).unwrap_or_default();
        let readers = std::mem::take(&mut self.readers);
        let mut snapshot = self.clone();
        self.readers = readers;
        snapshot.for_each_meter(|place, meter| meter.max = mine.get(&place).copied().unwrap_or_default());
        snapshot
    }

    fn for_each_meter(&mut self, mut visit: impl FnMut(MeterPlace, &mut Meter)) {
        visit(MeterPlace::Producer("batch_size"), &mut self.batch_size);
        visit(MeterPlace::Producer("compression"), &mut self.compression);
        visit(MeterPlace::Producer("records_per_request"), &mut self.records_per_request);
        visit(MeterPlace::Producer("queue_time"), &mut self.queue_time);
        visit(MeterPlace::Producer("record_size"), &mut self.record_size);
        visit(MeterPlace::Producer("throttle"), &mut self.throttle);
        for (id, node) in &mut self.nodes {
            visit(MeterPlace::Node(*id, "requests"), &mut node.requests);
            visit(MeterPlace::Node(*id, "latency"), &mut node.latency);
        }
        for (name, topic) in &mut self.topics {
            visit(MeterPlace::Topic(Arc::clone(name)), &mut topic.compression);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maxima(stats: &Stats) -> (f64, f64) {
        (stats.batch_size.max, stats.nodes.get(&1).map_or(0.0, |node| node.latency.max))
    }

    fn note(stats: &mut Stats, size: f64, latency: f64) {
        stats.batch_size.record(size);
        stats.nodes.entry(1).or_default().latency.record(latency);
    }

    #[test]
    fn a_maximum_is_one_since_the_readers_own_last_reading() {
        let mut stats = Stats::default();
        let (one, other) = (stats.add_reader(), stats.add_reader());
        note(&mut stats, 7.0, 70.0);
        assert_eq!(maxima(&stats.read(one)), (7.0, 70.0));
        assert_eq!(maxima(&stats.read(one)), (0.0, 0.0), "nothing since");
        note(&mut stats, 3.0, 90.0);
        assert_eq!(maxima(&stats.read(one)), (3.0, 90.0));
        assert_eq!(maxima(&stats.read(other)), (7.0, 90.0), "over all windows of the other reader");
        assert_eq!(maxima(&stats.read(other)), (0.0, 0.0));
    }

    #[test]
    fn counters_only_grow_whoever_reads() {
        let mut stats = Stats::default();
        let (one, other) = (stats.add_reader(), stats.add_reader());
        note(&mut stats, 7.0, 70.0);
        let seen = stats.read(one).batch_size;
        assert_eq!((seen.count, seen.sum), (1, 7.0));
        note(&mut stats, 1.0, 1.0);
        let seen = stats.read(other).batch_size;
        assert_eq!((seen.count, seen.sum, seen.max), (2, 8.0, 7.0));
    }

    #[test]
    fn a_reader_that_is_gone_leaves_nothing_behind() {
        let mut stats = Stats::default();
        let (one, other) = (stats.add_reader(), stats.add_reader());
        stats.remove_reader(one);
        note(&mut stats, 7.0, 70.0);
        let _seen = stats.read(other);
        assert_eq!(stats.readers.len(), 1);
    }
}
