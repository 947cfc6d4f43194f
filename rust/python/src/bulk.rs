//! What `send_many` and `send_arrow` share: chunks of serialized records into batches, and what becomes of those that cannot
//! be buffered.

use penstock_core::accumulator::Shared;
use penstock_core::bulk::{CHOOSE, Chunk, Partitions, Placed, Progress, Rows};
use penstock_core::topic::Topic;
use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::sync::Arc;
use std::time::Instant;

use crate::bulk_result::{BulkResult, Refused};
use crate::future::SLICE;
use crate::python;
use crate::record::check_topic;
use crate::sender::{Call, State, count_wait};

/// Below this many bytes a chunk is appended with the GIL kept: to let go of it and get it back costs more.
const DETACH_BYTES: usize = 16 * 1024;

/// The part of a call that needs no GIL.
#[derive(Default)]
pub struct Buffering {
    chunk: Chunk,
    placed: Placed,
    /// Memory that was waited for.
    grant: usize,
    /// The topic's last snapshot.
    topic: Option<Arc<Topic>>,
    /// Something is buffered.
    any: bool,
    /// A chunk is under way.
    pending: bool,
}

impl Buffering {
    /// Buffer a chunk if that takes no more than moments. False: [`Bulk::append`] is to see to it, and finds what was done.
    ///
    /// No more than moments, but for a wait for memory of one slice.
    pub fn append(&mut self, shared: &Shared, rows: &Rows<'_>) -> bool {
        if !self.any {
            return false;
        }
        let Some(topic) = self.topic.clone() else { return false };
        if highest_partition(rows).is_some_and(|partition| partition as u32 >= topic.partitions()) {
            return false;
        }
        self.begin(shared, &topic, rows);
        loop {
            match self.step(shared, &topic, rows) {
                Progress::Done => break,
                Progress::Closed => return false,
                Progress::NeedsMemory(bytes) => {
                    let began = Instant::now();
                    let waiter = shared.queue_for_memory(bytes);
                    let granted = shared.pool.wait(&waiter, began + SLICE);
                    count_wait(&shared.memory_wait_ns, began);
                    if !granted {
                        shared.pool.cancel(&waiter);
                        shared.relax();
                        return false;
                    }
                    self.grant += bytes;
                }
            }
        }
        if !self.chunk.too_large.is_empty() {
            return false;
        }
        self.finish(shared, rows);
        true
    }

    fn begin(&mut self, shared: &Shared, topic: &Topic, rows: &Rows<'_>) {
        self.chunk.begin(topic, rows, shared.config.partitioning.ignore_keys);
        self.pending = true;
    }

    fn step(&mut self, shared: &Shared, topic: &Topic, rows: &Rows<'_>) -> Progress {
        shared.append_many(topic, rows, &mut self.chunk, &mut self.placed, &mut self.grant)
    }

    /// The rows that are not buffered, but for those that are too large.
    fn finish(&mut self, shared: &Shared, rows: &Rows<'_>) -> Vec<u32> {
        self.pending = false;
        self.give_back(shared);
        let left = self.chunk.finish(rows, &mut self.placed);
        self.any |= left.len() + self.chunk.too_large.len() < rows.values.len();
        left
    }

    fn give_back(&mut self, shared: &Shared) {
        let grant = std::mem::take(&mut self.grant);
        if grant > 0 {
            shared.release(grant);
        }
    }
}

fn highest_partition(rows: &Rows<'_>) -> Option<i32> {
    match rows.partitions {
        Partitions::Choose => None,
        Partitions::All(partition) => Some(partition as i32),
        Partitions::Each(each) => each.iter().copied().max().filter(|&partition| partition != CHOOSE),
    }
}

