//! `send_arrow`: columns of Arrow data into records.
//!
//! A [`Plan`] says, from the schema alone, which column becomes what; whatever the schema forbids is an error before the
//! first record. A [`Batch`] holds the columns of one record batch in the shape in which they are read; chunks of its rows
//! become [`Rows`]. From the stream to the lanes it runs without the GIL, which is asked for only to wait, to look at
//! signals, and when something is wrong.
//!
//! The C interface is `pyo3-arrow`'s ([`arrow_source`]). What a producer of it says of its buffers has to be believed; what
//! can be checked (lengths, offsets, UTF-8) is, and what panics in the libraries is turned into an error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{Array, StructArray};
use arrow_schema::{ArrowError, FieldRef};
use penstock_core::append::{CHOOSE, Partitions, Rows, Timestamps};
use penstock_core::wire::record_batch::Header;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::bulk::arrow::columns::{Batch, Column};
use crate::bulk::arrow::json::{self, Trouble};
use crate::bulk::arrow::plan::{Names, Plan, Target};
use crate::bulk::arrow::source::{self, Broken, Stream, guarded, unreadable};
use crate::bulk::call::{Bulk, Source, Step};
use crate::record::headers::Headers;
use crate::send::{Call, State, now_ms, present};

/// Rows that are encoded before they are appended.
const CHUNK_ROWS: usize = 4096;
/// Bytes of JSON that are written before they are appended.
const CHUNK_BYTES: usize = 1 << 20;
/// The same two in an event loop, which is to have its turn every few ms.
const LOOP_CHUNK_ROWS: usize = 1024;
const LOOP_CHUNK_BYTES: usize = 128 * 1024;
/// How long it runs without a look at signals (Ctrl-C).
const STRETCH: Duration = Duration::from_millis(50);

/// The buffers of a chunk that outlive a borrow.
#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// The rows of a chunk, borrowed from a batch and from what was written.
struct Encoded<'a> {
    keys: Vec<Option<&'a [u8]>>,
    values: Vec<Option<&'a [u8]>>,
    headers: Vec<Header<'a>>,
    /// By row, in `headers`.
    header_ends: Vec<usize>,
    partitions: Vec<i32>,
    timestamps: Vec<i64>,
}

/// A row that cannot be sent.
#[derive(Clone)]
struct BadRow {
    /// What a user of `send` would get for it.
    kind: fn(String) -> PyErr,
    message: String,
}

/// Writes the JSON of `rows` until one fails, or there are `enough` bytes for a chunk: as many as `into` has texts afterwards.
fn write_json(
    field: &FieldRef,
    array: &StructArray,
    rows: std::ops::Range<usize>,
    enough: usize,
    into: &mut Written,
) -> Result<Option<String>, ArrowError> {
    let trouble = Trouble::default();
    let options = json::options(&trouble);
    // Of these rows alone: what an encoder prepares, it prepares for all that it is given.
    let array = array.slice(rows.start, rows.len());
    let mut encoder = json::encoder(field, &array, &options)?;
    into.bytes.clear();
    into.ends.clear();
    into.ends.push(0);
    for row in 0..rows.len() {
        encoder.encode(row, &mut into.bytes);
        if let Some(what) = trouble.take() {
            return Ok(Some(what));
        }
        into.ends.push(into.bytes.len());
        if into.bytes.len() >= enough {
            break;
        }
    }
    Ok(None)
}

/// A stream of Arrow data, row by row.
struct Rowing {
    stream: Stream,
    plan: Plan,
    batch: Option<Batch>,
    /// The next row of `batch`.
    at: usize,
    key_text: Written,
    value_text: Written,
    /// The rows whose JSON these hold, and the one behind them that has none: a chunk that waited comes again.
    written: Option<(std::ops::Range<usize>, Option<BadRow>)>,
    chunk_rows: usize,
    chunk_bytes: usize,
    end: bool,
}

