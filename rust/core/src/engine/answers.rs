//! Frames become answers; answers change lanes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::reports::lane_report;
use super::{Engine, TOPIC_IDS_SINCE};
use crate::boundary::Event;
use crate::error_code::NONE;
use crate::io::connection::{Request, RequestKind, SentBatch};
use crate::io::transport::Transport;
use crate::lane::Lane;
use crate::lane::batch::LastAnswer;
use crate::lane::fate::Fate;
use crate::outcome::Outcome;
use crate::wire::produce::{PartitionResponse, ProduceResponse, TopicRef, parse_response};

/// From which Produce version on a broker that throttles answers first, and the client stops sending (KIP-219). Before,
/// the broker delays the answer.
const CLIENT_THROTTLES_SINCE: i16 = 6;

impl<T: Transport> Engine<T> {
    /// One whole answer. An error means that the stream cannot be trusted.
    pub(super) fn on_frame(&mut self, id: u64, frame: Vec<u8>, now_us: u64) -> Result<(), String> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        connection.last_used_us = now_us;
        let correlation_id = frame.first_chunk::<4>().map_or(-1, |bytes| i32::from_be_bytes(*bytes));
        let Some(request) = connection.requests.front() else {
            return Err(format!("unexpected response, correlation id {correlation_id}"));
        };
        if request.correlation_id != correlation_id {
            return Err(format!(
                "response with correlation id {correlation_id} where {} is due",
                request.correlation_id
            ));
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
        let request = connection.take_answered(now_us);
        if let Some(owner) = self.brokers.get(&broker)
            && owner.connection == Some(id)
        {
            // It answers after all. If lanes still wait for it, the next pass marks it again.
            owner.health.stuck_since_us.store(0, Ordering::Relaxed);
        }
        if let (Some(RequestKind::Produce { version, batches }), Some(response)) = (request.map(|it| it.kind), parsed) {
            self.on_produce(id, version, batches, response, now_us)?;
            self.produce_answered(id, now_us);
            return Ok(());
        }
        self.shared.events.push(Event::FrameReceived { connection_id: id, correlation_id, frame });
        if self.shared.config.acks == 0 {
            // Requests that left whole behind this one waited for it: the queue is worked off from its head.
            self.complete_unacknowledged(id, now_us);
        }
        Ok(())
    }

