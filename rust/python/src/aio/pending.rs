//! `PendingSend`: a record that has to wait, for its topic or for memory.

use std::sync::Arc;

use penstock_core::append::Appended;
use penstock_core::outcome::{CallbackToken, Completion};
use penstock_core::topic::Topic;
use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::aio::future::AsyncDeliveryFuture;
use crate::aio::in_loop::InLoop;
use crate::aio::running;
use crate::aio::step::Step;
use crate::loops::calls::{LoopCall, Waker, notice};
use crate::loops::inbox::LoopInbox;
use crate::record::producer_record::ProducerRecord;
use crate::result::delivery::Sizes;
use crate::runtime::callbacks::{CALLBACKS, Callback};
use crate::runtime::engine_core::Core;
use crate::runtime::errors::Quick;
use crate::send::call::{Call, Made, Place, Serialized};
use crate::send::memory::MemoryWait;
use crate::send::state::State;
use crate::send::topic::TopicWait;
use crate::send::waits::Deadline;

/// The application's callback and its context.
type LoopCallback = (Py<PyAny>, Py<PyAny>);

/// A record that is not in the buffer yet.
struct PendingRecord {
    record: ProducerRecord,
    /// The record that the interceptors made, for `on_send_error`.
    intercepted: Option<Py<ProducerRecord>>,
    /// The callback with the interceptors before it, for the callback thread.
    token: Option<CallbackToken>,
    /// The application's callback, for its loop.
    callback: Option<LoopCallback>,
    observed: bool,
    /// As in `Call`.
    serialized: bool,
}

/// The record with its topic, serialized.
struct ReadyRecord {
    topic: Arc<Topic>,
    key: Option<Py<PyBytes>>,
    value: Option<Py<PyBytes>>,
    partition: Option<u32>,
    timestamp: i64,
    waiting: Option<MemoryWait>,
    needed: usize,
    grant: usize,
}

/// See the module.
#[pyclass(module = "penstock._native")]
pub struct PendingSend {
    state: Arc<State>,
    entry: Option<PendingRecord>,
    ready: Option<ReadyRecord>,
    /// max.block.ms is for both waits together.
    topic_wait: TopicWait,
}

/// The result of one try.
enum Tried {
    Buffered(Arc<Completion>, u32, Sizes),
    NeedsMemory(usize),
    /// The topic has been forgotten since.
    Forgotten,
}

impl ReadyRecord {
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

    /// Leave the queue for memory, and release a grant that is not needed.
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
    callback: Option<LoopCallback>,
    observed: bool,
}

impl Buffered {
    /// Its future; its callback is registered.
    pub fn future(self, py: Python<'_>) -> PyResult<AsyncDeliveryFuture> {
        let Self { place: Place { completion, index, sizes }, callback, observed } = self;
        if let Some((function, context)) = callback {
            let (_, inbox) = running::here(py)?;
            let call = LoopCall::Outcome { function, context, completion: Arc::clone(&completion), index, sizes };
            let notice = notice(&inbox, call);
            if !completion.add_notice(index, &notice, true) {
                inbox.post([notice.token]);
            }
        }
        Ok(AsyncDeliveryFuture::new(completion, index, sizes, observed))
    }
}

