//! Records fail while their lane goes on, or with the producer.

use std::collections::VecDeque;

use crate::lane::LaneInner;
use crate::lane::batch::{IN_FLIGHT, LINGER, LaneBatch, RETRY};
use crate::lane::fate::Fate;
use crate::lane::state::LaneEvent;

impl LaneInner {
    /// The records of the batches that are `due` fail.
    ///
    /// A batch that was sent stays because of its sequence numbers, marked as expired: `fail` resolves its futures,
    /// given the batch and where it was. A batch that was never sent is returned, for the caller to fail and to dispose
    /// of.
    pub fn expire(
        &mut self,
        due: impl Fn(&LaneBatch) -> bool,
        mut fail: impl FnMut(&LaneBatch, &'static str),
    ) -> Vec<LaneBatch> {
        let mut sent_expired = false;
        for batch in &mut self.in_flight {
            if !batch.expired && due(batch) {
                fail(batch, IN_FLIGHT);
                batch.fate = Fate::Unknown;
                batch.expired = true;
                sent_expired = true;
            }
        }
        for batch in &mut self.settled {
            if !batch.expired && due(batch) {
                fail(batch, RETRY);
                batch.expired = true;
            }
        }
        let mut unsent = Vec::new();
        let mut kept = VecDeque::with_capacity(self.queue.len());
        for mut batch in std::mem::take(&mut self.queue) {
            if batch.expired || !due(&batch) {
                kept.push_back(batch);
            } else if batch.attempts > 0 {
                fail(&batch, RETRY);
                batch.expired = true;
                sent_expired = true;
                kept.push_back(batch);
            } else {
                // Never numbered: nothing depends on it.
                unsent.push(batch);
            }
        }
        self.queue = kept;
        if sent_expired {
            self.on(LaneEvent::Trouble);
        }
        unsent
    }

    /// A batch that waits to be sent again may have expired after it was reported. The error of its records says
    /// whether it may be persisted; to send it again could make that wrong. So the lane settles again, for another
    /// decision.
    pub fn settle_expired(&mut self) {
        if self.queue.iter().any(|batch| batch.expired) {
            self.on(LaneEvent::Trouble);
        }
    }

    /// The producer has ended: all batches, each with where it was.
    pub fn close(&mut self) -> Vec<(LaneBatch, &'static str)> {
        self.on(LaneEvent::ProducerClosed);
        self.queued = false;
        let settled = std::mem::take(&mut self.settled).into_iter().map(|batch| (batch, RETRY));
        let in_flight = std::mem::take(&mut self.in_flight).into_iter().map(|batch| (batch, IN_FLIGHT));
        let queue = std::mem::take(&mut self.queue).into_iter().map(|batch| {
            let stage = if batch.attempts > 0 { RETRY } else { LINGER };
            (batch, stage)
        });
        settled.chain(in_flight).chain(queue).collect()
    }
}
