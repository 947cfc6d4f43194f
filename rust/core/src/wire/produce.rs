//! The one API that never visits Python: Produce requests out and their responses in, versions 3 to 13.
//!
//! What changed with the versions, as far as the bytes go: 5 added the log start offset, 8 per-record errors (KIP-467),
//! 9 compact lengths and tagged fields, 10 the new leader and its address (KIP-951), 13 topic ids instead of names.
//!
//! A request is a list of segments, so that the bodies of its batches go from the accumulator's buffers to the socket
//! by reference. A response is untrusted: every length is checked against the bytes that are there before anything is
//! allocated, and no name is copied per partition (one long name and many partitions would multiply).

use std::fmt;
use std::sync::Arc;

use crate::wire::record_batch::{BATCH_HEADER_LEN, Body};
use crate::wire::varint::{put_uvarint, read_u64};

/// The oldest version we speak; brokers since 0.11, and the oldest that a 4.x broker accepts.
pub const MIN_VERSION: i16 = 3;
/// The newest version we speak.
pub const MAX_VERSION: i16 = 13;

const API_KEY: i16 = 0;
const FIRST_WITH_LOG_START_OFFSET: i16 = 5;
const FIRST_WITH_RECORD_ERRORS: i16 = 8;
const FIRST_FLEXIBLE: i16 = 9;
const FIRST_WITH_LEADER: i16 = 10;
const FIRST_WITH_TOPIC_ID: i16 = 13;

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
    /// The records of a batch, held until the socket has them.
    Body(Arc<Body>),
}

impl Segment {
    /// The bytes to write.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Body(body) => body.bytes(),
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
        self.array_len(BATCH_HEADER_LEN + body.bytes().len());
        self.put(header);
        self.end_tail();
        self.done_len += body.bytes().len();
        self.done.push(Segment::Body(Arc::clone(body)));
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

/// What a broker answered to a Produce request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceResponse {
    /// How long to leave this broker alone, in ms (KIP-219: the client does the waiting).
    pub throttle_time_ms: i32,
    /// The answers, topics flattened.
    pub partitions: Vec<PartitionResponse>,
    /// Where the leaders named in the answers are; empty before version 10.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// How a response names a topic. Cheap to clone: its partitions share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// Up to version 12.
    Name(Arc<str>),
    /// From version 13.
    Id([u8; 16]),
}

/// The answer for one partition's batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionResponse {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub index: i32,
    /// 0 is success.
    pub error_code: i16,
    /// Offset of the batch's first record; -1 if unknown.
    pub base_offset: i64,
    /// The broker's time of appending in ms since the epoch; -1 where the topic keeps the producer's timestamps.
    pub log_append_time_ms: i64,
    /// First offset still in the partition's log; -1 before version 5.
    pub log_start_offset: i64,
    /// The records that had the batch rejected, by index in the batch, with reasons (KIP-467).
    pub record_errors: Vec<(i32, Option<String>)>,
    /// The reason for the whole batch.
    pub error_message: Option<String>,
    /// Id and epoch of the leader to use instead, if the broker knows both (KIP-951).
    pub current_leader: Option<(i32, i32)>,
}

/// The address of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// The broker's id.
    pub broker_id: i32,
    /// Host name or address, as advertised.
    pub host: String,
    /// Port. An `i32` on the wire, and not checked here.
    pub port: i32,
    /// The rack, if the broker has one.
    pub rack: Option<String>,
}

/// A response that is not one: the connection it came from cannot be trusted any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub what: &'static str,
    /// Where in the frame, in bytes after its length.
    pub at: usize,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl std::error::Error for ParseError {}

/// The correlation id that any response frame (after its length) begins with.
pub fn response_correlation_id(frame: &[u8]) -> Result<i32, ParseError> {
    Reader::new(frame, false).i32()
}

