//! A lane comes back from the control plane, with a decision about each batch.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Engine;
use crate::boundary::{BatchDecision, Decision, Renumber};
use crate::io::transport::Transport;
use crate::lane::batch::{IN_FLIGHT, LaneBatch, RETRY};
use crate::lane::fate::Fate;
use crate::lane::identity::Identity;
use crate::lane::{Lane, LaneInner};
use crate::outcome::{FailureKind, Outcome};
use crate::topic::{Topic, TopicState};

impl<T: Transport> Engine<T> {
    /// An error: the decisions do not fit the lane.
    pub(super) fn resume(
        &mut self,
        topic: &str,
        partition: i32,
        decisions: Vec<BatchDecision>,
        renumber: Option<Renumber>,
        delay_us: u64,
        now_us: u64,
    ) -> Result<(), &'static str> {
        let topic = self.shared.topics.entry(topic).topic.ok_or("no such lane")?;
        let lane = usize::try_from(partition).ok().and_then(|at| topic.lanes.get(at)).ok_or("no such lane")?;
        let accepted_before = topic.state.accepted_bytes();
        let mut inner = lane.inner.lock();
        let Some(settled) = inner.take_settled(decisions.iter().map(|decision| decision.batch_id))? else {
            return Ok(());
        };
        let mut remaining = VecDeque::with_capacity(decisions.len());
        for (batch, decision) in settled.into_iter().zip(decisions) {
            self.decide((&topic.state, lane), &mut inner, batch, decision.action, &mut remaining, now_us);
        }
        let renumber = renumber.map(|Renumber { producer_id, epoch, first_sequence }| {
            (Identity { producer_id, epoch }, first_sequence) // as lanes have it
        });
        inner.resume(remaining, renumber, now_us.saturating_add(delay_us))?;
        self.enter_topic(&mut inner, now_us);
        inner.settle_expired();
        lane.publish_load(&inner);
        drop(inner);
        self.after_answer(lane, now_us);
        if topic.state.accepted_bytes() < accepted_before {
            self.split_waiting(&topic, now_us);
        }
        Ok(())
    }

    /// The topic has learned that it takes smaller batches only: those that wait in its lanes are split before they are sent.
    fn split_waiting(&mut self, topic: &Topic, now_us: u64) {
        let shared = Arc::clone(&self.shared);
        for lane in &topic.lanes {
            let mut inner = lane.inner.lock();
            let splits = inner.split_waiting(topic.state.accepted_bytes(), || shared.next_batch_id());
            lane.publish_load(&inner);
            drop(inner);
            if splits > 0 {
                shared.stats.lock().splits += splits;
                self.after_answer(lane, now_us);
            }
        }
    }

    fn decide(
        &self,
        (topic, lane): (&TopicState, &Arc<Lane>),
        inner: &mut LaneInner,
        batch: LaneBatch,
        decision: Decision,
        remaining: &mut VecDeque<LaneBatch>,
        now_us: u64,
    ) {
        match decision {
            Decision::Retry => match refused_by_topic(topic, &batch) {
                // A smaller one was refused: this one would be.
                Some(accepted) => self.split(lane, batch, accepted, remaining, now_us),
                None => remaining.push_back(batch),
            },
            Decision::Fail { kind, code, message } => {
                let failure = batch.failure(kind, code, message, now_us);
                // Refused at its first attempt, it was never retried.
                let stage = if batch.attempts() > 1 { RETRY } else { IN_FLIGHT };
                self.shared.finish_failed(batch, stage, failure);
            }
            Decision::Complete { base_offset } => {
                inner.acknowledge(&batch);
                self.shared.finish(batch, Outcome::Delivered { base_offset, log_append_time_ms: -1 });
            }
            // A batch that is not even compressed yet was not refused.
            Decision::Split if batch.is_encoding() => remaining.push_back(batch),
            Decision::Split => {
                let accepted = self.learn_refused(topic, inner, &batch);
                inner.probe();
                self.split(lane, batch, accepted, remaining, now_us);
            }
        }
    }

    /// `batch` was too large. The bytes that its topic accepts, which learns it: the largest size that is known to be
    /// accepted, or half of this one. Without growth, as in Java, nothing is learned: batch.size.
    fn learn_refused(&self, topic: &TopicState, inner: &LaneInner, batch: &LaneBatch) -> usize {
        let config = &self.shared.config;
        if config.grows() { topic.learn_refused(batch.size(), inner.largest_acknowledged()) } else { config.batch_size }
    }

    /// `accepted`: bytes on the wire.
    fn split(
        &self,
        lane: &Arc<Lane>,
        batch: LaneBatch,
        accepted: usize,
        remaining: &mut VecDeque<LaneBatch>,
        now_us: u64,
    ) {
        let shared = &self.shared;
        // The parts are not compressed yet. What they compress to is not known, so without growth, as in Java, not counted.
        let ratio = batch.ratio().filter(|_| shared.config.grows()).unwrap_or(1.0);
        let limit = batch.split_limit((accepted as f64 / ratio) as usize);
        if let (Some(codecs), Some(ratio)) = (shared.encoding.codecs(), batch.ratio()) {
            codecs.ratios.reset(&lane.topic, ratio as f32);
        }
        match batch.split(limit, || shared.next_batch_id()) {
            Ok(mut children) => {
                shared.stats.lock().splits += 1;
                for child in &mut children {
                    shared.encoding.encode(lane, child);
                }
                remaining.extend(children);
            }
            Err(batch) => {
                let message = "the broker refuses a batch that holds one record only".to_owned();
                let failure = batch.failure(FailureKind::Broker, batch.last().code, message, now_us);
                self.shared.finish_failed(*batch, RETRY, failure);
            }
        }
    }
}

/// The bytes that the topic accepts, if it has refused a batch of this size. Only a batch that is certainly not in the log
/// may be split.
fn refused_by_topic(topic: &TopicState, batch: &LaneBatch) -> Option<usize> {
    let may_be_split =
        batch.count() > 1 && matches!(batch.fate(), Fate::Rejected | Fate::Unsent) && !batch.is_encoding();
    Some(topic.accepted_bytes()).filter(|&accepted| may_be_split && batch.size() > accepted)
}
