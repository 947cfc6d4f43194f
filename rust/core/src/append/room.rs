//! Room for records: the rule that an append of one record and one of many share.
//!
//! Without room in the open batch: let it grow if it may (`growth.rs`); else choose another sticky partition if enough
//! bytes went to this one; else charge buffer.memory and open a batch. Afterwards: announce the lane if the batch is new
//! or has reached a multiple of batch.size, and count the bytes of the sticky choice.

use std::sync::Arc;

use super::growth::{CHUNK, Sizes};
use crate::lane::batch::LaneBatch;
use crate::lane::{Lane, LaneInner};
use crate::outcome::Completion;
use crate::shared::Shared;
use crate::sticky::StickyChoice;
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;
use crate::topic::Topic;

/// Where records are to go.
pub(super) struct Target<'a> {
    pub topic: &'a Topic,
    pub lane: &'a Arc<Lane>,
    pub partition: u32,
    /// The partition was chosen as the sticky one.
    pub sticky: Option<StickyChoice>,
}

/// The result of [`Shared::make_room`].
pub(super) enum Room {
    /// The last batch takes the record; it may be a new one.
    Here { new: bool },
    /// Another partition is the sticky one now.
    Elsewhere,
    /// That many bytes are needed first.
    NeedsMemory(usize),
}

/// The result of [`Shared::extend`].
pub(super) enum Extended {
    Yes,
    /// There is no open batch, or it takes no more.
    No,
    /// It may grow, but there is no memory.
    NoMemory,
}

/// The batch after records were added.
pub(super) struct Filled {
    /// Bytes that they will take on the wire, as estimated.
    pub sent_bytes: usize,
    /// The batch has reached a multiple of batch.size.
    pub grown: bool,
    /// The batch is a new one.
    pub opened: bool,
}

impl Shared {
    /// The open batch of a lane, if there is one, has no room for a record of at most `bound` bytes: see the module.
    ///
    /// `grant`: bytes that the caller waited for; taken (set to 0) if they were needed.
    #[cold]
    #[inline(never)]
    pub(super) fn make_room(
        &self,
        target: &Target<'_>,
        inner: &mut LaneInner,
        sizes: Sizes,
        bound: usize,
        grant: &mut usize,
    ) -> Room {
        let charge = self.first_charge(sizes, bound);
        match self.extend(inner, sizes, bound, grant) {
            Extended::Yes => return Room::Here { new: false },
            // Enough for the open batch, and for a new one if that has left when the caller comes back.
            Extended::NoMemory => return Room::NeedsMemory(charge),
            Extended::No => {}
        }
        if let Some(choice) = target.sticky
            && target.topic.leave(choice, *inner.sticky_bytes(), &self.config.partitioning, || self.clock.now_us())
        {
            // The open batch has no room for the next record, so that it need not linger for more.
            if let Some(builder) = inner.open_batch() {
                builder.close();
                self.encoding.encode_last(target.lane, inner);
                self.announce(target.lane, inner, self.clock.now_us());
            }
            return Room::Elsewhere;
        }
        if !self.charge(charge, grant) {
            return Room::NeedsMemory(charge);
        }
        self.open_batch(target, inner, sizes, charge);
        Room::Here { new: true }
    }

    /// One more chunk for the open batch, if it may grow so far and there is memory.
    pub(super) fn extend(&self, inner: &mut LaneInner, sizes: Sizes, bound: usize, grant: &mut usize) -> Extended {
        let Some(batch) = inner.last_unsent() else { return Extended::No };
        let Some(builder) = batch.builder() else { return Extended::No };
        // If there is not so much left: as much as a new batch would take.
        let steps = [CHUNK, self.first_charge(sizes, bound)];
        let mut chunks = steps.into_iter().map_while(|step| builder.next_chunk(bound, step, sizes.limit)).peekable();
        if chunks.peek().is_none() {
            return Extended::No;
        }
        let Some(bytes) = chunks.find(|&bytes| self.charge(bytes, grant)) else { return Extended::NoMemory };
        builder.extend(self.pool.buffer(bytes), bytes);
        batch.charge(bytes);
        Extended::Yes
    }

    /// Take `charge` bytes of buffer.memory, out of `grant` (then set to 0) or of what is free. False: there are too few.
    fn charge(&self, charge: usize, grant: &mut usize) -> bool {
        if *grant < charge {
            return self.pool.try_take(charge);
        }
        let rest = std::mem::take(grant) - charge;
        if rest > 0 {
            self.pool.give(rest);
        }
        true
    }

    /// Open a batch for which `charge` bytes were charged. The caller announces the lane.
    fn open_batch(&self, target: &Target<'_>, inner: &mut LaneInner, sizes: Sizes, charge: usize) {
        let Target { topic, lane, partition, .. } = *target;
        let now_us = self.clock.now_us();
        topic.state.last_append_us.store(now_us, Ordering::Relaxed);
        // In Java a batch for one large record is full when it takes no other.
        let worth = if self.config.grows() { sizes.worth } else { sizes.worth.max(charge) };
        let builder = self.encoding.builder(self.pool.buffer(charge), charge, worth, &topic.name);
        self.encoding.encode_last(lane, inner);
        let completion = Completion::new(Arc::clone(&topic.name), partition as i32);
        inner.push(LaneBatch::open(self.next_batch_id(), builder, completion, now_us, charge));
        lane.publish_load(inner);
    }

    /// Records were added to the last batch of a lane.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "on the way of each record")]
    pub(super) fn after_append(
        &self,
        topic: &Topic,
        lane: &Arc<Lane>,
        mut inner: MutexGuard<'_, LaneInner>,
        sticky: Option<StickyChoice>,
        filled: &Filled,
    ) {
        if filled.grown {
            self.note_growth(lane, &mut inner);
        }
        // Within a batch that lingers nothing changes for the I/O thread.
        if filled.opened || filled.grown {
            self.announce(lane, &mut inner, self.clock.now_us());
        }
        let rules = &self.config.partitioning;
        if let Some(choice) = sticky
            && topic.appended(choice, inner.sticky_bytes(), filled.sent_bytes, filled.grown, rules)
        {
            drop(inner);
            topic.end(choice, rules, || self.clock.now_us());
        }
    }
    /// The open batch has reached a multiple of batch.size.
    #[cold]
    #[inline(never)]
    fn note_growth(&self, lane: &Arc<Lane>, inner: &mut LaneInner) {
        inner.note_size();
        lane.publish_load(inner);
        if !self.config.grows() || inner.codec_may_take_last(&self.config.rules) {
            self.encoding.encode_last(lane, inner);
        }
    }
}
