//! A lane: one partition's queue of batches, and the rules for what it may send.
//!
//! `state.rs` has the lane's states, `content.rs` those of a batch's records. The files that
//! change a lane: this one (buffering), `readiness.rs` (queued, timers), `sending.rs`, `answers.rs` (answers and
//! decisions) and `expiry.rs` (records fail).
//!
//! Rules kept here: one batch per request; until the first success under an (identity, topic id, leader), and after a
//! lost connection until the next success, one batch in flight; nothing to a new leader before the old one's answers are in; a batch of unknown fate is never renumbered;
//! sequences modulo 2³¹.

mod answers;
pub mod batch;
pub mod content;
mod expiry;
pub mod fate;
pub mod identity;
mod numbers;
pub mod readiness;
pub mod sending;
mod split;
pub mod state;
#[cfg(test)]
mod testing;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::lane::batch::LaneBatch;
use crate::lane::fate::{NO_TOPIC_ID, TopicId};
use crate::lane::identity::Identity;
use crate::lane::numbers::Numbers;
use crate::lane::state::{LaneEvent, LaneState};
use crate::sticky::StickyBytes;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Mutex, Rank};
use crate::wire::record_batch::{BatchBuilder, SealedBatch};

/// How often the deadlines of records and requests are checked while there are any.
pub const TICK_US: u64 = 50_000;

/// See [`Lane::publish_load`]: it runs for each batch.
const WEIGHED: usize = 64;

/// Position in the engine's table of lanes.
pub type LaneId = u32;

/// One partition's queue.
#[derive(Debug)]
pub struct Lane {
    /// Index in the engine's table.
    pub id: LaneId,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// Batches that wait, for the adaptive partitioner (KIP-794); read without the lock.
    pub load: AtomicU32,
    /// Everything else. Held for moments only, and never while the GIL is awaited.
    pub inner: Mutex<LaneInner>,
}

/// Where batches go: a leader and a topic id.
#[derive(Clone, Copy, Debug)]
struct Destination {
    /// -1 for none.
    leader: i32,
    leader_epoch: i32,
    topic_id: TopicId,
}

impl Destination {
    const NOWHERE: Self = Self { leader: -1, leader_epoch: -1, topic_id: NO_TOPIC_ID };
}

/// The state that the lane's lock protects.
#[derive(Debug)]
pub struct LaneInner {
    /// Changed by [`LaneInner::on`] only.
    state: LaneState,
    /// While waiting: the end of the backoff.
    waits_until_us: u64,
    /// Waiting batches; the last one may be open. Batches that were sent before are first.
    queue: VecDeque<LaneBatch>,
    /// Sent, unanswered, in order.
    in_flight: VecDeque<LaneBatch>,
    /// Answered with trouble, or handed over, in order.
    settled: VecDeque<LaneBatch>,
    numbers: Numbers,
    /// From the newest snapshot.
    target: Destination,
    /// Of the batches in flight, or of the last one that was.
    used: Destination,
    /// From the last answer, -1 if unknown.
    log_start_offset: i64,
    /// Bytes of the largest batch that was acknowledged.
    largest_acknowledged: usize,
    /// Hand-overs with an error that a broker answered, in a row without a success between.
    failures: u32,
    /// A connection was lost with a batch of it: one batch in flight until the next success.
    probing: bool,
    /// It is in a ready queue of the engine, or is announced for one.
    queued: bool,
    /// The last request that was put together with a batch of this lane.
    request: u64,
    /// The earliest timer that the engine holds for it; `u64::MAX`: none.
    armed_us: u64,
    /// While it is the sticky partition's.
    sticky_bytes: StickyBytes,
}

