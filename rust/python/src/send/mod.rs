//! The way of a record from a call into the buffer, for both facades: serializers, interceptors, partitioner, append.
//!
//! The common record (bytes or str, no interceptor, no custom partitioner, a known topic, room in the buffer) goes from
//! the call to the batch without running a line of Python.
//!
//! Its steps are inlined by order, borrow what they are given, and box their errors ([`Quick`]): what goes through memory
//! between two of them costs more than most of them do (measured: see docs/performance.md, "The cost of a send").

#![expect(clippy::inline_always, reason = "measured: see above")]

mod call;
mod recent;
mod waits;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_core::accumulator::{Appended, Record};
use penstock_core::compression::Codec;
use penstock_core::topic::Topic;
use penstock_core::wire::record_batch::{BATCH_HEADER_LEN, Header, record_len_upper_bound};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString};

use crate::blocking::future::Sizes;
use crate::record::serialize::{Serialize, given};
use crate::record::{ProducerRecord, whole_number};
use crate::runtime::callbacks::{CALLBACKS, Callback};
use crate::runtime::engine::{Core, Engine};
use crate::runtime::python;
use crate::runtime::shutdown;

pub use call::{Call, Made, Place, Serialized, present};
pub use waits::{Deadline, Look, Search, count_wait};

/// Longer is the same as for ever, and a clock may not count that far.
const LONGEST_BLOCK: Duration = Duration::from_secs(3_000_000_000);

/// A facade's native half, once it has its engine.
pub struct State {
    pub core: Arc<Core>,
    pub key: Serialize,
    pub value: Serialize,
    /// `choose(topic, key, key_bytes, value, value_bytes) -> int`
    partitioner: Option<Py<PyAny>>,
    /// An object with `on_send(record)`, `wrap(record, callback)` and `on_send_error(record, error)`.
    pub interceptors: Option<Py<PyAny>>,
    /// `warn_waiting(method, topic, partition, status)`, called once a second has been waited for a topic.
    warn_waiting: Py<PyAny>,
    pub max_block: Duration,
    /// Among all of the process: see [`recent`].
    id: u64,
}

/// A result on the common way. Its error is boxed, so that the whole fits into registers: a `PyErr` by value has every
/// result written to memory and read from there at once, which the processor has to wait for.
pub type Quick<T> = Result<T, Box<PyErr>>;

impl State {
    /// Connected with its engine; serializers come with what of them is native.
    pub fn new(
        engine: &Engine,
        key: (Option<&str>, Py<PyAny>),
        value: (Option<&str>, Py<PyAny>),
        partitioner: Option<Py<PyAny>>,
        interceptors: Option<Py<PyAny>>,
        warn_waiting: Py<PyAny>,
        max_block_ms: u64,
    ) -> PyResult<Self> {
        Ok(Self {
            core: Arc::clone(&engine.core),
            key: Serialize::new(key.0, key.1)?,
            value: Serialize::new(value.0, value.1)?,
            partitioner,
            interceptors,
            warn_waiting,
            max_block: Duration::from_millis(max_block_ms).min(LONGEST_BLOCK),
            id: recent::next_sender(),
        })
    }

    /// That of a facade that was initialised.
    pub fn of(state: &OnceLock<Self>) -> PyResult<&Self> {
        let why = "the producer was not initialised (is super().__init__() missing?)";
        state.get().ok_or_else(|| PyRuntimeError::new_err(why))
    }

    /// max.block.ms from the first wait on.
    pub fn deadline(&self) -> Deadline {
        Deadline::after(self.max_block)
    }

    /// Whether interceptors or a partitioner of the user's have a say in each record.
    pub fn records_go_one_by_one(&self, partition: Option<i32>) -> bool {
        self.interceptors.is_some() || (self.partitioner.is_some() && partition.is_none())
    }

