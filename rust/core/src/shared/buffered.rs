//! A walk over everything that is buffered or in flight: for a flush, for counts, for error messages.

use std::sync::Arc;

use super::topics::TopicTable;
use crate::lane::{Lane, LaneInner};
use crate::outcome::Completion;

/// See [`TopicTable::oldest`].
#[derive(Clone, Debug)]
pub struct Oldest {
    /// Its topic's name.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// ms since its first record that has not failed was buffered.
    pub age_ms: u64,
    /// How often it was sent.
    pub attempts: u32,
    /// The broker of its last attempt, or else the partition's leader; -1 for none.
    pub broker: i32,
    /// Kafka's code of its last attempt; 0 for none.
    pub code: i16,
    /// The same, human-readable.
    pub message: String,
}

/// See [`TopicTable::holdings`]. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Charged for all batches.
    pub charged: usize,
    /// Held by their records before compression, headers included.
    pub held: usize,
    /// The most that one batch holds beyond its charge.
    pub uncharged: usize,
}

impl TopicTable {
    /// Each lane, locked, one after the other.
    fn visit(&self, mut each: impl FnMut(&Arc<Lane>, &mut LaneInner)) {
        for topic in self.all() {
            for lane in &topic.lanes {
                each(lane, &mut lane.inner.lock());
            }
        }
    }

    /// The completions of all batches that are unresolved now. `close`: later records go to other batches.
    pub(super) fn unresolved(&self, close: bool) -> Vec<Arc<Completion>> {
        let mut pending = Vec::new();
        self.visit(|_, inner| {
            if close {
                inner.close_open_batch();
            }
            pending.extend(inner.unresolved().map(|batch| Arc::clone(batch.completion())));
        });
        pending
    }

    /// The outcomes of all batches that were resolved before this call have their callbacks queued and their failures
    /// noted when it returns.
    ///
    /// A completion wakes its waiters first; the callbacks and the failures follow under the lane's lock.
    pub fn settle(&self) {
        self.visit(|_, _| {});
    }

    /// Records that are buffered or in flight.
    pub fn unresolved_records(&self) -> u64 {
        let mut records = 0;
        self.visit(|_, inner| records += inner.unresolved().map(|batch| u64::from(batch.live())).sum::<u64>());
        records
    }

    /// What the batches are charged of buffer.memory, and what they hold: for tests of the charges.
    pub fn holdings(&self) -> Holdings {
        let mut all = Holdings::default();
        self.visit(|_, inner| {
            for batch in inner.batches() {
                let (charged, held) = (batch.charged(), batch.uncompressed_size());
                all.charged += charged;
                all.held += held;
                all.uncharged = all.uncharged.max(held.saturating_sub(charged));
            }
        });
        all
    }

    /// The oldest batch that is neither delivered nor failed: it keeps the buffer full. For error messages.
    pub fn oldest(&self, now_us: u64) -> Option<Oldest> {
        let mut oldest: Option<(u64, Oldest)> = None;
        self.visit(|lane, inner| {
            let by_age = inner.unresolved().map(|batch| (batch.oldest_us(now_us), batch));
            let Some((since_us, batch)) = by_age.min_by_key(|(since_us, _)| *since_us) else { return };
            if oldest.as_ref().is_some_and(|(oldest_us, _)| *oldest_us <= since_us) {
                return;
            }
            let found = Oldest {
                topic: Arc::clone(&lane.topic),
                partition: lane.partition,
                age_ms: now_us.saturating_sub(since_us) / 1000,
                attempts: batch.attempts(),
                broker: if batch.attempts() > 0 { batch.broker() } else { inner.leader() },
                code: batch.last().code,
                message: batch.last().message.clone(),
            };
            oldest = Some((since_us, found));
        });
        oldest.map(|(_, found)| found)
    }
}
