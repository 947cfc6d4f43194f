//! Kafka's primitive types. `Reader` compares every length with the bytes that are left.

/// The bytes violate the protocol; their connection must be closed.
#[derive(Debug)]
pub struct Malformed(pub &'static str);

type Result<T> = std::result::Result<T, Malformed>;

/// Reads from a whole frame.
pub struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the frame's first byte.
    pub fn new(frame: &'a [u8]) -> Self {
        Self { left: frame }
    }

    /// The next bytes, if there are as many.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        if length > self.left.len() {
            return Err(Malformed("a length goes beyond its frame"));
        }
        let (head, tail) = self.left.split_at(length);
        self.left = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.bytes(N)?.try_into().expect("as many bytes as requested"))
    }

    /// One byte.
    pub fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    /// Two bytes.
    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// Four bytes.
    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Eight bytes.
    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// Sixteen bytes: a topic id.
    pub fn uuid(&mut self) -> Result<[u8; 16]> {
        self.array()
    }

    /// An unsigned varint of at most 32 bits.
    pub fn varint(&mut self) -> Result<u32> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let byte = self.array::<1>()?[0];
            value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a varint has more than five bytes"))
    }

    /// The number of elements of an array, -1 for null. Every element has a byte at least, so that a number beyond what is
    /// left is refused before anything is allocated for it.
    pub fn count(&mut self, flexible: bool) -> Result<i32> {
        let count = if flexible { self.varint()? as i32 - 1 } else { self.i32()? };
        if count > self.left.len() as i32 {
            return Err(Malformed("an array has more elements than its frame has bytes"));
        }
        Ok(count)
    }

    /// A string, `None` for null.
    pub fn string(&mut self, flexible: bool) -> Result<Option<&'a str>> {
        let length = if flexible { self.varint()? as i32 - 1 } else { i32::from(self.i16()?) };
        if length < 0 {
            return Ok(None);
        }
        let text = std::str::from_utf8(self.bytes(length as usize)?);
        text.map(Some).map_err(|_| Malformed("a string is not UTF-8"))
    }

    /// Bytes with their length in front; null reads as empty.
    pub fn blob(&mut self, flexible: bool) -> Result<&'a [u8]> {
        let length = if flexible { self.varint()? as i32 - 1 } else { self.i32()? };
        self.bytes(length.max(0) as usize)
    }

    /// Tagged fields, all skipped; none where the version is not flexible.
    pub fn tags(&mut self, flexible: bool) -> Result<()> {
        if flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let size = self.varint()?;
                self.bytes(size as usize)?;
            }
        }
        Ok(())
    }
}

/// Writes a frame; its length is filled in by `finish`.
pub struct Writer {
    data: Vec<u8>,
}

impl Default for Writer {
    fn default() -> Self {
        Self { data: vec![0; 4] }
    }
}

impl Writer {
    /// Raw bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.data.extend_from_slice(bytes);
        self
    }

    /// One byte.
    pub fn i8(&mut self, value: i8) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Two bytes.
    pub fn i16(&mut self, value: i16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Four bytes.
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Eight bytes.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// An unsigned varint.
    pub fn varint(&mut self, mut value: u32) -> &mut Self {
        while value >= 0x80 {
            self.data.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.data.push(value as u8);
        self
    }

    /// The number of elements of an array.
    pub fn count(&mut self, count: usize, flexible: bool) -> &mut Self {
        if flexible { self.varint(count as u32 + 1) } else { self.i32(count as i32) }
    }

    /// A string.
    pub fn string(&mut self, text: &str, flexible: bool) -> &mut Self {
        if flexible {
            self.varint(text.len() as u32 + 1);
        } else {
            self.i16(text.len() as i16);
        }
        self.bytes(text.as_bytes())
    }

    /// A null string.
    pub fn null(&mut self, flexible: bool) -> &mut Self {
        if flexible { self.varint(0) } else { self.i16(-1) }
    }

    /// No tagged fields; nothing where the version is not flexible.
    pub fn tags(&mut self, flexible: bool) -> &mut Self {
        if flexible { self.varint(0) } else { self }
    }

    /// The frame with its length in front.
    pub fn finish(mut self) -> Vec<u8> {
        let length = (self.data.len() - 4) as i32;
        self.data[..4].copy_from_slice(&length.to_be_bytes());
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u32::MAX >> 1] {
            let mut writer = Writer::default();
            writer.varint(value);
            assert_eq!(Reader::new(&writer.finish()[4..]).varint().unwrap(), value);
        }
    }

    #[test]
    fn lengths_beyond_the_frame_are_refused() {
        assert!(Reader::new(&[0x7f, b'x']).string(true).is_err());
        assert!(Reader::new(&[0x7f, 0xff, 0xff, 0xff]).count(false).is_err());
        assert!(Reader::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 1]).varint().is_err());
        assert!(Reader::new(&[1, 0, 9, b'x']).tags(true).is_err());
    }
}
