//! Event loops as native code sees them: an inbox each, what is to be called there, and whose turn it is.
//!
//! Nothing here calls into the user's code: `penstock.facade.loops` takes calls out of an inbox and makes them, in the loop.

use std::cell::Cell;
use std::sync::Arc;
use std::thread::ThreadId;

use penstock_core::event_loop::{LoopInbox as Inbox, LoopToken, Notice, Step, TimeSlice};
use penstock_core::outcome::Completion;
use penstock_core::sync::{Mutex, Rank};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyTuple, PyWeakrefMethods, PyWeakrefReference};
use slab::Slab;

use crate::aio::future::AsyncDeliveryFuture;
use crate::blocking::future::Sizes;
use crate::runtime::callbacks::outcome;
use crate::runtime::shutdown;
use crate::send::now_ms;

/// What is called in a loop.
pub enum LoopCall {
    /// `add_done_callback`, and every task that awaits: called with the future.
    Done { function: Py<PyAny>, future: Py<AsyncDeliveryFuture>, context: Py<PyAny> },
    /// `send(callback=…)`: called with (metadata, error) of a record.
    Outcome { function: Py<PyAny>, context: Py<PyAny>, completion: Arc<Completion>, index: u32, sizes: Sizes },
    /// The same behind interceptors, which have heard of the outcome before.
    Told { function: Py<PyAny>, context: Py<PyAny>, arguments: Py<PyTuple> },
    /// Something that is waited for may have come: look again.
    Wake { function: Py<PyAny> },
}

/// Calls by token, of all loops. Touched with the GIL held only, so that no object is dropped without it. A token leaves in
/// the hand of whoever was given it: its notice, or the inbox that it was put into.
pub static LOOP_CALLS: LoopCalls = LoopCalls { slots: Mutex::ranked(Rank::Loop, Slab::new()) };

/// See [`LOOP_CALLS`].
pub struct LoopCalls {
    slots: Mutex<Slab<LoopCall>>,
}

impl LoopCalls {
    /// Keep one.
    pub fn insert(&self, call: LoopCall) -> LoopToken {
        self.slots.lock().insert(call)
    }

    /// Take one back.
    pub fn remove(&self, token: LoopToken) -> Option<LoopCall> {
        self.slots.lock().try_remove(token)
    }

    /// Whether it calls a future's waiter.
    pub fn is_done(&self, token: LoopToken) -> bool {
        matches!(self.slots.lock().get(token), Some(LoopCall::Done { .. }))
    }

    /// Whether a done callback is this function. Compared by Python's rules, after the lock is let go.
    pub fn is_done_callback(&self, py: Python<'_>, token: LoopToken, function: &Bound<'_, PyAny>) -> PyResult<bool> {
        let slots = self.slots.lock();
        let kept = match slots.get(token) {
            Some(LoopCall::Done { function, .. }) => function.clone_ref(py),
            _ => return Ok(false),
        };
        drop(slots);
        shutdown::python(py, || kept.bind(py).eq(function))
    }
}