/// Parses a response frame without its length: its correlation id and what it says.
///
/// Fails on a version other than 3 to 13, on truncation, on bytes left over, on lengths that the frame cannot hold and
/// on text that is not UTF-8. Tagged fields that we do not know are skipped.
pub fn parse_response(version: i16, frame: &[u8]) -> Result<(i32, ProduceResponse), ParseError> {
    let mut r = Reader::new(frame, version >= FIRST_FLEXIBLE);
    if !(MIN_VERSION..=MAX_VERSION).contains(&version) {
        return Err(r.error("a Produce version that we do not speak"));
    }
    let correlation_id = r.i32()?;
    r.skip_tags()?;

    let mut partitions = Vec::new();
    for _ in 0..r.array_len(MIN_TOPIC_LEN)? {
        parse_topic(version, &mut r, &mut partitions)?;
    }
    let throttle_time_ms = r.i32()?;
    let mut node_endpoints = Vec::new();
    r.tags(|tag, field| {
        if tag == 0 && version >= FIRST_WITH_LEADER {
            node_endpoints = parse_node_endpoints(field)?;
            field.end()?;
        }
        Ok(())
    })?;
    r.end()?;
    Ok((correlation_id, ProduceResponse { throttle_time_ms, partitions, node_endpoints }))
}

// The fewest bytes that one element of each array can take in any version. An array that claims more elements than the
// rest of the frame could hold is refused before anything is allocated for it.
const MIN_TOPIC_LEN: usize = 2;
const MIN_PARTITION_LEN: usize = 4 + 2 + 8 + 8;
const MIN_RECORD_ERROR_LEN: usize = 4 + 1;
const MIN_NODE_ENDPOINT_LEN: usize = 4 + 1 + 4 + 1;

fn parse_topic(version: i16, r: &mut Reader<'_>, partitions: &mut Vec<PartitionResponse>) -> Result<(), ParseError> {
    let topic =
        if version >= FIRST_WITH_TOPIC_ID { TopicRef::Id(r.array()?) } else { TopicRef::Name(r.string()?.into()) };
    let len = r.array_len(MIN_PARTITION_LEN)?;
    partitions.reserve(len);
    for _ in 0..len {
        partitions.push(parse_partition(version, r, topic.clone())?);
    }
    r.skip_tags()
}

fn parse_partition(version: i16, r: &mut Reader<'_>, topic: TopicRef) -> Result<PartitionResponse, ParseError> {
    let mut partition = PartitionResponse {
        topic,
        index: r.i32()?,
        error_code: r.i16()?,
        base_offset: r.i64()?,
        log_append_time_ms: r.i64()?,
        log_start_offset: -1,
        record_errors: Vec::new(),
        error_message: None,
        current_leader: None,
    };
    if version >= FIRST_WITH_LOG_START_OFFSET {
        partition.log_start_offset = r.i64()?;
    }
    if version >= FIRST_WITH_RECORD_ERRORS {
        let len = r.array_len(MIN_RECORD_ERROR_LEN)?;
        partition.record_errors.reserve(len);
        for _ in 0..len {
            let record_error = (r.i32()?, r.nullable_string()?.map(str::to_owned));
            r.skip_tags()?;
            partition.record_errors.push(record_error);
        }
        partition.error_message = r.nullable_string()?.map(str::to_owned);
    }
    r.tags(|tag, field| {
        if tag == 0 && version >= FIRST_WITH_LEADER {
            let (id, epoch) = (field.i32()?, field.i32()?);
            field.skip_tags()?;
            field.end()?;
            // -1 stands for "unknown"; half an answer is none, as in Java's Sender.
            partition.current_leader = (id >= 0 && epoch >= 0).then_some((id, epoch));
        }
        Ok(())
    })?;
    Ok(partition)
}

fn parse_node_endpoints(r: &mut Reader<'_>) -> Result<Vec<NodeEndpoint>, ParseError> {
    let len = r.array_len(MIN_NODE_ENDPOINT_LEN)?;
    let mut endpoints = Vec::with_capacity(len);
    for _ in 0..len {
        endpoints.push(NodeEndpoint {
            broker_id: r.i32()?,
            host: r.string()?.to_owned(),
            port: r.i32()?,
            rack: r.nullable_string()?.map(str::to_owned),
        });
        r.skip_tags()?;
    }
    Ok(endpoints)
}

