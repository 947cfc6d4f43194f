//! Which lane may send, to whom, in which request.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{Broker, Engine, Picked, TOPIC_IDS_SINCE, Timers, ZSTD_SINCE};
use crate::accumulator::Shared;
use crate::boundary::{Event, Stage};
use crate::compression::Codec;
use crate::io::connection::{Request, RequestKind, SentBatch, Transport};
use crate::kafka_errors::UNSUPPORTED_COMPRESSION_TYPE;
use crate::lane::batch::LastAnswer;
use crate::lane::fate::{Fate, NO_TOPIC_ID};
use crate::lane::readiness::NextStep;
use crate::lane::{Lane, LaneInner};
use crate::outcome::Outcome;
use crate::sync::atomic::Ordering;
use crate::wire::produce::{ProducePartition, ProduceTopic, encode_request};

/// Do what [`LaneInner::schedule`] asks for, but for the ready queue: true if the lane belongs there.
fn do_step(shared: &Shared, timers: &mut Timers, lane: &Arc<Lane>, inner: &mut LaneInner, step: NextStep) -> bool {
    match step {
        NextStep::Queue => return true,
        NextStep::Timer(at_us) => timers.push(Reverse((at_us, lane.id))),
        NextStep::Encode => shared.encode_head(lane, inner),
        NextStep::Nothing => {}
    }
    false
}

impl<T: Transport> Engine<T> {
    /// Put a lane where it belongs now: a ready queue, a timer, or nowhere until something happens to it.
    pub(super) fn reconsider(&mut self, lane: &Arc<Lane>, now_us: u64) {
        let hurry = self.shared.in_a_hurry();
        let mut inner = lane.inner.lock();
        let step = inner.schedule(&self.shared.config.rules, now_us, hurry);
        if do_step(&self.shared, &mut self.timers, lane, &mut inner, step) {
            drop(inner);
            self.route(lane);
        }
    }

    /// Queue a lane (whose `queued` is set) with its leader.
    pub(super) fn route(&mut self, lane: &Arc<Lane>) {
        let leader = lane.inner.lock().leader();
        if leader < 0 {
            self.leaderless.push(Arc::clone(lane));
        } else {
            self.brokers.entry(leader).or_default().ready.push_back(Arc::clone(lane));
        }
    }

    pub(super) fn ask_for_leaders(&mut self) {
        if self.leaderless.is_empty() {
            return;
        }
        let mut topics: Vec<String> = Vec::new();
        let mut still = Vec::new();
        for lane in std::mem::take(&mut self.leaderless) {
            if !lane.inner.lock().waits_for_leader() {
                continue; // it was routed anew when the leader became known
            }
            let version = self.shared.topic(&lane.topic).topic.map_or(0, |topic| topic.version);
            if self.leader_wanted.insert(Arc::clone(&lane.topic), version) != Some(version) {
                topics.push(lane.topic.to_string());
            }
            still.push(lane);
        }
        self.leaderless = still;
        if !topics.is_empty() {
            topics.sort();
            topics.dedup();
            self.shared.events.push(Event::LeaderWanted { topics });
        }
    }

    pub(super) fn drain(&mut self, id: i32, now_us: u64) {
        loop {
            let Some(broker) = self.brokers.get_mut(&id) else { return };
            if broker.ready.is_empty() {
                broker.health.stuck_since_us.store(0, Ordering::Relaxed);
                return;
            }
            let Some(connection) = broker.connection.and_then(|id| self.connections.get(&id)) else {
                // Lanes whose leader moved on are queued elsewhere by now, and need no connection here.
                broker.ready.retain(|lane| lane.inner.lock().is_queued_at(id));
                if broker.ready.is_empty() {
                    continue;
                }
                Self::stuck(broker, now_us);
                if !broker.wanted {
                    broker.wanted = true;
                    self.shared.events.push(Event::ConnectionWanted { broker: id });
                }
                return;
            };
            let config = &self.shared.config;
            if connection.muted_until_us > now_us || connection.requests.len() >= config.max_in_flight_requests {
                Self::stuck(broker, now_us);
                return;
            }
            if config.rules.idempotent && self.identity.is_none() {
                return;
            }
            broker.health.stuck_since_us.store(0, Ordering::Relaxed);
            let picked = self.pick(id, now_us);
            if picked.is_empty() {
                return;
            }
            self.send(id, picked, now_us);
        }
    }

