//! Many records in one call: the end of `send_many` and `send_arrow`.
//!
//! [`Shared::append_many`] is [`Shared::append`] for a chunk of records: one lock, one sticky choice and one announcement
//! per batch, not per record.

use std::sync::Arc;

use super::chunk::{Chunk, Group, Rows};
use super::growth::Sizes;
use super::placed::{NOT_BUFFERED, Placed};
use super::room::{Extended, Filled, Room, Target};
use crate::lane::LaneInner;
use crate::lane::batch::LaneBatch;
use crate::shared::Shared;
use crate::topic::Topic;
use crate::wire::record_batch::{BATCH_HEADER_LEN, MAX_RECORD_OVERHEAD, payload_len};

/// The result of [`Shared::append_many`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Every record is buffered or too large.
    Done,
    /// That many bytes of buffer.memory are needed first: queue up, and call again with the grant.
    NeedsMemory(usize),
    /// The producer is closed, or the snapshot is old: [`Chunk::regroup`] with a newer one, and call again.
    Closed,
}

impl Shared {
    /// The largest record (its upper bound) that can be buffered at all.
    fn largest_record(&self) -> usize {
        self.config.max_request_size.min(self.config.buffer_memory).saturating_sub(BATCH_HEADER_LEN)
    }

    /// Buffer a chunk of records: as [`Shared::append`] for each, but for one thing: the sticky partition changes only
    /// between batches.
    ///
    /// `grant`: as there.
    pub fn append_many(
        &self,
        topic: &Topic,
        rows: &Rows<'_>,
        chunk: &mut Chunk,
        placed: &mut Placed,
        grant: &mut usize,
    ) -> Progress {
        self.encoding.ensure_started(self.weak());
        while let Some(group) = chunk.groups.last_mut() {
            if group.rows.is_empty() {
                chunk.groups.pop();
                continue;
            }
            let mut sink =
                Sink { order: &chunk.order, places: &mut chunk.places, too_large: &mut chunk.too_large, placed };
            match self.append_run(topic, rows, group, &mut sink, grant) {
                Progress::Done => {}
                stopped => return stopped,
            }
        }
        Progress::Done
    }

    /// Records for one batch: for the open one, or, if it takes not even the first, for a new one.
    fn append_run(
        &self,
        topic: &Topic,
        rows: &Rows<'_>,
        group: &mut Group,
        sink: &mut Sink<'_>,
        grant: &mut usize,
    ) -> Progress {
        let (partition, sticky) = match group.partition {
            Some(partition) => (partition, None),
            None => topic.choose(None, &self.config.partitioning, || self.clock.now_us()),
        };
        let lane = &topic.lanes[partition as usize];
        let mut inner = lane.inner.lock();
        if !inner.takes_records() {
            return Progress::Closed;
        }
        let limit = self.largest_record();
        let target = Target { topic, lane, partition, sticky };
        let sizes = self.sizes(topic, partition);
        let mut added = AddedRows::default();
        if inner.open_batch().is_some() {
            added = self.fill(&mut inner, rows, group, sink, limit, sizes);
        }
        let mut opened = false;
        if added.records == 0
            && let Some(bound) = sink.next_bound(rows, group, limit)
        {
            match self.make_room(&target, &mut inner, sizes, bound, grant) {
                Room::Here { new } => opened = new,
                Room::Elsewhere => return Progress::Done,
                Room::NeedsMemory(bytes) => return Progress::NeedsMemory(bytes),
            }
            added = self.fill(&mut inner, rows, group, sink, limit, sizes);
        }
        let (grown, sent_bytes) = inner
            .open_batch()
            .map_or((false, added.bytes), |builder| (builder.has_grown(), builder.estimated(added.bytes)));
        let sticky = sticky.filter(|_| added.records > 0);
        self.after_append(topic, lane, inner, sticky, &Filled { sent_bytes, grown, opened });
        Progress::Done
    }