    #[inline]
    pub fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        let shared = &self.core.shared;
        if let Some((code, message)) = shared.fatal() {
            return Err(match code {
                -1 => python::error(py, "InternalError", message, &[]),
                0 => python::error(py, "KafkaError", message, &[]),
                code => python::error_for_code(py, *code, message, None),
            });
        }
        if shared.closed.load(Ordering::Acquire) {
            return Err(python::closed(py));
        }
        Ok(())
    }

    /// All that `send` does with a record. `made` makes of its place what the caller is after, there and then: handed up
    /// through all these functions, a place costs more than most of them.
    #[inline(always)]
    pub fn deliver<'py, T>(
        &self,
        py: Python<'py>,
        call: &Call<'_, 'py>,
        made: &impl Fn(Place) -> Quick<T>,
    ) -> Quick<T> {
        match &self.interceptors {
            None => self.send(py, call, made),
            Some(interceptors) => self.send_intercepted(py, interceptors.bind(py), call, made),
        }
    }

    /// Interceptors see the record first, and its end last.
    #[inline(never)]
    fn send_intercepted<'py, T>(
        &self,
        py: Python<'py>,
        interceptors: &Bound<'py, PyAny>,
        call: &Call<'_, 'py>,
        made: &impl Fn(Place) -> Quick<T>,
    ) -> Quick<T> {
        let (record, wrapped) = Self::intercept(py, interceptors, call, call.callback)?;
        let call = Self::intercepted(py, &record, &wrapped, call)?;
        self.send(py, &call, made).inspect_err(|error| Self::tell_failure(py, interceptors, &record, error.value(py)))
    }

    /// The record after the interceptors, and their callback around `callback`; None if neither wants the outcome.
    pub fn intercept<'py>(
        py: Python<'py>,
        interceptors: &Bound<'py, PyAny>,
        call: &Call<'_, 'py>,
        callback: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, ProducerRecord>, Bound<'py, PyAny>)> {
        let record = call.record(py)?;
        let record = shutdown::python(py, || interceptors.call_method1("on_send", (record,)))?;
        let record = record.cast_into::<ProducerRecord>()?;
        let wrapped = shutdown::python(py, || interceptors.call_method1("wrap", (&record, callback)))?;
        Ok((record, wrapped))
    }

    /// The call in place of `before` with what [`State::intercept`] brought.
    pub fn intercepted<'a, 'py>(
        py: Python<'py>,
        record: &'a Bound<'py, ProducerRecord>,
        wrapped: &'a Bound<'py, PyAny>,
        before: &Call<'_, 'py>,
    ) -> Quick<Call<'a, 'py>> {
        let (observed, serialized) = (before.callback.is_some(), before.serialized);
        let callback = (!wrapped.is_none()).then_some(wrapped);
        Ok(Call { serialized, observed, ..Self::call_of(py, record.get(), callback)? })
    }

    /// Tell the interceptors why a record was not sent.
    pub fn tell_failure<'py>(
        py: Python<'py>,
        interceptors: &Bound<'py, PyAny>,
        record: &Bound<'py, ProducerRecord>,
        error: &Bound<'py, pyo3::exceptions::PyBaseException>,
    ) {
        // The hook isolates its own failures; the caller's error is the one that matters here.
        let _ = shutdown::python(py, || interceptors.call_method1("on_send_error", (record, error)));
    }

    #[inline(always)]
    fn send<'py, T>(&self, py: Python<'py>, call: &Call<'_, 'py>, made: &impl Fn(Place) -> Quick<T>) -> Quick<T> {
        let deadline = self.deadline();
        loop {
            let sent = self.with_topic(
                py,
                call,
                || Ok(self.topic(py, call.topic, call.partition, "send", &deadline)?),
                |topic| self.send_to(py, call, topic, &deadline, made),
            )?;
            if let Some(made) = sent {
                return Ok(made);
            }
            // The topic was forgotten (metadata.max.idle.ms) between the look and the append: look again.
        }
    }

    #[inline(always)]
    fn send_to<'py, T>(
        &self,
        py: Python<'py>,
        call: &Call<'_, 'py>,
        topic: &Topic,
        deadline: &Deadline,
        made: &impl Fn(Place) -> Quick<T>,
    ) -> Quick<Option<T>> {
        let own = Made::new();
        let serialized = self.serialize(py, call, topic, &own)?;
        self.with_record(py, call, serialized, |record, sizes| {
            self.append(py, call, topic, serialized.partition, record, sizes, deadline, made)
        })
    }

    /// What the serializers and the partitioner make of it.
    #[inline(always)]
    pub fn serialize<'a, 'py: 'a>(
        &self,
        py: Python<'py>,
        call: &Call<'a, 'py>,
        topic: &Topic,
        own: &'a Made<'py>,
    ) -> Quick<Serialized<'a>> {
        let (key, value) = if call.serialized {
            (given(call.key)?, given(call.value)?)
        } else {
            let (topic, headers) = (call.topic, &call.headers);
            (
                match call.key {
                    None => None,
                    Some(key) => match self.key.as_it_is(key) {
                        None => self.key.make(py, topic, headers, key, &own.key)?,
                        bytes => bytes,
                    },
                },
                match call.value {
                    None => None,
                    Some(value) => match self.value.as_it_is(value) {
                        None => self.value.make(py, topic, headers, value, &own.value)?,
                        bytes => bytes,
                    },
                },
            )
        };
        let partition = match (call.partition, &self.partitioner) {
            (Some(partition), _) => Some(partition as u32),
            (None, None) => None,
            (None, Some(partitioner)) => {
                let made = Serialized { key, value, partition: None, timestamp: -1 };
                let bytes = own.objects(py, call, made);
                Some(Self::ask_partitioner(py, partitioner, call, topic, bytes)?)
            }
        };
        let timestamp = call.timestamp.unwrap_or_else(now_ms);
        Ok(Serialized { key, value, partition, timestamp })
    }

    /// Have `act` done with the record, if it is not too large.
    #[inline(always)]
    pub fn with_record<T>(
        &self,
        py: Python<'_>,
        call: &Call<'_, '_>,
        serialized: Serialized<'_>,
        act: impl FnOnce(&Record<'_>, Sizes) -> Quick<T>,
    ) -> Quick<T> {
        let owned;
        let headers: &[Header<'_>] = if call.headers.is_empty() {
            &[]
        } else {
            owned = call.headers.slices()?;
            &owned
        };
        let Serialized { key, value, partition, timestamp } = serialized;
        let record = Record { timestamp, key, value, headers };
        self.check_size(py, call.topic, partition, key, value, headers)?;
        let length = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i32);
        let sizes = Sizes { timestamp, key: length(key), value: length(value) };
        act(&record, sizes)
    }

    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "one call's worth")]
    fn append<T>(
        &self,
        py: Python<'_>,
        call: &Call<'_, '_>,
        topic: &Topic,
        partition: Option<u32>,
        record: &Record<'_>,
        sizes: Sizes,
        deadline: &Deadline,
        made: &impl Fn(Place) -> Quick<T>,
    ) -> Quick<Option<T>> {
        let shared = &self.core.shared;
        let token = call
            .callback
            .map(|function| CALLBACKS.insert(Callback::Send { function: function.clone().unbind(), sizes }));
        let mut grant = 0;
        let appended = loop {
            match shared.append(topic, partition, record, token.map(|token| (token, call.observed)), &mut grant) {
                Appended::Done { completion, index } => {
                    if grant > 0 {
                        shared.release(grant);
                    }
                    return made(Place { completion, index, sizes }).map(Some);
                }
                Appended::Closed => break self.check_open(py).map(|()| None),
                Appended::NeedsMemory(bytes) => match self.wait_for_memory(py, topic, bytes, deadline) {
                    Ok(()) => grant += bytes,
                    Err(error) => break Err(error),
                },
            }
        };
        if grant > 0 {
            shared.release(grant);
        }
        if let Some(token) = token {
            CALLBACKS.remove(token);
        }
        Ok(appended?)
    }

    #[inline(never)]
    fn ask_partitioner<'py>(
        py: Python<'py>,
        partitioner: &Py<PyAny>,
        call: &Call<'_, 'py>,
        topic: &Topic,
        bytes: (Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>),
    ) -> PyResult<u32> {
        let arguments = (call.topic, call.key, bytes.0, call.value, bytes.1);
        let number = shutdown::python(py, || {
            let chosen = partitioner.bind(py).call1(arguments)?;
            let words = || format!("the partitioner returned {chosen:?}, not the number of a partition");
            let number = whole_number(&chosen, words)?.and_then(|number| u32::try_from(number).ok());
            number.filter(|&number| number < topic.partitions()).ok_or_else(|| {
                pyo3::exceptions::PyValueError::new_err(format!(
                    "the partitioner chose partition {chosen} of {}, which has {} partitions",
                    topic.name,
                    topic.partitions()
                ))
            })
        })?;
        Ok(number)
    }

    /// Refuses a record that no batch, or no request, could ever hold.
    #[inline(always)]
    pub fn check_size(
        &self,
        py: Python<'_>,
        topic: &Bound<'_, PyString>,
        partition: Option<u32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Quick<()> {
        let config = &self.core.shared.config;
        let size = record_len_upper_bound(key, value, headers) + BATCH_HEADER_LEN;
        // The smallest of the limits below.
        if size <= config.max_request_size.min(config.buffer_memory) && config.batch_size <= config.buffer_memory {
            return Ok(());
        }
        Err(self.too_large(py, topic, partition, size).into())
    }

    #[cold]
    fn too_large(&self, py: Python<'_>, topic: &Bound<'_, PyString>, partition: Option<u32>, size: usize) -> PyErr {
        let config = &self.core.shared.config;
        let (batch, memory) = (config.batch_size, config.buffer_memory);
        let compressed = config.compression.codec != Codec::None;
        let larger = |setting: &str, limit: usize| {
            let before = if compressed { ", counted before compression as in Java" } else { "" };
            format!(
                "a record of {size} bytes (serialized, with its batch header{before}) is larger than {setting} = {limit}"
            )
        };
        let (message, hint) = if size > config.max_request_size {
            // Else the class's own hint: the brokers have a limit too.
            let hint = "Raise max.request.size here, whatever the record compresses to: the broker's limit, \
                        message.max.bytes (max.message.bytes of the topic), counts the compressed batch. Or send smaller \
                        records.";
            (larger("max.request.size", config.max_request_size), compressed.then_some(hint))
        } else if size > memory {
            (larger("buffer.memory", memory), Some("Send smaller records, or raise buffer.memory."))
        } else {
            let message = format!("a batch of batch.size = {batch} bytes is larger than buffer.memory = {memory}");
            (message, Some("Raise buffer.memory, or lower batch.size."))
        };
        let mut context = vec![("topic", topic.clone().into_any())];
        if let Some(partition) = partition {
            context.push(("partition", PyInt::new(py, partition).into_any()));
        }
        if let Some(hint) = hint {
            context.push(("hint", PyString::new(py, hint).into_any()));
        }
        python::error(py, "RecordTooLargeError", &message, &context)
    }
}

/// ms since the epoch.
#[expect(clippy::disallowed_methods, reason = "a record's timestamp is the wall clock's, jumps and all")]
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
