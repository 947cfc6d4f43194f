//! Calls that are due in event loops, by token: the engine carries the token, this table keeps the Python objects.

use std::sync::Arc;

use penstock_core::event_loop::{LoopInbox as Inbox, LoopToken, Notice};
use penstock_core::outcome::Completion;
use penstock_core::sync::{Mutex, Rank};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use slab::Slab;

use crate::result::delivery::Sizes;
use crate::runtime::shutdown;

/// A call that is to be made in a loop.
pub enum LoopCall {
    /// `add_done_callback`, and every task that awaits: called with the future.
    Done { function: Py<PyAny>, future: Py<PyAny>, context: Py<PyAny> },
    /// `send(callback=…)`: called with (metadata, error) of a record.
    Outcome { function: Py<PyAny>, context: Py<PyAny>, completion: Arc<Completion>, index: u32, sizes: Sizes },
    /// The same after the callback thread: its arguments are known.
    Forwarded { function: Py<PyAny>, context: Py<PyAny>, arguments: Py<PyTuple> },
    /// A wake-up: the caller polls again.
    Wake { function: Py<PyAny> },
}

/// Calls by token, of all loops. Used with the GIL held only, so that no object is dropped without it. A token belongs to
/// the notice that carries it, then to the inbox that it was put into.
pub static LOOP_CALLS: LoopCalls = LoopCalls { slots: Mutex::ranked(Rank::Loop, Slab::new()) };

/// See [`LOOP_CALLS`].
pub struct LoopCalls {
    slots: Mutex<Slab<LoopCall>>,
}

impl LoopCalls {
    /// Keep one.
    pub fn insert(&self, call: LoopCall) -> LoopToken {
        LoopToken(self.slots.lock().insert(call))
    }

    /// Take one back.
    pub fn remove(&self, token: LoopToken) -> Option<LoopCall> {
        self.slots.lock().try_remove(token.0)
    }

    /// Whether it calls a future's waiter.
    pub fn is_done(&self, token: LoopToken) -> bool {
        matches!(self.slots.lock().get(token.0), Some(LoopCall::Done { .. }))
    }

    /// Whether a done callback is this function. Compared by Python's rules, after the lock is released.
    pub fn is_done_callback(&self, py: Python<'_>, token: LoopToken, function: &Bound<'_, PyAny>) -> PyResult<bool> {
        let slots = self.slots.lock();
        let kept = match slots.get(token.0) {
            Some(LoopCall::Done { function, .. }) => function.clone_ref(py),
            _ => return Ok(false),
        };
        drop(slots);
        shutdown::python(py, || kept.bind(py).eq(function))
    }
}

/// A notice of a call in a loop.
pub fn notice(inbox: &Arc<Inbox>, call: LoopCall) -> Notice {
    Notice { inbox: Arc::clone(inbox), token: LOOP_CALLS.insert(call) }
}

/// How a coroutine or a greenlet is woken: a function that is called in its loop.
pub struct Waker {
    pub inbox: Arc<Inbox>,
    pub function: Py<PyAny>,
}

impl Waker {
    /// A notice that wakes. To be given, or to be dropped with [`LoopCalls::remove`].
    pub fn notice(&self, py: Python<'_>) -> Notice {
        notice(&self.inbox, LoopCall::Wake { function: self.function.clone_ref(py) })
    }
}
