//! `send_many`, and what it shares with `send_arrow`: chunks of serialized records into batches, and what becomes of those
//! that cannot be buffered.
//!
//! With the GIL a chunk of values is gathered and serialized (borrowed where they are bytes or text); without it the chunk
//! is appended. Where an interceptor or a partitioner of the user's has a say, records go one by one as in `send`.

use penstock_core::accumulator::Shared;
use penstock_core::batch::Header;
use penstock_core::bulk::{CHOOSE, Chunk, Partitions, Placed, Progress, Rows, Timestamps};
use penstock_core::topic::Topic;
use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyIterator, PyList, PyMemoryView, PyString, PyTuple};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Instant;

use crate::bulk_result::{BulkResult, Refused};
use crate::ending;
use crate::future::SLICE;
use crate::headers::Headers;
use crate::python;
use crate::record::{check_topic, extract_partition, extract_timestamp};
use crate::sender::{Call, State, count_wait, now_ms};
use crate::serialize::Payload;

/// Records gathered before they are appended.
const CHUNK_RECORDS: usize = 2048;
/// Bytes of keys and values gathered before they are appended.
const CHUNK_BYTES: usize = 512 * 1024;
/// Below this many bytes a chunk is appended with the GIL kept: to let go of it and get it back costs more.
const DETACH_BYTES: usize = 16 * 1024;
/// Records between two looks at signals (Ctrl-C) where records go one by one.
const SIGNALS_EVERY: usize = 1024;

/// The part of a call that needs no GIL.
#[derive(Default)]
pub struct Buffering {
    chunk: Chunk,
    placed: Placed,
    /// Memory that was waited for.
    grant: usize,
    /// The topic's last snapshot.
    topic: Option<Arc<Topic>>,
    /// Something is buffered.
    any: bool,
    /// A chunk is under way.
    pending: bool,
}

impl Buffering {
    /// Buffer a chunk if that takes no more than moments. False: [`Bulk::append`] is to see to it, and finds what was done.
    ///
    /// No more than moments, but for a wait for memory of one slice.
    pub fn append(&mut self, shared: &Shared, rows: &Rows<'_>) -> bool {
        if !self.any {
            return false;
        }
        let Some(topic) = self.topic.clone() else { return false };
        if highest_partition(rows).is_some_and(|partition| partition as u32 >= topic.partitions()) {
            return false;
        }
        self.begin(shared, &topic, rows);
        loop {
            match self.step(shared, &topic, rows) {
                Progress::Done => break,
                Progress::Closed => return false,
                Progress::NeedsMemory(bytes) => {
                    let began = Instant::now();
                    let waiter = shared.queue_for_memory(bytes);
                    let granted = shared.pool.wait(&waiter, began + SLICE);
                    count_wait(&shared.memory_wait_ns, began);
                    if !granted {
                        shared.pool.cancel(&waiter);
                        shared.relax();
                        return false;
                    }
                    self.grant += bytes;
                }
            }
        }
        if !self.chunk.too_large.is_empty() {
            return false;
        }
        self.finish(shared, rows);
        true
    }

    fn begin(&mut self, shared: &Shared, topic: &Topic, rows: &Rows<'_>) {
        self.chunk.begin(topic, rows, shared.config.partitioning.ignore_keys);
        self.pending = true;
    }

    fn step(&mut self, shared: &Shared, topic: &Topic, rows: &Rows<'_>) -> Progress {
        shared.append_many(topic, rows, &mut self.chunk, &mut self.placed, &mut self.grant)
    }

    /// The rows that are not buffered, but for those that are too large.
    fn finish(&mut self, shared: &Shared, rows: &Rows<'_>) -> Vec<u32> {
        self.pending = false;
        self.give_back(shared);
        let left = self.chunk.finish(rows, &mut self.placed);
        self.any |= left.len() + self.chunk.too_large.len() < rows.values.len();
        left
    }

    fn give_back(&mut self, shared: &Shared) {
        let grant = std::mem::take(&mut self.grant);
        if grant > 0 {
            shared.release(grant);
        }
    }
}

fn highest_partition(rows: &Rows<'_>) -> Option<i32> {
    match rows.partitions {
        Partitions::Choose => None,
        Partitions::All(partition) => Some(partition as i32),
        Partitions::Each(each) => each.iter().copied().max().filter(|&partition| partition != CHOOSE),
    }
}

/// One call under way: what was buffered, and what could not be.
///
/// The rule of both calls: as long as nothing is buffered, an error is raised; afterwards it is told in the result, since
/// the caller must not lose track of what is on its way. Only what is no `Exception` (Ctrl-C), or comes from a signal
/// handler during a wait, is raised all the same.
pub struct Bulk<'a, 'py> {
    pub state: &'a State,
    pub py: Python<'py>,
    topic: Bound<'py, PyString>,
    method: &'static str,
    pub buffering: Buffering,
    refused: Vec<Refused>,
    /// Why no more records are taken.
    stopped: Option<Py<PyAny>>,
}

