//! `AsyncSender`: the base class of the asyncio facade, with a native `send` that suspends only if it must.
//!
//! The common record is buffered inside the call, and what the call returns is an awaitable that is over at its first step.
//! Whatever has to be waited for is a [`PendingSend`], which never waits itself: it says what for, and `penstock.aio` does.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use penstock_core::accumulator::Appended;
use penstock_core::completion::{Completion, Token};
use penstock_core::memory::Waiter;
use penstock_core::topic::Topic;
use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::aio_future::AsyncDeliveryFuture;
use crate::callbacks::{CALLBACKS, Callback};
use crate::ending;
use crate::engine::{Core, Engine};
use crate::future::Sizes;
use crate::loops::{self, LOOP_CALLS, LoopCall, LoopInbox, notice};
use crate::python;
use crate::record::ProducerRecord;
use crate::sender::{Call, Look, Made, Quick, Search, Serialized, State, count_wait};

/// What is waited for is looked after at least this often, whether or not a notice came: a topic is asked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The native half of the asyncio facade. Not to be constructed by itself.
#[pyclass(frozen, subclass, generic, weakref, module = "penstock._native")]
pub struct AsyncSender {
    state: OnceLock<State>,
}

/// `await send(…)` of a record that is buffered: over at once, or after its loop has had a turn.
///
/// A coroutine by its methods, so that a task can be made of it.
#[pyclass(module = "penstock._native")]
pub struct Sending {
    future: Option<Py<AsyncDeliveryFuture>>,
    /// How often to yield first.
    yields: u8,
}

#[pymethods]
impl Sending {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if self.yields > 0 {
            self.yields -= 1;
            return Ok(Some(py.None()));
        }
        match self.future.take() {
            Some(future) => Err(python::returned(py, future)),
            None => Err(PyRuntimeError::new_err("cannot reuse an already awaited send()")),
        }
    }

    /// The coroutine's way to go on.
    fn send(&mut self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let _ = value;
        self.__next__(py)
    }

    /// Raise the exception in here: the record is buffered, and goes on.
    #[pyo3(signature = (kind, value = None, traceback = None))]
    fn throw(
        &mut self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = traceback;
        self.future = None;
        let error = match value.filter(|value| !value.is_none()) {
            Some(value) => value,
            None if kind.is_instance_of::<PyBaseException>() => kind.clone(),
            None => kind.call0()?,
        };
        let _ = py;
        Err(PyErr::from_value(error))
    }

    /// Nothing more will be asked of it.
    fn close(&mut self) {
        self.future = None;
    }
}

/// A callback of the application's that interceptors stand before: they hear of the outcome on the callback thread, then
/// it is called in its loop.
#[pyclass(frozen, module = "penstock._native")]
pub struct InLoop {
    inbox: Arc<penstock_core::loops::LoopInbox>,
    function: Py<PyAny>,
    context: Py<PyAny>,
}

#[pymethods]
impl InLoop {
    fn __call__(&self, py: Python<'_>, metadata: &Bound<'_, PyAny>, error: &Bound<'_, PyAny>) -> PyResult<()> {
        let arguments = PyTuple::new(py, [metadata, error])?.unbind();
        let (function, context) = (self.function.clone_ref(py), self.context.clone_ref(py));
        self.inbox.post([LOOP_CALLS.insert(LoopCall::Told { function, context, arguments })]);
        Ok(())
    }
}

/// A record on its way into the buffer.
struct Entry {
    record: ProducerRecord,
    /// The record that the interceptors made, for `on_send_error`.
    intercepted: Option<Py<ProducerRecord>>,
    /// The callback of the interceptors, for the callback thread.
    token: Option<Token>,
    /// The application's callback, for its loop.
    callback: Option<(Py<PyAny>, Py<PyAny>)>,
    observed: bool,
}

