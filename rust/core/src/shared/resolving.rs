//! A batch is resolved: its futures, its callbacks, its memory. Under its lane's lock.

use std::sync::Arc;

use super::Shared;
use crate::lane::batch::LaneBatch;
use crate::outcome::{Burst, CallbackToken, Completion, Failure, FailureKind, Outcome};

impl Shared {
    /// Resolve a batch; its memory goes back, or follows its callbacks.
    pub(crate) fn finish(&self, batch: LaneBatch, outcome: Outcome) {
        let callbacks = batch.resolve(outcome);
        self.dispose(batch, callbacks);
    }

    pub(crate) fn finish_failed(&self, batch: LaneBatch, stage: &'static str, failure: Failure) {
        let callbacks = if batch.is_expired() {
            Vec::new()
        } else {
            self.resolve_failed(batch.completion(), batch.live(), stage, failure)
        };
        self.dispose(batch, callbacks);
    }

    /// Fail the first `count` records, of those that have not failed, of a batch that stays in its lane: the others go
    /// on, or its sequence numbers are needed. Memory that it needs no more goes back, or follows the callbacks.
    pub(crate) fn fail_front(&self, batch: &mut LaneBatch, count: u32, stage: &'static str, failure: Failure) {
        let completion = batch.detach(count);
        let callbacks = self.resolve_failed(&completion, count, stage, failure);
        let (chunks, charged) = batch.shrink();
        if let Some(chunks) = chunks {
            self.pool.recycle(chunks.into_buffers());
        }
        if !callbacks.is_empty() {
            self.callbacks.push(Burst { completion, callbacks, charged });
        } else if charged > 0 {
            self.release(charged);
        }
    }

    fn resolve_failed(
        &self,
        completion: &Arc<Completion>,
        count: u32,
        stage: &'static str,
        mut failure: Failure,
    ) -> Vec<(u32, CallbackToken)> {
        failure.stage = stage;
        // The application purged them itself, and was told how many they were.
        let is_noticed = failure.kind == FailureKind::Purged;
        // Counted first: a caller that gets the failure finds it in the metrics.
        let mut stats = self.stats.lock();
        stats.topic(&completion.topic).errors += u64::from(count);
        drop(stats);
        let callbacks = completion.resolve(Outcome::Failed(Box::new(failure))).unwrap_or_default();
        if !is_noticed {
            self.failures.note(completion, count);
        }
        callbacks
    }

    fn dispose(&self, mut batch: LaneBatch, callbacks: Vec<(u32, CallbackToken)>) {
        let (charged, completion) = (batch.settle_memory(), Arc::clone(batch.completion()));
        if let Some(chunks) = batch.into_chunks() {
            self.pool.recycle(chunks.into_buffers());
        }
        if callbacks.is_empty() {
            self.release(charged);
        } else {
            self.callbacks.push(Burst { completion, callbacks, charged });
        }
    }
}
