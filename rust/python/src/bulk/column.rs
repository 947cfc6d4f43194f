//! Columns as the caller of `send_many` gives them: lists, tuples, iterators and async iterators, read record by record.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyIterator, PyList, PyMemoryView, PyString, PyTuple};

use crate::runtime::shutdown;

/// A column as the caller gave it.
pub enum GivenColumn {
    List(Py<PyList>, usize),
    Tuple(Py<PyTuple>, usize),
    Iterator(Py<PyIterator>),
    /// An async iterator, whose next entry the coroutine awaits.
    Awaited {
        iterator: Py<PyAny>,
        next: Option<Py<PyAny>>,
        ended: bool,
    },
}

impl GivenColumn {
    /// Of an argument of that name. `in_loop`: it may be an async iterable.
    pub fn of(name: &str, given: &Bound<'_, PyAny>, in_loop: bool) -> PyResult<Self> {
        let py = given.py();
        if given.is_instance_of::<PyString>()
            || given.is_instance_of::<PyBytes>()
            || given.is_instance_of::<PyByteArray>()
            || given.is_instance_of::<PyMemoryView>()
        {
            return Err(PyTypeError::new_err(format!(
                "{name} must be an iterable with one entry per record, not {}; send() takes a single record",
                given.get_type()
            )));
        }
        if let Ok(list) = given.cast_exact::<PyList>() {
            return Ok(Self::List(list.clone().unbind(), 0));
        }
        if let Ok(tuple) = given.cast_exact::<PyTuple>() {
            return Ok(Self::Tuple(tuple.clone().unbind(), 0));
        }
        let is_async = given.hasattr(intern!(py, "__aiter__"))?;
        // If it is both kinds of iterable, the synchronous one may block the loop.
        if is_async && in_loop {
            let iterator = shutdown::python(py, || given.call_method0(intern!(py, "__aiter__")))?.unbind();
            return Ok(Self::Awaited { iterator, next: None, ended: false });
        }
        if given.hasattr(intern!(py, "__iter__"))? || given.hasattr(intern!(py, "__getitem__"))? {
            return shutdown::python(py, || given.try_iter()).map(|iterator| Self::Iterator(iterator.unbind()));
        }
        let hint = if is_async { "; AsyncKafkaProducer.send_many takes async iterables" } else { "" };
        Err(PyTypeError::new_err(format!(
            "{name} must be an iterable with one entry per record, not {}{hint}",
            given.get_type()
        )))
    }

    #[inline]
    /// The next entry.
    pub fn next<'py>(&mut self, py: Python<'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        match self {
            // By index, since a serializer may change the list.
            Self::List(list, at) => {
                let item = list.bind(py).get_item(*at).ok()?;
                *at += 1;
                Some(Ok(item))
            }
            Self::Tuple(tuple, at) => {
                let item = tuple.bind(py).get_item(*at).ok()?;
                *at += 1;
                Some(Ok(item))
            }
            Self::Iterator(iterator) => shutdown::python(py, || iterator.bind(py).clone().next()),
            Self::Awaited { next, .. } => next.take().map(|entry| Ok(entry.into_bound(py))),
        }
    }

    /// Whether its next entry is to be awaited first.
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::Awaited { next: None, ended: false, .. })
    }
}

/// The columns of one call: the values, and optional others of the same length.
pub struct GivenColumns {
    pub values: GivenColumn,
    pub keys: Option<GivenColumn>,
    pub headers: Option<GivenColumn>,
    pub timestamps: Option<GivenColumn>,
}

/// One record's entries.
pub struct RowEntry<'py> {
    pub value: Bound<'py, PyAny>,
    pub key: Option<Bound<'py, PyAny>>,
    pub headers: Option<Bound<'py, PyAny>>,
    pub timestamp: Option<Bound<'py, PyAny>>,
}

impl GivenColumns {
    /// The next record. Errors are of iterators, or of one that is shorter or longer than `values`.
    #[inline]
    pub fn next<'py>(&mut self, py: Python<'py>, records: u64) -> Option<PyResult<RowEntry<'py>>> {
        let value = match self.values.next(py) {
            Some(Ok(value)) => value,
            Some(Err(error)) => return Some(Err(error)),
            None => return self.longer(py, records).map(Err),
        };
        let beside = |name: &str, column: &mut Option<GivenColumn>| match column {
            None => Ok(None),
            Some(column) => match column.next(py) {
                Some(entry) => entry.map(Some),
                None => Err(PyValueError::new_err(format!(
                    "{name} ended after {records} records, values go on; give one entry per record"
                ))),
            },
        };
        let entry = (|| {
            Ok(RowEntry {
                value,
                key: beside("keys", &mut self.keys)?,
                headers: beside("headers", &mut self.headers)?,
                timestamp: beside("timestamps", &mut self.timestamps)?,
            })
        })();
        Some(entry)
    }

    #[cold]
    fn longer(&mut self, py: Python<'_>, records: u64) -> Option<PyErr> {
        let others = [("keys", &mut self.keys), ("headers", &mut self.headers), ("timestamps", &mut self.timestamps)];
        for (name, column) in others {
            match column.as_mut().and_then(|column| column.next(py)) {
                None => {}
                Some(Err(error)) => return Some(error),
                Some(Ok(_)) => {
                    return Some(PyValueError::new_err(format!(
                        "values ended after {records} records, {name} go on; give one entry per record"
                    )));
                }
            }
        }
        None
    }

    /// The first column whose next entry is to be awaited.
    pub fn waiting(&mut self) -> Option<&mut GivenColumn> {
        let beside = [&mut self.keys, &mut self.headers, &mut self.timestamps].into_iter().flatten();
        std::iter::once(&mut self.values).chain(beside).find(|column| column.is_waiting())
    }
}