impl PendingSend {
    /// Call the interceptors.
    fn begin<'py>(state: &Arc<State>, py: Python<'py>, call: &Call<'_, 'py>) -> PyResult<Self> {
        let mut callback = match call.callback {
            Some(function) => Some((function.clone().unbind(), running::copy_context(py)?)),
            None => None,
        };
        let (observed, serialized) = (callback.is_some(), call.serialized);
        let (mut record, mut intercepted, mut token) = (None, None, None);
        if let Some(interceptors) = &state.interceptors {
            let changed = interceptors.on_send(py, call)?;
            if interceptors.want_acknowledgements {
                let in_loop = match callback.take() {
                    Some((function, context)) => {
                        let (_, inbox) = running::here(py)?;
                        Some(Bound::new(py, InLoop { inbox, function, context })?.into_any())
                    }
                    None => None,
                };
                let function = interceptors.wrap(&changed, in_loop.as_ref())?.map(Bound::unbind);
                // The sizes are not known before the record is serialized: see `PendingSend::try_ready`.
                token = function.map(|function| CALLBACKS.insert(Callback::Send { function, sizes: Sizes::UNKNOWN }));
            }
            record = Some(call.intercepted(py, &changed, None).map_err(|error| *error)?.record(py)?);
            intercepted = Some(changed.unbind());
        }
        let record = match record {
            Some(record) => record,
            None => call.record(py)?,
        };
        let entry = PendingRecord { record, intercepted, token, callback, observed, serialized };
        let deadline = Deadline::in_loop(state);
        let topic_wait = TopicWait::new(state, "send", entry.record.partition, deadline);
        Ok(Self { state: Arc::clone(state), entry: Some(entry), ready: None, topic_wait })
    }

    /// Begin with a record, and try at once. A record that cannot be buffered yet is returned as a pending one. An error has
    /// been reported to the interceptors.
    pub fn try_or_keep<'py>(
        state: &Arc<State>,
        py: Python<'py>,
        call: &Call<'_, 'py>,
    ) -> PyResult<Result<Buffered, Self>> {
        let mut pending = Self::begin(state, py, call)?;
        match pending.try_now(py) {
            Ok(Some(buffered)) => Ok(Ok(buffered)),
            Ok(None) => Ok(Err(pending)),
            Err(error) => {
                pending.refuse(py, error.value(py));
                Err(error)
            }
        }
    }

    /// Done when the record is buffered; otherwise it waits for its topic or for memory.
    pub fn poll(&mut self, py: Python<'_>, waker: &Waker) -> PyResult<Step<Buffered>> {
        let state = Arc::clone(&self.state);
        state.core.check_fork(py)?;
        if let Some(ready) = &mut self.ready
            && let Some(waiting) = &mut ready.waiting
        {
            if !waiting.poll(py, &state, &ready.topic)? {
                return Ok(Step::Wait(Some(waiting.patience())));
            }
            ready.grant += waiting.bytes;
            ready.waiting = None;
        }
        loop {
            if let Some(buffered) = self.try_now(py)? {
                return Ok(Step::Done(buffered));
            }
            if let Some(ready) = &mut self.ready {
                let deadline = self.topic_wait.deadline;
                let waiting = MemoryWait::new(py, &state, ready.needed, deadline, Some(waker));
                return Ok(Step::Wait(Some(ready.waiting.insert(waiting).patience())));
            }
            let Some(entry) = &self.entry else { return Err(abandoned()) };
            // A topic that is found is the recent one then.
            if self.topic_wait.poll(py, &state, entry.record.topic.bind(py), Some(waker))?.is_none() {
                return Ok(Step::Wait(Some(self.topic_wait.patience())));
            }
        }
    }

    /// Without a wait. None: the record has to wait.
    fn try_now(&mut self, py: Python<'_>) -> PyResult<Option<Buffered>> {
        let state = Arc::clone(&self.state);
        loop {
            let Some(entry) = &self.entry else { return Err(abandoned()) };
            let call = Call::of_record(py, &entry.record, None).map_err(|error| *error)?;
            let call = Call { serialized: entry.serialized, ..call };
            if let Some(ready) = &mut self.ready {
                match Self::try_ready(&state, py, &call, entry, ready).map_err(|error| *error)? {
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
                        let Some(PendingRecord { callback, observed, .. }) = self.entry.take() else { return Ok(None) };
                        return Ok(Some(Buffered { place: Place { completion, index, sizes }, callback, observed }));
                    }
                }
            }
            let Some(topic) = state.recent_topic(py, call.topic, call.partition)? else { return Ok(None) };
            let made = Made::new();
            let serialized = state.serialize(py, &call, &topic, &made).map_err(|error| *error)?;
            self.ready = Some(ReadyRecord::keep(Arc::clone(&topic), py, &call, serialized, &made));
        }
    }

    fn try_ready(
        state: &State,
        py: Python<'_>,
        call: &Call<'_, '_>,
        entry: &PendingRecord,
        ready: &mut ReadyRecord,
    ) -> Quick<Tried> {
        state.check_open(py)?;
        let ReadyRecord { topic, key, value, partition, timestamp, grant, .. } = ready;
        let (key, value) = (key.as_ref().map(|key| key.as_bytes(py)), value.as_ref().map(|value| value.as_bytes(py)));
        let serialized = Serialized { key, value, partition: *partition, timestamp: *timestamp };
        state.with_record(py, call, serialized, |record, sizes| {
            if let Some(token) = entry.token {
                CALLBACKS.set_sizes(token, sizes);
            }
            let token = entry.token.map(|token| (token, entry.observed));
            match state.core.shared.append(topic, serialized.partition, record, token, grant) {
                Appended::Done { completion, index } => Ok(Tried::Buffered(completion, index, sizes)),
                Appended::NeedsMemory(bytes) => Ok(Tried::NeedsMemory(bytes)),
                Appended::Closed => Ok(state.check_open(py).map(|()| Tried::Forgotten)?),
            }
        })
    }

    /// The record will not be sent: report why to the interceptors, and drop it.
    pub fn refuse(&mut self, py: Python<'_>, error: &Bound<'_, PyBaseException>) {
        let Some(entry) = self.let_go() else { return };
        if let (Some(record), Some(interceptors)) = (&entry.intercepted, &self.state.interceptors) {
            interceptors.on_send_error(record.bind(py), error);
        }
    }

    /// Leave the queue for memory, and drop its callback. The record, if it was not buffered.
    fn let_go(&mut self) -> Option<PendingRecord> {
        let core = &self.state.core;
        self.topic_wait.forget(core);
        if let Some(mut ready) = self.ready.take() {
            ready.let_go(core);
        }
        let entry = self.entry.take()?;
        if let Some(token) = entry.token {
            drop(CALLBACKS.remove(token));
        }
        Some(entry)
    }
}

#[cold]
fn abandoned() -> PyErr {
    PyRuntimeError::new_err("the send was refused or is over")
}

#[pymethods]
impl PendingSend {
    /// Done with the record's future.
    fn attempt(
        &mut self,
        py: Python<'_>,
        inbox: &Bound<'_, LoopInbox>,
        wake: Py<PyAny>,
    ) -> PyResult<Step<AsyncDeliveryFuture>> {
        let waker = Waker { inbox: Arc::clone(&inbox.get().inbox), function: wake };
        Ok(match self.poll(py, &waker)? {
            Step::Done(buffered) => Step::Done(buffered.future(py)?),
            Step::Wait(patience) => Step::Wait(patience),
            Step::Yield(times) => Step::Yield(times),
            Step::Await(awaitable) => Step::Await(awaitable),
        })
    }

    /// The record will not be sent, because of `error`.
    #[pyo3(name = "refuse")]
    fn refuse_py(&mut self, py: Python<'_>, error: &Bound<'_, PyBaseException>) {
        self.refuse(py, error);
    }
}

impl Drop for PendingSend {
    /// Of a coroutine that was never awaited, or never ended.
    fn drop(&mut self) {
        // It holds Python objects: the thread that drops it has the GIL.
        drop(self.let_go());
    }
}