    pub(super) fn stuck(broker: &Broker, now_us: u64) {
        let since = &broker.health.stuck_since_us;
        if since.load(Ordering::Relaxed) == 0 {
            since.store(now_us.max(1), Ordering::Relaxed);
        }
    }

    /// One batch of each lane in turn, as many as fit into max.request.size (the first one always does).
    pub(super) fn pick(&mut self, id: i32, now_us: u64) -> Vec<Picked> {
        let shared = Arc::clone(&self.shared);
        let hurry = shared.in_a_hurry();
        let rules = &shared.config.rules;
        let mut picked: Vec<Picked> = Vec::new();
        let mut room = usize::MAX;
        let mut again = Vec::new();
        self.request += 1;
        let Some(broker) = self.brokers.get_mut(&id) else { return picked };
        for _ in 0..broker.ready.len() {
            let Some(lane) = broker.ready.pop_front() else { break };
            let mut inner = lane.inner.lock();
            if !inner.may_join(id, self.request) {
                continue;
            }
            let step = inner.reschedule(rules, now_us, hurry);
            if !do_step(&shared, &mut self.timers, &lane, &mut inner, step) {
                continue;
            }
            let Some(outgoing) = inner.take(self.identity, rules, room, now_us, self.request) else {
                // It does not fit into the rest of this request: it is the first of the next one.
                drop(inner);
                broker.ready.push_front(lane);
                break;
            };
            lane.publish_load(&inner);
            let step = inner.reschedule(rules, now_us, hurry);
            if do_step(&shared, &mut self.timers, &lane, &mut inner, step) {
                again.push(Arc::clone(&lane));
            }
            drop(inner);
            let left = if room == usize::MAX { shared.config.max_request_size } else { room };
            room = left.saturating_sub(outgoing.size);
            picked.push(Picked { lane, outgoing });
        }
        // Those that were not reached come first next time; those served go to the back.
        broker.ready.extend(again);
        picked
    }

