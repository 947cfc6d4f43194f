//! From keys and values to bytes: the built-in serializers natively, all others by a call.
//!
//! A native form is a shorter way to the bytes that the Python serializer returns (`penstock.serialization`), for values of
//! exactly its type. All other values go to the Python serializer, so that errors, subclasses and rare types are handled in
//! one place.

use std::cell::OnceCell;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyFloat, PyInt, PyMemoryView, PyString};

use crate::record::headers::Headers;
use crate::runtime::{shutdown, upcalls};

/// The forms that need no call into Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Native {
    /// Bytes, unchanged.
    Bytes,
    /// Text in UTF-8.
    Utf8,
    /// Text in an encoding that agrees with ASCII, if it is ASCII.
    Ascii,
    Short,
    Integer,
    Long,
    Float,
    Double,
    Boolean,
    /// The text of a UUID, in an encoding that agrees with ASCII.
    Uuid,
    /// There is no native form.
    No,
}

/// How a key or value becomes bytes.
pub struct Serialize {
    native: Native,
    /// `serialize(topic, headers, data) -> bytes | None`
    function: Py<PyAny>,
}

/// A serialized key or value.
pub enum Payload<'py> {
    None,
    /// Bytes that are valid as long as the Python object behind them.
    Bytes(Bound<'py, PyBytes>),
    /// Text whose UTF-8 is valid as long as the Python object behind it.
    Str(Bound<'py, PyString>),
    /// So many bytes of these.
    Small(u8, [u8; 8]),
    Own(Box<[u8]>),
}

/// A payload that outlives a hold of the GIL.
pub enum Kept {
    None,
    Bytes(Py<PyBytes>),
    Str(Py<PyString>),
    Small(u8, [u8; 8]),
    Own(Box<[u8]>),
}

impl Kept {
    pub fn bind(self, py: Python<'_>) -> Payload<'_> {
        match self {
            Self::None => Payload::None,
            Self::Bytes(bytes) => Payload::Bytes(bytes.into_bound(py)),
            Self::Str(text) => Payload::Str(text.into_bound(py)),
            Self::Small(len, bytes) => Payload::Small(len, bytes),
            Self::Own(bytes) => Payload::Own(bytes),
        }
    }
}

impl Payload<'_> {
    pub fn keep(self) -> Kept {
        match self {
            Self::None => Kept::None,
            Self::Bytes(bytes) => Kept::Bytes(bytes.unbind()),
            Self::Str(text) => Kept::Str(text.unbind()),
            Self::Small(len, bytes) => Kept::Small(len, bytes),
            Self::Own(bytes) => Kept::Own(bytes),
        }
    }

    #[inline]
    pub fn as_slice(&self) -> PyResult<Option<&[u8]>> {
        Ok(match self {
            Self::None => None,
            Self::Bytes(bytes) => Some(bytes.as_bytes()),
            Self::Str(text) => Some(text.to_str()?.as_bytes()),
            Self::Small(len, bytes) => Some(&bytes[..usize::from(*len)]),
            Self::Own(bytes) => Some(bytes),
        })
    }

    fn small<const N: usize>(bytes: [u8; N]) -> Self {
        let mut all = [0; 8];
        all[..N].copy_from_slice(&bytes);
        Self::Small(N as u8, all)
    }
}

/// `bytes` as a Python object: those that were `made`, or else those that were given.
pub fn object<'py>(
    py: Python<'py>,
    given: Option<&Bound<'py, PyAny>>,
    made: &OnceCell<Payload<'py>>,
    bytes: Option<&[u8]>,
) -> Option<Bound<'py, PyBytes>> {
    let bytes = bytes?;
    match (made.get(), given.map(|given| given.cast::<PyBytes>())) {
        (Some(Payload::Bytes(made)), _) => Some(made.clone()),
        (None, Some(Ok(given))) => Some(given.clone()),
        _ => Some(PyBytes::new(py, bytes)),
    }
}

/// Bytes or null, as an interceptor returned them.
pub fn given<'a>(data: Option<&'a Bound<'_, PyAny>>) -> PyResult<Option<&'a [u8]>> {
    let Some(data) = data else { return Ok(None) };
    match data.cast::<PyBytes>() {
        Ok(bytes) => Ok(Some(bytes.as_bytes())),
        Err(_) => Err(PyTypeError::new_err(format!(
            "key and value of a record from send_arrow are bytes or None, not {}; an interceptor changed them",
            data.get_type()
        ))),
    }
}

impl Serialize {
    /// `native`: a name that `penstock.serialization.native_form` returns, or None.
    pub fn new(native: Option<&str>, function: Py<PyAny>) -> PyResult<Self> {
        let native = match native {
            None => Native::No,
            Some("bytes") => Native::Bytes,
            Some("utf8") => Native::Utf8,
            Some("ascii") => Native::Ascii,
            Some("short") => Native::Short,
            Some("integer") => Native::Integer,
            Some("long") => Native::Long,
            Some("float") => Native::Float,
            Some("double") => Native::Double,
            Some("boolean") => Native::Boolean,
            Some("uuid") => Native::Uuid,
            Some(word) => return Err(PyValueError::new_err(format!("no native form {word:?}"))),
        };
        Ok(Self { native, function })
    }

    /// The bytes that the object holds, if they are its native form.
    #[inline]
    pub fn as_it_is<'a>(&self, data: &'a Bound<'_, PyAny>) -> Option<&'a [u8]> {
        match self.native {
            // The exact type first: that is a comparison instead of a call, and nearly always true.
            Native::Bytes => data.cast_exact::<PyBytes>().or_else(|_| data.cast()).ok().map(PyBytesMethods::as_bytes),
            Native::Utf8 => {
                let text = data.cast_exact::<PyString>().or_else(|_| data.cast()).ok()?;
                text.to_str().ok().map(str::as_bytes)
            }
            _ => None,
        }
    }

