//! What `send_many` and `send_arrow` share, in both facades: chunks of serialized records into batches, and what becomes of
//! those that cannot be buffered.
//!
//! A call is a [`Source`] of chunks and an [`Ongoing`]. It advances in steps; where a step has to wait, the blocking facade
//! waits there and then, and asyncio's (`aio/bulk.rs`) comes back with the next step.

use penstock_core::append::{CHOOSE, Chunk, Partitions, Placed, Progress, Rows};
use penstock_core::shared::Shared;
use penstock_core::topic::Topic;
use pyo3::exceptions::{PyException, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::sync::Arc;
use std::time::Instant;

use crate::aio::sender::{AsyncSender, PendingSend};
use crate::blocking::bulk_result::{BulkResult, Outcomes, Refused};
use crate::blocking::future::SLICE;
use crate::record::check_topic;
use crate::runtime::python;
use crate::send::{Call, Place, State, count_wait};

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
    /// A chunk was begun, and [`Bulk::append`] is to go on with it.
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// Buffer a chunk if that takes no more than moments. False: [`Bulk::append`] is to see to it, and finds what was done.
    ///
    /// No more than moments, but for a wait for memory of one slice, where the caller may wait.
    pub fn append(&mut self, shared: &Shared, rows: &Rows<'_>, may_wait: bool) -> bool {
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
                Progress::NeedsMemory(_) if !may_wait => return false,
                Progress::NeedsMemory(bytes) => {
                    let began = Instant::now();
                    let waiter = shared.queue_for_memory(bytes, None);
                    let granted = shared.pool.wait(&waiter, began + SLICE);
                    count_wait(&shared.pool.waited, began);
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

    /// Memory that was waited for, and is not needed after all.
    pub fn give_back(&mut self, shared: &Shared) {
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

/// What a call has to wait for before it can go on.
pub enum Want {
    /// A snapshot of the topic, with a partition of that number if one is asked for.
    Topic(Option<i32>),
    /// So many bytes of buffer.memory.
    Memory(usize),
    /// The record that [`Bulk::one`] could not buffer at once.
    Record,
    /// The next entry of an async iterable.
    Entry,
}

/// What became of a step.
pub enum Step {
    /// Something was done: signals may be looked at, or an event loop have its turn.
    Turn,
    Wait(Want),
    /// All is taken that will be.
    End,
}

/// Where records come from, a chunk at a time. What a step could not finish, the next one goes on with.
pub trait Source {
    fn step(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Step>;
}

/// Who waits when a call has to.
pub enum Waits<'a> {
    /// The caller, without the GIL.
    Here,
    /// A coroutine: steps end with what is to be waited for, and at `until`.
    InLoop { owner: &'a Py<AsyncSender>, sending: &'a mut Option<PendingSend>, until: Instant },
}

/// One call under way: what was buffered, and what could not be.
pub struct Ongoing {
    topic: Py<PyString>,
    method: &'static str,
    buffering: Buffering,
    refused: Vec<Refused>,
    /// Why no more records are taken.
    stopped: Option<Py<PyAny>>,
    /// The snapshot that was waited for.
    found: Option<Arc<Topic>>,
    /// Why a wait was in vain: the chunk that waited ends with it.
    failed: Option<PyErr>,
}

impl Ongoing {
    /// Check what can be checked before the first record.
    pub fn begin(state: &State, py: Python<'_>, topic: &Bound<'_, PyAny>, method: &'static str) -> PyResult<Self> {
        let Ok(topic) = topic.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!("topic must be a str, not {}", topic.get_type())));
        };
        check_topic(py, &topic.to_string_lossy())?;
        state.core.check_fork(py)?;
        state.check_open(py)?;
        Ok(Self {
            topic: topic.clone().unbind(),
            method,
            buffering: Buffering::default(),
            refused: Vec::new(),
            stopped: None,
            found: None,
            failed: None,
        })
    }

    /// The call of a blocking facade: from the first record to the last.
    pub fn run(mut self, state: &State, py: Python<'_>, source: &mut impl Source) -> PyResult<BulkResult> {
        let mut bulk = Bulk::new(state, py, &mut self, Waits::Here);
        loop {
            match source.step(&mut bulk)? {
                Step::Turn => py.check_signals()?,
                Step::Wait(want) => bulk.wait(&want)?,
                Step::End => return Ok(BulkResult::new(self.end(py, state))),
            }
        }
    }

    /// All is taken.
    pub fn end(self, py: Python<'_>, state: &State) -> Outcomes {
        let topic = self.topic.bind(py).to_string_lossy();
        Outcomes::new(py, &state.core.shared, &topic, self.buffering.placed, self.refused)
    }

    /// The method's name, for messages.
    pub fn method(&self) -> &'static str {
        self.method
    }

    pub fn topic<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        self.topic.bind(py)
    }

    /// The topic's last snapshot, which a wait for memory is for.
    pub fn snapshot(&self) -> Option<Arc<Topic>> {
        self.buffering.topic.clone()
    }

    /// The wait for the topic is over.
    pub fn found(&mut self, topic: Arc<Topic>) {
        self.found = Some(topic);
    }

    /// The wait for memory is over.
    pub fn granted(&mut self, bytes: usize) {
        self.buffering.grant += bytes;
    }

    /// The wait was in vain.
    pub fn failed(&mut self, error: PyErr) {
        self.failed = Some(error);
    }

    /// Nothing more will be buffered, and nobody asks for the result.
    pub fn give_up(&mut self, state: &State) {
        if !state.core.is_foreign() {
            self.buffering.give_back(&state.core.shared);
        }
    }
}