    pub(super) fn send(&mut self, id: i32, mut picked: Vec<Picked>, now_us: u64) {
        picked.sort_by(|a, b| a.lane.topic.cmp(&b.lane.topic).then(a.lane.partition.cmp(&b.lane.partition)));
        let config = &self.shared.config;
        let Some(connection) = self.brokers[&id].connection.and_then(|id| self.connections.get_mut(&id)) else {
            unreachable!("drain has checked that the broker has a connection")
        };
        let mut partitions: Vec<ProducePartition<'_>> = Vec::with_capacity(picked.len());
        let mut bounds: Vec<(usize, usize)> = Vec::new();
        for (at, one) in picked.iter().enumerate() {
            let same = bounds.last().is_some_and(|(start, _)| {
                picked[*start].lane.topic == one.lane.topic && picked[*start].outgoing.topic_id == one.outgoing.topic_id
            });
            if same {
                bounds.last_mut().expect("not empty").1 = at + 1;
            } else {
                bounds.push((at, at + 1));
            }
            partitions.push(ProducePartition {
                index: one.lane.partition,
                header: one.outgoing.header,
                body: &one.outgoing.body,
            });
        }
        let topics: Vec<ProduceTopic<'_>> = bounds
            .iter()
            .map(|&(start, end)| ProduceTopic {
                name: &picked[start].lane.topic,
                id: picked[start].outgoing.topic_id,
                partitions: &partitions[start..end],
            })
            .collect();
        // An older broker's metadata has no topic ids (a rolling upgrade): such a topic has only its name, and one of them
        // in a request makes it a request by names (Java: `Sender.sendProduceRequest`).
        let nameless = picked.iter().any(|one| one.outgoing.topic_id == NO_TOPIC_ID);
        let version =
            if nameless { connection.produce_version.min(TOPIC_IDS_SINCE - 1) } else { connection.produce_version };
        if version < ZSTD_SINCE && config.compression.codec == Codec::Zstd {
            return self.refuse_zstd(&picked, version, now_us);
        }
        let correlation_id = connection.correlation_id();
        let timeout_ms = i32::try_from(config.request_timeout_us / 1000).unwrap_or(i32::MAX);
        let client_id = Some(config.client_id.as_str());
        let segments = encode_request(version, correlation_id, client_id, None, config.acks, timeout_ms, &topics);
        let size: usize = segments.iter().map(|segment| segment.bytes().len()).sum();
        let mut stats = self.shared.stats.lock();
        stats.in_flight += 1;
        stats.nodes.entry(id).or_default().requests.record(size as f64);
        stats.records_per_request.record(picked.iter().map(|one| f64::from(one.outgoing.count)).sum());
        for one in &picked {
            stats.batch_size.record(one.outgoing.size as f64);
            stats.queue_time.record(one.outgoing.queued_us as f64 / 1000.0);
            stats.record_size.record(one.outgoing.largest as f64);
            stats.compression.record(one.outgoing.ratio);
            let topic = stats.topic(&one.lane.topic);
            topic.bytes += one.outgoing.size as u64;
            topic.compression.record(one.outgoing.ratio);
            if one.outgoing.retry {
                topic.retries += u64::from(one.outgoing.count);
            } else {
                topic.records += u64::from(one.outgoing.count);
            }
        }
        drop(stats);
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
        let id = connection.id;
        self.writable.insert(id);
    }

    /// A broker that old could not tell its consumers what this is (KIP-110). Nothing was sent, whatever `take` noted; Java
    /// refuses the same (`ProduceRequest.validateRecords`).
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

    pub(super) fn write_all(&mut self, now_us: u64) {
        for id in std::mem::take(&mut self.writable) {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if connection.stage == Stage::Connecting {
                self.writable.insert(id);
                continue;
            }
            match connection.write(&mut self.transport) {
                Ok(bytes) => {
                    let broker = connection.broker;
                    self.shared.stats.lock().nodes.entry(broker).or_default().outgoing_bytes += bytes;
                    if self.shared.config.acks == 0 {
                        self.complete_unacknowledged(id, now_us);
                    }
                }
                Err(error) => {
                    // The requests before the one that met the error have left whole: nothing more is asked of them.
                    if self.shared.config.acks == 0 {
                        self.complete_unacknowledged(id, now_us);
                    }
                    self.close(id, &error.to_string(), false, now_us);
                }
            }
        }
    }

    /// acks=0: what has left is done; no answer will come.
    pub(super) fn complete_unacknowledged(&mut self, id: u64, now_us: u64) {
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            let done = connection.requests.front().is_some_and(|request| {
                matches!(request.kind, RequestKind::Produce { .. }) && connection.is_written(request)
            });
            if !done {
                return;
            }
            let Some(Request { kind: RequestKind::Produce { batches, .. }, .. }) = connection.requests.pop_front()
            else {
                return;
            };
            self.shared.stats.lock().in_flight -= 1;
            // No answer will come that would have us look at what this made room for.
            self.again = true;
            for sent in batches {
                let mut inner = sent.lane.inner.lock();
                if let Some(batch) = inner.answered(sent.batch_id) {
                    inner.acknowledge(&batch, -1);
                    self.finish(batch, Outcome::Delivered { base_offset: -1, log_append_time_ms: -1 });
                }
                drop(inner);
                self.after_answer(&sent.lane, now_us);
            }
        }
    }
}