impl<'a, 'py> Bulk<'a, 'py> {
    /// Check what can be checked before the first record.
    pub fn begin(state: &'a State, py: Python<'py>, topic: &Bound<'py, PyAny>, method: &'static str) -> PyResult<Self> {
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
            method,
            buffering: Buffering::default(),
            refused: Vec::new(),
            stopped: None,
        })
    }

    /// Its name.
    pub fn topic_name(&self) -> Bound<'py, PyString> {
        self.topic.clone()
    }

    /// Whether records are still taken.
    pub fn goes_on(&self) -> bool {
        self.stopped.is_none()
    }

    /// Records so far, refused ones included.
    pub fn records(&self) -> u64 {
        self.buffering.placed.records
    }

    /// The next record cannot be buffered.
    pub fn refuse(&mut self, error: PyErr) -> PyResult<()> {
        let error = self.told(error)?;
        self.note(self.records(), 1, error);
        self.buffering.placed.push_not_buffered(1);
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
        if !self.buffering.any || !error.is_instance_of::<PyException>(self.py) {
            return Err(error);
        }
        python::not_buffered(self.py, error, &self.topic)
    }

    /// A snapshot of the topic that has a partition of this number, waited for if need be.
    fn topic(&mut self, partition: Option<i32>) -> PyResult<Arc<Topic>> {
        let topic = self.state.topic(self.py, &self.topic, partition, self.method, &mut self.state.deadline())?;
        self.buffering.topic = Some(Arc::clone(&topic));
        Ok(topic)
    }

    /// Buffer a chunk, or go on with one that [`Buffering::append`] left. Afterwards look at [`Bulk::goes_on`].
    pub fn append(&mut self, rows: &Rows<'_>) -> PyResult<()> {
        if rows.values.is_empty() {
            return Ok(());
        }
        let shared = &self.state.core.shared;
        let highest = highest_partition(rows);
        let topic = self.topic(highest);
        if !self.buffering.any {
            self.check_size(rows, 0)?; // what the first record is refused for is raised
        }
        let mut topic = match topic {
            Ok(topic) => topic,
            Err(error) if self.buffering.pending => return self.finish(rows, Some(error)),
            Err(error) => return self.stop_at(rows.values.len(), error),
        };
        let ignore_keys = shared.config.partitioning.ignore_keys;
        if self.buffering.pending {
            self.buffering.chunk.regroup(&topic, rows, ignore_keys);
        } else {
            self.buffering.begin(shared, &topic, rows);
        }
        let bytes: usize = rows.values.iter().chain(rows.keys).flatten().map(|bytes| bytes.len()).sum();
        loop {
            let buffering = &mut self.buffering;
            let mut step = || buffering.step(shared, &topic, rows);
            let progress = if bytes < DETACH_BYTES { step() } else { self.py.detach(step) };
            let error = match progress {
                Progress::Done => return self.finish(rows, None),
                // A new time for each wait: between two of them there was progress.
                Progress::NeedsMemory(bytes) => {
                    match self.state.wait_for_memory(self.py, &topic, bytes, &mut self.state.deadline()) {
                        Ok(()) => {
                            self.buffering.grant += bytes;
                            continue;
                        }
                        Err(error) => error,
                    }
                }
                Progress::Closed => match self.state.check_open(self.py).and_then(|()| self.topic(highest)) {
                    Ok(newer) => {
                        topic = newer;
                        self.buffering.chunk.regroup(&topic, rows, ignore_keys);
                        continue;
                    }
                    Err(error) => error,
                },
            };
            return self.finish(rows, Some(error));
        }
    }

    /// The end of a chunk, cut short by `error` if there is one.
    fn finish(&mut self, rows: &Rows<'_>, error: Option<PyErr>) -> PyResult<()> {
        let left = self.buffering.finish(&self.state.core.shared, rows);
        let first = self.buffering.placed.records - rows.values.len() as u64;
        let too_large = std::mem::take(&mut self.buffering.chunk.too_large);
        let mut refused: Vec<(u32, Py<PyAny>)> = Vec::new();
        for row in too_large {
            if let Err(error) = self.check_size(rows, row as usize) {
                refused.push((row, self.told(error)?));
            }
        }
        if let Some(error) = error {
            // Ctrl-C, and whatever a signal handler raised.
            if !python::is_kafka_error(self.py, &error) {
                return Err(error);
            }
            let error = self.told(error)?;
            refused.extend(left.into_iter().map(|row| (row, error.clone_ref(self.py))));
            refused.sort_by_key(|(row, _)| *row);
            self.stopped = Some(error);
        }
        for (row, error) in refused {
            self.note(first + u64::from(row), 1, error);
        }
        Ok(())
    }

    /// Records `first` and those that follow it were refused.
    fn note(&mut self, first: u64, count: u64, error: Py<PyAny>) {
        match self.refused.last_mut() {
            Some(last) if last.first + last.count == first && last.error.is(&error) => last.count += count,
            _ => self.refused.push(Refused { first, count, error }),
        }
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
            self.note(self.records(), count, error.clone_ref(self.py));
            self.buffering.placed.push_not_buffered(count);
        }
    }

    /// All is taken.
    pub fn end(self) -> BulkResult {
        BulkResult::new(
            self.py,
            &self.state.core.shared,
            &self.topic.to_string_lossy(),
            self.buffering.placed,
            self.refused,
        )
    }

    /// One record as in `send`, for interceptors and partitioners.
    pub fn one(&mut self, call: &Call<'py>) -> PyResult<()> {
        match self.state.deliver(self.py, call) {
            Ok(place) => {
                self.buffering.any = true;
                self.buffering.placed.push_one(&place.completion, place.index);
                let sizes = [place.sizes.key, place.sizes.value];
                self.buffering.placed.bytes += sizes.iter().map(|&size| u64::from(size.max(0) as u32)).sum::<u64>();
                Ok(())
            }
            Err(error) if python::is_final(self.py, &error) || self.state.check_open(self.py).is_err() => {
                self.stop(error)
            }
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
