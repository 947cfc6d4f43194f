//! `PendingBulk`: a `send_many` or `send_arrow` in asyncio, which takes its steps between awaits.
//!
//! Records and errors are handled in `bulk/`, as in the blocking facade.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::prelude::*;

use crate::aio::bulk_result::AsyncBulkResult;
use crate::aio::pending::PendingSend;
use crate::aio::step::Step;
use crate::bulk::arrow::rows::ArrowRows;
use crate::bulk::call::{Ongoing, Want};
use crate::bulk::many::Many;
use crate::bulk::work::{Advance, Bulk, BulkWaits, RecordSource};
use crate::loops::calls::Waker;
use crate::loops::fairness;
use crate::loops::inbox::LoopInbox;
use crate::runtime::clock::now_ms;
use crate::send::call::{Call, Place};
use crate::send::memory::MemoryWait;
use crate::send::state::State;
use crate::send::topic::TopicWait;
use crate::send::waits::Deadline;

/// A step of a call ends after this long. A few of them make a time slice of a millisecond (`loops/fairness.rs`).
const STEP: Duration = Duration::from_micros(250);

/// The records of a call.
pub enum Records {
    Many(Box<Many>),
    /// Used by one thread only; a `pyclass` has to be `Sync`.
    Arrow(Box<Mutex<ArrowRows>>),
}

impl RecordSource for Records {
    fn step(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Advance> {
        match self {
            Self::Many(many) => many.step(bulk),
            Self::Arrow(rows) => rows.get_mut().unwrap_or_else(PoisonError::into_inner).step(bulk),
        }
    }
}

/// The wait between the last step and the next one.
enum Waiting {
    Nothing,
    Topic(TopicWait),
    Memory(MemoryWait),
    /// `PendingBulk::sending`.
    Record,
    /// An entry of an async iterable: `feed`, `end` or `fail` ends the wait.
    Entry,
}

/// The steps of a call in a loop: none of them waits.
struct InSteps<'a> {
    state: &'a Arc<State>,
    sending: &'a mut Option<PendingSend>,
    until: Instant,
}

impl BulkWaits for InSteps<'_> {
    fn step_ends(&self) -> Option<Instant> {
        Some(self.until)
    }

    fn wait(&mut self, _state: &State, _py: Python<'_>, _call: &mut Ongoing, _want: &Want) -> PyResult<bool> {
        Ok(false)
    }

    fn send_one<'py>(&mut self, _state: &State, py: Python<'py>, call: &Call<'_, 'py>) -> PyResult<Option<Place>> {
        match PendingSend::try_or_keep(self.state, py, call)? {
            Ok(buffered) => Ok(Some(buffered.place)),
            Err(pending) => {
                *self.sending = Some(pending);
                Ok(None)
            }
        }
    }
}

/// See the module.
#[pyclass(module = "penstock._native")]
pub struct PendingBulk {
    state: Arc<State>,
    /// None when the call is over.
    under_way: Option<(Ongoing, Records)>,
    waiting: Waiting,
    /// Where records go one by one, the one that waits.
    sending: Option<PendingSend>,
}

impl PendingBulk {
    pub fn new(state: Arc<State>, call: Ongoing, records: Records) -> Self {
        Self { state, under_way: Some((call, records)), waiting: Waiting::Nothing, sending: None }
    }

    /// Have `act` done with the call and its records.
    fn at_work<T>(
        &mut self,
        py: Python<'_>,
        act: impl FnOnce(&mut Bulk<'_, '_>, &mut Records) -> PyResult<T>,
    ) -> PyResult<T> {
        let Self { state, under_way, sending, .. } = self;
        let Some((call, records)) = under_way else {
            return Err(PyRuntimeError::new_err("the call is over, or was cancelled"));
        };
        let mut waits = InSteps { state, sending, until: Instant::now() + STEP };
        act(&mut Bulk::new(state, py, call, &mut waits), records)
    }

    /// As many steps as fit into the time slice.
    fn advance(&mut self, py: Python<'_>, waker: &Waker) -> PyResult<Step<()>> {
        loop {
            if let Some(next) = self.poll(py, waker)? {
                return Ok(next);
            }
            self.waiting = match self.at_work(py, |bulk, records| records.step(bulk))? {
                Advance::End => return Ok(Step::Done(())),
                Advance::Continue => match fairness::step(py, Some(now_ms())).map_err(|error| *error)? {
                    0 => continue,
                    times => return Ok(Step::Yield(times)),
                },
                Advance::Wait(want) => self.begin_to_wait(py, want, waker),
            };
        }
    }

    fn begin_to_wait(&self, py: Python<'_>, want: Want, waker: &Waker) -> Waiting {
        let state = &self.state;
        let deadline = Deadline::in_loop(state);
        let method = self.under_way.as_ref().map_or("", |(call, _)| call.method);
        match want {
            Want::Topic(partition) => Waiting::Topic(TopicWait::new(state, method, partition, deadline)),
            Want::Memory(bytes) => Waiting::Memory(MemoryWait::new(py, state, bytes, deadline, Some(waker))),
            Want::Record => Waiting::Record,
            Want::Entry => Waiting::Entry,
        }
    }