    /// The bytes of data that has to be converted; `made` holds them.
    #[inline(never)]
    pub fn make<'a, 'py>(
        &self,
        py: Python<'py>,
        topic: &Bound<'py, PyString>,
        headers: &Headers<'py>,
        data: &Bound<'py, PyAny>,
        made: &'a OnceCell<Payload<'py>>,
    ) -> PyResult<Option<&'a [u8]>> {
        let payload = self.run(py, topic, headers, data)?;
        made.get_or_init(|| payload).as_slice()
    }

    #[inline]
    pub fn run<'py>(
        &self,
        py: Python<'py>,
        topic: &Bound<'py, PyString>,
        headers: &Headers<'py>,
        data: &Bound<'py, PyAny>,
    ) -> PyResult<Payload<'py>> {
        if data.is_none() {
            return Ok(Payload::None);
        }
        if let Some(payload) = self.natively(py, data) {
            return Ok(payload);
        }
        self.call(py, topic, headers, data)
    }

    /// Bytes, or text that is stored as UTF-8, without a copy; None for all else.
    #[inline]
    pub fn borrowed<'py>(&self, data: Bound<'py, PyAny>) -> Option<Payload<'py>> {
        match self.native {
            Native::Bytes => data.cast_into::<PyBytes>().ok().map(Payload::Bytes),
            Native::Utf8 => {
                let text = data.cast_into::<PyString>().ok()?;
                text.to_str().ok()?;
                Some(Payload::Str(text))
            }
            _ => None,
        }
    }

    /// None: the Python serializer has to do it.
    fn natively<'py>(&self, py: Python<'py>, data: &Bound<'py, PyAny>) -> Option<Payload<'py>> {
        match self.native {
            Native::Bytes => {
                if let Ok(bytes) = data.cast::<PyBytes>() {
                    return Some(Payload::Bytes(bytes.clone()));
                }
                Some(Payload::Own(data.cast_exact::<PyByteArray>().ok()?.to_vec().into()))
            }
            Native::Utf8 => {
                let text = data.cast::<PyString>().ok()?;
                text.to_str().ok()?;
                Some(Payload::Str(text.clone()))
            }
            Native::Ascii => {
                let text = data.cast::<PyString>().ok()?;
                text.to_str().ok()?.is_ascii().then(|| Payload::Str(text.clone()))
            }
            Native::Short => Some(Payload::small(integer::<i16>(data)?.to_be_bytes())),
            Native::Integer => Some(Payload::small(integer::<i32>(data)?.to_be_bytes())),
            Native::Long => Some(Payload::small(integer::<i64>(data)?.to_be_bytes())),
            Native::Float => {
                let number = data.cast_exact::<PyFloat>().ok()?.value();
                let narrow = number as f32;
                if number.is_nan() {
                    return Some(Payload::small(0x7fc0_0000_u32.to_be_bytes()));
                }
                // A finite number that becomes infinite does not fit.
                (narrow.is_finite() || number.is_infinite()).then(|| Payload::small(narrow.to_be_bytes()))
            }
            Native::Double => {
                let number = data.cast_exact::<PyFloat>().ok()?.value();
                let bits = if number.is_nan() { 0x7ff8_0000_0000_0000 } else { number.to_bits() };
                Some(Payload::small(bits.to_be_bytes()))
            }
            Native::Boolean => Some(Payload::small([u8::from(data.cast_exact::<PyBool>().ok()?.is_true())])),
            Native::Uuid => uuid_text(py, data),
            Native::No => None,
        }
    }

    #[cold]
    fn call<'py>(
        &self,
        py: Python<'py>,
        topic: &Bound<'py, PyString>,
        headers: &Headers<'py>,
        data: &Bound<'py, PyAny>,
    ) -> PyResult<Payload<'py>> {
        let headers = headers.tuple(py)?;
        let made = shutdown::python(py, || self.function.bind(py).call1((topic, headers, data)))?;
        if made.is_none() {
            return Ok(Payload::None);
        }
        match made.cast_into::<PyBytes>() {
            Ok(bytes) => Ok(Payload::Bytes(bytes)),
            // bytearray, memoryview (of any items): copied, because their owner may change them later.
            Err(other) => {
                let bytes = py.get_type::<PyBytes>().call1((PyMemoryView::from(&other.into_inner())?,))?;
                Ok(Payload::Bytes(bytes.cast_into()?))
            }
        }
    }
}

#[inline]
fn integer<'a, 'py, T: FromPyObject<'a, 'py>>(data: &'a Bound<'py, PyAny>) -> Option<T> {
    data.cast_exact::<PyInt>().ok()?;
    // Out of range: the Python serializer raises.
    data.extract().ok()
}

/// `str(data).encode()`, for nothing but a `uuid.UUID`.
fn uuid_text<'py>(py: Python<'py>, data: &Bound<'py, PyAny>) -> Option<Payload<'py>> {
    if !data.get_type().is(upcalls::UUID.get(py).ok()?) {
        return None;
    }
    let bytes = shutdown::python(py, || data.getattr(intern!(py, "bytes"))).ok()?;
    let bytes: &[u8; 16] = bytes.cast::<PyBytes>().ok()?.as_bytes().try_into().ok()?;
    let mut text = Vec::with_capacity(UUID_TEXT);
    write_uuid(bytes, &mut text);
    Some(Payload::Own(text.into()))
}

/// Bytes of a UUID's text.
pub const UUID_TEXT: usize = 36;

/// 16 bytes as 36 characters.
pub fn write_uuid(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (position, byte) in bytes.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}