/// The future of a record that was buffered by the call itself, and the time (ms) if it was looked at.
type AtOnce = (Py<AsyncDeliveryFuture>, Option<i64>);

/// Where it is to go, once that is known.
struct Ready {
    topic: Arc<Topic>,
    key: Option<Py<PyBytes>>,
    value: Option<Py<PyBytes>>,
    partition: Option<u32>,
    timestamp: i64,
    /// The place in the queue for memory.
    waiter: Option<(Arc<Waiter>, Token)>,
    needed: usize,
    grant: usize,
}

/// A `send` that has to wait: for its topic, then for memory. Never waits itself.
#[pyclass(module = "penstock._native")]
pub struct PendingSend {
    owner: Py<AsyncSender>,
    entry: Option<Entry>,
    ready: Option<Ready>,
    topic_wait: TopicWait,
    /// When the wait that is under way began.
    since: Option<Instant>,
}

/// The look for a topic.
struct TopicWait {
    search: Search,
    deadline: Instant,
    notice: Option<Token>,
}

impl TopicWait {
    fn new(method: &'static str, state: &State) -> Self {
        let now = state.core.shared.now();
        Self { search: Search::new(method, now), deadline: now + state.max_block, notice: None }
    }

    /// The topic, or how long to wait for a notice, which calls `wake`.
    fn look(
        &mut self,
        py: Python<'_>,
        state: &State,
        name: &Bound<'_, PyString>,
        partition: Option<i32>,
        inbox: &LoopInbox,
        wake: &Py<PyAny>,
    ) -> PyResult<Result<Arc<Topic>, Duration>> {
        self.forget(&state.core);
        loop {
            let now = state.core.shared.now();
            match state.look(py, name, partition, self.deadline, now, &mut self.search)? {
                Look::Known(topic) => return Ok(Ok(topic)),
                Look::Absent(version) => {
                    let notice = notice(&inbox.inbox, LoopCall::Wake { function: wake.clone_ref(py) });
                    if state.core.shared.notice_topics(version, &notice) {
                        self.notice = Some(notice.token);
                        let left = self.deadline.saturating_duration_since(now);
                        return Ok(Err(left.min(LOOK_AGAIN)));
                    }
                    drop(LOOP_CALLS.remove(notice.token)); // the table changed meanwhile: look again
                }
            }
        }
    }

    /// Take the notice back; what was given already finds nobody to wake.
    fn forget(&mut self, core: &Core) {
        if let Some(token) = self.notice.take()
            && !core.is_foreign()
            && core.shared.take_topics_notice(token)
        {
            drop(LOOP_CALLS.remove(token));
        }
    }
}

/// What one try brought.
enum Tried {
    Buffered(Arc<Completion>, u32, Sizes),
    NeedsMemory(usize),
    /// The topic has been forgotten meanwhile.
    Forgotten,
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "on the way of each record")]
fn try_append(
    state: &State,
    py: Python<'_>,
    call: &Call<'_, '_>,
    topic: &Topic,
    serialized: Serialized<'_>,
    token: Option<(Token, bool)>,
    grant: &mut usize,
) -> Quick<Tried> {
    state.with_record(py, call, serialized, |record, sizes| {
        match state.core.shared.append(topic, serialized.partition, record, token, grant) {
            Appended::Done { completion, index } => Ok(Tried::Buffered(completion, index, sizes)),
            Appended::NeedsMemory(bytes) => Ok(Tried::NeedsMemory(bytes)),
            Appended::Closed => Ok(state.check_open(py).map(|()| Tried::Forgotten)?),
        }
    })
}

