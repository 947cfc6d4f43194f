//! The application's callbacks, by token: the engine carries the token, this table keeps the objects. They run on one thread.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use penstock_core::outcome::{Burst, CallbackToken, Closed};
use penstock_core::shared::Shared;
use penstock_core::sync::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyList;
use slab::Slab;

use crate::result::delivery::{Sizes, outcome};
use crate::result::outcomes::Outcomes;

thread_local! {
    /// This thread runs callbacks at present: `flush` would wait for itself.
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller is a callback.
pub fn in_callback() -> bool {
    IN_CALLBACK.get()
}

/// A function to call when a record is resolved.
pub enum Callback {
    /// `send(callback=…)`: called with (metadata, error).
    Send { function: Py<PyAny>, sizes: Sizes },
    /// `add_done_callback`: called with the future.
    Done { function: Py<PyAny>, future: Py<PyAny> },
    /// `add_done_callback` of a bulk result: called with the result, once its batch `at` and those behind it are resolved.
    Bulk { function: Py<PyAny>, result: Py<PyAny>, of: Arc<Outcomes>, at: usize },
}

/// Calls to make, as three lists: functions, first arguments, second arguments. A single function serves all calls; without
/// second arguments each is None. A second argument of `...` stands for none: the function came by `add_done_callback`,
/// and the first argument is its future.
pub type Calls<'py> = (Bound<'py, PyList>, Bound<'py, PyList>, Bound<'py, PyList>);

/// Objects by token, of all producers: a future need not carry where its callbacks go. Touched only with the GIL held, so
/// that no object is dropped without it.
pub static CALLBACKS: Callbacks = Callbacks { slots: Mutex::new(Slab::new()) };

/// See [`CALLBACKS`].
pub struct Callbacks {
    slots: Mutex<Slab<Callback>>,
}

impl Callbacks {
    /// Keep one.
    pub fn insert(&self, callback: Callback) -> CallbackToken {
        CallbackToken(self.slots.lock().insert(callback))
    }

    /// The sizes of a record, which are known once it is serialized.
    pub fn set_sizes(&self, token: CallbackToken, known: Sizes) {
        if let Some(Callback::Send { sizes, .. }) = self.slots.lock().get_mut(token.0) {
            *sizes = known;
        }
    }

    /// Take one back.
    pub fn remove(&self, token: CallbackToken) -> Option<Callback> {
        self.slots.lock().try_remove(token.0)
    }

    /// Take back those of a batch, with one lock for all.
    fn remove_all(&self, callbacks: &[(u32, CallbackToken)]) -> Vec<Option<Callback>> {
        let mut slots = self.slots.lock();
        callbacks.iter().map(|&(_, token)| slots.try_remove(token.0)).collect()
    }

    /// The calls of the next resolved batch, waiting for one; None when the producer has ended. Marks this thread as the
    /// one of the callbacks. The calls that it returned before count as run.
    ///
    /// The calls are made in Python: a thread that the interpreter's end finds inside a callback must not have frames of
    /// ours on its stack, because CPython before 3.14 ends such a thread by unwinding it.
    pub fn next<'py>(&self, py: Python<'py>, shared: &Arc<Shared>) -> PyResult<Option<Calls<'py>>> {
        if IN_CALLBACK.replace(true) {
            shared.callbacks.finish(1);
        }
        let burst = loop {
            // The wait is long because `push` and `close` end it; no steady wake-ups.
            match py.detach(|| shared.callbacks.take(Duration::from_secs(3600))) {
                Err(Closed) => {
                    IN_CALLBACK.set(false);
                    return Ok(None);
                }
                Ok(None) => {}
                Ok(Some(burst)) => break burst,
            }
        };
        self.calls(py, shared, &burst).map(Some)
    }

    /// The calls of the next resolved batch if there is one now, for a caller that steps the engine by hand.
    pub fn calls_now<'py>(&self, py: Python<'py>, shared: &Arc<Shared>) -> PyResult<Calls<'py>> {
        match shared.callbacks.take(Duration::ZERO) {
            Ok(Some(burst)) => {
                let calls = self.calls(py, shared, &burst);
                shared.callbacks.finish(1);
                calls
            }
            Ok(None) | Err(Closed) => Ok((PyList::empty(py), PyList::empty(py), PyList::empty(py))),
        }
    }

    fn calls<'py>(&self, py: Python<'py>, shared: &Arc<Shared>, burst: &Burst) -> PyResult<Calls<'py>> {
        if burst.charged > 0 {
            py.detach(|| shared.release(burst.charged));
        }
        // Three lists, because a tuple for each call would cost more than the call of a short function, most of it in
        // collections of garbage; and what is the same for all need not be listed.
        let number = burst.callbacks.len();
        let (mut functions, mut outcomes) = (Vec::with_capacity(number), Vec::with_capacity(number));
        let mut errors: Vec<Bound<'py, PyAny>> = Vec::new();
        let mut add = |function: Py<PyAny>, outcome: Bound<'py, PyAny>, error: Option<Bound<'py, PyAny>>| {
            if let Some(error) = error {
                errors.resize(outcomes.len(), py.None().into_bound(py));
                errors.push(error);
            } else if !errors.is_empty() {
                errors.push(py.None().into_bound(py));
            }
            functions.push(function);
            outcomes.push(outcome);
        };
        let none = || Some(py.Ellipsis().into_bound(py));
        for (callback, &(index, _)) in self.remove_all(&burst.callbacks).into_iter().zip(&burst.callbacks) {
            match callback {
                None => {}
                Some(Callback::Send { function, sizes }) => match outcome(py, &burst.completion, index, &sizes)? {
                    Some((metadata, error)) if error.is_none() => add(function, metadata, None),
                    Some((metadata, error)) => add(function, metadata, Some(error)),
                    None => {}
                },
                Some(Callback::Done { function, future }) => add(function, future.into_bound(py), none()),
                Some(Callback::Bulk { function, result, of, at }) => {
                    if let Some(Watcher { function, result }) = watch(&of, function, result, at) {
                        add(function, result.into_bound(py), none());
                    }
                }
            }
        }
        if functions.iter().skip(1).all(|function| function.is(&functions[0])) {
            functions.truncate(1);
        }
        Ok((PyList::new(py, functions)?, PyList::new(py, outcomes)?, PyList::new(py, errors)?))
    }
}

/// The function to call, and its argument.
pub struct Watcher {
    pub function: Py<PyAny>,
    pub result: Py<PyAny>,
}

/// Have `function(result)` called on the callback thread when all records are resolved. Returned if they are, from batch
/// `from` on.
///
/// One unresolved batch carries the callback; when that one is resolved, the next one takes over.
pub fn watch(of: &Arc<Outcomes>, mut function: Py<PyAny>, mut result: Py<PyAny>, from: usize) -> Option<Watcher> {
    for (at, (batch, span)) in of.spans().enumerate().skip(from) {
        while let Some((leaf, index)) = batch.first_unresolved_in(span.clone()) {
            let token = CALLBACKS.insert(Callback::Bulk { function, result, of: Arc::clone(of), at });
            // Not as observed: this record may belong to another call.
            let Err(token) = leaf.add_callback(index, token, false) else { return None };
            let Some(Callback::Bulk { function: back, result: itself, .. }) = CALLBACKS.remove(token) else {
                return None;
            };
            (function, result) = (back, itself);
        }
    }
    Some(Watcher { function, result })
}
