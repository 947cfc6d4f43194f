//! `send_many`: iterables of keys and values, in chunks or one by one.
//!
//! With the GIL a chunk of values is gathered and serialized (borrowed where they are bytes or text); without it the chunk
//! is appended. Where interceptors or the application's partitioner see each record, records go one by one as in `send`.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::bulk::call::Want;
use crate::bulk::column::{GivenColumn, GivenColumns};
use crate::bulk::gathered::{CHUNK_RECORDS, Gathered, KeptChunk};
use crate::bulk::work::{Advance, Bulk, RecordSource};
use crate::record::arguments::extract_timestamp;
use crate::record::headers::Headers;
use crate::runtime::shutdown;
use crate::send::call::{Call, present};
use crate::send::state::State;

/// Records between two checks of signals (Ctrl-C) where records go one by one.
const SIGNALS_EVERY: usize = 1024;
/// Records between two readings of the clock, in an event loop.
const TIME_EVERY: usize = 8;

/// How many entries, if the object knows.
fn sized(given: &Bound<'_, PyAny>) -> Option<usize> {
    given.len().ok()
}

/// The next step after a chunk.
enum Then {
    More,
    /// An entry that has to be awaited.
    Await,
    End,
    /// A record that cannot be sent.
    Refuse(PyErr),
    /// An iterator that failed.
    Stop(PyErr),
}

/// The records of one `send_many`.
pub struct Many {
    columns: GivenColumns,
    partition: Option<i32>,
    /// How many values there are, if they know.
    length: Option<usize>,
    one_by_one: bool,
    /// There are only values.
    alone: bool,
    /// Records that the next chunk may have.
    expected: usize,
    /// A chunk that waits, and what comes after it.
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
        let values_column = GivenColumn::of("values", values, in_loop)?;
        let [keys, headers, timestamps] =
            beside.map(|(name, given)| given.map(|given| GivenColumn::of(name, given, in_loop)).transpose());
        let columns = GivenColumns { values: values_column, keys: keys?, headers: headers?, timestamps: timestamps? };
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

    /// The awaitable of the column that waits, from its `__anext__`.
    pub fn ask<'py>(&mut self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let Some(GivenColumn::Awaited { iterator, .. }) = self.columns.waiting() else { return None };
        let iterator = iterator.bind(py);
        Some(shutdown::python(py, || iterator.call_method0(intern!(py, "__anext__"))))
    }

    /// The next entry of the column that waits; None: it is at its end.
    pub fn answer(&mut self, entry: Option<Py<PyAny>>) {
        if let Some(GivenColumn::Awaited { next, ended, .. }) = self.columns.waiting() {
            *ended = entry.is_none();
            *next = entry;
        }
    }

    fn one_by_one(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Advance> {
        let py = bulk.py;
        for _ in 0..SIGNALS_EVERY {
            if !bulk.goes_on() {
                return Ok(Advance::End);
            }
            if self.columns.waiting().is_some() {
                return Ok(Advance::Wait(Want::Entry));
            }
            let entry = match self.columns.next(py, bulk.records()) {
                None => return Ok(Advance::End),
                Some(Err(error)) => {
                    bulk.stop(error)?;
                    return Ok(Advance::End);
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
                        return Ok(Advance::Wait(want));
                    }
                }
                Err(error) => bulk.refuse(error)?,
            }
            if bulk.is_over() {
                break;
            }
        }
        Ok(Advance::Continue)
    }

    fn in_chunks(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Advance> {
        let (gathered, then) = match self.kept.take() {
            Some((kept, then)) => (kept.bind(bulk.py), then),
            None => self.gather(bulk),
        };
        if let Some(want) = gathered.append(bulk, self.partition)? {
            self.kept = Some((gathered.keep(), then));
            return Ok(Advance::Wait(want));
        }
        if !bulk.goes_on() {
            return Ok(Advance::End);
        }
        // After the records before it: only the first record's error is raised.
        match then {
            Then::More => Ok(Advance::Continue),
            Then::Await => Ok(Advance::Wait(Want::Entry)),
            Then::End => Ok(Advance::End),
            Then::Refuse(error) => bulk.refuse(error).map(|()| Advance::Continue),
            Then::Stop(error) => bulk.stop(error).map(|()| Advance::End),
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

impl RecordSource for Many {
    fn step(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Advance> {
        let step = if !bulk.goes_on() {
            Advance::End
        } else if self.one_by_one {
            self.one_by_one(bulk)?
        } else {
            self.in_chunks(bulk)?
        };
        if let (Advance::End, Some(length)) = (&step, self.length) {
            bulk.refuse_rest((length as u64).saturating_sub(bulk.records()));
        }
        Ok(step)
    }
}
