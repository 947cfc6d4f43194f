//! A Produce request as a list of segments: the bodies of its batches go from the accumulator's buffers to the socket
//! by reference.

use std::sync::Arc;

use super::versions::{FIRST_FLEXIBLE, FIRST_WITH_TOPIC_ID, MAX_VERSION, MIN_VERSION};
use crate::wire::record_batch::{BATCH_HEADER_LEN, Body};
use crate::wire::varint::put_uvarint;

const API_KEY: i16 = 0;

/// The batches of one topic.
#[derive(Clone, Copy, Debug)]
pub struct ProduceTopic<'a> {
    /// Sent up to version 12.
    pub name: &'a str,
    /// Sent from version 13.
    pub id: [u8; 16],
    /// At most one batch for each partition.
    pub partitions: &'a [ProducePartition<'a>],
}

/// One batch for one partition.
#[derive(Clone, Copy, Debug)]
pub struct ProducePartition<'a> {
    /// The partition.
    pub index: i32,
    /// This attempt's header, from [`SealedBatch::header`](crate::wire::record_batch::SealedBatch::header).
    pub header: [u8; BATCH_HEADER_LEN],
    /// The records, shared.
    pub body: &'a Arc<Body>,
}

/// A stretch of a request, in the order of writing.
#[derive(Clone, Debug)]
pub enum Segment {
    /// Bytes that belong to this request alone.
    Owned(Vec<u8>),
    /// A piece of the records of a batch, held until the socket has it.
    Body(Arc<Body>, usize),
}

impl Segment {
    /// The bytes to write.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Body(body, piece) => body.chunks().piece(*piece),
        }
    }
}

/// Encodes a request with its four bytes of frame length. Adjacent bytes of its own are one segment; bodies are shared.
///
/// The caller has negotiated `version` (3 to 13) and has checked that no string is longer than 32,767 bytes and that
/// the whole stays below 2 GiB.
pub fn encode_request(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    transactional_id: Option<&str>,
    acks: i16,
    timeout_ms: i32,
    topics: &[ProduceTopic<'_>],
) -> Vec<Segment> {
    debug_assert!((MIN_VERSION..=MAX_VERSION).contains(&version));
    let mut w = Writer::new(version >= FIRST_FLEXIBLE);
    w.put(&API_KEY.to_be_bytes());
    w.put(&version.to_be_bytes());
    w.put(&correlation_id.to_be_bytes());
    w.classic_string(client_id); // never compact, so that any broker can read the header of any request
    w.no_tags();

    w.nullable_string(transactional_id);
    w.put(&acks.to_be_bytes());
    w.put(&timeout_ms.to_be_bytes());
    w.array_len(topics.len());
    for topic in topics {
        if version >= FIRST_WITH_TOPIC_ID {
            w.put(&topic.id);
        } else {
            w.nullable_string(Some(topic.name));
        }
        w.array_len(topic.partitions.len());
        for partition in topic.partitions {
            w.put(&partition.index.to_be_bytes());
            w.records(&partition.header, partition.body);
            w.no_tags();
        }
        w.no_tags();
    }
    w.no_tags();
    w.finish()
}

/// Collects segments; everything since the last body is in `tail`.
struct Writer {
    flexible: bool,
    done: Vec<Segment>,
    done_len: usize,
    tail: Vec<u8>,
}

impl Writer {
    fn new(flexible: bool) -> Self {
        let mut tail = Vec::with_capacity(256);
        tail.extend_from_slice(&[0; 4]); // the frame length, known at the end
        Self { flexible, done: Vec::new(), done_len: 0, tail }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    fn no_tags(&mut self) {
        if self.flexible {
            self.tail.push(0);
        }
    }

    fn classic_string(&mut self, s: Option<&str>) {
        debug_assert!(s.is_none_or(|s| i16::try_from(s.len()).is_ok()));
        self.put(&s.map_or(-1, |s| s.len() as i16).to_be_bytes());
        self.put(s.unwrap_or_default().as_bytes());
    }

    fn nullable_string(&mut self, s: Option<&str>) {
        if self.flexible {
            put_uvarint(&mut self.tail, s.map_or(0, |s| s.len() as u32 + 1));
            self.put(s.unwrap_or_default().as_bytes());
        } else {
            self.classic_string(s);
        }
    }

    /// The length of an array, or of bytes: the same encoding.
    fn array_len(&mut self, len: usize) {
        if self.flexible {
            put_uvarint(&mut self.tail, len as u32 + 1);
        } else {
            self.put(&(len as i32).to_be_bytes());
        }
    }

    fn records(&mut self, header: &[u8; BATCH_HEADER_LEN], body: &Arc<Body>) {
        self.array_len(BATCH_HEADER_LEN + body.len());
        self.put(header);
        self.end_tail();
        self.done_len += body.len();
        self.done.extend((0..body.chunks().count()).map(|piece| Segment::Body(Arc::clone(body), piece)));
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.done_len += self.tail.len();
            self.done.push(Segment::Owned(std::mem::take(&mut self.tail)));
        }
    }

    fn finish(mut self) -> Vec<Segment> {
        self.end_tail();
        let frame_len = (self.done_len - 4) as i32;
        if let Some(Segment::Owned(first)) = self.done.first_mut() {
            first[..4].copy_from_slice(&frame_len.to_be_bytes());
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::record_batch::BatchBuilder;

    fn joined(segments: &[Segment]) -> Vec<u8> {
        segments.iter().flat_map(Segment::bytes).copied().collect()
    }

    #[test]
    fn bodies_are_shared_and_everything_between_them_is_one_segment() {
        let mut builder = BatchBuilder::new(Vec::new(), 16_384);
        builder.append(0, None, Some(b"v"), &[]);
        let batch = builder.seal();
        let partition = |index| ProducePartition { index, header: batch.header(1, 0, 0, 0), body: batch.body() };
        let topics = [ProduceTopic { name: "t", id: [9; 16], partitions: &[partition(0), partition(1)] }];
        let classic = encode_request(3, 1, None, None, -1, 1_000, &topics);
        let flexible = encode_request(13, 1, None, None, -1, 1_000, &topics);
        assert_eq!((classic.len(), flexible.len()), (4, 5));
        for segments in [classic, flexible] {
            let frame_len = joined(&segments).len() - 4;
            assert_eq!(segments[0].bytes()[..4], (frame_len as i32).to_be_bytes());
            for body in [&segments[1], &segments[3]] {
                assert!(matches!(body, Segment::Body(body, 0) if Arc::ptr_eq(body, batch.body())));
            }
        }
    }
}
