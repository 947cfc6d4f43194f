//! Bytes from the brokers: frames, Produce answers, lanes that settle.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Engine, KEEPS_STILL_SINCE, TOPIC_IDS_SINCE};
use crate::boundary::{BatchReport, Event, LaneReport, Stage};
use crate::io::connection::{ReadEnd, RequestKind, SentBatch, Transport};
use crate::kafka_errors::{NETWORK_EXCEPTION, NONE};
use crate::lane::batch::LastAnswer;
use crate::lane::fate::Fate;
use crate::lane::{Lane, LaneInner};
use crate::outcome::Outcome;
use crate::wire::produce::{PartitionResponse, ProduceResponse, TopicRef, parse_response};

impl<T: Transport> Engine<T> {
    /// A socket has something to say.
    pub fn on_socket(&mut self, id: u64, readable: bool, writable: bool) {
        let now_us = self.shared.now_us();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.stage == Stage::Connecting {
            match self.transport.connected(id) {
                Ok(false) => return,
                Ok(true) => {
                    connection.stage = Stage::Handshake;
                    connection.last_used_us = now_us;
                    let broker = connection.broker;
                    let mut stats = self.shared.stats.lock();
                    stats.connections_created += 1;
                    stats.connections += 1;
                    drop(stats);
                    self.shared.events.push(Event::ConnectionOpened { connection: id, broker });
                }
                Err(error) => return self.close(id, &error.to_string(), false, now_us),
            }
        }
        if writable && let Some(connection) = self.connections.get_mut(&id) {
            connection.unblock();
            if connection.wants_write() {
                self.writable.insert(id);
            }
        }
        if readable {
            self.read(id, now_us);
        }
    }

