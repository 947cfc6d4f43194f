//! What became of many records, in runs instead of a future for each: [`Outcomes`], the engine room of both facades' results,
//! and `BulkResult`, the blocking one's (asyncio's is in `aio/bulk.rs`).

use std::sync::Arc;
use std::time::Instant;

use penstock_core::accumulator::Shared;
use penstock_core::bulk::{NOT_BUFFERED, Placed};
use penstock_core::outcome::Arrivals;
use penstock_core::outcome::{Completion, Failure, FailureKind, Outcome};
use pyo3::exceptions::{PyException, PyTimeoutError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::aio::wait::EndWait;
use crate::blocking::future::{deadline, seconds, wait_in_slices};
use crate::runtime::callbacks::{CALLBACKS, Callback};
use crate::runtime::engine::{forked, forks};
use crate::runtime::hub;
use crate::runtime::python;
use crate::runtime::shutdown;

/// Neighbours that could not be buffered, for the same reason.
pub struct Refused {
    pub first: u64,
    pub count: u64,
    pub error: Py<PyAny>,
}

/// What both facades' results are made of.
pub struct Outcomes {
    topic: String,
    placed: Placed,
    refused: Vec<Refused>,
    /// Stands for the refused ones in the count of failures that nobody noticed.
    unbuffered: Option<Arc<Completion>>,
    /// Of the process that sent: nothing resolves a record in a child.
    forks: u32,
    errors: PyOnceLock<Py<PyDict>>,
    offsets: PyOnceLock<Py<PyAny>>,
    partitions: PyOnceLock<Py<PyAny>>,
}

impl Outcomes {
    pub fn new(py: Python<'_>, shared: &Shared, topic: &str, placed: Placed, refused: Vec<Refused>) -> Self {
        let unbuffered = refused.first().map(|first| {
            let records: u64 = refused.iter().map(|refused| refused.count).sum();
            let completion = Completion::new(topic.into(), -1);
            let failure = Failure {
                kind: FailureKind::Refused,
                code: 0,
                stage: "buffer",
                broker: -1,
                attempts: 0,
                possibly_persisted: false,
                message: first.error.bind(py).str().map_or_else(|_| String::new(), |text| text.to_string()),
                elapsed_ms: 0,
                arrivals: Arrivals::default(),
                record_errors: Vec::new(),
            };
            completion.resolve(Outcome::Failed(Box::new(failure)));
            shared.note_failure(&completion, u32::try_from(records).unwrap_or(u32::MAX));
            completion
        });
        Self {
            topic: topic.to_owned(),
            placed,
            refused,
            unbuffered,
            forks: forks(),
            errors: PyOnceLock::new(),
            offsets: PyOnceLock::new(),
            partitions: PyOnceLock::new(),
        }
    }

    /// Whether every record is delivered or has failed.
    pub fn is_done(&self) -> bool {
        self.placed.batches.iter().all(|batch| batch.is_resolved())
    }

    /// The batches that hold some of the records.
    pub fn batches(&self) -> &[Arc<Completion>] {
        &self.placed.batches
    }

    /// Raise in a child if records were on their way at the fork.
    pub fn check_fork(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_foreign() && !self.is_done() { Err(forked(py)) } else { Ok(()) }
    }

    /// Whether this is a child of the process that sent.
    pub fn is_foreign(&self) -> bool {
        self.forks != forks()
    }

    /// Records that are on their way, and all.
    pub fn pending(&self) -> (u64, u64) {
        let mut pending = 0;
        self.walk(|batch, _, count| {
            pending += if batch.is_some_and(|batch| batch.outcome().is_none()) { u64::from(count) } else { 0 };
        });
        (pending, self.placed.records)
    }

    /// All runs from the first record to the last, splits followed: the batch (None: not buffered), index in it, count.
    fn walk(&self, mut see: impl FnMut(Option<&Arc<Completion>>, u32, u32)) {
        for run in &self.placed.runs {
            if run.batch == NOT_BUFFERED {
                see(None, 0, run.count);
                continue;
            }
            let batch = &self.placed.batches[run.batch as usize];
            batch.leaves(run.first, run.count, &mut |leaf, first, count| see(Some(leaf), first, count));
        }
    }

    /// Somebody looks: failures are no longer unnoticed.
    pub fn observe(&self) {
        if self.is_foreign() {
            return; // a lock may be held for ever by a thread that exists in the parent only
        }
        for run in self.placed.runs.iter().filter(|run| run.batch != NOT_BUFFERED) {
            self.placed.batches[run.batch as usize].observe_run(run.first, run.count);
        }
        if let Some(unbuffered) = &self.unbuffered {
            let records: u64 = self.refused.iter().map(|refused| refused.count).sum();
            unbuffered.observe_run(0, u32::try_from(records).unwrap_or(u32::MAX));
        }
    }

    fn read_errors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let errors = PyDict::new(py);
        let mut failed: Vec<(u64, Arc<Completion>, u32, u32)> = Vec::new();
        let mut at = 0;
        self.walk(|batch, first, count| {
            if let Some(batch) = batch
                && matches!(batch.outcome(), Some(Outcome::Failed(_)))
            {
                failed.push((at, Arc::clone(batch), first, count));
            }
            at += u64::from(count);
        });
        let mut refused = self.refused.iter().peekable();
        let mut insert_refused = |until: u64| -> PyResult<()> {
            while let Some(next) = refused.next_if(|refused| refused.first < until) {
                for index in next.first..next.first + next.count {
                    errors.set_item(index, &next.error)?;
                }
            }
            Ok(())
        };
        // Records of one batch share an error, unless the broker had something to say about one of them (KIP-467), or they
        // were not sent at once: the error tells their age.
        let mut shared: Option<(Arc<Completion>, u64, Bound<'py, PyAny>)> = None;
        for (at, batch, first, count) in failed {
            let Some(Outcome::Failed(failure)) = batch.outcome() else { continue };
            insert_refused(at)?;
            for index in first..first + count {
                let error = if failure.record_errors.iter().any(|(blamed, _)| *blamed == index) {
                    python::delivery_error(py, &batch, failure, index)?
                } else {
                    let age_ms = failure.age_ms(index);
                    match &shared {
                        Some((of, same_ms, error)) if Arc::ptr_eq(of, &batch) && *same_ms == age_ms => error.clone(),
                        _ => {
                            let error = python::delivery_error(py, &batch, failure, index)?;
                            shared = Some((Arc::clone(&batch), age_ms, error.clone()));
                            error
                        }
                    }
                };
                errors.set_item(at + u64::from(index - first), error)?;
            }
        }
        insert_refused(u64::MAX)?;
        Ok(errors)
    }

    /// The errors by index, once all is resolved.
    pub fn errors<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyDict>> {
        self.observe();
        Ok(self.errors.get_or_try_init(py, || self.read_errors(py).map(Bound::unbind))?.bind(py))
    }

    /// Raise if records failed, once all is resolved.
    pub fn raise_for_errors(&self, py: Python<'_>) -> PyResult<()> {
        let errors = self.errors(py)?;
        if errors.is_empty() {
            return Ok(());
        }
        Err(python::error_by(
            py,
            "bulk_error",
            &[("errors", errors.clone().into_any()), ("records", self.placed.records.into_pyobject(py)?.into_any())],
        ))
    }

    /// -1 for a record without an offset, once all is resolved.
    pub fn offsets(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let made = self.offsets.get_or_try_init(py, || {
            let mut bytes: Vec<u8> = Vec::with_capacity(self.placed.records as usize * 8);
            self.walk(|batch, first, count| {
                let base = match batch.and_then(|batch| batch.outcome()) {
                    Some(Outcome::Delivered { base_offset, .. }) if *base_offset >= 0 => Some(*base_offset),
                    _ => None,
                };
                for index in first..first + count {
                    let offset = base.map_or(-1, |base| base.saturating_add(i64::from(index)));
                    bytes.extend_from_slice(&offset.to_ne_bytes());
                }
            });
            array(py, "q", &bytes).map(Bound::unbind)
        })?;
        Ok(made.clone_ref(py))
    }

    /// -1 for a record that was not buffered.
    pub fn partitions(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let made = self.partitions.get_or_try_init(py, || {
            let mut bytes: Vec<u8> = Vec::with_capacity(self.placed.records as usize * 4);
            self.walk(|batch, _, count| {
                let partition = batch.map_or(-1, |batch| batch.partition);
                for _ in 0..count {
                    bytes.extend_from_slice(&partition.to_ne_bytes());
                }
            });
            array(py, "i", &bytes).map(Bound::unbind)
        })?;
        Ok(made.clone_ref(py))
    }

    /// Of keys and values that were buffered.
    pub fn bytes(&self) -> u64 {
        self.placed.bytes
    }

    /// Records, refused ones included.
    pub fn len(&self) -> usize {
        self.placed.records as usize
    }

    fn failures(&self) -> u64 {
        let mut failed = 0;
        self.walk(|batch, _, count| {
            if batch.is_none_or(|batch| matches!(batch.outcome(), Some(Outcome::Failed(_)))) {
                failed += u64::from(count);
            }
        });
        failed
    }

    /// Have `function(result)` called on the callback thread when all is resolved; given back if all is, as far as batch
    /// `from` and those behind it go.
    ///
    /// One batch at a time carries it: when that one is resolved, the next one that is not takes over.
    pub fn watch(self: &Arc<Self>, mut function: Py<PyAny>, mut result: Py<PyAny>, from: usize) -> Option<Watcher> {
        for (at, batch) in self.placed.batches.iter().enumerate().skip(from) {
            while let Some(leaf) = batch.first_unresolved() {
                let of = Arc::clone(self);
                let token = CALLBACKS.insert(Callback::Bulk { function, result, of, at });
                // Not as observed: the batch's first record may be somebody else's.
                let Err(token) = leaf.add_callback(0, token, false) else { return None };
                let Some(Callback::Bulk { function: back, result: itself, .. }) = CALLBACKS.remove(token) else {
                    return None;
                };
                (function, result) = (back, itself);
            }
        }
        Some(Watcher { function, result })
    }

    /// Of a result of that class.
    pub fn repr(&self, class: &str) -> String {
        let records = if self.placed.records == 1 { "record" } else { "records" };
        let state = match (self.is_done(), self.failures()) {
            (false, _) => "on their way".to_owned(),
            (true, 0) => "delivered".to_owned(),
            (true, failed) => format!("{failed} failed"),
        };
        format!("<{class} {} {records} for {}: {state}>", self.placed.records, self.topic)
    }
}

/// Who is to be called, and with what.
pub struct Watcher {
    pub function: Py<PyAny>,
    pub result: Py<PyAny>,
}

/// `array.array(code, …)` of these bytes: a sequence of ints that numpy takes without copying.
fn array<'py>(py: Python<'py>, code: &str, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    static ARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let array = ARRAY.import(py, "array", "array")?;
    shutdown::python(py, || array.call1((code, PyBytes::new(py, bytes))))
}

