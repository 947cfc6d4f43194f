//! `Sender`: the base class of the facades, with the native `send`.
//!
//! The common record (bytes or str, no interceptor, no custom partitioner, a known topic, room in the buffer) goes from
//! the call to the batch without running a line of Python.
//!
//! Its steps are inlined by order, borrow what they are given, and box their errors ([`Quick`]): what goes through memory
//! between two of them costs more than most of them do (measured: see DESIGN.md, "What a send costs").

#![expect(clippy::inline_always, reason = "measured: see above")]

use std::cell::{Cell, OnceCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyString, PyTuple};

use penstock_core::accumulator::{Appended, Record, TopicEntry};
use penstock_core::batch::{BATCH_HEADER_LEN, Header, record_len_upper_bound};
use penstock_core::completion::Completion;
use penstock_core::topic::Topic;

use crate::arrow::ArrowRows;
use crate::arrow_plan::Names;
use crate::bulk::Ongoing;
use crate::bulk_result::BulkResult;
use crate::callbacks::{CALLBACKS, Callback};
use crate::ending;
use crate::engine::{Core, Engine};
use crate::future::{DeliveryFuture, SLICE, Sizes};
use crate::headers::Headers;
use crate::python;
use crate::recent::{self, Table};
use crate::record::{ProducerRecord, check_topic, extract_partition, extract_timestamp};
use crate::send_many::Many;
use crate::serialize::{Payload, Serialize, given, object};

/// Kafka's code for a topic that cannot be.
const INVALID_TOPIC: i16 = 17;

/// A facade's native half, once it has its engine.
pub struct State {
    pub core: Arc<Core>,
    pub key: Serialize,
    pub value: Serialize,
    /// `choose(topic, key, key_bytes, value, value_bytes) -> int`
    partitioner: Option<Py<PyAny>>,
    /// An object with `on_send(record)`, `wrap(record, callback)` and `on_send_error(record, error)`.
    pub interceptors: Option<Py<PyAny>>,
    /// `warn_waiting(method, topic, partition, status)`, called once a second has been waited for a topic.
    warn_waiting: Py<PyAny>,
    pub max_block: Duration,
    /// Among all of the process: see [`recent`].
    id: u64,
}

/// A result on the common way. Its error is boxed, so that the whole fits into registers: a `PyErr` by value has every
/// result written to memory and read from there at once, which the processor has to wait for.
pub type Quick<T> = Result<T, Box<PyErr>>;

/// max.block.ms from the first wait of a `send` on: the common record never looks at this clock.
pub struct Deadline {
    after: Duration,
    at: Cell<Option<Instant>>,
}

impl Deadline {
    fn get(&self) -> Instant {
        let at = self.at.get().unwrap_or_else(|| Instant::now() + self.after);
        self.at.set(Some(at));
        at
    }
}

/// One call of `send`, after its arguments were sorted out.
pub struct Call<'a, 'py> {
    pub topic: &'a Bound<'py, PyString>,
    /// `None`: null, as everywhere.
    pub value: Option<&'a Bound<'py, PyAny>>,
    pub key: Option<&'a Bound<'py, PyAny>>,
    pub partition: Option<i32>,
    pub timestamp: Option<i64>,
    pub headers: Headers<'py>,
    pub callback: Option<&'a Bound<'py, PyAny>>,
    /// Key and value are bytes or null already, and no serializer's business.
    pub serialized: bool,
    /// The callback is the user's, not only the interceptors'.
    pub observed: bool,
}

/// Where a record was buffered.
pub struct Place {
    pub completion: Arc<Completion>,
    pub index: u32,
    pub sizes: Sizes,
}

/// A record as it is to be buffered, but for its headers.
#[derive(Clone, Copy)]
pub struct Serialized<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub partition: Option<u32>,
    pub timestamp: i64,
}

/// Bytes of a [`Serialized`] that are not those of the given key and value.
pub struct Made<'py> {
    key: OnceCell<Payload<'py>>,
    value: OnceCell<Payload<'py>>,
}

impl<'py> Made<'py> {
    /// None yet.
    pub const fn new() -> Self {
        Self { key: OnceCell::new(), value: OnceCell::new() }
    }

    /// Key and value of a record as objects.
    pub fn objects(
        &self,
        py: Python<'py>,
        call: &Call<'_, 'py>,
        serialized: Serialized<'_>,
    ) -> (Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>) {
        (object(py, call.key, &self.key, serialized.key), object(py, call.value, &self.value, serialized.value))
    }
}

