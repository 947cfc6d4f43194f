//! How an `await` of a native awaitable returns its value.

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyBaseException, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::runtime::errors::Quick;

/// The `StopIteration` that an iterator raises at its end with a value, which is how an `await` returns.
///
/// One instance is used again and again, as long as no caller has kept it: to make one costs more than all else that
/// awaiting a future takes. It holds the last value until the next one comes.
pub fn returned<'py>(py: Python<'py>, value: impl IntoPyObject<'py>) -> PyErr {
    match stop_iteration(py, value) {
        Ok(stop) => {
            let stop = PyErr::from_value(stop.into_any());
            if stop.traceback(py).is_some() {
                // It was caught before, and keeps frames alive.
                stop.set_traceback(py, None);
            }
            stop
        }
        Err(error) => *error,
    }
}

#[inline]
fn stop_iteration<'py>(py: Python<'py>, value: impl IntoPyObject<'py>) -> Quick<Bound<'py, PyBaseException>> {
    static ONE: PyOnceLock<Py<PyBaseException>> = PyOnceLock::new();
    let fresh = || py.get_type::<PyStopIteration>().call0()?.cast_into::<PyBaseException>().map_err(PyErr::from);
    let value = value.into_bound_py_any(py)?;
    let one = ONE.get_or_try_init(py, || fresh().map(Bound::unbind))?.bind(py);
    // Python code that caught it (`next(future)`) may still hold it.
    #[expect(deprecated, reason = "what is to be used instead is unsafe")]
    let stop = if one.get_refcnt() == 1 { one.clone() } else { fresh()? };
    stop.setattr(intern!(py, "value"), value)?;
    Ok(stop)
}
