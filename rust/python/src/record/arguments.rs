//! Arguments of `send` as the caller gives them: numbers, times and headers, checked.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyInt, PyMapping, PyMemoryView, PyString, PyTuple};

use crate::runtime::shutdown;

/// An int, or an object with `__index__` (numpy's integers are no ints). `None`: it does not fit into 64 bits.
///
/// Anything else raises `TypeError` with that `message`, caused by Python's error. An error of `__index__` is raised.
pub fn whole_number(number: &Bound<'_, PyAny>, message: impl FnOnce() -> String) -> PyResult<Option<i64>> {
    let py = number.py();
    match number.extract::<i64>() {
        Ok(number) => Ok(Some(number)),
        Err(error) if error.is_instance_of::<PyOverflowError>(py) => Ok(None),
        Err(error) if error.is_instance_of::<PyTypeError>(py) => {
            let wrong = PyTypeError::new_err(message());
            wrong.set_cause(py, Some(error));
            Err(wrong)
        }
        Err(error) => Err(error),
    }
}

/// `partition=`: a non-negative 32-bit number or None.
#[inline]
pub fn extract_partition(partition: Option<&Bound<'_, PyAny>>) -> PyResult<Option<i32>> {
    let Some(partition) = partition.filter(|partition| !partition.is_none()) else { return Ok(None) };
    match partition.cast_exact::<PyInt>().map(|number| number.extract::<i32>()) {
        Ok(Ok(number)) if number >= 0 => Ok(Some(number)),
        _ => shutdown::python(partition.py(), || read_partition(partition, "an int or None")).map(Some),
    }
}

/// A partition's number that is no small int, or that is wrong. `wanted`: the types that are allowed, for the message.
#[cold]
pub fn read_partition(partition: &Bound<'_, PyAny>, wanted: &str) -> PyResult<i32> {
    let message = || format!("partition must be {wanted}, not {}", partition.get_type());
    // True is an int in Python; here it is a mistake.
    if partition.is_instance_of::<PyBool>() {
        return Err(PyTypeError::new_err(message()));
    }
    let number = whole_number(partition, message)?.and_then(|number| i32::try_from(number).ok());
    number
        .filter(|&number| number >= 0)
        .ok_or_else(|| PyValueError::new_err(format!("partition must lie between 0 and 2147483647, not {partition}")))
}

/// `timestamp=`: ms since the epoch, an aware datetime, or None.
pub fn extract_timestamp(timestamp: Option<&Bound<'_, PyAny>>) -> PyResult<Option<i64>> {
    let Some(timestamp) = timestamp.filter(|timestamp| !timestamp.is_none()) else { return Ok(None) };
    shutdown::python(timestamp.py(), || read_timestamp(timestamp)).map(Some)
}

fn read_timestamp(timestamp: &Bound<'_, PyAny>) -> PyResult<i64> {
    let py = timestamp.py();
    let message = || {
        let kind = timestamp.get_type();
        format!("timestamp must be an int (ms since the epoch), an aware datetime or None, not {kind}")
    };
    let ms = if !timestamp.is_instance_of::<PyBool>() && timestamp.hasattr(intern!(py, "__index__"))? {
        whole_number(timestamp, message)?.ok_or_else(|| PyValueError::new_err("timestamp does not fit into 64 bits"))?
    } else if timestamp.hasattr(intern!(py, "utcoffset"))? && timestamp.hasattr(intern!(py, "timestamp"))? {
        if timestamp.call_method0(intern!(py, "utcoffset"))?.is_none() {
            let why = "timestamp is a naive datetime; give it a time zone (datetime.now(timezone.utc)) or pass ms";
            return Err(PyValueError::new_err(why));
        }
        let seconds: f64 = timestamp.call_method0(intern!(py, "timestamp"))?.extract()?;
        let micros: i64 = timestamp.getattr(intern!(py, "microsecond"))?.extract()?;
        // Whole seconds and microseconds apart: no float holds both exactly. Rounded down to ms (Java:
        // Instant.toEpochMilli), so that no record is from the future.
        (seconds - micros as f64 / 1e6).round() as i64 * 1000 + micros / 1000
    } else {
        return Err(PyTypeError::new_err(message()));
    };
    if ms < 0 {
        return Err(PyValueError::new_err(format!("timestamp must not be negative (ms since the epoch), not {ms}")));
    }
    Ok(ms)
}

/// `headers=`: pairs or a mapping, as a tuple of (str, bytes or None). A bytearray or memoryview is copied.
pub fn extract_headers<'py>(py: Python<'py>, headers: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyTuple>> {
    let Some(headers) = headers.filter(|headers| !headers.is_none()) else { return Ok(PyTuple::empty(py)) };
    if let Ok(tuple) = headers.cast::<PyTuple>()
        && tuple.is_empty()
    {
        return Ok(tuple.clone());
    }
    shutdown::python(py, || read_headers(py, headers))
}

fn read_headers<'py>(py: Python<'py>, headers: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let wrong = |what: String| {
        let pairs = "headers must be pairs of (str, bytes or None; bytearray and memoryview are copied)";
        PyTypeError::new_err(format!("{pairs}: {what}"))
    };
    let items = match headers.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) if headers.is_instance_of::<PyString>() || headers.is_instance_of::<PyBytes>() => {
            return Err(wrong(format!("not {}", headers.get_type())));
        }
        Err(_) => headers.clone(),
    };
    let mut pairs = Vec::new();
    for (position, pair) in items.try_iter().map_err(|_| wrong(format!("not {}", headers.get_type())))?.enumerate() {
        let pair = pair?;
        let parts: Vec<Bound<'py, PyAny>> = match pair.extract() {
            Ok(parts) => parts,
            Err(_) => return Err(wrong(format!("number {position} is {}", pair.get_type()))),
        };
        let [key, value] = &parts[..] else {
            return Err(wrong(format!("number {position} has {} parts", parts.len())));
        };
        let Ok(name) = key.cast::<PyString>() else {
            return Err(wrong(format!("the key of number {position} is {}", key.get_type())));
        };
        if name.to_str().is_err() {
            return Err(PyValueError::new_err(format!("the header key {} is no valid text", name.repr()?)));
        }
        if value.is_none() || value.is_instance_of::<PyBytes>() {
            pairs.push(PyTuple::new(py, [key, value])?);
        } else if value.is_instance_of::<PyByteArray>() || value.is_instance_of::<PyMemoryView>() {
            // Copied: their owner may change them later.
            pairs.push(PyTuple::new(py, [key, &py.get_type::<PyBytes>().call1((value,))?])?);
        } else {
            return Err(wrong(format!("the value of {key:?} is {}", value.get_type())));
        }
    }
    PyTuple::new(py, pairs)
}
