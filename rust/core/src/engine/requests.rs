//! The batches picked for one broker become a Produce request.

use std::sync::Arc;

use super::{Engine, Picked, TOPIC_IDS_SINCE};
use crate::compression::Codec;
use crate::error_code::UNSUPPORTED_COMPRESSION_TYPE;
use crate::io::connection::{RequestKind, SentBatch};
use crate::io::transport::Transport;
use crate::lane::batch::LastAnswer;
use crate::lane::fate::{Fate, NO_TOPIC_ID};
use crate::wire::produce::{ProducePartition, ProduceTopic, encode_request};

/// From which Produce version on batches may be compressed with zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;

impl<T: Transport> Engine<T> {
    pub(super) fn send(&mut self, broker: i32, mut picked: Vec<Picked>, now_us: u64) {
        picked.sort_by(|a, b| a.lane.topic.cmp(&b.lane.topic).then(a.lane.partition.cmp(&b.lane.partition)));
        let config = &self.shared.config;
        let Some(connection) = self.brokers[&broker].connection.and_then(|id| self.connections.get_mut(&id)) else {
            unreachable!("drain has checked that the broker has a connection")
        };
        // An older broker's metadata has no topic ids (a rolling upgrade): such a topic has only its name, and one of
        // them in a request makes it a request by names (Java: `Sender.sendProduceRequest`).
        let nameless = picked.iter().any(|one| one.outgoing.topic_id == NO_TOPIC_ID);
        let version =
            if nameless { connection.produce_version.min(TOPIC_IDS_SINCE - 1) } else { connection.produce_version };
        if version < ZSTD_SINCE && config.compression.codec == Codec::Zstd {
            return self.refuse_zstd(&picked, version, now_us);
        }
        let partitions: Vec<ProducePartition<'_>> = picked
            .iter()
            .map(|Picked { lane, outgoing }| ProducePartition {
                index: lane.partition,
                header: outgoing.header(),
                body: outgoing.sealed.body(),
            })
            .collect();
        let correlation_id = connection.correlation_id();
        let timeout_ms = i32::try_from(config.request_timeout_us / 1000).unwrap_or(i32::MAX);
        let client_id = Some(config.client_id.as_str());
        let topics = by_topic(&picked, &partitions);
        let segments = encode_request(version, correlation_id, client_id, None, config.acks, timeout_ms, &topics);
        let size: usize = segments.iter().map(|segment| segment.bytes().len()).sum();
        let batches = picked
            .iter()
            .map(|one| SentBatch {
                lane: Arc::clone(&one.lane),
                batch_id: one.outgoing.batch_id,
                topic_id: one.outgoing.topic_id,
                by_name: version < TOPIC_IDS_SINCE,
                answered: false,
            })
            .collect();
        let kind = RequestKind::Produce { version, batches };
        connection.send(correlation_id, kind, segments, now_us, config.request_timeout_us);
        self.writable.insert(connection.id);
        self.count_request(broker, &picked, size);
    }

    fn count_request(&self, broker: i32, picked: &[Picked], size: usize) {
        let mut stats = self.shared.stats.lock();
        stats.in_flight += 1;
        stats.nodes.entry(broker).or_default().requests.record(size as f64);
        stats.records_per_request.record(picked.iter().map(|one| f64::from(one.outgoing.sealed.count())).sum());
        for Picked { lane, outgoing } in picked {
            let sealed = &outgoing.sealed;
            stats.batch_size.record(sealed.size() as f64);
            stats.queue_time.record(outgoing.queued_us as f64 / 1000.0);
            stats.record_size.record(outgoing.largest as f64);
            stats.compression.record(sealed.ratio());
            let topic = stats.topic(&lane.topic);
            topic.bytes += sealed.size() as u64;
            topic.compression.record(sealed.ratio());
            if outgoing.retry {
                topic.retries += u64::from(sealed.count());
            } else {
                topic.records += u64::from(sealed.count());
            }
        }
    }

    /// Consumers of a broker that old cannot read zstd (KIP-110). Nothing was sent, although the lane has counted an
    /// attempt. Java refuses the same (`ProduceRequest.validateRecords`).
    fn refuse_zstd(&mut self, picked: &[Picked], version: i16, now_us: u64) {
        for Picked { lane, outgoing } in picked {
            let message = format!(
                "the broker takes Produce version {version} at most, and zstd needs {ZSTD_SINCE} (Kafka 2.1): set \
                 compression.type to lz4, snappy, gzip or none"
            );
            let last = LastAnswer::error(UNSUPPORTED_COMPRESSION_TYPE, message);
            let mut inner = lane.inner.lock();
            if let Some(batch) = inner.answered(outgoing.batch_id) {
                inner.settle(batch, Fate::Unsent, true, last);
            }
            drop(inner);
            self.after_answer(lane, now_us);
        }
    }
}

/// `picked` is sorted by topic, and `partitions` is in the same order.
fn by_topic<'a>(picked: &'a [Picked], partitions: &'a [ProducePartition<'a>]) -> Vec<ProduceTopic<'a>> {
    let mut topics = Vec::new();
    let mut left = partitions;
    for same in picked
        .chunk_by(|one, next| one.lane.topic == next.lane.topic && one.outgoing.topic_id == next.outgoing.topic_id)
    {
        let (these, others) = left.split_at(same.len());
        left = others;
        topics.push(ProduceTopic { name: &same[0].lane.topic, id: same[0].outgoing.topic_id, partitions: these });
    }
    topics
}