/// What a look at the stream brought.
enum Look {
    Rows,
    End,
}

impl Rowing {
    fn open(data: &Bound<'_, PyAny>, names: &Names, in_loop: bool) -> PyResult<Self> {
        let (stream, notes) = source::open(data, names)?;
        Ok(Self {
            plan: Plan::new(stream.schema(), names, &notes)?,
            stream,
            batch: None,
            at: 0,
            key_text: Written::default(),
            value_text: Written::default(),
            written: None,
            chunk_rows: if in_loop { LOOP_CHUNK_ROWS } else { CHUNK_ROWS },
            chunk_bytes: if in_loop { LOOP_CHUNK_BYTES } else { CHUNK_BYTES },
            end: false,
        })
    }

    /// See to it that there is a batch with rows left.
    fn look(&mut self) -> Result<Look, Broken> {
        while self.batch.as_ref().is_none_or(|batch| self.at >= batch.rows) {
            (self.batch, self.written) = (None, None);
            if self.end {
                return Ok(Look::End);
            }
            let (stream, plan) = (&mut self.stream, &self.plan);
            match guarded(|| stream.next()?.map(|batch| Batch::new(plan, &batch)).transpose()) {
                Ok(None) => self.end = true,
                Ok(Some(batch)) => {
                    self.batch = Some(batch);
                    self.at = 0;
                }
                Err(broken) => {
                    self.end = true;
                    return Err(broken);
                }
            }
        }
        Ok(Look::Rows)
    }

