//! Records move to another batch: a batch that a broker found too large becomes several (KIP-126), and a batch loses
//! the records at its front whose time ran out.

use std::borrow::Cow;

use super::builder::BatchBuilder;
use super::record::{MAX_RECORD_OVERHEAD, next_record};
use super::sealed::{BATCH_HEADER_LEN, SealedBatch};
use crate::compression::{Codec, DecodeError, decompress};

impl SealedBatch {
    /// Splits the batch into children of at most `limit` bytes each, in order, with the index here of each child's first
    /// record. A record larger than the limit gets a child of its own, so
    /// a batch of one record splits into itself.
    ///
    /// Only the deltas in front of each record change; its key, value and headers are moved as encoded bytes. The
    /// children of a compressed batch are still to be compressed, and `limit` counts their bytes before that. An error
    /// means that the batch's own bytes cannot be read.
    pub fn split(&self, limit: usize) -> Result<Vec<(u32, BatchBuilder)>, DecodeError> {
        let bytes = self.expanded()?;
        let mut children = Vec::new();
        let mut first = 0;
        let mut child = self.child(limit);
        for (index, (timestamp_delta, payload)) in records(&bytes, self.count()) {
            let timestamp = self.base_timestamp().wrapping_add(timestamp_delta);
            if child.try_append_moved(timestamp, payload).is_none() {
                let full = std::mem::replace(&mut child, self.child(limit));
                children.push((first, full));
                first = index;
                child.try_append_moved(timestamp, payload);
            }
        }
        if child.count() > 0 {
            children.push((first, child));
        }
        Ok(children)
    }

    /// The records from `first` on, in a batch that takes no more. It is still to be compressed if this one is.
    pub fn without(&self, first: u32) -> Result<BatchBuilder, DecodeError> {
        let bytes = self.expanded()?;
        let rest = rest_of(&bytes, self.count(), first, self.base_timestamp());
        Ok(if self.codec() == Codec::None { rest } else { rest.with_compression() })
    }

    /// The encoded records before compression.
    fn expanded(&self) -> Result<Cow<'_, [u8]>, DecodeError> {
        let bytes = self.body().bytes();
        if self.codec() == Codec::None {
            return Ok(bytes);
        }
        decompress(self.codec(), &bytes, self.uncompressed_size() - BATCH_HEADER_LEN).map(Cow::Owned)
    }

    fn child(&self, limit: usize) -> BatchBuilder {
        let capacity = limit.min(self.uncompressed_size()).saturating_sub(BATCH_HEADER_LEN);
        let child = BatchBuilder::new(Vec::with_capacity(capacity), limit);
        if self.codec() == Codec::None { child } else { child.with_compression() }
    }
}

impl BatchBuilder {
    /// The records from `first` on, in a batch that takes no more. It is to be compressed if this one is.
    #[must_use]
    pub fn without(&self, first: u32) -> Self {
        let rest = rest_of(&self.bytes(), self.count(), first, self.base_timestamp());
        if self.is_compressed() { rest.with_compression() } else { rest }
    }
}

/// The records from `first` on, of `count` that are encoded in `bytes`.
fn rest_of(bytes: &[u8], count: u32, first: u32, base_timestamp: i64) -> BatchBuilder {
    let kept = records(bytes, count).skip(first as usize);
    let capacity = kept.clone().map(|(_, (_, payload))| MAX_RECORD_OVERHEAD + payload.len()).sum();
    // No limit but the records themselves: their deltas may grow with another base.
    let mut rest = BatchBuilder::new(Vec::with_capacity(capacity), usize::MAX);
    for (_, (timestamp_delta, payload)) in kept {
        rest.try_append_moved(base_timestamp.wrapping_add(timestamp_delta), payload);
    }
    rest.close();
    rest
}

/// `count` records encoded by [`BatchBuilder`]: (index, (timestamp delta, key, value and headers as they are encoded)).
fn records(bytes: &[u8], count: u32) -> impl Iterator<Item = (u32, (i64, &[u8]))> + Clone {
    let mut rest = bytes;
    (0..count).map(move |index| {
        let (timestamp_delta, payload, after) = next_record(rest).expect("the records were written by BatchBuilder");
        rest = after;
        (index, (timestamp_delta, payload))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::{Compression, Encoder};
    use crate::wire::record_batch::Header;

    fn builder(records: impl IntoIterator<Item = (i64, &'static [u8])>) -> BatchBuilder {
        let mut builder = BatchBuilder::new(Vec::new(), 16_384);
        for (timestamp, value) in records {
            builder.append(timestamp, Some(b"k"), Some(value), &[Header { key: b"h", value: None }]);
        }
        builder
    }

    #[test]
    fn the_rest_of_a_batch_is_what_it_would_be_without_the_front() {
        let all: [(i64, &[u8]); 4] = [(1_000, b"a"), (70_000, b"bb"), (-5, b""), (1_001, b"dddd")];
        for first in 1..4 {
            let expected = builder(all[first..].iter().copied()).seal();
            let rest = builder(all).without(first as u32);
            assert!(rest.is_worth_sending() && !rest.has_room(1), "it takes no more");
            let of_sealed = builder(all).seal().without(first as u32).unwrap().seal();
            for rest in [rest.seal(), of_sealed] {
                assert_eq!(rest.body().bytes(), expected.body().bytes());
                assert_eq!(rest.header(7, 0, 3, 0), expected.header(7, 0, 3, 0));
            }
        }
    }

    #[test]
    fn the_rest_of_a_compressed_batch_is_to_be_compressed_again() {
        let all: [(i64, &[u8]); 3] = [(1_000, b"a"), (2_000, b"bb"), (3_000, b"ccc")];
        let mut encoder = Encoder::new(Compression { codec: Codec::Lz4, level: 1 }).unwrap();
        let (sealed, _) = builder(all).encode(&mut encoder).unwrap();
        let rest = sealed.without(1).unwrap();
        assert!(rest.is_compressed());
        let expected = builder(all[1..].iter().copied()).encode(&mut encoder).unwrap().0;
        assert_eq!(rest.encode(&mut encoder).unwrap().0.body().bytes(), expected.body().bytes());
        assert!(builder(all).with_compression().without(2).is_compressed());
    }

    #[test]
    fn a_batch_of_one_splits_into_itself() {
        let mut builder = BatchBuilder::new(Vec::new(), 16_384);
        builder.append(1_000, None, Some(&[7; 300]), &[]);
        let sealed = builder.seal();
        let mut children = sealed.split(100).unwrap();
        assert_eq!(children.len(), 1);
        let (first, child) = children.remove(0);
        assert_eq!(first, 0);
        assert_eq!(child.seal().body().bytes(), sealed.body().bytes());
    }
}