impl Lane {
    /// A new, idle lane.
    pub fn new(id: LaneId, topic: Arc<str>, partition: i32) -> Arc<Self> {
        let inner = LaneInner {
            state: LaneState::Flowing,
            waits_until_us: 0,
            queue: VecDeque::new(),
            in_flight: VecDeque::new(),
            settled: VecDeque::new(),
            numbers: Numbers::new(),
            target: Destination::NOWHERE,
            used: Destination::NOWHERE,
            log_start_offset: -1,
            largest_acknowledged: 0,
            failures: 0,
            probing: false,
            queued: false,
            request: 0,
            armed_us: u64::MAX,
            sticky_bytes: StickyBytes::default(),
        };
        Arc::new(Self { id, topic, partition, load: AtomicU32::new(0), inner: Mutex::ranked(Rank::Lane, inner) })
    }

    /// Take no more records while the topic is forgotten. False, and no change: the lane is not idle.
    pub fn retire(&self) -> bool {
        let mut inner = self.inner.lock();
        let idle = inner.is_empty() && matches!(inner.state, LaneState::Flowing | LaneState::Waiting);
        if idle {
            inner.on(LaneEvent::TopicForgotten);
        }
        idle
    }

    /// The topic of a retired lane is known again; identity and sequence go on where they were.
    pub fn revive(&self) {
        self.inner.lock().on(LaneEvent::TopicKnown);
    }

