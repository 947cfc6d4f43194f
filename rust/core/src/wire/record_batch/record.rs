//! One record: its size, and how to read its front again.

use crate::wire::varint::{read_u64, unzigzag32, unzigzag64, varint_len, varlong_len};

/// Length varint, attributes, timestamp delta and offset delta at their longest.
pub(crate) const MAX_RECORD_OVERHEAD: usize = 5 + 1 + 10 + 5;

/// A record header (an application's annotation, not the batch header). Kafka allows a null value but no null key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// UTF-8 by convention of the protocol; any bytes here.
    pub key: &'a [u8],
    /// `None` is null, different from empty.
    pub value: Option<&'a [u8]>,
}

/// Exact encoded size in bytes of one record with these deltas, its length prefix included.
pub fn record_len(
    offset_delta: i32,
    timestamp_delta: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> usize {
    let len = len_after_prefix(offset_delta, timestamp_delta, payload_len(key, value, headers));
    varint_len(len as i32) + len
}

/// Size in bytes that one record takes at most, wherever in a batch it is: known before a batch is chosen. Java's `DefaultRecord.recordSizeUpperBound`.
pub fn record_len_upper_bound(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> usize {
    MAX_RECORD_OVERHEAD + payload_len(key, value, headers)
}

/// Bytes after the deltas: key, value and headers, the same in every batch.
#[inline]
pub(crate) fn payload_len(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> usize {
    let headers_len = if headers.is_empty() { 1 } else { headers_len(headers) };
    nullable_len(key) + nullable_len(value) + headers_len
}

fn headers_len(headers: &[Header<'_>]) -> usize {
    headers.iter().map(|header| nullable_len(Some(header.key)) + nullable_len(header.value)).sum::<usize>()
        + varint_len(headers.len() as i32)
}

#[inline]
fn nullable_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |b| varint_len(b.len() as i32) + b.len())
}

#[inline]
pub(super) fn len_after_prefix(offset_delta: i32, timestamp_delta: i64, payload_len: usize) -> usize {
    1 + varlong_len(timestamp_delta) + varint_len(offset_delta) + payload_len
}

/// Takes one record off the front: timestamp delta, payload (all after the offset delta) and what follows the record.
pub(super) fn next_record(data: &[u8]) -> Option<(i64, &[u8], &[u8])> {
    let (len, at) = read_u64(data, 32)?;
    let len = usize::try_from(unzigzag32(len as u32)).ok()?;
    let (record, after) = data[at..].split_at_checked(len)?;
    let fields = record.get(1..)?;
    let (timestamp_delta, at) = read_u64(fields, 64)?;
    let fields = &fields[at..];
    let (_offset_delta, at) = read_u64(fields, 32)?;
    Some((unzigzag64(timestamp_delta), &fields[at..], after))
}
