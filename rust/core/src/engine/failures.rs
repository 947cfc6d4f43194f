//! How things end: batches resolved, connections closed, deadlines, the producer's end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Engine, TICK_US};
use crate::boundary::{Event, Stage};
use crate::io::connection::{RequestKind, Transport};
use crate::kafka_errors::{NETWORK_EXCEPTION, NONE, UNKNOWN_TOPIC_ID};
use crate::lane::LaneInner;
use crate::lane::batch::{IN_FLIGHT, LINGER, LaneBatch, LastAnswer};
use crate::outcome::{Burst, CallbackToken, Failure, FailureKind, Outcome};

impl<T: Transport> Engine<T> {
    /// Resolve a batch; its memory goes back, or follows its callbacks.
    pub(super) fn finish(&self, batch: LaneBatch, outcome: Outcome) {
        let callbacks = batch.resolve(outcome);
        self.dispose(batch, callbacks);
    }

    pub(super) fn finish_failed(&self, batch: LaneBatch, stage: &'static str, failure: Failure) {
        let callbacks = self.resolve_failed(&batch, stage, failure);
        self.dispose(batch, callbacks);
    }

    /// Fail the records of a batch that goes on living for its numbers' sake, and so keeps its memory.
    pub(super) fn fail(&self, batch: &LaneBatch, stage: &'static str, failure: Failure) {
        let callbacks = self.resolve_failed(batch, stage, failure);
        if !callbacks.is_empty() {
            let completion = Arc::clone(batch.completion());
            self.shared.callbacks.push(Burst { completion, callbacks, charged: 0 });
        }
    }

    fn resolve_failed(&self, batch: &LaneBatch, stage: &'static str, failure: Failure) -> Vec<(u32, CallbackToken)> {
        if batch.is_expired() {
            return Vec::new();
        }
        let count = batch.count();
        // Counted first: whoever hears of the failure finds it in the metrics.
        let mut stats = self.shared.stats.lock();
        stats.topic(&batch.completion().topic).errors += u64::from(count);
        drop(stats);
        let callbacks = batch.fail(stage, failure);
        self.shared.note_failure(batch.completion(), count);
        callbacks
    }

    fn dispose(&self, mut batch: LaneBatch, callbacks: Vec<(u32, CallbackToken)>) {
        let (charged, completion) = (batch.settle_memory(), Arc::clone(batch.completion()));
        if let Some(buffer) = batch.into_buffer() {
            self.shared.pool.recycle(buffer);
        }
        if callbacks.is_empty() {
            self.shared.release(charged);
        } else {
            self.shared.callbacks.push(Burst { completion, callbacks, charged });
        }
    }