/// A call at work.
///
/// The rule of both calls, in both facades: as long as nothing is buffered, an error is raised; afterwards it is told in the
/// result, since the caller must not lose track of what is on its way. Only what is no `Exception` (Ctrl-C, a
/// cancellation), or comes from a signal handler during a wait, is raised all the same.
pub struct Bulk<'a, 'py> {
    pub state: &'a State,
    pub py: Python<'py>,
    pub topic: Bound<'py, PyString>,
    call: &'a mut Ongoing,
    waits: Waits<'a>,
}

impl<'a, 'py> Bulk<'a, 'py> {
    pub fn new(state: &'a State, py: Python<'py>, call: &'a mut Ongoing, waits: Waits<'a>) -> Self {
        Self { state, py, topic: call.topic.bind(py).clone(), call, waits }
    }

    /// Whether the caller may wait inside a step.
    pub fn may_wait(&self) -> bool {
        matches!(self.waits, Waits::Here)
    }

    /// Whether the step has taken the time that an event loop can spare.
    #[inline]
    pub fn is_over(&self) -> bool {
        match &self.waits {
            Waits::Here => false,
            Waits::InLoop { until, .. } => Instant::now() >= *until,
        }
    }

    /// When the step is to end, if it is in an event loop.
    pub fn until(&self) -> Option<Instant> {
        match &self.waits {
            Waits::Here => None,
            Waits::InLoop { until, .. } => Some(*until),
        }
    }

    /// The part that needs no GIL.
    pub fn buffering(&mut self) -> &mut Buffering {
        &mut self.call.buffering
    }

    /// Whether records are still taken.
    pub fn goes_on(&self) -> bool {
        self.call.stopped.is_none()
    }

    /// Records so far, refused ones included.
    pub fn records(&self) -> u64 {
        self.call.buffering.placed.records
    }

    /// The next record cannot be buffered.
    pub fn refuse(&mut self, error: PyErr) -> PyResult<()> {
        let error = self.told(error)?;
        self.note(self.records(), 1, error);
        self.call.buffering.placed.push_not_buffered(1);
        Ok(())
    }

    /// The next record cannot be buffered, nor those that follow it.
    pub fn stop(&mut self, error: PyErr) -> PyResult<()> {
        self.refuse(error)?;
        self.call.stopped = self.call.refused.last().map(|refused| refused.error.clone_ref(self.py));
        Ok(())
    }

    /// An error as an entry of the result; raised where it must be.
    fn told(&self, error: PyErr) -> PyResult<Py<PyAny>> {
        if !self.call.buffering.any || !error.is_instance_of::<PyException>(self.py) {
            return Err(error);
        }
        python::not_buffered(self.py, error, &self.topic)
    }

    /// Wait here. In vain, the chunk that waited ends with the error.
    fn wait(&mut self, want: &Want) -> PyResult<()> {
        let (state, py) = (self.state, self.py);
        // A new time for each wait: between two of them there was progress.
        let deadline = &state.deadline();
        let waited = match (want, self.call.snapshot()) {
            (Want::Topic(partition), _) => {
                state.topic(py, &self.topic, *partition, self.call.method, deadline).map(|topic| self.call.found(topic))
            }
            (Want::Memory(bytes), Some(topic)) => {
                state.wait_for_memory(py, &topic, *bytes, deadline).map(|()| self.call.granted(*bytes))
            }
            _ => return Err(PyRuntimeError::new_err("that is waited for in an event loop only (a bug in Penstock)")),
        };
        if let Err(error) = waited {
            self.call.failed(error);
        }
        Ok(())
    }

