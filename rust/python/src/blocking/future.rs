//! `DeliveryFuture`: a record's place in a batch, and the wait for that batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyException, PyOverflowError, PyTimeoutError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use penstock_core::outcome::{Completion, Outcome};
use penstock_core::sync::Mutex;

use crate::record::RecordMetadata;
use crate::runtime::callbacks::{CALLBACKS, Callback};
use crate::runtime::engine::{forked, forks};
use crate::runtime::hub::{self, Bell};
use crate::runtime::python;
use crate::runtime::shutdown;

/// How long a wait lasts before signals (Ctrl-C) are looked at again.
pub const SLICE: Duration = Duration::from_millis(100);

/// What a record's metadata needs beside the batch's outcome.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// ms since the epoch
    pub timestamp: i64,
    /// bytes, -1 for None
    pub key: i32,
    /// bytes, -1 for None
    pub value: i32,
}

impl Sizes {
    /// The metadata of record `index` of a delivered batch.
    pub fn metadata(
        &self,
        completion: &Completion,
        base_offset: i64,
        log_append_ms: i64,
        index: u32,
    ) -> RecordMetadata {
        RecordMetadata {
            topic: Arc::clone(&completion.topic),
            partition: completion.partition,
            offset: if base_offset < 0 { -1 } else { base_offset.saturating_add(i64::from(index)) },
            timestamp: if log_append_ms >= 0 { log_append_ms } else { self.timestamp },
            serialized_key_size: self.key,
            serialized_value_size: self.value,
        }
    }
}

/// Seconds from which on a timeout is the same as none: some 95 years. Less than what `threading` and `socket` can wait.
const ENDLESS_S: f64 = 3.0e9;