/// What became of the records of one `send_many` or `send_arrow`, each by its index in what was given.
///
/// `len(result)` records were taken: all that were given, unless an iterator of unknown length stopped the call.
/// `errors`, `offsets` and `raise_for_errors` wait, as `result` does, until every record is delivered or has failed
/// (at most delivery.timeout.ms, plus a tick). Failures count as noticed once `errors` or `raise_for_errors` was asked,
/// or there is a callback; else `flush` and `close` tell of them, as of futures that nobody asked.
#[pyclass(frozen, module = "penstock")]
pub struct BulkResult {
    of: Arc<Outcomes>,
}

impl BulkResult {
    pub fn new(of: Outcomes) -> Self {
        Self { of: Arc::new(of) }
    }

    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        if self.of.is_done() {
            return Ok(());
        }
        self.of.check_fork(py)?;
        let until = deadline(timeout);
        let done = match hub::bell(py)? {
            None => {
                let wait = |slice: Instant| self.of.batches().iter().all(|batch| batch.wait_all(Some(slice)));
                wait_in_slices(py, until, wait)?
            }
            Some(bell) => {
                let mut end = EndWait::new(self.of.batches().to_vec());
                let look = || self.of.check_fork(py).map(|()| end.look(py, bell.inbox.get(), &bell.ring));
                let done = bell.wait_until(py, until, look);
                if !self.of.is_foreign() {
                    end.forget();
                }
                done?
            }
        };
        if done {
            return Ok(());
        }
        let (pending, records) = self.of.pending();
        Err(PyTimeoutError::new_err(format!(
            "{pending} of {records} records for {} are still on their way after {} s; delivery.timeout.ms bounds how long \
             that can last",
            self.of.topic,
            timeout.unwrap_or_default(),
        )))
    }
}

