//! Record batches, format 2: encoded record by record inside `send`, sealed once, sent as often as it takes.
//!
//! The records (the *body*) are written the moment they arrive and never change after sealing; the 61 bytes in front
//! of them are made per attempt. So a retry under another producer id, epoch or sequence shares the body with the
//! first attempt, a socket's write queue can hold the body by reference count, and no sealed byte is ever rewritten
//! while some socket may still be reading it. (The Java client, which rewrites and pools its buffers, lost this once:
//! CVE-2026-35554.)

use std::io;
use std::sync::Arc;

use crate::compression::{Codec, DecodeError, Encoder, decompress};
use crate::wire::crc::{crc32c, crc32c_combine};
use crate::wire::varint::{
    Varints, put_varint, put_varlong, read_u64, unzigzag32, unzigzag64, varint_len, varlong_len, zigzag32, zigzag64,
};

/// Bytes in front of the records: base offset to record count.
pub const BATCH_HEADER_LEN: usize = 61;

/// Where the checksummed part of the header begins: the attributes, right after the checksum itself.
const CRC_START: usize = 21;

/// Java's allowance for a batch that compresses worse than its topic did so far
/// (`MemoryRecordsBuilder.COMPRESSION_RATE_ESTIMATION_FACTOR`).
const RATIO_ALLOWANCE: f32 = 1.05;

/// A batch whose records are to be compressed takes no more of them than this many bytes, or batch.size if that is more,
/// however well they compress: they wait uncompressed, and somebody has to hold them whole at the other end, too.
pub const MAX_UNCOMPRESSED: usize = 1 << 20;

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

