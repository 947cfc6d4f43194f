//! `AsyncSender`: the base class of the asyncio facade, with a native `send` that suspends only if it must.
//!
//! The common record is buffered inside the call, and what the call returns is an awaitable that is over at its first step.
//! Whatever has to be waited for is a [`PendingSend`], which never waits itself: it says what for, and `penstock.aio` does.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use penstock_core::accumulator::Appended;
use penstock_core::event_loop::LoopToken;
use penstock_core::outcome::{CallbackToken, Completion};
use penstock_core::topic::Topic;
use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::aio::bulk::{PendingBulk, Records};
use crate::aio::future::AsyncDeliveryFuture;
use crate::aio::loops::{self, LOOP_CALLS, LoopCall, LoopInbox, notice};
use crate::aio::wait::{EndWait, MemoryWait, TopicWait};
use crate::blocking::future::Sizes;
use crate::bulk::arrow::plan::Names;
use crate::bulk::arrow::rows::ArrowRows;
use crate::bulk::call::Ongoing;
use crate::bulk::many::Many;
use crate::record::{ProducerRecord, extract_partition};
use crate::runtime::callbacks::{CALLBACKS, Callback};
use crate::runtime::engine::{Core, Engine};
use crate::runtime::python;
use crate::runtime::shutdown;
use crate::send::{Call, Made, Place, Quick, Serialized, State};

/// The native half of the asyncio facade. Not to be constructed by itself.
#[pyclass(frozen, subclass, generic, weakref, module = "penstock._native")]
pub struct AsyncSender {
    pub state: OnceLock<State>,
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

/// A callback of the application's that the callback thread comes before: interceptors hear of the outcome there, and a bulk
/// result learns there that it is done. Then it is called in its loop.
#[pyclass(frozen, module = "penstock._native")]
pub struct InLoop {
    pub inbox: Arc<penstock_core::event_loop::LoopInbox>,
    pub function: Py<PyAny>,
    pub context: Py<PyAny>,
}

#[pymethods]
impl InLoop {
    #[pyo3(signature = (*outcome))]
    fn __call__(&self, py: Python<'_>, outcome: Bound<'_, PyTuple>) {
        let (function, context) = (self.function.clone_ref(py), self.context.clone_ref(py));
        self.inbox.post([LOOP_CALLS.insert(LoopCall::Told { function, context, arguments: outcome.unbind() })]);
    }
}

/// A record on its way into the buffer.
struct Entry {
    record: ProducerRecord,
    /// The record that the interceptors made, for `on_send_error`.
    intercepted: Option<Py<ProducerRecord>>,
    /// The callback of the interceptors, for the callback thread.
    token: Option<CallbackToken>,
    /// The application's callback, for its loop.
    callback: Option<(Py<PyAny>, Py<PyAny>)>,
    observed: bool,
    /// As in `Call`.
    serialized: bool,
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
    waiting: Option<MemoryWait>,
    needed: usize,
    grant: usize,
}

/// A `send` that has to wait: for its topic, then for memory. Never waits itself.
#[pyclass(module = "penstock._native")]
pub struct PendingSend {
    owner: Py<AsyncSender>,
    entry: Option<Entry>,
    ready: Option<Ready>,
    /// max.block.ms is for both waits together.
    topic_wait: TopicWait,
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
    token: Option<(CallbackToken, bool)>,
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
        Self { topic, key, value, partition, timestamp, waiting: None, needed: 0, grant: 0 }
    }

    /// Leave the queue for memory and give back what is not needed.
    fn let_go(&mut self, core: &Core) {
        if let Some(waiting) = self.waiting.take() {
            waiting.give_up(core);
        }
        if self.grant > 0 && !core.is_foreign() {
            core.shared.release(std::mem::take(&mut self.grant));
        }
    }
}

/// A record that was just buffered.
pub struct Buffered {
    pub place: Place,
    callback: Option<(Py<PyAny>, Py<PyAny>)>,
    observed: bool,
}

