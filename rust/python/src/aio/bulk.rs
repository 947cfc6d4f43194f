//! `send_many` and `send_arrow` in asyncio: a call that says what it waits for, and its result.
//!
//! The records and what becomes of them are `bulk/call.rs`' business, as in the blocking facade. Here is what a coroutine of
//! `penstock.aio`'s needs to take the steps, to await between them, and to await the end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::aio::future::invalid_state;
use crate::aio::loops::{self, LoopInbox};
use crate::aio::sender::{AsyncSender, InLoop, PendingSend};
use crate::aio::wait::{EndWait, MemoryWait, TopicWait};
use crate::blocking::bulk_result::{Outcomes, Watcher};
use crate::bulk::arrow::rows::ArrowRows;
use crate::bulk::call::{Bulk, Ongoing, Source, Step, Waits, Want};
use crate::bulk::many::Many;
use crate::runtime::shutdown;
use crate::send::{State, now_ms};

/// A step of a call ends after this long. A few of them make a turn of a millisecond (`Turn`).
const SLICE: Duration = Duration::from_micros(250);

/// Where the records come from.
pub enum Records {
    Many(Box<Many>),
    /// Nobody else has it; the lock is for the compiler.
    Arrow(Box<Mutex<ArrowRows>>),
}

/// What the last step ended with.
enum Waiting {
    Nothing,
    Topic(TopicWait, Option<i32>),
    Memory(MemoryWait),
    /// `PendingBulk::sending`.
    Record,
    /// An entry of an async iterable: `answer`, `end` or `fail` tell of it.
    Entry,
}

/// A `send_many` or `send_arrow` under way in a loop. Never waits itself.
#[pyclass(module = "penstock._native")]
pub struct PendingBulk {
    owner: Py<AsyncSender>,
    /// None when it is over.
    under_way: Option<(Ongoing, Records)>,
    waiting: Waiting,
    /// Where records go by themselves, the one that waits.
    sending: Option<PendingSend>,
}

/// What a coroutine is to do.
enum Next {
    /// Yield so often.
    Yield(u8),
    Wait(Duration),
    /// Await the next entry.
    Ask,
    End,
}

impl Source for Records {
    fn step(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Step> {
        match self {
            Self::Many(many) => many.step(bulk),
            Self::Arrow(rows) => rows.get_mut().unwrap_or_else(PoisonError::into_inner).step(bulk),
        }
    }
}

impl PendingBulk {
    pub fn new(owner: Py<AsyncSender>, call: Ongoing, records: Records) -> Self {
        Self { owner, under_way: Some((call, records)), waiting: Waiting::Nothing, sending: None }
    }

    /// Have `act` done with the call at work, and the records.
    fn at_work<T>(
        &mut self,
        py: Python<'_>,
        act: impl FnOnce(&mut Bulk<'_, '_>, &mut Records) -> PyResult<T>,
    ) -> PyResult<T> {
        let Some((call, records)) = &mut self.under_way else {
            return Err(PyRuntimeError::new_err("the call is over, or was given up"));
        };
        let state = State::of(&self.owner.get().state)?;
        let waits = Waits::InLoop { owner: &self.owner, sending: &mut self.sending, until: Instant::now() + SLICE };
        act(&mut Bulk::new(state, py, call, waits), records)
    }

    fn go_on(&mut self, py: Python<'_>, inbox: &LoopInbox, wake: &Py<PyAny>) -> PyResult<Next> {
        loop {
            if let Some(next) = self.wait(py, inbox, wake)? {
                return Ok(next);
            }
            self.waiting = match self.at_work(py, |bulk, records| records.step(bulk))? {
                Step::End => return Ok(Next::End),
                Step::Turn => match loops::step(py, Some(now_ms())).map_err(|error| *error)? {
                    0 => continue,
                    yields => return Ok(Next::Yield(yields)),
                },
                Step::Wait(want) => self.begin_to_wait(py, want, inbox, wake)?,
            };
        }
    }

    fn begin_to_wait(&self, py: Python<'_>, want: Want, inbox: &LoopInbox, wake: &Py<PyAny>) -> PyResult<Waiting> {
        let state = State::of(&self.owner.get().state)?;
        let method = self.under_way.as_ref().map_or("", |(call, _)| call.method());
        Ok(match want {
            Want::Topic(partition) => Waiting::Topic(TopicWait::new(method, state), partition),
            Want::Memory(bytes) => {
                let deadline = state.core.shared.clock.now() + state.max_block;
                Waiting::Memory(MemoryWait::new(state, bytes, deadline, inbox, wake.clone_ref(py)))
            }
            Want::Record => Waiting::Record,
            Want::Entry => Waiting::Entry,
        })
    }

