//! The engine's counters as Python objects, for `metrics()`.

use penstock_core::stats::{Meter, Stats};
use pyo3::prelude::*;
use pyo3::types::PyDict;

fn meter(of: Meter) -> (u64, f64, f64) {
    (of.count, of.sum, of.max)
}

/// The counters of an engine as a dict, maxima since the last call.
pub fn stats_dict<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
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
