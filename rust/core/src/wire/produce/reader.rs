//! Reads the protocol's types from untrusted bytes.

use std::fmt;

use crate::wire::varint::read_u64;

/// A response that is not one: the connection it came from cannot be trusted any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The mistake.
    pub what: &'static str,
    /// Where in the frame, in bytes after its length.
    pub at: usize,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl std::error::Error for ParseError {}

/// Walks over untrusted bytes. A tagged field is read through a reader of its own that ends where the field does.
pub(super) struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    flexible: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(data: &'a [u8], flexible: bool) -> Self {
        Self { data, at: 0, flexible }
    }

    pub(super) fn error(&self, what: &'static str) -> ParseError {
        ParseError { what, at: self.at }
    }

    fn remaining(&self) -> usize {
        self.data.len() - self.at
    }

    pub(super) fn end(&self) -> Result<(), ParseError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.error("bytes left over")) }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], ParseError> {
        if len > self.remaining() {
            return Err(self.error("the frame ends too early"));
        }
        let bytes = &self.data[self.at..self.at + len];
        self.at += len;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(super) fn i16(&mut self) -> Result<i16, ParseError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, ParseError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, ParseError> {
        self.array().map(i64::from_be_bytes)
    }

    fn uvarint(&mut self) -> Result<u32, ParseError> {
        let (value, len) =
            read_u64(&self.data[self.at..], 32).ok_or_else(|| self.error("a varint without end or too large"))?;
        self.at += len;
        Ok(value as u32)
    }

    /// A compact length is the length plus one, so that zero can mean null.
    fn compact_len(&mut self) -> Result<Option<usize>, ParseError> {
        Ok(self.uvarint()?.checked_sub(1).map(|len| len as usize))
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<&'a str>, ParseError> {
        let len = if self.flexible {
            self.compact_len()?
        } else {
            match self.i16()? {
                -1 => None,
                len => Some(usize::try_from(len).map_err(|_| self.error("a negative length"))?),
            }
        };
        let Some(len) = len else { return Ok(None) };
        let start = self.at;
        std::str::from_utf8(self.take(len)?)
            .map(Some)
            .map_err(|_| ParseError { what: "text that is not UTF-8", at: start })
    }

    pub(super) fn string(&mut self) -> Result<&'a str, ParseError> {
        self.nullable_string()?.ok_or_else(|| self.error("null where a string must be"))
    }

    /// The length of an array whose elements take at least `min_element_len` bytes each.
    pub(super) fn array_len(&mut self, min_element_len: usize) -> Result<usize, ParseError> {
        let len = if self.flexible { self.compact_len()? } else { usize::try_from(self.i32()?).ok() };
        let len = len.ok_or_else(|| self.error("null where an array must be"))?;
        if len > self.remaining() / min_element_len {
            return Err(self.error("an array longer than the frame"));
        }
        Ok(len)
    }

    /// Hands each tagged field to `known`, which may leave it unread; none where the version has no tags.
    pub(super) fn tags(
        &mut self,
        mut known: impl FnMut(u32, &mut Self) -> Result<(), ParseError>,
    ) -> Result<(), ParseError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let len = self.uvarint()? as usize;
            let start = self.at;
            self.take(len)?;
            let mut field = Reader { data: &self.data[..self.at], at: start, flexible: true };
            known(tag, &mut field)?;
        }
        Ok(())
    }

    pub(super) fn skip_tags(&mut self) -> Result<(), ParseError> {
        self.tags(|_, _| Ok(()))
    }
}
