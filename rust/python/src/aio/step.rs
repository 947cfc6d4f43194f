//! `Step`: the result of one `attempt` of a pending operation, which `penstock.aio` acts on.

use std::time::Duration;

use pyo3::IntoPyObjectExt;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// See the module. In Python each is a pair of a word and a value, as noted.
pub enum Step<T> {
    /// `("done", result)`
    Done(T),
    /// `("wait", seconds)`: until the wake-up function is called, at most this long (None: without limit).
    Wait(Option<Duration>),
    /// `("yield", times)`: to the event loop, so often.
    Yield(u8),
    /// `("await", awaitable)`: and report its result.
    Await(Py<PyAny>),
}

impl<'py, T: IntoPyObject<'py>> IntoPyObject<'py> for Step<T> {
    type Target = PyTuple;
    type Output = Bound<'py, PyTuple>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        match self {
            Self::Done(result) => (intern!(py, "done"), result.into_bound_py_any(py)?).into_pyobject(py),
            Self::Wait(patience) => (intern!(py, "wait"), patience.map(|it| it.as_secs_f64())).into_pyobject(py),
            Self::Yield(times) => (intern!(py, "yield"), times).into_pyobject(py),
            Self::Await(awaitable) => (intern!(py, "await"), awaitable).into_pyobject(py),
        }
    }
}