    /// Publish the queue's length, in batches of batch.size. Of a long queue only the first ones are weighed.
    pub fn publish_load(&self, inner: &LaneInner) {
        let weighed: usize = inner.queue.iter().take(WEIGHED).map(|batch| batch.weight as usize).sum();
        let load = weighed + inner.queue.len().saturating_sub(WEIGHED);
        self.load.store(u32::try_from(load).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}

impl LaneInner {
    /// The one place where the state changes.
    fn on(&mut self, event: LaneEvent) {
        self.state = self.state.after(event);
    }

    // ----------------------------------------------------------------------------------------- buffering

    /// Whether senders may append: neither is the producer closed nor the topic forgotten.
    #[inline]
    pub fn takes_records(&self) -> bool {
        self.state.takes_records()
    }

    /// The builder of the open batch, if there is one.
    #[inline]
    pub fn open_batch(&mut self) -> Option<&mut BatchBuilder> {
        self.last_unsent().and_then(LaneBatch::builder)
    }

    /// The last batch, if it was never sent: the one that may be open.
    #[inline]
    pub fn last_unsent(&mut self) -> Option<&mut LaneBatch> {
        self.queue.back_mut().filter(|batch| batch.attempts == 0)
    }

    /// The open batch has reached a multiple of batch.size.
    pub fn note_size(&mut self) {
        if let Some(batch) = self.last_unsent()
            && let Some(builder) = batch.builder()
        {
            builder.note_size();
            batch.weight = u32::try_from(builder.weight()).unwrap_or(u32::MAX);
        }
    }

    /// The open batch takes no more records.
    pub fn close_open_batch(&mut self) {
        if let Some(builder) = self.open_batch() {
            builder.close();
        }
    }

    /// The batch that goes next.
    pub fn head(&mut self) -> Option<&mut LaneBatch> {
        self.queue.front_mut()
    }

    /// A new batch takes the next records.
    pub fn push(&mut self, batch: LaneBatch) {
        self.queue.push_back(batch);
    }

    /// Batch `batch_id` is compressed. False: it has expired or failed.
    pub fn encoded(&mut self, batch_id: u64, sealed: SealedBatch) -> bool {
        // A split's child may have been handed over since, with the lane.
        let mut waiting = self.queue.iter_mut().chain(&mut self.settled);
        waiting.find(|batch| batch.id == batch_id).is_some_and(|batch| batch.content.encoded(sealed))
    }

    /// Bytes that it got as the sticky partition.
    #[inline]
    pub fn sticky_bytes(&mut self) -> &mut StickyBytes {
        &mut self.sticky_bytes
    }

    /// Note how many records each batch holds that was never sent (see [`crate::outcome::Arrivals`]). `by_us`: when
    /// they had been buffered, before now if this note comes late.
    pub fn note_arrivals(&mut self, by_us: u64, now_us: u64) {
        for batch in self.queue.iter_mut().rev().take_while(|batch| batch.attempts == 0) {
            let counted_us = batch.age_us(by_us.max(batch.created_us + TICK_US).min(now_us));
            // The batches before it were closed before it began: they have nothing new either.
            if !batch.arrivals.note(batch.live(), counted_us, batch.age_us(now_us)) {
                break;
            }
        }
    }

    // ----------------------------------------------------------------------------------------- where to

    /// Leader and topic id from a new snapshot. True: the topic was created again under this name.
    pub fn set_target(&mut self, leader: i32, leader_epoch: i32, topic_id: TopicId) -> bool {
        let recreated = self.target.topic_id != topic_id;
        if recreated {
            self.numbers.unconfirm();
        }
        if self.target.leader != leader {
            // It may be in its old leader's queue, where it is skipped.
            self.queued = false;
        }
        let newer = leader_epoch > self.target.leader_epoch;
        self.target = Destination { leader, leader_epoch, topic_id };
        if newer || recreated {
            self.on(LaneEvent::LeaderChanged);
        }
        recreated
    }

    /// The next batch goes to another leader, or to another topic of that name, than the last one did.
    fn moved(&self) -> bool {
        self.used.leader != self.target.leader || self.topic_changed()
    }

    /// The topic may have been created again since the last batch was sent.
    pub fn topic_changed(&self) -> bool {
        self.used.topic_id != self.target.topic_id
    }

    // ----------------------------------------------------------------------------------------- queries

    /// Nothing buffered, in flight or to decide.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_empty() && self.settled.is_empty()
    }

    /// All batches, those whose records have expired included.
    pub fn batches(&self) -> impl Iterator<Item = &LaneBatch> {
        self.settled.iter().chain(&self.in_flight).chain(&self.queue)
    }

    /// All batches whose records are not resolved yet.
    pub fn unresolved(&self) -> impl Iterator<Item = &LaneBatch> {
        self.batches().filter(|batch| !batch.expired)
    }

    /// Batches that were answered with trouble, or that the control plane decides about, in order.
    pub fn settled(&self) -> impl Iterator<Item = &LaneBatch> {
        self.settled.iter()
    }

    /// The first batch that was sent and is not in flight: its error keeps the others waiting.
    pub fn first_tried(&self) -> Option<&LaneBatch> {
        self.settled.iter().chain(self.queue.iter().filter(|batch| batch.attempts > 0)).next()
    }

    /// Nothing is in flight, and a codec worker has the batch that goes next.
    pub fn waits_for_encoding(&self) -> bool {
        self.in_flight.is_empty() && self.queue.front().is_some_and(LaneBatch::is_encoding)
    }

    /// When the oldest unanswered batch was sent, µs.
    pub fn oldest_sent_us(&self) -> Option<u64> {
        self.in_flight.iter().map(|batch| batch.sent_us).min()
    }

    /// The adopted identity.
    pub fn identity(&self) -> Option<Identity> {
        self.numbers.identity()
    }

    /// From the newest snapshot; -1 for none.
    pub fn leader(&self) -> i32 {
        self.target.leader
    }

    /// From the newest snapshot.
    pub fn topic_id(&self) -> TopicId {
        self.target.topic_id
    }

    /// Leader and epoch of the batches in flight, or of the last one that was.
    pub fn used_leader(&self) -> (i32, i32) {
        (self.used.leader, self.used.leader_epoch)
    }

    /// Sequence of the last record acknowledged under the identity, -1 for none.
    pub fn last_acked_sequence(&self) -> i32 {
        self.numbers.last_acked_sequence()
    }

    /// Bytes of the largest batch that was acknowledged.
    pub fn largest_acknowledged(&self) -> usize {
        self.largest_acknowledged
    }

    /// From the last answer, -1 if unknown.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// Hand-overs with an error that a broker answered, in a row without a success between.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A sequence number under the present identity may stand for a record in the log of another topic of this name.
    pub fn numbers_used_elsewhere(&self) -> bool {
        self.numbers.used_elsewhere() || self.settled.iter().any(|batch| batch.addressed.may_be_elsewhere())
    }
}
