//! Waits in a greenlet (gevent, eventlet): other greenlets of the thread run meanwhile.
//!
//! `penstock._hubs` knows the libraries. Here a wait gives a notice, as a coroutine's does, and calls Python to be switched
//! away from. Frames of ours are on the greenlet's stack then, so that nothing thread-local may be borrowed exclusively and no lock
//! held. What a wait is ended by (`gevent.Timeout`, a kill) comes back as an error.

use std::time::{Duration, Instant};

use penstock_core::event_loop::{LoopToken, Notice};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::aio::loops::{LOOP_CALLS, LoopCall, LoopInbox, notice};
use crate::runtime::shutdown;

/// What ends the wait of one greenlet.
pub struct Bell<'py> {
    object: Bound<'py, PyAny>,
    pub inbox: Bound<'py, LoopInbox>,
    pub ring: Py<PyAny>,
}

/// For a wait of the caller; None where the thread itself may wait. Costs two look-ups where there are no greenlets.
pub fn bell(py: Python<'_>) -> PyResult<Option<Bell<'_>>> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let modules = MODULES.import(py, "sys", "modules")?;
    if !modules.contains(intern!(py, "gevent"))? && !modules.contains(intern!(py, "eventlet"))? {
        return Ok(None);
    }
    // Imported when it is first needed: it is loaded with the producers, after this module.
    let made = shutdown::python(py, || py.import(intern!(py, "penstock._hubs"))?.call_method0(intern!(py, "waiter")))?;
    if made.is_none() {
        return Ok(None);
    }
    let inbox = made.getattr(intern!(py, "inbox"))?.cast_into::<LoopInbox>()?;
    let ring = made.getattr(intern!(py, "wake"))?.unbind();
    Ok(Some(Bell { object: made, inbox, ring }))
}

impl Bell<'_> {
    /// What has the wait ended. To be given, or to be dropped with [`drop_notice`].
    pub fn notice(&self, py: Python<'_>) -> Notice {
        notice(&self.inbox.get().inbox, LoopCall::Wake { function: self.ring.clone_ref(py) })
    }

    /// Let other greenlets run until the notice is given, or until `until` (None: without limit). May return early.
    ///
    /// Not counted as a call that the end of the interpreter waits for: greenlets that never run again would hold it up.
    pub fn wait(&self, py: Python<'_>, until: Option<Instant>) -> PyResult<()> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()).as_secs_f64());
        self.object.call_method1(intern!(py, "wait"), (left,)).map(drop)
    }

    /// Wait until `look` says that it is over, or the deadline passes (false). `look` sees to it that a notice is given when
    /// there is something new to see.
    pub fn wait_until(
        &self,
        py: Python<'_>,
        deadline: Option<Instant>,
        mut look: impl FnMut() -> PyResult<bool>,
    ) -> PyResult<bool> {
        while !look()? {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            self.wait(py, deadline)?;
        }
        Ok(true)
    }
}

/// A notice that is not given.
pub fn drop_notice(token: LoopToken) {
    drop(LOOP_CALLS.remove(token));
}

/// A wait for a topic is looked after at least this often: it is asked for again.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);
