//! `send_arrow`: rows of Arrow data as the records of a bulk call.
//!
//! From the stream to the lanes this runs without the GIL, which is needed only to wait, to check signals, and for errors.
//!
//! The C interface is `pyo3-arrow`'s (see `source`). Lengths, offsets and UTF-8 are checked, the rest of what a producer says
//! of its buffers has to be believed, and a panic in the libraries becomes an error.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::bulk::arrow::names::Names;
use crate::bulk::arrow::plan::Target;
use crate::bulk::arrow::python_rows::{PythonRow, python_rows};
use crate::bulk::arrow::reading::{BadRow, Rowing};
use crate::bulk::arrow::source::{Broken, unreadable};
use crate::bulk::work::{Advance, Bulk, RecordSource};
use crate::record::headers::Headers;
use crate::send::call::{Call, present};
use crate::send::state::State;

/// How long it runs without a check of signals (Ctrl-C).
const STRETCH: Duration = Duration::from_millis(50);

/// Why a stretch without the GIL ended.
enum Stop {
    End,
    Signals,
    /// The caller has to append the chunk.
    Chunk,
    Bad(BadRow),
    Broken(String),
}

/// The rows of one `send_arrow`.
pub struct ArrowRows {
    rowing: Rowing,
    one_by_one: bool,
    /// Rows that go one by one, and the bad row after them.
    rows: std::vec::IntoIter<PythonRow>,
    bad: Option<BadRow>,
}

impl ArrowRows {
    /// Of the arguments of the blocking `send_arrow`.
    pub fn open(state: &State, data: &Bound<'_, PyAny>, names: &Names) -> PyResult<Self> {
        Self::new(state, data, names, false)
    }

    /// Of those of asyncio's: in chunks that take little time.
    pub fn open_in_loop(state: &State, data: &Bound<'_, PyAny>, names: &Names) -> PyResult<Self> {
        Self::new(state, data, names, true)
    }

    fn new(state: &State, data: &Bound<'_, PyAny>, names: &Names, in_loop: bool) -> PyResult<Self> {
        let rowing = Rowing::open(data, names, in_loop)?;
        let partitioned = !matches!(rowing.plan.target, Target::Choose);
        let one_by_one = state.records_go_one_by_one(partitioned.then_some(0));
        Ok(Self { rowing, one_by_one, rows: Vec::new().into_iter(), bad: None })
    }

    fn in_chunks(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Advance> {
        let rowing = &mut self.rowing;
        let stop = if bulk.buffering().is_pending() { Stop::Chunk } else { stretch(rowing, bulk) };
        match stop {
            Stop::End => return Ok(Advance::End),
            Stop::Signals => {}
            Stop::Bad(bad) => {
                rowing.at += 1;
                bulk.refuse((bad.kind)(bad.message))?;
            }
            Stop::Broken(why) => bulk.stop(unreadable(&why))?,
            Stop::Chunk => {
                // The same chunk again, with the GIL: for waits, errors and the first record.
                match rowing.chunk(|rows| bulk.append(rows)) {
                    Ok((appended, count, _)) => match appended? {
                        Some(want) => return Ok(Advance::Wait(want)),
                        None => rowing.at += count,
                    },
                    Err(Broken(why)) => bulk.stop(unreadable(&why))?,
                }
            }
        }
        Ok(Advance::Continue)
    }

    fn one_by_one(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Advance> {
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
                return Ok(Advance::Wait(want));
            }
            if !bulk.goes_on() || bulk.is_over() {
                return Ok(Advance::Continue);
            }
        }
        if let Some(bad) = self.bad.take() {
            bulk.refuse((bad.kind)(bad.message))?;
            return Ok(Advance::Continue);
        }
        match python_rows(py, &mut self.rowing) {
            Err(Broken(why)) => bulk.stop(unreadable(&why))?,
            Ok((rows, bad)) => {
                let rows = rows?;
                if rows.is_empty() && bad.is_none() {
                    return Ok(Advance::End);
                }
                (self.rows, self.bad) = (rows.into_iter(), bad);
            }
        }
        Ok(Advance::Continue)
    }
}

impl RecordSource for ArrowRows {
    fn step(&mut self, bulk: &mut Bulk<'_, '_>) -> PyResult<Advance> {
        if !bulk.goes_on() {
            // The rest of the present batch was given; later batches of the stream were not.
            bulk.refuse_rest((self.rows.len() + usize::from(self.bad.is_some()) + self.rowing.left()) as u64);
            return Ok(Advance::End);
        }
        if self.one_by_one { self.one_by_one(bulk) } else { self.in_chunks(bulk) }
    }
}

/// Chunks as long as nothing needs the GIL.
fn stretch(rowing: &mut Rowing, bulk: &mut Bulk<'_, '_>) -> Stop {
    let (py, shared, may_wait) = (bulk.py, Arc::clone(&bulk.state.core.shared), bulk.may_wait());
    let until = bulk.until().unwrap_or_else(|| Instant::now() + STRETCH);
    let buffering = bulk.buffering();
    py.detach(|| {
        loop {
            match rowing.fill() {
                Ok(true) => {}
                Ok(false) => return Stop::End,
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
