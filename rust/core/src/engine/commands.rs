//! What the control plane wants: connections, topics, identity, lanes given back.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Engine;
use crate::accumulator::TopicEntry;
use crate::boundary::{Command, Decision, Event, PartitionLeader, Stage};
use crate::io::connection::{Connection, RequestKind, Transport};
use crate::lane::Lane;
use crate::lane::batch::{IN_FLIGHT, RETRY};
use crate::lane::identity::Identity;
use crate::outcome::{FailureKind, Outcome};
use crate::topic::{BrokerHealth, Leader, Topic, TopicState};
use crate::wire::produce::Segment;

impl<T: Transport> Engine<T> {
    pub(super) fn apply(&mut self, command: Command, now_us: u64) {
        match command {
            Command::Connect { connection, broker, address, setup_timeout_us } => {
                self.connect(connection, broker, address, now_us, setup_timeout_us);
            }
            Command::SendFrame { connection, correlation_id, frame, timeout_us } => {
                if let Some(to) = self.connections.get_mut(&connection) {
                    let mut bytes = Vec::with_capacity(4 + frame.len());
                    bytes.extend_from_slice(&(frame.len() as u32).to_be_bytes());
                    bytes.extend_from_slice(&frame);
                    let segments = vec![Segment::Owned(bytes)];
                    let size = segments[0].bytes().len();
                    to.send(correlation_id, RequestKind::Control, segments, now_us, timeout_us);
                    let broker = to.broker;
                    self.writable.insert(connection);
                    let mut stats = self.shared.stats.lock();
                    stats.in_flight += 1;
                    stats.nodes.entry(broker).or_default().requests.record(size as f64);
                }
            }
            Command::Ready { connection, produce_version } => self.ready(connection, produce_version, now_us),
            Command::Close { connection, reason } => self.close(connection, &reason, true, now_us),
            Command::SetTopic { name, topic_id, version, partitions } => {
                self.set_topic(&name, topic_id, version, &partitions, now_us);
            }
            Command::FailTopic { name, code, message, last_word } => {
                self.shared.update_topic(&name, |entry| {
                    let errors = entry.errors + 1;
                    Some(TopicEntry { error: Some((code, message, last_word)), errors, ..entry })
                });
            }
            Command::ForgetTopic { name } => self.forget_topic(&name),
            Command::SetStatus { message } => self.shared.set_status(message),
            Command::SetBrokerStatus { broker, message } => self.brokers.entry(broker).or_default().trouble = message,
            Command::SetIdentity(identity) => {
                self.identity = Some(identity);
                for at in 0..self.lanes.len() {
                    let lane = Arc::clone(&self.lanes[at]);
                    self.reconsider(&lane, now_us);
                }
            }
            Command::ResumeLane { topic, partition, decisions, renumber, delay_us } => {
                if let Err(why) = self.resume(&topic, partition, decisions, renumber, delay_us, now_us) {
                    // Neither side may guess: fail loudly rather than number records wrongly.
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

    pub(super) fn connect(&mut self, id: u64, broker: i32, address: SocketAddr, now_us: u64, setup_timeout_us: u64) {
        let connection = Connection::new(id, broker, address, now_us, now_us.saturating_add(setup_timeout_us));
        match self.transport.connect(id, address) {
            Ok(()) => {
                self.connections.insert(id, connection);
            }
            Err(error) => {
                let requested = self.ask_again(broker);
                self.shared.events.push(Event::ConnectionClosed {
                    connection: id,
                    broker,
                    stage: Stage::Connecting,
                    reason: error.to_string(),
                    expected: false,
                    requested,
                });
            }
        }
    }

    pub(super) fn ready(&mut self, id: u64, produce_version: i16, now_us: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.stage = Stage::Ready;
        connection.produce_version = produce_version;
        let broker = self.brokers.entry(connection.broker).or_default();
        broker.wanted = false;
        if let Some(older) = broker.connection.replace(id)
            && older != id
        {
            self.close(older, "replaced by a newer connection", true, now_us);
        }
    }

    pub(super) fn set_topic(
        &mut self,
        name: &str,
        id: [u8; 16],
        version: u64,
        leaders: &[PartitionLeader],
        now_us: u64,
    ) {
        let entry = self.shared.topic(name);
        if entry.topic.as_ref().is_some_and(|known| known.version >= version) {
            return;
        }
        let key: Arc<str> = entry.topic.as_ref().map_or_else(|| name.into(), |known| Arc::clone(&known.name));
        let mut lanes = match &entry.topic {
            Some(known) => known.lanes.clone(),
            None => self.retired.remove(name).unwrap_or_default(),
        };
        if entry.topic.is_none() {
            for lane in &lanes {
                lane.revive();
            }
        }
        let state = entry.topic.as_ref().map_or_else(
            || TopicState::new(self.shared.config.seed ^ self.lanes.len() as u64, now_us),
            |known| Arc::clone(&known.state),
        );
        // A topic never loses partitions; one that was deleted and made again with fewer keeps the lanes without leader,
        // so that records for them fail by their deadline, with a reason. Nobody chooses them any more.
        while lanes.len() < leaders.len() {
            let lane = Lane::new(self.lanes.len() as u32, Arc::clone(&key), lanes.len() as i32);
            self.lanes.push(Arc::clone(&lane));
            lanes.push(lane);
        }
        let mut snapshot = Vec::with_capacity(lanes.len());
        let none = PartitionLeader { leader: -1, leader_epoch: -1, local: false };
        for (partition, lane) in lanes.iter().enumerate() {
            let told = leaders.get(partition).copied().unwrap_or(none);
            let health = self.health(told.leader);
            snapshot.push(Leader { id: told.leader, local: told.local, health });
            let mut inner = lane.inner.lock();
            if inner.set_target(told.leader, told.leader_epoch, id) {
                self.enter_topic(&mut inner, now_us);
            }
            drop(inner);
            self.after_answer(lane, now_us);
        }
        let partitions = leaders.len() as u32;
        let topic = Topic { name: key, id, version, partitions, lanes, leaders: snapshot, state };
        self.shared.update_topic(name, |entry| Some(TopicEntry { topic: Some(Arc::new(topic)), error: None, ..entry }));
    }

    /// Shared with the snapshots of topics. A partition without a leader has one of its own.
    fn health(&mut self, leader: i32) -> Arc<BrokerHealth> {
        if leader < 0 {
            return Arc::default();
        }
        Arc::clone(&self.brokers.entry(leader).or_default().health)
    }

    pub(super) fn forget_topic(&mut self, name: &str) {
        let Some(topic) = self.shared.topic(name).topic else {
            self.shared.update_topic(name, |_| None);
            return;
        };
        // Closed first, removed after: a sender that still has the snapshot finds a closed lane and looks the topic up again.
        let retired = topic.lanes.iter().take_while(|lane| lane.retire()).count();
        if retired < topic.lanes.len() {
            for lane in &topic.lanes[..retired] {
                lane.revive();
            }
            return;
        }
        self.retired.insert(Arc::clone(&topic.name), topic.lanes.clone());
        self.shared.update_topic(name, |_| None);
        self.leader_wanted.remove(name);
    }

    pub(super) fn resume(
        &mut self,
        topic: &str,
        partition: i32,
        decisions: Vec<(u64, Decision)>,
        renumber: Option<(Identity, i32)>,
        delay_us: u64,
        now_us: u64,
    ) -> Result<(), &'static str> {
        let lane = self
            .shared
            .topic(topic)
            .topic
            .and_then(|topic| topic.lanes.get(usize::try_from(partition).ok()?).cloned())
            .ok_or("no such lane")?;
        let mut inner = lane.inner.lock();
        let Some(settled) = inner.take_settled(decisions.iter().map(|(id, _)| *id))? else { return Ok(()) };
        let mut remaining = VecDeque::with_capacity(decisions.len());
        for (batch, (_, decision)) in settled.into_iter().zip(decisions) {
            match decision {
                Decision::Retry => remaining.push_back(batch),
                Decision::Fail { kind, code, message } => {
                    let failure = batch.failure(kind, code, message, now_us);
                    // Refused at its first attempt, it was never retried.
                    let stage = if batch.attempts() > 1 { RETRY } else { IN_FLIGHT };
                    self.finish_failed(batch, stage, failure);
                }
                Decision::Complete { base_offset } => {
                    inner.acknowledge(&batch, base_offset);
                    self.finish(batch, Outcome::Delivered { base_offset, log_append_time_ms: -1 });
                }
                // Nothing has been said of a batch that is not even compressed yet.
                Decision::Split if batch.is_encoding() => remaining.push_back(batch),
                Decision::Split => {
                    let shared = &self.shared;
                    let limit = batch.split_limit(shared.config.batch_size);
                    if let (Some(codecs), Some(ratio)) = (&shared.codecs, batch.ratio()) {
                        codecs.ratios.reset(&lane.topic, ratio as f32);
                    }
                    match batch.split(limit, || shared.next_batch_id()) {
                        Ok(mut children) => {
                            shared.stats.lock().splits += 1;
                            for child in &mut children {
                                shared.encode(&lane, child);
                            }
                            remaining.extend(children);
                        }
                        Err(batch) => {
                            let message = "the broker refuses a batch that holds one record only".to_owned();
                            let failure = batch.failure(FailureKind::Broker, batch.last().code, message, now_us);
                            self.finish_failed(*batch, RETRY, failure);
                        }
                    }
                }
            }
        }
        inner.resume(remaining, renumber, now_us.saturating_add(delay_us))?;
        self.enter_topic(&mut inner, now_us);
        inner.settle_expired();
        lane.publish_load(&inner);
        drop(inner);
        self.after_answer(&lane, now_us);
        Ok(())
    }
}
