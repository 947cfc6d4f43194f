//! A `timeout=` in seconds, as every call that waits takes it.

use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::runtime::shutdown;

/// Seconds from which on a timeout is the same as none: some 95 years. Less than what `threading` and `socket` can wait.
const ENDLESS_S: f64 = 3.0e9;

/// A `timeout=` in seconds: 0 or more, None for no limit. A number that no clock could count to (infinity, 10**400) means
/// None, and is returned as None.
///
/// Any real number is accepted: an int of any size, numpy's, a `Fraction`.
pub fn seconds(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<f64>> {
    let Some(timeout) = timeout.filter(|timeout| !timeout.is_none()) else { return Ok(None) };
    let py = timeout.py();
    let number = shutdown::python(py, || match timeout.extract::<f64>() {
        // Too large for a float, of whichever sign.
        Err(error) if error.is_instance_of::<PyOverflowError>(py) => {
            Ok(if timeout.gt(0)? { f64::INFINITY } else { f64::NEG_INFINITY })
        }
        Err(error) if error.is_instance_of::<PyTypeError>(py) => Err(PyTypeError::new_err(format!(
            "timeout must be None or a number of seconds, not {}",
            timeout.get_type().fully_qualified_name()?.to_string_lossy()
        ))),
        other => other,
    })?;
    if number.is_nan() || number < 0.0 {
        let why = format!("timeout must be None, or 0 or more seconds, not {number}");
        return Err(PyValueError::new_err(why));
    }
    // Not -0.0, which messages would show.
    Ok(Some(number + 0.0).filter(|&seconds| seconds <= ENDLESS_S))
}

/// A `timeout=` as 0 or more seconds, or None for no limit, as which infinity and any number of more than 95 years count.
/// Raises `ValueError` for a negative number and NaN, `TypeError` for anything else.
#[pyfunction]
#[pyo3(signature = (timeout, /))]
pub fn timeout_s(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<f64>> {
    seconds(timeout)
}

/// A timeout in seconds as a point in time; None: never.
pub fn deadline(seconds: Option<f64>) -> Option<Instant> {
    let seconds = seconds.filter(|&seconds| seconds <= ENDLESS_S)?;
    Some(Instant::now() + Duration::from_secs_f64(seconds.max(0.0)))
}
