//! `RecordMetadata`: where a record is in the log.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyType;

/// Where a record ended up: topic, partition, offset (-1 if unknown), timestamp (ms since the epoch: the record's, or the
/// broker's under LogAppendTime), and the sizes in bytes of the serialized key and value (-1 for None).
///
/// Java: `org.apache.kafka.clients.producer.RecordMetadata`.
#[pyclass(frozen, eq, hash, skip_from_py_object, module = "penstock")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RecordMetadata {
    /// Shared by all records of a topic: one is made for each that is read.
    pub topic: Arc<str>,
    #[pyo3(get)]
    pub partition: i32,
    #[pyo3(get)]
    pub offset: i64,
    #[pyo3(get)]
    pub timestamp: i64,
    #[pyo3(get)]
    pub serialized_key_size: i32,
    #[pyo3(get)]
    pub serialized_value_size: i32,
}

#[pymethods]
impl RecordMetadata {
    #[new]
    #[pyo3(signature = (topic, partition, offset, timestamp, serialized_key_size, serialized_value_size))]
    fn new(
        topic: String,
        partition: i32,
        offset: i64,
        timestamp: i64,
        serialized_key_size: i32,
        serialized_value_size: i32,
    ) -> Self {
        let topic = topic.into();
        Self { topic, partition, offset, timestamp, serialized_key_size, serialized_value_size }
    }

    #[getter]
    fn topic(&self) -> &str {
        &self.topic
    }

    #[classattr]
    fn __match_args__() -> (&'static str, &'static str, &'static str) {
        ("topic", "partition", "offset")
    }

    fn __repr__(&self) -> String {
        format!(
            "RecordMetadata(topic='{}', partition={}, offset={}, timestamp={}, serialized_key_size={}, \
             serialized_value_size={})",
            self.topic,
            self.partition,
            self.offset,
            self.timestamp,
            self.serialized_key_size,
            self.serialized_value_size
        )
    }

    #[expect(clippy::type_complexity, reason = "the fields, in order")]
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, (String, i32, i64, i64, i32, i32)) {
        let this = slf.get();
        let fields = (
            this.topic.to_string(),
            this.partition,
            this.offset,
            this.timestamp,
            this.serialized_key_size,
            this.serialized_value_size,
        );
        (slf.get_type(), fields)
    }
}
