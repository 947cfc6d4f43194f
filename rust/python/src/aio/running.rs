//! The event loop that runs in this thread, with its inbox.

use std::sync::Arc;
use std::thread::ThreadId;

use penstock_core::event_loop::LoopInbox as Inbox;
use penstock_core::sync::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use crate::loops::inbox::LoopInbox;
use crate::runtime::{shutdown, upcalls};

/// The loop that was found last, and how to check that it is still the one that runs here.
struct Last {
    thread: ThreadId,
    /// Python's number of that thread, if the loop stores which thread runs it.
    ident: Option<u64>,
    event_loop: Py<PyWeakrefReference>,
    inbox: Arc<Inbox>,
}

static LAST: Mutex<Option<Last>> = Mutex::new(None);

/// The loop that was found last, if it runs here now. asyncio's own loops store which thread runs them. To read that costs
/// less than `get_running_loop`, which makes a system call before CPython 3.12.
fn last(py: Python<'_>) -> Option<(Bound<'_, PyAny>, Arc<Inbox>)> {
    let last = LAST.lock();
    let known = last.as_ref().filter(|last| last.thread == std::thread::current().id())?;
    let (event_loop, ident, inbox) = (known.event_loop.clone_ref(py), known.ident, Arc::clone(&known.inbox));
    drop(last); // not while Python runs
    let event_loop = event_loop.bind(py).upgrade()?;
    let runs = match ident {
        Some(ident) => event_loop.getattr(intern!(py, "_thread_id")).ok()?.extract::<u64>().is_ok_and(|it| it == ident),
        None => upcalls::RUNNING_LOOP.get(py).ok()?.call0().ok()?.is(&event_loop),
    };
    runs.then_some((event_loop, inbox))
}

/// The event loop that runs in this thread, or will, and its inbox.
pub fn here(py: Python<'_>) -> PyResult<(Bound<'_, PyAny>, Arc<Inbox>)> {
    if let Some(found) = last(py) {
        return Ok(found);
    }
    let function = upcalls::HERE.get(py)?;
    let (event_loop, inbox, ident): (Bound<'_, PyAny>, Bound<'_, LoopInbox>, Option<u64>) =
        shutdown::python(py, || function.call0()?.extract())?;
    let inbox = Arc::clone(&inbox.get().inbox);
    let reference = PyWeakrefReference::new(&event_loop)?.unbind();
    let thread = std::thread::current().id();
    let before = LAST.lock().replace(Last { thread, ident, event_loop: reference, inbox: Arc::clone(&inbox) });
    drop(before); // not under the lock
    Ok((event_loop, inbox))
}

/// The present context, for callbacks that came without one.
pub fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    upcalls::COPY_CONTEXT.get(py)?.call0().map(Bound::unbind)
}
