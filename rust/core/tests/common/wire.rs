//! Kafka's Produce responses, written from its message definitions, in every version: answers of honest brokers.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use penstock_core::wire::produce::{NodeEndpoint, PartitionResponse, ProduceResponse, TopicRef};
use penstock_core::wire::varint::put_uvarint;

/// The wire as one version has it. Optional unknown tags go wherever the version allows tags.
pub struct Wire {
    pub version: i16,
    pub unknown_tags: bool,
    pub out: Vec<u8>,
}

impl Wire {
    fn flexible(&self) -> bool {
        self.version >= 9
    }

    pub fn put(&mut self, bytes: impl AsRef<[u8]>) {
        self.out.extend_from_slice(bytes.as_ref());
    }

    pub fn len(&mut self, len: usize) {
        if self.flexible() {
            put_uvarint(&mut self.out, len as u32 + 1);
        } else {
            self.put((len as i32).to_be_bytes());
        }
    }

    pub fn string(&mut self, s: Option<&str>) {
        match (self.flexible(), s) {
            (true, None) => self.put([0]),
            (true, Some(s)) => self.len(s.len()),
            (false, s) => self.put(s.map_or(-1, |s| s.len() as i16).to_be_bytes()),
        }
        self.put(s.unwrap_or_default());
    }

    pub fn tags(&mut self, known: Option<Vec<u8>>) {
        if !self.flexible() {
            return;
        }
        put_uvarint(&mut self.out, u32::from(known.is_some()) + u32::from(self.unknown_tags));
        if let Some(field) = known {
            self.put([0]);
            put_uvarint(&mut self.out, field.len() as u32);
            self.put(field);
        }
        if self.unknown_tags {
            self.put([0xe8, 0x07, 3, 1, 2, 3]); // tag 1000, three bytes
        }
    }

    /// The content of a tagged field, in the same dialect.
    fn field(&self, write: impl FnOnce(&mut Wire)) -> Vec<u8> {
        let mut field = Wire { out: Vec::new(), ..*self };
        write(&mut field);
        field.out
    }

    fn partition(&mut self, p: &PartitionResponse) {
        self.put(p.index.to_be_bytes());
        self.put(p.error_code.to_be_bytes());
        self.put(p.base_offset.to_be_bytes());
        self.put(p.log_append_time_ms.to_be_bytes());
        if self.version >= 5 {
            self.put(p.log_start_offset.to_be_bytes());
        }
        if self.version >= 8 {
            self.len(p.record_errors.len());
            for (index, message) in &p.record_errors {
                self.put(index.to_be_bytes());
                self.string(message.as_deref());
                self.tags(None);
            }
            self.string(p.error_message.as_deref());
        }
        let leader = p.current_leader.map(|(id, epoch)| {
            self.field(|w| {
                w.put(id.to_be_bytes());
                w.put(epoch.to_be_bytes());
                w.tags(None);
            })
        });
        self.tags(leader);
    }

    fn node_endpoints(&mut self, endpoints: &[NodeEndpoint]) {
        self.len(endpoints.len());
        for endpoint in endpoints {
            self.put(endpoint.broker_id.to_be_bytes());
            self.string(Some(&endpoint.host));
            self.put(endpoint.port.to_be_bytes());
            self.string(endpoint.rack.as_deref());
            self.tags(None);
        }
    }
}

/// A response frame, without its length, as a broker of that version writes it.
pub fn encode(version: i16, unknown_tags: bool, correlation_id: i32, response: &ProduceResponse) -> Vec<u8> {
    let mut w = Wire { version, unknown_tags, out: Vec::new() };
    w.put(correlation_id.to_be_bytes());
    w.tags(None);
    let topics: Vec<_> = response.partitions.chunk_by(|a, b| a.topic == b.topic).collect();
    w.len(topics.len());
    for partitions in topics {
        match &partitions[0].topic {
            TopicRef::Name(name) => w.string(Some(name)),
            TopicRef::Id(id) => w.put(id),
        }
        w.len(partitions.len());
        for partition in partitions {
            w.partition(partition);
        }
        w.tags(None);
    }
    w.put(response.throttle_time_ms.to_be_bytes());
    let endpoints =
        (!response.node_endpoints.is_empty()).then(|| w.field(|w| w.node_endpoints(&response.node_endpoints)));
    w.tags(endpoints);
    w.out
}

/// The part of a response that remains in a version that lacks some fields.
pub fn as_of(version: i16, mut response: ProduceResponse) -> ProduceResponse {
    for (i, p) in response.partitions.iter_mut().enumerate() {
        p.topic = if version >= 13 {
            TopicRef::Id([(i / 2) as u8; 16])
        } else {
            TopicRef::Name(format!("topic-{}", i / 2).into())
        };
        if version < 5 {
            p.log_start_offset = -1;
        }
        if version < 8 {
            p.record_errors.clear();
            p.error_message = None;
        }
        if version < 10 {
            p.current_leader = None;
        }
    }
    if version < 10 {
        response.node_endpoints.clear();
    }
    response
}