    /// Records into the open batch until it takes no more, or has reached a multiple of batch.size: there the lane is
    /// announced, and another sticky partition may be chosen.
    fn fill(
        &self,
        inner: &mut LaneInner,
        rows: &Rows<'_>,
        group: &mut Group,
        sink: &mut Sink<'_>,
        limit: usize,
        sizes: Sizes,
    ) -> AddedRows {
        let mut added = AddedRows::default();
        loop {
            let batch = inner.last_unsent().expect("an open batch is the last one");
            let some = sink.fill(rows, group, batch, limit);
            added.records += some.records;
            added.bytes += some.bytes;
            let Some(bound) = sink.next_bound(rows, group, limit) else { return added };
            let has_grown = inner.open_batch().is_none_or(|builder| builder.has_grown());
            if has_grown || !matches!(self.extend(inner, sizes, bound, &mut 0), Extended::Yes) {
                return added;
            }
        }
    }
}

/// The result of one [`Sink::fill`].
#[derive(Clone, Copy, Debug, Default)]
struct AddedRows {
    records: u32,
    /// By their upper bounds, as the sticky partition counts.
    bytes: usize,
}

/// Where the records of a chunk go.
struct Sink<'a> {
    order: &'a [u32],
    places: &'a mut [(u32, u32)],
    too_large: &'a mut Vec<u32>,
    placed: &'a mut Placed,
}

impl Sink<'_> {
    #[inline]
    fn row(&self, position: usize) -> usize {
        if self.order.is_empty() { position } else { self.order[position] as usize }
    }

    /// The upper bound of the group's next record; those before it that are too large are passed over. None: no more.
    fn next_bound(&mut self, rows: &Rows<'_>, group: &mut Group, limit: usize) -> Option<usize> {
        while !group.rows.is_empty() {
            let row = self.row(group.rows.start);
            let bound = MAX_RECORD_OVERHEAD + payload_len(rows.key(row), rows.values[row], rows.headers(row));
            if bound <= limit {
                return Some(bound);
            }
            self.refuse(row);
            group.rows.start += 1;
        }
        None
    }

    fn refuse(&mut self, row: usize) {
        self.too_large.push(row as u32);
        if self.places.is_empty() {
            self.placed.push_not_buffered(1);
        }
    }

    /// Add records of a group to an open batch until it takes no more.
    fn fill(&mut self, rows: &Rows<'_>, group: &mut Group, batch: &mut LaneBatch, limit: usize) -> AddedRows {
        let mut added = AddedRows::default();
        let mut largest = 0;
        let completion = Arc::clone(batch.completion());
        let Some(builder) = batch.builder() else { return added };
        let mut number = NOT_BUFFERED;
        let (mut first, mut count) = (builder.count(), 0);
        while !group.rows.is_empty() {
            let row = self.row(group.rows.start);
            let (key, value, headers) = (rows.key(row), rows.values[row], rows.headers(row));
            let payload = payload_len(key, value, headers);
            let bound = MAX_RECORD_OVERHEAD + payload;
            if bound > limit {
                if self.places.is_empty() {
                    self.placed.push(number, first, count);
                    (first, count) = (builder.count(), 0);
                }
                self.refuse(row);
                group.rows.start += 1;
                continue;
            }
            let Some(index) = builder.try_append_sized(rows.timestamp(row), key, value, headers, payload) else {
                break;
            };
            if number == NOT_BUFFERED {
                number = self.placed.batch(&completion);
            }
            if let Some(place) = self.places.get_mut(row) {
                *place = (number, index);
            } else {
                count += 1;
            }
            largest = largest.max(bound);
            self.placed.bytes += (key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)) as u64;
            added.bytes += bound;
            added.records += 1;
            group.rows.start += 1;
            if builder.has_grown() {
                break;
            }
        }
        self.placed.push(number, first, count);
        batch.note_record_size(largest);
        added
    }
}