#[pymethods]
impl BulkResult {
    /// Wait up to `timeout` seconds (None: without limit) until every record is delivered or has failed; returns itself.
    ///
    /// Raises the builtin `TimeoutError` while some are on their way, `ValueError` for a negative timeout. It does not raise
    /// for failed records: see `errors` and `raise_for_errors`.
    #[pyo3(signature = (timeout = None))]
    fn result<'py>(slf: &Bound<'py, Self>, timeout: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, Self>> {
        slf.get().wait(slf.py(), seconds(timeout)?)?;
        Ok(slf.clone())
    }

    /// Whether every record is delivered or has failed.
    fn done(&self) -> bool {
        self.of.is_done()
    }

    /// The failed records: index and error (several may share one). Empty when all is well.
    #[getter]
    fn errors(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        self.wait(py, None)?;
        Ok(self.of.errors(py)?.clone().unbind())
    }

    /// Wait, and raise `DeliveryError` if records failed: how many, and the first ones' errors.
    fn raise_for_errors(&self, py: Python<'_>) -> PyResult<()> {
        self.wait(py, None)?;
        self.of.raise_for_errors(py)
    }

    /// The records' offsets, an `array` of 64-bit ints: -1 for one that failed, or whose offset is unknown (acks=0).
    #[getter]
    fn offsets(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.wait(py, None)?;
        self.of.offsets(py)
    }