impl Ready {
    fn keep<'py>(
        topic: Arc<Topic>,
        py: Python<'py>,
        call: &Call<'_, 'py>,
        serialized: Serialized<'_>,
        made: &Made<'py>,
    ) -> Self {
        let Serialized { partition, timestamp, .. } = serialized;
        let (key, value) = made.objects(py, call, serialized);
        let (key, value) = (key.map(Bound::unbind), value.map(Bound::unbind));
        Self { topic, key, value, partition, timestamp, waiter: None, needed: 0, grant: 0 }
    }

    /// Leave the queue for memory and give back what is not needed.
    fn let_go(&mut self, core: &Core) {
        if core.is_foreign() {
            return;
        }
        if let Some((waiter, token)) = self.waiter.take() {
            if core.shared.pool.cancel(&waiter) {
                drop(LOOP_CALLS.remove(token));
            }
            core.shared.relax();
        }
        if self.grant > 0 {
            core.shared.release(std::mem::take(&mut self.grant));
        }
    }
}

/// The future of a record that was just buffered, with its callback told of it.
fn buffered(
    py: Python<'_>,
    completion: Arc<Completion>,
    index: u32,
    sizes: Sizes,
    callback: Option<(Py<PyAny>, Py<PyAny>)>,
    observed: bool,
) -> PyResult<AsyncDeliveryFuture> {
    if let Some((function, context)) = callback {
        let (_, inbox) = loops::here(py)?;
        let call = LoopCall::Outcome { function, context, completion: Arc::clone(&completion), index, sizes };
        let notice = notice(&inbox, call);
        if !completion.add_notice(index, &notice, true) {
            inbox.post([notice.token]);
        }
    }
    Ok(AsyncDeliveryFuture::new(completion, index, sizes, observed))
}

#[pymethods]
impl AsyncSender {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { state: OnceLock::new() }
    }

    /// Connect the facade with its engine, as `Sender._attach`.
    #[pyo3(signature = (
        engine, *, key_serializer, value_serializer, key_fast, value_fast, partitioner, interceptors, warn_waiting,
        max_block_ms,
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword-only, called in one place")]
    fn _attach(
        &self,
        engine: &Bound<'_, Engine>,
        key_serializer: Py<PyAny>,
        value_serializer: Py<PyAny>,
        key_fast: Option<&str>,
        value_fast: Option<&str>,
        partitioner: Option<Py<PyAny>>,
        interceptors: Option<Py<PyAny>>,
        warn_waiting: Py<PyAny>,
        max_block_ms: u64,
    ) -> PyResult<()> {
        let (key, value) = ((key_fast, key_serializer), (value_fast, value_serializer));
        let state = State::new(engine.get(), key, value, partitioner, interceptors, warn_waiting, max_block_ms)?;
        self.state.set(state).map_err(|_| PyRuntimeError::new_err("attached before"))
    }

    /// Send a record, given whole or in short form: `await` it for its `AsyncDeliveryFuture`.
    ///
    /// The record is buffered by the call itself, unless its topic is not known yet or buffer.memory is used up: then
    /// the await waits, up to max.block.ms. It raises whatever keeps the record out of the buffer, as
    /// `KafkaProducer.send`. All that happens later is in the future, and goes to `callback(metadata, error)`, which runs
    /// exactly once, in the loop of this call.
    ///
    /// Cancelled while it waits, the record is not sent. A coroutine that only sends gives its loop a turn every few ms.
    #[pyo3(signature = (
        topic, value = None, *, key = None, partition = None, timestamp = None, headers = None, callback = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "the short form's keywords")]
    fn send<'py>(
        slf: &Bound<'py, Self>,
        py: Python<'py>,
        topic: &Bound<'py, PyAny>,
        value: Option<&Bound<'py, PyAny>>,
        key: Option<&Bound<'py, PyAny>>,
        partition: Option<&Bound<'py, PyAny>>,
        timestamp: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        callback: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let state = State::of(&slf.get().state)?;
        let call = Call::new(py, topic, value, key, partition, timestamp, headers, callback).map_err(|error| *error)?;
        let begun = if call.callback.is_none() && state.interceptors.is_none() {
            Self::at_once(state, py, &call)
        } else {
            Ok(None)
        };
        match begun {
            Ok(Some((future, at_ms))) => {
                let yields = loops::step(py, at_ms).map_err(|error| *error)?;
                Ok(Bound::new(py, Sending { future: Some(future), yields })?.into_any())
            }
            Ok(None) => Self::with_more(slf, state, py, &call),
            // Raised by the await, as of any coroutine.
            Err(error) => Self::later(slf, py, "_refused", (error.into_value(py),)),
        }
    }

    /// A look for a topic on behalf of `partitions_for`.
    fn _find_topic(slf: &Bound<'_, Self>, topic: Py<PyString>) -> PyResult<PendingTopic> {
        let state = State::of(&slf.get().state)?;
        state.core.check_fork(slf.py())?;
        let wait = TopicWait::new("partitions_for", state);
        Ok(PendingTopic { owner: slf.clone().unbind(), topic, wait })
    }
}

