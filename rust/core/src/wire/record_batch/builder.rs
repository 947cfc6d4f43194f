//! An open batch: records are encoded into it as they arrive.

use std::io;

use super::chunks::Chunks;
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
///
/// It has two sizes. From [`worth`](Self::is_worth_sending) on it need not linger. It may grow beyond that, chunk by chunk,
/// for as long as it cannot be sent; how far is the caller's business ([`next_chunk`](Self::next_chunk)).
#[derive(Debug)]
pub struct BatchBuilder {
    /// The records alone; the header is made per attempt.
    records: Chunks,
    count: u32,
    /// The first record's timestamp, not the smallest: deltas may be negative.
    base_timestamp: i64,
    max_timestamp: i64,
    /// Bytes of the last chunk that records may fill.
    room: usize,
    /// Size, before compression, from which it is worth sending.
    worth: usize,
    /// Bytes of the last chunk at which a multiple of the worth is reached that was not noted yet.
    note_at: usize,
    /// How many multiples were noted.
    noted: usize,
    /// It takes no more records.
    closed: bool,
    /// Compressed bytes per byte, as estimated; `None`: it will not be compressed.
    ratio: Option<f32>,
}

impl BatchBuilder {
    /// An open batch that writes into `buffer` (emptied, its capacity reused) and is full at `limit` bytes, the
    /// header's 61 included.
    pub fn new(buffer: Vec<u8>, limit: usize) -> Self {
        Self::with_worth(buffer, limit, limit)
    }

    /// The same with room for `limit` bytes at first, and worth sending from `worth` bytes on.
    pub fn with_worth(mut buffer: Vec<u8>, limit: usize, worth: usize) -> Self {
        buffer.clear();
        let mut builder = Self {
            records: Chunks::one(buffer),
            count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            room: limit.saturating_sub(BATCH_HEADER_LEN),
            worth,
            note_at: 0,
            noted: 0,
            closed: false,
            ratio: None,
        };
        builder.set_note_at();
        builder
    }

    /// An open batch that is to be compressed, at `ratio` compressed bytes per byte as estimated: worth sending when it is
    /// estimated to compress to `worth` bytes. It has room for `limit` bytes at first.
    pub fn compressed(buffer: Vec<u8>, limit: usize, worth: usize, ratio: f32) -> Self {
        let worth = Self::uncompressed(worth, ratio).min(worth.max(MAX_UNCOMPRESSED));
        Self { ratio: Some(ratio), ..Self::with_worth(buffer, limit.min(worth), worth) }
    }

    /// Bytes, header included, that are estimated to compress to `size`.
    fn uncompressed(size: usize, ratio: f32) -> usize {
        let records = (size.saturating_sub(BATCH_HEADER_LEN) as f32 / (ratio * RATIO_ALLOWANCE)) as usize;
        records.saturating_add(BATCH_HEADER_LEN)
    }

    /// The same batch with the mark that it will be compressed; its limits count bytes before that.
    pub(super) fn with_compression(self) -> Self {
        Self { ratio: Some(1.0), ..self }
    }

    /// Bytes of memory to be added for a record of at most `bound` bytes, preferably `step`. `None`: it takes no more, or it
    /// would be larger than `limit` (bytes as sent, header included) and than its worth.
    pub fn next_chunk(&self, bound: usize, step: usize, limit: usize) -> Option<usize> {
        let limit = match self.ratio {
            None => limit,
            Some(ratio) => Self::uncompressed(limit, ratio).min(MAX_UNCOMPRESSED),
        };
        let rest = limit.max(self.worth).saturating_sub(self.size());
        (!self.closed && bound <= rest).then(|| bound.max(step.min(rest)))
    }

    /// Records go to `buffer` from here on, which has `room` bytes.
    pub fn extend(&mut self, buffer: Vec<u8>, room: usize) {
        self.records.push(buffer);
        self.room = room;
        self.set_note_at();
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
        self.count == 0 || self.records.last_len() + upper_bound <= self.room
    }

    // ----------------------------------------------------------------------------------------- sizes that matter

    /// Whether it has reached its worth, so that waiting for more records is pointless.
    pub fn is_worth_sending(&self) -> bool {
        self.closed || (self.count > 0 && self.size() >= self.worth)
    }

    /// Whether it takes no more records.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether its size has passed a multiple of its worth since the last [`note`](Self::note_size).
    #[inline]
    pub fn has_grown(&self) -> bool {
        self.records.last_len() >= self.note_at
    }

    /// Its size is noted: [`has_grown`](Self::has_grown) is false until it passes the next multiple of its worth.
    pub fn note_size(&mut self) {
        self.noted = self.size() / self.worth.max(1);
        self.set_note_at();
    }

    fn set_note_at(&mut self) {
        let next = self.worth.max(1).saturating_mul(self.noted + 1);
        // At least 1: an empty batch has reached nothing.
        self.note_at = next.saturating_sub(BATCH_HEADER_LEN + self.records.closed_len()).max(1);
    }

    /// How many batches of its worth it stands for.
    pub fn weight(&self) -> usize {
        self.size().div_ceil(self.worth.max(1)).max(1)
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
        BATCH_HEADER_LEN + self.records.len()
    }

    /// Take no more records: it is worth sending as it stands.
    pub fn close(&mut self) {
        self.room = self.room.min(self.records.last_len());
        self.closed = true;
    }

    /// The first record's timestamp in ms since the epoch; -1 while empty.
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// Ends the batch: from here on its bytes never change.
    pub fn seal(self) -> SealedBatch {
        let uncompressed = self.records.len();
        let timestamps = (self.base_timestamp, self.max_timestamp);
        SealedBatch::new(self.records, Codec::None, uncompressed, self.count, timestamps)
    }

