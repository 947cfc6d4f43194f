//! The named tuples of `penstock.control.boundary`: looked up once, checked once, then read and built by position.
//!
//! A field is written by its name in one list here (`mod.rs`). The list is compared with the `_fields` of the Python class
//! before the first value crosses, so that a position stands for a name.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use super::value::Value;
use crate::runtime::upcalls;

/// One class of the boundary.
pub struct Class {
    name: &'static str,
    fields: &'static [&'static str],
    found: PyOnceLock<Py<PyType>>,
}

impl Class {
    pub const fn new(name: &'static str, fields: &'static [&'static str]) -> Self {
        Self { name, fields, found: PyOnceLock::new() }
    }

    pub fn is_named(&self, name: &str) -> bool {
        self.name == name
    }

    /// The Python class. `RuntimeError` if its fields are not those of this side.
    pub fn get<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyType>> {
        let found = self.found.get_or_try_init(py, || {
            let class = upcalls::BOUNDARY.get(py)?.getattr(self.name)?.cast_into::<PyType>()?;
            let fields: Vec<String> = class.getattr("_fields")?.extract()?;
            if fields != self.fields {
                let (name, ours) = (self.name, self.fields);
                return Err(PyRuntimeError::new_err(format!(
                    "{name} has the fields {fields:?} in Python, {ours:?} in Rust"
                )));
            }
            Ok(class.unbind())
        })?;
        Ok(found.bind(py))
    }

    /// The fields of an instance, in order.
    pub fn fields<'a, 'py>(&'static self, of: &'a Bound<'py, PyAny>) -> PyResult<Fields<'a, 'py>> {
        if !of.get_type().is(self.get(of.py())?) {
            return Err(PyTypeError::new_err(format!("not a {}: {}", self.name, of.get_type())));
        }
        Ok(Fields { class: self, tuple: of.cast()?, at: 0 })
    }

    /// An instance of these fields, in order.
    pub fn instance<'py>(&self, py: Python<'py>, fields: Vec<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        self.get(py)?.call1(PyTuple::new(py, fields)?)
    }
}

/// The values of one instance, to be taken one after another.
pub struct Fields<'a, 'py> {
    class: &'static Class,
    tuple: &'a Bound<'py, PyTuple>,
    at: usize,
}

impl Fields<'_, '_> {
    /// The next value; an error names class and field.
    pub fn take<T: Value>(&mut self) -> PyResult<T> {
        let item = self.tuple.get_item(self.at)?;
        let name = self.class.fields[self.at];
        self.at += 1;
        T::read(&item).map_err(|error| in_field(item.py(), self.class.name, name, error))
    }
}

/// The same error with the place where it happened in front; its class stays.
fn in_field(py: Python<'_>, class: &str, field: &str, error: PyErr) -> PyErr {
    let message = format!("{class}.{field}: {}", error.value(py));
    PyErr::from_type(error.get_type(py), (message,))
}
