//! `send_many`: iterables of keys and values into chunks of serialized records.
//!
//! With the GIL a chunk of values is gathered and serialized (borrowed where they are bytes or text); without it the chunk
//! is appended. Where an interceptor or a partitioner of the user's has a say, records go one by one as in `send`.

use penstock_core::batch::Header;
use penstock_core::bulk::{Partitions, Rows, Timestamps};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyIterator, PyList, PyMemoryView, PyString, PyTuple};
use smallvec::SmallVec;

use crate::bulk::Bulk;
use crate::bulk_result::BulkResult;
use crate::ending;
use crate::headers::Headers;
use crate::record::{extract_partition, extract_timestamp};
use crate::sender::{Call, State, now_ms, present};
use crate::serialize::Payload;

/// Records gathered before they are appended.
const CHUNK_RECORDS: usize = 2048;
/// Bytes of keys and values gathered before they are appended.
const CHUNK_BYTES: usize = 512 * 1024;
/// Records between two looks at signals (Ctrl-C) where records go one by one.
const SIGNALS_EVERY: usize = 1024;

/// A column of what the caller gave.
enum Column<'py> {
    List(Bound<'py, PyList>, usize),
    Tuple(Bound<'py, PyTuple>, usize),
    Iterator(Bound<'py, PyIterator>),
}

impl<'py> Column<'py> {
    fn of(name: &str, given: &Bound<'py, PyAny>) -> PyResult<Self> {
        if given.is_instance_of::<PyString>()
            || given.is_instance_of::<PyBytes>()
            || given.is_instance_of::<PyByteArray>()
            || given.is_instance_of::<PyMemoryView>()
        {
            return Err(PyTypeError::new_err(format!(
                "{name} must be an iterable with one entry per record, not {}; send() takes a single record",
                given.get_type()
            )));
        }
        if let Ok(list) = given.cast_exact::<PyList>() {
            return Ok(Self::List(list.clone(), 0));
        }
        if let Ok(tuple) = given.cast_exact::<PyTuple>() {
            return Ok(Self::Tuple(tuple.clone(), 0));
        }
        if given.hasattr(pyo3::intern!(given.py(), "__iter__"))?
            || given.hasattr(pyo3::intern!(given.py(), "__getitem__"))?
        {
            return ending::python(given.py(), || given.try_iter()).map(Self::Iterator);
        }
        Err(PyTypeError::new_err(format!(
            "{name} must be an iterable with one entry per record, not {}",
            given.get_type()
        )))
    }

    #[inline]
    fn next(&mut self) -> Option<PyResult<Bound<'py, PyAny>>> {
        match self {
            // By number, since a serializer of the user's may change the list.
            Self::List(list, at) => {
                let item = list.get_item(*at).ok()?;
                *at += 1;
                Some(Ok(item))
            }
            Self::Tuple(tuple, at) => {
                let item = tuple.get_item(*at).ok()?;
                *at += 1;
                Some(Ok(item))
            }
            Self::Iterator(iterator) => ending::python(iterator.py(), || iterator.next()),
        }
    }
}

/// How many entries, if the object knows.
fn sized(given: &Bound<'_, PyAny>) -> Option<usize> {
    given.len().ok()
}

/// The optional columns beside the values, and those of them that end too early or too late.
struct Columns<'py> {
    values: Column<'py>,
    keys: Option<Column<'py>>,
    headers: Option<Column<'py>>,
    timestamps: Option<Column<'py>>,
}

/// One record's entries.
struct Entry<'py> {
    value: Bound<'py, PyAny>,
    key: Option<Bound<'py, PyAny>>,
    headers: Option<Bound<'py, PyAny>>,
    timestamp: Option<Bound<'py, PyAny>>,
}

impl<'py> Columns<'py> {
    /// The next record. Errors are of iterators, or of one that is shorter or longer than `values`.
    #[inline]
    fn next(&mut self, records: u64) -> Option<PyResult<Entry<'py>>> {
        let value = match self.values.next() {
            Some(Ok(value)) => value,
            Some(Err(error)) => return Some(Err(error)),
            None => return self.longer(records).map(Err),
        };
        let beside = |name: &str, column: &mut Option<Column<'py>>| match column {
            None => Ok(None),
            Some(column) => match column.next() {
                Some(entry) => entry.map(Some),
                None => Err(PyValueError::new_err(format!(
                    "{name} ended after {records} records, values go on; give one entry per record"
                ))),
            },
        };
        let entry = (|| {
            Ok(Entry {
                value,
                key: beside("keys", &mut self.keys)?,
                headers: beside("headers", &mut self.headers)?,
                timestamp: beside("timestamps", &mut self.timestamps)?,
            })
        })();
        Some(entry)
    }

    #[cold]
    fn longer(&mut self, records: u64) -> Option<PyErr> {
        let others = [("keys", &mut self.keys), ("headers", &mut self.headers), ("timestamps", &mut self.timestamps)];
        for (name, column) in others {
            match column.as_mut().and_then(Column::next) {
                None => {}
                Some(Err(error)) => return Some(error),
                Some(Ok(_)) => {
                    return Some(PyValueError::new_err(format!(
                        "values ended after {records} records, {name} go on; give one entry per record"
                    )));
                }
            }
        }
        None
    }
}