    /// A look at what is waited for: what to do if it has not come.
    fn wait(&mut self, py: Python<'_>, inbox: &LoopInbox, wake: &Py<PyAny>) -> PyResult<Option<Next>> {
        let Some((call, _)) = &mut self.under_way else { return Ok(None) };
        let state = State::of(&self.owner.get().state)?;
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Nothing => {}
            Waiting::Topic(mut wait, partition) => match wait.look(py, state, call.topic(py), partition, inbox, wake) {
                Ok(Ok(topic)) => call.found(topic),
                Ok(Err(patience)) => {
                    self.waiting = Waiting::Topic(wait, partition);
                    return Ok(Some(Next::Wait(patience)));
                }
                Err(error) => call.failed(error),
            },
            Waiting::Memory(mut wait) => {
                let Some(topic) = call.snapshot() else { return Ok(None) };
                match wait.look(py, state, &topic) {
                    Ok(None) => call.granted(wait.bytes),
                    Ok(Some(patience)) => {
                        self.waiting = Waiting::Memory(wait);
                        return Ok(Some(Next::Wait(patience)));
                    }
                    Err(error) => {
                        wait.give_up(&state.core);
                        call.failed(error);
                    }
                }
            }
            Waiting::Record => {
                let Some(mut sending) = self.sending.take() else { return Ok(None) };
                let placed = match sending.look(py, inbox, wake) {
                    Ok(Ok(buffered)) => Ok(buffered.place),
                    Ok(Err(patience)) => {
                        (self.waiting, self.sending) = (Waiting::Record, Some(sending));
                        return Ok(Some(Next::Wait(patience)));
                    }
                    Err(error) => {
                        sending.refuse(py, error.value(py));
                        Err(error)
                    }
                };
                self.at_work(py, |bulk, _| bulk.placed(placed))?;
            }
            Waiting::Entry => {
                self.waiting = Waiting::Entry;
                // An async iterable that never suspends would keep its event loop from everything else.
                return Ok(Some(match loops::step(py, None).map_err(|error| *error)? {
                    0 => Next::Ask,
                    yields => Next::Yield(yields),
                }));
            }
        }
        Ok(None)
    }

    /// What the column of an async iterable has next; None: it is at its end.
    fn answer(&mut self, entry: Option<Py<PyAny>>) {
        if let Some((_, Records::Many(many))) = &mut self.under_way {
            many.answer(entry);
            self.waiting = Waiting::Nothing;
        }
    }

    /// What is buffered goes on its way; nothing else of the call is left.
    fn let_go(&mut self) {
        let Some((mut call, _records)) = self.under_way.take() else { return };
        let Ok(state) = State::of(&self.owner.get().state) else { return };
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Topic(mut wait, _) => wait.forget(&state.core),
            Waiting::Memory(wait) => wait.give_up(&state.core),
            Waiting::Nothing | Waiting::Record | Waiting::Entry => {}
        }
        call.give_up(state);
    }
}

#[pymethods]
impl PendingBulk {
    /// The result when all is buffered. Before that: for how many seconds to wait (a float; `wake` is called in the loop when
    /// there may be news), how often to yield (an int), or what to await for `feed`, `end` or `fail`.
    fn attempt<'py>(
        &mut self,
        py: Python<'py>,
        inbox: &Bound<'py, LoopInbox>,
        wake: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        State::of(&self.owner.get().state)?.core.check_fork(py)?;
        loop {
            match self.go_on(py, inbox.get(), &wake)? {
                Next::Yield(yields) => return Ok(yields.into_pyobject(py)?.into_any()),
                Next::Wait(patience) => return Ok(patience.as_secs_f64().into_pyobject(py)?.into_any()),
                Next::Ask => match self.at_work(py, |_, records| match records {
                    Records::Many(many) => Ok(many.ask(py)),
                    Records::Arrow(_) => Ok(None),
                })? {
                    Some(Ok(awaitable)) => return Ok(awaitable),
                    Some(Err(error)) => self.fail(py, error)?,
                    None => return Err(PyRuntimeError::new_err("there is nothing to await (a bug in Penstock)")),
                },
                Next::End => {
                    let state = State::of(&self.owner.get().state)?;
                    let Some((call, _records)) = self.under_way.take() else { continue };
                    let result = AsyncBulkResult { of: Arc::new(call.end(py, state)) };
                    return Ok(Bound::new(py, result)?.into_any());
                }
            }
        }
    }

    /// The entry that was awaited.
    fn feed(&mut self, entry: Py<PyAny>) {
        self.answer(Some(entry));
    }

    /// The async iterable whose entry was awaited is at its end.
    fn end(&mut self) {
        self.answer(None);
    }

    /// The async iterable whose entry was awaited failed, which ends the call; raised if nothing is buffered.
    #[pyo3(name = "fail")]
    fn fail_py(&mut self, py: Python<'_>, error: Bound<'_, PyBaseException>) -> PyResult<()> {
        self.fail(py, PyErr::from_value(error.into_any()))
    }

    /// Nobody asks any more, because of `error`: what is buffered goes on its way, the rest is not sent.
    fn give_up(&mut self, py: Python<'_>, error: &Bound<'_, PyBaseException>) {
        if let Some(mut sending) = self.sending.take() {
            sending.refuse(py, error);
        }
        self.let_go();
    }
}

impl PendingBulk {
    fn fail(&mut self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        self.waiting = Waiting::Nothing;
        self.at_work(py, |bulk, _| bulk.stop(error))
    }
}