impl AsyncSender {
    /// The common record: nothing to wait for, nobody to tell. None: it is not that.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "on the way of each record")]
    fn at_once<'py>(state: &State, py: Python<'py>, call: &Call<'_, 'py>) -> Quick<Option<AtOnce>> {
        state.core.check_fork(py)?;
        state.check_open(py)?;
        // An error is whatever keeps it from being done at once, `None`: nothing but a wait.
        let done = state.with_recent(py, call, |topic| {
            let made = Made::new();
            let serialized = state.serialize(py, call, topic, &made).map_err(Some)?;
            // The clock was read for the record, if it did not bring a time of its own.
            let at_ms = if call.timestamp.is_none() { Some(serialized.timestamp) } else { None };
            match try_append(state, py, call, topic, serialized, None, &mut 0).map_err(Some)? {
                Tried::Buffered(completion, index, sizes) => {
                    let future = Py::new(py, AsyncDeliveryFuture::new(completion, index, sizes, false));
                    Ok((future.map_err(|error| Some(error.into()))?, at_ms))
                }
                Tried::NeedsMemory(_) | Tried::Forgotten => Err(None),
            }
        });
        match done {
            Ok(done) => Ok(Some(done)),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    fn with_more<'py>(
        slf: &Bound<'py, Self>,
        state: &State,
        py: Python<'py>,
        call: &Call<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let begun = state.core.check_fork(py).and_then(|()| state.check_open(py));
        let begun = begun.and_then(|()| Self::begin(slf, state, py, call));
        let mut pending = match begun {
            Ok(pending) => pending,
            Err(error) => return Self::later(slf, py, "_refused", (error.into_value(py),)),
        };
        // Tried once here, so that a record is buffered by the call wherever it can be.
        match pending.try_now(py) {
            Ok(Some(future)) => {
                let (future, yields) = (Py::new(py, future)?, loops::step(py, None).map_err(|error| *error)?);
                Ok(Bound::new(py, Sending { future: Some(future), yields })?.into_any())
            }
            Ok(None) => Self::later(slf, py, "_send_later", (pending,)),
            Err(error) => {
                pending.refuse(py, error.value(py));
                Self::later(slf, py, "_refused", (error.into_value(py),))
            }
        }
    }

    fn begin<'py>(
        slf: &Bound<'py, Self>,
        state: &State,
        py: Python<'py>,
        call: &Call<'_, 'py>,
    ) -> PyResult<PendingSend> {
        let callback = match call.callback {
            Some(function) => Some((function.clone().unbind(), loops::copy_context(py)?)),
            None => None,
        };
        let entry = match &state.interceptors {
            None => {
                let observed = callback.is_some();
                Entry { record: call.record(py)?, intercepted: None, token: None, callback, observed }
            }
            Some(interceptors) => {
                let in_loop = match callback {
                    Some((function, context)) => {
                        let (_, inbox) = loops::here(py)?;
                        Some(Bound::new(py, InLoop { inbox, function, context })?.into_any())
                    }
                    None => None,
                };
                let (record, wrapped) = State::intercept(py, interceptors.bind(py), call, in_loop.as_ref())?;
                let call = State::intercepted(py, &record, &wrapped, call).map_err(|error| *error)?;
                let function = call.callback.map(|function| function.clone().unbind());
                // The sizes are not known before the record is serialized: see `PendingSend::try_ready`.
                let sizes = Sizes { timestamp: -1, key: -1, value: -1 };
                let token = function.map(|function| CALLBACKS.insert(Callback::Send { function, sizes }));
                let observed = call.observed;
                Entry { record: call.record(py)?, intercepted: Some(record.unbind()), token, callback: None, observed }
            }
        };
        let topic_wait = TopicWait::new("send", state);
        Ok(PendingSend { owner: slf.clone().unbind(), entry: Some(entry), ready: None, topic_wait, since: None })
    }

    /// A coroutine of `penstock.aio`'s.
    fn later<'py>(
        slf: &Bound<'py, Self>,
        py: Python<'py>,
        method: &str,
        arguments: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        ending::python(py, || slf.as_any().call_method1(method, arguments))
    }
}

