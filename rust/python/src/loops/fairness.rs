//! Fairness: a coroutine that never suspends by itself yields to its event loop once a time slice is over.

use std::cell::Cell;

use penstock_core::event_loop::{Step, TimeSlice};
use pyo3::prelude::*;

use crate::runtime::clock::now_ms;
use crate::runtime::errors::Quick;
use crate::runtime::{shutdown, upcalls};

thread_local! {
    /// One loop runs in a thread at a time.
    static SLICE: Cell<TimeSlice> = const { Cell::new(TimeSlice::NEW) };
}

/// How many steps pass between two readings of the clock, where no caller has read it.
const READ_CLOCK_EVERY: u32 = 32;

/// A coroutine continues without having suspended: how often it has to yield first. `at_ms`: the time, if it is known.
#[inline]
pub fn step(py: Python<'_>, at_ms: Option<i64>) -> Quick<u8> {
    let decision = SLICE.with(|slice| {
        let mut now = slice.get();
        let decision = match at_ms {
            Some(at_ms) => now.step(at_ms),
            None if now.is_over() || now.steps() % READ_CLOCK_EVERY == READ_CLOCK_EVERY - 1 => now.step(now_ms()),
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
        Step::Over => Ok(request_slice(py)?),
    }
}

/// The time slice is over: how often to yield so that everything else in the loop runs first.
#[cold]
fn request_slice(py: Python<'_>) -> PyResult<u8> {
    let function = upcalls::NEXT_SLICE.get(py)?;
    // False: no loop runs here. A caller steps a coroutine by hand, and nothing waits for it.
    let requested: bool = shutdown::python(py, || function.call0()?.extract())?;
    if !requested {
        begin_slice();
    }
    Ok(if requested { 2 } else { 0 })
}

/// The loop has run: coroutines of this thread may continue without suspending for another slice.
pub fn begin_slice() {
    SLICE.with(|slice| slice.set(TimeSlice::NEW));
}

/// The loop takes calls out of its inbox, which may happen often in one slice.
pub fn loop_runs() {
    SLICE.with(|slice| {
        let mut now = slice.get();
        now.passed();
        slice.set(now);
    });
}
