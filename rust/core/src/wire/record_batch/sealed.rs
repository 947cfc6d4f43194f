//! A finished batch: its records, which never change, and the header of each attempt.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use super::chunks::Chunks;
use crate::compression::Codec;
use crate::wire::crc::{crc32c, crc32c_append, crc32c_combine};

/// Bytes in front of the records: base offset to record count.
pub const BATCH_HEADER_LEN: usize = 61;

/// Where the checksummed part of the header begins: the attributes, right after the checksum itself.
const CRC_START: usize = 21;

/// The records of a sealed batch with their checksum. Shared with whatever socket is still writing them; the buffers
/// can be had back only when the last holder lets go ([`Arc::try_unwrap`], then [`into_chunks`](Self::into_chunks)).
#[derive(Debug)]
pub struct Body {
    records: Chunks,
    /// Computed when it is first needed: that may take 100 µs, which no lock should be held for.
    crc: OnceLock<u32>,
}

impl Body {
    /// The encoded records.
    pub fn chunks(&self) -> &Chunks {
        &self.records
    }

    /// The encoded records in one slice: copied if they are in several pieces.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        self.records.joined()
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// CRC-32C of the records.
    pub fn crc(&self) -> u32 {
        *self.crc.get_or_init(|| self.records.iter().fold(0, crc32c_append))
    }

    /// The memory, for other batches. Takes the body by value: no reader is left.
    pub fn into_chunks(self) -> Chunks {
        self.records
    }
}

/// A finished batch. Cheap to clone; nothing changes it.
#[derive(Clone, Debug)]
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
    /// Encoded records, as they go onto the wire.
    pub(super) fn new(
        records: Chunks,
        codec: Codec,
        uncompressed: usize,
        count: u32,
        (base_timestamp, max_timestamp): (i64, i64),
    ) -> Self {
        let body = Arc::new(Body { records, crc: OnceLock::new() });
        Self { body, codec, uncompressed, count, base_timestamp, max_timestamp }
    }

    /// The records, to be held by a write queue for as long as it needs them.
    pub fn body(&self) -> &Arc<Body> {
        &self.body
    }

    /// Consumes the batch and returns its records, the step before recycling the buffer.
    pub fn into_body(self) -> Arc<Body> {
        self.body
    }

    /// Records in the batch.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes on the wire, the header's 61 included.
    pub fn size(&self) -> usize {
        BATCH_HEADER_LEN + self.body.len()
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
        self.body.len() as f64 / self.uncompressed.max(1) as f64
    }

    /// The first record's timestamp in ms since the epoch.
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// The largest timestamp in ms since the epoch.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// The 61 bytes in front of the body for one attempt. Only the first one reads the body, for its checksum: not under a
    /// lock.
    ///
    /// `attributes` are those of the producer; the codec's are added here. Without idempotence the three identity fields
    /// are -1. The partition leader epoch is -1, as from any producer: the broker sets it, so the checksum omits it.
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
        let crc = crc32c_combine(crc32c(&out[CRC_START..]), self.body.crc(), self.body.len());
        out[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
        out
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::record_batch::BatchBuilder;

    fn batch_of(values: &[&[u8]]) -> BatchBuilder {
        let mut builder = BatchBuilder::new(Vec::new(), 16_384);
        for value in values {
            builder.append(1_000, None, Some(value), &[]);
        }
        builder
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
        assert_eq!(*sealed.body().bytes(), before);
        for header in [first, renumbered] {
            let mut whole = header[CRC_START..].to_vec();
            whole.extend_from_slice(&sealed.body().bytes());
            assert_eq!(header[17..21], crc32c(&whole).to_be_bytes());
        }
    }

    #[test]
    fn a_released_body_gives_its_buffer_back() {
        let sealed = batch_of(&[b"a"]).seal();
        let held = Arc::clone(sealed.body());
        let body = Arc::try_unwrap(sealed.into_body()).expect_err("a socket still holds it");
        drop(held);
        let buffers: Vec<_> = Arc::try_unwrap(body).expect("the last holder").into_chunks().into_buffers().collect();
        assert!(buffers.len() == 1 && buffers[0].capacity() > 0);
    }
}
