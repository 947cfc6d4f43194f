//! Room in the buffer for a record: a place in the queue for memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_core::event_loop::LoopToken;
use penstock_core::memory::Waiter;
use penstock_core::topic::Topic;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::loops::calls::{LOOP_CALLS, Waker};
use crate::runtime::engine_core::Core;
use crate::runtime::{errors, upcalls};
use crate::send::state::State;
use crate::send::waits::{Deadline, count_wait};

/// See the module.
pub struct MemoryWait {
    waiter: Arc<Waiter>,
    token: Option<LoopToken>,
    pub bytes: usize,
    deadline: Deadline,
    /// When the wait that is under way began.
    since: Instant,
}

impl MemoryWait {
    /// Queue up. With the grant, `waker` is called.
    pub fn new(py: Python<'_>, state: &State, bytes: usize, deadline: Deadline, waker: Option<&Waker>) -> Self {
        let notice = waker.map(|waker| waker.notice(py));
        let (shared, token) = (&state.core.shared, notice.as_ref().map(|notice| notice.token));
        let waiter = shared.queue_for_memory(bytes, notice);
        Self { waiter, token, bytes, deadline, since: deadline.now(&state.core) }
    }

    /// Whether the memory belongs to the caller, and the wait is over. An error if the time is over.
    pub fn poll(&mut self, py: Python<'_>, state: &State, topic: &Topic) -> PyResult<bool> {
        let shared = &state.core.shared;
        let now = self.deadline.now(&state.core);
        count_wait(&shared.pool.waited, std::mem::replace(&mut self.since, now));
        if shared.pool.is_granted(&self.waiter) {
            return Ok(true);
        }
        state.check_open(py)?;
        if now >= self.deadline.at {
            shared.pool.count_exhausted();
            return Err(self.timed_out(py, state, topic)?);
        }
        Ok(false)
    }

    /// How long to wait for a wake-up.
    pub fn patience(&self) -> Duration {
        self.deadline.patience(self.since)
    }

    /// Sleep until memory is granted, at most until `until`. Without the GIL.
    pub fn sleep(&self, core: &Core, until: Instant) {
        core.shared.pool.wait(&self.waiter, until);
    }

    /// Leave the queue. Memory that was already granted goes to the next waiter.
    pub fn give_up(self, core: &Core) {
        if core.is_foreign() {
            return;
        }
        if core.shared.pool.cancel(&self.waiter)
            && let Some(token) = self.token
        {
            drop(LOOP_CALLS.remove(token));
        }
        core.shared.relax();
    }

    /// The timeout error for a buffer that stayed full.
    fn timed_out(&self, py: Python<'_>, state: &State, topic: &Topic) -> PyResult<PyErr> {
        let shared = &state.core.shared;
        let status = shared.topics.status();
        let oldest = shared
            .topics
            .oldest(shared.clock.now_us())
            .map(|it| (it.topic.to_string(), it.partition, it.age_ms, it.attempts, it.broker, it.code, it.message));
        let any = |value: usize| value.into_pyobject(py).map(Bound::into_any);
        let arguments = [
            ("topic", PyString::new(py, &topic.name).into_any()),
            ("needed", any(self.bytes)?),
            ("used", any(shared.pool.total() - shared.pool.available())?),
            ("total", any(shared.pool.total())?),
            ("waited_ms", (state.max_block.as_millis() as u64).into_pyobject(py)?.into_any()),
            ("oldest", oldest.into_pyobject(py)?),
            ("status_code", status.code.into_pyobject(py)?.into_any()),
            ("status", PyString::new(py, &status.message).into_any()),
        ];
        Ok(errors::error_by(py, &upcalls::BUFFER_EXHAUSTED, &arguments))
    }
}
