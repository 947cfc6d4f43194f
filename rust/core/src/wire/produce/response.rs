//! A Produce response. It is untrusted: every length is checked against the bytes that remain before anything is
//! allocated, and no name is copied per partition (one long name and many partitions would multiply).

use std::sync::Arc;

use super::reader::{ParseError, Reader};
use super::versions::{
    FIRST_FLEXIBLE, FIRST_WITH_LEADER, FIRST_WITH_LOG_START_OFFSET, FIRST_WITH_RECORD_ERRORS, FIRST_WITH_TOPIC_ID,
    MAX_VERSION, MIN_VERSION,
};

/// A broker's answer to a Produce request.
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

/// Parses a response frame without its length: its correlation id and its content.
///
/// Fails on a version other than 3 to 13, on truncation, on bytes left over, on lengths that the frame cannot hold and
/// on text that is not UTF-8. Unknown tagged fields are skipped.
pub fn parse_response(version: i16, frame: &[u8]) -> Result<(i32, ProduceResponse), ParseError> {
    let mut r = Reader::new(frame, version >= FIRST_FLEXIBLE);
    if !(MIN_VERSION..=MAX_VERSION).contains(&version) {
        return Err(r.error("an unsupported Produce version"));
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

#[cfg(test)]
mod tests {
    use super::*;

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
