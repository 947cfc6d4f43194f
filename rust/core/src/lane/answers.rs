//! Answers to a lane's batches: success, trouble, the hand-over to the control plane, and its decisions.

use std::collections::VecDeque;

use crate::lane::LaneInner;
use crate::lane::batch::{LaneBatch, LastAnswer};
use crate::lane::fate::Fate;
use crate::lane::identity::Identity;
use crate::lane::state::{LaneEvent, LaneState};

impl LaneInner {
    /// Take batch `batch_id` out of the queue of batches in flight.
    pub fn answered(&mut self, batch_id: u64) -> Option<LaneBatch> {
        let at = self.in_flight.iter().position(|batch| batch.id == batch_id)?;
        self.in_flight.remove(at)
    }

    /// The log start offset in an answer, of success or error; -1: the answer has none.
    pub fn note_log_start(&mut self, offset: i64) {
        self.log_start_offset = offset;
    }

    /// `batch`, already taken out, is in the log.
    pub fn acknowledge(&mut self, batch: &LaneBatch) {
        self.failures = 0;
        self.largest_acknowledged = self.largest_acknowledged.max(batch.size());
        self.probing = false;
        self.numbers.acknowledge(batch.numbering, batch.count());
    }

    /// Trouble with `batch`, already taken out: it settles. `by_name`: its request named the topic, not its id.
    pub fn settle(&mut self, mut batch: LaneBatch, fate: Fate, by_name: bool, last: LastAnswer) {
        batch.fate = batch.fate.max(fate);
        if by_name && fate == Fate::Unknown {
            batch.addressed.went_by_name();
        }
        batch.last = last;
        self.settled.push_back(batch);
        self.on(LaneEvent::Trouble);
    }

    /// One batch at a time until one succeeds. After a lost connection: batches that are sent together are lost together,
    /// so that one fault would take the answers of all, again and again. After a split: if the first part is too large as
    /// well, no other is refused with it.
    pub fn probe(&mut self) {
        self.probing = true;
    }

    /// The topic may have been created again since the batches here were sent: from now on their fates are about the
    /// present one. Batches in flight are left out. So are batches with the control plane, which decides by its report.
    ///
    /// True: a batch is [`LaneBatch::is_stranded`].
    pub fn enter_topic(&mut self) -> bool {
        let settled = if self.state == LaneState::HandedOver { None } else { Some(&mut self.settled) };
        let topic_id = self.target.topic_id;
        let mut stranded = false;
        let tried = self.queue.iter_mut().take_while(|batch| batch.attempts > 0);
        for batch in settled.into_iter().flatten().chain(tried) {
            let fate = batch.addressed.enter(topic_id, batch.fate, batch.numbering);
            batch.fate = fate.unwrap_or(Fate::Unknown);
            batch.stranded |= fate.is_none();
            stranded |= batch.stranded && !batch.expired;
        }
        stranded
    }

    /// Hand the lane over if it has settled: true. The batches to be decided about are then in [`LaneInner::settled`],
    /// those included that were sent before and wait again. A settled lane with nothing to decide flows on.
    pub fn hand_over(&mut self) -> bool {
        if self.state != LaneState::Settling || !self.in_flight.is_empty() {
            return false;
        }
        while self.queue.front().is_some_and(|batch| batch.attempts > 0) {
            let batch = self.queue.pop_front();
            self.settled.extend(batch);
        }
        let decide = !self.settled.is_empty();
        self.on(if decide { LaneEvent::Settled } else { LaneEvent::NothingToDecide });
        decide
    }

