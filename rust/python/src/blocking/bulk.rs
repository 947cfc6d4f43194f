//! A bulk call of the blocking facade: from the first record to the last, with waits inside the call.

use std::time::Instant;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::blocking::bulk_result::BulkResult;
use crate::blocking::waits::InCall;
use crate::bulk::call::{Ongoing, Want};
use crate::bulk::work::{Advance, Bulk, BulkWaits, RecordSource};
use crate::runtime::errors::Quick;
use crate::send::call::{Call, Place};
use crate::send::state::State;
use crate::send::waits::Waits;

/// Take all records of `source`.
pub fn run(mut call: Ongoing, state: &State, py: Python<'_>, source: &mut impl RecordSource) -> PyResult<BulkResult> {
    loop {
        match source.step(&mut Bulk::new(state, py, &mut call, &mut InStep))? {
            Advance::Continue => py.check_signals()?,
            Advance::Wait(want) => {
                InStep.wait(state, py, &mut call, &want)?;
            }
            Advance::End => return Ok(BulkResult::new(call.end(py, state))),
        }
    }
}

/// The caller waits, inside a step.
struct InStep;

impl BulkWaits for InStep {
    fn step_ends(&self) -> Option<Instant> {
        None
    }

    fn wait(&mut self, state: &State, py: Python<'_>, call: &mut Ongoing, want: &Want) -> PyResult<bool> {
        // max.block.ms for each wait: between two of them there was progress.
        let waits = InCall::new();
        let waited = match (want, call.snapshot()) {
            (Want::Topic(partition), _) => {
                waits.find(state, py, call.topic.bind(py), *partition, call.method).map(|topic| call.found(topic))
            }
            (Want::Memory(bytes), Some(topic)) => {
                waits.memory(state, py, &topic, *bytes).map(|()| call.granted(*bytes)).map_err(|error| *error)
            }
            _ => return Err(PyRuntimeError::new_err("only an event loop waits for this (a bug in Penstock)")),
        };
        if let Err(error) = waited {
            call.failed(error);
        }
        Ok(true)
    }

    fn send_one<'py>(&mut self, state: &State, py: Python<'py>, call: &Call<'_, 'py>) -> PyResult<Option<Place>> {
        let place = |place: Place| -> Quick<Place> { Ok(place) };
        state.deliver(py, call, &InCall::new(), &place).map(Some).map_err(|error| *error)
    }
}
