//! `PendingFlush`: a flush that waits in an event loop or a greenlet hub.

use std::sync::Arc;

use penstock_core::event_loop::LoopToken;
use pyo3::prelude::*;

use crate::aio::step::Step;
use crate::loops::calls::{LOOP_CALLS, Waker};
use crate::loops::inbox::LoopInbox;
use crate::result::end::EndWait;
use crate::runtime::engine::Engine;
use crate::runtime::engine_core::Core;

/// See the module. While it exists, no batch lingers.
#[pyclass(module = "penstock._native")]
pub struct PendingFlush {
    core: Arc<Core>,
    records: EndWait,
    /// Bursts that the callback thread has to run first; None before all records are resolved.
    goal: Option<u64>,
    /// With the callback queue.
    notice: Option<LoopToken>,
    ended: bool,
}

#[pymethods]
impl PendingFlush {
    #[new]
    fn new(py: Python<'_>, engine: &Bound<'_, Engine>) -> Self {
        let core = Arc::clone(&engine.get().core);
        let records = EndWait::of_batches(py.detach(|| core.shared.begin_flush()));
        Self { core, records, goal: None, notice: None, ended: false }
    }

    /// Done when all records are resolved and their callbacks of other threads have run.
    fn attempt(&mut self, py: Python<'_>, inbox: &Bound<'_, LoopInbox>, wake: Py<PyAny>) -> PyResult<Step<()>> {
        self.core.check_fork(py)?;
        self.forget();
        let waker = Waker { inbox: Arc::clone(&inbox.get().inbox), function: wake };
        if !self.records.poll(py, Some(&waker)) {
            return Ok(Step::Wait(None));
        }
        let shared = &self.core.shared;
        if self.goal.is_none() {
            py.detach(|| shared.topics.settle());
        }
        let goal = *self.goal.get_or_insert_with(|| shared.callbacks.pushed());
        let notice = waker.notice(py);
        if shared.callbacks.add_notice(goal, &notice) {
            self.notice = Some(notice.token);
            return Ok(Step::Wait(None));
        }
        drop(LOOP_CALLS.remove(notice.token));
        Ok(Step::Done(()))
    }

    /// Batches may linger again.
    fn end(&mut self) {
        if !self.core.is_foreign() && !std::mem::replace(&mut self.ended, true) {
            self.forget();
            self.core.shared.hurry.end_flush();
        }
    }
}

impl PendingFlush {
    fn forget(&mut self) {
        self.records.forget();
        if let Some(token) = self.notice.take()
            && self.core.shared.callbacks.take_notice(token)
        {
            drop(LOOP_CALLS.remove(token));
        }
    }
}

impl Drop for PendingFlush {
    fn drop(&mut self) {
        self.end();
    }
}
