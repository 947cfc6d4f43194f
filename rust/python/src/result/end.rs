//! Waits for the end of records: a single one, or all of a list of batches.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use penstock_core::event_loop::LoopToken;
use penstock_core::outcome::Completion;
use pyo3::prelude::*;

use crate::loops::calls::{LOOP_CALLS, Waker};
use crate::result::delivery::Delivery;
use crate::result::outcomes::Outcomes;
use crate::runtime::waits::Awaited;

/// A wait for the end of records: some of each batch in the list, the last one first.
pub struct EndWait {
    pending: Vec<(Arc<Completion>, Range<u32>)>,
    /// It waits at a completion, for a record.
    notice: Option<(LoopToken, Arc<Completion>, u32)>,
}

impl EndWait {
    /// For all records of these batches.
    pub fn of_batches(batches: Vec<Arc<Completion>>) -> Self {
        let all = 0..u32::MAX;
        Self { pending: batches.into_iter().rev().map(|batch| (batch, all.clone())).collect(), notice: None }
    }

    /// For the records of a bulk call.
    pub fn of_call(of: &Outcomes) -> Self {
        let mut pending: Vec<_> = of.spans().map(|(batch, span)| (Arc::clone(batch), span)).collect();
        pending.reverse();
        Self { pending, notice: None }
    }

    /// Whether all are resolved; if not, `waker` is called in its loop when there may be news.
    pub fn poll(&mut self, py: Python<'_>, waker: Option<&Waker>) -> bool {
        self.forget();
        while let Some((completion, span)) = self.pending.last() {
            let Some((unresolved, index)) = completion.first_unresolved_in(span.clone()) else {
                self.pending.pop();
                continue;
            };
            let Some(waker) = waker else { return false };
            let notice = waker.notice(py);
            // Not as observed: a wait for the batch reads no single record.
            if unresolved.add_notice(index, &notice, false) {
                self.notice = Some((notice.token, unresolved, index));
                return false;
            }
            drop(LOOP_CALLS.remove(notice.token)); // resolved in between
        }
        true
    }

    /// Take the notice back. One that was given already wakes a waiter that has gone, which is harmless.
    pub fn forget(&mut self) {
        if let Some((token, completion, index)) = self.notice.take()
            && !completion.take_notices(index, false, |other| other == token).is_empty()
        {
            drop(LOOP_CALLS.remove(token));
        }
    }
}

/// A blocking wait for the end of a bulk call's records.
pub struct AllEnds<'a> {
    of: &'a Outcomes,
    end: EndWait,
}

impl<'a> AllEnds<'a> {
    pub fn new(of: &'a Outcomes) -> Self {
        Self { of, end: EndWait::of_call(of) }
    }
}

impl Awaited for AllEnds<'_> {
    fn poll(&mut self, py: Python<'_>, waker: Option<&Waker>) -> PyResult<bool> {
        self.of.check_fork(py)?;
        Ok(self.end.poll(py, waker))
    }

    fn sleep(&self, until: Instant) {
        for (batch, span) in self.end.pending.iter().rev() {
            while let Some((unresolved, index)) = batch.first_unresolved_in(span.clone()) {
                if !unresolved.wait(index, Some(until)) {
                    return;
                }
            }
        }
    }
}

impl Drop for AllEnds<'_> {
    fn drop(&mut self) {
        // In a child, a thread that exists in the parent only may hold the lock.
        if !self.of.is_foreign() {
            self.end.forget();
        }
    }
}

/// A blocking wait for the end of one record.
pub struct RecordEnd<'a> {
    of: &'a Delivery,
    notice: Option<LoopToken>,
}

impl<'a> RecordEnd<'a> {
    pub fn new(of: &'a Delivery) -> Self {
        Self { of, notice: None }
    }

    fn forget(&mut self) {
        if let Some(token) = self.notice.take()
            && self.of.is_own()
            && !self.of.completion.take_notices(self.of.index, false, |other| other == token).is_empty()
        {
            drop(LOOP_CALLS.remove(token));
        }
    }
}

impl Awaited for RecordEnd<'_> {
    fn poll(&mut self, py: Python<'_>, waker: Option<&Waker>) -> PyResult<bool> {
        self.of.check_fork(py)?;
        if self.of.done() {
            return Ok(true);
        }
        let (None, Some(waker)) = (&self.notice, waker) else { return Ok(false) };
        let notice = waker.notice(py);
        if self.of.completion.add_notice(self.of.index, &notice, false) {
            self.notice = Some(notice.token);
            return Ok(false);
        }
        drop(LOOP_CALLS.remove(notice.token)); // resolved in between
        Ok(true)
    }

    fn sleep(&self, until: Instant) {
        self.of.completion.wait(self.of.index, Some(until));
    }
}

impl Drop for RecordEnd<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}
