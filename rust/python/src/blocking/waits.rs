//! How the blocking facade waits: in the call itself, up to max.block.ms.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_core::topic::Topic;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::loops::calls::Waker;
use crate::runtime::waits::{Awaited, wait};
use crate::send::call::Call;
use crate::send::memory::MemoryWait;
use crate::send::state::State;
use crate::send::topic::TopicWait;
use crate::send::waits::{Deadline, POLL_EVERY, Waits};

/// The waits of one call: max.block.ms is for all of them together, from the first one on. The common record waits for
/// nothing, and never reads this clock.
pub struct InCall {
    at: Cell<Option<Deadline>>,
}

impl InCall {
    /// No wait has begun yet.
    pub const fn new() -> Self {
        Self { at: Cell::new(None) }
    }

    fn deadline(&self, state: &State) -> Deadline {
        let at = self.at.get().unwrap_or_else(|| Deadline::blocking(state));
        self.at.set(Some(at));
        at
    }

    /// The topic, with a partition of that number if one is given, on behalf of `method`.
    #[inline(never)]
    pub fn find(
        &self,
        state: &State,
        py: Python<'_>,
        name: &Bound<'_, PyString>,
        partition: Option<i32>,
        method: &'static str,
    ) -> PyResult<Arc<Topic>> {
        if let Some(topic) = state.recent_topic(py, name, partition)? {
            return Ok(topic);
        }
        let deadline = self.deadline(state);
        let mut search = TopicWait::new(state, method, partition, deadline);
        if let Some(topic) = search.poll(py, state, name, None)? {
            return Ok(topic); // as most often, without a wait
        }
        let mut awaited = AwaitedTopic { state, name: name.as_unbound(), search, found: None };
        loop {
            // At the deadline the poll raises, so that a wait that is only over is repeated.
            wait(py, Some(deadline.at), &mut awaited)?;
            if let Some(topic) = awaited.found.take() {
                return Ok(topic);
            }
        }
    }
}

impl Waits for InCall {
    type Failure = Box<PyErr>;

    fn error(failure: &Self::Failure) -> Option<&PyErr> {
        Some(failure)
    }

    #[inline(never)]
    fn topic(&self, state: &State, py: Python<'_>, call: &Call<'_, '_>) -> Result<Arc<Topic>, Self::Failure> {
        Ok(self.find(state, py, call.topic, call.partition, "send")?)
    }

    #[inline(never)]
    fn memory(&self, state: &State, py: Python<'_>, topic: &Topic, bytes: usize) -> Result<(), Self::Failure> {
        let deadline = self.deadline(state);
        let mut awaited = AwaitedMemory { state, topic, bytes, deadline, queued: None };
        // As above.
        while !wait(py, Some(deadline.at), &mut awaited)? {}
        awaited.queued = None;
        Ok(())
    }
}

struct AwaitedTopic<'a> {
    state: &'a State,
    name: &'a Py<PyString>,
    search: TopicWait,
    found: Option<Arc<Topic>>,
}

impl Awaited for AwaitedTopic<'_> {
    const POLL_EVERY: Option<Duration> = Some(POLL_EVERY);

    fn poll(&mut self, py: Python<'_>, waker: Option<&Waker>) -> PyResult<bool> {
        self.state.core.check_fork(py)?;
        self.found = self.search.poll(py, self.state, self.name.bind(py), waker)?;
        Ok(self.found.is_some())
    }

    fn sleep(&self, until: Instant) {
        self.search.sleep(&self.state.core, until);
    }
}

impl Drop for AwaitedTopic<'_> {
    fn drop(&mut self) {
        self.search.forget(&self.state.core);
    }
}

struct AwaitedMemory<'a> {
    state: &'a State,
    topic: &'a Topic,
    bytes: usize,
    deadline: Deadline,
    /// None before the first poll and after the grant.
    queued: Option<MemoryWait>,
}

impl Awaited for AwaitedMemory<'_> {
    const POLL_EVERY: Option<Duration> = Some(POLL_EVERY);

    fn poll(&mut self, py: Python<'_>, waker: Option<&Waker>) -> PyResult<bool> {
        let (state, bytes, deadline) = (self.state, self.bytes, self.deadline);
        state.core.check_fork(py)?;
        let queued = self.queued.get_or_insert_with(|| MemoryWait::new(py, state, bytes, deadline, waker));
        queued.poll(py, state, self.topic)
    }

    fn sleep(&self, until: Instant) {
        if let Some(queued) = &self.queued {
            queued.sleep(&self.state.core, until);
        }
    }
}

impl Drop for AwaitedMemory<'_> {
    /// An error: leave the queue.
    fn drop(&mut self) {
        if let Some(queued) = self.queued.take() {
            queued.give_up(&self.state.core);
        }
    }
}
