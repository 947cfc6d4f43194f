//! `InLoop`: a callback that the callback thread forwards to its event loop.

use std::sync::Arc;

use penstock_core::event_loop::LoopInbox as Inbox;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::loops::calls::{LOOP_CALLS, LoopCall};

/// A callback of the application for which the callback thread has work first: it calls interceptors with the outcome, or
/// finds out that a bulk result is done. Then the callback is called in its loop.
#[pyclass(frozen, module = "penstock._native")]
pub struct InLoop {
    pub inbox: Arc<Inbox>,
    pub function: Py<PyAny>,
    pub context: Py<PyAny>,
}

#[pymethods]
impl InLoop {
    #[pyo3(signature = (*outcome))]
    fn __call__(&self, py: Python<'_>, outcome: Bound<'_, PyTuple>) {
        let (function, context) = (self.function.clone_ref(py), self.context.clone_ref(py));
        let call = LoopCall::Forwarded { function, context, arguments: outcome.unbind() };
        self.inbox.post([LOOP_CALLS.insert(call)]);
    }
}
