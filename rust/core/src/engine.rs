//! The I/O thread's work, one [`Engine::turn`] after another: news in, timers, requests out, answers in, deadlines.
//!
//! It owns connections and everything in flight. It never waits: time comes from [`Shared::now_us`], bytes through
//! [`Transport`], so that the whole engine can be stepped by hand with a manual clock and sockets in memory.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::accumulator::{Shared, TopicEntry};
use crate::boundary::{BatchReport, Command, Decision, Event, LaneReport, PartitionLeader, Stage};
use crate::completion::{Burst, Failure, FailureKind, Outcome};
use crate::connection::{Connection, ReadEnd, Request, RequestKind, SentBatch, Transport};
use crate::lane::{
    Batch, Fate, Identity, Lane, LaneInner, LaneState, LastAnswer, NETWORK_EXCEPTION, Outgoing, Readiness, fail_batch,
};
use crate::produce::{
    PartitionResponse, ProducePartition, ProduceResponse, ProduceTopic, Segment, TopicRef, encode_request,
    parse_response,
};
use crate::topic::{BrokerHealth, Leader, Topic, TopicState};

/// How often deadlines of records and requests are looked at while there are any.
const TICK_US: u64 = 50_000;
/// From which Produce version on topics go by id.
const TOPIC_IDS_SINCE: i16 = 13;

/// A broker, as the leader of lanes.
#[derive(Debug, Default)]
struct Broker {
    /// The connection that carries Produce.
    connection: Option<u64>,
    /// Lanes that can send, in turn.
    ready: VecDeque<Arc<Lane>>,
    /// A connection has been asked for.
    wanted: bool,
    health: Arc<BrokerHealth>,
}

/// See the module.
#[derive(Debug)]
pub struct Engine<T> {
    shared: Arc<Shared>,
    transport: T,
    connections: HashMap<u64, Connection>,
    brokers: HashMap<i32, Broker>,
    /// Every lane there ever was, by id.
    lanes: Vec<Arc<Lane>>,
    timers: BinaryHeap<Reverse<(u64, u32)>>,
    /// Ready, but without a leader.
    leaderless: Vec<Arc<Lane>>,
    /// Topic versions for which a leader was asked for.
    leader_wanted: HashMap<Arc<str>, u64>,
    identity: Option<Identity>,
    /// Connections with something to write.
    writable: HashSet<u64>,
    next_tick_us: u64,
    // What this pass will tell the control plane.
    handed_over: Vec<LaneReport>,
    endpoints: Vec<(i32, String, i32, Option<String>)>,
    scratch: Box<[u8]>,
    dead: bool,
}

/// One batch of a request that is being put together.
struct Picked {
    lane: Arc<Lane>,
    outgoing: Outgoing,
}

impl<T: Transport> Engine<T> {
    /// An engine with nothing to do.
    pub fn new(shared: Arc<Shared>, transport: T) -> Self {
        Self {
            shared,
            transport,
            connections: HashMap::new(),
            brokers: HashMap::new(),
            lanes: Vec::new(),
            timers: BinaryHeap::new(),
            leaderless: Vec::new(),
            leader_wanted: HashMap::new(),
            identity: None,
            writable: HashSet::new(),
            next_tick_us: 0,
            handed_over: Vec::new(),
            endpoints: Vec::new(),
            scratch: vec![0; 64 * 1024].into_boxed_slice(),
            dead: false,
        }
    }

    /// The transport, for those who step the engine by hand.
    pub fn transport(&mut self) -> &mut T {
        &mut self.transport
    }

