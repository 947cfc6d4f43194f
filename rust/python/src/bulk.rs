//! `send_many`, and what it shares with `send_arrow`: chunks of serialized records into batches, and what becomes of those
//! that cannot be buffered.
//!
//! With the GIL a chunk of values is gathered and serialized (borrowed where they are bytes or text); without it the chunk
//! is appended. Where an interceptor or a partitioner of the user's has a say, records go one by one as in `send`.

use penstock_core::batch::Header;
use penstock_core::bulk::{CHOOSE, Chunk, Partitions, Placed, Progress, Rows, Timestamps};
use penstock_core::topic::Topic;
use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyIterator, PyList, PyMemoryView, PyString, PyTuple};
use smallvec::SmallVec;
use std::sync::Arc;

use crate::bulk_result::{BulkResult, Refused};
use crate::ending;
use crate::headers::Headers;
use crate::python;
use crate::record::{check_topic, extract_partition, extract_timestamp};
use crate::sender::{Call, State, now_ms};
use crate::serialize::Payload;

/// Records gathered before they are appended.
const CHUNK_RECORDS: usize = 2048;
/// Bytes of keys and values gathered before they are appended.
const CHUNK_BYTES: usize = 512 * 1024;
/// Below this many bytes a chunk is appended with the GIL kept: to let go of it and get it back costs more.
const DETACH_BYTES: usize = 16 * 1024;
/// Records between two looks at signals (Ctrl-C) where records go one by one.
const SIGNALS_EVERY: usize = 1024;

/// One call under way: what was buffered, and what could not be.
///
/// The rule of both calls: as long as nothing is buffered, an error is raised; afterwards it is told in the result, since
/// the caller must not lose track of what is on its way. Only what is no `Exception` (Ctrl-C), or comes from a signal
/// handler during a wait, is raised all the same.
pub struct Bulk<'a, 'py> {
    state: &'a State,
    py: Python<'py>,
    topic: Bound<'py, PyString>,
    chunk: Chunk,
    placed: Placed,
    buffered: bool,
    refused: Vec<Refused>,
    /// Why no more records are taken.
    stopped: Option<Py<PyAny>>,
}

