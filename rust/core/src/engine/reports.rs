//! Reports of lanes that are handed over to the control plane.

use super::Engine;
use crate::boundary::{BatchReport, Event, LaneReport};
use crate::error_code::NONE;
use crate::io::transport::Transport;
use crate::lane::identity::Identity;
use crate::lane::{Lane, LaneInner};

impl<T: Transport> Engine<T> {
    pub(super) fn report(&mut self) {
        if !self.handed_over.is_empty() || !self.endpoints.is_empty() {
            self.shared.events.push(Event::LanesHandedOver {
                lanes: std::mem::take(&mut self.handed_over),
                endpoints: std::mem::take(&mut self.endpoints),
            });
        }
    }
}

pub(super) fn lane_report(lane: &Lane, inner: &LaneInner) -> LaneReport {
    let batches = inner.settled().map(|batch| {
        // After a decision only the message stays. An offset with code 0 would pass for an acknowledgement.
        let undecided = batch.undecided();
        let (current_leader, current_leader_epoch) = undecided.and_then(|last| last.leader).unwrap_or((-1, -1));
        BatchReport {
            batch_id: batch.id(),
            base_sequence: batch.numbering().map_or(-1, |(_, sequence)| sequence),
            record_count: batch.count(),
            attempts: batch.attempts(),
            fate: batch.fate(),
            error_code: undecided.map_or(NONE, |last| last.code),
            error_message: batch.last().message.clone(),
            expired: batch.is_expired(),
            lost: undecided.is_some_and(|last| last.lost),
            base_offset: undecided.map_or(-1, |last| last.base_offset),
            current_leader,
            current_leader_epoch,
        }
    });
    let (leader, leader_epoch) = inner.used_leader();
    let Identity { producer_id, epoch } = inner.identity().unwrap_or(Identity { producer_id: -1, epoch: -1 });
    LaneReport {
        topic: lane.topic.to_string(),
        topic_id: inner.topic_id(),
        partition: lane.partition,
        leader,
        leader_epoch,
        producer_id,
        epoch,
        last_acked_sequence: inner.last_acked_sequence(),
        log_start_offset: inner.log_start_offset(),
        failures: inner.failures(),
        numbers_used_elsewhere: inner.numbers_used_elsewhere(),
        batches: batches.collect(),
    }
}
