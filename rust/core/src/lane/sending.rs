//! A lane's next batch is numbered and taken for a request.

use crate::config::SendRules;
use crate::lane::LaneInner;
use crate::lane::fate::TopicId;
use crate::lane::identity::Identity;
use crate::lane::state::LaneEvent;
use crate::wire::record_batch::{BATCH_HEADER_LEN, SealedBatch};

/// A batch as it goes onto the wire.
#[derive(Debug)]
pub struct Outgoing {
    /// To find it again when the answer comes.
    pub batch_id: u64,
    /// Its records.
    pub sealed: SealedBatch,
    /// Of this attempt.
    identity: Identity,
    sequence: i32,
    /// How long it waited since its first record, µs.
    pub queued_us: u64,
    /// The topic id to be used with version 13.
    pub topic_id: TopicId,
    /// It was sent before.
    pub retry: bool,
    /// Bytes of its largest record.
    pub largest: usize,
}

impl Outgoing {
    /// The header of this attempt. Not under the lane's lock: the first one reads all records, for the checksum.
    pub fn header(&self) -> [u8; BATCH_HEADER_LEN] {
        self.sealed.header(self.identity.producer_id, self.identity.epoch, self.sequence, 0)
    }
}

impl LaneInner {
    /// Take the head for `request`, numbered. `None`: it is too large for `room` bytes, or there is no identity yet.
    /// The caller has had [`NextStep::Queue`](crate::lane::readiness::NextStep) for this lane.
    pub fn take(
        &mut self,
        target: Option<Identity>,
        rules: &SendRules,
        room: usize,
        now_us: u64,
        request: u64,
    ) -> Option<Outgoing> {
        if self.queue.front()?.size() > room {
            return None;
        }
        if rules.idempotent {
            // An identity is adopted only by a lane with nothing in flight and nothing numbered.
            if self.identity() != target && self.quiescent() {
                self.numbers.start(target?, 0);
            }
            self.identity()?;
        }
        let mut batch = self.queue.pop_front()?;
        batch.drop_failed();
        if batch.numbering.is_none() {
            batch.numbering = self.numbers.next(batch.count());
        }
        self.on(LaneEvent::Sent);
        self.request = request;
        if self.moved() {
            self.numbers.unconfirm();
        }
        self.used = self.target;
        self.numbers.sent_to(self.target.topic_id);
        let (retry, largest) = (batch.attempts > 0, batch.largest);
        let age_us = batch.age_us(now_us);
        batch.arrivals.close(age_us);
        batch.attempts += 1;
        batch.addressed.attempt(self.target.topic_id);
        batch.decided = false;
        batch.broker = self.target.leader;
        batch.sent_us = now_us;
        let (identity, sequence) = batch.numbering.unwrap_or((Identity::NONE, -1));
        let outgoing = Outgoing {
            sealed: batch.content.seal().clone(),
            identity,
            sequence,
            batch_id: batch.id,
            queued_us: now_us.saturating_sub(batch.oldest_us(now_us)),
            topic_id: self.target.topic_id,
            retry,
            largest,
        };
        self.in_flight.push_back(batch);
        Some(outgoing)
    }

    fn quiescent(&self) -> bool {
        self.in_flight.is_empty() && self.settled.is_empty() && self.queue.iter().all(|batch| batch.numbering.is_none())
    }
}

#[cfg(test)]
mod tests {
    use crate::lane::readiness::NextStep;
    use crate::lane::testing::{ME, RULES, batch, lane};

    #[test]
    fn one_batch_is_in_flight_until_the_first_success() {
        let lane = lane();
        let mut inner = lane.inner.lock();
        for id in 1..=8 {
            inner.push(batch(id, 2));
        }
        assert!(inner.take(None, &RULES, usize::MAX, 0, 1).is_none(), "no identity yet");
        let first = inner.take(Some(ME), &RULES, usize::MAX, 0, 1).unwrap();
        assert_eq!(inner.reschedule(&RULES, 9_999, false), NextStep::Nothing);
        let done = inner.answered(first.batch_id).unwrap();
        inner.acknowledge(&done);
        assert_eq!(inner.last_acked_sequence(), 1);
        for request in 2..7 {
            assert_eq!(inner.reschedule(&RULES, 9_999, false), NextStep::Queue);
            inner.take(Some(ME), &RULES, usize::MAX, 0, request).unwrap();
        }
        assert_eq!(inner.reschedule(&RULES, 9_999, false), NextStep::Nothing);
    }
}
