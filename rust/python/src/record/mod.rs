//! `ProducerRecord` and `RecordMetadata`: frozen values.

pub(crate) mod headers;
pub(crate) mod serialize;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyInt, PyMapping, PyMemoryView, PyString, PyTuple, PyType};

use crate::runtime::python;
use crate::runtime::shutdown;
use crate::runtime::upcalls;

/// Kafka's limit for the name of a topic (Java: `Topic.MAX_NAME_LENGTH`).
const MAX_TOPIC_LENGTH: usize = 249;

/// Check a topic's name as brokers do (Java: `Topic.validate`).
pub fn check_topic(py: Python<'_>, topic: &str) -> PyResult<()> {
    let shape = !topic.is_empty() && topic.len() <= MAX_TOPIC_LENGTH && topic != "." && topic != "..";
    if shape && topic.bytes().all(|byte| LEGAL[usize::from(byte)]) {
        return Ok(());
    }
    Err(illegal_topic(py, topic))
}

/// What a topic's name may be made of.
const LEGAL: [bool; 256] = {
    let mut legal = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        legal[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'.' | b'_' | b'-');
        byte += 1;
    }
    legal
};

#[cold]
fn illegal_topic(py: Python<'_>, topic: &str) -> PyErr {
    let why = if topic.is_empty() {
        "it is empty".to_owned()
    } else if topic == "." || topic == ".." {
        "\".\" and \"..\" are not allowed".to_owned()
    } else if topic.len() > MAX_TOPIC_LENGTH {
        format!("it has {} characters, more than {MAX_TOPIC_LENGTH}", topic.chars().count())
    } else {
        let bad = topic.chars().find(|&c| !u8::try_from(c).is_ok_and(|byte| LEGAL[usize::from(byte)]));
        format!("it contains {:?}", bad.unwrap_or_default())
    };
    let context = [("topic", PyString::new(py, topic).into_any())];
    python::error(py, &upcalls::INVALID_TOPIC_ERROR, &format!("illegal topic name: {why}"), &context)
}

/// An int, or what stands for one (`__index__`: numpy's integers are no ints). `None`: it does not fit into 64 bits.
///
/// What is no number is a `TypeError` that says so in `words`, caused by Python's. What `__index__` raises is raised.
pub fn whole_number(number: &Bound<'_, PyAny>, words: impl FnOnce() -> String) -> PyResult<Option<i64>> {
    let py = number.py();
    match number.extract::<i64>() {
        Ok(number) => Ok(Some(number)),
        Err(error) if error.is_instance_of::<PyOverflowError>(py) => Ok(None),
        Err(error) if error.is_instance_of::<PyTypeError>(py) => {
            let wrong = PyTypeError::new_err(words());
            wrong.set_cause(py, Some(error));
            Err(wrong)
        }
        Err(error) => Err(error),
    }
}

/// `partition=`: a non-negative 32-bit number or None.
#[inline]
pub fn extract_partition(partition: Option<&Bound<'_, PyAny>>) -> PyResult<Option<i32>> {
    let Some(partition) = partition.filter(|partition| !partition.is_none()) else { return Ok(None) };
    match partition.cast_exact::<PyInt>().map(|number| number.extract::<i32>()) {
        Ok(Ok(number)) if number >= 0 => Ok(Some(number)),
        _ => shutdown::python(partition.py(), || read_partition(partition, "an int or None")).map(Some),
    }
}

/// A partition's number that is no small int, or that is wrong. `wanted`: what there might have been.
#[cold]
pub fn read_partition(partition: &Bound<'_, PyAny>, wanted: &str) -> PyResult<i32> {
    let words = || format!("partition must be {wanted}, not {}", partition.get_type());
    // True is an int in Python, and here a mistake.
    if partition.is_instance_of::<PyBool>() {
        return Err(PyTypeError::new_err(words()));
    }
    let number = whole_number(partition, words)?.and_then(|number| i32::try_from(number).ok());
    number
        .filter(|&number| number >= 0)
        .ok_or_else(|| PyValueError::new_err(format!("partition must lie between 0 and 2147483647, not {partition}")))
}

/// `timestamp=`: ms since the epoch, an aware datetime, or None.
pub fn extract_timestamp(timestamp: Option<&Bound<'_, PyAny>>) -> PyResult<Option<i64>> {
    let Some(timestamp) = timestamp.filter(|timestamp| !timestamp.is_none()) else { return Ok(None) };
    shutdown::python(timestamp.py(), || read_timestamp(timestamp)).map(Some)
}

