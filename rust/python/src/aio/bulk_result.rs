//! `AsyncBulkResult`: the outcomes of a bulk call, to be awaited.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::aio::end::PendingEnd;
use crate::aio::future::invalid_state;
use crate::aio::in_loop::InLoop;
use crate::aio::running;
use crate::result::outcomes::Outcomes;
use crate::runtime::callbacks::{Watcher, watch};
use crate::runtime::{shutdown, upcalls};

/// The outcomes of the records of one `send_many` or `send_arrow`, each by its index in what was given.
///
/// `await` it until every record is delivered or has failed (at most delivery.timeout.ms, plus a tick), any number of times
/// and in any loop: it is its own value, and does not raise for failed records. Then read `errors` and `offsets`, or
/// call `raise_for_errors`; before, these raise `asyncio.InvalidStateError`. Failures count as noticed once `errors` or
/// `raise_for_errors` was read, or there is a callback; else `flush` and `close` report them. Cancelling an await of it
/// unsends nothing.
///
/// `len(result)` records were taken: all that were given, unless an iterator of unknown length stopped the call.
#[pyclass(frozen, module = "penstock")]
pub struct AsyncBulkResult {
    of: Arc<Outcomes>,
}

impl AsyncBulkResult {
    pub fn new(of: Outcomes) -> Self {
        Self { of: Arc::new(of) }
    }

    fn ended(&self, py: Python<'_>) -> PyResult<&Outcomes> {
        if self.of.is_done() {
            return Ok(&self.of);
        }
        self.of.check_fork(py)?;
        let (pending, records) = self.of.pending();
        Err(invalid_state(py, &format!("{pending} of {records} records are still being sent: await the result first")))
    }
}

#[pymethods]
impl AsyncBulkResult {
    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let of = Arc::clone(&slf.get().of);
        let end = PendingEnd::new(&of);
        shutdown::python(py, || {
            let function = upcalls::UNTIL_RESOLVED.get(py)?;
            function.call1((slf, end))?.call_method0(intern!(py, "__await__"))
        })
    }

    /// Whether every record is delivered or has failed.
    fn done(&self) -> bool {
        self.of.is_done()
    }

    /// The failed records: index and error (several may share one). Empty when all is well.
    #[getter]
    fn errors(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        Ok(self.ended(py)?.errors(py)?.clone().unbind())
    }

    /// Raise `DeliveryError` if records failed: how many, and the first ones' errors.
    fn raise_for_errors(&self, py: Python<'_>) -> PyResult<()> {
        self.ended(py)?.raise_for_errors(py)
    }

    /// The records' offsets, an `array` of 64-bit ints: -1 for one that failed, or whose offset is unknown (acks=0).
    #[getter]
    fn offsets(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.ended(py)?.offsets(py)
    }

    /// The records' partitions, an `array` of 32-bit ints: -1 for one that could not be buffered. Known at once.
    #[getter]
    fn partitions(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.of.partitions(py)
    }

    /// Bytes of all keys and values that were buffered, serialized.
    #[getter]
    fn serialized_bytes(&self) -> u64 {
        self.of.bytes()
    }

    /// Have `fn(result)` called in the running loop once every record is resolved. Its exceptions go to the loop's
    /// exception handler.
    #[pyo3(signature = (r#fn, *, context = None))]
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Py<PyAny>, context: Option<Py<PyAny>>) -> PyResult<()> {
        let (py, of) = (slf.py(), &slf.get().of);
        if !r#fn.bind(py).is_callable() {
            return Err(PyTypeError::new_err(format!("not callable: {}", r#fn.bind(py).get_type())));
        }
        of.check_fork(py)?;
        let (_, inbox) = running::here(py)?;
        let context = context.map_or_else(|| running::copy_context(py), Ok)?;
        of.observe();
        let in_loop = Py::new(py, InLoop { inbox, function: r#fn, context })?.into_any();
        match watch(of, in_loop, slf.clone().into_any().unbind(), 0) {
            None => Ok(()),
            Some(Watcher { function, result }) => function.bind(py).call1((result,)).map(drop),
        }
    }

    fn __len__(&self) -> usize {
        self.of.len()
    }

    /// True, also without records: `if result:` checks whether it is None.
    #[expect(clippy::unused_self, reason = "the signature is Python's")]
    fn __bool__(&self) -> bool {
        true
    }

    fn __repr__(&self) -> String {
        self.of.repr("AsyncBulkResult")
    }
}
