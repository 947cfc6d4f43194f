//! Chunks of records into batches: the part of a bulk call that needs no GIL.

use std::sync::Arc;
use std::time::Instant;

use penstock_core::append::{CHOOSE, Chunk, Partitions, Placed, Progress, Rows};
use penstock_core::shared::Shared;
use penstock_core::topic::Topic;

use crate::runtime::waits::SLICE;
use crate::send::waits::count_wait;

/// See the module.
#[derive(Default)]
pub struct Buffering {
    pub chunk: Chunk,
    pub placed: Placed,
    /// Memory that was waited for.
    pub grant: usize,
    /// The topic's last snapshot.
    pub topic: Option<Arc<Topic>>,
    /// Something is buffered.
    pub any: bool,
    /// A chunk is under way.
    pub pending: bool,
}

impl Buffering {
    /// A chunk was begun and not finished.
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// Buffer a chunk without the GIL, if nothing else is needed. False: `Bulk::append` has to do the rest of it.
    ///
    /// May wait for memory for one slice (`SLICE`) if the caller may wait.
    pub fn append(&mut self, shared: &Shared, rows: &Rows<'_>, may_wait: bool) -> bool {
        if !self.any {
            return false;
        }
        let Some(topic) = self.topic.clone() else { return false };
        if highest_partition(rows).is_some_and(|partition| partition as u32 >= topic.partitions()) {
            return false;
        }
        self.begin(shared, &topic, rows);
        loop {
            match self.step(shared, &topic, rows) {
                Progress::Done => break,
                Progress::Closed => return false,
                Progress::NeedsMemory(_) if !may_wait => return false,
                Progress::NeedsMemory(bytes) => {
                    let began = Instant::now();
                    let waiter = shared.queue_for_memory(bytes, None);
                    let granted = shared.pool.wait(&waiter, began + SLICE);
                    count_wait(&shared.pool.waited, began);
                    if !granted {
                        shared.pool.cancel(&waiter);
                        shared.relax();
                        return false;
                    }
                    self.grant += bytes;
                }
            }
        }
        if !self.chunk.too_large.is_empty() {
            return false;
        }
        self.finish(shared, rows);
        true
    }

    /// Begin a chunk.
    pub fn begin(&mut self, shared: &Shared, topic: &Topic, rows: &Rows<'_>) {
        self.chunk.begin(topic, rows, shared.config.partitioning.ignore_keys);
        self.pending = true;
    }

    /// Append as much of the chunk as there is room for.
    pub fn step(&mut self, shared: &Shared, topic: &Topic, rows: &Rows<'_>) -> Progress {
        shared.append_many(topic, rows, &mut self.chunk, &mut self.placed, &mut self.grant)
    }

    /// The chunk is over: the rows that are not buffered, without those that are too large.
    pub fn finish(&mut self, shared: &Shared, rows: &Rows<'_>) -> Vec<u32> {
        self.pending = false;
        self.give_back(shared);
        let left = self.chunk.finish(rows, &mut self.placed);
        self.any |= left.len() + self.chunk.too_large.len() < rows.values.len();
        left
    }

    /// Memory that was waited for, and is not needed after all.
    pub fn give_back(&mut self, shared: &Shared) {
        let grant = std::mem::take(&mut self.grant);
        if grant > 0 {
            shared.release(grant);
        }
    }
}

/// The highest partition that rows name.
pub fn highest_partition(rows: &Rows<'_>) -> Option<i32> {
    match rows.partitions {
        Partitions::Choose => None,
        Partitions::All(partition) => Some(partition as i32),
        Partitions::Each(each) => each.iter().copied().max().filter(|&partition| partition != CHOOSE),
    }
}