impl PendingSend {
    /// Without waiting for anything. None: there is something to wait for.
    fn try_now(&mut self, py: Python<'_>) -> PyResult<Option<AsyncDeliveryFuture>> {
        let owner = self.owner.clone_ref(py);
        let state = State::of(&owner.get().state)?;
        loop {
            let Some(entry) = &self.entry else { return Err(PyRuntimeError::new_err("it was given up")) };
            let call = State::call_of(py, &entry.record, None).map_err(|error| *error)?;
            if let Some(ready) = &mut self.ready {
                match Self::try_ready(state, py, &call, entry, ready).map_err(|error| *error)? {
                    Tried::NeedsMemory(bytes) => {
                        ready.needed = bytes;
                        return Ok(None);
                    }
                    Tried::Forgotten => {
                        ready.let_go(&state.core);
                        self.ready = None;
                    }
                    Tried::Buffered(completion, index, sizes) => {
                        ready.let_go(&state.core);
                        self.ready = None;
                        let Some(Entry { callback, observed, .. }) = self.entry.take() else { return Ok(None) };
                        return buffered(py, completion, index, sizes, callback, observed).map(Some);
                    }
                }
            }
            let Some(topic) = state.recent_topic(py, call.topic, call.partition)? else { return Ok(None) };
            let made = Made::new();
            let serialized = state.serialize(py, &call, &topic, &made).map_err(|error| *error)?;
            self.ready = Some(Ready::keep(Arc::clone(&topic), py, &call, serialized, &made));
        }
    }

    fn try_ready(state: &State, py: Python<'_>, call: &Call<'_, '_>, entry: &Entry, ready: &mut Ready) -> Quick<Tried> {
        state.check_open(py)?;
        let Ready { topic, key, value, partition, timestamp, grant, .. } = ready;
        let (key, value) = (key.as_ref().map(|key| key.as_bytes(py)), value.as_ref().map(|value| value.as_bytes(py)));
        let serialized = Serialized { key, value, partition: *partition, timestamp: *timestamp };
        if let Some(token) = entry.token {
            CALLBACKS.set_sizes(token, state.with_record(py, call, serialized, |_, sizes| Ok(sizes))?);
        }
        let token = entry.token.map(|token| (token, entry.observed));
        try_append(state, py, call, topic, serialized, token, grant)
    }

    /// It will not be sent: the interceptors hear why, and nothing of it is kept.
    fn refuse(&mut self, py: Python<'_>, error: &Bound<'_, PyBaseException>) {
        let Some(entry) = self.let_go(py) else { return };
        if let Some(record) = &entry.intercepted
            && let Ok(state) = State::of(&self.owner.get().state)
            && let Some(interceptors) = &state.interceptors
        {
            State::tell_failure(py, interceptors.bind(py), record.bind(py), error);
        }
    }