/// A look for a topic that is repeated until it is there, or max.block.ms is over.
pub struct Search {
    method: &'static str,
    started: Instant,
    asked: Option<Instant>,
    warned: bool,
    errors_before: Option<u64>,
}

impl Search {
    /// On behalf of the method of that name; `now` is the beginning.
    pub fn new(method: &'static str, now: Instant) -> Self {
        Self { method, started: now, asked: None, warned: false, errors_before: None }
    }
}

/// What a look for a topic brought.
pub enum Look {
    Known(Arc<Topic>),
    /// Not there in this version of the table.
    Absent(u64),
}

/// The native half of the facades. Not to be constructed by itself.
#[pyclass(frozen, subclass, generic, weakref, module = "penstock._native")]
pub struct Sender {
    state: OnceLock<State>,
}

#[pymethods]
impl Sender {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        // Arguments are the subclass' business; it calls `_attach` when it has made sense of them.
        Self { state: OnceLock::new() }
    }

    /// Connect the facade with its engine.
    #[pyo3(signature = (
        engine, *, key_serializer, value_serializer, key_fast, value_fast, partitioner, interceptors, warn_waiting,
        max_block_ms,
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword-only, called in one place")]
    fn _attach(
        &self,
        engine: &Bound<'_, Engine>,
        key_serializer: Py<PyAny>,
        value_serializer: Py<PyAny>,
        key_fast: Option<&str>,
        value_fast: Option<&str>,
        partitioner: Option<Py<PyAny>>,
        interceptors: Option<Py<PyAny>>,
        warn_waiting: Py<PyAny>,
        max_block_ms: u64,
    ) -> PyResult<()> {
        let (key, value) = ((key_fast, key_serializer), (value_fast, value_serializer));
        let state = State::new(engine.get(), key, value, partitioner, interceptors, warn_waiting, max_block_ms)?;
        self.state.set(state).map_err(|_| PyRuntimeError::new_err("attached before"))
    }

    /// Send a record, given whole or in short form, and return its `DeliveryFuture` at once.
    ///
    /// Blocks only while the topic is not known yet or buffer.memory is used up, up to max.block.ms. Raises whatever keeps
    /// the record out of the buffer: `SerializationError`, `InvalidTopicError`, `RecordTooLargeError`,
    /// `KafkaTimeoutError` (its subclass `BufferExhaustedError` for memory), `ProducerClosedError`,
    /// `ProducerForkedError`, `TypeError`, `ValueError`. All that happens later is in the future, and goes to
    /// `callback(metadata, error)`, which runs exactly once, on the callback thread, if `send` returned.
    /// Java: `KafkaProducer.send`.
    #[pyo3(signature = (
        topic, value = None, *, key = None, partition = None, timestamp = None, headers = None, callback = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "the short form's keywords")]
    fn send(
        slf: &Bound<'_, Self>,
        py: Python<'_>,
        topic: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
        partition: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
        callback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<DeliveryFuture>> {
        let state = State::of(&slf.get().state)?;
        let call = Call::new(py, topic, value, key, partition, timestamp, headers, callback);
        call.and_then(|call| {
            state.core.check_fork(py)?;
            state.check_open(py)?;
            state.deliver(py, &call, &|place: Place| {
                Ok(Py::new(py, DeliveryFuture::new(place.completion, place.index, place.sizes))?)
            })
        })
        .map_err(|error| *error)
    }

    /// Send many records to a topic and return when all are buffered.
    ///
    /// `values` is any iterable; `keys`, `headers` and `timestamps` have one entry per value, each as `send` takes it.
    /// Serializers, interceptors and partitioners apply as in `send`. Where the buffer is full it waits, up to
    /// max.block.ms each time. As long as nothing is buffered it raises what `send` raises; afterwards it never does, and
    /// what cannot be buffered is in the result's `errors` (Ctrl-C is raised; what was buffered then is on its way). A
    /// timeout, a closed producer or an iterator that raises or ends too early stops the call; records of a `values` with
    /// a length that were not taken then have the same error. Within a partition the order is that of the values.
    #[pyo3(signature = (topic, values, *, keys = None, headers = None, timestamps = None, partition = None))]
    #[expect(clippy::too_many_arguments, reason = "the columns")]
    fn send_many(
        slf: &Bound<'_, Self>,
        py: Python<'_>,
        topic: &Bound<'_, PyAny>,
        values: &Bound<'_, PyAny>,
        keys: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
        timestamps: Option<&Bound<'_, PyAny>>,
        partition: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<BulkResult> {
        let state = State::of(&slf.get().state)?;
        let partition = extract_partition(partition)?;
        let call = Ongoing::begin(state, py, topic, "send_many")?;
        call.run(state, py, &mut Many::new(state, values, keys, headers, timestamps, partition, false)?)
    }

    /// Send the rows of Arrow data to a topic and return when all are buffered.
    ///
    /// `data` is a table, a record batch, a stream or a data frame: anything with `__arrow_c_stream__` or
    /// `__arrow_c_array__`. A stream is read batch by batch. The arguments name columns:
    ///
    /// `value`: one column is written as it is (binary and strings their bytes, int16 to int64 and floats as Java's
    /// serializers do, big-endian; null is a tombstone); a list of columns as a JSON object; None the whole row as JSON,
    /// but for the columns of `partition` and `headers`. `key`: the same; None for no key. `partition`: a column of
    /// integers (null: the partitioner chooses), or one number for all. `timestamp`: int64 ms or an Arrow timestamp
    /// (without a zone taken for UTC; null: now). `headers`: a map, or a list of structs of key and value.
    ///
    /// In JSON, NaN and infinities are null, binary is base64, times are ISO 8601, decimals are numbers. Serializers do
    /// not apply; interceptors and partitioners do. Errors are raised or told as by `send_many`; what the schema rules
    /// out raises `ValueError` or `TypeError` before anything is buffered.
    #[pyo3(signature = (
        topic, data, *, value = None, key = None, partition = None, timestamp = None, headers = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "the columns")]
    fn send_arrow(
        slf: &Bound<'_, Self>,
        py: Python<'_>,
        topic: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
        partition: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<BulkResult> {
        let state = State::of(&slf.get().state)?;
        let names = Names::read(value, key, partition, timestamp, headers)?;
        let call = Ongoing::begin(state, py, topic, "send_arrow")?;
        call.run(state, py, &mut ArrowRows::open(state, data, &names)?)
    }

    /// Wait up to max.block.ms until a topic is known, on behalf of `partitions_for`.
    fn _await_topic(&self, py: Python<'_>, topic: &Bound<'_, PyString>) -> PyResult<()> {
        let state = State::of(&self.state)?;
        state.core.check_fork(py)?;
        state.check_open(py)?;
        let deadline = state.deadline();
        state.topic(py, topic, None, "partitions_for", &deadline)?;
        Ok(())
    }
}