impl Drop for PendingBulk {
    /// A coroutine that was never awaited, or never came to its end.
    fn drop(&mut self) {
        self.let_go();
    }
}

/// What became of the records of one `send_many` or `send_arrow`, each by its index in what was given.
///
/// `await` it until every record is delivered or has failed (at most delivery.timeout.ms, plus a tick), any number of times
/// and in any loop: it is its own value, and does not raise for failed records. Then look at `errors` and `offsets`, or
/// `raise_for_errors`; before, these raise `asyncio.InvalidStateError`. Failures count as noticed once `errors` or
/// `raise_for_errors` was asked, or there is a callback; else `flush` and `close` tell of them. Cancelling an await of it
/// unsends nothing.
///
/// `len(result)` records were taken: all that were given, unless an iterator of unknown length stopped the call.
#[pyclass(frozen, module = "penstock")]
pub struct AsyncBulkResult {
    of: Arc<Outcomes>,
}

impl AsyncBulkResult {
    fn ended(&self, py: Python<'_>) -> PyResult<&Outcomes> {
        if self.of.is_done() {
            return Ok(&self.of);
        }
        self.of.check_fork(py)?;
        let (pending, records) = self.of.pending();
        Err(invalid_state(
            py,
            &format!("{pending} of {records} records are still on their way: await the result first"),
        ))
    }
}

#[pymethods]
impl AsyncBulkResult {
    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static UNTIL_RESOLVED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = slf.py();
        let of = Arc::clone(&slf.get().of);
        let end = PendingEnd { wait: EndWait::new(of.batches().to_vec()), of };
        shutdown::python(py, || {
            let function = UNTIL_RESOLVED.import(py, "penstock.aio", "until_resolved")?;
            function.call1((slf, end))?.call_method0(intern!(py, "__await__"))
        })
    }

    /// Whether every record is delivered or has failed.
    fn done(&self) -> bool {
        self.of.is_done()
    }

    /// The failed records: index and error (several may share one). Empty when all is well.
    #[getter]
    fn errors(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        Ok(self.ended(py)?.errors(py)?.clone().unbind())
    }

    /// Raise `DeliveryError` if records failed: how many, and the first ones' errors.
    fn raise_for_errors(&self, py: Python<'_>) -> PyResult<()> {
        self.ended(py)?.raise_for_errors(py)
    }

    /// The records' offsets, an `array` of 64-bit ints: -1 for one that failed, or whose offset is unknown (acks=0).
    #[getter]
    fn offsets(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.ended(py)?.offsets(py)
    }

    /// The records' partitions, an `array` of 32-bit ints: -1 for one that could not be buffered. Known at once.
    #[getter]
    fn partitions(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.of.partitions(py)
    }

    /// Bytes of all keys and values that were buffered, serialized.
    #[getter]
    fn serialized_bytes(&self) -> u64 {
        self.of.bytes()
    }

    /// Have `fn(result)` called in the running loop once every record is resolved. What it raises goes to the loop's
    /// exception handler.
    #[pyo3(signature = (r#fn, *, context = None))]
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Py<PyAny>, context: Option<Py<PyAny>>) -> PyResult<()> {
        let (py, of) = (slf.py(), &slf.get().of);
        if !r#fn.bind(py).is_callable() {
            return Err(PyTypeError::new_err(format!("not callable: {}", r#fn.bind(py).get_type())));
        }
        of.check_fork(py)?;
        let (_, inbox) = loops::here(py)?;
        let context = context.map_or_else(|| loops::copy_context(py), Ok)?;
        of.observe();
        let in_loop = Py::new(py, InLoop { inbox, function: r#fn, context })?.into_any();
        match of.watch(in_loop, slf.clone().into_any().unbind(), 0) {
            None => Ok(()),
            Some(Watcher { function, result }) => function.bind(py).call1((result,)).map(drop),
        }
    }

    fn __len__(&self) -> usize {
        self.of.len()
    }

    /// True, also without records: `if result:` asks whether there is one.
    #[expect(clippy::unused_self, reason = "the signature is Python's")]
    fn __bool__(&self) -> bool {
        true
    }

    fn __repr__(&self) -> String {
        self.of.repr("AsyncBulkResult")
    }
}

/// A wait for the end of a bulk result's records; as `PendingFlush`.
#[pyclass(module = "penstock._native")]
pub struct PendingEnd {
    wait: EndWait,
    of: Arc<Outcomes>,
}

#[pymethods]
impl PendingEnd {
    /// Whether all is resolved; if not, `wake` is called in the loop when there may be news.
    fn attempt(&mut self, py: Python<'_>, inbox: &Bound<'_, LoopInbox>, wake: Py<PyAny>) -> PyResult<bool> {
        self.of.check_fork(py)?;
        Ok(self.wait.look(py, inbox.get(), &wake))
    }
}

impl Drop for PendingEnd {
    fn drop(&mut self) {
        if !self.of.is_foreign() {
            self.wait.forget();
        }
    }
}
