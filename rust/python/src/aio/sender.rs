//! `AsyncSender`: the base class of the asyncio facade, with a native `send` that suspends only if it must.
//!
//! The common record is buffered inside the call, and the call returns an awaitable that is over at its first step. A record
//! that has to wait becomes a [`PendingSend`].

use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::aio::awaitable::Sending;
use crate::aio::bulk::{PendingBulk, Records};
use crate::aio::future::AsyncDeliveryFuture;
use crate::aio::pending::PendingSend;
use crate::aio::topic::PendingTopic;
use crate::aio::waits::AtOnce;
use crate::bulk::arrow::names::Names;
use crate::bulk::arrow::rows::ArrowRows;
use crate::bulk::call::Ongoing;
use crate::bulk::many::Many;
use crate::loops::fairness;
use crate::record::arguments::extract_partition;
use crate::runtime::engine::Engine;
use crate::runtime::errors::{self, Quick};
use crate::runtime::shutdown;
use crate::send::call::{Call, Place};
use crate::send::state::{State, attached};

/// The native half of the asyncio facade. Not to be constructed by itself.
#[pyclass(frozen, subclass, generic, weakref, module = "penstock._native")]
pub struct AsyncSender {
    state: OnceLock<Arc<State>>,
}

/// The future of a record that was buffered by the call itself, and the time (ms) if the clock was read.
type AtOnceResult = (Py<AsyncDeliveryFuture>, Option<i64>);

#[pymethods]
impl AsyncSender {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(py: Python<'_>, _args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        errors::check_shutdown(py)?;
        Ok(Self { state: OnceLock::new() })
    }

    /// Connect the facade with its engine, as `Sender._attach`.
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
        self.state.set(Arc::new(state)).map_err(|_| PyRuntimeError::new_err("attached before"))
    }

    /// Send a record, given whole or in short form: `await` it for its `AsyncDeliveryFuture`.
    ///
    /// The record is buffered by the call itself, unless its topic is not known yet or buffer.memory is used up: then
    /// the await waits, up to max.block.ms. It raises every error that keeps the record out of the buffer, as
    /// `KafkaProducer.send`. All that happens later is in the future, and goes to `callback(metadata, error)`, which runs
    /// exactly once, in the loop of this call.
    ///
    /// Cancelled while it waits, the record is not sent. A coroutine that only sends yields to its loop every few ms.
    #[pyo3(signature = (
        topic, value = None, *, key = None, partition = None, timestamp = None, headers = None, callback = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "the short form's keywords")]
    fn send<'py>(
        slf: &Bound<'py, Self>,
        py: Python<'py>,
        topic: &Bound<'py, PyAny>,
        value: Option<&Bound<'py, PyAny>>,
        key: Option<&Bound<'py, PyAny>>,
        partition: Option<&Bound<'py, PyAny>>,
        timestamp: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        callback: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let state = attached(&slf.get().state)?;
        let call = Call::new(py, topic, value, key, partition, timestamp, headers, callback).map_err(|error| *error)?;
        let begun = if call.callback.is_none() && state.interceptors.is_none() {
            Self::at_once(state, py, &call)
        } else {
            Ok(None)
        };
        match begun {
            Ok(Some((future, at_ms))) => {
                let yields = fairness::step(py, at_ms).map_err(|error| *error)?;
                Ok(Bound::new(py, Sending::new(future, yields))?.into_any())
            }
            Ok(None) => Self::with_more(slf, state, py, &call),
            // Raised by the await, as of any coroutine.
            Err(error) => Self::later(slf, py, "_refused", (error.into_value(py),)),
        }
    }

    /// A `send_many` that has not begun.
    #[pyo3(signature = (topic, values, keys = None, headers = None, timestamps = None, partition = None))]
    #[expect(clippy::too_many_arguments, reason = "the columns")]
    fn _send_many(
        slf: &Bound<'_, Self>,
        py: Python<'_>,
        topic: &Bound<'_, PyAny>,
        values: &Bound<'_, PyAny>,
        keys: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
        timestamps: Option<&Bound<'_, PyAny>>,
        partition: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PendingBulk> {
        let state = attached(&slf.get().state)?;
        let partition = extract_partition(partition)?;
        let call = Ongoing::begin(state, py, topic, "send_many")?;
        let records = Many::new(state, values, keys, headers, timestamps, partition, true)?;
        Ok(PendingBulk::new(Arc::clone(state), call, Records::Many(Box::new(records))))
    }

    /// A `send_arrow` that has not begun.
    #[pyo3(signature = (
        topic, data, value = None, key = None, partition = None, timestamp = None, headers = None, index = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "the columns")]
    fn _send_arrow(
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
    ) -> PyResult<PendingBulk> {
        let state = attached(&slf.get().state)?;
        let names = Names::read(value, key, partition, timestamp, headers, index)?;
        let call = Ongoing::begin(state, py, topic, "send_arrow")?;
        let rows = ArrowRows::open_in_loop(state, data, &names)?;
        Ok(PendingBulk::new(Arc::clone(state), call, Records::Arrow(Box::new(rows.into()))))
    }

    /// Find a topic on behalf of `partitions_for`.
    fn _find_topic(slf: &Bound<'_, Self>, topic: Py<PyString>) -> PyResult<PendingTopic> {
        let state = attached(&slf.get().state)?;
        state.core.check_fork(slf.py())?;
        Ok(PendingTopic::new(state, topic))
    }
}

impl AsyncSender {
    /// The common record: no wait, no callback, no interceptors. None: it has to wait.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "on the path of each record")]
    fn at_once<'py>(state: &State, py: Python<'py>, call: &Call<'_, 'py>) -> Quick<Option<AtOnceResult>> {
        state.core.check_fork(py)?;
        state.check_open(py)?;
        let done = state.send(py, call, &AtOnce, &|Place { completion, index, sizes }: Place| {
            // The clock was read for the record, if the caller gave no timestamp.
            let at_ms = if call.timestamp.is_none() { Some(sizes.timestamp) } else { None };
            Ok((Py::new(py, AsyncDeliveryFuture::new(completion, index, sizes, false))?, at_ms))
        });
        match done {
            Ok(done) => Ok(Some(done)),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    fn with_more<'py>(
        slf: &Bound<'py, Self>,
        state: &Arc<State>,
        py: Python<'py>,
        call: &Call<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let begun = state.core.check_fork(py).and_then(|()| state.check_open(py));
        // Tried once here, so that a record is buffered by the call wherever it can be.
        match begun.and_then(|()| PendingSend::try_or_keep(state, py, call)) {
            Ok(Ok(buffered)) => {
                let future = Py::new(py, buffered.future(py)?)?;
                let yields = fairness::step(py, None).map_err(|error| *error)?;
                Ok(Bound::new(py, Sending::new(future, yields))?.into_any())
            }
            Ok(Err(pending)) => Self::later(slf, py, "_send_later", (pending,)),
            Err(error) => Self::later(slf, py, "_refused", (error.into_value(py),)),
        }
    }

    /// A coroutine of `penstock.aio`.
    fn later<'py>(
        slf: &Bound<'py, Self>,
        py: Python<'py>,
        method: &str,
        arguments: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        shutdown::python(py, || slf.as_any().call_method1(method, arguments))
    }
}
