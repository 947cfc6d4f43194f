//! Rows of Arrow data as Python objects, for records that go one by one.

use penstock_core::append::{CHOOSE, Partitions, Timestamps};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::bulk::arrow::reading::{BadRow, Rowing};
use crate::bulk::arrow::source::Broken;

/// A row as Python objects: value, key, partition, timestamp, headers.
pub struct PythonRow {
    pub value: Py<PyAny>,
    pub key: Py<PyAny>,
    pub partition: Option<i32>,
    pub timestamp: Option<i64>,
    pub headers: Py<PyTuple>,
}

/// The rows of the next chunk, and the one after it that cannot be sent. Empty at the end.
pub fn python_rows(py: Python<'_>, rowing: &mut Rowing) -> Result<(PyResult<Vec<PythonRow>>, Option<BadRow>), Broken> {
    if !py.detach(|| rowing.fill())? {
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
                Ok(PythonRow {
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
