//! The outcomes of many records, in runs instead of a future for each: the part that the bulk results of both facades share.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use penstock_core::append::{NOT_BUFFERED, Placed};
use penstock_core::outcome::Arrivals;
use penstock_core::outcome::{Completion, Failure, FailureKind, Outcome};
use penstock_core::shared::Shared;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};

use crate::runtime::errors;
use crate::runtime::fork::{forked, forks};
use crate::runtime::{shutdown, upcalls};

/// Neighbours that could not be buffered, for the same reason.
pub struct Refused {
    pub first: u64,
    pub count: u64,
    pub error: Py<PyAny>,
}

/// The records of one bulk call: where they were buffered, and which could not be.
pub struct Outcomes {
    pub topic: String,
    placed: Placed,
    /// By batch, once it is needed: see [`Outcomes::spans`].
    spans: OnceLock<Vec<Range<u32>>>,
    refused: Vec<Refused>,
    /// Counts the refused ones among the failures that were not noticed.
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
            shared.failures.note(&completion, u32::try_from(records).unwrap_or(u32::MAX));
            completion
        });
        Self {
            topic: topic.to_owned(),
            placed,
            spans: OnceLock::new(),
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
        let batches = &self.placed.batches;
        // Mostly no batch is split, and no span is needed.
        batches.iter().all(Completion::is_resolved)
            || (batches.iter().all(|batch| batch.outcome().is_some())
                && self.spans().all(|(batch, span)| batch.first_unresolved_in(span).is_none()))
    }

    /// The batches that hold some of the records, and for each the records of it from the first one to the last one that
    /// is of this call. Those of other calls between them are not younger than the last one: due no later. The younger
    /// ones of the batch may take longer.
    pub fn spans(&self) -> impl Iterator<Item = (&Arc<Completion>, Range<u32>)> {
        let spans = self.spans.get_or_init(|| {
            let none = Range { start: u32::MAX, end: 0 };
            let mut spans = vec![none; self.placed.batches.len()];
            for run in self.placed.runs.iter().filter(|run| run.batch != NOT_BUFFERED) {
                let span = &mut spans[run.batch as usize];
                *span = span.start.min(run.first)..span.end.max(run.first + run.count);
            }
            spans
        });
        self.placed.batches.iter().zip(spans.iter().cloned())
    }

    /// Raise in a child if records were not resolved at the fork.
    pub fn check_fork(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_foreign() && !self.is_done() { Err(forked(py)) } else { Ok(()) }
    }

    /// Whether this is a child of the process that sent.
    pub fn is_foreign(&self) -> bool {
        self.forks != forks()
    }

    /// Records that are not resolved yet, and all.
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

    /// The outcomes were read: failures are no longer unnoticed.
    pub fn observe(&self) {
        if self.is_foreign() {
            return; // a thread that exists in the parent only may hold a lock forever
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
        // Records of one batch share an error, unless the broker blamed one of them (KIP-467) or they differ in age, which
        // the error contains.
        let mut shared: Option<(Arc<Completion>, u64, Bound<'py, PyAny>)> = None;
        for (at, batch, first, count) in failed {
            let Some(Outcome::Failed(failure)) = batch.outcome() else { continue };
            insert_refused(at)?;
            for index in first..first + count {
                let error = if failure.record_errors.iter().any(|(blamed, _)| *blamed == index) {
                    errors::delivery_error(py, &batch, failure, index)?
                } else {
                    let age_ms = failure.age_ms(index);
                    match &shared {
                        Some((of, same_ms, error)) if Arc::ptr_eq(of, &batch) && *same_ms == age_ms => error.clone(),
                        _ => {
                            let error = errors::delivery_error(py, &batch, failure, index)?;
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
        Err(errors::error_by(
            py,
            &upcalls::BULK_ERROR,
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

    /// Of a result of that class.
    pub fn repr(&self, class: &str) -> String {
        let records = if self.placed.records == 1 { "record" } else { "records" };
        let state = match (self.is_done(), self.failures()) {
            (false, _) => "being sent".to_owned(),
            (true, 0) => "delivered".to_owned(),
            (true, failed) => format!("{failed} failed"),
        };
        format!("<{class} {} {records} for {}: {state}>", self.placed.records, self.topic)
    }
}

/// `array.array(code, …)` of these bytes: a sequence of ints that numpy takes without copying.
fn array<'py>(py: Python<'py>, code: &str, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let array = upcalls::ARRAY.get(py)?;
    shutdown::python(py, || array.call1((code, PyBytes::new(py, bytes))))
}