    /// Rows that no chunk has had yet, of those that were read.
    fn left(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.rows.saturating_sub(self.at))
    }

    /// See to it that the JSON of the next rows is written: where they end, and the row there that has none.
    fn write(&mut self) -> Result<(usize, Option<BadRow>), Broken> {
        let Some(batch) = &self.batch else { return Err(Broken("there is no batch (a bug in Penstock)".to_owned())) };
        if let Some((rows, bad)) = &self.written
            && rows.start == self.at
        {
            return Ok((rows.end, bad.clone()));
        }
        let mut end = batch.rows.min(self.at + self.chunk_rows);
        let mut bad: Option<BadRow> = None;
        for (column, into) in [(&batch.key, &mut self.key_text), (&batch.value, &mut self.value_text)] {
            if let Column::Json(field, array) = column {
                let (at, enough) = (self.at, self.chunk_bytes);
                let trouble = guarded(|| write_json(field, array, at..end, enough, into))?;
                if at + into.ends.len() - 1 < end {
                    end = at + into.ends.len() - 1;
                    bad = None; // it lies behind
                }
                if let Some(why) = trouble {
                    let message = format!("the row cannot be written as JSON: {why}");
                    bad = Some(BadRow { kind: PyValueError::new_err, message });
                }
            }
        }
        self.written = Some((self.at..end, bad.clone()));
        Ok((end, bad))
    }

    /// The next chunk: `then` gets it. Also the row behind it if that one cannot be sent. It is the same one until `at` moves.
    fn chunk<T>(&mut self, then: impl FnOnce(&Rows<'_>) -> T) -> Result<(T, usize, Option<BadRow>), Broken> {
        let (mut end, mut bad) = self.write()?;
        let Some(batch) = &self.batch else { return Err(Broken("there is no batch (a bug in Penstock)".to_owned())) };
        let mut encoded = Encoded {
            keys: Vec::new(),
            values: Vec::with_capacity(end - self.at),
            headers: Vec::new(),
            header_ends: vec![0],
            partitions: Vec::new(),
            timestamps: Vec::new(),
        };
        // These may end the chunk earlier, at a row that cannot be sent.
        let now = now_ms();
        for row in self.at..end {
            let target = batch.partitions.as_ref().map(|all| all.is_valid(row).then(|| all.value(row)));
            let time = batch.timestamps.as_ref().map(|all| if all.is_valid(row) { all.value(row) } else { now });
            let headers = batch.headers.as_ref().map(|all| all.push(row, &mut encoded.headers));
            let problem = match (target, time, &headers) {
                (Some(Some(number)), _, _) if i32::try_from(number).is_ok_and(|number| number >= 0) => None,
                (Some(Some(number)), _, _) => {
                    Some(format!("partition must lie between 0 and 2147483647, not {number}"))
                }
                _ => None,
            };
            let problem = problem.or_else(|| match time {
                Some(ms) if ms < 0 => Some(format!("timestamp must not be negative (ms since the epoch), not {ms}")),
                _ => None,
            });
            let problem = problem.or_else(|| headers.and_then(Result::err));
            if let Some(message) = problem {
                encoded.headers.truncate(encoded.header_ends.last().copied().unwrap_or_default());
                bad = Some(BadRow { kind: PyValueError::new_err, message });
                end = row;
                break;
            }
            encoded.partitions.extend(target.map(|number| number.map_or(CHOOSE, |number| number as i32)));
            encoded.timestamps.extend(time);
            if batch.headers.is_some() {
                encoded.header_ends.push(encoded.headers.len());
            } else if batch.partitions.is_none() && batch.timestamps.is_none() {
                break; // there is nothing to look at
            }
        }
        let rows = self.at..end;
        for (column, text, out) in
            [(&batch.key, &self.key_text, &mut encoded.keys), (&batch.value, &self.value_text, &mut encoded.values)]
        {
            match column {
                Column::None => {}
                Column::Cells(cells) => cells.push(rows.clone(), out),
                Column::Json(_, _) => {
                    out.extend((0..rows.len()).map(|row| Some(&text.bytes[text.ends[row]..text.ends[row + 1]])));
                }
            }
        }
        if matches!(batch.value, Column::None) {
            encoded.values.resize(rows.len(), None);
        }
        let slices: Vec<&[Header<'_>]> = if encoded.headers.is_empty() {
            Vec::new()
        } else {
            encoded.header_ends.windows(2).map(|ends| &encoded.headers[ends[0]..ends[1]]).collect()
        };
        let chunk = Rows {
            values: &encoded.values,
            keys: &encoded.keys,
            headers: &slices,
            timestamps: if batch.timestamps.is_some() {
                Timestamps::Each(&encoded.timestamps)
            } else {
                Timestamps::All(now)
            },
            partitions: match (&self.plan.target, batch.partitions.is_some()) {
                (Target::All(number), _) => Partitions::All(*number as u32),
                (_, true) => Partitions::Each(&encoded.partitions),
                (_, false) => Partitions::Choose,
            },
        };
        Ok((then(&chunk), rows.len(), bad))
    }
}

impl Drop for Rowing {
    /// Without the GIL: whose data it is may lock something that a thread holds which waits for the GIL.
    fn drop(&mut self) {
        let none = self.stream.emptied();
        let left = (std::mem::replace(&mut self.stream, none), self.batch.take());
        Python::try_attach(|py| py.detach(|| drop(left)));
    }
}

/// What stopped a stretch without the GIL.
enum Stop {
    End,
    Signals,
    /// The chunk at hand is the caller's.
    Chunk,
    Bad(BadRow),
    Broken(String),
}

/// The rows of one `send_arrow`.
pub struct ArrowRows {
    rowing: Rowing,
    one_by_one: bool,
    /// Rows that go one by one, and what stands behind them.
    rows: std::vec::IntoIter<Row>,
    bad: Option<BadRow>,
}

impl ArrowRows {
    /// Of the arguments of the blocking `send_arrow`.
    pub fn open(state: &State, data: &Bound<'_, PyAny>, names: &Names) -> PyResult<Self> {
        Self::new(state, data, names, false)
    }

    /// Of those of asyncio's: in chunks that do not keep the loop for long.
    pub fn open_in_loop(state: &State, data: &Bound<'_, PyAny>, names: &Names) -> PyResult<Self> {
        Self::new(state, data, names, true)
    }

