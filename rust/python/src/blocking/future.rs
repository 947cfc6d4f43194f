//! `DeliveryFuture`: a record's delivery as a future of `concurrent.futures`' kind, which blocks.

use std::sync::Arc;

use penstock_core::outcome::{Completion, Outcome};
use pyo3::exceptions::{PyException, PyTimeoutError, PyTypeError};
use pyo3::prelude::*;

use crate::record::metadata::RecordMetadata;
use crate::result::delivery::{Delivery, Sizes};
use crate::result::end::RecordEnd;
use crate::runtime::callbacks::{CALLBACKS, Callback};
use crate::runtime::errors;
use crate::runtime::shutdown;
use crate::runtime::timeout::{deadline, seconds};
use crate::runtime::waits::wait;

/// The result of one `send`, resolved no later than delivery.timeout.ms after it (plus a tick).
///
/// Timeouts are seconds; infinity is as None, and a negative one raises `ValueError`. `result` and `exception` raise the
/// builtin `TimeoutError` while the record is still being sent; a record that ran out of time raises `KafkaTimeoutError`.
/// It cannot be cancelled: a record cannot be unsent.
// No weak references: they would make a future a subject of the garbage collector, and a million futures a long scan
// (measured: 38 % of the time of `send`).
#[pyclass(frozen, module = "penstock")]
pub struct DeliveryFuture {
    delivery: Delivery,
}

impl DeliveryFuture {
    pub fn new(completion: Arc<Completion>, index: u32, sizes: Sizes) -> Self {
        Self { delivery: Delivery::new(completion, index, sizes) }
    }

    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.delivery.observe(py)?;
        if self.delivery.done() || wait(py, deadline(timeout), &mut RecordEnd::new(&self.delivery))? {
            return Ok(());
        }
        let completion = &self.delivery.completion;
        Err(PyTimeoutError::new_err(format!(
            "the record for {}-{} is still being sent after {} s; delivery.timeout.ms bounds how long that can last",
            completion.topic,
            completion.partition,
            timeout.unwrap_or_default(),
        )))
    }
}

#[pymethods]
impl DeliveryFuture {
    /// Wait up to `timeout` seconds (None: without limit) and return the `RecordMetadata`, or raise why it failed.
    #[pyo3(signature = (timeout = None))]
    fn result(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<RecordMetadata> {
        let timeout = seconds(timeout)?;
        if let Some(metadata) = self.delivery.delivered() {
            return Ok(metadata);
        }
        self.wait(py, timeout)?;
        self.delivery.resolved(py)?.map_err(|error| PyErr::from_value(error.into_bound(py)))
    }

    /// Wait up to `timeout` seconds (None: without limit) and return the error, or None if the record was delivered.
    #[pyo3(signature = (timeout = None))]
    fn exception(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        let timeout = seconds(timeout)?;
        if matches!(self.delivery.completion.outcome(), Some(Outcome::Delivered { .. })) {
            return Ok(None);
        }
        self.wait(py, timeout)?;
        Ok(self.delivery.resolved(py)?.err())
    }

    /// Whether the record is delivered or has failed.
    fn done(&self) -> bool {
        self.delivery.done()
    }

    /// Whether the record is still being sent.
    fn running(&self) -> bool {
        !self.delivery.done()
    }

    /// False: a record that was sent cannot be unsent.
    #[expect(clippy::unused_self, reason = "the signature is concurrent.futures'")]
    fn cancel(&self) -> bool {
        false
    }

    /// False, always.
    #[expect(clippy::unused_self, reason = "the signature is concurrent.futures'")]
    fn cancelled(&self) -> bool {
        false
    }

    /// Have `fn(future)` called on the callback thread once the record is resolved; at once, here, if it is already.
    /// An exception that it raises is logged.
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Bound<'_, PyAny>) -> PyResult<()> {
        if !r#fn.is_callable() {
            return Err(PyTypeError::new_err(format!("not callable: {}", r#fn.get_type())));
        }
        let this = &slf.get().delivery;
        this.observe(slf.py())?;
        let callback = Callback::Done { function: r#fn.clone().unbind(), future: slf.clone().into_any().unbind() };
        let token = CALLBACKS.insert(callback);
        let added = if this.done() { Err(token) } else { this.completion.add_callback(this.index, token, true) };
        if let Err(token) = added {
            CALLBACKS.remove(token);
            if let Err(error) = shutdown::python(slf.py(), || r#fn.call1((slf,))) {
                // As `concurrent.futures`. Ctrl-C and the like are raised: they are not errors of the callback.
                let py = slf.py();
                if !error.is_instance_of::<PyException>(py) {
                    return Err(error);
                }
                errors::report_callback_error(py, &r#fn, error)?;
            }
        }
        Ok(())
    }

    fn __repr__(&self) -> String {
        self.delivery.repr("DeliveryFuture")
    }
}