    /// Ends the batch and compresses it. Returns its memory, for other batches.
    pub fn encode(self, encoder: &mut Encoder) -> io::Result<(SealedBatch, Chunks)> {
        let codec = encoder.codec();
        // A copy of the right size: the encoder's output has room for what does not compress at all.
        let bytes = encoder.encode(&self.records.joined())?.to_vec();
        let timestamps = (self.base_timestamp, self.max_timestamp);
        let sealed = SealedBatch::new(Chunks::one(bytes), codec, self.records.len(), self.count, timestamps);
        // Here, so that the I/O thread need not.
        sealed.body().crc();
        Ok((sealed, self.records))
    }

    /// The records so far, encoded.
    pub(super) fn records(&self) -> &Chunks {
        &self.records
    }

    /// Size, before compression, from which it is worth sending.
    pub(super) fn worth(&self) -> usize {
        self.worth
    }

    /// Consumes the batch and returns its memory.
    pub fn into_chunks(self) -> Chunks {
        self.records
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
        let body = self.records.last();
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
        let body = self.records.last();
        put_varint(body, headers.len() as i32);
        for header in headers {
            put_varint(body, header.key.len() as i32);
            body.extend_from_slice(header.key);
            put_varint(body, header.value.map_or(-1, |v| v.len() as i32));
            body.extend_from_slice(header.value.unwrap_or_default());
        }
    }

    /// Appends a record taken from another batch, if it fits. Its payload travels verbatim.
    pub(super) fn try_append_moved(&mut self, timestamp: i64, payload: &[u8]) -> Option<u32> {
        let timestamp_delta = self.timestamp_delta(timestamp);
        let len = len_after_prefix(self.count as i32, timestamp_delta, payload.len());
        if !self.has_room(varint_len(len as i32) + len) {
            return None;
        }
        let body = self.records.last();
        put_varint(body, len as i32);
        body.push(0);
        put_varlong(body, timestamp_delta);
        put_varint(body, self.count as i32);
        body.extend_from_slice(payload);
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
        assert_eq!(*sealed.body().bytes(), expected);
        assert_eq!((sealed.base_timestamp(), sealed.max_timestamp()), (1_000, 1_000));
    }

    #[test]
    fn an_empty_batch_takes_any_record_and_is_then_full() {
        let mut builder = BatchBuilder::new(Vec::new(), 100);
        assert!(builder.has_room(1_000_000) && !builder.is_worth_sending() && !builder.has_grown());
        assert_eq!(builder.try_append(0, None, Some(&[0; 500]), NO_HEADERS), Some(0));
        assert!(!builder.has_room(0) && builder.is_worth_sending() && builder.has_grown());
        assert_eq!(builder.try_append(0, None, None, NO_HEADERS), None);
    }

    #[test]
    fn a_buffer_of_the_batch_size_never_grows() {
        let buffer = Vec::with_capacity(1_000 - BATCH_HEADER_LEN);
        let capacity = buffer.capacity();
        let mut builder = BatchBuilder::new(buffer, 1_000);
        while builder.try_append(0, None, Some(b"v"), NO_HEADERS).is_some() {}
        assert!(builder.size() > 990);
        assert_eq!(builder.into_chunks().into_buffers().map(|buffer| buffer.capacity()).sum::<usize>(), capacity);
    }

    #[test]
    fn a_batch_grows_chunk_by_chunk_and_a_record_is_whole_in_one() {
        let mut builder = BatchBuilder::with_worth(Vec::with_capacity(200), 200, 200);
        let mut grown = 0;
        for record in 0..100 {
            let value = vec![record as u8; 30 + record % 7];
            let index = builder.try_append(record as i64, None, Some(&value), NO_HEADERS).unwrap_or_else(|| {
                let room = builder.next_chunk(21 + value.len(), 200, 100_000).unwrap();
                builder.extend(Vec::with_capacity(room), room);
                builder.try_append(record as i64, None, Some(&value), NO_HEADERS).unwrap()
            });
            assert_eq!(index as usize, record);
            if builder.has_grown() {
                grown += 1;
                assert!(builder.is_worth_sending());
                builder.note_size();
                assert!(!builder.has_grown());
            }
        }
        assert_eq!(grown, builder.size() / 200, "once for each multiple");
        assert_eq!(builder.weight(), builder.size().div_ceil(200));
        let size = builder.size();
        assert_eq!(builder.next_chunk(50, 200, size + 49), None, "the limit");
        assert_eq!(builder.next_chunk(50, 200, size + 60), Some(60), "what is left of the limit");
        assert_eq!(builder.next_chunk(500, 200, 100_000), Some(500), "a large record");
        let sealed = builder.seal();
        assert!(sealed.body().chunks().count() > 10);
        assert_eq!(sealed.body().crc(), crate::wire::crc::crc32c(&sealed.body().bytes()));
        let whole = sealed.split(usize::MAX).unwrap().remove(0).1.seal();
        assert_eq!(whole.body().bytes(), sealed.body().bytes());
    }

    #[test]
    fn a_closed_batch_takes_nothing_and_does_not_grow() {
        let mut builder = BatchBuilder::new(Vec::new(), 1_000);
        builder.append(0, None, Some(b"v"), NO_HEADERS);
        builder.close();
        assert!(builder.is_worth_sending());
        assert_eq!(builder.try_append(0, None, None, NO_HEADERS), None);
        assert_eq!(builder.next_chunk(10, 100, 100_000), None);
    }
}