/// See `Sender.send_many`.
#[expect(clippy::too_many_arguments, reason = "the call's own")]
pub fn send_many<'py>(
    state: &State,
    py: Python<'py>,
    topic: &Bound<'py, PyAny>,
    values: &Bound<'py, PyAny>,
    keys: Option<&Bound<'py, PyAny>>,
    headers: Option<&Bound<'py, PyAny>>,
    timestamps: Option<&Bound<'py, PyAny>>,
    partition: Option<&Bound<'py, PyAny>>,
) -> PyResult<BulkResult> {
    let partition = extract_partition(partition)?;
    let mut bulk = Bulk::begin(state, py, topic, "send_many")?;
    let given = |given: Option<&Bound<'py, PyAny>>| given.filter(|given| !given.is_none()).cloned();
    let (keys, headers, timestamps) = (given(keys), given(headers), given(timestamps));
    let column =
        |name: &str, given: &Option<Bound<'py, PyAny>>| given.as_ref().map(|given| Column::of(name, given)).transpose();
    let mut columns = Columns {
        values: Column::of("values", values)?,
        keys: column("keys", &keys)?,
        headers: column("headers", &headers)?,
        timestamps: column("timestamps", &timestamps)?,
    };
    let length = sized(values);
    for (name, other) in [("keys", &keys), ("headers", &headers), ("timestamps", &timestamps)] {
        if let (Some(length), Some(other)) = (length, other.as_ref().and_then(sized))
            && length != other
        {
            return Err(PyValueError::new_err(format!(
                "{length} values and {other} {name}; give one entry per record"
            )));
        }
    }
    if state.records_go_one_by_one(partition) {
        one_by_one(&mut bulk, &mut columns, partition)?;
    } else {
        in_chunks(&mut bulk, &mut columns, partition)?;
    }
    if let Some(length) = length {
        bulk.refuse_rest((length as u64).saturating_sub(bulk.records()));
    }
    Ok(bulk.end())
}

fn one_by_one<'py>(bulk: &mut Bulk<'_, 'py>, columns: &mut Columns<'py>, partition: Option<i32>) -> PyResult<()> {
    let py = bulk.py;
    for at in 1_usize.. {
        if !bulk.goes_on() {
            return Ok(());
        }
        if at.is_multiple_of(SIGNALS_EVERY) {
            py.check_signals()?;
        }
        let entry = match columns.next(bulk.records()) {
            None => return Ok(()),
            Some(Err(error)) => return bulk.stop(error),
            Some(Ok(entry)) => entry,
        };
        let topic = bulk.topic.clone();
        let call = (|| {
            Ok(Call {
                topic: &topic,
                value: present(Some(&entry.value)),
                key: present(entry.key.as_ref()),
                partition,
                timestamp: extract_timestamp(entry.timestamp.as_ref())?,
                headers: Headers::given(py, entry.headers.as_ref())?,
                callback: None,
                serialized: false,
                observed: false,
            })
        })();
        match call {
            Ok(call) => bulk.one(&call)?,
            Err(error) => bulk.refuse(error)?,
        }
    }
    Ok(())
}

/// A chunk of serialized records: the owners of the bytes that [`Rows`] borrows.
#[derive(Default)]
struct Gathered<'py> {
    values: Vec<Payload<'py>>,
    keys: Vec<Payload<'py>>,
    headers: Vec<Headers<'py>>,
    timestamps: Vec<i64>,
    bytes: usize,
}

impl<'py> Gathered<'py> {
    fn clear(&mut self) {
        self.values.clear();
        self.keys.clear();
        self.headers.clear();
        self.timestamps.clear();
        self.bytes = 0;
    }