/// A `timeout=` in seconds, as every call that waits takes it: 0 or more, None for as long as it takes. A number that no
/// clock could count to (infinity, 10**400) is as good as None, and comes back as such.
///
/// Any real number will do, not only a float: an int of any size, numpy's, a `Fraction`.
pub fn seconds(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<f64>> {
    let Some(timeout) = timeout.filter(|timeout| !timeout.is_none()) else { return Ok(None) };
    let py = timeout.py();
    let number = shutdown::python(py, || match timeout.extract::<f64>() {
        // Too large for a float, of whichever sign.
        Err(error) if error.is_instance_of::<PyOverflowError>(py) => {
            Ok(if timeout.gt(0)? { f64::INFINITY } else { f64::NEG_INFINITY })
        }
        Err(error) if error.is_instance_of::<PyTypeError>(py) => Err(PyTypeError::new_err(format!(
            "timeout must be None or a number of seconds, not {}",
            timeout.get_type().fully_qualified_name()?.to_string_lossy()
        ))),
        other => other,
    })?;
    if number.is_nan() || number < 0.0 {
        let why = format!("timeout must be None, or 0 or more seconds, not {number}");
        return Err(PyValueError::new_err(why));
    }
    // Not -0.0, which messages would show.
    Ok(Some(number + 0.0).filter(|&seconds| seconds <= ENDLESS_S))
}

/// What a `timeout=` means: 0 or more seconds, or None for as long as it takes, which infinity and any number of more than
/// 95 years come to. Raises `ValueError` for a negative number and NaN, `TypeError` for what is no number.
#[pyfunction]
#[pyo3(signature = (timeout, /))]
pub fn timeout_s(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<f64>> {
    seconds(timeout)
}

/// A timeout in seconds as a point in time; None: never.
pub fn deadline(seconds: Option<f64>) -> Option<Instant> {
    let seconds = seconds.filter(|&seconds| seconds <= ENDLESS_S)?;
    Some(Instant::now() + Duration::from_secs_f64(seconds.max(0.0)))
}

/// Wait in slices without the GIL until `wait(slice end)` says true, a signal raises, or the deadline passes (false).
pub fn wait_in_slices(
    py: Python<'_>,
    deadline: Option<Instant>,
    wait: impl Fn(Instant) -> bool + Sync,
) -> PyResult<bool> {
    loop {
        let now = Instant::now();
        let until = deadline.map_or(now + SLICE, |deadline| deadline.min(now + SLICE));
        if py.detach(|| wait(until)) {
            return Ok(true);
        }
        py.check_signals()?;
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(false);
        }
    }
}

/// The result of one `send`, resolved no later than delivery.timeout.ms after it (plus a tick).
///
/// Timeouts are seconds; infinity is as None, and a negative one raises `ValueError`. `result` and `exception` raise the
/// builtin `TimeoutError` while the record is still on its way; a record that ran out of time raises `KafkaTimeoutError`.
/// It cannot be cancelled: what was sent cannot be unsent.
// No weak references: they would make a future a subject of the garbage collector, and a million futures a long scan
// (measured: 38 % of the time of `send`).
#[pyclass(frozen, module = "penstock")]
pub struct DeliveryFuture {
    sent: Sent,
}

/// What the futures of both facades are made of: a record's place, and what is known of it.
pub struct Sent {
    pub completion: Arc<Completion>,
    pub index: u32,
    /// Of the process that sent: nothing resolves a record in a child.
    forks: u32,
    pub sizes: Sizes,
}

/// The errors of failed records whose futures were asked, by [`Sent::place`]: asked again, a future has the same one. Most
/// futures have none, and a million of them would carry the room for it. Touched with the GIL held only.
static ERRORS: Mutex<BTreeMap<(usize, u32), Py<PyAny>>> = Mutex::new(BTreeMap::new());

/// Nearly all are delivered, or nobody knows yet, and have no error to forget.
impl Drop for Sent {
    #[inline]
    fn drop(&mut self) {
        if matches!(self.completion.outcome(), Some(Outcome::Failed(_) | Outcome::Split(_))) {
            let forgotten = ERRORS.lock().remove(&self.place());
            drop(forgotten);
        }
    }
}

impl Sent {
    #[inline]
    pub fn new(completion: Arc<Completion>, index: u32, sizes: Sizes) -> Self {
        Self { completion, index, forks: forks(), sizes }
    }

    /// Whether this process sent it: a child touches no lock.
    fn is_own(&self) -> bool {
        self.forks == forks()
    }

    /// No other living future has it.
    fn place(&self) -> (usize, u32) {
        (Arc::as_ptr(&self.completion) as usize, self.index)
    }

    /// Whether the record is delivered or has failed.
    #[inline]
    pub fn done(&self) -> bool {
        match self.completion.outcome() {
            None => false,
            Some(Outcome::Split(_)) => self.completion.leaf(self.index).0.outcome().is_some(),
            Some(_) => true,
        }
    }

    /// The metadata, if the record is delivered: the common end, for which nothing is locked, counted or noted.
    #[inline]
    pub fn delivered(&self) -> Option<RecordMetadata> {
        match self.completion.outcome() {
            Some(Outcome::Delivered { base_offset, log_append_time_ms }) => {
                Some(self.sizes.metadata(&self.completion, *base_offset, *log_append_time_ms, self.index))
            }
            _ => None,
        }
    }

    /// Raise in a child if the record was on its way at the fork.
    pub fn check_fork(&self, py: Python<'_>) -> PyResult<()> {
        if self.forks == forks() || self.done() { Ok(()) } else { Err(forked(py)) }
    }

    /// Note that somebody asks. Raises in a child if the record was on its way at the fork; there no lock is touched, which
    /// a thread that no longer exists may hold for ever.
    pub fn observe(&self, py: Python<'_>) -> PyResult<()> {
        if self.forks == forks() {
            self.completion.observe(self.index);
            return Ok(());
        }
        if self.done() { Ok(()) } else { Err(forked(py)) }
    }

    pub fn resolved(&self, py: Python<'_>) -> PyResult<Result<RecordMetadata, Py<PyAny>>> {
        let (leaf, index) = self.completion.leaf(self.index);
        match leaf.outcome() {
            Some(Outcome::Delivered { base_offset, log_append_time_ms }) => {
                Ok(Ok(self.sizes.metadata(&leaf, *base_offset, *log_append_time_ms, index)))
            }
            Some(Outcome::Failed(failure)) => {
                if let Some(error) = ERRORS.lock().get(&self.place()) {
                    return Ok(Err(error.clone_ref(py)));
                }
                // Made, and dropped if another thread was quicker, without the lock: both may run Python.
                let made = python::delivery_error(py, &leaf, failure, index)?.unbind();
                Ok(Err(ERRORS.lock().entry(self.place()).or_insert_with(|| made.clone_ref(py)).clone_ref(py)))
            }
            Some(Outcome::Split(_)) | None => {
                Err(pyo3::exceptions::PyRuntimeError::new_err("the future is not resolved (a bug in Penstock)"))
            }
        }
    }

    /// Of a future of that class.
    pub fn repr(&self, class: &str) -> String {
        let (leaf, index) = self.completion.leaf(self.index);
        let place = format!("{}-{}", leaf.topic, leaf.partition);
        match leaf.outcome() {
            Some(Outcome::Delivered { base_offset, .. }) if *base_offset >= 0 => {
                format!("<{class} {place} at offset {}>", base_offset.saturating_add(i64::from(index)))
            }
            Some(Outcome::Delivered { .. }) => format!("<{class} {place} delivered>"),
            Some(Outcome::Failed(_)) => format!("<{class} {place} failed>"),
            _ => format!("<{class} {place} on its way>"),
        }
    }
}

impl DeliveryFuture {
    pub fn new(completion: Arc<Completion>, index: u32, sizes: Sizes) -> Self {
        Self { sent: Sent::new(completion, index, sizes) }
    }

    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.sent.observe(py)?;
        if self.sent.done() {
            return Ok(());
        }
        let until = deadline(timeout);
        let (completion, index) = (&self.sent.completion, self.sent.index);
        let done = match hub::bell(py)? {
            None => wait_in_slices(py, until, |slice| completion.wait(index, Some(slice)))?,
            Some(bell) => self.wait_in_hub(py, &bell, until)?,
        };
        if done {
            return Ok(());
        }
        Err(PyTimeoutError::new_err(format!(
            "the record for {}-{} is still on its way after {} s; delivery.timeout.ms bounds how long that can last",
            completion.topic,
            completion.partition,
            timeout.unwrap_or_default(),
        )))
    }

    /// Whether the record is resolved by the deadline.
    fn wait_in_hub(&self, py: Python<'_>, bell: &Bell<'_>, until: Option<Instant>) -> PyResult<bool> {
        let (completion, index) = (&self.sent.completion, self.sent.index);
        let notice = bell.notice(py);
        let token = notice.token;
        if !completion.add_notice(index, &notice, false) {
            hub::drop_notice(token);
            return Ok(true);
        }
        let done = bell.wait_until(py, until, || self.sent.check_fork(py).map(|()| self.sent.done()));
        // What was given already ends nobody's wait.
        if self.sent.is_own() && !completion.take_notices(index, false, |other| other == token).is_empty() {
            hub::drop_notice(token);
        }
        done
    }
}

