//! Waits in a greenlet (gevent, eventlet): other greenlets of the thread run meanwhile.
//!
//! `penstock._hubs` knows the libraries. A wait here registers a notice, as a coroutine's does, and calls Python to switch
//! to another greenlet. Frames of native code are on the greenlet's stack then, so that nothing thread-local may be
//! borrowed exclusively and no lock may be held. An exception that ends the wait (`gevent.Timeout`, a kill) comes back as
//! an error.

use std::sync::Arc;
use std::time::Instant;

use pyo3::intern;
use pyo3::prelude::*;

use crate::loops::calls::Waker;
use crate::loops::inbox::LoopInbox;
use crate::runtime::{shutdown, upcalls};

/// One greenlet's wait, and how it is woken.
pub struct GreenletWait<'py> {
    object: Bound<'py, PyAny>,
    pub waker: Waker,
}

/// For a wait of the caller; None where the thread itself may wait. Costs two look-ups where there are no greenlets.
pub fn greenlet_wait(py: Python<'_>) -> PyResult<Option<GreenletWait<'_>>> {
    let modules = upcalls::MODULES.get(py)?;
    if !modules.contains(intern!(py, "gevent"))? && !modules.contains(intern!(py, "eventlet"))? {
        return Ok(None);
    }
    let made = shutdown::python(py, || upcalls::WAITER.get(py)?.call0())?;
    if made.is_none() {
        return Ok(None);
    }
    let inbox = made.getattr(intern!(py, "inbox"))?.cast_into::<LoopInbox>()?;
    let function = made.getattr(intern!(py, "wake"))?.unbind();
    let waker = Waker { inbox: Arc::clone(&inbox.get().inbox), function };
    Ok(Some(GreenletWait { object: made, waker }))
}

impl GreenletWait<'_> {
    /// Let other greenlets run until the waker is called, or until `until` (None: without limit). May return early.
    ///
    /// Shutdown does not wait for this call: greenlets that never run again would block it.
    pub fn wait(&self, py: Python<'_>, until: Option<Instant>) -> PyResult<()> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()).as_secs_f64());
        self.object.call_method1(intern!(py, "wait"), (left,)).map(drop)
    }
}
