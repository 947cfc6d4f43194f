//! A stream of Arrow data, read row by row in chunks of [`Rows`].
//!
//! A [`Plan`] says, from the schema alone, which column becomes what. A [`Batch`] holds the columns of one record batch in
//! the shape in which they are read. All of this runs without the GIL.

use arrow_array::{Array, StructArray};
use arrow_schema::{ArrowError, FieldRef};
use penstock_core::append::{CHOOSE, Partitions, Rows, Timestamps};
use penstock_core::wire::record_batch::Header;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::bulk::arrow::columns::{Batch, Column};
use crate::bulk::arrow::json::{self, Trouble};
use crate::bulk::arrow::names::Names;
use crate::bulk::arrow::plan::{Plan, Target};
use crate::bulk::arrow::source::{self, Broken, Stream, guarded};
use crate::runtime::clock::now_ms;

/// Rows that are encoded before they are appended.
const CHUNK_ROWS: usize = 4096;
/// Bytes of JSON that are written before they are appended.
const CHUNK_BYTES: usize = 1 << 20;
/// The same two in an event loop, which has to run every few ms.
const LOOP_CHUNK_ROWS: usize = 1024;
const LOOP_CHUNK_BYTES: usize = 128 * 1024;
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
pub struct BadRow {
    /// The exception that `send` would raise.
    pub kind: fn(String) -> PyErr,
    pub message: String,
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
    // Of these rows alone: an encoder prepares all rows that it is given.
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
pub struct Rowing {
    stream: Stream,
    pub plan: Plan,
    batch: Option<Batch>,
    /// The next row of `batch`.
    pub at: usize,
    key_text: Written,
    value_text: Written,
    /// The rows whose JSON these hold, and the one after them that has none. Kept for a chunk that waits and comes again.
    written: Option<(std::ops::Range<usize>, Option<BadRow>)>,
    chunk_rows: usize,
    chunk_bytes: usize,
    end: bool,
}

impl Rowing {
    /// `in_loop`: in chunks that take little time.
    pub fn open(data: &Bound<'_, PyAny>, names: &Names, in_loop: bool) -> PyResult<Self> {
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

    /// Read until there is a batch with rows left. False: the stream is at its end.
    pub fn fill(&mut self) -> Result<bool, Broken> {
        while self.batch.as_ref().is_none_or(|batch| self.at >= batch.rows) {
            (self.batch, self.written) = (None, None);
            if self.end {
                return Ok(false);
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
        Ok(true)
    }

    /// Rows that were read and were in no chunk yet.
    pub fn left(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.rows.saturating_sub(self.at))
    }

    /// Write the JSON of the next rows, if it is not written yet: where they end, and the row there that has none.
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
                    bad = None; // it comes later
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

    /// The next chunk: `then` gets it. Also the row after it if that one cannot be sent. The same chunk until `at` moves.
    pub fn chunk<T>(&mut self, then: impl FnOnce(&Rows<'_>) -> T) -> Result<(T, usize, Option<BadRow>), Broken> {
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
                break; // there is nothing to check
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
    /// Without the GIL: the owner of the data may take a lock that another thread holds while it waits for the GIL.
    fn drop(&mut self) {
        let none = self.stream.emptied();
        let left = (std::mem::replace(&mut self.stream, none), self.batch.take());
        Python::try_attach(|py| py.detach(|| drop(left)));
    }
}
