//! Applies the control plane's commands.

use std::net::SocketAddr;

use super::Engine;
use crate::boundary::{Command, Event};
use crate::io::connection::RequestKind;
use crate::io::transport::Transport;
use crate::shared::{TopicEntry, TopicError};
use crate::wire::produce::Segment;

impl<T: Transport> Engine<T> {
    pub(super) fn apply(&mut self, command: Command, now_us: u64) {
        match command {
            Command::Connect { connection_id, broker_id, ip, port, setup_timeout_ms } => {
                self.connect(connection_id, broker_id, SocketAddr::new(ip, port), now_us, micros(setup_timeout_ms));
            }
            Command::SendFrame { connection_id, correlation_id, frame, timeout_ms } => {
                self.send_frame(connection_id, correlation_id, &frame, now_us, micros(timeout_ms));
            }
            Command::Ready { connection_id, produce_version } => self.ready(connection_id, produce_version, now_us),
            Command::Close { connection_id, reason } => self.close(connection_id, &reason, true, now_us),
            Command::SetTopic { name, topic_id, version, partitions } => {
                self.set_topic(&name, topic_id, version, &partitions, now_us);
            }
            Command::FailTopic { name, trouble, is_final } => {
                self.shared.topics.update(&name, |entry| {
                    let errors = entry.errors + 1;
                    Some(TopicEntry { error: Some(TopicError { trouble, is_final }), errors, ..entry })
                });
            }
            Command::ForgetTopic { name } => self.forget_topic(&name),
            Command::SetStatus { trouble } => self.shared.topics.set_status(trouble),
            Command::SetBrokerStatus { broker_id, trouble } => {
                self.brokers.entry(broker_id).or_default().trouble = trouble;
            }
            Command::SetIdentity(identity) => {
                self.identity = Some(identity);
                self.reconsider_all(now_us);
            }
            Command::ResumeLane { topic, partition, decisions, renumber, delay_ms } => {
                if let Err(why) = self.resume(&topic, partition, decisions, renumber, micros(delay_ms), now_us) {
                    // Neither side may guess: it fails loudly rather than number records wrongly.
                    self.fail_engine(&format!(
                        "a lane of {topic}-{partition} was resumed wrongly: {why} (a bug in Penstock)"
                    ));
                    let message = format!("lane {topic}-{partition}: {why}");
                    self.shared.events.push(Event::EngineFailed { message });
                }
            }
            Command::FailBuffered { kind, trouble } => self.fail_buffered(kind, &trouble, now_us),
            Command::FailProducer { kind, trouble } => {
                self.shared.set_fatal(kind, trouble.clone());
                self.fail_everything(kind, &trouble, now_us);
            }
        }
    }

    /// A control request: the answer goes to the control plane unchanged.
    fn send_frame(&mut self, connection: u64, correlation_id: i32, frame: &[u8], now_us: u64, timeout_us: u64) {
        let Some(to) = self.connections.get_mut(&connection) else { return };
        let mut bytes = Vec::with_capacity(4 + frame.len());
        bytes.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        bytes.extend_from_slice(frame);
        let size = bytes.len();
        to.send(correlation_id, RequestKind::Control, vec![Segment::Owned(bytes)], now_us, timeout_us);
        let broker = to.broker;
        self.writable.insert(connection);
        let mut stats = self.shared.stats.lock();
        stats.in_flight += 1;
        stats.nodes.entry(broker).or_default().requests.record(size as f64);
    }
}

const fn micros(ms: u64) -> u64 {
    ms.saturating_mul(1000)
}
