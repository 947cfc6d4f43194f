//! `send`: from a call to a place in a batch.

#![expect(clippy::inline_always, reason = "measured: see send/mod.rs")]

use penstock_core::append::{Appended, Record};

use penstock_core::topic::Topic;
use penstock_core::wire::record_batch::Header;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::record::arguments::whole_number;
use crate::record::serialize::given;
use crate::result::delivery::Sizes;
use crate::runtime::callbacks::{CALLBACKS, Callback};
use crate::runtime::clock::now_ms;
use crate::runtime::errors::Quick;
use crate::runtime::shutdown;
use crate::send::call::{Call, Made, Place, Serialized};
use crate::send::interceptors::Interceptors;
use crate::send::state::State;
use crate::send::waits::Waits;

impl State {
    /// Everything that `send` does with a record. `made` turns the record's place into the result at once: to return the
    /// place through all these functions would cost more than most of them do.
    #[inline(always)]
    pub fn deliver<'py, T, W: Waits>(
        &self,
        py: Python<'py>,
        call: &Call<'_, 'py>,
        waits: &W,
        made: &impl Fn(Place) -> Quick<T>,
    ) -> Result<T, W::Failure> {
        match &self.interceptors {
            None => self.send(py, call, waits, made),
            Some(interceptors) => self.send_intercepted(py, interceptors, call, waits, made),
        }
    }

    /// Interceptors get the record first, and its outcome before the callback.
    #[inline(never)]
    fn send_intercepted<'py, T, W: Waits>(
        &self,
        py: Python<'py>,
        interceptors: &Interceptors,
        call: &Call<'_, 'py>,
        waits: &W,
        made: &impl Fn(Place) -> Quick<T>,
    ) -> Result<T, W::Failure> {
        let record = interceptors.on_send(py, call).map_err(Box::new)?;
        let wrapped = interceptors.wrap(&record, call.callback).map_err(Box::new)?;
        let call = call.intercepted(py, &record, wrapped.as_ref())?;
        self.send(py, &call, waits, made).inspect_err(|failure| {
            if let Some(error) = W::error(failure) {
                interceptors.on_send_error(&record, error.value(py));
            }
        })
    }

    /// The same without interceptors.
    #[inline(always)]
    pub fn send<'py, T, W: Waits>(
        &self,
        py: Python<'py>,
        call: &Call<'_, 'py>,
        waits: &W,
        made: &impl Fn(Place) -> Quick<T>,
    ) -> Result<T, W::Failure> {
        loop {
            let sent = self.with_topic(
                py,
                call,
                || waits.topic(self, py, call),
                |topic| self.send_to(py, call, topic, waits, made),
            )?;
            if let Some(made) = sent {
                return Ok(made);
            }
            // The topic was forgotten (metadata.max.idle.ms) between the look-up and the append: look it up again.
        }
    }

    #[inline(always)]
    fn send_to<'py, T, W: Waits>(
        &self,
        py: Python<'py>,
        call: &Call<'_, 'py>,
        topic: &Topic,
        waits: &W,
        made: &impl Fn(Place) -> Quick<T>,
    ) -> Result<Option<T>, W::Failure> {
        let own = Made::new();
        let serialized = self.serialize(py, call, topic, &own)?;
        self.with_record(py, call, serialized, |record, sizes| {
            self.append(py, call, topic, serialized.partition, record, sizes, waits, made)
        })
    }

    /// Key and value as bytes, and the partition if the caller or a partitioner chooses one.
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
    pub fn with_record<T, E: From<Box<PyErr>>>(
        &self,
        py: Python<'_>,
        call: &Call<'_, '_>,
        serialized: Serialized<'_>,
        act: impl FnOnce(&Record<'_>, Sizes) -> Result<T, E>,
    ) -> Result<T, E> {
        let owned;
        let headers: &[Header<'_>] = if call.headers.is_empty() {
            &[]
        } else {
            owned = call.headers.slices().map_err(Box::new)?;
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
    fn append<T, W: Waits>(
        &self,
        py: Python<'_>,
        call: &Call<'_, '_>,
        topic: &Topic,
        partition: Option<u32>,
        record: &Record<'_>,
        sizes: Sizes,
        waits: &W,
        made: &impl Fn(Place) -> Quick<T>,
    ) -> Result<Option<T>, W::Failure> {
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
                    return Ok(made(Place { completion, index, sizes }).map(Some)?);
                }
                Appended::Closed => break self.check_open(py).map(|()| None).map_err(|error| Box::new(error).into()),
                Appended::NeedsMemory(bytes) => match waits.memory(self, py, topic, bytes) {
                    Ok(()) => grant += bytes,
                    Err(failure) => break Err(failure),
                },
            }
        };
        if grant > 0 {
            shared.release(grant);
        }
        if let Some(token) = token {
            CALLBACKS.remove(token);
        }
        appended
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
            let message = || format!("the partitioner returned {chosen:?}, not the number of a partition");
            let number = whole_number(&chosen, message)?.and_then(|number| u32::try_from(number).ok());
            number.filter(|&number| number < topic.partitions()).ok_or_else(|| {
                PyValueError::new_err(format!(
                    "the partitioner chose partition {chosen} of {}, which has {} partitions",
                    topic.name,
                    topic.partitions()
                ))
            })
        })?;
        Ok(number)
    }
}
