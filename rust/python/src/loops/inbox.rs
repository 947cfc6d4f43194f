//! `LoopInbox`: the calls that are due in one event loop or greenlet hub.
//!
//! Nothing here calls into the user's code: `penstock.facade.loops` and `penstock._hubs` take calls out of an inbox and make them,
//! in the loop.

use std::sync::Arc;

use penstock_core::event_loop::LoopInbox as Inbox;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::loops::calls::{LOOP_CALLS, LoopCall};
use crate::loops::fairness;
use crate::result::delivery::outcome;

/// The calls that are due in one event loop; see `penstock_core::event_loop`.
#[pyclass(frozen, module = "penstock._native")]
pub struct LoopInbox {
    pub inbox: Arc<Inbox>,
}

#[pymethods]
impl LoopInbox {
    /// `watched`: the loop can watch a descriptor; otherwise a thread is to call `wait`.
    #[new]
    fn new(watched: bool) -> PyResult<Self> {
        #[cfg(unix)]
        if watched {
            return Ok(Self { inbox: Inbox::with_descriptor()? });
        }
        let _ = watched;
        Ok(Self { inbox: Inbox::with_thread() })
    }

    /// The descriptor to watch for reading.
    fn fileno(&self) -> PyResult<i32> {
        #[cfg(unix)]
        if let Some(descriptor) = self.inbox.descriptor() {
            return Ok(descriptor);
        }
        Err(PyRuntimeError::new_err("there is no descriptor: a thread waits"))
    }

    /// Up to `limit` calls that are due, as (function, arguments, context), and whether to call again soon. A context of
    /// None is the caller's own.
    fn take<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<(Bound<'py, PyList>, bool)> {
        let (tokens, more) = self.inbox.take(limit);
        fairness::loop_runs();
        let calls = PyList::empty(py);
        for token in tokens {
            let call = match LOOP_CALLS.remove(token) {
                None => continue,
                Some(LoopCall::Done { function, future, context }) => (function, PyTuple::new(py, [future])?, context),
                Some(LoopCall::Forwarded { function, context, arguments }) => {
                    (function, arguments.into_bound(py), context)
                }
                Some(LoopCall::Wake { function }) => (function, PyTuple::empty(py), py.None()),
                Some(LoopCall::Outcome { function, context, completion, index, sizes }) => {
                    let (leaf, index) = completion.leaf(index);
                    let Some(arguments) = outcome(py, &leaf, index, &sizes)? else { continue };
                    (function, arguments.into_pyobject(py)?, context)
                }
            };
            calls.append(call)?;
        }
        Ok((calls, more))
    }

    /// Have `wake()` called in the loop, after all that is due now.
    fn post(&self, wake: Py<PyAny>) {
        self.inbox.post([LOOP_CALLS.insert(LoopCall::Wake { function: wake })]);
    }

    /// Wait, without the GIL, until the loop has to call `take`. False: the loop has ended.
    fn wait(&self, py: Python<'_>) -> bool {
        py.detach(|| self.inbox.wait())
    }

    /// The loop has ended: no more calls are made there, and those that were due are dropped.
    fn close(&self) {
        self.inbox.close();
        for token in self.inbox.take(usize::MAX).0 {
            LOOP_CALLS.remove(token);
        }
    }

    /// Whether no more calls can come in that a second `close` would have to drop.
    fn is_forgotten(&self) -> bool {
        Arc::strong_count(&self.inbox) == 1
    }

    /// The loop has run: coroutines of this thread may continue without suspending for another time slice.
    #[staticmethod]
    fn begin_slice() {
        fairness::begin_slice();
    }
}
