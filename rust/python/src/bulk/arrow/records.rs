//! `ArrowRecords`: the records of a `send_arrow` without a producer, for the mock producers.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::bulk::arrow::names::Names;
use crate::bulk::arrow::python_rows::python_rows;
use crate::bulk::arrow::reading::{BadRow, Rowing};
use crate::bulk::arrow::source::{Broken, unreadable};

/// The records that `send_arrow` would send, one by one as (value, key, partition, timestamp, headers).
#[pyclass(module = "penstock._native")]
pub struct ArrowRecords {
    rowing: Mutex<(Rowing, Option<BadRow>)>,
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
        let mut state = self.rowing.lock().unwrap_or_else(PoisonError::into_inner);
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