    /// Its turn for memory goes to the next, and its callback is forgotten. The entry, if it was not buffered.
    fn let_go(&mut self, py: Python<'_>) -> Option<Entry> {
        let owner = self.owner.clone_ref(py);
        let state = State::of(&owner.get().state).ok()?;
        self.topic_wait.forget(&state.core);
        if let Some(ready) = &mut self.ready {
            ready.let_go(&state.core);
        }
        self.ready = None;
        let entry = self.entry.take()?;
        if let Some(token) = entry.token {
            drop(CALLBACKS.remove(token));
        }
        Some(entry)
    }
}

#[pymethods]
impl PendingSend {
    /// The future, or for how many seconds to wait: `wake` is called in the loop when there may be news.
    fn attempt<'py>(
        &mut self,
        py: Python<'py>,
        inbox: &Bound<'py, LoopInbox>,
        wake: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let owner = self.owner.clone_ref(py);
        let state = State::of(&owner.get().state)?;
        state.core.check_fork(py)?;
        let shared = &state.core.shared;
        let now = shared.now();
        if let Some(since) = self.since.take() {
            let counter = if self.ready.is_some() { &shared.memory_wait_ns } else { &shared.metadata_wait_ns };
            count_wait(counter, since);
        }
        if let Some(ready) = &mut self.ready
            && let Some((waiter, token)) = ready.waiter.take()
        {
            if shared.pool.is_granted(&waiter) {
                ready.grant += ready.needed;
            } else {
                state.check_open(py)?;
                if now >= self.topic_wait.deadline {
                    shared.pool.count_exhausted();
                    let error = state.exhausted(py, &ready.topic, ready.needed)?;
                    ready.waiter = Some((waiter, token)); // given up with the rest
                    return Err(error);
                }
                // Woken by the clock: the place in the queue stays.
                ready.waiter = Some((waiter, token));
                self.since = Some(now);
                return self.patience(py, now);
            }
        }
        loop {
            if let Some(future) = self.try_now(py)? {
                return Ok(Bound::new(py, future)?.into_any());
            }
            if let Some(ready) = &mut self.ready {
                let notice = notice(&inbox.get().inbox, LoopCall::Wake { function: wake });
                let token = notice.token;
                ready.waiter = Some((shared.queue_for_memory_with(ready.needed, Some(notice)), token));
                self.since = Some(now);
                return self.patience(py, now);
            }
            let Some(entry) = &self.entry else { return Err(PyRuntimeError::new_err("it was given up")) };
            let (name, partition) = (entry.record.topic.bind(py), entry.record.partition);
            match self.topic_wait.look(py, state, name, partition, inbox.get(), &wake)? {
                Ok(_) => {} // now it is the one that was looked for last
                Err(wait) => {
                    self.since = Some(now);
                    return Ok(wait.as_secs_f64().into_pyobject(py)?.into_any());
                }
            }
        }
    }

    /// It will not be sent, because of `error`.
    #[pyo3(name = "refuse")]
    fn refuse_py(&mut self, py: Python<'_>, error: &Bound<'_, PyBaseException>) {
        self.refuse(py, error);
    }
}

impl PendingSend {
    fn patience<'py>(&self, py: Python<'py>, now: Instant) -> PyResult<Bound<'py, PyAny>> {
        let left = self.topic_wait.deadline.saturating_duration_since(now);
        Ok(left.min(LOOK_AGAIN).as_secs_f64().into_pyobject(py)?.into_any())
    }
}

impl Drop for PendingSend {
    /// A coroutine that was never awaited, or never came to its end.
    fn drop(&mut self) {
        // It holds Python objects, so that whoever drops it is attached.
        Python::try_attach(|py| drop(self.let_go(py)));
    }
}