/// Size in bytes that one record takes at most, wherever in a batch it lands: what can be said before a batch is
/// chosen. Java's `DefaultRecord.recordSizeUpperBound`.
pub fn record_len_upper_bound(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> usize {
    MAX_RECORD_OVERHEAD + payload_len(key, value, headers)
}

/// What follows the deltas: key, value and headers, the same bytes in whatever batch the record ends up.
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
fn len_after_prefix(offset_delta: i32, timestamp_delta: i64, payload_len: usize) -> usize {
    1 + varlong_len(timestamp_delta) + varint_len(offset_delta) + payload_len
}

/// An open batch: records go in, and [`seal`](Self::seal) ends it.
#[derive(Debug)]
pub struct BatchBuilder {
    /// The records alone; the header is made per attempt.
    body: Vec<u8>,
    count: u32,
    /// The first record's timestamp, not the smallest: deltas may be negative.
    base_timestamp: i64,
    max_timestamp: i64,
    /// Bytes there is room for.
    limit: usize,
    /// Bytes at which it is full: more than there is room for while a batch that will be compressed may grow.
    full_at: usize,
    /// Compressed bytes per byte, as estimated; `None`: it will not be compressed.
    ratio: Option<f32>,
}

impl BatchBuilder {
    /// An open batch that writes into `buffer` (emptied, its capacity reused) and is full at `limit` bytes, the
    /// header's 61 included.
    pub fn new(mut buffer: Vec<u8>, limit: usize) -> Self {
        buffer.clear();
        Self { body: buffer, count: 0, base_timestamp: -1, max_timestamp: -1, limit, full_at: limit, ratio: None }
    }

    /// An open batch that is to be compressed: full when it is estimated to compress to `limit` bytes, at `ratio`
    /// compressed bytes per byte. It has room for `limit` bytes of records, and [`growth`](Self::growth) for more.
    pub fn compressed(buffer: Vec<u8>, limit: usize, ratio: f32) -> Self {
        let records = (limit.saturating_sub(BATCH_HEADER_LEN) as f32 / (ratio * RATIO_ALLOWANCE)) as usize;
        let full_at = records.saturating_add(BATCH_HEADER_LEN).min(limit.max(MAX_UNCOMPRESSED));
        Self { limit: limit.min(full_at), full_at, ratio: Some(ratio), ..Self::new(buffer, limit) }
    }

    /// How much more room it needs for a record of at most `upper_bound` bytes, preferably `step` at once; `None` if it
    /// is (estimated to be) full. Java counts the next record at its full size, which leaves batches a little emptier.
    pub fn growth(&self, upper_bound: usize, step: usize) -> Option<usize> {
        let needed = self.size() + upper_bound;
        (needed <= self.full_at).then(|| self.full_at.min(needed.max(self.limit + step)) - self.limit)
    }

    /// There is room for `more` bytes now.
    pub fn grow(&mut self, more: usize) {
        self.limit += more;
        let wanted = self.limit - BATCH_HEADER_LEN;
        // Exactly: what is charged for is what is held.
        self.body.reserve_exact(wanted.saturating_sub(self.body.len()));
    }

    /// Whether it is to be compressed.
    pub fn is_compressed(&self) -> bool {
        self.ratio.is_some()
    }

    /// What `bytes` of records will take on the wire, as far as can be said.
    pub fn estimated(&self, bytes: usize) -> usize {
        self.ratio.map_or(bytes, |ratio| (bytes as f32 * ratio * RATIO_ALLOWANCE) as usize)
    }

    /// Whether a record of at most `upper_bound` bytes fits. An empty batch takes any record: one that is larger than
    /// the limit travels alone. Java's `MemoryRecordsBuilder.hasRoomFor`.
    #[inline]
    pub fn has_room(&self, upper_bound: usize) -> bool {
        self.count == 0 || self.size() + upper_bound <= self.limit
    }

    /// Adds a record and returns its index in the batch. The caller has seen to room, and to no length near
    /// `i32::MAX` (`max.request.size` is far below it).
    #[inline]
    pub fn append(&mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> u32 {
        let timestamp_delta = self.timestamp_delta(timestamp);
        let len = len_after_prefix(self.count as i32, timestamp_delta, payload_len(key, value, headers));
        self.write(timestamp, timestamp_delta, len, key, value, headers)
    }

    /// [`append`](Self::append) if the record fits by its exact size, as Java decides it; otherwise `None` and nothing
    /// changed. One pass over the lengths for both questions.
    #[inline]
    pub fn try_append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Option<u32> {
        self.try_append_sized(timestamp, key, value, headers, payload_len(key, value, headers))
    }

    /// [`try_append`](Self::try_append) for a caller that knows the [`payload_len`] already.
    #[inline]
    pub(crate) fn try_append_sized(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
        payload_len: usize,
    ) -> Option<u32> {
        let timestamp_delta = self.timestamp_delta(timestamp);
        let len = len_after_prefix(self.count as i32, timestamp_delta, payload_len);
        self.has_room(varint_len(len as i32) + len)
            .then(|| self.write(timestamp, timestamp_delta, len, key, value, headers))
    }

    /// Records so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes so far, the header's 61 included.
    #[inline]
    pub fn size(&self) -> usize {
        BATCH_HEADER_LEN + self.body.len()
    }

    /// Whether the limit is reached, so that waiting for more records is pointless.
    pub fn is_full(&self) -> bool {
        self.count > 0 && self.size() >= self.full_at
    }

    /// Take no more records: it is full as it stands.
    pub fn close(&mut self) {
        self.limit = self.limit.min(self.size());
        self.full_at = self.limit;
    }

    /// The first record's timestamp in ms since the epoch; -1 while empty.
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// Ends the batch: from here on its bytes never change.
    pub fn seal(self) -> SealedBatch {
        let crc = crc32c(&self.body);
        SealedBatch {
            uncompressed: self.body.len(),
            body: Arc::new(Body { bytes: self.body, crc }),
            codec: Codec::None,
            count: self.count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
        }
    }

    /// Ends the batch and compresses it; its buffer is for the next one.
    pub fn encode(self, encoder: &mut Encoder) -> io::Result<(SealedBatch, Vec<u8>)> {
        let codec = encoder.codec();
        // A copy of the right size: the encoder's output has room for what does not compress at all.
        let bytes = encoder.encode(&self.body)?.to_vec();
        let sealed = SealedBatch {
            uncompressed: self.body.len(),
            body: Arc::new(Body { crc: crc32c(&bytes), bytes }),
            codec,
            count: self.count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
        };
        Ok((sealed, self.body))
    }

    /// Gives up the batch for its buffer.
    pub fn into_buffer(self) -> Vec<u8> {
        self.body
    }

    #[inline]
    fn timestamp_delta(&self, timestamp: i64) -> i64 {
        if self.count == 0 { 0 } else { timestamp.wrapping_sub(self.base_timestamp) }
    }

    /// Writes a record whose length after the prefix is `len`. The small integers up front are put together in a register
    /// and leave as one word: several times cheaper than appending each.
    #[inline]
    fn write(
        &mut self,
        timestamp: i64,
        timestamp_delta: i64,
        len: usize,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> u32 {
        let body = &mut self.body;
        body.reserve(varint_len(len as i32) + len);
        let mut front = Varints::default();
        front.put(body, u64::from(zigzag32(len as i32)));
        front.put(body, 0); // attributes: none are defined for a record
        front.put(body, zigzag64(timestamp_delta));
        front.put(body, u64::from(zigzag32(self.count as i32)));
        front.put(body, u64::from(zigzag32(key.map_or(-1, |key| key.len() as i32))));
        if let Some(key) = key {
            front.flush(body);
            body.extend_from_slice(key);
        }
        front.put(body, u64::from(zigzag32(value.map_or(-1, |value| value.len() as i32))));
        front.flush(body);
        if let Some(value) = value {
            body.extend_from_slice(value);
        }
        if headers.is_empty() {
            body.push(0);
        } else {
            self.put_headers(headers);
        }
        self.note(timestamp)
    }

    fn put_headers(&mut self, headers: &[Header<'_>]) {
        put_varint(&mut self.body, headers.len() as i32);
        for header in headers {
            put_varint(&mut self.body, header.key.len() as i32);
            self.body.extend_from_slice(header.key);
            put_varint(&mut self.body, header.value.map_or(-1, |v| v.len() as i32));
            self.body.extend_from_slice(header.value.unwrap_or_default());
        }
    }

    /// Appends a record taken from another batch, if it fits. Its payload travels verbatim.
    fn try_append_moved(&mut self, timestamp: i64, payload: &[u8]) -> Option<u32> {
        let timestamp_delta = self.timestamp_delta(timestamp);
        let len = len_after_prefix(self.count as i32, timestamp_delta, payload.len());
        if !self.has_room(varint_len(len as i32) + len) {
            return None;
        }
        put_varint(&mut self.body, len as i32);
        self.body.push(0);
        put_varlong(&mut self.body, timestamp_delta);
        put_varint(&mut self.body, self.count as i32);
        self.body.extend_from_slice(payload);
        Some(self.note(timestamp))
    }

    #[inline]
    fn note(&mut self, timestamp: i64) -> u32 {
        let index = self.count;
        if index == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        } else {
            self.max_timestamp = self.max_timestamp.max(timestamp);
        }
        self.count = index + 1;
        index
    }
}

/// The records of a sealed batch with their checksum. Shared with whatever socket is still writing them; the buffer
/// can be had back only when the last holder lets go ([`Arc::try_unwrap`], then [`into_buffer`](Self::into_buffer)).
#[derive(Debug)]
pub struct Body {
    bytes: Vec<u8>,
    crc: u32,
}

impl Body {
    /// The encoded records.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// CRC-32C of [`bytes`](Self::bytes).
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// The buffer for the next batch, emptied. Takes the body by value, which is the proof that nobody reads it.
    pub fn into_buffer(self) -> Vec<u8> {
        let mut buffer = self.bytes;
        buffer.clear();
        buffer
    }
}

/// A finished batch. Cheap to share, impossible to change.
#[derive(Debug)]
pub struct SealedBatch {
    body: Arc<Body>,
    codec: Codec,
    /// Bytes of the records before they were compressed.
    uncompressed: usize,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl SealedBatch {
    /// The records, to be held by a write queue for as long as it needs them.
    pub fn body(&self) -> &Arc<Body> {
        &self.body
    }

    /// Gives up the batch for its records, the step before recycling the buffer.
    pub fn into_body(self) -> Arc<Body> {
        self.body
    }

    /// Records in the batch.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes on the wire, the header's 61 included.
    pub fn size(&self) -> usize {
        BATCH_HEADER_LEN + self.body.bytes.len()
    }

    /// How the records are compressed.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Bytes, the header's 61 included, that it would take uncompressed.
    pub fn uncompressed_size(&self) -> usize {
        BATCH_HEADER_LEN + self.uncompressed
    }

    /// Bytes of the records on the wire per byte of them.
    pub fn ratio(&self) -> f64 {
        self.body.bytes.len() as f64 / self.uncompressed.max(1) as f64
    }

    /// The first record's timestamp in ms since the epoch.
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// The largest timestamp in ms since the epoch.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// The 61 bytes in front of the body for one attempt. The body's checksum is known, so this reads none of it.
    ///
    /// `attributes` say what the batch does not know of itself; its codec is added here. Without idempotence the three
    /// identity fields are -1. The partition leader epoch is -1, as from any producer:
    /// the broker fills it in, which is why the checksum does not cover it.
    pub fn header(
        &self,
        producer_id: i64,
        producer_epoch: i16,
        base_sequence: i32,
        attributes: i16,
    ) -> [u8; BATCH_HEADER_LEN] {
        let count = self.count as i32;
        let mut out = [0; BATCH_HEADER_LEN];
        let mut field = Field { out: &mut out, at: 0 };
        field.put(0i64.to_be_bytes()); // base offset: the broker assigns it
        field.put((self.size() as i32 - 12).to_be_bytes()); // length of all that follows
        field.put((-1i32).to_be_bytes()); // partition leader epoch
        field.put([2]); // magic
        field.put([0; 4]); // checksum, below
        field.put((attributes | self.codec.attributes()).to_be_bytes());
        field.put((count - 1).to_be_bytes()); // last offset delta
        field.put(self.base_timestamp.to_be_bytes());
        field.put(self.max_timestamp.to_be_bytes());
        field.put(producer_id.to_be_bytes());
        field.put(producer_epoch.to_be_bytes());
        field.put(base_sequence.to_be_bytes());
        field.put(count.to_be_bytes());
        let crc = crc32c_combine(crc32c(&out[CRC_START..]), self.body.crc, self.body.bytes.len());
        out[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Splits a batch that a broker found too large (KIP-126) into children of at most `limit` bytes each, in order,
    /// with the index here of each child's first record. A record larger than the limit gets a child of its own, so
    /// a batch of one record splits into itself.
    ///
    /// Only the deltas in front of each record change; its key, value and headers are moved as encoded bytes. Of a
    /// compressed batch the children are yet to be compressed; `limit` is what they may take before. An error means that
    /// its own bytes cannot be read again.
    pub fn split(&self, limit: usize) -> Result<Vec<(u32, BatchBuilder)>, DecodeError> {
        let expanded;
        let mut rest = self.body.bytes.as_slice();
        if self.codec != Codec::None {
            expanded = decompress(self.codec, rest, self.uncompressed)?;
            rest = &expanded;
        }
        let mut children = Vec::new();
        let mut first = 0;
        let mut child = self.child(limit);
        for index in 0..self.count {
            let (timestamp_delta, payload, after) = next_record(rest).expect("the body was written by BatchBuilder");
            let timestamp = self.base_timestamp.wrapping_add(timestamp_delta);
            if child.try_append_moved(timestamp, payload).is_none() {
                let full = std::mem::replace(&mut child, self.child(limit));
                children.push((first, full));
                first = index;
                child.try_append_moved(timestamp, payload);
            }
            rest = after;
        }
        if child.count() > 0 {
            children.push((first, child));
        }
        Ok(children)
    }

    fn child(&self, limit: usize) -> BatchBuilder {
        let capacity = limit.saturating_sub(BATCH_HEADER_LEN).min(self.uncompressed);
        let ratio = (self.codec != Codec::None).then_some(1.0);
        BatchBuilder { ratio, ..BatchBuilder::new(Vec::with_capacity(capacity), limit) }
    }
}

/// Writes fixed-width fields one after the other.
struct Field<'a> {
    out: &'a mut [u8; BATCH_HEADER_LEN],
    at: usize,
}

impl Field<'_> {
    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.out[self.at..self.at + N].copy_from_slice(&bytes);
        self.at += N;
    }
}

/// Takes one record off the front: timestamp delta, payload (all after the offset delta) and what follows the record.
fn next_record(data: &[u8]) -> Option<(i64, &[u8], &[u8])> {
    let (len, at) = read_u64(data, 32)?;
    let len = usize::try_from(unzigzag32(len as u32)).ok()?;
    let (record, after) = data[at..].split_at_checked(len)?;
    let fields = record.get(1..)?;
    let (timestamp_delta, at) = read_u64(fields, 64)?;
    let fields = &fields[at..];
    let (_offset_delta, at) = read_u64(fields, 32)?;
    Some((unzigzag64(timestamp_delta), &fields[at..], after))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_HEADERS: &[Header<'_>] = &[];

    fn batch_of(values: &[&[u8]]) -> BatchBuilder {
        let mut builder = BatchBuilder::new(Vec::new(), 16_384);
        for value in values {
            builder.append(1_000, None, Some(value), NO_HEADERS);
        }
        builder
    }

    #[test]
    fn a_record_is_laid_out_as_the_format_says() {
        let mut builder = BatchBuilder::new(Vec::new(), 16_384);
        builder.append(1_000, Some(b"k"), Some(b"vv"), NO_HEADERS);
        let header = Header { key: b"h", value: None };
        builder.append(999, None, None, &[header]);
        let sealed = builder.seal();
        #[rustfmt::skip]
        let expected = [
            // length, attributes, timestamp delta, offset delta, key, value, headers
            18, 0, 0, 0, 2, b'k', 4, b'v', b'v', 0,
            18, 0, 1, 2, 1, 1, 2, 2, b'h', 1,
        ];
        assert_eq!(sealed.body().bytes(), expected);
        assert_eq!((sealed.base_timestamp(), sealed.max_timestamp()), (1_000, 1_000));
    }

    #[test]
    fn an_empty_batch_takes_any_record_and_is_then_full() {
        let mut builder = BatchBuilder::new(Vec::new(), 100);
        assert!(builder.has_room(1_000_000) && !builder.is_full());
        assert_eq!(builder.try_append(0, None, Some(&[0; 500]), NO_HEADERS), Some(0));
        assert!(!builder.has_room(0) && builder.is_full());
        assert_eq!(builder.try_append(0, None, None, NO_HEADERS), None);
    }

    #[test]
    fn a_buffer_of_the_batch_size_never_grows() {
        let buffer = Vec::with_capacity(1_000 - BATCH_HEADER_LEN);
        let capacity = buffer.capacity();
        let mut builder = BatchBuilder::new(buffer, 1_000);
        while builder.try_append(0, None, Some(b"v"), NO_HEADERS).is_some() {}
        assert!(builder.size() > 990);
        assert_eq!(builder.seal().body.bytes.capacity(), capacity);
    }

    #[test]
    fn every_attempt_shares_the_body_and_differs_in_the_header() {
        let sealed = batch_of(&[b"a", b"b"]).seal();
        let before = sealed.body().bytes().to_vec();
        let first = sealed.header(7, 0, 0, 0);
        let again = sealed.header(7, 0, 0, 0);
        let renumbered = sealed.header(8, 1, 40, 0x10);
        assert_eq!(first, again);
        assert_ne!(first, renumbered);
        assert_eq!(sealed.body().bytes(), before);
        for header in [first, renumbered] {
            let mut whole = header[CRC_START..].to_vec();
            whole.extend_from_slice(sealed.body().bytes());
            assert_eq!(header[17..21], crc32c(&whole).to_be_bytes());
        }
    }

    #[test]
    fn a_batch_of_one_splits_into_itself() {
        let sealed = batch_of(&[&[7; 300]]).seal();
        let mut children = sealed.split(100).unwrap();
        assert_eq!(children.len(), 1);
        let (first, child) = children.remove(0);
        assert_eq!(first, 0);
        assert_eq!(child.seal().body().bytes(), sealed.body().bytes());
    }

    #[test]
    fn a_released_body_gives_its_buffer_back() {
        let sealed = batch_of(&[b"a"]).seal();
        let held = Arc::clone(sealed.body());
        let body = Arc::try_unwrap(sealed.into_body()).expect_err("a socket still holds it");
        drop(held);
        let buffer = Arc::try_unwrap(body).expect("nobody holds it").into_buffer();
        assert!(buffer.is_empty() && buffer.capacity() > 0);
    }
}
