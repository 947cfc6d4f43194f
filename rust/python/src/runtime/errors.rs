//! Errors that native code raises or reports: Python code makes them (see `upcalls`).

use penstock_core::literal::Literal;
use penstock_core::outcome::{Completion, Failure};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::runtime::shutdown::{self, python};
use crate::runtime::upcalls::{self, Upcall};

/// A result on the path of each record. Its error is boxed, so that the whole fits into registers. With a `PyErr` by value
/// each result is written to memory and read from there at once, which the processor has to wait for.
pub type Quick<T> = Result<T, Box<PyErr>>;

/// An error that Python code has made. After shutdown has begun that code may not find its own names any more; a simpler
/// error takes its place then.
fn made<'py>(py: Python<'py>, made: PyResult<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    match made {
        Err(_) if shutdown::has_begun() => {
            upcalls::PRODUCER_CLOSED_ERROR.get(py)?.call1(("the interpreter has ended",))
        }
        made => made,
    }
}

/// The same, ready to be raised.
fn raised(py: Python<'_>, error: PyResult<Bound<'_, PyAny>>) -> PyErr {
    made(py, error).map_or_else(|error| error, PyErr::from_value)
}

/// The producer is closed.
#[cold]
pub fn closed(py: Python<'_>) -> PyErr {
    if !shutdown::is_exiting() {
        return error(py, &upcalls::PRODUCER_CLOSED_ERROR, "the producer is closed", &[]);
    }
    let hint = "Send earlier: destructors, and `atexit` callbacks after Penstock's own, are too late.";
    let context = [("hint", PyString::new(py, hint).into_any())];
    error(py, &upcalls::PRODUCER_CLOSED_ERROR, "the producer is closed, because the interpreter is exiting", &context)
}

/// Raise when it is too late for a new producer: threads that are started during shutdown never run.
pub fn check_shutdown(py: Python<'_>) -> PyResult<()> {
    if !shutdown::has_begun() {
        return Ok(());
    }
    Err(error(
        py,
        &upcalls::KAFKA_ERROR,
        "no producer can be made while the interpreter ends: its threads would not run",
        &[],
    ))
}

/// An instance of an error class with a message and keyword context, ready to be raised.
pub fn error(py: Python<'_>, class: &Upcall, message: &str, context: &[(&str, Bound<'_, PyAny>)]) -> PyErr {
    let error = python(py, || {
        let class = class.get(py)?;
        let kwargs = PyDict::new(py);
        for (name, value) in context {
            kwargs.set_item(name, value)?;
        }
        class.call((message,), Some(&kwargs))
    });
    raised(py, error)
}

/// Log what a callback raised that ran on the caller's own thread.
pub fn report_callback_error(py: Python<'_>, function: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
    if shutdown::has_begun() {
        // As Python itself does it during shutdown, where `logging` would fail.
        python(py, || error.write_unraisable(py, Some(function)));
        return Ok(());
    }
    python(py, || upcalls::REPORT_CALLBACK_ERROR.get(py)?.call1((function, error.into_value(py))).map(drop))
}

/// The error for a Kafka code, ready to be raised.
pub fn error_for_code(py: Python<'_>, code: i16, message: &str, topic: Option<&str>) -> PyErr {
    let error = python(py, || {
        let kwargs = PyDict::new(py);
        if let Some(topic) = topic {
            kwargs.set_item("topic", topic)?;
        }
        upcalls::ERROR_FOR_CODE.get(py)?.call((code, message), Some(&kwargs))
    });
    raised(py, error)
}

/// The error that a function makes of these keyword arguments, ready to be raised.
pub fn error_by(py: Python<'_>, function: &Upcall, arguments: &[(&str, Bound<'_, PyAny>)]) -> PyErr {
    let error = python(py, || {
        let kwargs = PyDict::new(py);
        for (name, value) in arguments {
            kwargs.set_item(name, value)?;
        }
        function.get(py)?.call((), Some(&kwargs))
    });
    raised(py, error)
}

/// Whether an error is one of Penstock's: not Ctrl-C, and not what a signal handler raised.
pub fn is_kafka_error(py: Python<'_>, error: &PyErr) -> bool {
    upcalls::KAFKA_ERROR.get(py).is_ok_and(|class| error.matches(py, class).unwrap_or(false))
}

/// Whether the records that follow would get the same error, after the same wait.
pub fn is_final(py: Python<'_>, error: &PyErr) -> bool {
    [&upcalls::KAFKA_TIMEOUT_ERROR, &upcalls::PRODUCER_CLOSED_ERROR]
        .iter()
        .any(|class| class.get(py).is_ok_and(|class| error.matches(py, class).unwrap_or(false)))
}

/// The error that keeps one of many records out of the buffer, as a `KafkaError`.
pub fn not_buffered(py: Python<'_>, error: PyErr, topic: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    if is_kafka_error(py, &error) {
        return Ok(error.into_value(py).into_any());
    }
    python(py, || upcalls::NOT_BUFFERED.get(py)?.call1((error.into_value(py), topic)).map(Bound::unbind))
}

/// The error object of one failed record (`penstock.errors.delivery_error`).
pub fn delivery_error<'py>(
    py: Python<'py>,
    completion: &Completion,
    failure: &Failure,
    index: u32,
) -> PyResult<Bound<'py, PyAny>> {
    let mine = failure.record_errors.iter().find(|(at, _)| *at == index);
    let record_error = mine.map(|(_, why)| why.clone().unwrap_or_default());
    let kwargs = PyDict::new(py);
    kwargs.set_item("code", failure.code)?;
    kwargs.set_item("kind", failure.kind.as_str())?;
    kwargs.set_item("stage", failure.stage)?;
    kwargs.set_item("topic", &*completion.topic)?;
    kwargs.set_item("partition", completion.partition)?;
    kwargs.set_item("broker", failure.broker)?;
    kwargs.set_item("attempts", failure.attempts)?;
    kwargs.set_item("possibly_persisted", failure.possibly_persisted)?;
    kwargs.set_item("message", if failure.message.is_empty() { None } else { Some(&failure.message) })?;
    kwargs.set_item("elapsed_ms", failure.age_ms(index))?;
    kwargs.set_item("batch_ms", failure.elapsed_ms)?;
    kwargs.set_item("record_error", record_error)?;
    kwargs.set_item("blamed", failure.record_errors.len())?;
    made(py, python(py, || upcalls::DELIVERY_ERROR.get(py)?.call((), Some(&kwargs))))
}
