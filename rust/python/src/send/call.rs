//! One call of `send`, its arguments checked, and the bytes and place that it leads to.

#![expect(clippy::inline_always, reason = "measured: see send/mod.rs")]

use std::cell::OnceCell;
use std::sync::Arc;

use penstock_core::outcome::Completion;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::record::arguments::{extract_partition, extract_timestamp};
use crate::record::headers::Headers;
use crate::record::producer_record::ProducerRecord;
use crate::record::serialize::{Payload, object};
use crate::result::delivery::Sizes;
use crate::runtime::errors::Quick;

/// One call of `send`, its arguments checked.
pub struct Call<'a, 'py> {
    pub topic: &'a Bound<'py, PyString>,
    /// `None`: null, as everywhere.
    pub value: Option<&'a Bound<'py, PyAny>>,
    pub key: Option<&'a Bound<'py, PyAny>>,
    pub partition: Option<i32>,
    pub timestamp: Option<i64>,
    pub headers: Headers<'py>,
    pub callback: Option<&'a Bound<'py, PyAny>>,
    /// Key and value are bytes or null already, and pass no serializer.
    pub serialized: bool,
    /// The callback is the application's, not only the interceptors'.
    pub observed: bool,
}

/// Where a record was buffered.
pub struct Place {
    pub completion: Arc<Completion>,
    pub index: u32,
    pub sizes: Sizes,
}

/// A record as it will be buffered, without its headers.
#[derive(Clone, Copy)]
pub struct Serialized<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub partition: Option<u32>,
    pub timestamp: i64,
}

/// The bytes of a [`Serialized`] that serializers made, where they are not those of the given key and value.
pub struct Made<'py> {
    pub key: OnceCell<Payload<'py>>,
    pub value: OnceCell<Payload<'py>>,
}

impl<'py> Made<'py> {
    /// None yet.
    pub const fn new() -> Self {
        Self { key: OnceCell::new(), value: OnceCell::new() }
    }

    /// Key and value of a record as objects.
    pub fn objects(
        &self,
        py: Python<'py>,
        call: &Call<'_, 'py>,
        serialized: Serialized<'_>,
    ) -> (Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>) {
        (object(py, call.key, &self.key, serialized.key), object(py, call.value, &self.value, serialized.value))
    }
}

impl<'a, 'py> Call<'a, 'py> {
    /// Check the arguments of `send`.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "as `send`")]
    pub fn new(
        py: Python<'py>,
        topic: &'a Bound<'py, PyAny>,
        value: Option<&'a Bound<'py, PyAny>>,
        key: Option<&'a Bound<'py, PyAny>>,
        partition: Option<&Bound<'py, PyAny>>,
        timestamp: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        callback: Option<&'a Bound<'py, PyAny>>,
    ) -> Quick<Self> {
        let callback = present(callback);
        if let Some(callback) = callback
            && !callback.is_callable()
        {
            return Err(not_callable(callback).into());
        }
        // The exact type first: that is a comparison instead of a call, and nearly always true.
        let text = topic.cast_exact::<PyString>().or_else(|_| topic.cast::<PyString>());
        let Ok(topic) = text else {
            let others = [value, key, partition, timestamp, headers];
            return Self::of_record(py, whole_record(topic, &others)?, callback);
        };
        Ok(Call {
            topic,
            value: present(value),
            key: present(key),
            // Written out, so that an argument that was not given never becomes a result in memory.
            partition: match partition {
                None => None,
                Some(partition) => extract_partition(Some(partition))?,
            },
            timestamp: match timestamp {
                None => None,
                Some(timestamp) => extract_timestamp(Some(timestamp))?,
            },
            headers: match headers {
                None => Headers::default(),
                Some(headers) => Headers::given(py, Some(headers))?,
            },
            callback,
            serialized: false,
            observed: true,
        })
    }

    /// The call for a record given whole.
    #[inline(always)]
    pub fn of_record(
        py: Python<'py>,
        record: &'a ProducerRecord,
        callback: Option<&'a Bound<'py, PyAny>>,
    ) -> Quick<Self> {
        Ok(Call {
            topic: record.topic.bind(py),
            value: present(Some(record.value.bind(py))),
            key: present(Some(record.key.bind(py))),
            partition: record.partition,
            timestamp: record.timestamp,
            headers: Headers::of_tuple(record.headers.bind(py))?,
            callback,
            serialized: false,
            observed: true,
        })
    }

    /// The same call with the record and the callback of the interceptors.
    pub fn intercepted<'b>(
        &self,
        py: Python<'py>,
        record: &'b Bound<'py, ProducerRecord>,
        callback: Option<&'b Bound<'py, PyAny>>,
    ) -> Quick<Call<'b, 'py>> {
        let (observed, serialized) = (self.callback.is_some(), self.serialized);
        Ok(Call { serialized, observed, ..Call::of_record(py, record.get(), callback)? })
    }

    /// As a record, to be kept.
    pub fn record(&self, py: Python<'py>) -> PyResult<ProducerRecord> {
        let object = |data: Option<&Bound<'py, PyAny>>| data.map_or_else(|| py.None(), |data| data.clone().unbind());
        Ok(ProducerRecord {
            topic: self.topic.clone().unbind(),
            value: object(self.value),
            key: object(self.key),
            partition: self.partition,
            timestamp: self.timestamp,
            headers: self.headers.tuple(py)?.unbind(),
        })
    }
}

/// None for Python's None.
#[inline(always)]
pub fn present<'a, 'py>(object: Option<&'a Bound<'py, PyAny>>) -> Option<&'a Bound<'py, PyAny>> {
    object.filter(|object| !object.is_none())
}

#[cold]
fn not_callable(callback: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("callback is not callable: {}", callback.get_type()))
}

/// A first argument that is no topic name is a record, and the only argument.
#[inline]
fn whole_record<'a>(
    topic: &'a Bound<'_, PyAny>,
    others: &[Option<&Bound<'_, PyAny>>],
) -> Result<&'a ProducerRecord, Box<PyErr>> {
    let Ok(record) = topic.cast::<ProducerRecord>() else {
        let kind = topic.get_type();
        let why = format!("send takes a ProducerRecord or a topic name (str), not {kind}");
        return Err(PyTypeError::new_err(why).into());
    };
    if others.iter().any(Option::is_some) {
        return Err(PyTypeError::new_err("send(record) takes no other argument than callback").into());
    }
    Ok(record.get())
}