    /// Buffer a chunk, or go on with one that waited or that [`Buffering::append`] left. What is returned is to be waited
    /// for before the same chunk comes again. None: look at [`Bulk::goes_on`].
    pub fn append(&mut self, rows: &Rows<'_>) -> PyResult<Option<Want>> {
        if rows.values.is_empty() {
            return Ok(None);
        }
        if !self.call.buffering.any {
            self.check_size(rows, 0)?; // what the first record is refused for is raised
        }
        loop {
            match self.advance(rows) {
                Ok(None) => self.finish(rows, None)?,
                Ok(Some(want)) if self.may_wait() => {
                    self.wait(&want)?;
                    continue;
                }
                Ok(Some(want)) => return Ok(Some(want)),
                Err(error) if self.call.buffering.pending => self.finish(rows, Some(error))?,
                Err(error) => self.stop_at(rows.values.len(), error)?,
            }
            return Ok(None);
        }
    }

    /// As far as it goes without a wait.
    fn advance(&mut self, rows: &Rows<'_>) -> PyResult<Option<Want>> {
        if let Some(error) = self.call.failed.take() {
            return Err(error);
        }
        let shared = &self.state.core.shared;
        let highest = highest_partition(rows);
        let bytes: usize = rows.values.iter().chain(rows.keys).flatten().map(|bytes| bytes.len()).sum();
        loop {
            let topic = match self.call.found.take() {
                Some(topic) => topic,
                None => match self.state.recent_topic(self.py, &self.topic, highest)? {
                    Some(topic) => topic,
                    None => return Ok(Some(Want::Topic(highest))),
                },
            };
            let buffering = &mut self.call.buffering;
            let before = buffering.topic.replace(Arc::clone(&topic));
            if !buffering.pending {
                buffering.begin(shared, &topic, rows);
            } else if !before.is_some_and(|before| Arc::ptr_eq(&before, &topic)) {
                buffering.chunk.regroup(&topic, rows, shared.config.partitioning.ignore_keys);
            }
            let mut step = || buffering.step(shared, &topic, rows);
            match if bytes < DETACH_BYTES { step() } else { self.py.detach(step) } {
                Progress::Done => return Ok(None),
                Progress::NeedsMemory(bytes) => return Ok(Some(Want::Memory(bytes))),
                // The topic was forgotten, or made anew: look again.
                Progress::Closed => self.state.check_open(self.py)?,
            }
        }
    }

    /// The end of a chunk, cut short by `error` if there is one.
    fn finish(&mut self, rows: &Rows<'_>, error: Option<PyErr>) -> PyResult<()> {
        let left = self.call.buffering.finish(&self.state.core.shared, rows);
        let first = self.call.buffering.placed.records - rows.values.len() as u64;
        let too_large = std::mem::take(&mut self.call.buffering.chunk.too_large);
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
            self.call.stopped = Some(error);
        }
        for (row, error) in refused {
            self.note(first + u64::from(row), 1, error);
        }
        Ok(())
    }

    /// Records `first` and those that follow it were refused.
    fn note(&mut self, first: u64, count: u64, error: Py<PyAny>) {
        match self.call.refused.last_mut() {
            Some(last) if last.first + last.count == first && last.error.is(&error) => last.count += count,
            _ => self.call.refused.push(Refused { first, count, error }),
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
        if let Some(error) = &self.call.stopped
            && count > 0
        {
            self.note(self.records(), count, error.clone_ref(self.py));
            self.call.buffering.placed.push_not_buffered(count);
        }
    }

    /// One record as in `send`, for interceptors and partitioners. What is returned is to be waited for, and its outcome
    /// to be told ([`Bulk::placed`]).
    pub fn one(&mut self, call: &Call<'_, 'py>) -> PyResult<Option<Want>> {
        let placed = match &mut self.waits {
            Waits::Here => self.state.deliver(self.py, call, &Ok).map_err(|error| *error),
            Waits::InLoop { owner, sending, .. } => {
                match PendingSend::place_or_keep(owner.bind(self.py), self.state, call) {
                    Ok(Ok(place)) => Ok(place),
                    Ok(Err(waiting)) => {
                        **sending = Some(waiting);
                        return Ok(Some(Want::Record));
                    }
                    Err(error) => Err(error),
                }
            }
        };
        self.placed(placed).map(|()| None)
    }

    /// What became of the next record, which went by itself.
    pub fn placed(&mut self, placed: PyResult<Place>) -> PyResult<()> {
        match placed {
            Ok(place) => {
                let buffering = &mut self.call.buffering;
                buffering.any = true;
                buffering.placed.push_one(&place.completion, place.index);
                let sizes = [place.sizes.key, place.sizes.value];
                buffering.placed.bytes += sizes.iter().map(|&size| u64::from(size.max(0) as u32)).sum::<u64>();
                Ok(())
            }
            Err(error) if python::is_final(self.py, &error) || self.state.check_open(self.py).is_err() => {
                self.stop(error)
            }
            Err(error) => self.refuse(error),
        }
    }
}