/// Walks over untrusted bytes. A tagged field is read through a reader of its own that ends where the field does.
struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    flexible: bool,
}

impl<'a> Reader<'a> {
    fn new(data: &'a [u8], flexible: bool) -> Self {
        Self { data, at: 0, flexible }
    }

    fn error(&self, what: &'static str) -> ParseError {
        ParseError { what, at: self.at }
    }

    fn remaining(&self) -> usize {
        self.data.len() - self.at
    }

    fn end(&self) -> Result<(), ParseError> {
        if self.remaining() == 0 { Ok(()) } else { Err(self.error("bytes left over")) }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], ParseError> {
        if len > self.remaining() {
            return Err(self.error("the frame ends too early"));
        }
        let bytes = &self.data[self.at..self.at + len];
        self.at += len;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn i16(&mut self) -> Result<i16, ParseError> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, ParseError> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, ParseError> {
        self.array().map(i64::from_be_bytes)
    }

    fn uvarint(&mut self) -> Result<u32, ParseError> {
        let (value, len) =
            read_u64(&self.data[self.at..], 32).ok_or_else(|| self.error("a varint without end or too large"))?;
        self.at += len;
        Ok(value as u32)
    }

    /// A compact length is the length plus one, so that zero can mean null.
    fn compact_len(&mut self) -> Result<Option<usize>, ParseError> {
        Ok(self.uvarint()?.checked_sub(1).map(|len| len as usize))
    }

    fn nullable_string(&mut self) -> Result<Option<&'a str>, ParseError> {
        let len = if self.flexible {
            self.compact_len()?
        } else {
            match self.i16()? {
                -1 => None,
                len => Some(usize::try_from(len).map_err(|_| self.error("a negative length"))?),
            }
        };
        let Some(len) = len else { return Ok(None) };
        let start = self.at;
        std::str::from_utf8(self.take(len)?)
            .map(Some)
            .map_err(|_| ParseError { what: "text that is not UTF-8", at: start })
    }

    fn string(&mut self) -> Result<&'a str, ParseError> {
        self.nullable_string()?.ok_or_else(|| self.error("null where a string must be"))
    }

    /// The length of an array whose elements take at least `min_element_len` bytes each.
    fn array_len(&mut self, min_element_len: usize) -> Result<usize, ParseError> {
        let len = if self.flexible { self.compact_len()? } else { usize::try_from(self.i32()?).ok() };
        let len = len.ok_or_else(|| self.error("null where an array must be"))?;
        if len > self.remaining() / min_element_len {
            return Err(self.error("an array longer than the frame"));
        }
        Ok(len)
    }

    /// Hands each tagged field to `known`, which may leave it unread; none where the version has no tags.
    fn tags(&mut self, mut known: impl FnMut(u32, &mut Self) -> Result<(), ParseError>) -> Result<(), ParseError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let len = self.uvarint()? as usize;
            let start = self.at;
            self.take(len)?;
            let mut field = Reader { data: &self.data[..self.at], at: start, flexible: true };
            known(tag, &mut field)?;
        }
        Ok(())
    }

    fn skip_tags(&mut self) -> Result<(), ParseError> {
        self.tags(|_, _| Ok(()))
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
                assert!(matches!(body, Segment::Body(body) if Arc::ptr_eq(body, batch.body())));
            }
        }
    }

    #[test]
    fn the_correlation_id_needs_four_bytes() {
        assert_eq!(response_correlation_id(&[0, 0, 1, 2, 9]), Ok(258));
        assert!(response_correlation_id(&[0, 0, 1]).is_err());
    }

    #[test]
    fn a_version_that_we_do_not_speak_is_refused() {
        for version in [i16::MIN, 2, 14] {
            assert!(parse_response(version, &[0; 64]).is_err());
        }
    }

    #[test]
    fn an_array_that_the_frame_cannot_hold_allocates_nothing() {
        let mut frame = vec![0, 0, 0, 1];
        frame.extend_from_slice(&i32::MAX.to_be_bytes());
        let error = parse_response(3, &frame).unwrap_err();
        assert_eq!(error.to_string(), "an array longer than the frame at byte 8");
    }
}
