//! The engine's settings, read from the attributes of a Python object.

use penstock_core::config::Source;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// A producer's settings (`ProducerSettings`). Times are ms, sizes bytes; names are the settings' with underscores.
pub struct Attributes<'a, 'py>(pub &'a Bound<'py, PyAny>);

impl Attributes<'_, '_> {
    fn get<T>(&self, name: &str) -> PyResult<T>
    where
        T: for<'a, 'py> FromPyObject<'a, 'py, Error = PyErr>,
    {
        let value = self.0.getattr(name)?;
        value.extract().map_err(|error| PyTypeError::new_err(format!("{name}: {error}")))
    }
}

impl Source for Attributes<'_, '_> {
    type Error = PyErr;

    fn text(&self, name: &str) -> PyResult<String> {
        self.get(name)
    }

    fn flag(&self, name: &str) -> PyResult<bool> {
        self.get(name)
    }

    fn number<T: TryFrom<i64>>(&self, name: &str) -> PyResult<T> {
        let value: i64 = self.get(name)?;
        T::try_from(value).map_err(|_| self.refused(name, &value.to_string()))
    }

    fn refused(&self, name: &str, value: &str) -> PyErr {
        PyValueError::new_err(format!("{name}: {value} is out of range"))
    }
}