impl<'a, 'py> Call<'a, 'py> {
    /// Sort the arguments of `send` out.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "as `send`")]
    pub fn new(
        py: Python<'py>,
        topic: &'a Bound<'py, PyAny>,
        value: Option<&'a Bound<'py, PyAny>>,
        key: Option<&'a Bound<'py, PyAny>>,
        partition: Option<&Bound<'py, PyAny>>,
        timestamp: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        callback: Option<&'a Bound<'py, PyAny>>,
    ) -> Quick<Self> {
        let callback = present(callback);
        if let Some(callback) = callback
            && !callback.is_callable()
        {
            return Err(not_callable(callback).into());
        }
        // Nearly always it is no subclass, which takes a comparison instead of a call to find out.
        let text = topic.cast_exact::<PyString>().or_else(|_| topic.cast::<PyString>());
        let Ok(topic) = text else {
            let others = [value, key, partition, timestamp, headers];
            return State::call_of(py, whole_record(topic, &others)?, callback);
        };
        Ok(Call {
            topic,
            value: present(value),
            key: present(key),
            partition: match partition {
                None => None,
                Some(partition) => extract_partition(Some(partition))?,
            },
            timestamp: match timestamp {
                None => None,
                Some(timestamp) => extract_timestamp(Some(timestamp))?,
            },
            headers: match headers {
                None => Headers::default(),
                Some(headers) => Headers::given(py, Some(headers))?,
            },
            callback,
            serialized: false,
            observed: true,
        })
    }

    /// As a record, for those who keep it.
    pub fn record(&self, py: Python<'py>) -> PyResult<ProducerRecord> {
        let object = |data: Option<&Bound<'py, PyAny>>| data.map_or_else(|| py.None(), |data| data.clone().unbind());
        Ok(ProducerRecord {
            topic: self.topic.clone().unbind(),
            value: object(self.value),
            key: object(self.key),
            partition: self.partition,
            timestamp: self.timestamp,
            headers: self.headers.tuple(py)?.unbind(),
        })
    }
}

/// None for Python's None.
#[inline(always)]
pub fn present<'a, 'py>(object: Option<&'a Bound<'py, PyAny>>) -> Option<&'a Bound<'py, PyAny>> {
    object.filter(|object| !object.is_none())
}

