//! The headers of a record, from the caller to the batch.
//!
//! The common shapes (a tuple or list of pairs, a dict) are read in place. The tuple of pairs that serializers and
//! interceptors get is made only if one of them needs it.

use std::cell::OnceCell;

use penstock_core::wire::record_batch::Header;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyBytesMethods, PyDict, PyList, PyString, PyTuple};
use smallvec::SmallVec;

use crate::record::arguments::extract_headers;

/// A name and a value.
type Pair<'py> = (Bound<'py, PyString>, Option<Bound<'py, PyBytes>>);

/// Few records have more: beyond that, the list is on the heap.
const INLINE: usize = 4;

/// See the module. One machine word for a record without headers, as most are: a call of `send` is moved in memory, and
/// with room for pairs in it the moves took a fifth of the time.
#[derive(Default)]
pub struct Headers<'py>(Option<Box<GivenPairs<'py>>>);

struct GivenPairs<'py> {
    pairs: SmallVec<[Pair<'py>; INLINE]>,
    tuple: OnceCell<Bound<'py, PyTuple>>,
}

impl<'py> Headers<'py> {
    /// The argument `headers=`.
    #[inline]
    pub fn given(py: Python<'py>, headers: Option<&Bound<'py, PyAny>>) -> PyResult<Self> {
        match headers {
            None => Ok(Self::default()),
            Some(headers) => Self::read(py, headers),
        }
    }

    fn read(py: Python<'py>, headers: &Bound<'py, PyAny>) -> PyResult<Self> {
        if headers.is_none() {
            return Ok(Self::default());
        }
        match quick(headers) {
            Some(pairs) => Ok(Self::of(pairs, OnceCell::new())),
            None => Self::of_tuple(&extract_headers(py, Some(headers))?),
        }
    }

    /// Those of a `ProducerRecord`.
    #[inline]
    pub fn of_tuple(tuple: &Bound<'py, PyTuple>) -> PyResult<Self> {
        if tuple.is_empty() {
            return Ok(Self::default()); // most records have none
        }
        Self::read_tuple(tuple.clone())
    }

    fn read_tuple(tuple: Bound<'py, PyTuple>) -> PyResult<Self> {
        let pairs = match quick(tuple.as_any()) {
            Some(pairs) => pairs,
            None => tuple.extract::<Vec<Pair<'py>>>()?.into(),
        };
        Ok(Self::of(pairs, OnceCell::from(tuple)))
    }

    fn of(pairs: SmallVec<[Pair<'py>; INLINE]>, tuple: OnceCell<Bound<'py, PyTuple>>) -> Self {
        Self(Some(Box::new(GivenPairs { pairs, tuple })))
    }

    /// The same without a hold of the GIL.
    pub fn keep(self) -> KeptHeaders {
        let pairs = self.0.map(|given| {
            given.pairs.into_iter().map(|(name, value)| (name.unbind(), value.map(Bound::unbind))).collect()
        });
        KeptHeaders(pairs)
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|given| given.pairs.is_empty())
    }

    /// As serializers and interceptors get them.
    pub fn tuple(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let Some(given) = &self.0 else { return Ok(PyTuple::empty(py)) };
        if let Some(tuple) = given.tuple.get() {
            return Ok(tuple.clone());
        }
        let made = PyTuple::new(py, given.pairs.iter().map(|(name, value)| (name, value.as_ref())))?;
        Ok(given.tuple.get_or_init(|| made).clone())
    }

    /// As the batch takes them.
    pub fn slices(&self) -> PyResult<SmallVec<[Header<'_>; INLINE]>> {
        let mut headers = SmallVec::new();
        for (name, value) in self.0.iter().flat_map(|given| &given.pairs) {
            headers
                .push(Header { key: name.to_str()?.as_bytes(), value: value.as_ref().map(PyBytesMethods::as_bytes) });
        }
        Ok(headers)
    }
}

type KeptPair = (Py<PyString>, Option<Py<PyBytes>>);

/// [`Headers`] that outlive a hold of the GIL.
pub struct KeptHeaders(Option<Vec<KeptPair>>);

impl KeptHeaders {
    pub fn bind(self, py: Python<'_>) -> Headers<'_> {
        let Some(pairs) = self.0 else { return Headers::default() };
        let bound =
            pairs.into_iter().map(|(name, value)| (name.into_bound(py), value.map(|value| value.into_bound(py))));
        Headers::of(bound.collect(), OnceCell::new())
    }
}

/// The pairs of a tuple, list or dict of a common shape; None: the general way has to read it, or to raise.
fn quick<'py>(headers: &Bound<'py, PyAny>) -> Option<SmallVec<[Pair<'py>; INLINE]>> {
    let mut pairs = SmallVec::new();
    if let Ok(tuple) = headers.cast_exact::<PyTuple>() {
        for pair in tuple.iter_borrowed() {
            pairs.push(quick_pair(&pair)?);
        }
    } else if let Ok(list) = headers.cast_exact::<PyList>() {
        for pair in list {
            pairs.push(quick_pair(&pair)?);
        }
    } else {
        for (name, value) in headers.cast_exact::<PyDict>().ok()? {
            pairs.push(checked(name, value)?);
        }
    }
    Some(pairs)
}

#[inline]
fn quick_pair<'py>(pair: &Bound<'py, PyAny>) -> Option<Pair<'py>> {
    let pair = pair.cast_exact::<PyTuple>().ok()?;
    if pair.len() != 2 {
        return None;
    }
    checked(pair.get_item(0).ok()?, pair.get_item(1).ok()?)
}

#[inline]
fn checked<'py>(name: Bound<'py, PyAny>, value: Bound<'py, PyAny>) -> Option<Pair<'py>> {
    let name = name.cast_into::<PyString>().ok()?;
    name.to_str().ok()?;
    let value = if value.is_none() { None } else { Some(value.cast_into::<PyBytes>().ok()?) };
    Some((name, value))
}
