//! Records fail while their lane goes on, or with the producer.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::lane::LaneInner;
use crate::lane::batch::{IN_FLIGHT, LINGER, LaneBatch, RETRY};
use crate::lane::fate::Fate;
use crate::lane::state::LaneEvent;
use crate::outcome::Completion;
use crate::wire::record_batch::Chunks;

impl LaneInner {
    /// Records fail: of each batch as many, at its front, as are `due` of those that have not failed.
    ///
    /// `fail` is given the batch, that number and where the batch was. It resolves these records with the completion
    /// that [`LaneBatch::detach`] returns. A batch of which all fail stays if it was sent, because of its sequence
    /// numbers, marked as expired; if it was never sent it is returned, for the caller to fail and to dispose of.
    pub fn expire(
        &mut self,
        due: impl Fn(&LaneBatch) -> u32,
        mut fail: impl FnMut(&mut LaneBatch, u32, &'static str),
    ) -> Vec<LaneBatch> {
        // True: all of it has failed by this.
        let mut expires = |batch: &mut LaneBatch, stage| {
            let count = if batch.expired { 0 } else { due(batch) };
            if count > 0 {
                fail(batch, count, stage);
            }
            count > 0 && batch.expired
        };
        let mut settles = false;
        for batch in &mut self.in_flight {
            if expires(batch, IN_FLIGHT) {
                batch.fate = Fate::Unknown;
                settles = true;
            }
        }
        for batch in &mut self.settled {
            expires(batch, RETRY);
        }
        let mut unsent = Vec::new();
        let mut kept = VecDeque::with_capacity(self.queue.len());
        for mut batch in std::mem::take(&mut self.queue) {
            if batch.attempts > 0 {
                settles |= expires(&mut batch, RETRY);
                kept.push_back(batch);
            } else if due(&batch) < batch.live() {
                expires(&mut batch, LINGER);
                kept.push_back(batch);
            } else {
                // Never numbered: nothing depends on it.
                unsent.push(batch);
            }
        }
        self.queue = kept;
        if settles {
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

    /// The batches that were never sent, for the caller to fail and to dispose of: nothing depends on them.
    pub fn purge(&mut self) -> VecDeque<LaneBatch> {
        // Those that were sent are first.
        let tried = self.queue.iter().take_while(|batch| batch.attempts > 0).count();
        self.queue.split_off(tried)
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

impl LaneBatch {
    /// The completion of the first `count` records that have not failed, for the caller to fail them. The others go on
    /// with the batch; if there are none it has expired.
    pub fn detach(&mut self, count: u32) -> Arc<Completion> {
        if count >= self.live() {
            self.expired = true;
            return Arc::clone(&self.completion);
        }
        let [front, rest] =
            [(); 2].map(|()| Completion::new(Arc::clone(&self.completion.topic), self.completion.partition));
        let parts = vec![(0, Arc::clone(&front)), (count, Arc::clone(&rest))];
        self.completion.resolve_split(parts);
        self.completion = rest;
        self.failed += count;
        self.arrivals = self.arrivals.split_off(count);
        // A record's place in the batch would no longer be its place in the completion. And the batch is as old as a
        // batch becomes: there is little to gain by more records.
        self.content.close();
        front
    }

    /// A batch that was never sent loses the records that have failed: they were reported as not persisted. Returns its
    /// memory.
    ///
    /// A codec worker that has the records keeps them; afterwards they are to be compressed again.
    pub fn drop_failed(&mut self) -> Option<Chunks> {
        if self.attempts > 0 || self.failed == 0 || self.is_encoding() {
            return None;
        }
        let chunks = self.content.drop_front(self.failed);
        self.failed = 0;
        chunks
    }

    /// [`LaneBatch::drop_failed`] where that halves its memory at least, so that it costs little for each record. Returns
    /// that memory, and the bytes of buffer.memory that it needs no more.
    pub fn shrink(&mut self) -> (Option<Chunks>, usize) {
        let needed = self.content.uncompressed_size() as u64 * u64::from(self.live()) / u64::from(self.count().max(1));
        if needed > self.charged as u64 / 2 {
            return (None, 0);
        }
        let chunks = self.drop_failed();
        let is_smaller = self.attempts == 0 && self.failed == 0 && !self.expired;
        let kept = if is_smaller { self.size().min(self.charged) } else { self.charged };
        (chunks, std::mem::replace(&mut self.charged, kept) - kept)
    }
}