#[cold]
fn not_callable(callback: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("callback is not callable: {}", callback.get_type()))
}

/// What is no topic's name is a record, and stands alone.
#[inline]
fn whole_record<'a>(
    topic: &'a Bound<'_, PyAny>,
    others: &[Option<&Bound<'_, PyAny>>],
) -> Result<&'a ProducerRecord, Box<PyErr>> {
    let Ok(record) = topic.cast::<ProducerRecord>() else {
        let kind = topic.get_type();
        let why = format!("send takes a ProducerRecord or a topic name (str), not {kind}");
        return Err(PyTypeError::new_err(why).into());
    };
    if others.iter().any(Option::is_some) {
        return Err(PyTypeError::new_err("send(record) takes no other argument than callback").into());
    }
    Ok(record.get())
}

impl State {
    /// Connected with its engine; serializers come with what of them is native.
    pub fn new(
        engine: &Engine,
        key: (Option<&str>, Py<PyAny>),
        value: (Option<&str>, Py<PyAny>),
        partitioner: Option<Py<PyAny>>,
        interceptors: Option<Py<PyAny>>,
        warn_waiting: Py<PyAny>,
        max_block_ms: u64,
    ) -> PyResult<Self> {
        Ok(Self {
            core: Arc::clone(&engine.core),
            key: Serialize::new(key.0, key.1)?,
            value: Serialize::new(value.0, value.1)?,
            partitioner,
            interceptors,
            warn_waiting,
            max_block: Duration::from_millis(max_block_ms),
            id: recent::next_sender(),
        })
    }

    /// That of a facade that was initialised.
    pub fn of(state: &OnceLock<Self>) -> PyResult<&Self> {
        let why = "the producer was not initialised (is super().__init__() missing?)";
        state.get().ok_or_else(|| PyRuntimeError::new_err(why))
    }

    /// max.block.ms from the first wait on.
    pub fn deadline(&self) -> Deadline {
        Deadline { after: self.max_block, at: Cell::new(None) }
    }

    /// Whether interceptors or a partitioner of the user's have a say in each record.
    pub fn records_go_one_by_one(&self, partition: Option<i32>) -> bool {
        self.interceptors.is_some() || (self.partitioner.is_some() && partition.is_none())
    }

    /// The call for a record given whole.
    #[inline(always)]
    pub fn call_of<'a, 'py>(
        py: Python<'py>,
        record: &'a ProducerRecord,
        callback: Option<&'a Bound<'py, PyAny>>,
    ) -> Quick<Call<'a, 'py>> {
        Ok(Call {
            topic: record.topic.bind(py),
            value: present(Some(record.value.bind(py))),
            key: present(Some(record.key.bind(py))),
            partition: record.partition,
            timestamp: record.timestamp,
            headers: Headers::of_tuple(record.headers.bind(py))?,
            callback,
            serialized: false,
            observed: true,
        })
    }