    fn new(state: &State, data: &Bound<'_, PyAny>, names: &Names, in_loop: bool) -> PyResult<Self> {
        let rowing = Rowing::open(data, names, in_loop)?;
        let partitioned = !matches!(rowing.plan.target, Target::Choose);
        let one_by_one = state.records_go_one_by_one(partitioned.then_some(0));
        Ok(Self { rowing, one_by_one, rows: Vec::new().into_iter(), bad: None })
    }

    fn in_chunks(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Step> {
        let rowing = &mut self.rowing;
        let stop = if bulk.buffering().is_pending() { Stop::Chunk } else { stretch(rowing, bulk) };
        match stop {
            Stop::End => return Ok(Step::End),
            Stop::Signals => {}
            Stop::Bad(bad) => {
                rowing.at += 1;
                bulk.refuse((bad.kind)(bad.message))?;
            }
            Stop::Broken(why) => bulk.stop(unreadable(&why))?,
            Stop::Chunk => {
                // The same chunk once more, since its rows are the same: for waits, errors and the first record.
                match rowing.chunk(|rows| bulk.append(rows)) {
                    Ok((appended, count, _)) => match appended? {
                        Some(want) => return Ok(Step::Wait(want)),
                        None => rowing.at += count,
                    },
                    Err(Broken(why)) => bulk.stop(unreadable(&why))?,
                }
            }
        }
        Ok(Step::Turn)
    }

    fn one_by_one(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Step> {
        let py = bulk.py;
        let topic = bulk.topic.clone();
        for row in self.rows.by_ref() {
            let (key, value) = (row.key.into_bound(py), row.value.into_bound(py));
            let call = Call {
                topic: &topic,
                value: present(Some(&value)),
                key: present(Some(&key)),
                partition: row.partition,
                timestamp: row.timestamp,
                headers: Headers::of_tuple(row.headers.bind(py))?,
                callback: None,
                serialized: true,
                observed: false,
            };
            if let Some(want) = bulk.one(&call)? {
                return Ok(Step::Wait(want));
            }
            if !bulk.goes_on() || bulk.is_over() {
                return Ok(Step::Turn);
            }
        }
        if let Some(bad) = self.bad.take() {
            bulk.refuse((bad.kind)(bad.message))?;
            return Ok(Step::Turn);
        }
        match python_rows(py, &mut self.rowing) {
            Err(Broken(why)) => bulk.stop(unreadable(&why))?,
            Ok((rows, bad)) => {
                let rows = rows?;
                if rows.is_empty() && bad.is_none() {
                    return Ok(Step::End);
                }
                (self.rows, self.bad) = (rows.into_iter(), bad);
            }
        }
        Ok(Step::Turn)
    }
}

impl Source for ArrowRows {
    fn step(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Step> {
        if !bulk.goes_on() {
            // What is left of the batch at hand was given; what the stream would have brought later was not.
            bulk.refuse_rest((self.rows.len() + usize::from(self.bad.is_some()) + self.rowing.left()) as u64);
            return Ok(Step::End);
        }
        if self.one_by_one { self.one_by_one(bulk) } else { self.in_chunks(bulk) }
    }
}

/// Chunks for as long as nothing has to be seen to that needs the GIL.
fn stretch(rowing: &mut Rowing, bulk: &mut Bulk<'_, '_>) -> Stop {
    let (py, shared, may_wait) = (bulk.py, Arc::clone(&bulk.state.core.shared), bulk.may_wait());
    let until = bulk.until().unwrap_or_else(|| Instant::now() + STRETCH);
    let buffering = bulk.buffering();
    py.detach(|| {
        loop {
            match rowing.look() {
                Ok(Look::Rows) => {}
                Ok(Look::End) => return Stop::End,
                Err(Broken(why)) => return Stop::Broken(why),
            }
            match rowing.chunk(|rows| rows.values.is_empty() || buffering.append(&shared, rows, may_wait)) {
                Ok((true, count, bad)) => {
                    rowing.at += count;
                    if let Some(bad) = bad {
                        return Stop::Bad(bad);
                    }
                }
                Ok((false, _, _)) => return Stop::Chunk,
                Err(Broken(why)) => return Stop::Broken(why),
            }
            if Instant::now() >= until {
                return Stop::Signals;
            }
        }
    })
}

/// A row as Python objects: value, key, partition, timestamp, headers.
struct Row {
    value: Py<PyAny>,
    key: Py<PyAny>,
    partition: Option<i32>,
    timestamp: Option<i64>,
    headers: Py<PyTuple>,
}

/// The rows of the next chunk, and the one behind it that cannot be sent. Empty at the end.
fn python_rows(py: Python<'_>, rowing: &mut Rowing) -> Result<(PyResult<Vec<Row>>, Option<BadRow>), Broken> {
    if matches!(py.detach(|| rowing.look())?, Look::End) {
        return Ok((Ok(Vec::new()), None));
    }
    let timed = rowing.plan.timestamp.is_some();
    let (rows, count, bad) = rowing.chunk(|rows| {
        let bytes = |bytes: Option<&[u8]>| match bytes {
            Some(bytes) => PyBytes::new(py, bytes).into_any(),
            None => py.None().into_bound(py),
        };
        (0..rows.values.len())
            .map(|row| {
                let headers: Vec<_> = rows
                    .headers(row)
                    .iter()
                    .map(|header| (String::from_utf8_lossy(header.key).into_owned(), bytes(header.value)))
                    .collect();
                Ok(Row {
                    value: bytes(rows.values[row]).unbind(),
                    key: bytes(rows.key(row)).unbind(),
                    partition: match rows.partitions {
                        Partitions::Choose => None,
                        Partitions::All(number) => Some(number as i32),
                        Partitions::Each(each) => Some(each[row]).filter(|&number| number != CHOOSE),
                    },
                    timestamp: match rows.timestamps {
                        Timestamps::Each(each) if timed => Some(each[row]),
                        _ => None,
                    },
                    headers: PyTuple::new(py, headers)?.unbind(),
                })
            })
            .collect()
    })?;
    rowing.at += count + usize::from(bad.is_some());
    Ok((rows, bad))
}

/// The records that `send_arrow` would send, one by one as (value, key, partition, timestamp, headers).
#[pyclass(module = "penstock._native")]
pub struct ArrowRecords {
    rowing: std::sync::Mutex<(Rowing, Option<BadRow>)>,
}

#[pymethods]
impl ArrowRecords {
    #[new]
    #[pyo3(signature = (
        data, *, value = None, key = None, partition = None, timestamp = None, headers = None, index = None
    ))]
    fn new(
        data: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
        partition: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
        index: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let names = Names::read(value, key, partition, timestamp, headers, index)?;
        Ok(Self { rowing: (Rowing::open(data, &names, false)?, None).into() })
    }

    /// The records of the next rows; empty at the end. A row that cannot be sent raises, and ends it.
    #[expect(clippy::type_complexity, reason = "one record's fields")]
    fn take(&self, py: Python<'_>) -> PyResult<Vec<(Py<PyAny>, Py<PyAny>, Option<i32>, Option<i64>, Py<PyTuple>)>> {
        let mut state = self.rowing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut bad = state.1.take();
        let mut rows = Vec::new();
        if bad.is_none() {
            let read = python_rows(py, &mut state.0).map_err(|Broken(why)| unreadable(&why))?;
            (rows, bad) = (read.0?, read.1);
        }
        if let Some(bad) = bad {
            if rows.is_empty() {
                return Err((bad.kind)(bad.message));
            }
            state.1 = Some(bad); // after those before it
        }
        Ok(rows.into_iter().map(|row| (row.value, row.key, row.partition, row.timestamp, row.headers)).collect())
    }
}
