//! A batch is resolved: its futures, its callbacks, its memory.

use std::sync::Arc;

use super::Engine;
use crate::io::connection::Transport;
use crate::lane::batch::LaneBatch;
use crate::outcome::{Burst, CallbackToken, Failure, Outcome};

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

    /// Fail the records of a batch that stays in its lane because of its sequence numbers, and so keeps its memory.
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
        // Counted first: a caller that gets the failure finds it in the metrics.
        let mut stats = self.shared.stats.lock();
        stats.topic(&batch.completion().topic).errors += u64::from(count);
        drop(stats);
        let callbacks = batch.fail(stage, failure);
        self.shared.failures.note(batch.completion(), count);
        callbacks
    }

    fn dispose(&self, mut batch: LaneBatch, callbacks: Vec<(u32, CallbackToken)>) {
        let (charged, completion) = (batch.settle_memory(), Arc::clone(batch.completion()));
        if let Some(chunks) = batch.into_chunks() {
            self.shared.pool.recycle(chunks.into_buffers());
        }
        if callbacks.is_empty() {
            self.shared.release(charged);
        } else {
            self.shared.callbacks.push(Burst { completion, callbacks, charged });
        }
    }
}
