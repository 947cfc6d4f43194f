//! Where the records of a bulk call are: in runs, since neighbours mostly share a batch.

use std::sync::Arc;

use crate::outcome::Completion;

/// In place of a batch's number: the record was not buffered.
pub const NOT_BUFFERED: u32 = u32::MAX;

/// Neighbours of one batch: records `first` to `first + count` of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Position in [`Placed::batches`], or [`NOT_BUFFERED`].
    pub batch: u32,
    /// Index in the batch.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// Where records are, in the order of the call: the runs list it from the first record to the last.
#[derive(Debug, Default)]
pub struct Placed {
    /// Batches that hold some; one may be listed twice.
    pub batches: Vec<Arc<Completion>>,
    /// From the first record to the last.
    pub runs: Vec<Run>,
    /// Records in all runs.
    pub records: u64,
    /// Bytes of keys and values that are buffered.
    pub bytes: u64,
}

impl Placed {
    /// `count` records that follow the last run.
    #[inline]
    pub fn push(&mut self, batch: u32, first: u32, count: u32) {
        if count == 0 {
            return;
        }
        self.records += u64::from(count);
        if let Some(last) = self.runs.last_mut()
            && last.batch == batch
            && last.count.checked_add(count).is_some()
            && (batch == NOT_BUFFERED || last.first + last.count == first)
        {
            last.count += count;
            return;
        }
        self.runs.push(Run { batch, first, count });
    }

    /// `count` records that follow the last run, and are in no batch.
    pub fn push_not_buffered(&mut self, mut count: u64) {
        while count > 0 {
            let some = count.min(u64::from(u32::MAX));
            self.push(NOT_BUFFERED, 0, some as u32);
            count -= some;
        }
    }

    /// One record that follows the last run.
    pub fn push_one(&mut self, completion: &Arc<Completion>, index: u32) {
        let batch = self.batch(completion);
        self.push(batch, index, 1);
    }

    /// The number of a batch.
    pub(super) fn batch(&mut self, completion: &Arc<Completion>) -> u32 {
        if !self.batches.last().is_some_and(|last| Arc::ptr_eq(last, completion)) {
            self.batches.push(Arc::clone(completion));
        }
        (self.batches.len() - 1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_runs() {
        let mut placed = Placed::default();
        let (one, two) = (Completion::new("t".into(), 0), Completion::new("t".into(), 1));
        placed.push_one(&one, 3);
        placed.push_one(&one, 4);
        placed.push_one(&two, 0);
        placed.push_one(&two, 2);
        placed.push_not_buffered(2);
        placed.push_not_buffered(u64::from(u32::MAX));
        let run = |batch, first, count| Run { batch, first, count };
        assert_eq!(
            placed.runs,
            [run(0, 3, 2), run(1, 0, 1), run(1, 2, 1), run(NOT_BUFFERED, 0, 2), run(NOT_BUFFERED, 0, u32::MAX)]
        );
        assert_eq!(placed.records, 6 + u64::from(u32::MAX));
    }
}
