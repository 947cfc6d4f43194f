//! `send_many`: iterables of keys and values into chunks of serialized records.
//!
//! With the GIL a chunk of values is gathered and serialized (borrowed where they are bytes or text); without it the chunk
//! is appended. Where an interceptor or a partitioner of the user's has a say, records go one by one as in `send`.

use penstock_core::append::{Partitions, Rows, Timestamps};
use penstock_core::wire::record_batch::Header;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyIterator, PyList, PyMemoryView, PyString, PyTuple};
use smallvec::SmallVec;

use crate::bulk::call::{Bulk, Source, Step, Want};
use crate::record::extract_timestamp;
use crate::record::headers::{Headers, KeptHeaders};
use crate::record::serialize::{Kept, Payload};
use crate::runtime::shutdown;
use crate::send::{Call, State, now_ms, present};

/// Records gathered before they are appended.
const CHUNK_RECORDS: usize = 2048;
/// Bytes of keys and values gathered before they are appended.
const CHUNK_BYTES: usize = 512 * 1024;
/// Records between two looks at signals (Ctrl-C) where records go one by one.
const SIGNALS_EVERY: usize = 1024;
/// Records between two looks at the time, in an event loop.
const TIME_EVERY: usize = 8;

/// A column of what the caller gave.
enum Column {
    List(Py<PyList>, usize),
    Tuple(Py<PyTuple>, usize),
    Iterator(Py<PyIterator>),
    /// An async iterator, whose next entry somebody else awaits.
    Awaited {
        iterator: Py<PyAny>,
        next: Option<Py<PyAny>>,
        ended: bool,
    },
}

impl Column {
    fn of(name: &str, given: &Bound<'_, PyAny>, in_loop: bool) -> PyResult<Self> {
        let py = given.py();
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
            return Ok(Self::List(list.clone().unbind(), 0));
        }
        if let Ok(tuple) = given.cast_exact::<PyTuple>() {
            return Ok(Self::Tuple(tuple.clone().unbind(), 0));
        }
        let is_async = given.hasattr(intern!(py, "__aiter__"))?;
        // Of what can be iterated both ways, the other one may block the loop.
        if is_async && in_loop {
            let iterator = shutdown::python(py, || given.call_method0(intern!(py, "__aiter__")))?.unbind();
            return Ok(Self::Awaited { iterator, next: None, ended: false });
        }
        if given.hasattr(intern!(py, "__iter__"))? || given.hasattr(intern!(py, "__getitem__"))? {
            return shutdown::python(py, || given.try_iter()).map(|iterator| Self::Iterator(iterator.unbind()));
        }
        let hint = if is_async { "; AsyncKafkaProducer.send_many takes async iterables" } else { "" };
        Err(PyTypeError::new_err(format!(
            "{name} must be an iterable with one entry per record, not {}{hint}",
            given.get_type()
        )))
    }

    #[inline]
    fn next<'py>(&mut self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        match self {
            // By number, since a serializer of the user's may change the list.
            Self::List(list, at) => {
                let item = list.bind(py).get_item(*at).ok()?;
                *at += 1;
                Some(Ok(item))
            }
            Self::Tuple(tuple, at) => {
                let item = tuple.bind(py).get_item(*at).ok()?;
                *at += 1;
                Some(Ok(item))
            }
            Self::Iterator(iterator) => shutdown::python(py, || iterator.bind(py).clone().next()),
            Self::Awaited { next, .. } => next.take().map(|entry| Ok(entry.into_bound(py))),
        }
    }

    /// Whether its next entry is to be awaited first.
    fn is_waiting(&self) -> bool {
        matches!(self, Self::Awaited { next: None, ended: false, .. })
    }
}

/// How many entries, if the object knows.
fn sized(given: &Bound<'_, PyAny>) -> Option<usize> {
    given.len().ok()
}

/// The optional columns beside the values, and those of them that end too early or too late.
struct Columns {
    values: Column,
    keys: Option<Column>,
    headers: Option<Column>,
    timestamps: Option<Column>,
}

/// One record's entries.
struct Entry<'py> {
    value: Bound<'py, PyAny>,
    key: Option<Bound<'py, PyAny>>,
    headers: Option<Bound<'py, PyAny>>,
    timestamp: Option<Bound<'py, PyAny>>,
}

