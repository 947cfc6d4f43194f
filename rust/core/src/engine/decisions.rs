//! A lane comes back from the control plane, with a decision about each batch.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Engine;
use crate::boundary::{BatchDecision, Decision, Renumber};
use crate::io::connection::Transport;
use crate::lane::batch::{IN_FLIGHT, LaneBatch, RETRY};
use crate::lane::identity::Identity;
use crate::lane::{Lane, LaneInner};
use crate::outcome::{FailureKind, Outcome};

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
        let mut inner = lane.inner.lock();
        let Some(settled) = inner.take_settled(decisions.iter().map(|decision| decision.batch_id))? else {
            return Ok(());
        };
        let mut remaining = VecDeque::with_capacity(decisions.len());
        for (batch, decision) in settled.into_iter().zip(decisions) {
            self.decide(lane, &mut inner, batch, decision.action, &mut remaining, now_us);
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
        Ok(())
    }

    fn decide(
        &self,
        lane: &Arc<Lane>,
        inner: &mut LaneInner,
        batch: LaneBatch,
        decision: Decision,
        remaining: &mut VecDeque<LaneBatch>,
        now_us: u64,
    ) {
        match decision {
            Decision::Retry => remaining.push_back(batch),
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
            Decision::Split => self.split(lane, batch, remaining, now_us),
        }
    }

    fn split(&self, lane: &Arc<Lane>, batch: LaneBatch, remaining: &mut VecDeque<LaneBatch>, now_us: u64) {
        let shared = &self.shared;
        let limit = batch.split_limit(shared.config.batch_size);
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
