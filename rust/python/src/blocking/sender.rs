//! `Sender`: the base class of the blocking facade, with the native `send`, `send_many` and `send_arrow`.

use std::sync::OnceLock;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::blocking::bulk::run;
use crate::blocking::bulk_result::BulkResult;
use crate::blocking::future::DeliveryFuture;
use crate::blocking::waits::InCall;
use crate::bulk::arrow::names::Names;
use crate::bulk::arrow::rows::ArrowRows;
use crate::bulk::call::Ongoing;
use crate::bulk::many::Many;
use crate::record::arguments::extract_partition;
use crate::runtime::engine::Engine;
use crate::runtime::errors;
use crate::send::call::{Call, Place};
use crate::send::state::{State, attached};

/// The native half of the blocking facade. Not to be constructed by itself.
#[pyclass(frozen, subclass, generic, weakref, module = "penstock._native")]
pub struct Sender {
    state: OnceLock<State>,
}

#[pymethods]
impl Sender {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(py: Python<'_>, _args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        // The subclass checks the arguments, then calls `_attach`.
        errors::check_shutdown(py)?;
        Ok(Self { state: OnceLock::new() })
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
        interceptors: Option<&Bound<'_, PyAny>>,
        warn_waiting: Py<PyAny>,
        max_block_ms: u64,
    ) -> PyResult<()> {
        let (key, value) = ((key_fast, key_serializer), (value_fast, value_serializer));
        let state = State::new(&engine.get().core, key, value, partitioner, interceptors, warn_waiting, max_block_ms)?;
        self.state.set(state).map_err(|_| PyRuntimeError::new_err("attached before"))
    }

    /// Send a record, given whole or in short form, and return its `DeliveryFuture` at once.
    ///
    /// Blocks only while the topic is not known yet or buffer.memory is used up, up to max.block.ms. Raises the error that
    /// keeps the record out of the buffer: `SerializationError`, `InvalidTopicError`, `RecordTooLargeError`,
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
        let state = attached(&slf.get().state)?;
        let call = Call::new(py, topic, value, key, partition, timestamp, headers, callback);
        call.and_then(|call| {
            state.core.check_fork(py)?;
            state.check_open(py)?;
            state.deliver(py, &call, &InCall::new(), &|place: Place| {
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
    /// records that cannot be buffered are in the result's `errors` (Ctrl-C is raised; records buffered by then are sent). A
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
        let state = attached(&slf.get().state)?;
        let partition = extract_partition(partition)?;
        let call = Ongoing::begin(state, py, topic, "send_many")?;
        run(call, state, py, &mut Many::new(state, values, keys, headers, timestamps, partition, false)?)
    }

    /// Send the rows of Arrow data to a topic and return when all are buffered.
    ///
    /// `data` is a table, a record batch, a stream or a data frame: anything with `__arrow_c_stream__` or
    /// `__arrow_c_array__`. A stream is read batch by batch. The arguments name columns:
    ///
    /// `value`: one column is written unchanged (binary and strings their bytes, int16 to int64 and floats as Java's
    /// serializers do, big-endian; null is a tombstone); a list of columns as a JSON object; None the whole row as JSON,
    /// but for the columns of `partition` and `headers`. `key`: the same; None for no key. `partition`: a column of
    /// integers (null: the partitioner chooses), or one number for all. `timestamp`: int64 ms or an Arrow timestamp
    /// (without a zone taken for UTC; null: now). `headers`: a map, or a list of structs of key and value.
    ///
    /// `index`: whether the levels of a pandas index are fields of the whole row. None: those with a name are, the others
    /// are not. True: all of them, those without a name as `__index_level_0__` and so on. False: none. A level that is named
    /// in `value`, `key` or another argument is always found. The same holds for Arrow data that was made from pandas.
    ///
    /// In JSON, NaN and infinities are null, binary is base64, UUIDs (`arrow.uuid`) are text, times are ISO 8601, decimals
    /// are numbers with all their digits. Serializers do not apply; interceptors and partitioners do. Errors are raised or
    /// reported as by `send_many`; data that the schema rules out raises `ValueError` or `TypeError` before anything is
    /// buffered.
    #[pyo3(signature = (
        topic, data, *, value = None, key = None, partition = None, timestamp = None, headers = None, index = None
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
        index: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<BulkResult> {
        let state = attached(&slf.get().state)?;
        let names = Names::read(value, key, partition, timestamp, headers, index)?;
        let call = Ongoing::begin(state, py, topic, "send_arrow")?;
        run(call, state, py, &mut ArrowRows::open(state, data, &names)?)
    }

    /// Wait up to max.block.ms until a topic is known, on behalf of `partitions_for`.
    fn _await_topic(&self, py: Python<'_>, topic: &Bound<'_, PyString>) -> PyResult<()> {
        let state = attached(&self.state)?;
        state.core.check_fork(py)?;
        state.check_open(py)?;
        InCall::new().find(state, py, topic, None, "partitions_for").map(drop)
    }
}