fn read_timestamp(timestamp: &Bound<'_, PyAny>) -> PyResult<i64> {
    let py = timestamp.py();
    let words = || {
        let kind = timestamp.get_type();
        format!("timestamp must be an int (ms since the epoch), an aware datetime or None, not {kind}")
    };
    let ms = if !timestamp.is_instance_of::<PyBool>() && timestamp.hasattr(intern!(py, "__index__"))? {
        whole_number(timestamp, words)?.ok_or_else(|| PyValueError::new_err("timestamp does not fit into 64 bits"))?
    } else if timestamp.hasattr(intern!(py, "utcoffset"))? && timestamp.hasattr(intern!(py, "timestamp"))? {
        if timestamp.call_method0(intern!(py, "utcoffset"))?.is_none() {
            let why = "timestamp is a naive datetime; give it a time zone (datetime.now(timezone.utc)) or pass ms";
            return Err(PyValueError::new_err(why));
        }
        let seconds: f64 = timestamp.call_method0(intern!(py, "timestamp"))?.extract()?;
        let micros: i64 = timestamp.getattr(intern!(py, "microsecond"))?.extract()?;
        // Whole seconds and microseconds apart: no float holds both exactly. Begun milliseconds do not count (Java:
        // Instant.toEpochMilli), so that no record is from the future.
        (seconds - micros as f64 / 1e6).round() as i64 * 1000 + micros / 1000
    } else {
        return Err(PyTypeError::new_err(words()));
    };
    if ms < 0 {
        return Err(PyValueError::new_err(format!("timestamp must not be negative (ms since the epoch), not {ms}")));
    }
    Ok(ms)
}

/// `headers=`: pairs or a mapping, as a tuple of (str, bytes or None). What bytes are in, if not bytes, is copied.
pub fn extract_headers<'py>(py: Python<'py>, headers: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyTuple>> {
    let Some(headers) = headers.filter(|headers| !headers.is_none()) else { return Ok(PyTuple::empty(py)) };
    if let Ok(tuple) = headers.cast::<PyTuple>()
        && tuple.is_empty()
    {
        return Ok(tuple.clone());
    }
    shutdown::python(py, || read_headers(py, headers))
}

fn read_headers<'py>(py: Python<'py>, headers: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let wrong = |what: String| {
        let pairs = "headers must be pairs of (str, bytes or None; bytearray and memoryview are copied)";
        PyTypeError::new_err(format!("{pairs}: {what}"))
    };
    let items = match headers.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) if headers.is_instance_of::<PyString>() || headers.is_instance_of::<PyBytes>() => {
            return Err(wrong(format!("not {}", headers.get_type())));
        }
        Err(_) => headers.clone(),
    };
    let mut pairs = Vec::new();
    for (position, pair) in items.try_iter().map_err(|_| wrong(format!("not {}", headers.get_type())))?.enumerate() {
        let pair = pair?;
        let parts: Vec<Bound<'py, PyAny>> = match pair.extract() {
            Ok(parts) => parts,
            Err(_) => return Err(wrong(format!("number {position} is {}", pair.get_type()))),
        };
        let [key, value] = &parts[..] else {
            return Err(wrong(format!("number {position} has {} parts", parts.len())));
        };
        let Ok(name) = key.cast::<PyString>() else {
            return Err(wrong(format!("the key of number {position} is {}", key.get_type())));
        };
        if name.to_str().is_err() {
            return Err(PyValueError::new_err(format!("the header key {} is no valid text", name.repr()?)));
        }
        if value.is_none() || value.is_instance_of::<PyBytes>() {
            pairs.push(PyTuple::new(py, [key, value])?);
        } else if value.is_instance_of::<PyByteArray>() || value.is_instance_of::<PyMemoryView>() {
            // As they are now: their owner may change them later.
            pairs.push(PyTuple::new(py, [key, &py.get_type::<PyBytes>().call1((value,))?])?);
        } else {
            return Err(wrong(format!("the value of {key:?} is {}", value.get_type())));
        }
    }
    PyTuple::new(py, pairs)
}

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

/// Where a record ended up: topic, partition, offset (-1 if unknown), timestamp (ms since the epoch: the record's, or the
/// broker's under LogAppendTime), and the sizes in bytes of the serialized key and value (-1 for None).
///
/// Java: `org.apache.kafka.clients.producer.RecordMetadata`.
#[pyclass(frozen, eq, hash, skip_from_py_object, module = "penstock")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RecordMetadata {
    /// Shared by all records of a topic: one is made for each that is asked for.
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

/// A seed for random choices that differs between producers and processes.
#[expect(clippy::disallowed_methods, reason = "any number will do")]
pub fn random_seed() -> u64 {
    let mut hasher = DefaultHasher::new();
    std::time::SystemTime::now().hash(&mut hasher);
    std::process::id().hash(&mut hasher);
    std::thread::current().id().hash(&mut hasher);
    hasher.finish()
}
