//! `AsyncDeliveryFuture`: a record's place in a batch, as a future of asyncio's.
//!
//! It implements asyncio's protocol of futures (`_asyncio_future_blocking`), and is its own iterator. To await one that is
//! done makes no object but the result, and never uses the loop. One that is not done registers a notice with its batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use penstock_core::outcome::Completion;
use pyo3::exceptions::{PyBaseException, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::aio::returned::returned;
use crate::aio::running;
use crate::loops::calls::{LOOP_CALLS, LoopCall, notice};
use crate::loops::fairness;
use crate::record::metadata::RecordMetadata;
use crate::result::delivery::{Delivery, Sizes};
use crate::runtime::upcalls;

fn cancelled_error(py: Python<'_>, message: Option<&Py<PyAny>>) -> PyErr {
    let class = upcalls::CANCELLED_ERROR.get(py);
    let made = class.and_then(|class| match message {
        Some(message) => class.call1((message,)),
        None => class.call0(),
    });
    made.map_or_else(|error| error, PyErr::from_value)
}

/// `asyncio.InvalidStateError`.
pub fn invalid_state(py: Python<'_>, message: &str) -> PyErr {
    let made = upcalls::INVALID_STATE_ERROR.get(py).and_then(|class| class.call1((message,)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// The delivery of one record, resolved no later than delivery.timeout.ms after it was buffered (plus a tick).
///
/// A future of asyncio's: `await` it, in any loop and any number of times, or hand it to `asyncio.gather`, `wait`,
/// `wait_for`, `shield`, `as_completed`. Awaiting it raises why the record failed.
///
/// Cancelling it, or the task that awaits it, does not unsend the record: the future is cancelled, the record goes on, and
/// if it fails later, that failure counts as not noticed (`flush` raises it).
// No weak references, as `DeliveryFuture`: callbacks are kept outside, so that no cycle goes through here.
#[pyclass(frozen, module = "penstock")]
pub struct AsyncDeliveryFuture {
    delivery: Delivery,
    /// A callback of `send` will get the record's outcome.
    has_callback: bool,
    /// A task is about to wait (asyncio's protocol).
    blocking: AtomicBool,
    /// Set when it is cancelled, with the message.
    cancelled: PyOnceLock<Option<Py<PyAny>>>,
}

impl AsyncDeliveryFuture {
    pub fn new(completion: Arc<Completion>, index: u32, sizes: Sizes, has_callback: bool) -> Self {
        let delivery = Delivery::new(completion, index, sizes);
        Self { delivery, has_callback, blocking: AtomicBool::new(false), cancelled: PyOnceLock::new() }
    }

    fn is_cancelled(&self, py: Python<'_>) -> bool {
        self.cancelled.get(py).is_some()
    }

    /// How it ended; an error while it has not.
    fn ended(&self, py: Python<'_>) -> PyResult<Result<RecordMetadata, Py<PyAny>>> {
        if let Some(message) = self.cancelled.get(py) {
            return Err(cancelled_error(py, message.as_ref()));
        }
        if !self.delivery.done() {
            return Err(invalid_state(py, "the record is still being sent: await the future"));
        }
        self.delivery.observe(py)?;
        self.delivery.resolved(py)
    }
}

#[pymethods]
impl AsyncDeliveryFuture {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let (py, this) = (slf.py(), slf.get());
        if this.is_cancelled(py) || this.delivery.done() {
            // A coroutine that awaits futures that are done would block its event loop.
            if fairness::step(py, None).map_err(|error| *error)? > 0 {
                return Ok(Some(py.None()));
            }
            if let Some(metadata) = this.delivery.delivered().filter(|_| !this.is_cancelled(py)) {
                return Err(returned(py, metadata));
            }
            return match this.ended(py)? {
                Ok(metadata) => Err(returned(py, metadata)),
                Err(error) => Err(PyErr::from_value(error.into_bound(py))),
            };
        }
        this.delivery.observe(py)?;
        this.blocking.store(true, Ordering::Relaxed);
        Ok(Some(slf.clone().into_any().unbind()))
    }

    #[getter]
    fn _asyncio_future_blocking(&self) -> bool {
        self.blocking.load(Ordering::Relaxed)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, blocking: bool) {
        self.blocking.store(blocking, Ordering::Relaxed);
    }

    /// The running loop: it may be awaited in any.
    #[expect(clippy::unused_self, reason = "asyncio's protocol")]
    fn get_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        running::here(py).map(|(event_loop, _)| event_loop)
    }

    /// The `RecordMetadata`, or raise why it failed; `asyncio.InvalidStateError` while the record is being sent.
    fn result(&self, py: Python<'_>) -> PyResult<RecordMetadata> {
        self.ended(py)?.map_err(|error| PyErr::from_value(error.into_bound(py)))
    }

    /// The error, or None if the record was delivered; `asyncio.InvalidStateError` while it is being sent.
    fn exception(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.ended(py)?.err())
    }

    /// Whether the record is delivered or has failed, or the future is cancelled.
    fn done(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py) || self.delivery.done()
    }

    /// Whether the future is cancelled; the record is still sent.
    fn cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    /// Wait no longer: a task that awaits the future gets `asyncio.CancelledError`. The record is still sent. False if
    /// it was done.
    #[pyo3(signature = (msg = None))]
    fn cancel(&self, py: Python<'_>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        self.delivery.check_fork(py)?;
        if self.is_cancelled(py) || self.delivery.done() {
            return Ok(false);
        }
        let Delivery { completion, index, .. } = &self.delivery;
        let mine = |token| LOOP_CALLS.is_done(token);
        // A notice that is not found was given in between, because the batch was resolved; its task finds the cancellation by
        // itself.
        let notices = completion.take_notices(*index, !self.has_callback, mine);
        if notices.is_empty() && self.delivery.done() {
            return Ok(false);
        }
        let _first = self.cancelled.set(py, msg);
        for notice in notices {
            notice.inbox.post([notice.token]);
        }
        Ok(true)
    }

    /// `asyncio.gather` calls this of a cancelled future.
    fn _make_cancelled_error<'py>(&self, py: Python<'py>) -> Bound<'py, PyBaseException> {
        cancelled_error(py, self.cancelled.get(py).and_then(Option::as_ref)).into_value(py).into_bound(py)
    }

    #[getter]
    fn _cancel_message(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.cancelled.get(py).and_then(Option::as_ref).map(|message| message.clone_ref(py))
    }

    /// Have `fn(future)` called in the running loop once the future is done. Its exceptions go to the loop's exception
    /// handler. Not thread-safe, like all of asyncio's.
    #[pyo3(signature = (r#fn, *, context = None))]
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Py<PyAny>, context: Option<Py<PyAny>>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        if !r#fn.bind(py).is_callable() {
            return Err(PyTypeError::new_err(format!("not callable: {}", r#fn.bind(py).get_type())));
        }
        let (_, inbox) = running::here(py)?;
        let context = context.map_or_else(|| running::copy_context(py), Ok)?;
        let done = this.is_cancelled(py) || this.delivery.done();
        if !this.is_cancelled(py) {
            this.delivery.observe(py)?;
        }
        let call = LoopCall::Done { function: r#fn, future: slf.clone().into_any().unbind(), context };
        let notice = notice(&inbox, call);
        if done || !this.delivery.completion.add_notice(this.delivery.index, &notice, true) {
            inbox.post([notice.token]);
        }
        Ok(())
    }

    /// Take back what `add_done_callback` was given: how many there were.
    fn remove_done_callback(&self, py: Python<'_>, r#fn: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.delivery.check_fork(py)?;
        let Delivery { completion, index, .. } = &self.delivery;
        // Compared without a lock: comparing may run Python.
        let mut wrong = Ok(());
        let mut found = Vec::new();
        for token in completion.notices(*index) {
            match LOOP_CALLS.is_done_callback(py, token, r#fn) {
                Ok(true) => found.push(token),
                Ok(false) => {}
                Err(error) => wrong = Err(error),
            }
        }
        wrong?;
        let taken = completion.take_notices(*index, false, |token| found.contains(&token));
        for notice in &taken {
            drop(LOOP_CALLS.remove(notice.token));
        }
        Ok(taken.len())
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        if self.is_cancelled(py) {
            let Delivery { completion, .. } = &self.delivery;
            return format!("<AsyncDeliveryFuture {}-{} cancelled>", completion.topic, completion.partition);
        }
        self.delivery.repr("AsyncDeliveryFuture")
    }
}