    /// One pass. Returns when the next one is due (µs); `u64::MAX`: when there is news.
    pub fn turn(&mut self) -> u64 {
        let now_us = self.shared.now_us();
        let inbox = self.shared.take_inbox();
        for command in inbox.commands {
            self.apply(command, now_us);
        }
        for lane in inbox.ready {
            self.route(&lane);
        }
        for (at_us, lane) in inbox.timers {
            self.timers.push(Reverse((at_us, lane.id)));
        }
        if inbox.sweep {
            for at in 0..self.lanes.len() {
                let lane = Arc::clone(&self.lanes[at]);
                self.reconsider(&lane, now_us);
            }
        }
        while let Some(&Reverse((at_us, lane))) = self.timers.peek()
            && at_us <= now_us
        {
            self.timers.pop();
            let lane = Arc::clone(&self.lanes[lane as usize]);
            lane.inner.lock().armed = false;
            self.reconsider(&lane, now_us);
        }
        if now_us >= self.next_tick_us {
            self.tick(now_us);
        }
        self.ask_for_leaders();
        let brokers: Vec<i32> =
            self.brokers.iter().filter(|(_, broker)| !broker.ready.is_empty()).map(|(id, _)| *id).collect();
        for broker in brokers {
            self.drain(broker, now_us);
        }
        self.write_all(now_us);
        self.shared.relax();
        self.report();
        self.next_wakeup(now_us)
    }

    fn next_wakeup(&self, now_us: u64) -> u64 {
        let mut at_us = self.timers.peek().map_or(u64::MAX, |Reverse((at_us, _))| *at_us);
        let busy = self.connections.values().any(|connection| {
            !connection.requests.is_empty()
                || connection.stage == Stage::Connecting
                || (connection.muted_until_us > now_us && connection.stage == Stage::Ready)
        });
        let buffered = self.shared.pool.available() < self.shared.config.buffer_memory;
        if busy || buffered {
            at_us = at_us.min(self.next_tick_us);
        } else if let Some(idle_us) = self.shared.config.max_idle_us {
            let oldest = self.connections.values().map(|connection| connection.last_used_us).min();
            at_us = at_us.min(oldest.map_or(u64::MAX, |used_us| (used_us + idle_us).max(now_us + TICK_US)));
        }
        for connection in self.connections.values() {
            if connection.muted_until_us > now_us {
                at_us = at_us.min(connection.muted_until_us);
            }
        }
        at_us
    }

    // ------------------------------------------------------------------------------------------------- commands