#[pymethods]
impl DeliveryFuture {
    /// Wait up to `timeout` seconds (None: without limit) and return the `RecordMetadata`, or raise why it failed.
    #[pyo3(signature = (timeout = None))]
    fn result(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<RecordMetadata> {
        let timeout = seconds(timeout)?;
        if let Some(metadata) = self.sent.delivered() {
            return Ok(metadata);
        }
        self.wait(py, timeout)?;
        self.sent.resolved(py)?.map_err(|error| PyErr::from_value(error.into_bound(py)))
    }

    /// Wait up to `timeout` seconds (None: without limit) and return the error, or None if the record was delivered.
    #[pyo3(signature = (timeout = None))]
    fn exception(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        let timeout = seconds(timeout)?;
        if matches!(self.sent.completion.outcome(), Some(Outcome::Delivered { .. })) {
            return Ok(None);
        }
        self.wait(py, timeout)?;
        Ok(self.sent.resolved(py)?.err())
    }

    /// Whether the record is delivered or has failed.
    fn done(&self) -> bool {
        self.sent.done()
    }

    /// Whether the record is still on its way.
    fn running(&self) -> bool {
        !self.sent.done()
    }

    /// False: a record that was sent cannot be unsent.
    #[expect(clippy::unused_self, reason = "the signature is concurrent.futures'")]
    fn cancel(&self) -> bool {
        false
    }

    /// False, always.
    #[expect(clippy::unused_self, reason = "the signature is concurrent.futures'")]
    fn cancelled(&self) -> bool {
        false
    }

    /// Have `fn(future)` called on the callback thread once the record is resolved; at once, here, if it is already.
    /// An exception that it raises is logged.
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Bound<'_, PyAny>) -> PyResult<()> {
        if !r#fn.is_callable() {
            return Err(PyTypeError::new_err(format!("not callable: {}", r#fn.get_type())));
        }
        let this = &slf.get().sent;
        this.observe(slf.py())?;
        let callback = Callback::Done { function: r#fn.clone().unbind(), future: slf.clone().unbind() };
        let token = CALLBACKS.insert(callback);
        let added = if this.done() { Err(token) } else { this.completion.add_callback(this.index, token, true) };
        if let Err(token) = added {
            CALLBACKS.remove(token);
            if let Err(error) = shutdown::python(slf.py(), || r#fn.call1((slf,))) {
                // As `concurrent.futures` does it; Ctrl-C and the like are not the callback's own trouble.
                let py = slf.py();
                if !error.is_instance_of::<PyException>(py) {
                    return Err(error);
                }
                python::report_callback_error(py, &r#fn, error)?;
            }
        }
        Ok(())
    }

    fn __repr__(&self) -> String {
        self.sent.repr("DeliveryFuture")
    }
}
