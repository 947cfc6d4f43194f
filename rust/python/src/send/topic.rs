//! The topic of a record: recently used by this thread, or found in the engine's table, or waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_core::boundary::Trouble;
use penstock_core::error_code::INVALID_TOPIC_EXCEPTION;
use penstock_core::event_loop::LoopToken;
use penstock_core::shared::{TopicEntry, TopicError};
use penstock_core::topic::Topic;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::loops::calls::{LOOP_CALLS, Waker};
use crate::record::topic_name::check_topic;
use crate::runtime::engine_core::Core;
use crate::runtime::errors::{self, Quick};
use crate::runtime::{shutdown, upcalls};
use crate::send::call::Call;
use crate::send::recent;
use crate::send::state::State;
use crate::send::waits::{Deadline, count_wait};

/// A topic that is not known is requested again after this long, and the caller's wait is logged.
const REQUEST_EVERY: Duration = Duration::from_secs(1);

impl State {
    /// Have `act` done with the topic of the call: a recent one, or the one that `look_up` returns.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "on the path of each record")]
    pub fn with_topic<T, E: From<Box<PyErr>>>(
        &self,
        py: Python<'_>,
        call: &Call<'_, '_>,
        look_up: impl FnOnce() -> Result<Arc<Topic>, E>,
        act: impl FnOnce(&Topic) -> Result<T, E>,
    ) -> Result<T, E> {
        let name = text_of(py, call.topic)?;
        recent::with(self.table(), name, |topic| has_partition(topic, call.partition), look_up, act)
    }

    /// The topic, if this thread has sent to it recently and nothing has changed since; raises for an invalid name.
    pub fn recent_topic(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyString>,
        partition: Option<i32>,
    ) -> PyResult<Option<Arc<Topic>>> {
        let text = text_of(py, name).map_err(|error| *error)?;
        match recent::get(self.table(), text).filter(|topic| has_partition(topic, partition)) {
            Some(topic) => Ok(Some(topic)),
            None => check_topic(py, text).map(|()| None),
        }
    }
}

/// A wait for a topic, with a partition of some number: it is requested until it is known, or max.block.ms is over.
pub struct TopicWait {
    /// The method that waits, for messages.
    method: &'static str,
    partition: Option<i32>,
    pub deadline: Deadline,
    started: Instant,
    requested: Option<Instant>,
    warned: bool,
    errors_before: Option<u64>,
    notice: Option<LoopToken>,
    /// When the wait that is under way began.
    since: Option<Instant>,
    /// The version of the table that has no such topic.
    absent_in: u64,
}

impl TopicWait {
    pub fn new(state: &State, method: &'static str, partition: Option<i32>, deadline: Deadline) -> Self {
        Self {
            method,
            partition,
            deadline,
            started: deadline.now(&state.core),
            requested: None,
            warned: false,
            errors_before: None,
            notice: None,
            since: None,
            absent_in: 0,
        }
    }

    /// The topic. None: it is not known; `waker` is called when the table of topics has changed.
    pub fn poll(
        &mut self,
        py: Python<'_>,
        state: &State,
        name: &Bound<'_, PyString>,
        waker: Option<&Waker>,
    ) -> PyResult<Option<Arc<Topic>>> {
        self.forget(&state.core);
        let shared = &state.core.shared;
        if let Some(since) = self.since.take() {
            count_wait(&shared.topics.waited, since);
        }
        loop {
            let now = self.deadline.now(&state.core);
            if let Some(topic) = self.find(py, state, name, now)? {
                return Ok(Some(topic));
            }
            if let Some(waker) = waker {
                let notice = waker.notice(py);
                if !shared.topics.add_notice(self.absent_in, &notice) {
                    drop(LOOP_CALLS.remove(notice.token)); // the table has changed since
                    continue;
                }
                self.notice = Some(notice.token);
            }
            self.since = Some(now);
            return Ok(None);
        }
    }

    /// How long to wait for a wake-up.
    pub fn patience(&self) -> Duration {
        self.deadline.patience(self.since.unwrap_or(self.started))
    }

    /// Sleep until the table has changed since the last poll, at most until `until`. Without the GIL.
    pub fn sleep(&self, core: &Core, until: Instant) {
        core.shared.topics.wait(self.absent_in, until);
    }

