//! One record's delivery: its place in a batch, its outcome, and the metadata or error made of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use penstock_core::outcome::{Completion, Outcome};
use penstock_core::sync::Mutex;
use pyo3::prelude::*;

use crate::record::metadata::RecordMetadata;
use crate::runtime::errors;
use crate::runtime::fork::{forked, forks};

/// The part of a record's metadata that the batch's outcome does not hold.
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
    /// Of a record that is not serialized yet.
    pub const UNKNOWN: Self = Self { timestamp: -1, key: -1, value: -1 };

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

/// A record's place in its batch, and how it ended: the part that the futures of both facades share.
pub struct Delivery {
    pub completion: Arc<Completion>,
    pub index: u32,
    /// Of the process that sent: nothing resolves a record in a child.
    forks: u32,
    pub sizes: Sizes,
}

/// The errors of failed records whose futures were read, by [`Delivery::place`]: a second read returns the same
/// one. Kept here because most futures have none, and a million of them would carry the room for it. Used with the GIL held
/// only.
static ERRORS: Mutex<BTreeMap<(usize, u32), Py<PyAny>>> = Mutex::new(BTreeMap::new());

/// Nearly all records are delivered or unresolved, and have no error to forget.
impl Drop for Delivery {
    #[inline]
    fn drop(&mut self) {
        if matches!(self.completion.outcome(), Some(Outcome::Failed(_) | Outcome::Split(_))) {
            let forgotten = ERRORS.lock().remove(&self.place());
            drop(forgotten);
        }
    }
}

impl Delivery {
    #[inline]
    pub fn new(completion: Arc<Completion>, index: u32, sizes: Sizes) -> Self {
        Self { completion, index, forks: forks(), sizes }
    }

    /// Whether this process sent it. A child takes no lock.
    pub fn is_own(&self) -> bool {
        self.forks == forks()
    }

    /// Unique among living futures.
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

    /// The metadata, if the record is delivered: the common case, without a lock.
    #[inline]
    pub fn delivered(&self) -> Option<RecordMetadata> {
        match self.completion.outcome() {
            Some(Outcome::Delivered { base_offset, log_append_time_ms }) => {
                Some(self.sizes.metadata(&self.completion, *base_offset, *log_append_time_ms, self.index))
            }
            _ => None,
        }
    }

    /// Raise in a child if the record was not resolved at the fork.
    pub fn check_fork(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_own() || self.done() { Ok(()) } else { Err(forked(py)) }
    }

    /// Note that the result was read. Raises in a child if the record was not resolved at the fork. A child takes no
    /// lock: a thread that exists in the parent only may hold it forever.
    pub fn observe(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_own() {
            self.completion.observe(self.index);
            return Ok(());
        }
        if self.done() { Ok(()) } else { Err(forked(py)) }
    }

    /// The metadata or the error of a record that is resolved.
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
                // Made without the lock, because making and dropping it may run Python. The first one is kept.
                let made = errors::delivery_error(py, &leaf, failure, index)?.unbind();
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
            _ => format!("<{class} {place} being sent>"),
        }
    }
}

/// (metadata, error) of a record, one of them None; None if it is not resolved.
pub fn outcome<'py>(
    py: Python<'py>,
    completion: &Arc<Completion>,
    index: u32,
    sizes: &Sizes,
) -> PyResult<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    let none = py.None().into_bound(py);
    Ok(match completion.outcome() {
        Some(Outcome::Delivered { base_offset, log_append_time_ms }) => {
            let metadata = sizes.metadata(completion, *base_offset, *log_append_time_ms, index);
            Some((metadata.into_pyobject(py)?.into_any(), none))
        }
        Some(Outcome::Failed(failure)) => Some((none, errors::delivery_error(py, completion, failure, index)?)),
        // A split moves its callbacks to the children; an unresolved batch has no callbacks to run.
        Some(Outcome::Split(_)) | None => None,
    })
}
