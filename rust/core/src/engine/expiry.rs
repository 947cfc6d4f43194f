//! The tick, and records that fail while their lanes go on: expired, refused, or stranded in another topic.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Engine;
use crate::boundary::Trouble;
use crate::error_code::{NONE, UNKNOWN_TOPIC_ID};
use crate::io::transport::Transport;
use crate::lane::batch::{IN_FLIGHT, LINGER, LaneBatch};
use crate::lane::{LaneInner, TICK_US};
use crate::outcome::{Failure, FailureKind};

/// A tick that comes so much too late found the I/O thread stopped.
const STOPPED_US: u64 = 1_000_000;

impl<T: Transport> Engine<T> {
    pub(super) fn tick(&mut self, now_us: u64) {
        self.next_tick_us = now_us + TICK_US;
        self.note_arrivals(now_us);
        self.expire_records(now_us);
        self.expire_connections(now_us);
        self.note_stuck(now_us);
        for broker in self.brokers.values_mut() {
            broker.health.set_pace(broker.pace.now(now_us));
        }
    }

    /// For the deadline of each record, and the age in its error.
    ///
    /// A tick that is far too late found this thread stopped. As a rule so was the whole process: by SIGSTOP, a paused
    /// machine, a debugger. What is in the buffer now was there before the stop, and counts as buffered then: else
    /// it would get its time a second time. (Were only this thread stopped for so long, then a record that a sender
    /// added meanwhile to a batch from before would fail earlier than it should, by the length of the stop at most.)
    fn note_arrivals(&self, now_us: u64) {
        let stopped = now_us > self.planned_us.saturating_add(STOPPED_US);
        let by_us = if stopped { self.planned_us + TICK_US } else { now_us };
        // Idle lanes need not be locked.
        for lane in self.lanes.iter().filter(|lane| lane.load.load(Ordering::Relaxed) > 0) {
            lane.inner.lock().note_arrivals(by_us, now_us);
        }
    }

    fn expire_records(&mut self, now_us: u64) {
        let Some(limit_us) = now_us.checked_sub(self.shared.config.rules.delivery_timeout_us) else { return };
        let status = self.shared.topics.status();
        let due = |batch: &LaneBatch| batch.due(limit_us);
        self.fail_in_lanes(due, now_us, |engine, inner| engine.expire_lane(inner, due, &status, now_us));
    }

    /// Every record that is buffered now fails; the producer goes on, and its lanes do as after an expiry.
    pub(super) fn fail_buffered(&mut self, kind: FailureKind, trouble: &Trouble, now_us: u64) {
        let refused = |batch: &LaneBatch| batch.failure(kind, trouble.code, trouble.message.clone(), now_us);
        let all = LaneBatch::live;
        self.fail_in_lanes(all, now_us, |engine, inner| engine.fail_batches(inner, all, refused));
    }

    /// `fail` is called for each lane that has records that are `due`.
    fn fail_in_lanes(&mut self, due: impl Fn(&LaneBatch) -> u32, now_us: u64, fail: impl Fn(&Self, &mut LaneInner)) {
        for at in 0..self.lanes.len() {
            let lane = Arc::clone(&self.lanes[at]);
            let mut inner = lane.inner.lock();
            if !inner.unresolved().any(|batch| due(batch) > 0) {
                continue;
            }
            fail(self, &mut inner);
            lane.publish_load(&inner);
            drop(inner);
            self.after_answer(&lane, now_us);
        }
    }

    fn expire_lane(&self, inner: &mut LaneInner, due: impl Fn(&LaneBatch) -> u32, status: &Trouble, now_us: u64) {
        let held_up_by = self.why_unsent(inner, status, now_us);
        let leader = inner.leader();
        let timeout = |batch: &LaneBatch| {
            let mut failure =
                batch.failure(FailureKind::Timeout, batch.last().code, batch.last().message.clone(), now_us);
            if batch.attempts() == 0 {
                (failure.code, failure.message, failure.broker) = (held_up_by.code, held_up_by.message.clone(), leader);
            } else if failure.code == NONE && failure.message.is_empty() {
                failure.message =
                    format!("sent {} ms ago, not answered yet", now_us.saturating_sub(batch.sent_us()) / 1000);
            }
            failure
        };
        self.fail_batches(inner, due, timeout);
    }

    /// Why the batches of a lane have not been sent.
    fn why_unsent(&self, inner: &LaneInner, status: &Trouble, now_us: u64) -> Trouble {
        // A batch that was sent before goes first: its error keeps the others waiting.
        if let Some(batch) = inner.first_tried() {
            let (attempts, last) = (batch.attempts(), batch.last());
            let error = if last.message.is_empty() { String::new() } else { format!(": {}", last.message) };
            let times = if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
            let message = format!("met by the batch before it, after {times}{error}");
            return Trouble { code: last.code, message };
        }
        let and_status = |message: &str| {
            let because = if status.message.is_empty() { String::new() } else { format!("; {}", status.message) };
            Trouble { code: status.code, message: format!("{message}{because}") }
        };
        match self.brokers.get(&inner.leader()) {
            _ if inner.leader() < 0 => and_status("the partition has no leader"),
            Some(broker) if broker.connection.is_none() && broker.trouble.is_some() => broker.trouble.clone(),
            _ if self.shared.config.rules.idempotent && self.identity.is_none() && inner.identity().is_none() => {
                and_status("no broker has given the producer its id yet")
            }
            _ if inner.waits_for_encoding() => Trouble::new("its batch is still being compressed"),
            broker => match (inner.oldest_sent_us(), broker) {
                (Some(sent_us), _) => {
                    let waited_ms = now_us.saturating_sub(sent_us) / 1000;
                    Trouble::new(format!("the batch before it was sent {waited_ms} ms ago and is not answered yet"))
                }
                (None, Some(broker)) if broker.connection.is_none() => and_status("no connection to the leader yet"),
                _ => status.clone(),
            },
        }
    }

    /// Fail the records that are due (see [`LaneInner::expire`]).
    fn fail_batches(
        &self,
        inner: &mut LaneInner,
        due: impl Fn(&LaneBatch) -> u32,
        failure: impl Fn(&LaneBatch) -> Failure,
    ) {
        let unsent = inner.expire(due, |batch, count, stage| {
            let mut failure = failure(batch);
            if count < batch.live() {
                failure.arrivals = failure.arrivals.front(count);
                // If it was sent, these records stay in it, and may be sent again with the others.
                failure.possibly_persisted |= batch.attempts() > 0;
            }
            // It is on the wire: without an answer it may have been appended.
            failure.possibly_persisted |= stage == IN_FLIGHT;
            self.shared.fail_front(batch, count, stage, failure);
        });
        for batch in unsent {
            let failure = failure(&batch);
            self.shared.finish_failed(batch, LINGER, failure);
        }
    }

    /// See [`LaneInner::enter_topic`]; stranded batches fail.
    pub(super) fn enter_topic(&self, inner: &mut LaneInner, now_us: u64) {
        if inner.enter_topic() {
            let stranded = |batch: &LaneBatch| {
                let message = "the topic has a former id again, under which this batch may be in the log; under \
                               another id the batch got other sequence numbers";
                batch.failure(FailureKind::Broker, UNKNOWN_TOPIC_ID, message.to_owned(), now_us)
            };
            let due = |batch: &LaneBatch| if batch.is_stranded() { batch.live() } else { 0 };
            self.fail_batches(inner, due, stranded);
        }
    }
}
