//! The codecs as functions: for the private reader, the embedded broker and tests.

use penstock_core::compression::{Codec, Compression, DecodeError, Encoder};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The codec of that name in compression.type.
pub fn codec(name: &str) -> PyResult<Codec> {
    Codec::from_name(name).ok_or_else(|| PyValueError::new_err(format!("there is no compression codec {name:?}")))
}

/// `data`, compressed as a batch's records are; the level is that of compression.….level.
#[pyfunction]
pub fn compress<'py>(
    py: Python<'py>,
    codec: &str,
    level: i32,
    data: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let data = PyBuffer::<u8>::get(data)?.to_vec(py)?;
    let compression = Compression { codec: self::codec(codec)?, level };
    let bytes = py.detach(|| Encoder::new(compression)?.encode(&data).map(<[u8]>::to_vec))?;
    Ok(PyBytes::new(py, &bytes))
}

/// `data`, decompressed. `ValueError`: it does not have the codec's format; `OverflowError`: it holds more than `limit` bytes.
#[pyfunction]
pub fn decompress<'py>(
    py: Python<'py>,
    codec: &str,
    data: &Bound<'py, PyAny>,
    limit: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let codec = self::codec(codec)?;
    let data = PyBuffer::<u8>::get(data)?.to_vec(py)?;
    match py.detach(|| penstock_core::compression::decompress(codec, &data, limit)) {
        Ok(bytes) => Ok(PyBytes::new(py, &bytes)),
        Err(DecodeError::Malformed(why)) => Err(PyValueError::new_err(why)),
        Err(DecodeError::TooLarge) => Err(PyOverflowError::new_err(format!("more than {limit} bytes"))),
    }
}