impl Columns {
    /// The next record. Errors are of iterators, or of one that is shorter or longer than `values`.
    #[inline]
    fn next<'py>(&mut self, py: Python<'py>, records: u64) -> Option<PyResult<Entry<'py>>> {
        let value = match self.values.next(py) {
            Some(Ok(value)) => value,
            Some(Err(error)) => return Some(Err(error)),
            None => return self.longer(py, records).map(Err),
        };
        let beside = |name: &str, column: &mut Option<Column>| match column {
            None => Ok(None),
            Some(column) => match column.next(py) {
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
    fn longer(&mut self, py: Python<'_>, records: u64) -> Option<PyErr> {
        let others = [("keys", &mut self.keys), ("headers", &mut self.headers), ("timestamps", &mut self.timestamps)];
        for (name, column) in others {
            match column.as_mut().and_then(|column| column.next(py)) {
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

    /// The first column whose next entry is to be awaited.
    fn waiting(&mut self) -> Option<&mut Column> {
        let beside = [&mut self.keys, &mut self.headers, &mut self.timestamps].into_iter().flatten();
        std::iter::once(&mut self.values).chain(beside).find(|column| column.is_waiting())
    }
}

/// What stands behind a chunk.
enum Then {
    More,
    /// Something that is to be awaited.
    Await,
    End,
    /// A record that cannot be sent.
    Refuse(PyErr),
    /// An iterator that failed.
    Stop(PyErr),
}

/// The records of one `send_many`.
pub struct Many {
    columns: Columns,
    partition: Option<i32>,
    /// How many values there are, if they know.
    length: Option<usize>,
    one_by_one: bool,
    /// Values are all there is.
    alone: bool,
    /// Records that the next chunk may have.
    expected: usize,
    /// A chunk that waits, and what stands behind it.
    kept: Option<(KeptChunk, Then)>,
}

impl Many {
    /// Of the arguments of `send_many`. `in_loop`: async iterables may be among them.
    pub fn new(
        state: &State,
        values: &Bound<'_, PyAny>,
        keys: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
        timestamps: Option<&Bound<'_, PyAny>>,
        partition: Option<i32>,
        in_loop: bool,
    ) -> PyResult<Self> {
        let beside = [("keys", keys), ("headers", headers), ("timestamps", timestamps)]
            .map(|(name, given)| (name, present(given)));
        let values_column = Column::of("values", values, in_loop)?;
        let [keys, headers, timestamps] =
            beside.map(|(name, given)| given.map(|given| Column::of(name, given, in_loop)).transpose());
        let columns = Columns { values: values_column, keys: keys?, headers: headers?, timestamps: timestamps? };
        let length = sized(values);
        for (name, other) in beside {
            if let (Some(length), Some(other)) = (length, other.and_then(sized))
                && length != other
            {
                return Err(PyValueError::new_err(format!(
                    "{length} values and {other} {name}; give one entry per record"
                )));
            }
        }
        Ok(Self {
            alone: columns.keys.is_none() && columns.headers.is_none() && columns.timestamps.is_none(),
            one_by_one: state.records_go_one_by_one(partition),
            expected: length.unwrap_or_default().min(CHUNK_RECORDS),
            kept: None,
            columns,
            partition,
            length,
        })
    }

    /// What to await for the column that waits: what its `__anext__` returned.
    pub fn ask<'py>(&mut self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let Some(Column::Awaited { iterator, .. }) = self.columns.waiting() else { return None };
        let iterator = iterator.bind(py);
        Some(shutdown::python(py, || iterator.call_method0(intern!(py, "__anext__"))))
    }

    /// What the column that waits has next; None: it is at its end.
    pub fn answer(&mut self, entry: Option<Py<PyAny>>) {
        if let Some(Column::Awaited { next, ended, .. }) = self.columns.waiting() {
            *ended = entry.is_none();
            *next = entry;
        }
    }

    fn one_by_one(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Step> {
        let py = bulk.py;
        for _ in 0..SIGNALS_EVERY {
            if !bulk.goes_on() {
                return Ok(Step::End);
            }
            if self.columns.waiting().is_some() {
                return Ok(Step::Wait(Want::Entry));
            }
            let entry = match self.columns.next(py, bulk.records()) {
                None => return Ok(Step::End),
                Some(Err(error)) => {
                    bulk.stop(error)?;
                    return Ok(Step::End);
                }
                Some(Ok(entry)) => entry,
            };
            let topic = bulk.topic.clone();
            let call = (|| {
                Ok(Call {
                    topic: &topic,
                    value: present(Some(&entry.value)),
                    key: present(entry.key.as_ref()),
                    partition: self.partition,
                    timestamp: extract_timestamp(entry.timestamp.as_ref())?,
                    headers: Headers::given(py, entry.headers.as_ref())?,
                    callback: None,
                    serialized: false,
                    observed: false,
                })
            })();
            match call {
                Ok(call) => {
                    if let Some(want) = bulk.one(&call)? {
                        return Ok(Step::Wait(want));
                    }
                }
                Err(error) => bulk.refuse(error)?,
            }
            if bulk.is_over() {
                break;
            }
        }
        Ok(Step::Turn)
    }

    fn in_chunks(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Step> {
        let (gathered, then) = match self.kept.take() {
            Some((kept, then)) => (kept.bind(bulk.py), then),
            None => self.gather(bulk),
        };
        if let Some(want) = gathered.append(bulk, self.partition)? {
            self.kept = Some((gathered.keep(), then));
            return Ok(Step::Wait(want));
        }
        if !bulk.goes_on() {
            return Ok(Step::End);
        }
        // What came before it went first: only the first record's error is raised.
        match then {
            Then::More => Ok(Step::Turn),
            Then::Await => Ok(Step::Wait(Want::Entry)),
            Then::End => Ok(Step::End),
            Then::Refuse(error) => bulk.refuse(error).map(|()| Step::Turn),
            Then::Stop(error) => bulk.stop(error).map(|()| Step::End),
        }
    }

    fn gather<'py>(&mut self, bulk: &Bulk<'_, 'py>) -> (Gathered<'py>, Then) {
        let mut gathered = Gathered::with_capacity(self.expected, &self.columns);
        let then = loop {
            if self.alone {
                gathered.take_values(bulk, &mut self.columns.values);
                if gathered.is_full() {
                    break Then::More;
                }
            }
            if self.columns.waiting().is_some() {
                break Then::Await;
            }
            let count = gathered.values.len();
            match self.columns.next(bulk.py, bulk.records() + count as u64) {
                None => break Then::End,
                Some(Err(error)) => break Then::Stop(error),
                Some(Ok(entry)) => match gathered.take(bulk, &entry) {
                    Err(error) => break Then::Refuse(error),
                    Ok(()) if gathered.is_full() => break Then::More,
                    Ok(()) if count % TIME_EVERY == TIME_EVERY - 1 && bulk.is_over() => break Then::More,
                    Ok(()) => {}
                },
            }
        };
        self.expected = gathered.values.len();
        (gathered, then)
    }
}

impl Source for Many {
    fn step(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Step> {
        let step = if !bulk.goes_on() {
            Step::End
        } else if self.one_by_one {
            self.one_by_one(bulk)?
        } else {
            self.in_chunks(bulk)?
        };
        if let (Step::End, Some(length)) = (&step, self.length) {
            bulk.refuse_rest((length as u64).saturating_sub(bulk.records()));
        }
        Ok(step)
    }
}

/// A chunk of serialized records: the owners of the bytes that [`Rows`] borrows.
struct Gathered<'py> {
    values: Vec<Payload<'py>>,
    keys: Vec<Payload<'py>>,
    headers: Vec<Headers<'py>>,
    timestamps: Vec<i64>,
    bytes: usize,
}

impl<'py> Gathered<'py> {
    fn with_capacity(records: usize, columns: &Columns) -> Self {
        let beside = |column: &Option<Column>| if column.is_some() { records } else { 0 };
        Self {
            values: Vec::with_capacity(records),
            keys: Vec::with_capacity(beside(&columns.keys)),
            headers: Vec::with_capacity(beside(&columns.headers)),
            timestamps: Vec::with_capacity(beside(&columns.timestamps)),
            bytes: 0,
        }
    }

    /// For as long as an event loop waits.
    fn keep(self) -> KeptChunk {
        let keep = |payloads: Vec<Payload<'py>>| payloads.into_iter().map(Payload::keep).collect();
        let Self { values, keys, headers, timestamps, bytes } = self;
        let headers = headers.into_iter().map(Headers::keep).collect();
        KeptChunk { values: keep(values), keys: keep(keys), headers, timestamps, bytes }
    }

    /// Gather from a list or tuple whose entries are all there is of a record, for as long as they need no call into
    /// Python: the fast way. What it stops at is the caller's.
    fn take_values(&mut self, bulk: &Bulk<'_, 'py>, values: &mut Column) {
        let serialize = &bulk.state.value;
        match values {
            Column::List(list, at) => {
                let list = list.bind(bulk.py);
                while self.values.len() < CHUNK_RECORDS
                    && let Ok(item) = list.get_item(*at)
                    && let Some(payload) = serialize.borrowed(item)
                {
                    self.values.push(payload);
                    *at += 1;
                }
            }
            Column::Tuple(tuple, at) => {
                let tuple = tuple.bind(bulk.py);
                while self.values.len() < CHUNK_RECORDS
                    && let Ok(item) = tuple.get_item(*at)
                    && let Some(payload) = serialize.borrowed(item)
                {
                    self.values.push(payload);
                    *at += 1;
                }
            }
            Column::Iterator(_) | Column::Awaited { .. } => {}
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

    fn append(&self, bulk: &mut Bulk<'_, 'py>, partition: Option<i32>) -> PyResult<Option<Want>> {
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

/// [`Gathered`] beyond one hold of the GIL.
struct KeptChunk {
    values: Vec<Kept>,
    keys: Vec<Kept>,
    headers: Vec<KeptHeaders>,
    timestamps: Vec<i64>,
    bytes: usize,
}

impl KeptChunk {
    fn bind(self, py: Python<'_>) -> Gathered<'_> {
        let bind = |kept: Vec<Kept>| kept.into_iter().map(|kept| kept.bind(py)).collect();
        let Self { values, keys, headers, timestamps, bytes } = self;
        let headers = headers.into_iter().map(|headers| headers.bind(py)).collect();
        Gathered { values: bind(values), keys: bind(keys), headers, timestamps, bytes }
    }
}