    #[inline]
    pub fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        let shared = &self.core.shared;
        if let Some((code, message)) = shared.fatal() {
            return Err(match code {
                -1 => python::error(py, "InternalError", message, &[]),
                0 => python::error(py, "KafkaError", message, &[]),
                code => python::error_for_code(py, *code, message, None),
            });
        }
        if shared.closed.load(Ordering::Acquire) {
            return Err(python::error(py, "ProducerClosedError", "the producer is closed", &[]));
        }
        Ok(())
    }

    /// All that `send` does with a record. `made` makes of its place what the caller is after, there and then: handed up
    /// through all these functions, a place costs more than most of them.
    #[inline(always)]
    pub fn deliver<'py, T>(
        &self,
        py: Python<'py>,
        call: &Call<'_, 'py>,
        made: &impl Fn(Place) -> Quick<T>,
    ) -> Quick<T> {
        match &self.interceptors {
            None => self.send(py, call, made),
            Some(interceptors) => self.send_intercepted(py, interceptors.bind(py), call, made),
        }
    }

    /// Interceptors see the record first, and its end last.
    #[inline(never)]
    fn send_intercepted<'py, T>(
        &self,
        py: Python<'py>,
        interceptors: &Bound<'py, PyAny>,
        call: &Call<'_, 'py>,
        made: &impl Fn(Place) -> Quick<T>,
    ) -> Quick<T> {
        let (record, wrapped) = Self::intercept(py, interceptors, call, call.callback)?;
        let call = Self::intercepted(py, &record, &wrapped, call)?;
        self.send(py, &call, made).inspect_err(|error| Self::tell_failure(py, interceptors, &record, error.value(py)))
    }

    /// The record after the interceptors, and their callback around `callback`.
    pub fn intercept<'py>(
        py: Python<'py>,
        interceptors: &Bound<'py, PyAny>,
        call: &Call<'_, 'py>,
        callback: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, ProducerRecord>, Bound<'py, PyAny>)> {
        let record = call.record(py)?;
        let record = ending::python(py, || interceptors.call_method1("on_send", (record,)))?;
        let record = record.cast_into::<ProducerRecord>()?;
        let wrapped = ending::python(py, || interceptors.call_method1("wrap", (&record, callback)))?;
        Ok((record, wrapped))
    }

    /// The call in place of `before` with what [`State::intercept`] brought.
    pub fn intercepted<'a, 'py>(
        py: Python<'py>,
        record: &'a Bound<'py, ProducerRecord>,
        wrapped: &'a Bound<'py, PyAny>,
        before: &Call<'_, 'py>,
    ) -> Quick<Call<'a, 'py>> {
        let (observed, serialized) = (before.callback.is_some(), before.serialized);
        Ok(Call { serialized, observed, ..Self::call_of(py, record.get(), Some(wrapped))? })
    }

    /// Tell the interceptors why a record was not sent.
    pub fn tell_failure<'py>(
        py: Python<'py>,
        interceptors: &Bound<'py, PyAny>,
        record: &Bound<'py, ProducerRecord>,
        error: &Bound<'py, pyo3::exceptions::PyBaseException>,
    ) {
        // The hook isolates its own failures; the caller's error is the one that matters here.
        let _ = ending::python(py, || interceptors.call_method1("on_send_error", (record, error)));
    }

    #[inline(always)]
    fn send<'py, T>(&self, py: Python<'py>, call: &Call<'_, 'py>, made: &impl Fn(Place) -> Quick<T>) -> Quick<T> {
        let deadline = self.deadline();
        loop {
            let sent = self.with_topic(
                py,
                call,
                || Ok(self.topic(py, call.topic, call.partition, "send", &deadline)?),
                |topic| self.send_to(py, call, topic, &deadline, made),
            )?;
            if let Some(made) = sent {
                return Ok(made);
            }
            // The topic was forgotten (metadata.max.idle.ms) between the look and the append: look again.
        }
    }

    #[inline(always)]
    fn send_to<'py, T>(
        &self,
        py: Python<'py>,
        call: &Call<'_, 'py>,
        topic: &Topic,
        deadline: &Deadline,
        made: &impl Fn(Place) -> Quick<T>,
    ) -> Quick<Option<T>> {
        let own = Made::new();
        let serialized = self.serialize(py, call, topic, &own)?;
        self.with_record(py, call, serialized, |record, sizes| {
            self.append(py, call, topic, serialized.partition, record, sizes, deadline, made)
        })
    }

    /// What the serializers and the partitioner make of it.
    #[inline(always)]
    pub fn serialize<'a, 'py: 'a>(
        &self,
        py: Python<'py>,
        call: &Call<'a, 'py>,
        topic: &Topic,
        own: &'a Made<'py>,
    ) -> Quick<Serialized<'a>> {
        let (key, value) = if call.serialized {
            (given(call.key)?, given(call.value)?)
        } else {
            let (topic, headers) = (call.topic, &call.headers);
            (
                match call.key {
                    None => None,
                    Some(key) => match self.key.as_it_is(key) {
                        None => self.key.make(py, topic, headers, key, &own.key)?,
                        bytes => bytes,
                    },
                },
                match call.value {
                    None => None,
                    Some(value) => match self.value.as_it_is(value) {
                        None => self.value.make(py, topic, headers, value, &own.value)?,
                        bytes => bytes,
                    },
                },
            )
        };
        let partition = match (call.partition, &self.partitioner) {
            (Some(partition), _) => Some(partition as u32),
            (None, None) => None,
            (None, Some(partitioner)) => {
                let made = Serialized { key, value, partition: None, timestamp: -1 };
                let bytes = own.objects(py, call, made);
                Some(Self::ask_partitioner(py, partitioner, call, topic, bytes)?)
            }
        };
        let timestamp = call.timestamp.unwrap_or_else(now_ms);
        Ok(Serialized { key, value, partition, timestamp })
    }

    /// Have `act` done with the record, if it is not too large.
    #[inline(always)]
    pub fn with_record<T>(
        &self,
        py: Python<'_>,
        call: &Call<'_, '_>,
        serialized: Serialized<'_>,
        act: impl FnOnce(&Record<'_>, Sizes) -> Quick<T>,
    ) -> Quick<T> {
        let owned;
        let headers: &[Header<'_>] = if call.headers.is_empty() {
            &[]
        } else {
            owned = call.headers.slices()?;
            &owned
        };
        let Serialized { key, value, partition, timestamp } = serialized;
        let record = Record { timestamp, key, value, headers };
        self.check_size(py, call.topic, partition, key, value, headers)?;
        let length = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i32);
        let sizes = Sizes { timestamp, key: length(key), value: length(value) };
        act(&record, sizes)
    }

    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "one call's worth")]
    fn append<T>(
        &self,
        py: Python<'_>,
        call: &Call<'_, '_>,
        topic: &Topic,
        partition: Option<u32>,
        record: &Record<'_>,
        sizes: Sizes,
        deadline: &Deadline,
        made: &impl Fn(Place) -> Quick<T>,
    ) -> Quick<Option<T>> {
        let shared = &self.core.shared;
        let token = call
            .callback
            .map(|function| CALLBACKS.insert(Callback::Send { function: function.clone().unbind(), sizes }));
        let mut grant = 0;
        let appended = loop {
            match shared.append(topic, partition, record, token.map(|token| (token, call.observed)), &mut grant) {
                Appended::Done { completion, index } => {
                    if grant > 0 {
                        shared.release(grant);
                    }
                    return made(Place { completion, index, sizes }).map(Some);
                }
                Appended::Closed => break self.check_open(py).map(|()| None),
                Appended::NeedsMemory(bytes) => match self.wait_for_memory(py, topic, bytes, deadline) {
                    Ok(()) => grant += bytes,
                    Err(error) => break Err(error),
                },
            }
        };
        if grant > 0 {
            shared.release(grant);
        }
        if let Some(token) = token {
            CALLBACKS.remove(token);
        }
        Ok(appended?)
    }

    #[inline(never)]
    pub fn wait_for_memory(&self, py: Python<'_>, topic: &Topic, bytes: usize, deadline: &Deadline) -> PyResult<()> {
        let shared = &self.core.shared;
        let deadline = deadline.get();
        let waiter = shared.queue_for_memory(bytes);
        loop {
            let until = deadline.min(Instant::now() + SLICE);
            let began = Instant::now();
            let granted = py.detach(|| shared.pool.wait(&waiter, until));
            count_wait(&shared.memory_wait_ns, began);
            if granted {
                return Ok(());
            }
            let over = Instant::now() >= deadline;
            let interrupted = py.check_signals().and_then(|()| self.check_open(py)).err();
            if over || interrupted.is_some() {
                shared.pool.cancel(&waiter);
                shared.relax();
            }
            if let Some(error) = interrupted {
                return Err(error);
            }
            if over {
                shared.pool.count_exhausted();
                return Err(self.exhausted(py, topic, bytes)?);
            }
        }
    }

    /// The words for a buffer that stayed full.
    pub fn exhausted(&self, py: Python<'_>, topic: &Topic, needed: usize) -> PyResult<PyErr> {
        let shared = &self.core.shared;
        let oldest = shared
            .oldest()
            .map(|it| (it.topic.to_string(), it.partition, it.age_ms, it.attempts, it.broker, it.code, it.message));
        let any = |value: usize| value.into_pyobject(py).map(Bound::into_any);
        let arguments = [
            ("topic", PyString::new(py, &topic.name).into_any()),
            ("needed", any(needed)?),
            ("used", any(shared.pool.total() - shared.pool.available())?),
            ("total", any(shared.pool.total())?),
            ("waited_ms", (self.max_block.as_millis() as u64).into_pyobject(py)?.into_any()),
            ("oldest", oldest.into_pyobject(py)?),
            ("status", PyString::new(py, &shared.status()).into_any()),
        ];
        Ok(python::error_by(py, "buffer_exhausted", &arguments))
    }

    #[inline(never)]
    fn ask_partitioner<'py>(
        py: Python<'py>,
        partitioner: &Py<PyAny>,
        call: &Call<'_, 'py>,
        topic: &Topic,
        bytes: (Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>),
    ) -> PyResult<u32> {
        let arguments = (call.topic, call.key, bytes.0, call.value, bytes.1);
        let number = ending::python(py, || {
            let chosen = partitioner.bind(py).call1(arguments)?;
            chosen.extract::<i64>().map_err(|_| {
                PyTypeError::new_err(format!("the partitioner returned {chosen:?}, not the number of a partition"))
            })
        })?;
        u32::try_from(number).ok().filter(|&number| number < topic.partitions()).ok_or_else(|| {
            pyo3::exceptions::PyValueError::new_err(format!(
                "the partitioner chose partition {number} of {}, which has {} partitions",
                topic.name,
                topic.partitions()
            ))
        })
    }

    /// Refuses a record that no batch, or no request, could ever hold.
    #[inline(always)]
    pub fn check_size(
        &self,
        py: Python<'_>,
        topic: &Bound<'_, PyString>,
        partition: Option<u32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Quick<()> {
        let config = &self.core.shared.config;
        let size = record_len_upper_bound(key, value, headers) + BATCH_HEADER_LEN;
        // The smallest of the limits below.
        if size <= config.max_request_size.min(config.buffer_memory) && config.batch_size <= config.buffer_memory {
            return Ok(());
        }
        Err(self.too_large(py, topic, partition, size).into())
    }

    #[cold]
    fn too_large(&self, py: Python<'_>, topic: &Bound<'_, PyString>, partition: Option<u32>, size: usize) -> PyErr {
        let config = &self.core.shared.config;
        let (batch, memory) = (config.batch_size, config.buffer_memory);
        let larger = |setting: &str, limit: usize| {
            format!("a record of {size} bytes (serialized, with its batch header) is larger than {setting} = {limit}")
        };
        let (message, hint) = if size > config.max_request_size {
            // The class's own hint: the brokers have a limit too.
            (larger("max.request.size", config.max_request_size), None)
        } else if size > memory {
            (larger("buffer.memory", memory), Some("Send smaller records, or raise buffer.memory."))
        } else {
            let message = format!("a batch of batch.size = {batch} bytes is larger than buffer.memory = {memory}");
            (message, Some("Raise buffer.memory, or lower batch.size."))
        };
        let mut context = vec![("topic", topic.clone().into_any())];
        if let Some(partition) = partition {
            context.push(("partition", PyInt::new(py, partition).into_any()));
        }
        if let Some(hint) = hint {
            context.push(("hint", PyString::new(py, hint).into_any()));
        }
        python::error(py, "RecordTooLargeError", &message, &context)
    }

    /// The topic's snapshot, waited for if need be, with a partition of that number if one is asked for.
    #[inline(never)]
    pub fn topic(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyString>,
        partition: Option<i32>,
        method: &'static str,
        deadline: &Deadline,
    ) -> PyResult<Arc<Topic>> {
        let shared = &self.core.shared;
        if let Some(topic) = self.recent_topic(py, name, partition)? {
            return Ok(topic);
        }
        let deadline = deadline.get();
        let mut search = Search::new(method, Instant::now());
        loop {
            let version = match self.look(py, name, partition, deadline, Instant::now(), &mut search)? {
                Look::Known(topic) => return Ok(topic),
                Look::Absent(version) => version,
            };
            let until = deadline.min(Instant::now() + SLICE);
            let began = Instant::now();
            py.detach(|| shared.wait_for_topics(version, until));
            count_wait(&shared.metadata_wait_ns, began);
            py.check_signals()?;
        }
    }

    /// Have `act` done with the topic of the call: a recent one, or what `look_up` brings.
    #[inline(always)]
    fn with_topic<T, E: From<Box<PyErr>>>(
        &self,
        py: Python<'_>,
        call: &Call<'_, '_>,
        look_up: impl FnOnce() -> Result<Arc<Topic>, E>,
        act: impl FnOnce(&Topic) -> Result<T, E>,
    ) -> Result<T, E> {
        let name = text_of(py, call.topic)?;
        recent::with(self.table(), name, |topic| has_partition(topic, call.partition), look_up, act)
    }

    /// Have `act` done with the topic of the call if this thread has sent to it of late, and nothing has changed since;
    /// otherwise the error is None, or says that it is no topic.
    #[inline(always)]
    pub fn with_recent<T>(
        &self,
        py: Python<'_>,
        call: &Call<'_, '_>,
        act: impl FnOnce(&Topic) -> Result<T, Option<Box<PyErr>>>,
    ) -> Result<T, Option<Box<PyErr>>> {
        let unknown = || match check_topic(py, text_of(py, call.topic)?) {
            Ok(()) => Err(None),
            Err(error) => Err(Some(error.into())),
        };
        self.with_topic(py, call, unknown, act)
    }

    #[inline]
    fn table(&self) -> Table {
        Table { sender: self.id, version: self.core.shared.topics_version.load(Ordering::Acquire) }
    }

    /// The topic, if this thread has sent to it of late and nothing has changed since; raises for what is no topic at all.
    pub fn recent_topic(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyString>,
        partition: Option<i32>,
    ) -> PyResult<Option<Arc<Topic>>> {
        let text = text_of(py, name).map_err(|error| *error)?;
        match recent::get(self.table(), text).filter(|topic| has_partition(topic, partition)) {
            Some(topic) => Ok(Some(topic)),
            None => check_topic(py, text).map(|()| None),
        }
    }

    /// One look for a topic at `now`, which is asked for if it is not known; an error if it cannot be, or the time is over.
    pub fn look(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyString>,
        partition: Option<i32>,
        deadline: Instant,
        now: Instant,
        search: &mut Search,
    ) -> PyResult<Look> {
        let shared = &self.core.shared;
        let text = name.to_str()?;
        self.check_open(py)?;
        let version = shared.topics_version.load(Ordering::Acquire);
        let entry = shared.topic(text);
        if let TopicEntry { topic: Some(topic), error: None, .. } = &entry
            && topic.partitions() > 0
            && has_partition(topic, partition)
        {
            recent::remember(Table { sender: self.id, version }, topic);
            return Ok(Look::Known(Arc::clone(topic)));
        }
        // Asked for before the time is looked at: with max.block.ms=0 this call fails, and a later one finds the topic.
        if search.asked.is_none_or(|at| now.duration_since(at) >= Duration::from_secs(1)) {
            search.asked = Some(now);
            shared.want_topic(text, partition.unwrap_or(-1));
        }
        // A final answer counts if it came since; an earlier one may be out of date, since permissions change. That a
        // name is illegal does not.
        let errors = *search.errors_before.get_or_insert(entry.errors);
        if let Some((code, message, true)) = &entry.error
            && (*code == INVALID_TOPIC || entry.errors > errors || now >= deadline)
        {
            return Err(python::error_for_code(py, *code, message, Some(text)));
        }
        if now >= deadline {
            return Err(self.absent(py, text, partition, &entry)?);
        }
        if !search.warned && now.duration_since(search.started) >= Duration::from_secs(1) {
            search.warned = true;
            let why = entry.error.as_ref().map_or_else(|| shared.status(), |(_, why, _)| why.clone());
            ending::python(py, || self.warn_waiting.bind(py).call1((search.method, text, partition, why)))?;
        }
        Ok(Look::Absent(version))
    }

    /// The words for a topic, or a partition, that did not appear.
    fn absent(&self, py: Python<'_>, name: &str, partition: Option<i32>, entry: &TopicEntry) -> PyResult<PyErr> {
        let (code, why) = entry.error.as_ref().map_or((0, ""), |(code, why, _)| (*code, why.as_str()));
        let arguments = [
            ("topic", PyString::new(py, name).into_any()),
            ("partition", partition.into_pyobject(py)?),
            ("partitions", entry.topic.as_ref().map_or(0, |topic| topic.partitions()).into_pyobject(py)?.into_any()),
            ("waited_ms", (self.max_block.as_millis() as u64).into_pyobject(py)?.into_any()),
            ("code", code.into_pyobject(py)?.into_any()),
            ("message", PyString::new(py, why).into_any()),
            ("status", PyString::new(py, &self.core.shared.status()).into_any()),
        ];
        Ok(python::error_by(py, "metadata_timeout", &arguments))
    }
}

/// The name as Rust's text; what has none (a lone surrogate in it) is no topic.
#[inline]
fn text_of<'a>(py: Python<'_>, name: &'a Bound<'_, PyString>) -> Quick<&'a str> {
    name.to_str().map_err(|_| no_topic(py, name).into())
}

#[cold]
fn no_topic(py: Python<'_>, name: &Bound<'_, PyString>) -> PyErr {
    let illegal = check_topic(py, &name.to_string_lossy()).err();
    illegal.unwrap_or_else(|| PyTypeError::new_err("the topic is no text"))
}

#[inline]
fn has_partition(topic: &Topic, partition: Option<i32>) -> bool {
    partition.is_none_or(|partition| (partition as u32) < topic.partitions())
}

/// Add a wait to a counter of ns.
pub fn count_wait(counter: &AtomicU64, began: Instant) {
    counter.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
}

/// ms since the epoch.
#[expect(clippy::disallowed_methods, reason = "a record's timestamp is the wall clock's, jumps and all")]
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
