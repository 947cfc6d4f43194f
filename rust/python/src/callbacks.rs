//! The callbacks of the user's: kept here under a key while the engine carries the key, run on one thread.

use std::cell::Cell;
use std::time::Duration;

use penstock_core::sync::Mutex;
use pyo3::prelude::*;
use slab::Slab;

use penstock_core::accumulator::Shared;
use penstock_core::completion::{Burst, Completion, Outcome, Token};
use std::sync::Arc;

use crate::future::{DeliveryFuture, Sizes};
use crate::python;

thread_local! {
    /// This thread runs callbacks at present: `flush` would wait for itself.
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller is a callback.
pub fn in_callback() -> bool {
    IN_CALLBACK.get()
}

/// What is called when a record is resolved.
pub enum Callback {
    /// `send(callback=…)`: called with (metadata, error).
    Send { function: Py<PyAny>, sizes: Sizes },
    /// `add_done_callback`: called with the future.
    Done { function: Py<PyAny>, future: Py<DeliveryFuture> },
}

/// Objects by token, of all producers: a future need not carry where its callbacks go. Touched only with the GIL held, so
/// that no object is ever dropped without it.
pub static CALLBACKS: Callbacks = Callbacks { slots: Mutex::new(Slab::new()) };

/// See [`CALLBACKS`].
pub struct Callbacks {
    slots: Mutex<Slab<Callback>>,
}

impl Callbacks {
    /// Keep one.
    pub fn insert(&self, callback: Callback) -> Token {
        self.slots.lock().insert(callback)
    }

    /// Take one back.
    pub fn remove(&self, token: Token) -> Option<Callback> {
        self.slots.lock().try_remove(token)
    }

    /// Run callbacks until the queue is closed. `report(function, error)` hears of exceptions.
    pub fn run(&self, py: Python<'_>, shared: &Arc<Shared>, report: &Bound<'_, PyAny>) -> PyResult<()> {
        IN_CALLBACK.set(true);
        loop {
            // The wait is long because `push` and `close` end it; no steady wake-ups.
            let Some(bursts) = py.detach(|| shared.callbacks.take(Duration::from_secs(3600))) else {
                IN_CALLBACK.set(false);
                return Ok(());
            };
            for burst in bursts {
                self.run_burst(py, &burst, report);
                shared.callbacks.finish(1);
            }
        }
    }

    fn run_burst(&self, py: Python<'_>, burst: &Burst, report: &Bound<'_, PyAny>) {
        for &(index, token) in &burst.callbacks {
            let Some(callback) = self.remove(token) else { continue };
            let called = match &callback {
                Callback::Send { function, sizes } => call_send(py, function.bind(py), &burst.completion, index, sizes),
                Callback::Done { function, future } => function.bind(py).call1((future,)).map(drop),
            };
            if let Err(error) = called {
                let function = match &callback {
                    Callback::Send { function, .. } | Callback::Done { function, .. } => function,
                };
                // A logging filter may raise, too; this thread must outlive it, or a flush would wait for it for ever.
                if let Err(worse) = report.call1((function, error.into_value(py))) {
                    worse.write_unraisable(py, Some(report));
                }
            }
        }
    }
}

fn call_send(
    py: Python<'_>,
    function: &Bound<'_, PyAny>,
    completion: &Arc<Completion>,
    index: u32,
    sizes: &Sizes,
) -> PyResult<()> {
    match completion.outcome() {
        Some(Outcome::Delivered { base_offset, log_append_time_ms }) => {
            let metadata = sizes.metadata(completion, *base_offset, *log_append_time_ms, index);
            function.call1((metadata, py.None()))?;
        }
        Some(Outcome::Failed(failure)) => {
            function.call1((py.None(), python::delivery_error(py, completion, failure, index)?))?;
        }
        // A split moves its callbacks to the children; an unresolved batch has no burst.
        Some(Outcome::Split(_)) | None => {}
    }
    Ok(())
}
