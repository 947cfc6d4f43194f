//! `ProducerRecord`: a record given whole.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple};

use crate::record::arguments::{extract_headers, extract_partition, extract_timestamp};
use crate::record::topic_name::check_topic;
use crate::runtime::shutdown;

/// A record to be sent: topic, value, key, and optionally partition, timestamp and headers.
///
/// Frozen, equal by content, hashable if its contents are. `timestamp` is ms since the epoch or an aware `datetime`
/// (None: the time of `send`); `headers` a sequence of (str, bytes or None) pairs or a mapping (values that are bytearray or
/// memoryview are copied to bytes); `partition` and `timestamp` may be anything with `__index__`; a `value` of None is a
/// tombstone. Raises `InvalidTopicError`, `ValueError` (negative partition or timestamp) or `TypeError`.
/// Java: `org.apache.kafka.clients.producer.ProducerRecord`.
#[pyclass(frozen, generic, module = "penstock")]
pub struct ProducerRecord {
    #[pyo3(get)]
    pub topic: Py<PyString>,
    #[pyo3(get)]
    pub value: Py<PyAny>,
    #[pyo3(get)]
    pub key: Py<PyAny>,
    #[pyo3(get)]
    pub partition: Option<i32>,
    #[pyo3(get)]
    pub timestamp: Option<i64>,
    #[pyo3(get)]
    pub headers: Py<PyTuple>,
}

impl ProducerRecord {
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        (&self.topic, &self.value, &self.key, self.partition, self.timestamp, &self.headers).into_pyobject(py)
    }

    fn representation(&self, py: Python<'_>) -> PyResult<String> {
        let mut parts = vec![self.topic.bind(py).repr()?.to_string()];
        if !self.value.is_none(py) {
            parts.push(self.value.bind(py).repr()?.to_string());
        }
        if !self.key.is_none(py) {
            parts.push(format!("key={}", self.key.bind(py).repr()?));
        }
        if let Some(partition) = self.partition {
            parts.push(format!("partition={partition}"));
        }
        if let Some(timestamp) = self.timestamp {
            parts.push(format!("timestamp={timestamp}"));
        }
        if !self.headers.bind(py).is_empty() {
            parts.push(format!("headers={}", self.headers.bind(py).repr()?));
        }
        Ok(format!("ProducerRecord({})", parts.join(", ")))
    }
}

#[pymethods]
impl ProducerRecord {
    #[new]
    #[pyo3(signature = (topic, value = None, *, key = None, partition = None, timestamp = None, headers = None))]
    pub fn new(
        py: Python<'_>,
        topic: &Bound<'_, PyAny>,
        value: Option<Py<PyAny>>,
        key: Option<Py<PyAny>>,
        partition: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let Ok(topic) = topic.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!("topic must be a str, not {}", topic.get_type())));
        };
        check_topic(py, &topic.to_string_lossy())?;
        Ok(Self {
            topic: topic.clone().unbind(),
            value: value.unwrap_or_else(|| py.None()),
            key: key.unwrap_or_else(|| py.None()),
            partition: extract_partition(partition)?,
            timestamp: extract_timestamp(timestamp)?,
            headers: extract_headers(py, headers)?.unbind(),
        })
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let Ok(other) = other.cast::<Self>() else { return Ok(py.NotImplemented()) };
        let equal = shutdown::python(py, || self.fields(py)?.eq(other.get().fields(py)?))?;
        Ok(PyBool::new(py, equal).to_owned().into_any().unbind())
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        shutdown::python(py, || self.fields(py)?.hash())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        shutdown::python(py, || self.representation(py))
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let kwargs = PyDict::new(py);
        kwargs.set_item("key", &self.key)?;
        kwargs.set_item("partition", self.partition)?;
        kwargs.set_item("timestamp", self.timestamp)?;
        kwargs.set_item("headers", &self.headers)?;
        Ok(((&self.topic, &self.value).into_pyobject(py)?, kwargs))
    }

    /// A copy with some fields replaced, for interceptors; same names as the constructor's.
    #[pyo3(signature = (**changes))]
    fn replace<'py>(
        slf: &Bound<'py, Self>,
        py: Python<'py>,
        changes: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        let kwargs = PyDict::new(py);
        kwargs.set_item("topic", &this.topic)?;
        kwargs.set_item("value", &this.value)?;
        kwargs.set_item("key", &this.key)?;
        kwargs.set_item("partition", this.partition)?;
        kwargs.set_item("timestamp", this.timestamp)?;
        kwargs.set_item("headers", &this.headers)?;
        if let Some(changes) = changes {
            kwargs.update(changes.as_mapping())?;
        }
        slf.get_type().call((), Some(&kwargs))
    }
}
