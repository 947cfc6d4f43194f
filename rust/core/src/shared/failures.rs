//! The fatal error of a producer, and the failed records that the application has not observed.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::boundary::{Fatal, Trouble};
use crate::outcome::{Completion, FailureKind};
use crate::sync::{Mutex, OnceLock, Rank};

/// How many failed batches are remembered for `DeliveryError`; beyond that the oldest only count.
const REMEMBERED_FAILURES: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Failures {
    fatal: OnceLock<Fatal>,
    unnoticed: Mutex<Unnoticed>,
}

/// Batches with failed records that the application has not observed so far.
#[derive(Debug, Default)]
struct Unnoticed {
    /// (completion, records in it), the oldest first.
    failed: VecDeque<(Arc<Completion>, u32)>,
    /// Records of batches that are no longer remembered: they still count.
    forgotten: u64,
}

impl Failures {
    /// None.
    pub(super) fn new() -> Self {
        Self { fatal: OnceLock::new(), unnoticed: Mutex::ranked(Rank::Unnoticed, Unnoticed::default()) }
    }

    /// The fatal error, if there was one.
    #[inline]
    pub fn fatal(&self) -> Option<&Fatal> {
        self.fatal.get()
    }

    /// Set the fatal error; the first one counts.
    pub(super) fn set_fatal(&self, kind: FailureKind, trouble: Trouble) {
        let _first_counts = self.fatal.set(Fatal { kind, trouble });
    }

    /// Remember a failed batch of `records` until [`Failures::take_unnoticed`].
    pub fn note(&self, completion: &Arc<Completion>, records: u32) {
        if completion.unobserved(records).0 == 0 {
            return;
        }
        let mut unnoticed = self.unnoticed.lock();
        if unnoticed.failed.len() >= REMEMBERED_FAILURES
            && let Some((oldest, records)) = unnoticed.failed.pop_front()
        {
            unnoticed.forgotten += u64::from(oldest.unobserved(records).0);
        }
        unnoticed.failed.push_back((Arc::clone(completion), records));
    }

    /// Failed batches with records that the application has not observed, (completion, how many, the first one), and
    /// how many such records there were in older batches. All are forgotten.
    pub fn take_unnoticed(&self) -> (Vec<(Arc<Completion>, u32, u32)>, u64) {
        let Unnoticed { failed, forgotten } = std::mem::take(&mut *self.unnoticed.lock());
        let batches = failed
            .into_iter()
            .filter_map(|(completion, records)| match completion.unobserved(records) {
                (count, Some(first)) if count > 0 => Some((completion, count, first)),
                _ => None,
            })
            .collect();
        (batches, forgotten)
    }
}
