//! `Sending`: the awaitable of a record that its call has buffered.

use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::prelude::*;

use crate::aio::future::AsyncDeliveryFuture;
use crate::aio::returned::returned;

/// `await send(…)` of a record that is buffered: over at once, or after a yield to its loop.
///
/// A coroutine by its methods, so that a task can be made of it.
#[pyclass(module = "penstock._native")]
pub struct Sending {
    future: Option<Py<AsyncDeliveryFuture>>,
    /// How often to yield first.
    yields: u8,
}

impl Sending {
    pub fn new(future: Py<AsyncDeliveryFuture>, yields: u8) -> Self {
        Self { future: Some(future), yields }
    }
}

#[pymethods]
impl Sending {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if self.yields > 0 {
            self.yields -= 1;
            return Ok(Some(py.None()));
        }
        match self.future.take() {
            Some(future) => Err(returned(py, future)),
            None => Err(PyRuntimeError::new_err("cannot reuse an already awaited send()")),
        }
    }

    /// How a coroutine is continued.
    fn send(&mut self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let _ = value;
        self.__next__(py)
    }

    /// Raise the exception: the record is buffered, and is still sent.
    #[pyo3(signature = (kind, value = None, traceback = None))]
    fn throw(
        &mut self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = traceback;
        self.future = None;
        let error = match value.filter(|value| !value.is_none()) {
            Some(value) => value,
            None if kind.is_instance_of::<PyBaseException>() => kind.clone(),
            None => kind.call0()?,
        };
        let _ = py;
        Err(PyErr::from_value(error))
    }

    /// The coroutine is not needed any more.
    fn close(&mut self) {
        self.future = None;
    }
}
