//! How single values cross: each type of a field, from Python and to Python.

use std::net::IpAddr;

use penstock_core::literal::Literal;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyTuple};

/// A value of a field.
pub trait Value: Sized {
    /// From Python; `TypeError`, `ValueError` or `OverflowError` if it cannot be one.
    fn read(of: &Bound<'_, PyAny>) -> PyResult<Self>;

    /// To Python.
    fn make(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>>;
}

macro_rules! plain {
    ($($kind:ty),*) => {
        $(impl Value for $kind {
            fn read(of: &Bound<'_, PyAny>) -> PyResult<Self> {
                of.extract()
            }

            fn make(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
                Ok(self.into_pyobject(py)?.into_any())
            }
        })*
    };
}

plain!(i16, i32, i64, u16, u32, u64, String, Option<String>);

impl Value for bool {
    fn read(of: &Bound<'_, PyAny>) -> PyResult<Self> {
        of.extract()
    }

    fn make(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(PyBool::new(py, self).to_owned().into_any())
    }
}

/// A frame.
impl Value for Vec<u8> {
    fn read(of: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(of.cast::<PyBytes>()?.as_bytes().to_vec())
    }

    fn make(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(PyBytes::new(py, &self).into_any())
    }
}

/// A topic's id.
impl Value for [u8; 16] {
    fn read(of: &Bound<'_, PyAny>) -> PyResult<Self> {
        let bytes = of.cast::<PyBytes>()?.as_bytes();
        bytes.try_into().map_err(|_| PyValueError::new_err(format!("{} bytes, not 16", bytes.len())))
    }

    fn make(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(PyBytes::new(py, &self).into_any())
    }
}

impl Value for IpAddr {
    fn read(of: &Bound<'_, PyAny>) -> PyResult<Self> {
        let text: String = of.extract()?;
        text.parse().map_err(|_| PyValueError::new_err(format!("not an IP address: {text:?}")))
    }

    fn make(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        self.to_string().make(py)
    }
}

/// The Rust types of Python's `Literal`s. No blanket `impl Value`, which would overlap with the others.
macro_rules! literals {
    ($($kind:ty),*) => {
        $(impl Value for $kind {
            fn read(of: &Bound<'_, PyAny>) -> PyResult<Self> {
                read_literal(of)
            }

            fn make(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
                Ok(pyo3::types::PyString::intern(py, self.as_str()).into_any())
            }
        })*

        /// The name and the texts of each of them.
        pub fn literals() -> Vec<(&'static str, Vec<&'static str>)> {
            vec![$((<$kind as Literal>::NAME, <$kind as Literal>::ALL.iter().map(|known| known.as_str()).collect())),*]
        }
    };
}

literals!(penstock_core::boundary::Action, penstock_core::lane::fate::Fate, penstock_core::outcome::FailureKind);

fn read_literal<T: Literal>(of: &Bound<'_, PyAny>) -> PyResult<T> {
    let text: String = of.extract()?;
    T::parse(&text).ok_or_else(|| {
        let known: Vec<&str> = T::ALL.iter().map(|known| known.as_str()).collect();
        PyValueError::new_err(format!("{text:?} is not one of {known:?} ({})", T::NAME))
    })
}

/// A tuple of tuples.
pub fn read_all<T: Value>(of: &Bound<'_, PyAny>) -> PyResult<Vec<T>> {
    let tuple = of.cast::<PyTuple>().map_err(|_| PyTypeError::new_err(format!("a {}, not a tuple", of.get_type())))?;
    tuple.iter_borrowed().map(|item| T::read(&item)).collect()
}

/// The reverse of [`read_all`].
pub fn make_all<T: Value>(values: Vec<T>, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let made: Vec<_> = values.into_iter().map(|value| value.make(py)).collect::<PyResult<_>>()?;
    Ok(PyTuple::new(py, made)?.into_any())
}

macro_rules! tuples_of {
    ($($kind:ty),*) => {
        $(impl Value for Vec<$kind> {
            fn read(of: &Bound<'_, PyAny>) -> PyResult<Self> {
                read_all(of)
            }

            fn make(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
                make_all(self, py)
            }
        })*
    };
}

tuples_of!(
    String,
    penstock_core::boundary::BatchDecision,
    penstock_core::boundary::BatchReport,
    penstock_core::boundary::LaneReport,
    penstock_core::boundary::PartitionLeader,
    penstock_core::wire::produce::NodeEndpoint
);