/// What is due in one event loop; see `penstock_core::event_loop`.
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

    /// What to watch for reading.
    fn fileno(&self) -> PyResult<i32> {
        #[cfg(unix)]
        if let Some(descriptor) = self.inbox.descriptor() {
            return Ok(descriptor);
        }
        Err(PyRuntimeError::new_err("there is no descriptor: a thread waits"))
    }

    /// Up to `limit` calls that are due, as (function, arguments, context), and whether to look again soon. A context of
    /// None is the caller's own.
    fn take<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<(Bound<'py, PyList>, bool)> {
        let (tokens, more) = self.inbox.take(limit);
        TIME_SLICE.with(|slice| {
            let mut now = slice.get();
            now.passed();
            slice.set(now);
        });
        let calls = PyList::empty(py);
        for token in tokens {
            let call = match LOOP_CALLS.remove(token) {
                None => continue,
                Some(LoopCall::Done { function, future, context }) => (function, (future,).into_pyobject(py)?, context),
                Some(LoopCall::Told { function, context, arguments }) => (function, arguments.into_bound(py), context),
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

    /// Wait, without the GIL, for the next time that the loop has to look. False: it has ended.
    fn wait(&self, py: Python<'_>) -> bool {
        py.detach(|| self.inbox.wait())
    }

    /// The loop has ended: nothing more is called there, and what was due is dropped.
    fn close(&self) {
        self.inbox.close();
        for token in self.inbox.take(usize::MAX).0 {
            LOOP_CALLS.remove(token);
        }
    }

    /// Whether nothing will come in any more that `close` would have to drop once again.
    fn is_forgotten(&self) -> bool {
        Arc::strong_count(&self.inbox) == 1
    }

    /// The loop had a turn: coroutines of this thread may go on without suspending for another one.
    #[staticmethod]
    fn begin_turn() {
        TIME_SLICE.with(|slice| slice.set(TimeSlice::NEW));
    }
}

/// The loop that was asked for last, and how to see that it still is the one that runs here.
struct Last {
    thread: ThreadId,
    /// Python's number of that thread, if the loop says which thread runs it.
    ident: Option<u64>,
    event_loop: Py<PyWeakrefReference>,
    inbox: Arc<Inbox>,
}

static LAST: Mutex<Option<Last>> = Mutex::new(None);

/// The loop that was asked for last if it runs here now. asyncio's own loops say which thread runs them, which costs less
/// than `get_running_loop`: that makes a system call before CPython 3.12.
fn last(py: Python<'_>) -> Option<(Bound<'_, PyAny>, Arc<Inbox>)> {
    static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let last = LAST.lock();
    let known = last.as_ref().filter(|last| last.thread == std::thread::current().id())?;
    let (event_loop, ident, inbox) = (known.event_loop.clone_ref(py), known.ident, Arc::clone(&known.inbox));
    drop(last); // not while Python runs
    let event_loop = event_loop.bind(py).upgrade()?;
    let runs = match ident {
        Some(ident) => event_loop.getattr(intern!(py, "_thread_id")).ok()?.extract::<u64>().is_ok_and(|it| it == ident),
        None => RUNNING.import(py, "asyncio", "_get_running_loop").ok()?.call0().ok()?.is(&event_loop),
    };
    runs.then_some((event_loop, inbox))
}

static HERE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static NEXT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Import what destructors may need once nothing can be imported any more, if anybody has used asyncio with us.
pub fn prepare_for_the_end(py: Python<'_>) -> PyResult<()> {
    if py.import("sys")?.getattr("modules")?.contains("penstock.facade.loops")? {
        HERE.import(py, "penstock.facade.loops", "here")?;
        NEXT.import(py, "penstock.facade.loops", "next_turn")?;
        COPY.import(py, "contextvars", "copy_context")?;
    }
    Ok(())
}

/// The event loop that runs in this thread, or will, and its inbox.
pub fn here(py: Python<'_>) -> PyResult<(Bound<'_, PyAny>, Arc<Inbox>)> {
    if let Some(found) = last(py) {
        return Ok(found);
    }
    let function = HERE.import(py, "penstock.facade.loops", "here")?;
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
    COPY.import(py, "contextvars", "copy_context")?.call0().map(Bound::unbind)
}

/// A notice of a call in the loop that runs here.
pub fn notice(inbox: &Arc<Inbox>, call: LoopCall) -> Notice {
    Notice { inbox: Arc::clone(inbox), token: LOOP_CALLS.insert(call) }
}

thread_local! {
    /// One loop runs in a thread at a time.
    static TIME_SLICE: Cell<TimeSlice> = const { Cell::new(TimeSlice::NEW) };
}

/// How many steps pass between looks at the clock, where nothing else has looked at it.
const LOOK: u32 = 32;

/// A coroutine goes on without having suspended: how often it has to yield first. `at_ms`: the time, if it is known.
#[inline]
pub fn step(py: Python<'_>, at_ms: Option<i64>) -> Result<u8, Box<PyErr>> {
    let decision = TIME_SLICE.with(|slice| {
        let mut now = slice.get();
        let decision = match at_ms {
            Some(at_ms) => now.step(at_ms),
            None if now.is_over() || now.steps() % LOOK == LOOK - 1 => now.step(now_ms()),
            None => {
                now.count();
                Step::Go
            }
        };
        slice.set(now);
        decision
    });
    match decision {
        Step::Go => Ok(0),
        Step::Yield => Ok(1),
        Step::Over => Ok(next_turn(py)?),
    }
}

/// The loop's turn is over: how often to yield so that everybody else has one.
#[cold]
fn next_turn(py: Python<'_>) -> PyResult<u8> {
    let function = NEXT.import(py, "penstock.facade.loops", "next_turn")?;
    // No loop runs here: somebody steps a coroutine by hand, and keeps nobody waiting.
    let asked: bool = shutdown::python(py, || function.call0()?.extract())?;
    if !asked {
        TIME_SLICE.with(|slice| slice.set(TimeSlice::NEW));
    }
    Ok(if asked { 2 } else { 0 })
}
