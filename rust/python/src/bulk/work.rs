//! One step of a `send_many` or `send_arrow`: chunks of serialized records into batches, and records that cannot be buffered.
//!
//! A call is a [`RecordSource`] and an [`Ongoing`]. It advances in steps. Where a step has to wait, the blocking facade waits
//! inside it, and asyncio's returns to its loop and continues with the next step ([`BulkWaits`]).

use std::sync::Arc;
use std::time::Instant;

use penstock_core::append::{Partitions, Progress, Rows};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::bulk::buffering::{Buffering, highest_partition};
use crate::bulk::call::{Ongoing, Want};
use crate::result::outcomes::Refused;
use crate::runtime::errors;
use crate::send::call::{Call, Place};
use crate::send::state::State;

/// Below this many bytes a chunk is appended with the GIL held: to release it and take it again costs more.
const DETACH_BYTES: usize = 16 * 1024;

/// How the facade of a bulk call waits.
pub trait BulkWaits {
    /// When a step has to end so that an event loop can run. None: the caller may wait inside a step.
    fn step_ends(&self) -> Option<Instant>;

    /// Wait inside the step if the facade does that (true); a wait that fails is noted in the call.
    fn wait(&mut self, state: &State, py: Python<'_>, call: &mut Ongoing, want: &Want) -> PyResult<bool>;

    /// Buffer one record as `send` does. None: it is kept, and has to wait ([`Want::Record`]).
    fn send_one<'py>(&mut self, state: &State, py: Python<'py>, call: &Call<'_, 'py>) -> PyResult<Option<Place>>;
}

/// The result of one step.
pub enum Advance {
    /// Some records were taken: the caller may check signals, or let an event loop run.
    Continue,
    Wait(Want),
    /// No more records will be taken.
    End,
}

/// The records of a call, a chunk at a time. A chunk that a step could not finish is continued by the next one.
pub trait RecordSource {
    fn step(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Advance>;
}

/// One step of a call at work.
///
/// The rule of both calls, in both facades: as long as nothing is buffered, an error is raised. Afterwards it is an entry of
/// the result, since the caller has to know which records are being sent. Exceptions that are no `Exception` (Ctrl-C, a
/// cancellation), or come from a signal handler during a wait, are always raised.
pub struct Bulk<'a, 'py> {
    pub state: &'a State,
    pub py: Python<'py>,
    pub topic: Bound<'py, PyString>,
    call: &'a mut Ongoing,
    waits: &'a mut dyn BulkWaits,
    until: Option<Instant>,
}

impl<'a, 'py> Bulk<'a, 'py> {
    pub fn new(state: &'a State, py: Python<'py>, call: &'a mut Ongoing, waits: &'a mut dyn BulkWaits) -> Self {
        let until = waits.step_ends();
        Self { state, py, topic: call.topic.bind(py).clone(), call, waits, until }
    }

    /// Whether the caller may wait inside a step.
    pub fn may_wait(&self) -> bool {
        self.until.is_none()
    }

    /// Whether the step has taken the time that an event loop can spare.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// When the step has to end, if it is in an event loop.
    pub fn until(&self) -> Option<Instant> {
        self.until
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
        let error = self.entry(error)?;
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
    fn entry(&self, error: PyErr) -> PyResult<Py<PyAny>> {
        if !self.call.buffering.any || !error.is_instance_of::<PyException>(self.py) {
            return Err(error);
        }
        errors::not_buffered(self.py, error, &self.topic)
    }

    /// Buffer a chunk, or continue with one that waited or that [`Buffering::append`] left. If something is returned, the
    /// caller waits for it and gives the same chunk again. None: see [`Bulk::goes_on`].
    pub fn append(&mut self, rows: &Rows<'_>) -> PyResult<Option<Want>> {
        if rows.values.is_empty() {
            return Ok(None);
        }
        if !self.call.buffering.any {
            self.check_size(rows, 0)?; // an error of the first record is raised
        }
        loop {
            match self.advance(rows) {
                Ok(None) => self.finish(rows, None)?,
                Ok(Some(want)) => {
                    if !self.waits.wait(self.state, self.py, self.call, &want)? {
                        return Ok(Some(want));
                    }
                    continue;
                }
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
                // The topic was forgotten, or created again: look it up again.
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
                refused.push((row, self.entry(error)?));
            }
        }
        if let Some(error) = error {
            // Ctrl-C, and exceptions of signal handlers.
            if !errors::is_kafka_error(self.py, &error) {
                return Err(error);
            }
            let error = self.entry(error)?;
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
        if !errors::is_kafka_error(self.py, &error) {
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

    /// `count` more records were given, and were not taken because the call had stopped.
    pub fn refuse_rest(&mut self, count: u64) {
        if let Some(error) = &self.call.stopped
            && count > 0
        {
            self.note(self.records(), count, error.clone_ref(self.py));
            self.call.buffering.placed.push_not_buffered(count);
        }
    }

    /// One record as in `send`, for interceptors and partitioners. If something is returned, the caller waits for it and
    /// reports the place ([`Bulk::placed`]).
    pub fn one(&mut self, call: &Call<'_, 'py>) -> PyResult<Option<Want>> {
        let placed = match self.waits.send_one(self.state, self.py, call) {
            Ok(Some(place)) => Ok(place),
            Ok(None) => return Ok(Some(Want::Record)),
            Err(error) => Err(error),
        };
        self.placed(placed).map(|()| None)
    }

    /// The place of the next record, which was sent by itself, or why it has none.
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
            Err(error) if errors::is_final(self.py, &error) || self.state.check_open(self.py).is_err() => {
                self.stop(error)
            }
            Err(error) => self.refuse(error),
        }
    }
}