impl Buffered {
    /// Its future, with its callback told of it.
    fn future(self, py: Python<'_>) -> PyResult<AsyncDeliveryFuture> {
        let Self { place: Place { completion, index, sizes }, callback, observed } = self;
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
}

#[pymethods]
impl AsyncSender {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(py: Python<'_>, _args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        python::check_ending(py)?;
        Ok(Self { state: OnceLock::new() })
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

    /// A `send_many` that has not begun.
    #[pyo3(signature = (topic, values, keys = None, headers = None, timestamps = None, partition = None))]
    #[expect(clippy::too_many_arguments, reason = "the columns")]
    fn _send_many(
        slf: &Bound<'_, Self>,
        py: Python<'_>,
        topic: &Bound<'_, PyAny>,
        values: &Bound<'_, PyAny>,
        keys: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
        timestamps: Option<&Bound<'_, PyAny>>,
        partition: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PendingBulk> {
        let state = State::of(&slf.get().state)?;
        let partition = extract_partition(partition)?;
        let call = Ongoing::begin(state, py, topic, "send_many")?;
        let records = Many::new(state, values, keys, headers, timestamps, partition, true)?;
        Ok(PendingBulk::new(slf.clone().unbind(), call, Records::Many(Box::new(records))))
    }

    /// A `send_arrow` that has not begun.
    #[pyo3(signature = (
        topic, data, value = None, key = None, partition = None, timestamp = None, headers = None, index = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "the columns")]
    fn _send_arrow(
        slf: &Bound<'_, Self>,
        py: Python<'_>,
        topic: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
        partition: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
        index: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PendingBulk> {
        let state = State::of(&slf.get().state)?;
        let names = Names::read(value, key, partition, timestamp, headers, index)?;
        let call = Ongoing::begin(state, py, topic, "send_arrow")?;
        let rows = ArrowRows::open_in_loop(state, data, &names)?;
        Ok(PendingBulk::new(slf.clone().unbind(), call, Records::Arrow(Box::new(rows.into()))))
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
        // Tried once here, so that a record is buffered by the call wherever it can be.
        match begun.and_then(|()| PendingSend::try_or_keep(slf, state, call)) {
            Ok(Ok(buffered)) => {
                let future = Py::new(py, buffered.future(py)?)?;
                let yields = loops::step(py, None).map_err(|error| *error)?;
                Ok(Bound::new(py, Sending { future: Some(future), yields })?.into_any())
            }
            Ok(Err(pending)) => Self::later(slf, py, "_send_later", (pending,)),
            Err(error) => Self::later(slf, py, "_refused", (error.into_value(py),)),
        }
    }

    /// A coroutine of `penstock.aio`'s.
    fn later<'py>(
        slf: &Bound<'py, Self>,
        py: Python<'py>,
        method: &str,
        arguments: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        shutdown::python(py, || slf.as_any().call_method1(method, arguments))
    }
}

impl PendingSend {
    fn begin<'py>(owner: &Bound<'py, AsyncSender>, state: &State, call: &Call<'_, 'py>) -> PyResult<Self> {
        let py = owner.py();
        let callback = match call.callback {
            Some(function) => Some((function.clone().unbind(), loops::copy_context(py)?)),
            None => None,
        };
        let serialized = call.serialized;
        let entry = match &state.interceptors {
            None => {
                let observed = callback.is_some();
                Entry { record: call.record(py)?, intercepted: None, token: None, callback, observed, serialized }
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
                let (observed, intercepted) = (call.observed, Some(record.clone().unbind()));
                Entry { record: call.record(py)?, intercepted, token, callback: None, observed, serialized }
            }
        };
        let topic_wait = TopicWait::new("send", state);
        Ok(Self { owner: owner.clone().unbind(), entry: Some(entry), ready: None, topic_wait })
    }