    fn on_produce(
        &mut self,
        id: u64,
        version: i16,
        mut batches: Vec<SentBatch>,
        response: ProduceResponse,
        now_us: u64,
    ) -> Result<(), String> {
        if response.throttle_time_ms > 0 {
            self.throttle(id, version, response.throttle_time_ms, now_us);
        }
        self.endpoints.extend(response.node_endpoints);
        // Answers are matched by the topic and partition in the request: the topic may be another one by now.
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
                None => nonsense = Some("a Produce answer names a partition twice, or one that was not requested"),
            }
        }
        if !places.is_empty() {
            nonsense = Some("a Produce answer leaves a partition out");
        }
        let mut acknowledged = 0;
        for (place, answer) in answers {
            batches[place].answered = true;
            acknowledged += self.on_partition(&batches[place], answer, now_us);
        }
        self.note_pace(id, acknowledged, now_us);
        for sent in batches.iter().filter(|sent| !sent.answered) {
            let reason = "the broker's answer left this partition out";
            self.lose(sent, Fate::Unknown, reason, true, now_us);
        }
        nonsense.map_or(Ok(()), |why| Err(why.to_owned()))
    }

    /// A Produce request is answered, or has left where no answer comes: the connection carries one more at once, and
    /// what was wrong with the broker's last one is over.
    fn produce_answered(&mut self, id: u64, now_us: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.produce_answered(now_us);
        if let Some(broker) = self.brokers.get_mut(&connection.broker) {
            broker.probing = false;
        }
    }

    fn throttle(&mut self, id: u64, version: i16, throttle_time_ms: i32, now_us: u64) {
        self.shared.stats.lock().throttle.record(f64::from(throttle_time_ms));
        if version < CLIENT_THROTTLES_SINCE {
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        // No record waits longer than delivery.timeout.ms: an absurd number must not stop the connection for a month.
        let asked_us = throttle_time_ms as u64 * 1000;
        let throttle_us = asked_us.min(self.shared.config.rules.delivery_timeout_us);
        connection.throttled_until_us = connection.throttled_until_us.max(now_us + throttle_us);
        // The broker reads no request meanwhile: their time begins afterwards (Java: `incrementThrottleTime`).
        connection.begin_waiting(connection.throttled_until_us);
    }

    /// Returns the bytes that were acknowledged.
    fn on_partition(&mut self, sent: &SentBatch, answer: PartitionResponse, now_us: u64) -> usize {
        let mut inner = sent.lane.inner.lock();
        let Some(batch) = inner.answered(sent.batch_id) else { return 0 };
        let mut acknowledged = 0;
        // Also of an error: with UNKNOWN_PRODUCER_ID it distinguishes lost state from a partition that is moving.
        inner.note_log_start(answer.log_start_offset);
        if answer.error_code == NONE {
            inner.acknowledge(&batch);
            inner.end_probing();
            acknowledged = batch.size();
            let (base_offset, log_append_time_ms) = (answer.base_offset, answer.log_append_time_ms);
            self.shared.finish(batch, Outcome::Delivered { base_offset, log_append_time_ms });
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
                lost: false,
            };
            let fate = Fate::of_answer(answer.error_code, answer.base_offset);
            inner.settle(batch, fate, sent.by_name, last);
        }
        drop(inner);
        self.after_answer(&sent.lane, now_us);
        acknowledged
    }

    /// A broker's answer acknowledged that many bytes.
    fn note_pace(&mut self, connection: u64, acknowledged: usize, now_us: u64) {
        if let Some(connection) = self.connections.get(&connection)
            && let Some(broker) = self.brokers.get_mut(&connection.broker)
        {
            broker.health.set_pace(broker.pace.acknowledged(acknowledged as u64, now_us));
        }
    }

    /// The answer to this batch will not come. `fault`: something is wrong with its connection or its broker.
    pub(super) fn lose(&mut self, sent: &SentBatch, fate: Fate, reason: &str, fault: bool, now_us: u64) {
        let mut inner = sent.lane.inner.lock();
        let Some(batch) = inner.answered(sent.batch_id) else { return };
        inner.settle(batch, fate, sent.by_name, LastAnswer::lost(reason.to_owned()));
        if fault {
            inner.probe();
        }
        drop(inner);
        self.after_answer(&sent.lane, now_us);
    }

    /// acks=0: a request that has left whole is done; no answer will come.
    pub(super) fn complete_unacknowledged(&mut self, id: u64, now_us: u64) {
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            let done = connection.requests.front().is_some_and(|request| {
                matches!(request.kind, RequestKind::Produce { .. }) && connection.is_written(request)
            });
            if !done {
                return;
            }
            let Some(Request { kind: RequestKind::Produce { batches, .. }, .. }) = connection.take_answered(now_us)
            else {
                return;
            };
            self.shared.stats.lock().in_flight -= 1;
            self.produce_answered(id, now_us);
            // No answer will come that would have the lanes checked which this made room for.
            self.again = true;
            for sent in batches {
                let mut inner = sent.lane.inner.lock();
                if let Some(batch) = inner.answered(sent.batch_id) {
                    inner.acknowledge(&batch);
                    inner.end_probing();
                    self.shared.finish(batch, Outcome::Delivered { base_offset: -1, log_append_time_ms: -1 });
                }
                drop(inner);
                self.after_answer(&sent.lane, now_us);
            }
        }
    }

    /// An answer came for this lane, or something else that may let it go on: hand it over if it has settled, else
    /// schedule it.
    pub(super) fn after_answer(&mut self, lane: &Arc<Lane>, now_us: u64) {
        let mut inner = lane.inner.lock();
        if inner.topic_changed() {
            self.enter_topic(&mut inner, now_us);
        }
        if inner.hand_over() {
            lane.publish_load(&inner);
            self.handed_over.push(lane_report(lane, &inner));
            return;
        }
        drop(inner);
        self.reconsider(lane, now_us);
    }
}