    /// The batches of a lane that was handed over, one for each of these ids, in order; `None`: the producer has ended.
    ///
    /// The caller carries out its decision about each, and gives the remaining ones to [`LaneInner::resume`].
    pub fn take_settled(
        &mut self,
        ids: impl ExactSizeIterator<Item = u64>,
    ) -> Result<Option<VecDeque<LaneBatch>>, &'static str> {
        match self.state {
            LaneState::HandedOver => {}
            LaneState::Closed => return Ok(None),
            _ => return Err("it was not handed over"),
        }
        if ids.len() != self.settled.len() || ids.zip(&self.settled).any(|(id, batch)| id != batch.id) {
            return Err("not one decision for each batch, in order");
        }
        Ok(Some(std::mem::take(&mut self.settled)))
    }

    /// Take the batches that remain back, with new numbers; they wait until `until_us`. An error: that would break a
    /// rule, and nothing has changed.
    pub fn resume(
        &mut self,
        mut remaining: VecDeque<LaneBatch>,
        renumber: Option<(Identity, i32)>,
        until_us: u64,
    ) -> Result<(), &'static str> {
        debug_assert!(self.settled.is_empty() && self.in_flight.is_empty());
        if let Some((identity, first_sequence)) = renumber {
            if remaining.iter().any(|batch| batch.fate == Fate::Unknown) {
                self.settled = remaining;
                return Err("a batch of unknown fate cannot be renumbered");
            }
            self.numbers.start(identity, first_sequence);
            for batch in &mut remaining {
                batch.numbering = self.numbers.next(batch.count());
            }
        }
        // After lost connections only the wait for the next connection grows.
        if !remaining.iter().all(|batch| batch.decided || batch.last.lost) {
            self.failures += 1;
        }
        for mut batch in remaining.into_iter().rev() {
            batch.decided = true;
            self.queue.push_front(batch);
        }
        self.waits_until_us = until_us;
        self.on(LaneEvent::Resumed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_code::NOT_LEADER_OR_FOLLOWER;
    use crate::lane::readiness::NextStep;
    use crate::lane::testing::{ME, RULES, batch, lane, lost};

    fn refused() -> LastAnswer {
        LastAnswer::error(NOT_LEADER_OR_FOLLOWER, String::new())
    }

    #[test]
    fn trouble_settles_the_lane_and_hands_over_all_that_was_sent() {
        let lane = lane();
        let mut inner = lane.inner.lock();
        for id in 0..=3 {
            inner.push(batch(id, 2));
        }
        inner.take(Some(ME), &RULES, usize::MAX, 0, 1);
        let done = inner.answered(0).unwrap();
        inner.acknowledge(&done);
        inner.take(Some(ME), &RULES, usize::MAX, 0, 2);
        inner.take(Some(ME), &RULES, usize::MAX, 0, 3);
        let failed = inner.answered(1).unwrap();
        inner.settle(failed, Fate::Rejected, false, refused());
        assert_eq!(inner.reschedule(&RULES, 9_999, true), NextStep::Nothing);
        assert!(!inner.hand_over(), "an answer is still due");
        let second = inner.answered(2).unwrap();
        inner.settle(second, Fate::Unknown, false, lost());
        assert!(inner.hand_over());
        assert_eq!(
            inner.settled().map(LaneBatch::id).collect::<Vec<_>>(),
            [1, 2],
            "the third was never sent and stays"
        );
        let remaining = inner.take_settled([1, 2].into_iter()).unwrap().unwrap();
        inner.resume(remaining, None, 700).unwrap();
        assert_eq!(inner.schedule(&RULES, 0, true), NextStep::Timer(700));
        assert_eq!(inner.head().unwrap().numbering(), Some((ME, 2)));
    }

    #[test]
    fn a_batch_of_unknown_fate_is_never_renumbered() {
        let lane = lane();
        let mut inner = lane.inner.lock();
        inner.push(batch(1, 2));
        inner.take(Some(ME), &RULES, usize::MAX, 0, 1);
        let lost_batch = inner.answered(1).unwrap();
        inner.settle(lost_batch, Fate::Unknown, false, lost());
        assert!(inner.hand_over());
        let remaining = inner.take_settled([1].into_iter()).unwrap().unwrap();
        let other = Identity { producer_id: 9, epoch: 1 };
        assert!(inner.resume(remaining, Some((other, 0)), 0).is_err());
        assert_eq!(inner.settled().count(), 1, "refused, and nothing lost");
    }

    #[test]
    fn decisions_fit_what_was_handed_over() {
        let lane = lane();
        let mut inner = lane.inner.lock();
        inner.push(batch(1, 1));
        assert!(inner.take_settled([1].into_iter()).is_err(), "it was not handed over");
        inner.take(Some(ME), &RULES, usize::MAX, 0, 1);
        let failed = inner.answered(1).unwrap();
        inner.settle(failed, Fate::Rejected, false, refused());
        assert!(inner.hand_over());
        assert!(inner.take_settled([2].into_iter()).is_err());
        assert!(inner.take_settled([1, 2].into_iter()).is_err());
        assert_eq!(inner.take_settled([1].into_iter()).unwrap().map(|batches| batches.len()), Some(1));
    }

    #[test]
    fn fate_is_sticky() {
        let lane = lane();
        let mut inner = lane.inner.lock();
        inner.push(batch(1, 1));
        inner.take(Some(ME), &RULES, usize::MAX, 0, 1);
        let mut tried = inner.answered(1).unwrap();
        tried.fate = Fate::Unknown;
        inner.settle(tried, Fate::Rejected, false, refused());
        assert_eq!(inner.settled().next().map(LaneBatch::fate), Some(Fate::Unknown));
    }
}
