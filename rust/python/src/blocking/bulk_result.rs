//! `BulkResult`: the outcomes of a bulk call, with waits that block.

use std::sync::Arc;

use pyo3::exceptions::{PyException, PyTimeoutError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::result::end::AllEnds;
use crate::result::outcomes::Outcomes;
use crate::runtime::callbacks::{Watcher, watch};
use crate::runtime::errors;
use crate::runtime::shutdown;
use crate::runtime::timeout::{deadline, seconds};
use crate::runtime::waits::wait;

/// The outcomes of the records of one `send_many` or `send_arrow`, each by its index in what was given.
///
/// `len(result)` records were taken: all that were given, unless an iterator of unknown length stopped the call.
/// `errors`, `offsets` and `raise_for_errors` wait, as `result` does, until every record is delivered or has failed
/// (at most delivery.timeout.ms, plus a tick). Failures count as noticed once `errors` or `raise_for_errors` was read,
/// or there is a callback; else `flush` and `close` report them, as those of futures that were never read.
#[pyclass(frozen, module = "penstock")]
pub struct BulkResult {
    of: Arc<Outcomes>,
}

impl BulkResult {
    pub fn new(of: Outcomes) -> Self {
        Self { of: Arc::new(of) }
    }

    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        if self.of.is_done() {
            return Ok(());
        }
        self.of.check_fork(py)?;
        if wait(py, deadline(timeout), &mut AllEnds::new(&self.of))? {
            return Ok(());
        }
        let (pending, records) = self.of.pending();
        Err(PyTimeoutError::new_err(format!(
            "{pending} of {records} records for {} are still being sent after {} s; delivery.timeout.ms bounds how long \
             that can last",
            self.of.topic,
            timeout.unwrap_or_default(),
        )))
    }
}

#[pymethods]
impl BulkResult {
    /// Wait up to `timeout` seconds (None: without limit) until every record is delivered or has failed; returns itself.
    ///
    /// Raises the builtin `TimeoutError` while some are being sent, `ValueError` for a negative timeout. It does not raise
    /// for failed records: see `errors` and `raise_for_errors`.
    #[pyo3(signature = (timeout = None))]
    fn result<'py>(slf: &Bound<'py, Self>, timeout: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, Self>> {
        slf.get().wait(slf.py(), seconds(timeout)?)?;
        Ok(slf.clone())
    }

    /// Whether every record is delivered or has failed.
    fn done(&self) -> bool {
        self.of.is_done()
    }

    /// The failed records: index and error (several may share one). Empty when all is well.
    #[getter]
    fn errors(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        self.wait(py, None)?;
        Ok(self.of.errors(py)?.clone().unbind())
    }

    /// Wait, and raise `DeliveryError` if records failed: how many, and the first ones' errors.
    fn raise_for_errors(&self, py: Python<'_>) -> PyResult<()> {
        self.wait(py, None)?;
        self.of.raise_for_errors(py)
    }

    /// The records' offsets, an `array` of 64-bit ints: -1 for one that failed, or whose offset is unknown (acks=0).
    #[getter]
    fn offsets(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.wait(py, None)?;
        self.of.offsets(py)
    }

    /// The records' partitions, an `array` of 32-bit ints: -1 for one that could not be buffered. Does not wait.
    #[getter]
    fn partitions(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.of.partitions(py)
    }

    /// Bytes of all keys and values that were buffered, serialized.
    #[getter]
    fn serialized_bytes(&self) -> u64 {
        self.of.bytes()
    }

    /// Have `fn(result)` called on the callback thread once every record is resolved; at once, here, if all are already.
    /// An exception that it raises is logged.
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Bound<'_, PyAny>) -> PyResult<()> {
        let (py, of) = (slf.py(), &slf.get().of);
        if !r#fn.is_callable() {
            return Err(PyTypeError::new_err(format!("not callable: {}", r#fn.get_type())));
        }
        of.check_fork(py)?;
        of.observe();
        if let Some(Watcher { function, result }) = watch(of, r#fn.clone().unbind(), slf.clone().into_any().unbind(), 0)
            && let Err(error) = shutdown::python(py, || function.bind(py).call1((result,)))
        {
            // As `DeliveryFuture` does it.
            if !error.is_instance_of::<PyException>(py) {
                return Err(error);
            }
            errors::report_callback_error(py, &r#fn, error)?;
        }
        Ok(())
    }

    fn __len__(&self) -> usize {
        self.of.len()
    }

    /// True, also without records: `if result:` checks whether it is None.
    #[expect(clippy::unused_self, reason = "the signature is Python's")]
    fn __bool__(&self) -> bool {
        true
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let name = slf.get_type().getattr(intern!(slf.py(), "__name__"))?;
        Ok(slf.get().of.repr(name.cast::<PyString>()?.to_str()?))
    }
}