    pub(super) fn close(&mut self, id: u64, reason: &str, expected: bool, now_us: u64) {
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
                    let last = LastAnswer::error(NETWORK_EXCEPTION, reason.to_owned());
                    self.lose(sent, fate, last, now_us);
                }
            }
        }
        if let Some(broker) = self.brokers.get_mut(&connection.broker)
            && broker.connection == Some(id)
        {
            broker.connection = None;
            if broker.ready.is_empty() {
                // Nothing waits for it any more; whether it can be reached is seen when something does.
                broker.health.stuck_since_us.store(0, Ordering::Relaxed);
            }
        }
        let requested = self.ask_again(connection.broker);
        self.shared.events.push(Event::ConnectionClosed {
            connection: id,
            broker: connection.broker,
            stage: connection.stage,
            reason: reason.to_owned(),
            expected,
            requested,
        });
    }

    /// A connection to this broker ended: whether records wait for one. If so, the next pass asks for it once more, since
    /// the one that ended may have been the control plane's own.
    pub(super) fn ask_again(&mut self, broker: i32) -> bool {
        let Some(broker) = self.brokers.get_mut(&broker) else { return false };
        broker.wanted = false;
        broker.connection.is_none() && !broker.ready.is_empty()
    }

    pub(super) fn tick(&mut self, now_us: u64) {
        self.next_tick_us = now_us + TICK_US;
        self.note_arrivals(now_us);
        self.expire_records(now_us);
        self.expire_connections(now_us);
        self.note_stuck(now_us);
    }

    /// For the age that each record of a batch is told when it fails.
    fn note_arrivals(&self, now_us: u64) {
        // An idle lane is not worth its lock.
        for lane in self.lanes.iter().filter(|lane| lane.load.load(Ordering::Relaxed) > 0) {
            lane.inner.lock().note_arrivals(now_us);
        }
    }

    /// For partitioner.availability.timeout.ms: brokers that owe so many answers that what waits for them cannot leave.
    ///
    /// Such lanes stand in no ready queue, so that `drain` does not see them (Java: a node that `canSendMore` refuses).
    fn note_stuck(&self, now_us: u64) {
        let rules = &self.shared.config.rules;
        if self.shared.config.partitioning.availability_timeout_us == 0 {
            return;
        }
        for lane in &self.lanes {
            if let Some(leader) = lane.inner.lock().held_up_by(rules, now_us)
                && let Some(broker) = self.brokers.get(&leader)
            {
                Self::stuck(broker, now_us);
            }
        }
    }

    pub(super) fn expire_connections(&mut self, now_us: u64) {
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

    pub(super) fn expire_records(&mut self, now_us: u64) {
        let Some(limit_us) = now_us.checked_sub(self.shared.config.rules.delivery_timeout_us) else { return };
        let status = self.shared.status();
        for at in 0..self.lanes.len() {
            let lane = Arc::clone(&self.lanes[at]);
            let mut inner = lane.inner.lock();
            let oldest = inner.unresolved().map(LaneBatch::created_us).min();
            if oldest.is_none_or(|created_us| created_us > limit_us) {
                continue;
            }
            self.expire_lane(&mut inner, &status, limit_us, now_us);
            lane.publish_load(&inner);
            drop(inner);
            self.after_answer(&lane, now_us);
        }
    }

    pub(super) fn expire_lane(&self, inner: &mut LaneInner, status: &str, limit_us: u64, now_us: u64) {
        let (held_up_code, held_up_by) = self.why_unsent(inner, status, now_us);
        let leader = inner.leader();
        let timeout = |batch: &LaneBatch| {
            let mut failure =
                batch.failure(FailureKind::Timeout, batch.last().code, batch.last().message.clone(), now_us);
            if batch.attempts() == 0 {
                (failure.code, failure.message, failure.broker) = (held_up_code, held_up_by.clone(), leader);
            } else if failure.code == NONE && failure.message.is_empty() {
                failure.message =
                    format!("sent {} ms ago, not answered yet", now_us.saturating_sub(batch.sent_us()) / 1000);
            }
            failure
        };
        self.give_up(inner, |batch| batch.created_us() <= limit_us, timeout);
    }

    /// Fail the records of the batches that are due. A batch that was sent stays for its numbers' sake, marked.
    fn give_up(
        &self,
        inner: &mut LaneInner,
        due: impl Fn(&LaneBatch) -> bool,
        failure: impl Fn(&LaneBatch) -> Failure,
    ) {
        let unsent = inner.expire(due, |batch, stage| {
            let mut failure = failure(batch);
            // It is on the wire: only an answer could say more.
            failure.possibly_persisted |= stage == IN_FLIGHT;
            self.fail(batch, stage, failure);
        });
        for batch in unsent {
            let failure = failure(&batch);
            self.finish_failed(batch, LINGER, failure);
        }
    }

    /// See [`LaneInner::enter_topic`]; what is stranded fails.
    pub(super) fn enter_topic(&self, inner: &mut LaneInner, now_us: u64) {
        if inner.enter_topic() {
            let stranded = |batch: &LaneBatch| {
                let message =
                    "the topic has an id again under which this batch may be in the log; meanwhile it had another \
                               one, and the batch got other sequence numbers"
                        .to_owned();
                batch.failure(FailureKind::Broker, UNKNOWN_TOPIC_ID, message, now_us)
            };
            self.give_up(inner, LaneBatch::is_stranded, stranded);
        }
    }

    /// Every record that is buffered now fails; the producer goes on, and its lanes do as after an expiry.
    pub(super) fn fail_buffered(&mut self, code: i16, message: &str, now_us: u64) {
        for at in 0..self.lanes.len() {
            let lane = Arc::clone(&self.lanes[at]);
            let mut inner = lane.inner.lock();
            if inner.unresolved().next().is_none() {
                continue;
            }
            let refused = |batch: &LaneBatch| batch.failure(FailureKind::Broker, code, message.to_owned(), now_us);
            self.give_up(&mut inner, |_| true, refused);
            lane.publish_load(&inner);
            drop(inner);
            self.after_answer(&lane, now_us);
        }
    }

    /// What keeps the batches of a lane in the buffer: the last error's code (0 for none), and words for people.
    fn why_unsent(&self, inner: &LaneInner, status: &str, now_us: u64) -> (i16, String) {
        // Whatever has been tried before goes first, and what it met is what the others wait for.
        let tried = inner.first_tried();
        if let Some(batch) = tried {
            let said =
                if batch.last().message.is_empty() { String::new() } else { format!(": {}", batch.last().message) };
            let times =
                if batch.attempts() == 1 { "1 attempt".to_owned() } else { format!("{} attempts", batch.attempts()) };
            return (batch.last().code, format!("met by the batch before it, after {times}{said}"));
        }
        let and_status = if status.is_empty() { String::new() } else { format!("; {status}") };
        let why = match self.brokers.get(&inner.leader()) {
            _ if inner.leader() < 0 => format!("the partition has no leader{and_status}"),
            Some(broker) if broker.connection.is_none() && !broker.trouble.is_empty() => broker.trouble.clone(),
            _ if self.shared.config.rules.idempotent && self.identity.is_none() && inner.identity().is_none() => {
                format!("no broker has given the producer its id yet{and_status}")
            }
            _ if inner.waits_for_encoding() => "its batch is still being compressed".to_owned(),
            broker => match (inner.oldest_sent_us(), broker) {
                (Some(sent_us), _) => {
                    let waited_ms = now_us.saturating_sub(sent_us) / 1000;
                    format!("the batch before it was sent {waited_ms} ms ago and is not answered yet")
                }
                (None, Some(broker)) if broker.connection.is_none() => {
                    format!("no connection to the leader yet{and_status}")
                }
                _ => status.to_owned(),
            },
        };
        (NONE, why)
    }

    pub(super) fn fail_everything(&mut self, kind: FailureKind, code: i16, message: &str, now_us: u64) {
        let status = self.shared.status();
        for at in 0..self.lanes.len() {
            let lane = Arc::clone(&self.lanes[at]);
            let mut inner = lane.inner.lock();
            for (batch, stage) in inner.close() {
                let last = batch.last();
                let mut failure = match kind {
                    // Whoever gives up wants to know what the record met with last.
                    FailureKind::Closed if last.message.is_empty() => {
                        batch.failure(kind, last.code, status.clone(), now_us)
                    }
                    FailureKind::Closed => batch.failure(kind, last.code, last.message.clone(), now_us),
                    _ => batch.failure(kind, code, message.to_owned(), now_us),
                };
                failure.possibly_persisted |= stage == IN_FLIGHT;
                self.finish_failed(batch, stage, failure);
            }
            lane.publish_load(&inner);
        }
    }

    /// `close` gave up on what is left.
    pub fn shut_down(&mut self) {
        let now_us = self.shared.now_us();
        self.fail_everything(FailureKind::Closed, 0, "", now_us);
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
