//! Applies the control plane's commands.

use super::Engine;
use crate::boundary::{Command, Event};
use crate::io::connection::{RequestKind, Transport};
use crate::outcome::FailureKind;
use crate::shared::TopicEntry;
use crate::wire::produce::Segment;

impl<T: Transport> Engine<T> {
    pub(super) fn apply(&mut self, command: Command, now_us: u64) {
        match command {
            Command::Connect { connection, broker, address, setup_timeout_us } => {
                self.connect(connection, broker, address, now_us, setup_timeout_us);
            }
            Command::SendFrame { connection, correlation_id, frame, timeout_us } => {
                self.send_frame(connection, correlation_id, &frame, now_us, timeout_us);
            }
            Command::Ready { connection, produce_version } => self.ready(connection, produce_version, now_us),
            Command::Close { connection, reason } => self.close(connection, &reason, true, now_us),
            Command::SetTopic { name, topic_id, version, partitions } => {
                self.set_topic(&name, topic_id, version, &partitions, now_us);
            }
            Command::FailTopic { name, code, message, last_word } => {
                self.shared.topics.update(&name, |entry| {
                    let errors = entry.errors + 1;
                    Some(TopicEntry { error: Some((code, message, last_word)), errors, ..entry })
                });
            }
            Command::ForgetTopic { name } => self.forget_topic(&name),
            Command::SetStatus { message } => self.shared.topics.set_status(message),
            Command::SetBrokerStatus { broker, message } => self.brokers.entry(broker).or_default().trouble = message,
            Command::SetIdentity(identity) => {
                self.identity = Some(identity);
                self.reconsider_all(now_us);
            }
            Command::ResumeLane { topic, partition, decisions, renumber, delay_us } => {
                if let Err(why) = self.resume(&topic, partition, decisions, renumber, delay_us, now_us) {
                    // Neither side may guess: it fails loudly rather than number records wrongly.
                    self.die(&format!("a lane of {topic}-{partition} came back wrong: {why} (a bug in Penstock)"));
                    let message = format!("lane {topic}-{partition}: {why}");
                    self.shared.events.push(Event::EngineFailed { message });
                }
            }
            Command::FailBuffered { code, message } => self.fail_buffered(code, &message, now_us),
            Command::FailProducer { code, message } => {
                self.shared.set_fatal(code, message.clone());
                let kind = match code {
                    -1 => FailureKind::Internal,
                    0 => FailureKind::Aborted,
                    _ => FailureKind::Broker,
                };
                self.fail_everything(kind, code, &message, now_us);
            }
        }
    }

    /// A control request: the answer goes to the control plane as it is.
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
