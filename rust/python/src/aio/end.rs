//! `PendingEnd`: `result::end` as an object with `attempt`, for `await` of a bulk result.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::aio::step::Step;
use crate::loops::calls::Waker;
use crate::loops::inbox::LoopInbox;
use crate::result::end::EndWait;
use crate::result::outcomes::Outcomes;

/// See the module.
#[pyclass(module = "penstock._native")]
pub struct PendingEnd {
    wait: EndWait,
    of: Arc<Outcomes>,
}

impl PendingEnd {
    pub fn new(of: &Arc<Outcomes>) -> Self {
        Self { wait: EndWait::of_call(of), of: Arc::clone(of) }
    }
}

#[pymethods]
impl PendingEnd {
    /// Done when all records are resolved.
    fn attempt(&mut self, py: Python<'_>, inbox: &Bound<'_, LoopInbox>, wake: Py<PyAny>) -> PyResult<Step<()>> {
        self.of.check_fork(py)?;
        let waker = Waker { inbox: Arc::clone(&inbox.get().inbox), function: wake };
        Ok(if self.wait.poll(py, Some(&waker)) { Step::Done(()) } else { Step::Wait(None) })
    }
}

impl Drop for PendingEnd {
    fn drop(&mut self) {
        if !self.of.is_foreign() {
            self.wait.forget();
        }
    }
}
