//! One record: the end of `send`.

use std::sync::Arc;

use super::room::{Filled, Room, Target};
use crate::lane::LaneInner;
use crate::outcome::{CallbackToken, Completion};
use crate::shared::Shared;
use crate::topic::Topic;
use crate::wire::record_batch::{Header, MAX_RECORD_OVERHEAD, payload_len};

/// A record, serialized.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// ms since the epoch.
    pub timestamp: i64,
    /// `None` is null.
    pub key: Option<&'a [u8]>,
    /// `None` is null.
    pub value: Option<&'a [u8]>,
    /// In order.
    pub headers: &'a [Header<'a>],
}

/// A record in its batch.
struct Added {
    index: u32,
    completion: Arc<Completion>,
    /// The batch has reached a multiple of batch.size.
    grown: bool,
    /// Bytes that it will take on the wire, as estimated.
    sent_bytes: usize,
}

impl Record<'_> {
    /// Into the open batch, if there is one that has room.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "on the way of each record")]
    fn add_to(&self, inner: &mut LaneInner, payload: usize) -> Option<Added> {
        let batch = inner.last_unsent()?;
        let builder = batch.builder()?;
        let index = builder.try_append_sized(self.timestamp, self.key, self.value, self.headers, payload)?;
        let bytes = MAX_RECORD_OVERHEAD + payload;
        let (grown, sent_bytes) = (builder.has_grown(), builder.estimated(bytes));
        batch.note_record_size(bytes);
        Some(Added { index, completion: Arc::clone(batch.completion()), grown, sent_bytes })
    }
}

/// The result of [`Shared::append`].
#[derive(Debug)]
pub enum Appended {
    /// Buffered: the record is `index` in the batch behind `completion`.
    Done {
        /// Resolved with the batch.
        completion: Arc<Completion>,
        /// Position in the batch.
        index: u32,
    },
    /// That many bytes of buffer.memory are needed first: queue up, and call again with the grant.
    NeedsMemory(usize),
    /// The producer is closed, or the snapshot is old: its topic has been forgotten since.
    Closed,
}

impl Shared {
    /// Buffer a record for `partition` of `topic`, or for the one that the built-in partitioner chooses.
    ///
    /// `token`: a callback, and whether it is the application's (see [`Completion::add_callback`]).
    /// `grant`: bytes that were waited for; taken (set to 0) if they were needed, else still the caller's.
    pub fn append(
        &self,
        topic: &Topic,
        partition: Option<u32>,
        record: &Record<'_>,
        token: Option<(CallbackToken, bool)>,
        grant: &mut usize,
    ) -> Appended {
        self.encoding.ensure_started(self.weak());
        let payload = payload_len(record.key, record.value, record.headers);
        loop {
            // The clock is read only where something depends on it: a new batch, a new sticky partition.
            let (partition, sticky) = match partition {
                Some(partition) => (partition, None),
                None => topic.choose(record.key, &self.config.partitioning, || self.clock.now_us()),
            };
            let lane = &topic.lanes[partition as usize];
            let mut inner = lane.inner.lock();
            if !inner.takes_records() {
                return Appended::Closed;
            }
            let mut opened = false;
            let added = if let Some(added) = record.add_to(&mut inner, payload) {
                added
            } else {
                let target = Target { topic, lane, partition, sticky };
                let (sizes, bound) = (self.sizes(topic, partition), MAX_RECORD_OVERHEAD + payload);
                match self.make_room(&target, &mut inner, sizes, bound, grant) {
                    Room::Here { new } => opened = new,
                    Room::Elsewhere => continue,
                    Room::NeedsMemory(bytes) => return Appended::NeedsMemory(bytes),
                }
                record.add_to(&mut inner, payload).expect("room was made for it")
            };
            let Added { index, completion, grown, sent_bytes } = added;
            if let Some((token, observed)) = token {
                let added = completion.add_callback(index, token, observed);
                debug_assert!(added.is_ok(), "an open batch is unresolved");
            }
            self.after_append(topic, lane, inner, sticky, &Filled { sent_bytes, grown, opened });
            return Appended::Done { completion, index };
        }
    }
}
