//! Reports of lanes that are handed over to the control plane.

use super::Engine;
use crate::boundary::{BatchReport, Event, LaneReport};
use crate::io::connection::Transport;
use crate::kafka_errors::NONE;
use crate::lane::{Lane, LaneInner};

impl<T: Transport> Engine<T> {
    pub(super) fn lane_report(&self, lane: &Lane, inner: &LaneInner, now_us: u64) -> LaneReport {
        let timeout_us = self.shared.config.rules.delivery_timeout_us as i64;
        let batches = inner.settled().map(|batch| {
            let age_us = now_us.saturating_sub(batch.created_us()) as i64;
            // After a decision only the message stays. An offset with code 0 would pass for an acknowledgement.
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