    /// Take the notice back. One that was given already wakes a waiter that has gone, which is harmless.
    pub fn forget(&mut self, core: &Core) {
        if let Some(token) = self.notice.take()
            && !core.is_foreign()
            && core.shared.topics.take_notice(token)
        {
            drop(LOOP_CALLS.remove(token));
        }
    }

    /// The topic, if it is known at `now`; otherwise it is requested. An error if it cannot be known, or the time is over.
    fn find(
        &mut self,
        py: Python<'_>,
        state: &State,
        name: &Bound<'_, PyString>,
        now: Instant,
    ) -> PyResult<Option<Arc<Topic>>> {
        let (shared, partition) = (&state.core.shared, self.partition);
        let text = name.to_str()?;
        state.check_open(py)?;
        let version = shared.topics.version();
        let entry = shared.topics.entry(text);
        if let TopicEntry { topic: Some(topic), error: None, .. } = &entry
            && topic.partitions() > 0
            && has_partition(topic, partition)
        {
            recent::remember(state.table_at(version), topic);
            return Ok(Some(Arc::clone(topic)));
        }
        // Requested before the time is checked: with max.block.ms=0 this call fails, and a later one finds the topic.
        if self.requested.is_none_or(|at| now.duration_since(at) >= REQUEST_EVERY) {
            self.requested = Some(now);
            shared.want_topic(text, partition.unwrap_or(-1));
        }
        // A final error counts if it came after the request; an earlier one may be out of date, since permissions change.
        // That a name is invalid does not change.
        let errors = *self.errors_before.get_or_insert(entry.errors);
        if let Some(TopicError { trouble: Trouble { code, message }, is_final: true }) = &entry.error
            && (*code == INVALID_TOPIC_EXCEPTION || entry.errors > errors || now >= self.deadline.at)
        {
            return Err(errors::error_for_code(py, *code, message, Some(text)));
        }
        if now >= self.deadline.at {
            return Err(self.timed_out(py, state, text, &entry)?);
        }
        if !self.warned && now.duration_since(self.started) >= REQUEST_EVERY {
            self.warned = true;
            let why =
                entry.error.as_ref().map_or_else(|| shared.topics.status(), |error| error.trouble.clone()).message;
            shutdown::python(py, || state.warn_waiting.bind(py).call1((self.method, text, partition, why)))?;
        }
        self.absent_in = version;
        Ok(None)
    }

    /// The timeout error for a topic, or a partition, that did not appear.
    fn timed_out(&self, py: Python<'_>, state: &State, name: &str, entry: &TopicEntry) -> PyResult<PyErr> {
        let status = state.core.shared.topics.status();
        let Trouble { code, message } = entry.error.as_ref().map(|error| error.trouble.clone()).unwrap_or_default();
        let arguments = [
            ("topic", PyString::new(py, name).into_any()),
            ("partition", self.partition.into_pyobject(py)?),
            ("partitions", entry.topic.as_ref().map_or(0, |topic| topic.partitions()).into_pyobject(py)?.into_any()),
            ("waited_ms", (state.max_block.as_millis() as u64).into_pyobject(py)?.into_any()),
            ("code", code.into_pyobject(py)?.into_any()),
            ("message", PyString::new(py, &message).into_any()),
            ("status_code", status.code.into_pyobject(py)?.into_any()),
            ("status", PyString::new(py, &status.message).into_any()),
        ];
        Ok(errors::error_by(py, &upcalls::METADATA_TIMEOUT, &arguments))
    }
}

/// The name as Rust's text; a name without one (with a lone surrogate) is invalid.
#[inline]
pub fn text_of<'a>(py: Python<'_>, name: &'a Bound<'_, PyString>) -> Quick<&'a str> {
    name.to_str().map_err(|_| no_text(py, name).into())
}

#[cold]
fn no_text(py: Python<'_>, name: &Bound<'_, PyString>) -> PyErr {
    let illegal = check_topic(py, &name.to_string_lossy()).err();
    illegal.unwrap_or_else(|| PyTypeError::new_err("the topic is no text"))
}

#[inline]
fn has_partition(topic: &Topic, partition: Option<i32>) -> bool {
    partition.is_none_or(|partition| (partition as u32) < topic.partitions())
}