    pub(super) fn read(&mut self, id: u64, now_us: u64) {
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            let end = match connection.read(&mut self.transport, &mut self.scratch) {
                Ok(end) => end,
                Err(error) => return self.close(id, &error.to_string(), false, now_us),
            };
            loop {
                let Some(connection) = self.connections.get_mut(&id) else { return };
                match connection.next_frame() {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        if let Err(why) = self.on_frame(id, frame, now_us) {
                            return self.close(id, &why, false, now_us);
                        }
                    }
                    Err(why) => return self.close(id, &why, false, now_us),
                }
            }
            match end {
                ReadEnd::More => {}
                ReadEnd::Empty => return,
                ReadEnd::Closed => return self.close(id, "the broker closed the connection", false, now_us),
            }
        }
    }

    /// One whole answer. An error means that the stream cannot be trusted.
    pub(super) fn on_frame(&mut self, id: u64, frame: Vec<u8>, now_us: u64) -> Result<(), String> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        connection.last_used_us = now_us;
        let correlation_id = frame.first_chunk::<4>().map_or(-1, |bytes| i32::from_be_bytes(*bytes));
        let Some(request) = connection.requests.front() else {
            return Err(format!("an answer ({correlation_id}) that nobody asked for"));
        };
        if request.correlation_id != correlation_id {
            return Err(format!("an answer to {correlation_id} where {} is due", request.correlation_id));
        }
        let parsed = match &request.kind {
            RequestKind::Control => None,
            RequestKind::Produce { version, .. } => {
                let (_, response) =
                    parse_response(*version, &frame).map_err(|error| format!("a malformed Produce answer: {error}"))?;
                Some(response)
            }
        };
        let (broker, sent_us) = (connection.broker, request.sent_us);
        let mut stats = self.shared.stats.lock();
        stats.in_flight -= 1;
        let node = stats.nodes.entry(broker).or_default();
        node.incoming_bytes += frame.len() as u64 + 4;
        node.responses += 1;
        node.latency.record(now_us.saturating_sub(sent_us) as f64 / 1000.0);
        drop(stats);
        let request = connection.requests.pop_front();
        if let Some(owner) = self.brokers.get(&broker)
            && owner.connection == Some(id)
        {
            // It takes requests after all; whoever still waits in vain will say so.
            owner.health.stuck_since_us.store(0, Ordering::Relaxed);
        }
        if let (Some(RequestKind::Produce { version, batches }), Some(response)) = (request.map(|it| it.kind), parsed) {
            return self.on_produce(id, version, batches, response, now_us);
        }
        self.shared.events.push(Event::FrameReceived { connection: id, correlation_id, frame });
        Ok(())
    }

    pub(super) fn on_produce(
        &mut self,
        id: u64,
        version: i16,
        mut batches: Vec<SentBatch>,
        response: ProduceResponse,
        now_us: u64,
    ) -> Result<(), String> {
        if response.throttle_time_ms > 0 {
            self.shared.stats.lock().throttle.record(f64::from(response.throttle_time_ms));
            if version >= KEEPS_STILL_SINCE
                && let Some(connection) = self.connections.get_mut(&id)
            {
                // KIP-219: the broker has answered already and expects us to keep still. Before, it kept the answer back.
                // No record waits longer than delivery.timeout.ms: a number gone wrong must not silence us for a month.
                let asked_us = response.throttle_time_ms as u64 * 1000;
                let throttle_us = asked_us.min(self.shared.config.rules.delivery_timeout_us);
                connection.muted_until_us = connection.muted_until_us.max(now_us + throttle_us);
                for request in &mut connection.requests {
                    // It reads none of these meanwhile: their time begins afterwards (Java: `incrementThrottleTime`).
                    request.timeout_at_us = request.timeout_at_us.saturating_add(throttle_us);
                }
            }
        }
        let endpoints = response.node_endpoints.into_iter();
        self.endpoints.extend(endpoints.map(|node| (node.node_id, node.host, node.port, node.rack)));
        // Answers are matched by what the request itself said, not by what is known of the topic by now.
        let mut places: HashMap<(TopicRef, i32), usize> = HashMap::with_capacity(batches.len());
        for (place, sent) in batches.iter().enumerate() {
            let topic = if version >= TOPIC_IDS_SINCE {
                TopicRef::Id(sent.topic_id)
            } else {
                TopicRef::Name(Arc::clone(&sent.lane.topic))
            };
            places.insert((topic, sent.lane.partition), place);
        }
        let mut answers: Vec<(usize, PartitionResponse)> = Vec::with_capacity(batches.len());
        let mut nonsense = None;
        for answer in response.partitions {
            match places.remove(&(answer.topic.clone(), answer.index)) {
                Some(place) => answers.push((place, answer)),
                None => nonsense = Some("a Produce answer names a partition twice, or one that was not asked about"),
            }
        }
        if !places.is_empty() {
            nonsense = Some("a Produce answer leaves a partition out");
        }
        for (place, answer) in answers {
            batches[place].answered = true;
            self.on_partition(&batches[place], answer, now_us);
        }
        for sent in batches.iter().filter(|sent| !sent.answered) {
            let last = LastAnswer::error(NETWORK_EXCEPTION, "the broker's answer left this partition out".to_owned());
            self.lose(sent, Fate::Unknown, last, now_us);
        }
        nonsense.map_or(Ok(()), |why| Err(why.to_owned()))
    }

    pub(super) fn on_partition(&mut self, sent: &SentBatch, answer: PartitionResponse, now_us: u64) {
        let mut inner = sent.lane.inner.lock();
        let Some(batch) = inner.answered(sent.batch_id) else { return };
        // Of an error too: with UNKNOWN_PRODUCER_ID it tells lost state from a partition that is moving.
        inner.note_log_start(answer.log_start_offset);
        if answer.error_code == NONE {
            inner.acknowledge(&batch, answer.base_offset);
            let (base_offset, log_append_time_ms) = (answer.base_offset, answer.log_append_time_ms);
            self.finish(batch, Outcome::Delivered { base_offset, log_append_time_ms });
        } else {
            let count = batch.count();
            let last = LastAnswer {
                code: answer.error_code,
                message: answer.error_message.unwrap_or_default(),
                base_offset: answer.base_offset,
                leader: answer.current_leader,
                record_errors: answer
                    .record_errors
                    .into_iter()
                    .filter_map(|(index, why)| Some((u32::try_from(index).ok().filter(|&i| i < count)?, why)))
                    .collect(),
            };
            let fate = Fate::of_answer(answer.error_code, answer.base_offset);
            inner.settle(batch, fate, sent.by_name, last);
        }
        drop(inner);
        self.after_answer(&sent.lane, now_us);
    }

    /// A batch whose answer will not come.
    pub(super) fn lose(&mut self, sent: &SentBatch, fate: Fate, last: LastAnswer, now_us: u64) {
        let mut inner = sent.lane.inner.lock();
        let Some(batch) = inner.answered(sent.batch_id) else { return };
        inner.settle(batch, fate, sent.by_name, last);
        drop(inner);
        self.after_answer(&sent.lane, now_us);
    }

    /// Something came back for this lane: hand it over if it has settled, else see whether it can send on.
    pub(super) fn after_answer(&mut self, lane: &Arc<Lane>, now_us: u64) {
        let mut inner = lane.inner.lock();
        if inner.topic_changed() {
            self.enter_topic(&mut inner, now_us);
        }
        if inner.hand_over() {
            lane.publish_load(&inner);
            let report = self.lane_report(lane, &inner, now_us);
            self.handed_over.push(report);
            return;
        }
        drop(inner);
        self.reconsider(lane, now_us);
    }

    pub(super) fn lane_report(&self, lane: &Lane, inner: &LaneInner, now_us: u64) -> LaneReport {
        let timeout_us = self.shared.config.rules.delivery_timeout_us as i64;
        let batches = inner.settled().map(|batch| {
            let age_us = now_us.saturating_sub(batch.created_us()) as i64;
            // After a decision only the message stays, for people. An offset with code 0 would pass for an acknowledgement.
            let undecided = batch.undecided();
            BatchReport {
                batch_id: batch.id(),
                base_sequence: batch.numbering().map_or(-1, |(_, sequence)| sequence),
                record_count: batch.count(),
                size: batch.size(),
                attempts: batch.attempts(),
                fate: batch.fate(),
                error_code: undecided.map_or(NONE, |last| last.code),
                error_message: batch.last().message.clone(),
                age_ms: age_us / 1000,
                remaining_ms: (timeout_us - age_us) / 1000,
                expired: batch.is_expired(),
                base_offset: undecided.map_or(-1, |last| last.base_offset),
                current_leader: undecided.and_then(|last| last.leader).unwrap_or((-1, -1)),
            }
        });
        LaneReport {
            topic: lane.topic.to_string(),
            topic_id: inner.topic_id(),
            partition: lane.partition,
            leader: inner.used_leader(),
            identity: inner.identity(),
            last_acked_sequence: inner.last_acked_sequence(),
            last_acked_offset: inner.last_acked_offset(),
            log_start_offset: inner.log_start_offset(),
            failures: inner.failures(),
            numbers_used_elsewhere: inner.numbers_used_elsewhere(),
            batches: batches.collect(),
        }
    }

    pub(super) fn report(&mut self) {
        if !self.handed_over.is_empty() || !self.endpoints.is_empty() {
            self.shared.events.push(Event::LanesHandedOver {
                lanes: std::mem::take(&mut self.handed_over),
                endpoints: std::mem::take(&mut self.endpoints),
            });
        }
    }
}
