//! The arguments of `send_arrow` that name columns.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::record::arguments::read_partition;
use crate::runtime::shutdown;

/// The arguments of `send_arrow` that name columns.
pub struct Names {
    pub value: Option<Given>,
    pub key: Option<Given>,
    pub target: Option<Given>,
    pub timestamp: Option<String>,
    pub headers: Option<String>,
    /// Whether the levels of a pandas index are fields of the row; None: those with a name.
    pub index: Option<bool>,
}

/// One argument that names columns.
pub enum Given {
    Column(String),
    Columns(Vec<String>),
    Number(i32),
}

impl Names {
    pub fn read(
        value: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
        partition: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
        index: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let columns = |name: &str, given: Option<&Bound<'_, PyAny>>| -> PyResult<Option<Given>> {
            let Some(given) = given.filter(|given| !given.is_none()) else { return Ok(None) };
            if let Ok(column) = given.cast::<PyString>() {
                return Ok(Some(Given::Column(column.to_str()?.to_owned())));
            }
            let names: Vec<String> = given.extract().map_err(|_| {
                PyTypeError::new_err(format!(
                    "{name} must be a column's name, a list of names or None, not {}",
                    given.get_type()
                ))
            })?;
            if names.is_empty() {
                return Err(PyValueError::new_err(format!("{name} is an empty list; name at least one column")));
            }
            Ok(Some(Given::Columns(names)))
        };
        let column = |name: &str, given: Option<&Bound<'_, PyAny>>| -> PyResult<Option<String>> {
            let Some(given) = given.filter(|given| !given.is_none()) else { return Ok(None) };
            if let Ok(column) = given.cast::<PyString>() {
                return Ok(Some(column.to_str()?.to_owned()));
            }
            let kind = given.get_type();
            Err(PyTypeError::new_err(format!("{name} must be a column's name or None, not {kind}")))
        };
        let target = match partition.filter(|partition| !partition.is_none()) {
            None => None,
            Some(name) if name.is_instance_of::<PyString>() => column("partition", Some(name))?.map(Given::Column),
            Some(number) => {
                let wanted = "a column's name, an int or None";
                Some(Given::Number(shutdown::python(number.py(), || read_partition(number, wanted))?))
            }
        };
        let index = match index.filter(|index| !index.is_none()) {
            None => None,
            Some(given) => Some(given.extract::<bool>().map_err(|_| {
                PyTypeError::new_err(format!("index must be True, False or None, not {}", given.get_type()))
            })?),
        };
        Ok(Self {
            index,
            value: columns("value", value)?,
            key: columns("key", key)?,
            target,
            timestamp: column("timestamp", timestamp)?,
            headers: column("headers", headers)?,
        })
    }

    /// Every column that is named.
    pub fn columns(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.timestamp.iter().chain(&self.headers).map(String::as_str).collect();
        for given in [&self.value, &self.key, &self.target].into_iter().flatten() {
            match given {
                Given::Column(name) => all.push(name),
                Given::Columns(names) => all.extend(names.iter().map(String::as_str)),
                Given::Number(_) => {}
            }
        }
        all
    }
}
