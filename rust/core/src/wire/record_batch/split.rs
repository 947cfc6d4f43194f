//! KIP-126: a batch that a broker found too large becomes several.

use super::builder::BatchBuilder;
use super::chunks::Chunks;
use super::record::next_record;
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
        let uncompressed = self.uncompressed_size() - BATCH_HEADER_LEN;
        let expanded;
        let records = if self.codec() == Codec::None {
            self.body().chunks()
        } else {
            expanded = Chunks::one(decompress(self.codec(), &self.body().bytes(), uncompressed)?);
            &expanded
        };
        let mut pieces = records.iter();
        let mut rest: &[u8] = &[];
        let mut children = Vec::new();
        let mut first = 0;
        let mut child = self.child(limit);
        for index in 0..self.count() {
            while rest.is_empty() {
                rest = pieces.next().expect("the body was written by BatchBuilder");
            }
            let (timestamp_delta, payload, after) = next_record(rest).expect("the body was written by BatchBuilder");
            let timestamp = self.base_timestamp().wrapping_add(timestamp_delta);
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
        let capacity = limit.min(self.uncompressed_size()).saturating_sub(BATCH_HEADER_LEN);
        let child = BatchBuilder::new(Vec::with_capacity(capacity), limit);
        if self.codec() == Codec::None { child } else { child.with_compression() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