    /// The records' partitions, an `array` of 32-bit ints: -1 for one that could not be buffered. Does not wait.
    #[getter]
    fn partitions(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.of.partitions(py)
    }

    /// Bytes of all keys and values that were buffered, serialized.
    #[getter]
    fn serialized_bytes(&self) -> u64 {
        self.of.bytes()
    }

    /// Have `fn(result)` called on the callback thread once every record is resolved; at once, here, if all are already.
    /// An exception that it raises is logged.
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Bound<'_, PyAny>) -> PyResult<()> {
        let (py, of) = (slf.py(), &slf.get().of);
        if !r#fn.is_callable() {
            return Err(PyTypeError::new_err(format!("not callable: {}", r#fn.get_type())));
        }
        of.check_fork(py)?;
        of.observe();
        if let Some(Watcher { function, result }) = of.watch(r#fn.clone().unbind(), slf.clone().into_any().unbind(), 0)
            && let Err(error) = shutdown::python(py, || function.bind(py).call1((result,)))
        {
            // As `DeliveryFuture` does it.
            if !error.is_instance_of::<PyException>(py) {
                return Err(error);
            }
            python::report_callback_error(py, &r#fn, error)?;
        }
        Ok(())
    }

    fn __len__(&self) -> usize {
        self.of.len()
    }

    /// True, also without records: `if result:` asks whether there is one.
    #[expect(clippy::unused_self, reason = "the signature is Python's")]
    fn __bool__(&self) -> bool {
        true
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let name = slf.get_type().getattr(intern!(slf.py(), "__name__"))?;
        Ok(slf.get().of.repr(name.cast::<PyString>()?.to_str()?))
    }
}
