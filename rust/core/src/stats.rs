//! Numbers for `metrics()`: counted where things happen. `metrics.py` gives them Java's names and windows.

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

/// How many values, their sum, and the largest since they were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Meter {
    /// Values seen.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The largest since [`Meter::take`].
    pub max: f64,
}

impl Meter {
    /// Note one value.
    pub fn record(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.max = self.max.max(value);
    }

    /// A copy; a new maximum begins.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let seen = *self;
        self.max = 0.0;
        seen
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

/// Of one producer. Written by the I/O thread, read by `metrics()`.
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
}

impl Stats {
    /// Of that topic.
    pub fn topic(&mut self, name: &Arc<str>) -> &mut TopicStats {
        if !self.topics.contains_key(name) {
            self.topics.insert(Arc::clone(name), TopicStats::default());
        }
        self.topics.get_mut(name).expect("inserted above")
    }

    /// A copy; new maxima begin.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let seen = self.clone();
        for meter in [
            &mut self.batch_size,
            &mut self.records_per_request,
            &mut self.queue_time,
            &mut self.record_size,
            &mut self.throttle,
        ] {
            meter.max = 0.0;
        }
        for node in self.nodes.values_mut() {
            node.requests.max = 0.0;
            node.latency.max = 0.0;
        }
        seen
    }
}
