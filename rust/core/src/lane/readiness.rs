//! Whether a lane can send now, and the next step if it cannot yet.

use crate::config::SendRules;
use crate::lane::LaneInner;
use crate::lane::content::Content;
use crate::lane::state::LaneState;
use crate::wire::record_batch::BatchBuilder;

/// Whether and what a lane can send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    /// The head may go.
    Ready,
    /// The head may go as soon as it is compressed: a codec worker is to have it.
    Encode,
    /// The head is being compressed; it will be announced.
    Encoding,
    /// The head may go from this time on.
    At(u64),
    /// Nothing to send, or an answer, an identity, a leader or the control plane is awaited.
    Blocked,
}

/// The caller of [`LaneInner::schedule`] takes this step, under the lane's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum NextStep {
    /// Put it into its leader's ready queue.
    Queue,
    /// Set a timer for this time (µs) and ask again then.
    Timer(u64),
    /// Give its head to a codec worker.
    Encode,
    /// Nothing until something happens to it.
    Nothing,
}

impl LaneInner {
    /// The next step for this lane, noted as done: the caller must take it. Called after each change that may let the
    /// lane send: by senders, the engine and codec workers. `hurry`: a flush, a close or a shortage of memory ends
    /// lingering.
    pub fn schedule(&mut self, rules: &SendRules, now_us: u64, hurry: bool) -> NextStep {
        if self.queued {
            return NextStep::Nothing;
        }
        match self.readiness(rules, now_us, hurry) {
            Readiness::Ready => {
                self.queued = true;
                NextStep::Queue
            }
            Readiness::At(at_us) if at_us < self.armed_us => {
                self.armed_us = at_us;
                NextStep::Timer(at_us)
            }
            Readiness::Encode => NextStep::Encode,
            Readiness::At(_) | Readiness::Encoding | Readiness::Blocked => NextStep::Nothing,
        }
    }

    /// The same for a lane that was taken out of its ready queue: [`NextStep::Queue`] if it can send.
    pub fn reschedule(&mut self, rules: &SendRules, now_us: u64, hurry: bool) -> NextStep {
        self.queued = false;
        self.schedule(rules, now_us, hurry)
    }

    /// The timer that was set for it is due.
    pub fn timer_is_due(&mut self) {
        self.armed_us = u64::MAX;
    }

    /// Whether it is in the ready queue of this broker. Not if its leader has changed since.
    pub fn is_queued_at(&self, broker: i32) -> bool {
        self.queued && self.target.leader == broker
    }

    /// Whether it could send if it had a leader.
    pub fn waits_for_leader(&self) -> bool {
        self.queued && self.target.leader < 0
    }

    /// Whether it is in the ready queue of `broker` and has no batch in this request yet. It may be there twice,
    /// if its leader moved away and back.
    pub fn may_join(&self, broker: i32, request: u64) -> bool {
        self.is_queued_at(broker) && self.request != request
    }

    /// The leader, if nothing but its unanswered requests keeps this lane from sending.
    pub fn held_up_by(&self, rules: &SendRules, now_us: u64) -> Option<i32> {
        let held_up = self.state == LaneState::Flowing
            && !self.in_flight.is_empty()
            && !self.queue.is_empty()
            && self.readiness(rules, now_us, true) == Readiness::Blocked;
        held_up.then_some(self.used.leader)
    }

    /// Whether an open batch that is worth sending may linger for more records: two batches on the way keep the broker
    /// and the link busy, and fewer, larger requests cost everybody less.
    fn goes_on_lingering(&self, builder: &BatchBuilder, rules: &SendRules) -> bool {
        self.in_flight.len() >= 2 && !builder.is_closed() && builder.size() < rules.linger_bytes
    }

    /// Whether a codec worker is to have the last batch although it could grow: it is worth sending, and at most one batch
    /// is ahead of it, so that the lane would soon have nothing to send.
    pub fn codec_may_take_last(&self, rules: &SendRules) -> bool {
        let Some(last) = self.queue.back().filter(|last| last.attempts == 0 && self.queue.len() <= 2) else {
            return false;
        };
        let Content::Open(builder) = &last.content else { return false };
        builder.is_compressed() && builder.is_worth_sending() && !self.goes_on_lingering(builder, rules)
    }