    fn apply(&mut self, command: Command, now_us: u64) {
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
                self.shared
                    .update_topic(&name, |entry| Some(TopicEntry { error: Some((code, message, last_word)), ..entry }));
            }
            Command::ForgetTopic { name } => self.forget_topic(&name),
            Command::SetStatus { message } => self.shared.set_status(message),
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
            Command::FailProducer { code, message } => {
                self.shared.set_fatal(code, message.clone());
                self.fail_everything(FailureKind::Broker, code, &message, now_us);
            }
        }
    }

    fn connect(&mut self, id: u64, broker: i32, address: SocketAddr, now_us: u64, setup_timeout_us: u64) {
        let connection = Connection::new(id, broker, address, now_us, now_us.saturating_add(setup_timeout_us));
        match self.transport.connect(id, address) {
            Ok(()) => {
                self.connections.insert(id, connection);
            }
            Err(error) => self.shared.events.push(Event::ConnectionClosed {
                connection: id,
                broker,
                stage: Stage::Connecting,
                reason: error.to_string(),
                expected: false,
                requested: self.brokers.get(&broker).is_some_and(|broker| !broker.ready.is_empty()),
            }),
        }
    }

    fn ready(&mut self, id: u64, produce_version: i16, now_us: u64) {
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

    fn set_topic(&mut self, name: &str, id: [u8; 16], version: u64, leaders: &[PartitionLeader], now_us: u64) {
        let entry = self.shared.topic(name);
        if entry.topic.as_ref().is_some_and(|known| known.version >= version) {
            return;
        }
        let key: Arc<str> = entry.topic.as_ref().map_or_else(|| name.into(), |known| Arc::clone(&known.name));
        let mut lanes = entry.topic.as_ref().map(|known| known.lanes.clone()).unwrap_or_default();
        let state = entry.topic.as_ref().map_or_else(
            || TopicState::new(self.shared.config.seed ^ self.lanes.len() as u64, now_us),
            |known| Arc::clone(&known.state),
        );
        // A topic never loses partitions; one that was deleted and made again with fewer keeps the lanes without leader,
        // so that records for them fail by their deadline, with a reason.
        while lanes.len() < leaders.len() {
            let lane = Lane::new(self.lanes.len() as u32, Arc::clone(&key), lanes.len() as i32);
            self.lanes.push(Arc::clone(&lane));
            lanes.push(lane);
        }
        let mut snapshot = Vec::with_capacity(lanes.len());
        let none = PartitionLeader { leader: -1, leader_epoch: -1, local: false };
        for (partition, lane) in lanes.iter().enumerate() {
            let told = leaders.get(partition).copied().unwrap_or(none);
            let broker = self.brokers.entry(told.leader).or_default();
            snapshot.push(Leader { id: told.leader, local: told.local, health: Arc::clone(&broker.health) });
            let mut inner = lane.inner.lock();
            let recreated = inner.topic_id != id;
            if recreated {
                inner.topic_id = id;
                inner.confirmed = false;
            }
            let newer = told.leader_epoch > inner.leader_epoch || recreated;
            let moved = inner.leader != told.leader;
            inner.leader = told.leader;
            inner.leader_epoch = told.leader_epoch;
            if newer && let LaneState::Waiting(_) = inner.state {
                inner.state = LaneState::Waiting(now_us);
            }
            if moved {
                // It may stand in its old leader's queue; there it is skipped.
                inner.queued = false;
            }
            drop(inner);
            self.reconsider(lane, now_us);
        }
        let partitions = leaders.len().max(lanes.len());
        lanes.truncate(partitions);
        let topic = Topic { name: key, id, version, lanes, leaders: snapshot, state };
        self.shared.update_topic(name, |_| Some(TopicEntry { topic: Some(Arc::new(topic)), error: None }));
    }

    fn forget_topic(&mut self, name: &str) {
        self.shared.update_topic(name, |entry| {
            let busy =
                entry.topic.as_ref().is_some_and(|topic| topic.lanes.iter().any(|lane| !lane.inner.lock().is_empty()));
            busy.then_some(entry)
        });
        self.leader_wanted.remove(name);
    }

    fn resume(
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
        match inner.state {
            LaneState::HandedOver => {}
            LaneState::Closed => return Ok(()),
            _ => return Err("it was not handed over"),
        }
        if decisions.len() != inner.settled.len()
            || decisions.iter().zip(&inner.settled).any(|((id, _), batch)| *id != batch.id)
        {
            return Err("not one decision for each batch, in order");
        }
        let mut remaining = VecDeque::with_capacity(decisions.len());
        for (batch, (_, decision)) in std::mem::take(&mut inner.settled).into_iter().zip(decisions) {
            match decision {
                // Its futures have failed: what is left of it is its place in the sequence, which a resend keeps.
                Decision::Retry => remaining.push_back(batch),
                Decision::Fail { kind, code, message } => {
                    let failure = batch.failure(kind, code, message, now_us);
                    self.finish_failed(batch, "retry", failure);
                }
                Decision::Complete { base_offset } => {
                    inner.acknowledge(&batch, base_offset, -1);
                    self.finish(batch, Outcome::Delivered { base_offset, log_append_time_ms: -1 });
                }
                Decision::Split => {
                    let shared = &self.shared;
                    let limit = (batch.size() / 2).min(shared.config.batch_size).max(1);
                    match LaneInner::split(batch, limit, || shared.next_batch_id()) {
                        Ok(children) => {
                            shared.stats.lock().splits += 1;
                            remaining.extend(children);
                        }
                        Err(batch) => {
                            let message = "the broker refuses a batch that holds one record only".to_owned();
                            let failure = batch.failure(FailureKind::Broker, batch.last.code, message, now_us);
                            self.finish_failed(batch, "retry", failure);
                        }
                    }
                }
            }
        }
        if let Err((refused, why)) = inner.resume(remaining, renumber, now_us + delay_us) {
            inner.settled = refused;
            return Err(why);
        }
        lane.publish_load(&inner);
        drop(inner);
        self.reconsider(&lane, now_us);
        Ok(())
    }

    // ------------------------------------------------------------------------------------------------- routing

    /// Put a lane where it belongs now: a ready queue, a timer, or nowhere until something happens to it.
    fn reconsider(&mut self, lane: &Arc<Lane>, now_us: u64) {
        let hurry = self.shared.in_a_hurry();
        let mut inner = lane.inner.lock();
        if inner.queued {
            return;
        }
        match inner.readiness(&self.shared.config.rules, now_us, hurry) {
            Readiness::Ready => {
                inner.queued = true;
                drop(inner);
                self.route(lane);
            }
            Readiness::At(at_us) => {
                // A timer that is armed may be later (a linger outlasting a backoff): a second one does no harm.
                if !inner.armed {
                    inner.armed = true;
                    self.timers.push(Reverse((at_us, lane.id)));
                }
            }
            Readiness::Blocked => {}
        }
    }

    /// Queue a lane (whose `queued` is set) with its leader.
    fn route(&mut self, lane: &Arc<Lane>) {
        let leader = lane.inner.lock().leader;
        if leader < 0 {
            self.leaderless.push(Arc::clone(lane));
        } else {
            self.brokers.entry(leader).or_default().ready.push_back(Arc::clone(lane));
        }
    }

    fn ask_for_leaders(&mut self) {
        if self.leaderless.is_empty() {
            return;
        }
        let mut topics: Vec<String> = Vec::new();
        let mut still = Vec::new();
        for lane in std::mem::take(&mut self.leaderless) {
            let (leader, queued) = {
                let inner = lane.inner.lock();
                (inner.leader, inner.queued)
            };
            if leader >= 0 || !queued {
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

    // ------------------------------------------------------------------------------------------------- sending

    fn drain(&mut self, id: i32, now_us: u64) {
        loop {
            let Some(broker) = self.brokers.get_mut(&id) else { return };
            if broker.ready.is_empty() {
                broker.health.stuck_since_us.store(0, Ordering::Relaxed);
                return;
            }
            let Some(connection) = broker.connection.and_then(|id| self.connections.get(&id)) else {
                // Lanes whose leader moved on are queued elsewhere by now, and need no connection here.
                broker.ready.retain(|lane| {
                    let inner = lane.inner.lock();
                    inner.leader == id && inner.queued
                });
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

    fn stuck(broker: &Broker, now_us: u64) {
        let since = &broker.health.stuck_since_us;
        if since.load(Ordering::Relaxed) == 0 {
            since.store(now_us.max(1), Ordering::Relaxed);
        }
    }

    /// One batch of each lane in turn, as many as fit into max.request.size (the first one always does).
    fn pick(&mut self, id: i32, now_us: u64) -> Vec<Picked> {
        let shared = Arc::clone(&self.shared);
        let hurry = shared.in_a_hurry();
        let rules = &shared.config.rules;
        let mut picked: Vec<Picked> = Vec::new();
        let mut room = usize::MAX;
        let mut again = Vec::new();
        let Some(broker) = self.brokers.get_mut(&id) else { return picked };
        for _ in 0..broker.ready.len() {
            let Some(lane) = broker.ready.pop_front() else { break };
            let mut inner = lane.inner.lock();
            if inner.leader != id || !inner.queued {
                continue; // its leader moved on: it is queued there
            }
            let readiness = inner.readiness(rules, now_us, hurry);
            if readiness != Readiness::Ready {
                inner.queued = false;
                if let (Readiness::At(at_us), false) = (readiness, inner.armed) {
                    inner.armed = true;
                    self.timers.push(Reverse((at_us, lane.id)));
                }
                continue;
            }
            let Some(outgoing) = inner.take(self.identity, rules, room, now_us) else {
                // It does not fit into what is left of this request: it is the first of the next one.
                drop(inner);
                broker.ready.push_front(lane);
                break;
            };
            lane.publish_load(&inner);
            let readiness = inner.readiness(rules, now_us, hurry);
            match readiness {
                Readiness::Ready => {}
                Readiness::At(at_us) => {
                    inner.queued = false;
                    if !inner.armed {
                        inner.armed = true;
                        self.timers.push(Reverse((at_us, lane.id)));
                    }
                }
                Readiness::Blocked => inner.queued = false,
            }
            drop(inner);
            let spent = if room == usize::MAX { shared.config.max_request_size } else { room };
            room = spent.saturating_sub(outgoing.size);
            if readiness == Readiness::Ready {
                again.push(Arc::clone(&lane));
            }
            picked.push(Picked { lane, outgoing });
        }
        // Those that were not reached come first next time; those served go to the back.
        broker.ready.extend(again);
        picked
    }

    fn send(&mut self, id: i32, mut picked: Vec<Picked>, now_us: u64) {
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
        let version = connection.produce_version;
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
            let topic = stats.topic(&one.lane.topic);
            topic.bytes += one.outgoing.size as u64;
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
                answered: false,
            })
            .collect();
        let kind = RequestKind::Produce { version, batches };
        connection.send(correlation_id, kind, segments, now_us, config.request_timeout_us);
        let id = connection.id;
        self.writable.insert(id);
    }

    fn write_all(&mut self, now_us: u64) {
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
                Err(error) => self.close(id, &error.to_string(), false, now_us),
            }
        }
    }

    /// acks=0: what has left is done; no answer will come.
    fn complete_unacknowledged(&mut self, id: u64, now_us: u64) {
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
            for sent in batches {
                let mut inner = sent.lane.inner.lock();
                if let Some(batch) = inner.answered(sent.batch_id) {
                    inner.acknowledge(&batch, -1, -1);
                    self.finish(batch, Outcome::Delivered { base_offset: -1, log_append_time_ms: -1 });
                }
                drop(inner);
                self.after_answer(&sent.lane, now_us);
            }
        }
    }

    // ------------------------------------------------------------------------------------------------- answers

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

    fn read(&mut self, id: u64, now_us: u64) {
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
    fn on_frame(&mut self, id: u64, frame: Vec<u8>, now_us: u64) -> Result<(), String> {
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
        match (request.map(|request| request.kind), parsed) {
            (Some(RequestKind::Produce { version, batches }), Some(response)) => {
                self.on_produce(id, version, batches, response, now_us)
            }
            _ => {
                self.shared.events.push(Event::FrameReceived { connection: id, correlation_id, frame });
                Ok(())
            }
        }
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
            self.shared.stats.lock().throttle.record(f64::from(response.throttle_time_ms));
            if let Some(connection) = self.connections.get_mut(&id) {
                // KIP-219: the broker has answered already and expects us to keep still.
                connection.muted_until_us = now_us + response.throttle_time_ms as u64 * 1000;
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
            let last = LastAnswer {
                code: NETWORK_EXCEPTION,
                message: "the broker's answer left this partition out".to_owned(),
                base_offset: -1,
                ..LastAnswer::default()
            };
            self.lose(sent, Fate::Unknown, last, now_us);
        }
        nonsense.map_or(Ok(()), |why| Err(why.to_owned()))
    }

    fn on_partition(&mut self, sent: &SentBatch, answer: PartitionResponse, now_us: u64) {
        let mut inner = sent.lane.inner.lock();
        let Some(batch) = inner.answered(sent.batch_id) else { return };
        if answer.error_code == 0 {
            inner.acknowledge(&batch, answer.base_offset, answer.log_start_offset);
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
            inner.settle(batch, Fate::of_answer(answer.error_code), last);
        }
        drop(inner);
        self.after_answer(&sent.lane, now_us);
    }

    /// A batch whose answer will not come.
    fn lose(&mut self, sent: &SentBatch, fate: Fate, last: LastAnswer, now_us: u64) {
        let mut inner = sent.lane.inner.lock();
        let Some(batch) = inner.answered(sent.batch_id) else { return };
        inner.settle(batch, fate, last);
        drop(inner);
        self.after_answer(&sent.lane, now_us);
    }

    /// Something came back for this lane: hand it over if it has settled, else see whether it can send on.
    fn after_answer(&mut self, lane: &Arc<Lane>, now_us: u64) {
        let mut inner = lane.inner.lock();
        if inner.hand_over() {
            lane.publish_load(&inner);
            let report = self.lane_report(lane, &inner, now_us);
            self.handed_over.push(report);
            return;
        }
        drop(inner);
        self.reconsider(lane, now_us);
    }

    fn lane_report(&self, lane: &Lane, inner: &LaneInner, now_us: u64) -> LaneReport {
        let timeout_us = self.shared.config.rules.delivery_timeout_us as i64;
        let batches = inner.settled.iter().map(|batch| {
            let age_us = now_us.saturating_sub(batch.created_us) as i64;
            BatchReport {
                batch_id: batch.id,
                base_sequence: batch.numbering.map_or(-1, |(_, sequence)| sequence),
                record_count: batch.count(),
                size: batch.size(),
                attempts: batch.attempts,
                fate: batch.fate,
                error_code: batch.last.code,
                error_message: batch.last.message.clone(),
                age_ms: age_us / 1000,
                remaining_ms: (timeout_us - age_us) / 1000,
                expired: batch.expired,
                base_offset: batch.last.base_offset,
                current_leader: batch.last.leader.unwrap_or((-1, -1)),
            }
        });
        LaneReport {
            topic: lane.topic.to_string(),
            topic_id: inner.topic_id,
            partition: lane.partition,
            leader: inner.used_leader,
            identity: inner.identity,
            last_acked_sequence: inner.last_acked_sequence,
            last_acked_offset: inner.last_acked_offset,
            log_start_offset: inner.log_start_offset,
            failures: inner.failures,
            batches: batches.collect(),
        }
    }

    fn report(&mut self) {
        if !self.handed_over.is_empty() || !self.endpoints.is_empty() {
            self.shared.events.push(Event::LanesHandedOver {
                lanes: std::mem::take(&mut self.handed_over),
                endpoints: std::mem::take(&mut self.endpoints),
            });
        }
    }

    // ------------------------------------------------------------------------------------------------- endings

    /// Resolve a batch and give its memory back.
    fn finish(&self, batch: Batch, outcome: Outcome) {
        if !batch.expired {
            self.announce(&batch, |batch| batch.completion.resolve(outcome));
        }
        self.dispose(batch);
    }

    fn finish_failed(&self, batch: Batch, stage: &'static str, failure: Failure) {
        self.fail(&batch, stage, failure);
        self.dispose(batch);
    }

    /// Fail the records of a batch that goes on living for its numbers' sake.
    fn fail(&self, batch: &Batch, stage: &'static str, failure: Failure) {
        if batch.expired {
            return;
        }
        let count = batch.count();
        self.announce(batch, |batch| fail_batch(batch, stage, failure));
        let mut stats = self.shared.stats.lock();
        stats.topic(&batch.completion.topic).errors += u64::from(count);
        drop(stats);
        self.shared.note_failure(&batch.completion, count);
    }

    fn announce(&self, batch: &Batch, resolve: impl FnOnce(&Batch) -> Option<Vec<(u32, usize)>>) {
        if let Some(callbacks) = resolve(batch)
            && !callbacks.is_empty()
        {
            self.shared.callbacks.push(Burst { completion: Arc::clone(&batch.completion), callbacks });
        }
    }

    fn dispose(&self, batch: Batch) {
        let charged = batch.charged;
        if let Some(buffer) = batch.into_buffer() {
            self.shared.pool.recycle(buffer);
        }
        self.shared.release(charged);
    }

    fn close(&mut self, id: u64, reason: &str, expected: bool, now_us: u64) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        self.transport.close(id);
        self.writable.remove(&id);
        let mut stats = self.shared.stats.lock();
        stats.in_flight -= connection.requests.len() as u64;
        if connection.stage != Stage::Connecting {
            stats.connections_closed += 1;
            stats.connections -= 1;
        }
        drop(stats);
        for request in std::mem::take(&mut connection.requests) {
            let fate = connection.fate(&request);
            if let RequestKind::Produce { batches, .. } = request.kind {
                for sent in batches.iter().filter(|sent| !sent.answered) {
                    let last = LastAnswer {
                        code: NETWORK_EXCEPTION,
                        message: reason.to_owned(),
                        base_offset: -1,
                        ..LastAnswer::default()
                    };
                    self.lose(sent, fate, last, now_us);
                }
            }
        }
        let mut requested = false;
        if let Some(broker) = self.brokers.get_mut(&connection.broker) {
            if broker.connection == Some(id) {
                broker.connection = None;
            }
            requested = broker.connection.is_none() && !broker.ready.is_empty();
            broker.wanted = requested;
        }
        self.shared.events.push(Event::ConnectionClosed {
            connection: id,
            broker: connection.broker,
            stage: connection.stage,
            reason: reason.to_owned(),
            expected,
            requested,
        });
    }

    // ------------------------------------------------------------------------------------------------- deadlines

    fn tick(&mut self, now_us: u64) {
        self.next_tick_us = now_us + TICK_US;
        self.expire_records(now_us);
        self.expire_connections(now_us);
    }

    fn expire_connections(&mut self, now_us: u64) {
        let idle_us = self.shared.config.max_idle_us;
        let mut closing: Vec<(u64, String, bool)> = Vec::new();
        for connection in self.connections.values() {
            let id = connection.id;
            if connection.stage == Stage::Connecting {
                if now_us >= connection.setup_deadline_us {
                    closing.push((
                        id,
                        "the connection was not up in time (socket.connection.setup.timeout.ms)".into(),
                        false,
                    ));
                }
            } else if let Some(request) = connection.requests.front() {
                if now_us >= request.timeout_at_us {
                    let waited_ms = (now_us - request.sent_us) / 1000;
                    closing.push((id, format!("no answer within {waited_ms} ms (request.timeout.ms)"), false));
                }
            } else if idle_us.is_some_and(|idle_us| now_us.saturating_sub(connection.last_used_us) >= idle_us) {
                closing.push((id, "idle (connections.max.idle.ms)".into(), true));
            }
        }
        for (id, reason, expected) in closing {
            self.close(id, &reason, expected, now_us);
        }
    }

    fn expire_records(&mut self, now_us: u64) {
        let Some(limit_us) = now_us.checked_sub(self.shared.config.rules.delivery_timeout_us) else { return };
        let status = self.shared.status();
        for at in 0..self.lanes.len() {
            let lane = Arc::clone(&self.lanes[at]);
            let mut inner = lane.inner.lock();
            let oldest = inner.unresolved().map(|batch| batch.created_us).min();
            if oldest.is_none_or(|created_us| created_us > limit_us) {
                continue;
            }
            self.expire_lane(&mut inner, &status, limit_us, now_us);
            lane.publish_load(&inner);
            drop(inner);
            self.after_answer(&lane, now_us);
        }
    }

    fn expire_lane(&self, inner: &mut LaneInner, status: &str, limit_us: u64, now_us: u64) {
        let cause = if inner.leader < 0 { format!("the partition has no leader; {status}") } else { status.to_owned() };
        let timeout = |batch: &Batch| {
            let message = if batch.last.message.is_empty() { cause.clone() } else { batch.last.message.clone() };
            batch.failure(FailureKind::Timeout, batch.last.code, message, now_us)
        };
        // Sent and unanswered, or with the control plane: the records fail now, the batch stays for its numbers' sake.
        let mut sent_expired = false;
        for batch in &mut inner.in_flight {
            if !batch.expired && batch.created_us <= limit_us {
                // It is on the wire: only an answer could say more.
                let mut failure = timeout(batch);
                failure.possibly_persisted = true;
                self.fail(batch, "in flight", failure);
                batch.fate = Fate::Unknown;
                batch.expired = true;
                sent_expired = true;
            }
        }
        for batch in &mut inner.settled {
            if !batch.expired && batch.created_us <= limit_us {
                self.fail(batch, "retry", timeout(batch));
                batch.expired = true;
            }
        }
        let mut kept = VecDeque::with_capacity(inner.queue.len());
        for mut batch in std::mem::take(&mut inner.queue) {
            if batch.expired || batch.created_us > limit_us {
                kept.push_back(batch);
            } else if batch.attempts > 0 {
                self.fail(&batch, "retry", timeout(&batch));
                batch.expired = true;
                sent_expired = true;
                kept.push_back(batch);
            } else {
                // Never sent, never numbered: nothing depends on it.
                let failure = timeout(&batch);
                self.finish_failed(batch, "linger", failure);
            }
        }
        inner.queue = kept;
        if sent_expired {
            inner.begin_settling();
        }
    }

    // ------------------------------------------------------------------------------------------------- the end

    fn fail_everything(&mut self, kind: FailureKind, code: i16, message: &str, now_us: u64) {
        for at in 0..self.lanes.len() {
            let lane = Arc::clone(&self.lanes[at]);
            let mut inner = lane.inner.lock();
            inner.state = LaneState::Closed;
            inner.queued = false;
            let settled = std::mem::take(&mut inner.settled);
            let in_flight = std::mem::take(&mut inner.in_flight);
            let queue = std::mem::take(&mut inner.queue);
            for (batch, stage) in settled
                .into_iter()
                .map(|batch| (batch, "retry"))
                .chain(in_flight.into_iter().map(|batch| (batch, "in flight")))
                .chain(queue.into_iter().map(|batch| {
                    let stage = if batch.attempts > 0 { "retry" } else { "linger" };
                    (batch, stage)
                }))
            {
                let mut failure = batch.failure(kind, code, message.to_owned(), now_us);
                failure.possibly_persisted |= stage == "in flight";
                self.finish_failed(batch, stage, failure);
            }
            lane.publish_load(&inner);
        }
    }

    /// `close` gave up on what is left.
    pub fn shut_down(&mut self) {
        let now_us = self.shared.now_us();
        let message = "the producer was closed before the record was acknowledged";
        self.fail_everything(FailureKind::Closed, 0, message, now_us);
        let open: Vec<u64> = self.connections.keys().copied().collect();
        for id in open {
            self.close(id, "the producer was closed", true, now_us);
        }
        self.report();
        self.shared.callbacks.close();
    }

    /// A bug: fail every record and take no more.
    pub fn die(&mut self, message: &str) {
        if std::mem::replace(&mut self.dead, true) {
            return;
        }
        self.shared.set_fatal(-1, message.to_owned());
        let now_us = self.shared.now_us();
        self.fail_everything(FailureKind::Internal, 0, message, now_us);
    }

    /// For the io metrics: one wait for sockets, and the work before it.
    pub fn count_select(&mut self, waited: Duration, worked: Duration) {
        let mut stats = self.shared.stats.lock();
        stats.selects += 1;
        stats.io_wait_ns += waited.as_nanos() as u64;
        stats.io_ns += worked.as_nanos() as u64;
    }
}
