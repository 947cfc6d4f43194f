//! `EndOfPython`: Python reports that the interpreter exits. Its destructor runs last, just before finalisation.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

use crate::runtime::{shutdown, upcalls};

/// Kept among the arguments of an `atexit` callback: they are dropped after the last callback has run, which is the last
/// moment before finalisation.
///
/// Earlier would be too early: a callback of the application may wait for a daemon thread that sends.
#[pyclass(frozen, module = "penstock._native")]
pub struct EndOfPython {
    has_come: AtomicBool,
}

#[pymethods]
impl EndOfPython {
    #[new]
    fn new() -> Self {
        Self { has_come: AtomicBool::new(false) }
    }

    /// The callbacks of `atexit` run. Without this call the drop does nothing: a child process drops them, too.
    fn has_come(&self, py: Python<'_>) -> PyResult<()> {
        self.has_come.store(true, Ordering::Relaxed);
        shutdown::begin_exit();
        upcalls::prepare_for_shutdown(py)
    }
}

impl Drop for EndOfPython {
    fn drop(&mut self) {
        if *self.has_come.get_mut() {
            Python::try_attach(shutdown::wait_for_calls);
        }
    }
}
