//! `StatsReader`: the engine's counters for one reader, as a dict for `metrics()`.

use std::sync::Arc;

use penstock_core::stats::{Meter, ReaderId, Stats};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::runtime::engine_core::Core;

/// Reads an engine's counters. Maxima are those since this reader's last reading; other readers do not change them.
#[pyclass(frozen, module = "penstock._native")]
pub struct StatsReader {
    core: Arc<Core>,
    reader: ReaderId,
}

impl StatsReader {
    pub fn new(core: &Arc<Core>) -> Self {
        let reader = core.shared.stats.lock().add_reader();
        Self { core: Arc::clone(core), reader }
    }
}

impl Drop for StatsReader {
    fn drop(&mut self) {
        // In a child process a thread of the parent may hold the lock forever.
        if !self.core.is_foreign() {
            self.core.shared.stats.lock().remove_reader(self.reader);
        }
    }
}

#[pymethods]
impl StatsReader {
    /// Counters since the producer was made, maxima since the last call. Meters are (count, sum, maximum).
    fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let shared = &self.core.shared;
        let stats = shared.stats.lock().read(self.reader);
        let dict = stats_dict(py, &stats)?;
        dict.set_item("buffer_total_bytes", shared.pool.total())?;
        dict.set_item("buffer_available_bytes", shared.pool.available())?;
        dict.set_item("waiting_threads", shared.pool.waiting())?;
        dict.set_item("buffer_exhausted", shared.pool.exhausted())?;
        dict.set_item("buffer_wait_ns", shared.pool.waited.ns())?;
        dict.set_item("metadata_wait_ns", shared.topics.waited.ns())?;
        dict.set_item("now_ms", shared.clock.now_us() as f64 / 1000.0)?;
        Ok(dict)
    }
}

fn meter(of: Meter) -> (u64, f64, f64) {
    (of.count, of.sum, of.max)
}

fn stats_dict<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("batch_size", meter(stats.batch_size))?;
    dict.set_item("compression_rate", meter(stats.compression))?;
    dict.set_item("records_per_request", meter(stats.records_per_request))?;
    dict.set_item("queue_time_ms", meter(stats.queue_time))?;
    dict.set_item("record_size", meter(stats.record_size))?;
    dict.set_item("throttle_time_ms", meter(stats.throttle))?;
    dict.set_item("splits", stats.splits)?;
    dict.set_item("connections_created", stats.connections_created)?;
    dict.set_item("connections_closed", stats.connections_closed)?;
    dict.set_item("connections", stats.connections)?;
    dict.set_item("in_flight", stats.in_flight)?;
    dict.set_item("selects", stats.selects)?;
    dict.set_item("io_wait_ns", stats.io_wait_ns)?;
    dict.set_item("io_ns", stats.io_ns)?;
    let nodes = PyDict::new(py);
    for (id, node) in &stats.nodes {
        let entry = PyDict::new(py);
        entry.set_item("incoming_bytes", node.incoming_bytes)?;
        entry.set_item("outgoing_bytes", node.outgoing_bytes)?;
        entry.set_item("requests", meter(node.requests))?;
        entry.set_item("responses", node.responses)?;
        entry.set_item("latency_ms", meter(node.latency))?;
        nodes.set_item(id, entry)?;
    }
    dict.set_item("nodes", nodes)?;
    let topics = PyDict::new(py);
    for (name, topic) in &stats.topics {
        let entry = PyDict::new(py);
        entry.set_item("records", topic.records)?;
        entry.set_item("bytes", topic.bytes)?;
        entry.set_item("errors", topic.errors)?;
        entry.set_item("retries", topic.retries)?;
        entry.set_item("compression_rate", meter(topic.compression))?;
        topics.set_item(&**name, entry)?;
    }
    dict.set_item("topics", topics)?;
    Ok(dict)
}
