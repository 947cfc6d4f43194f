//! The application's interceptors: they get each record first, and its outcome before its callback.

use pyo3::exceptions::PyBaseException;
use pyo3::intern;
use pyo3::prelude::*;

use crate::record::producer_record::ProducerRecord;
use crate::runtime::shutdown;
use crate::send::call::Call;

/// The interceptors of one producer, as `penstock.facade` calls them.
pub struct Interceptors {
    /// An object with `on_send(record)`, `wrap(record, callback)` and `on_send_error(record, error)`.
    chain: Py<PyAny>,
    /// Without an `on_acknowledgement`, outcomes need no callback.
    pub want_acknowledgements: bool,
}

impl Interceptors {
    pub fn new(chain: &Bound<'_, PyAny>) -> PyResult<Self> {
        let want_acknowledgements = chain.getattr(intern!(chain.py(), "wants_acknowledgements"))?.extract()?;
        Ok(Self { chain: chain.clone().unbind(), want_acknowledgements })
    }

    /// The record after the interceptors.
    pub fn on_send<'py>(&self, py: Python<'py>, call: &Call<'_, 'py>) -> PyResult<Bound<'py, ProducerRecord>> {
        let record = call.record(py)?;
        let record = shutdown::python(py, || self.chain.bind(py).call_method1(intern!(py, "on_send"), (record,)))?;
        Ok(record.cast_into::<ProducerRecord>()?)
    }

    /// `callback` with the interceptors before it. None: there is nothing to call.
    pub fn wrap<'py>(
        &self,
        record: &Bound<'py, ProducerRecord>,
        callback: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if !self.want_acknowledgements {
            return Ok(callback.cloned());
        }
        let py = record.py();
        let wrap = || self.chain.bind(py).call_method1(intern!(py, "wrap"), (record, callback));
        shutdown::python(py, wrap).map(Some)
    }

    /// Report to the interceptors why a record was not sent.
    pub fn on_send_error<'py>(&self, record: &Bound<'py, ProducerRecord>, error: &Bound<'py, PyBaseException>) {
        let py = record.py();
        // The hook logs its own errors; the caller gets `error`.
        let report = || self.chain.bind(py).call_method1(intern!(py, "on_send_error"), (record, error));
        let _ = shutdown::python(py, report);
    }
}