    /// Gather from a list or tuple whose entries are all there is of a record, for as long as they need no call into
    /// Python: the fast way. What it stops at is the caller's.
    fn take_values(&mut self, bulk: &Bulk<'_, 'py>, values: &mut Column<'py>) {
        let serialize = &bulk.state.value;
        match values {
            Column::List(list, at) => {
                while self.values.len() < CHUNK_RECORDS
                    && let Ok(item) = list.get_item(*at)
                    && let Some(payload) = serialize.borrowed(item)
                {
                    self.values.push(payload);
                    *at += 1;
                }
            }
            Column::Tuple(tuple, at) => {
                while self.values.len() < CHUNK_RECORDS
                    && let Ok(item) = tuple.get_item(*at)
                    && let Some(payload) = serialize.borrowed(item)
                {
                    self.values.push(payload);
                    *at += 1;
                }
            }
            Column::Iterator(_) => {}
        }
    }

    fn is_full(&self) -> bool {
        self.values.len() >= CHUNK_RECORDS || self.bytes >= CHUNK_BYTES
    }

    #[inline]
    fn take(&mut self, bulk: &Bulk<'_, 'py>, entry: &Entry<'py>) -> PyResult<()> {
        let (py, state, topic) = (bulk.py, bulk.state, &bulk.topic);
        let headers = Headers::given(py, entry.headers.as_ref())?;
        let timestamp = match &entry.timestamp {
            None => None,
            Some(timestamp) => Some(extract_timestamp(Some(timestamp))?.unwrap_or_else(now_ms)),
        };
        let key = match &entry.key {
            None => None,
            Some(key) => Some(state.key.run(py, topic, &headers, key)?),
        };
        let value = state.value.run(py, topic, &headers, &entry.value)?;
        // All or nothing, so that the columns stay of one length.
        self.bytes += value.as_slice()?.map_or(0, <[u8]>::len);
        if let Some(key) = key {
            self.bytes += key.as_slice()?.map_or(0, <[u8]>::len);
            self.keys.push(key);
        }
        if entry.headers.is_some() {
            self.headers.push(headers);
        }
        self.timestamps.extend(timestamp);
        self.values.push(value);
        Ok(())
    }

    /// Append what is gathered, and begin anew.
    fn append(&mut self, bulk: &mut Bulk<'_, 'py>, partition: Option<i32>) -> PyResult<()> {
        let appended = self.append_to(bulk, partition);
        self.clear();
        appended
    }

    fn append_to(&self, bulk: &mut Bulk<'_, 'py>, partition: Option<i32>) -> PyResult<()> {
        let values = self.values.iter().map(Payload::as_slice).collect::<PyResult<Vec<_>>>()?;
        let keys = self.keys.iter().map(Payload::as_slice).collect::<PyResult<Vec<_>>>()?;
        let owners = self.headers.iter().map(Headers::slices).collect::<PyResult<Vec<SmallVec<_>>>>()?;
        let headers: Vec<&[Header<'_>]> = owners.iter().map(|owner| &owner[..]).collect();
        let rows = Rows {
            values: &values,
            keys: &keys,
            headers: &headers,
            timestamps: if self.timestamps.is_empty() {
                Timestamps::All(now_ms())
            } else {
                Timestamps::Each(&self.timestamps)
            },
            partitions: partition.map_or(Partitions::Choose, |partition| Partitions::All(partition as u32)),
        };
        bulk.append(&rows)
    }
}

fn in_chunks<'py>(bulk: &mut Bulk<'_, 'py>, columns: &mut Columns<'py>, partition: Option<i32>) -> PyResult<()> {
    let mut gathered = Gathered::default();
    let alone = columns.keys.is_none() && columns.headers.is_none() && columns.timestamps.is_none();
    loop {
        if alone {
            gathered.take_values(bulk, &mut columns.values);
            if gathered.is_full() {
                gathered.append(bulk, partition)?;
                if !bulk.goes_on() {
                    return Ok(());
                }
                bulk.py.check_signals()?;
                continue;
            }
        }
        let records = bulk.records() + gathered.values.len() as u64;
        let (error, ends) = match columns.next(records) {
            None => {
                return gathered.append(bulk, partition);
            }
            Some(Err(error)) => (error, true),
            Some(Ok(entry)) => match gathered.take(bulk, &entry) {
                Ok(()) if !gathered.is_full() => continue,
                Ok(()) => {
                    gathered.append(bulk, partition)?;
                    if !bulk.goes_on() {
                        return Ok(());
                    }
                    bulk.py.check_signals()?;
                    continue;
                }
                Err(error) => (error, false),
            },
        };
        // What came before it goes first: only the first record's error is raised.
        gathered.append(bulk, partition)?;
        if !bulk.goes_on() {
            return Ok(());
        }
        if ends {
            return bulk.stop(error);
        }
        bulk.refuse(error)?;
    }
}