    /// Poll the event that the call waits for. Returns the next action if it has not come.
    fn poll(&mut self, py: Python<'_>, waker: &Waker) -> PyResult<Option<Step<()>>> {
        let Some((call, _)) = &mut self.under_way else { return Ok(None) };
        let state = &self.state;
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Nothing => {}
            Waiting::Topic(mut wait) => match wait.poll(py, state, call.topic.bind(py), Some(waker)) {
                Ok(Some(topic)) => call.found(topic),
                Ok(None) => {
                    let patience = wait.patience();
                    self.waiting = Waiting::Topic(wait);
                    return Ok(Some(Step::Wait(Some(patience))));
                }
                Err(error) => call.failed(error),
            },
            Waiting::Memory(mut wait) => {
                let Some(topic) = call.snapshot() else { return Ok(None) };
                match wait.poll(py, state, &topic) {
                    Ok(true) => call.granted(wait.bytes),
                    Ok(false) => {
                        let patience = wait.patience();
                        self.waiting = Waiting::Memory(wait);
                        return Ok(Some(Step::Wait(Some(patience))));
                    }
                    Err(error) => {
                        wait.give_up(&state.core);
                        call.failed(error);
                    }
                }
            }
            Waiting::Record => return self.poll_record(py, waker),
            Waiting::Entry => {
                self.waiting = Waiting::Entry;
                // An async iterable that never suspends would block the event loop.
                return match fairness::step(py, None).map_err(|error| *error)? {
                    0 => self.next_entry(py),
                    times => Ok(Some(Step::Yield(times))),
                };
            }
        }
        Ok(None)
    }

    /// The same for a record that was sent by itself.
    fn poll_record(&mut self, py: Python<'_>, waker: &Waker) -> PyResult<Option<Step<()>>> {
        let Some(mut sending) = self.sending.take() else { return Ok(None) };
        let placed = match sending.poll(py, waker) {
            Ok(Step::Done(buffered)) => Ok(buffered.place),
            Ok(Step::Wait(patience)) => {
                (self.waiting, self.sending) = (Waiting::Record, Some(sending));
                return Ok(Some(Step::Wait(patience)));
            }
            Ok(Step::Yield(_) | Step::Await(_)) => {
                return Err(PyRuntimeError::new_err("a send never yields or awaits (a bug in Penstock)"));
            }
            Err(error) => {
                sending.refuse(py, error.value(py));
                Err(error)
            }
        };
        self.at_work(py, |bulk, _| bulk.placed(placed))?;
        Ok(None)
    }

    /// Have the next entry of an async iterable awaited.
    fn next_entry(&mut self, py: Python<'_>) -> PyResult<Option<Step<()>>> {
        let next = match &mut self.under_way {
            Some((_, Records::Many(many))) => many.ask(py),
            _ => None,
        };
        match next {
            Some(Ok(awaitable)) => Ok(Some(Step::Await(awaitable.unbind()))),
            Some(Err(error)) => self.fail(py, error).map(|()| None),
            None => Err(PyRuntimeError::new_err("there is nothing to await (a bug in Penstock)")),
        }
    }

    /// The next entry of the async iterable; None: it is at its end.
    fn answer(&mut self, entry: Option<Py<PyAny>>) {
        if let Some((_, Records::Many(many))) = &mut self.under_way {
            many.answer(entry);
            self.waiting = Waiting::Nothing;
        }
    }

    fn fail(&mut self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        self.waiting = Waiting::Nothing;
        self.at_work(py, |bulk, _| bulk.stop(error))
    }

    /// Buffered records are sent; everything else of the call is dropped.
    fn let_go(&mut self) {
        let Some((mut call, _records)) = self.under_way.take() else { return };
        let state = &self.state;
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Topic(mut wait) => wait.forget(&state.core),
            Waiting::Memory(wait) => wait.give_up(&state.core),
            Waiting::Nothing | Waiting::Record | Waiting::Entry => {}
        }
        call.give_up(state);
    }
}

#[pymethods]
impl PendingBulk {
    /// Done with the result when all records are buffered. An entry that was awaited goes to `feed`, `end` or `fail`.
    fn attempt(
        &mut self,
        py: Python<'_>,
        inbox: &Bound<'_, LoopInbox>,
        wake: Py<PyAny>,
    ) -> PyResult<Step<AsyncBulkResult>> {
        self.state.core.check_fork(py)?;
        let waker = Waker { inbox: Arc::clone(&inbox.get().inbox), function: wake };
        Ok(match self.advance(py, &waker)? {
            Step::Done(()) => {
                let Some((call, _records)) = self.under_way.take() else {
                    return Err(PyRuntimeError::new_err("the call is over, or was cancelled"));
                };
                Step::Done(AsyncBulkResult::new(call.end(py, &self.state)))
            }
            Step::Wait(patience) => Step::Wait(patience),
            Step::Yield(times) => Step::Yield(times),
            Step::Await(awaitable) => Step::Await(awaitable),
        })
    }

    /// The entry that was awaited.
    fn feed(&mut self, entry: Py<PyAny>) {
        self.answer(Some(entry));
    }

    /// The async iterable whose entry was awaited is at its end.
    fn end(&mut self) {
        self.answer(None);
    }

    /// The async iterable whose entry was awaited failed, which ends the call; raised if no record is buffered.
    #[pyo3(name = "fail")]
    fn fail_py(&mut self, py: Python<'_>, error: Bound<'_, PyBaseException>) -> PyResult<()> {
        self.fail(py, PyErr::from_value(error.into_any()))
    }

    /// The call is cancelled, because of `error`: buffered records are sent, the rest is not.
    fn give_up(&mut self, py: Python<'_>, error: &Bound<'_, PyBaseException>) {
        if let Some(mut sending) = self.sending.take() {
            sending.refuse(py, error);
        }
        self.let_go();
    }
}

impl Drop for PendingBulk {
    /// Of a coroutine that was never awaited, or never ended.
    fn drop(&mut self) {
        self.let_go();
    }
}
