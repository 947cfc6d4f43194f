//! `PendingTopic`: the wait of `partitions_for` for a topic.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::aio::step::Step;
use crate::loops::calls::Waker;
use crate::loops::inbox::LoopInbox;
use crate::send::state::State;
use crate::send::topic::TopicWait;

/// See the module.
#[pyclass(module = "penstock._native")]
pub struct PendingTopic {
    state: Arc<State>,
    topic: Py<PyString>,
    wait: TopicWait,
}

impl PendingTopic {
    pub fn new(state: &Arc<State>, topic: Py<PyString>) -> Self {
        let deadline = state.core.shared.clock.now() + state.max_block;
        let wait = TopicWait::new(state, "partitions_for", None, deadline);
        Self { state: Arc::clone(state), topic, wait }
    }
}

#[pymethods]
impl PendingTopic {
    /// Done when the topic is known.
    fn attempt(&mut self, py: Python<'_>, inbox: &Bound<'_, LoopInbox>, wake: Py<PyAny>) -> PyResult<Step<()>> {
        let state = &self.state;
        state.core.check_fork(py)?;
        state.check_open(py)?;
        let topic = self.topic.bind(py);
        if state.recent_topic(py, topic, None)?.is_some() {
            return Ok(Step::Done(()));
        }
        let waker = Waker { inbox: Arc::clone(&inbox.get().inbox), function: wake };
        Ok(match self.wait.poll(py, state, topic, Some(&waker))? {
            Some(_) => Step::Done(()),
            None => Step::Wait(Some(self.wait.patience())),
        })
    }
}

impl Drop for PendingTopic {
    fn drop(&mut self) {
        self.wait.forget(&self.state.core);
    }
}
