//! The state of one `send_many` or `send_arrow` between its steps, in both facades.

use std::sync::Arc;

use penstock_core::topic::Topic;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::bulk::buffering::Buffering;
use crate::record::topic_name::check_topic;
use crate::result::outcomes::{Outcomes, Refused};
use crate::send::state::State;

/// A call has to wait for this before it can continue.
pub enum Want {
    /// A snapshot of the topic, with a partition of that number if one is given.
    Topic(Option<i32>),
    /// So many bytes of buffer.memory.
    Memory(usize),
    /// The record that `Bulk::one` could not buffer at once.
    Record,
    /// The next entry of an async iterable.
    Entry,
}

/// A bulk call that is not over: the records that are buffered, and those that could not be.
pub struct Ongoing {
    pub topic: Py<PyString>,
    pub method: &'static str,
    pub buffering: Buffering,
    pub refused: Vec<Refused>,
    /// Why no more records are taken.
    pub stopped: Option<Py<PyAny>>,
    /// The snapshot that was waited for.
    pub found: Option<Arc<Topic>>,
    /// Why a wait failed: the chunk that waited ends with it.
    pub failed: Option<PyErr>,
}

impl Ongoing {
    /// Check what can be checked before the first record.
    pub fn begin(state: &State, py: Python<'_>, topic: &Bound<'_, PyAny>, method: &'static str) -> PyResult<Self> {
        let Ok(topic) = topic.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!("topic must be a str, not {}", topic.get_type())));
        };
        check_topic(py, &topic.to_string_lossy())?;
        state.core.check_fork(py)?;
        state.check_open(py)?;
        Ok(Self {
            topic: topic.clone().unbind(),
            method,
            buffering: Buffering::default(),
            refused: Vec::new(),
            stopped: None,
            found: None,
            failed: None,
        })
    }

    /// No more records are taken: the outcomes.
    pub fn end(self, py: Python<'_>, state: &State) -> Outcomes {
        let topic = self.topic.bind(py).to_string_lossy();
        Outcomes::new(py, &state.core.shared, &topic, self.buffering.placed, self.refused)
    }

    /// The topic's last snapshot, which a wait for memory is for.
    pub fn snapshot(&self) -> Option<Arc<Topic>> {
        self.buffering.topic.clone()
    }

    /// The wait for the topic is over.
    pub fn found(&mut self, topic: Arc<Topic>) {
        self.found = Some(topic);
    }

    /// The wait for memory is over.
    pub fn granted(&mut self, bytes: usize) {
        self.buffering.grant += bytes;
    }

    /// The wait failed.
    pub fn failed(&mut self, error: PyErr) {
        self.failed = Some(error);
    }

    /// The call is abandoned: nothing more will be buffered.
    pub fn give_up(&mut self, state: &State) {
        if !state.core.is_foreign() {
            self.buffering.give_back(&state.core.shared);
        }
    }
}