    fn readiness(&self, rules: &SendRules, now_us: u64, hurry: bool) -> Readiness {
        let mut not_before = match self.state {
            LaneState::Flowing => 0,
            LaneState::Waiting => self.waits_until_us,
            LaneState::Settling | LaneState::HandedOver | LaneState::Retired | LaneState::Closed => {
                return Readiness::Blocked;
            }
        };
        let Some(head) = self.queue.front() else { return Readiness::Blocked };
        if head.is_encoding() {
            return Readiness::Encoding;
        }
        // A broker without producer state accepts any first sequence. If the first batch were lost on the way and the
        // second accepted, the first could never follow. So one at a time until one succeeded.
        let unconfirmed = rules.idempotent && !self.numbers.is_confirmed();
        let limit = if unconfirmed || self.probing { 1 } else { rules.max_in_flight };
        if self.in_flight.len() >= limit || (!self.in_flight.is_empty() && self.moved()) {
            return Readiness::Blocked;
        }
        let closed = self.queue.len() > 1
            || head.attempts > 0
            || match &head.content {
                Content::Open(builder) => builder.is_worth_sending() && !self.goes_on_lingering(builder, rules),
                _ => true,
            };
        if !closed && !hurry {
            not_before = not_before.max(head.created_us.saturating_add(rules.linger_us));
        }
        match &head.content {
            _ if not_before > now_us => Readiness::At(not_before),
            Content::Open(builder) if builder.is_compressed() => Readiness::Encode,
            // Compressed with records that have failed since.
            Content::Sealed(_) if head.attempts == 0 && head.failed > 0 => Readiness::Encode,
            _ => Readiness::Ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::testing::{ME, RULES, batch, lane};

    #[test]
    fn an_open_batch_lingers_and_a_closed_one_does_not() {
        let lane = lane();
        let mut inner = lane.inner.lock();
        assert_eq!(inner.readiness(&RULES, 0, false), Readiness::Blocked);
        inner.push(batch(1, 1));
        assert_eq!(inner.readiness(&RULES, 0, false), Readiness::At(5_000));
        assert_eq!(inner.readiness(&RULES, 0, true), Readiness::Ready);
        assert_eq!(inner.readiness(&RULES, 5_000, false), Readiness::Ready);
        inner.push(batch(2, 1));
        assert_eq!(inner.readiness(&RULES, 0, false), Readiness::Ready);
    }

    #[test]
    fn behind_two_batches_on_the_way_a_batch_goes_on_lingering() {
        let lane = lane();
        let mut inner = lane.inner.lock();
        let rules = SendRules { linger_bytes: 300, ..RULES };
        let worth = |id, records| {
            let mut batch = batch(id, records);
            let buffered = batch.builder().unwrap();
            *buffered = BatchBuilder::with_worth(Vec::new(), 10_000, 100);
            for _ in 0..records {
                buffered.append(1, None, Some(b"0123456789"), &[]);
            }
            batch
        };
        for id in 1..=3 {
            inner.push(worth(id, 5));
            assert_eq!(inner.readiness(&rules, 0, false), Readiness::Ready, "batch.size, and {} on the way", id - 1);
            inner.take(Some(ME), &rules, usize::MAX, 0, id).unwrap();
            if id == 1 {
                let first = inner.answered(1).unwrap();
                inner.acknowledge(&first);
            }
        }
        inner.push(worth(4, 5));
        assert_eq!(inner.readiness(&rules, 0, false), Readiness::At(5_000));
        assert_eq!(inner.readiness(&rules, 5_000, false), Readiness::Ready);
        assert_eq!(inner.readiness(&rules, 0, true), Readiness::Ready, "a flush");
        assert_eq!(inner.readiness(&RULES, 0, false), Readiness::Ready, "batch.size was given");
        inner.close_open_batch();
        assert_eq!(inner.readiness(&rules, 0, false), Readiness::Ready, "closed");
    }

    #[test]
    fn a_step_is_asked_for_once() {
        let lane = lane();
        let mut inner = lane.inner.lock();
        inner.push(batch(1, 1));
        assert_eq!(inner.schedule(&RULES, 0, false), NextStep::Timer(5_000));
        assert_eq!(inner.schedule(&RULES, 0, false), NextStep::Nothing, "the timer is set");
        inner.timer_is_due();
        assert_eq!(inner.schedule(&RULES, 5_000, false), NextStep::Queue);
        assert_eq!(inner.schedule(&RULES, 5_000, false), NextStep::Nothing, "it is queued");
        assert!(inner.is_queued_at(1) && !inner.is_queued_at(2));
        assert_eq!(inner.reschedule(&RULES, 5_000, false), NextStep::Queue);
        inner.take(Some(ME), &RULES, usize::MAX, 0, 7).unwrap();
        assert!(!inner.may_join(1, 7) && inner.may_join(1, 8), "one batch per request");
        assert_eq!(inner.reschedule(&RULES, 5_000, false), NextStep::Nothing);
        assert_eq!(inner.held_up_by(&RULES, 5_000), None, "nothing waits");
        inner.push(batch(2, 1));
        assert_eq!(inner.held_up_by(&RULES, 5_000), Some(1));
    }
}