/// A look for a topic that may have to wait; as `PendingSend`.
#[pyclass(module = "penstock._native")]
pub struct PendingTopic {
    owner: Py<AsyncSender>,
    topic: Py<PyString>,
    wait: TopicWait,
}

#[pymethods]
impl PendingTopic {
    /// None when the topic is known, or for how many seconds to wait: `wake` is called when there may be news.
    fn attempt(&mut self, py: Python<'_>, inbox: &Bound<'_, LoopInbox>, wake: Py<PyAny>) -> PyResult<Option<f64>> {
        let state = State::of(&self.owner.get().state)?;
        state.core.check_fork(py)?;
        state.check_open(py)?;
        let topic = self.topic.bind(py);
        if state.recent_topic(py, topic, None)?.is_some() {
            return Ok(None);
        }
        Ok(self.wait.look(py, state, topic, None, inbox.get(), &wake)?.err().map(|wait| wait.as_secs_f64()))
    }
}

impl Drop for PendingTopic {
    fn drop(&mut self) {
        if let Ok(state) = State::of(&self.owner.get().state) {
            self.wait.forget(&state.core);
        }
    }
}

/// A flush that waits in a loop. While it lives, nothing lingers.
#[pyclass(module = "penstock._native")]
pub struct PendingFlush {
    core: Arc<Core>,
    /// The last first.
    pending: Vec<Arc<Completion>>,
    /// Bursts of the callback thread that are to have run; none before all is resolved.
    goal: Option<u64>,
    notice: Option<(Token, Where)>,
    ended: bool,
}

/// Who holds a notice.
enum Where {
    Completion(Arc<Completion>),
    Callbacks,
}

#[pymethods]
impl PendingFlush {
    #[new]
    fn new(py: Python<'_>, engine: &Bound<'_, Engine>) -> Self {
        let core = Arc::clone(&engine.get().core);
        let mut pending = py.detach(|| core.shared.begin_flush());
        pending.reverse();
        Self { core, pending, goal: None, notice: None, ended: false }
    }

    /// Whether all is resolved and its callbacks of other threads have run; if not, `wake` is called in the loop when
    /// there may be news.
    fn attempt(&mut self, py: Python<'_>, inbox: &Bound<'_, LoopInbox>, wake: Py<PyAny>) -> PyResult<bool> {
        self.core.check_fork(py)?;
        self.forget();
        let shared = &self.core.shared;
        let notice = notice(&inbox.get().inbox, LoopCall::Wake { function: wake });
        while let Some(completion) = self.pending.last() {
            let Some(unresolved) = completion.first_unresolved() else {
                self.pending.pop();
                continue;
            };
            // Nobody observes a record by waiting for its batch.
            if unresolved.add_notice(0, &notice, false) {
                self.notice = Some((notice.token, Where::Completion(unresolved)));
                return Ok(false);
            }
        }
        if self.goal.is_none() {
            py.detach(|| shared.settle_flush());
        }
        let goal = *self.goal.get_or_insert_with(|| shared.callbacks.pushed());
        if shared.callbacks.add_notice(goal, &notice) {
            self.notice = Some((notice.token, Where::Callbacks));
            return Ok(false);
        }
        drop(LOOP_CALLS.remove(notice.token));
        Ok(true)
    }

    /// Batches may linger again.
    fn end(&mut self) {
        if !self.core.is_foreign() && !std::mem::replace(&mut self.ended, true) {
            self.forget();
            self.core.shared.end_flush();
        }
    }
}

impl PendingFlush {
    fn forget(&mut self) {
        let Some((token, holder)) = self.notice.take() else { return };
        let found = match holder {
            Where::Completion(completion) => !completion.take_notices(0, false, |other| other == token).is_empty(),
            Where::Callbacks => self.core.shared.callbacks.take_notice(token),
        };
        if found {
            drop(LOOP_CALLS.remove(token));
        }
    }
}

impl Drop for PendingFlush {
    fn drop(&mut self) {
        self.end();
    }
}