    /// Begin with a record, and try at once. What cannot be buffered yet is given back; of an error all that is to be
    /// told is told.
    fn try_or_keep<'py>(
        owner: &Bound<'py, AsyncSender>,
        state: &State,
        call: &Call<'_, 'py>,
    ) -> PyResult<Result<Buffered, Self>> {
        let py = owner.py();
        let mut pending = Self::begin(owner, state, call)?;
        match pending.try_now(py) {
            Ok(Some(buffered)) => Ok(Ok(buffered)),
            Ok(None) => Ok(Err(pending)),
            Err(error) => {
                pending.refuse(py, error.value(py));
                Err(error)
            }
        }
    }

    /// The same for a record that nobody wants a future of.
    pub fn place_or_keep<'py>(
        owner: &Bound<'py, AsyncSender>,
        state: &State,
        call: &Call<'_, 'py>,
    ) -> PyResult<Result<Place, Self>> {
        Ok(Self::try_or_keep(owner, state, call)?.map(|buffered| buffered.place))
    }

    /// Where it was buffered, or for how long to wait: `wake` is called in the loop when there may be news.
    pub fn look(
        &mut self,
        py: Python<'_>,
        inbox: &LoopInbox,
        wake: &Py<PyAny>,
    ) -> PyResult<Result<Buffered, Duration>> {
        let owner = self.owner.clone_ref(py);
        let state = State::of(&owner.get().state)?;
        state.core.check_fork(py)?;
        if let Some(ready) = &mut self.ready
            && let Some(waiting) = &mut ready.waiting
        {
            if let Some(patience) = waiting.look(py, state, &ready.topic)? {
                return Ok(Err(patience));
            }
            ready.grant += waiting.bytes;
            ready.waiting = None;
        }
        loop {
            if let Some(buffered) = self.try_now(py)? {
                return Ok(Ok(buffered));
            }
            if let Some(ready) = &mut self.ready {
                let deadline = self.topic_wait.deadline;
                let waiting = MemoryWait::new(state, ready.needed, deadline, inbox, wake.clone_ref(py));
                return Ok(Err(ready.waiting.insert(waiting).patience()));
            }
            let Some(entry) = &self.entry else { return Err(PyRuntimeError::new_err("it was given up")) };
            let (name, partition) = (entry.record.topic.bind(py), entry.record.partition);
            match self.topic_wait.look(py, state, name, partition, inbox, wake)? {
                Ok(_) => {} // now it is the one that was looked for last
                Err(patience) => return Ok(Err(patience)),
            }
        }
    }

    /// Without waiting for anything. None: there is something to wait for.
    fn try_now(&mut self, py: Python<'_>) -> PyResult<Option<Buffered>> {
        let owner = self.owner.clone_ref(py);
        let state = State::of(&owner.get().state)?;
        loop {
            let Some(entry) = &self.entry else { return Err(PyRuntimeError::new_err("it was given up")) };
            let call = State::call_of(py, &entry.record, None).map_err(|error| *error)?;
            let call = Call { serialized: entry.serialized, ..call };
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
                        return Ok(Some(Buffered { place: Place { completion, index, sizes }, callback, observed }));
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
    pub fn refuse(&mut self, py: Python<'_>, error: &Bound<'_, PyBaseException>) {
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
        match self.look(py, inbox.get(), &wake)? {
            Ok(buffered) => Ok(Bound::new(py, buffered.future(py)?)?.into_any()),
            Err(patience) => Ok(patience.as_secs_f64().into_pyobject(py)?.into_any()),
        }
    }

    /// It will not be sent, because of `error`.
    #[pyo3(name = "refuse")]
    fn refuse_py(&mut self, py: Python<'_>, error: &Bound<'_, PyBaseException>) {
        self.refuse(py, error);
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
    records: EndWait,
    /// Bursts of the callback thread that are to have run; none before all is resolved.
    goal: Option<u64>,
    /// With the callback thread.
    notice: Option<LoopToken>,
    ended: bool,
}

#[pymethods]
impl PendingFlush {
    #[new]
    fn new(py: Python<'_>, engine: &Bound<'_, Engine>) -> Self {
        let core = Arc::clone(&engine.get().core);
        let records = EndWait::new(py.detach(|| core.shared.begin_flush()));
        Self { core, records, goal: None, notice: None, ended: false }
    }

    /// Whether all is resolved and its callbacks of other threads have run; if not, `wake` is called in the loop when
    /// there may be news.
    fn attempt(&mut self, py: Python<'_>, inbox: &Bound<'_, LoopInbox>, wake: Py<PyAny>) -> PyResult<bool> {
        self.core.check_fork(py)?;
        self.forget();
        if !self.records.look(py, inbox.get(), &wake) {
            return Ok(false);
        }
        let shared = &self.core.shared;
        if self.goal.is_none() {
            py.detach(|| shared.settle_flush());
        }
        let goal = *self.goal.get_or_insert_with(|| shared.callbacks.pushed());
        let notice = notice(&inbox.get().inbox, LoopCall::Wake { function: wake });
        if shared.callbacks.add_notice(goal, &notice) {
            self.notice = Some(notice.token);
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
        self.records.forget();
        if let Some(token) = self.notice.take()
            && self.core.shared.callbacks.take_notice(token)
        {
            drop(LOOP_CALLS.remove(token));
        }
    }
}

impl Drop for PendingFlush {
    fn drop(&mut self) {
        self.end();
    }
}