/// One call under way: what was buffered, and what could not be.
///
/// The rule of both calls: as long as nothing is buffered, an error is raised; afterwards it is told in the result, since
/// the caller must not lose track of what is on its way. Only what is no `Exception` (Ctrl-C), or comes from a signal
/// handler during a wait, is raised all the same.
pub struct Bulk<'a, 'py> {
    pub state: &'a State,
    pub py: Python<'py>,
    pub topic: Bound<'py, PyString>,
    method: &'static str,
    pub buffering: Buffering,
    refused: Vec<Refused>,
    /// Why no more records are taken.
    stopped: Option<Py<PyAny>>,
}

impl<'a, 'py> Bulk<'a, 'py> {
    /// Check what can be checked before the first record.
    pub fn begin(state: &'a State, py: Python<'py>, topic: &Bound<'py, PyAny>, method: &'static str) -> PyResult<Self> {
        let Ok(topic) = topic.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!("topic must be a str, not {}", topic.get_type())));
        };
        check_topic(py, &topic.to_string_lossy())?;
        state.core.check_fork(py)?;
        state.check_open(py)?;
        Ok(Self {
            state,
            py,
            topic: topic.clone(),
            method,
            buffering: Buffering::default(),
            refused: Vec::new(),
            stopped: None,
        })
    }

    /// Whether records are still taken.
    pub fn goes_on(&self) -> bool {
        self.stopped.is_none()
    }

    /// Records so far, refused ones included.
    pub fn records(&self) -> u64 {
        self.buffering.placed.records
    }

    /// The next record cannot be buffered.
    pub fn refuse(&mut self, error: PyErr) -> PyResult<()> {
        let error = self.told(error)?;
        self.note(self.records(), 1, error);
        self.buffering.placed.push_not_buffered(1);
        Ok(())
    }

    /// The next record cannot be buffered, nor those that follow it.
    pub fn stop(&mut self, error: PyErr) -> PyResult<()> {
        self.refuse(error)?;
        self.stopped = self.refused.last().map(|refused| refused.error.clone_ref(self.py));
        Ok(())
    }

    /// An error as an entry of the result; raised where it must be.
    fn told(&self, error: PyErr) -> PyResult<Py<PyAny>> {
        if !self.buffering.any || !error.is_instance_of::<PyException>(self.py) {
            return Err(error);
        }
        python::not_buffered(self.py, error, &self.topic)
    }

    /// A snapshot of the topic that has a partition of this number, waited for if need be.
    fn topic(&mut self, partition: Option<i32>) -> PyResult<Arc<Topic>> {
        let topic = self.state.topic(self.py, &self.topic, partition, self.method, &self.state.deadline())?;
        self.buffering.topic = Some(Arc::clone(&topic));
        Ok(topic)
    }

    /// Buffer a chunk, or go on with one that [`Buffering::append`] left. Afterwards look at [`Bulk::goes_on`].
    pub fn append(&mut self, rows: &Rows<'_>) -> PyResult<()> {
        if rows.values.is_empty() {
            return Ok(());
        }
        let shared = &self.state.core.shared;
        let highest = highest_partition(rows);
        let topic = self.topic(highest);
        if !self.buffering.any {
            self.check_size(rows, 0)?; // what the first record is refused for is raised
        }
        let mut topic = match topic {
            Ok(topic) => topic,
            Err(error) if self.buffering.pending => return self.finish(rows, Some(error)),
            Err(error) => return self.stop_at(rows.values.len(), error),
        };
        let ignore_keys = shared.config.partitioning.ignore_keys;
        if self.buffering.pending {
            self.buffering.chunk.regroup(&topic, rows, ignore_keys);
        } else {
            self.buffering.begin(shared, &topic, rows);
        }
        let bytes: usize = rows.values.iter().chain(rows.keys).flatten().map(|bytes| bytes.len()).sum();
        loop {
            let buffering = &mut self.buffering;
            let mut step = || buffering.step(shared, &topic, rows);
            let progress = if bytes < DETACH_BYTES { step() } else { self.py.detach(step) };
            let error = match progress {
                Progress::Done => return self.finish(rows, None),
                // A new time for each wait: between two of them there was progress.
                Progress::NeedsMemory(bytes) => {
                    match self.state.wait_for_memory(self.py, &topic, bytes, &self.state.deadline()) {
                        Ok(()) => {
                            self.buffering.grant += bytes;
                            continue;
                        }
                        Err(error) => error,
                    }
                }
                Progress::Closed => match self.state.check_open(self.py).and_then(|()| self.topic(highest)) {
                    Ok(newer) => {
                        topic = newer;
                        self.buffering.chunk.regroup(&topic, rows, ignore_keys);
                        continue;
                    }
                    Err(error) => error,
                },
            };
            return self.finish(rows, Some(error));
        }
    }

    /// The end of a chunk, cut short by `error` if there is one.
    fn finish(&mut self, rows: &Rows<'_>, error: Option<PyErr>) -> PyResult<()> {
        let left = self.buffering.finish(&self.state.core.shared, rows);
        let first = self.buffering.placed.records - rows.values.len() as u64;
        let too_large = std::mem::take(&mut self.buffering.chunk.too_large);
        let mut refused: Vec<(u32, Py<PyAny>)> = Vec::new();
        for row in too_large {
            if let Err(error) = self.check_size(rows, row as usize) {
                refused.push((row, self.told(error)?));
            }
        }
        if let Some(error) = error {
            // Ctrl-C, and whatever a signal handler raised.
            if !python::is_kafka_error(self.py, &error) {
                return Err(error);
            }
            let error = self.told(error)?;
            refused.extend(left.into_iter().map(|row| (row, error.clone_ref(self.py))));
            refused.sort_by_key(|(row, _)| *row);
            self.stopped = Some(error);
        }
        for (row, error) in refused {
            self.note(first + u64::from(row), 1, error);
        }
        Ok(())
    }

    /// Records `first` and those that follow it were refused.
    fn note(&mut self, first: u64, count: u64, error: Py<PyAny>) {
        match self.refused.last_mut() {
            Some(last) if last.first + last.count == first && last.error.is(&error) => last.count += count,
            _ => self.refused.push(Refused { first, count, error }),
        }
    }

    fn stop_at(&mut self, count: usize, error: PyErr) -> PyResult<()> {
        if !python::is_kafka_error(self.py, &error) {
            return Err(error);
        }
        self.stop(error)?;
        self.refuse_rest(count as u64 - 1);
        Ok(())
    }

    fn check_size(&self, rows: &Rows<'_>, row: usize) -> PyResult<()> {
        let partition = match rows.partitions {
            Partitions::All(partition) => Some(partition),
            Partitions::Each(each) => u32::try_from(each[row]).ok(),
            Partitions::Choose => None,
        };
        self.state
            .check_size(self.py, &self.topic, partition, rows.key(row), rows.values[row], rows.headers(row))
            .map_err(|error| *error)
    }

    /// `count` records more were given, and were not taken because of what stopped the call.
    pub fn refuse_rest(&mut self, count: u64) {
        if let Some(error) = &self.stopped
            && count > 0
        {
            self.note(self.records(), count, error.clone_ref(self.py));
            self.buffering.placed.push_not_buffered(count);
        }
    }

    /// All is taken.
    pub fn end(self) -> BulkResult {
        BulkResult::new(
            self.py,
            &self.state.core.shared,
            &self.topic.to_string_lossy(),
            self.buffering.placed,
            self.refused,
        )
    }

    /// One record as in `send`, for interceptors and partitioners.
    pub fn one(&mut self, call: &Call<'_, 'py>) -> PyResult<()> {
        match self.state.deliver(self.py, call, &Ok).map_err(|error| *error) {
            Ok(place) => {
                self.buffering.any = true;
                self.buffering.placed.push_one(&place.completion, place.index);
                let sizes = [place.sizes.key, place.sizes.value];
                self.buffering.placed.bytes += sizes.iter().map(|&size| u64::from(size.max(0) as u32)).sum::<u64>();
                Ok(())
            }
            Err(error) if python::is_final(self.py, &error) || self.state.check_open(self.py).is_err() => {
                self.stop(error)
            }
            Err(error) => self.refuse(error),
        }
    }
}