impl<'a, 'py> Bulk<'a, 'py> {
    /// Check what can be checked before the first record.
    pub fn begin(state: &'a State, py: Python<'py>, topic: &Bound<'py, PyAny>) -> PyResult<Self> {
        let Ok(topic) = topic.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!("topic must be a str, not {}", topic.get_type())));
        };
        check_topic(py, &topic.to_string_lossy())?;
        state.core.check_fork(py)?;
        state.check_open(py)?;
        Ok(Self {
            state,
            py,
            topic: topic.clone(),
            chunk: Chunk::default(),
            placed: Placed::default(),
            buffered: false,
            refused: Vec::new(),
            stopped: None,
        })
    }

    /// Whether records are still taken.
    pub fn goes_on(&self) -> bool {
        self.stopped.is_none()
    }

    /// Records so far, refused ones included.
    pub fn records(&self) -> u64 {
        self.placed.records
    }

    /// The next record cannot be buffered.
    pub fn refuse(&mut self, error: PyErr) -> PyResult<()> {
        let error = self.told(error)?;
        self.refused.push(Refused { first: self.placed.records, count: 1, error });
        self.placed.push_not_buffered(1);
        Ok(())
    }

    /// The next record cannot be buffered, nor those that follow it.
    pub fn stop(&mut self, error: PyErr) -> PyResult<()> {
        self.refuse(error)?;
        self.stopped = self.refused.last().map(|refused| refused.error.clone_ref(self.py));
        Ok(())
    }

    /// An error as an entry of the result; raised where it must be.
    fn told(&self, error: PyErr) -> PyResult<Py<PyAny>> {
        if !self.buffered || !error.is_instance_of::<PyException>(self.py) {
            return Err(error);
        }
        python::not_buffered(self.py, error, &self.topic)
    }

    /// A snapshot of the topic that has a partition of this number, waited for if need be.
    fn topic(&self, partition: Option<i32>, method: &str) -> PyResult<Arc<Topic>> {
        self.state.topic(self.py, &self.topic, partition, method, &mut self.state.deadline())
    }

    /// Buffer a chunk. Afterwards look at [`Bulk::goes_on`].
    pub fn append(&mut self, rows: &Rows<'_>, method: &str) -> PyResult<()> {
        if rows.values.is_empty() {
            return Ok(());
        }
        let shared = &self.state.core.shared;
        let highest = match rows.partitions {
            Partitions::Choose => None,
            Partitions::All(partition) => Some(partition as i32),
            Partitions::Each(each) => each.iter().copied().max().filter(|&partition| partition != CHOOSE),
        };
        let topic = self.topic(highest, method);
        if !self.buffered {
            self.check_size(rows, 0)?; // what the first record is refused for is raised
        }
        let mut topic = match topic {
            Ok(topic) => topic,
            Err(error) => return self.stop_at(rows.values.len(), error),
        };
        let ignore_keys = shared.config.partitioning.ignore_keys;
        let first = self.placed.records;
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.begin(&topic, rows, ignore_keys);
        let bytes: usize = rows.values.iter().chain(rows.keys).flatten().map(|bytes| bytes.len()).sum();
        let mut grant = 0;
        let stopped = loop {
            let mut go = || shared.append_many(&topic, rows, &mut chunk, &mut self.placed, &mut grant);
            let progress = if bytes < DETACH_BYTES { go() } else { self.py.detach(go) };
            match progress {
                Progress::Done => break None,
                Progress::NeedsMemory(bytes) => {
                    // A new time for each wait: between two of them there was progress.
                    match self.state.wait_for_memory(self.py, &topic, bytes, &mut self.state.deadline()) {
                        Ok(()) => grant += bytes,
                        Err(error) => break Some(error),
                    }
                }
                Progress::Closed => match self.state.check_open(self.py).and_then(|()| self.topic(highest, method)) {
                    Ok(newer) => {
                        topic = newer;
                        chunk.regroup(&topic, rows, ignore_keys);
                    }
                    Err(error) => break Some(error),
                },
            }
        };
        if grant > 0 {
            shared.release(grant);
        }
        let left = chunk.finish(rows, &mut self.placed);
        let too_large = std::mem::take(&mut chunk.too_large);
        self.chunk = chunk;
        self.buffered |= left.len() + too_large.len() < rows.values.len();
        for row in too_large {
            if let Err(error) = self.check_size(rows, row as usize) {
                let error = self.told(error)?;
                self.refused.push(Refused { first: first + u64::from(row), count: 1, error });
            }
        }
        if let Some(error) = stopped {
            // Ctrl-C, and whatever a signal handler raised.
            if !python::is_kafka_error(self.py, &error) {
                return Err(error);
            }
            let error = self.told(error)?;
            for row in left {
                let first = first + u64::from(row);
                match self.refused.last_mut() {
                    Some(last) if last.first + last.count == first && last.error.is(&error) => last.count += 1,
                    _ => self.refused.push(Refused { first, count: 1, error: error.clone_ref(self.py) }),
                }
            }
            self.stopped = Some(error);
        }
        Ok(())
    }

    fn stop_at(&mut self, count: usize, error: PyErr) -> PyResult<()> {
        if !python::is_kafka_error(self.py, &error) {
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
        self.state.check_size(self.py, &self.topic, partition, rows.key(row), rows.values[row], rows.headers(row))
    }

    /// `count` records more were given, and were not taken because of what stopped the call.
    pub fn refuse_rest(&mut self, count: u64) {
        if let Some(error) = &self.stopped
            && count > 0
        {
            let error = error.clone_ref(self.py);
            match self.refused.last_mut() {
                Some(last) if last.first + last.count == self.placed.records && last.error.is(&error) => {
                    last.count += count;
                }
                _ => self.refused.push(Refused { first: self.placed.records, count, error }),
            }
            self.placed.push_not_buffered(count);
        }
    }

    /// All is taken.
    pub fn end(self) -> BulkResult {
        BulkResult::new(self.py, &self.state.core.shared, &self.topic.to_string_lossy(), self.placed, self.refused)
    }

    /// One record as in `send`, for interceptors and partitioners.
    fn one(&mut self, call: &Call<'py>) -> PyResult<()> {
        match self.state.deliver(self.py, call) {
            Ok(place) => {
                self.buffered = true;
                self.placed.push_one(&place.completion, place.index);
                Ok(())
            }
            Err(error) if python::is_final(self.py, &error) => self.stop(error),
            Err(error) => self.refuse(error),
        }
    }
}

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
    let mut bulk = Bulk::begin(state, py, topic)?;
    let given = |given: Option<&Bound<'py, PyAny>>| given.filter(|given| !given.is_none()).cloned();
    let (keys, headers, timestamps) = (given(keys), given(headers), given(timestamps));
    let column = |name: &str, given: &Option<Bound<'py, PyAny>>| {
        given.as_ref().map(|given| Column::of(name, given)).transpose()
    };
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
    let none = || py.None().into_bound(py);
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
                topic,
                value: entry.value,
                key: entry.key.unwrap_or_else(none),
                partition,
                timestamp: extract_timestamp(entry.timestamp.as_ref())?,
                headers: Headers::given(py, entry.headers.as_ref())?,
                callback: None,
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

    fn is_full(&self) -> bool {
        self.values.len() >= CHUNK_RECORDS || self.bytes >= CHUNK_BYTES
    }

    #[inline]
    fn take(&mut self, bulk: &Bulk<'_, 'py>, entry: &Entry<'py>) -> PyResult<()> {
        let (py, state) = (bulk.py, bulk.state);
        let headers = Headers::given(py, entry.headers.as_ref())?;
        let timestamp = match &entry.timestamp {
            None => None,
            Some(timestamp) => Some(extract_timestamp(Some(timestamp))?.unwrap_or_else(now_ms)),
        };
        let key = match &entry.key {
            None => None,
            Some(key) => Some(state.key.run(py, &bulk.topic, &headers, key)?),
        };
        let value = state.value.run(py, &bulk.topic, &headers, &entry.value)?;
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
        bulk.append(&rows, "send_many")
    }
}

fn in_chunks<'py>(bulk: &mut Bulk<'_, 'py>, columns: &mut Columns<'py>, partition: Option<i32>) -> PyResult<()> {
    let mut gathered = Gathered::default();
    loop {
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
