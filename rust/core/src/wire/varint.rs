//! Variable-length integers as Kafka writes them: zigzag inside records, plain in the headers of flexible messages.
//!
//! A record takes about eight of them and nearly all fit one or two bytes, so those leave by an early branch and the
//! rest are assembled on the stack and copied once.

/// The longest encoding of a 64-bit value.
pub const MAX_LEN: usize = 10;

/// Maps small magnitudes of either sign to small unsigned values: 0, -1, 1, -2 … become 0, 1, 2, 3 …
#[inline]
pub const fn zigzag32(v: i32) -> u32 {
    ((v << 1) ^ (v >> 31)) as u32
}

/// [`zigzag32`] for 64 bits.
#[inline]
pub const fn zigzag64(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

/// Undoes [`zigzag32`].
#[inline]
pub const fn unzigzag32(v: u32) -> i32 {
    (v >> 1) as i32 ^ -((v & 1) as i32)
}

/// Undoes [`zigzag64`].
#[inline]
pub const fn unzigzag64(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

/// Appends a zigzag varint (Kafka's VARINT).
#[inline]
pub fn put_varint(buf: &mut Vec<u8>, v: i32) {
    put_u64(buf, u64::from(zigzag32(v)));
}

/// Appends a zigzag varlong (Kafka's VARLONG).
#[inline]
pub fn put_varlong(buf: &mut Vec<u8>, v: i64) {
    put_u64(buf, zigzag64(v));
}

/// Appends an unsigned varint (Kafka's `UNSIGNED_VARINT`).
#[inline]
pub fn put_uvarint(buf: &mut Vec<u8>, v: u32) {
    put_u64(buf, u64::from(v));
}

/// Encoded length of [`put_varint`].
#[inline]
pub const fn varint_len(v: i32) -> usize {
    len_u64(zigzag32(v) as u64)
}

/// Encoded length of [`put_varlong`].
#[inline]
pub const fn varlong_len(v: i64) -> usize {
    len_u64(zigzag64(v))
}

/// Encoded length of [`put_uvarint`].
#[inline]
pub const fn uvarint_len(v: u32) -> usize {
    len_u64(v as u64)
}

/// Writes `v` at `at` and returns the position after it. The caller has left room for [`MAX_LEN`] bytes.
#[inline]
pub(crate) fn write_u64(out: &mut [u8], mut at: usize, mut v: u64) -> usize {
    while v >= 0x80 {
        out[at] = v as u8 | 0x80;
        at += 1;
        v >>= 7;
    }
    out[at] = v as u8;
    at + 1
}

/// Varints that are appended together: they gather in a register until something else follows or eight bytes are full.
#[derive(Debug, Default)]
pub(crate) struct Varints {
    bytes: u64,
    /// Bits of them.
    used: u32,
}

impl Varints {
    /// Adds an unsigned varint.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "on the way of each record")]
    pub fn put(&mut self, buf: &mut Vec<u8>, v: u64) {
        let (bytes, bits) = if v < 0x80 {
            (v, 8)
        } else if v < 0x4000 {
            (v & 0x7f | 0x80 | (v >> 7) << 8, 16)
        } else if v < 0x20_0000 {
            (v & 0x7f | 0x80 | (v >> 7 & 0x7f | 0x80) << 8 | (v >> 14) << 16, 24)
        } else {
            self.flush(buf);
            return put_long(buf, v);
        };
        if self.used + bits > u64::BITS {
            self.flush(buf);
        }
        self.bytes |= bytes << self.used;
        self.used += bits;
    }

    /// Appends what has gathered.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "on the way of each record")]
    pub fn flush(&mut self, buf: &mut Vec<u8>) {
        let end = buf.len() + (self.used / 8) as usize;
        // A whole word, cut back: a copy of constant size. A buffer of the batch's size must not grow for the sake of it.
        if buf.capacity() - buf.len() >= 8 {
            buf.extend_from_slice(&self.bytes.to_le_bytes());
            buf.truncate(end);
        } else {
            buf.extend_from_slice(&self.bytes.to_le_bytes()[..(self.used / 8) as usize]);
        }
        *self = Self::default();
    }
}

/// Reads an unsigned varint of at most `max_bits` from the front of `data`: the value and how many bytes it took.
/// `None` when the bytes run out or the value does not fit. Padding with zero groups is accepted up to the longest
/// length that a value of this width can take, as Java does.
#[inline]
pub(crate) fn read_u64(data: &[u8], max_bits: u32) -> Option<(u64, usize)> {
    let mut value = 0u64;
    let mut shift = 0;
    for (i, &byte) in data.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        if shift >= max_bits || (shift + 7 > max_bits && bits >> (max_bits - shift) != 0) {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some((value, i + 1));
        }
        shift += 7;
    }
    None
}

#[inline]
const fn len_u64(v: u64) -> usize {
    // Seven bits a byte, and zero still takes one. 9/64 is 1/7 rounded up, exact for 1..=64 bits.
    let bits = 64 - (v | 1).leading_zeros() as usize;
    (bits * 9 + 64) / 64
}

#[inline]
fn put_u64(buf: &mut Vec<u8>, v: u64) {
    if v < 0x80 {
        buf.push(v as u8);
    } else if v < 0x4000 {
        buf.extend_from_slice(&[v as u8 | 0x80, (v >> 7) as u8]);
    } else {
        put_long(buf, v);
    }
}

#[cold]
fn put_long(buf: &mut Vec<u8>, v: u64) {
    let mut out = [0; MAX_LEN];
    let end = write_u64(&mut out, 0, v);
    buf.extend_from_slice(&out[..end]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(v: i32) -> Vec<u8> {
        let mut buf = Vec::new();
        put_varint(&mut buf, v);
        buf
    }

    #[test]
    fn small_values_of_either_sign_take_one_byte() {
        for (v, byte) in [(0, 0), (-1, 1), (1, 2), (63, 126), (-64, 127)] {
            assert_eq!(varint(v), [byte]);
        }
        assert_eq!(varint(64), [0x80, 0x01]);
        assert_eq!(varint(-65), [0x81, 0x01]);
    }

    #[test]
    fn the_extremes_take_five_and_ten_bytes() {
        assert_eq!(varint(i32::MAX), [0xfe, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(varint(i32::MIN), [0xff, 0xff, 0xff, 0xff, 0x0f]);
        let mut buf = Vec::new();
        put_varlong(&mut buf, i64::MIN);
        assert_eq!(buf, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    #[test]
    fn every_bit_length_round_trips_with_the_length_announced() {
        for shift in 0..64 {
            for v in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut buf = Vec::new();
                put_u64(&mut buf, v);
                assert_eq!(buf.len(), len_u64(v), "{v}");
                assert_eq!(read_u64(&buf, 64), Some((v, buf.len())));
                assert_eq!(zigzag64(unzigzag64(v)), v);
                assert_eq!(varlong_len(unzigzag64(v)), buf.len());
                let narrow = v as u32;
                assert_eq!(zigzag32(unzigzag32(narrow)), narrow);
                buf.clear();
                put_uvarint(&mut buf, narrow);
                assert_eq!(buf.len(), uvarint_len(narrow));
                assert_eq!(varint_len(unzigzag32(narrow)), uvarint_len(narrow));
                assert_eq!(read_u64(&buf, 32), Some((u64::from(narrow), uvarint_len(narrow))));
            }
        }
    }

    #[test]
    fn gathered_varints_are_the_same_bytes() {
        let values =
            [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 0x1f_ffff, 0x20_0000, 5, u64::MAX, 0x80, 0x80, 0x80, 0x80, 0x80];
        for first in 0..values.len() {
            let (mut plain, mut gathered, mut tight) = (Vec::new(), Vec::with_capacity(64), Vec::new());
            let (mut varints, mut others) = (Varints::default(), Varints::default());
            for &v in &values[first..] {
                put_u64(&mut plain, v);
                varints.put(&mut gathered, v);
                others.put(&mut tight, v);
                tight.shrink_to_fit();
            }
            varints.flush(&mut gathered);
            others.flush(&mut tight);
            assert_eq!(gathered, plain);
            assert_eq!(tight, plain);
        }
    }

    #[test]
    fn what_does_not_fit_or_end_is_refused() {
        assert_eq!(read_u64(&[], 32), None);
        assert_eq!(read_u64(&[0x80, 0x80], 32), None);
        assert_eq!(read_u64(&[0xff, 0xff, 0xff, 0xff, 0x1f], 32), None);
        assert_eq!(read_u64(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], 32), None, "six bytes");
        assert_eq!(read_u64(&[0xff; 11], 64), None);
    }
}
