//! An open batch: records are encoded into it as they arrive.

use std::io;

use super::record::{Header, len_after_prefix, payload_len};
use super::sealed::{BATCH_HEADER_LEN, SealedBatch};
use crate::compression::{Codec, Encoder};
use crate::wire::varint::{Varints, put_varint, put_varlong, varint_len, zigzag32, zigzag64};

/// Java's allowance for a batch that compresses worse than its topic did so far
/// (`MemoryRecordsBuilder.COMPRESSION_RATE_ESTIMATION_FACTOR`).
const RATIO_ALLOWANCE: f32 = 1.05;

/// A batch whose records are to be compressed takes no more of them than this many bytes, or batch.size if that is more,
/// however well they compress: they are held uncompressed here, and whole at the consumer.
pub const MAX_UNCOMPRESSED: usize = 1 << 20;

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

    /// The same batch with the mark that it will be compressed; its limits count bytes before that.
    pub(super) fn with_compression(self) -> Self {
        Self { ratio: Some(1.0), ..self }
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
        // Exactly: the charge equals the memory that is held.
        self.body.reserve_exact(wanted.saturating_sub(self.body.len()));
    }

    /// Whether it is to be compressed.
    pub fn is_compressed(&self) -> bool {
        self.ratio.is_some()
    }

    /// Bytes that `bytes` of records will take on the wire, as estimated.
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

    /// [`try_append`](Self::try_append) for a caller that has the [`payload_len`].
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
        let uncompressed = self.body.len();
        let timestamps = (self.base_timestamp, self.max_timestamp);
        SealedBatch::new(self.body, Codec::None, uncompressed, self.count, timestamps)
    }

    /// Ends the batch and compresses it. Returns its buffer for the next one.
    pub fn encode(self, encoder: &mut Encoder) -> io::Result<(SealedBatch, Vec<u8>)> {
        let codec = encoder.codec();
        // A copy of the right size: the encoder's output has room for what does not compress at all.
        let bytes = encoder.encode(&self.body)?.to_vec();
        let timestamps = (self.base_timestamp, self.max_timestamp);
        Ok((SealedBatch::new(bytes, codec, self.body.len(), self.count, timestamps), self.body))
    }

    /// The records so far, encoded.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// Consumes the batch and returns its buffer.
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
    pub(super) fn try_append_moved(&mut self, timestamp: i64, payload: &[u8]) -> Option<u32> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const NO_HEADERS: &[Header<'_>] = &[];

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
        assert_eq!(builder.into_buffer().capacity(), capacity);
    }
}
