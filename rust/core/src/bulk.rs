//! Many records in one call: what `send_many` and `send_arrow` come down to.
//!
//! [`Shared::append_many`] is [`Shared::append`] for a chunk of records: one lock, one look at the sticky partition and one
//! announcement per batch, not per record. A chunk whose records go to several partitions is put in their order first, so
//! that each lane is visited once; the order within a partition stays that of the records.
//!
//! What becomes of the records is told in runs ([`Placed`]), since neighbours mostly share a batch.

use std::ops::Range;
use std::sync::Arc;

use crate::accumulator::Shared;
use crate::lane::LaneInner;
use crate::lane::batch::LaneBatch;
use crate::outcome::Completion;
use crate::topic::Topic;
use crate::wire::murmur2::partition_for_key;
use crate::wire::record_batch::{BATCH_HEADER_LEN, Header, MAX_RECORD_OVERHEAD, payload_len};

/// In place of a batch's number: the record was not buffered.
pub const NOT_BUFFERED: u32 = u32::MAX;

/// In place of a partition's number: the built-in partitioner chooses.
pub const CHOOSE: i32 = -1;

/// Timestamps, ms since the epoch.
#[derive(Clone, Copy, Debug)]
pub enum Timestamps<'a> {
    /// The same one for all.
    All(i64),
    /// One for each.
    Each(&'a [i64]),
}

/// Where the records go.
#[derive(Clone, Copy, Debug)]
pub enum Partitions<'a> {
    /// Where the built-in partitioner says.
    Choose,
    /// All to one.
    All(u32),
    /// Each to its own, or [`CHOOSE`].
    Each(&'a [i32]),
}

/// A chunk of serialized records, column by column; a column that no record has is empty.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// As many as there are records. `None` is null.
    pub values: &'a [Option<&'a [u8]>],
    /// `None` is null.
    pub keys: &'a [Option<&'a [u8]>],
    /// Those of each record, in order.
    pub headers: &'a [&'a [Header<'a>]],
    /// See there.
    pub timestamps: Timestamps<'a>,
    /// See there.
    pub partitions: Partitions<'a>,
}

impl<'a> Rows<'a> {
    /// The key of one record.
    #[inline]
    pub fn key(&self, row: usize) -> Option<&'a [u8]> {
        self.keys.get(row).copied().flatten()
    }

    /// The headers of one record.
    #[inline]
    pub fn headers(&self, row: usize) -> &'a [Header<'a>] {
        self.headers.get(row).copied().unwrap_or_default()
    }

    #[inline]
    fn timestamp(&self, row: usize) -> i64 {
        match self.timestamps {
            Timestamps::All(timestamp) => timestamp,
            Timestamps::Each(each) => each[row],
        }
    }
}

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

/// Where records are, in the order in which they were given: the runs tell it from the first one to the last.
#[derive(Debug, Default)]
pub struct Placed {
    /// Batches that hold some; one may be there twice.
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
    fn batch(&mut self, completion: &Arc<Completion>) -> u32 {
        if !self.batches.last().is_some_and(|last| Arc::ptr_eq(last, completion)) {
            self.batches.push(Arc::clone(completion));
        }
        (self.batches.len() - 1) as u32
    }
}

/// What [`Shared::append_many`] brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Every record is buffered or too large.
    Done,
    /// That many bytes of buffer.memory are needed first: queue up, and call again with the grant.
    NeedsMemory(usize),
    /// The producer is closed, or the snapshot is old: [`Chunk::regroup`] with a newer one, and call again.
    Closed,
}

/// Records that go to one partition, or to the sticky one: a range of [`Chunk::order`].
#[derive(Clone, Debug)]
struct Group {
    partition: Option<u32>,
    rows: Range<usize>,
}

/// A chunk under way. Kept from chunk to chunk for its buffers.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Rows by group; empty when all rows are one group, in their own order.
    order: Vec<u32>,
    /// Those not done, the current one last.
    groups: Vec<Group>,
    /// By row, while groups are interleaved: batch and index.
    places: Vec<(u32, u32)>,
    /// Rows that are larger than a record may be.
    pub too_large: Vec<u32>,
}

impl Chunk {
    /// Begin with a chunk. Partitions that are asked for by number exist in `topic`.
    pub fn begin(&mut self, topic: &Topic, rows: &Rows<'_>, ignore_keys: bool) {
        self.order.clear();
        self.groups.clear();
        self.places.clear();
        self.too_large.clear();
        let all = 0..rows.values.len();
        let keyed = !rows.keys.is_empty() && !ignore_keys;
        match rows.partitions {
            Partitions::All(partition) => self.groups.push(Group { partition: Some(partition), rows: all }),
            Partitions::Choose if !keyed => self.groups.push(Group { partition: None, rows: all }),
            _ => {
                self.places.resize(rows.values.len(), (NOT_BUFFERED, 0));
                self.group(topic, rows, ignore_keys, (0..rows.values.len() as u32).collect());
            }
        }
    }

    /// The topic has changed: whatever is not placed yet goes by the new snapshot.
    pub fn regroup(&mut self, topic: &Topic, rows: &Rows<'_>, ignore_keys: bool) {
        if self.places.is_empty() {
            return; // by number, or to whatever partition is sticky then
        }
        let mut left: Vec<u32> =
            self.groups.iter().flat_map(|group| self.order[group.rows.clone()].iter().copied()).collect();
        left.sort_unstable();
        self.group(topic, rows, ignore_keys, left);
    }

    /// Counting sort, stable: within a partition the order stays. Where some records have their partition and others go to
    /// the sticky one, which may be any of these, the order of all stays: groups are neighbours then.
    fn group(&mut self, topic: &Topic, rows: &Rows<'_>, ignore_keys: bool, left: Vec<u32>) {
        let partitions = topic.partitions() as usize;
        let target = |row: u32| {
            let row = row as usize;
            if let Partitions::Each(each) = rows.partitions
                && each[row] != CHOOSE
            {
                return each[row] as usize;
            }
            match rows.key(row) {
                Some(key) if !ignore_keys => partition_for_key(key, topic.partitions()) as usize,
                _ => partitions,
            }
        };
        let targets: Vec<u32> = left.iter().map(|&row| target(row) as u32).collect();
        let mut ends = vec![0_usize; partitions + 1];
        for &target in &targets {
            ends[target as usize] += 1;
        }
        self.groups.clear();
        self.order.clear();
        if ends[partitions] > 0 && ends[partitions] < targets.len() {
            let mut at = 0;
            for same in targets.chunk_by(|one, other| one == other) {
                let partition = (same[0] < partitions as u32).then_some(same[0]);
                self.groups.push(Group { partition, rows: at..at + same.len() });
                at += same.len();
            }
            self.groups.reverse(); // the last one is the first to go
            self.order = left;
            return;
        }
        let mut at = 0;
        for (number, end) in ends.iter_mut().enumerate() {
            let begin = at;
            at += *end;
            *end = begin;
            if at > begin {
                let partition = (number < partitions).then_some(number as u32);
                self.groups.push(Group { partition, rows: begin..at });
            }
        }
        self.order.resize(left.len(), 0);
        for (&row, &target) in left.iter().zip(&targets) {
            self.order[ends[target as usize]] = row;
            ends[target as usize] += 1;
        }
    }

    /// All that could be is placed: what is left counts as not buffered. How many are left, the first of them given.
    pub fn finish(&mut self, rows: &Rows<'_>, placed: &mut Placed) -> Vec<u32> {
        let mut left: Vec<u32> = Vec::new();
        if self.places.is_empty() {
            for group in self.groups.drain(..) {
                left.extend(group.rows.clone().map(|row| row as u32));
                placed.push_not_buffered(group.rows.len() as u64);
            }
            return left;
        }
        for group in self.groups.drain(..) {
            left.extend(&self.order[group.rows]);
        }
        left.sort_unstable();
        debug_assert_eq!(self.places.len(), rows.values.len());
        for &(batch, index) in &self.places {
            placed.push(batch, index, 1);
        }
        left
    }
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
        if let Some(codecs) = &self.codecs {
            codecs.ensure_started(&self.me);
        }
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
        let clock = || self.now_us();
        let rules = &self.config.partitioning;
        let (partition, sticky) = match group.partition {
            Some(partition) => (partition, None),
            None => topic.choose(None, rules, clock),
        };
        let lane = &topic.lanes[partition as usize];
        let mut inner = lane.inner.lock();
        if !inner.takes_records() {
            return Progress::Closed;
        }
        let limit = self.largest_record();
        let mut added = Added::default();
        if inner.open_batch().is_some() {
            added = self.fill(&mut inner, rows, group, sink, limit);
        }
        let mut opened = false;
        if added.records == 0 && !group.rows.is_empty() {
            // What is open here, if anything, has no room for the next record, so that waiting for more would be in vain.
            if sticky.is_some_and(|choice| topic.leave(choice, *inner.sticky_bytes(), rules, clock)) {
                if let Some(builder) = inner.open_batch() {
                    builder.close();
                    self.close_last(lane, &mut inner);
                    self.announce(lane, &mut inner, clock());
                }
                return Progress::Done;
            }
            let Some(bound) = sink.next_bound(rows, group, limit) else { return Progress::Done };
            let charge = self.batch_memory(bound);
            if !self.charge(charge, grant) {
                return Progress::NeedsMemory(charge);
            }
            opened = true;
            self.open_batch(topic, lane, &mut inner, partition, charge);
            added = self.fill(&mut inner, rows, group, sink, limit);
        }
        let (full, sent_bytes) = inner
            .open_batch()
            .map_or((false, added.bytes), |builder| (builder.is_full(), builder.estimated(added.bytes)));
        if full {
            self.close_last(lane, &mut inner);
        }
        if opened || full {
            self.announce(lane, &mut inner, clock());
        }
        let over = sticky.filter(|&choice| {
            added.records > 0 && topic.appended(choice, inner.sticky_bytes(), sent_bytes, full, rules)
        });
        drop(inner);
        if let Some(choice) = over {
            topic.end(choice, rules, clock);
        }
        Progress::Done
    }

    /// Records into the open batch until it takes no more, growing it if it is to be compressed.
    fn fill(
        &self,
        inner: &mut LaneInner,
        rows: &Rows<'_>,
        group: &mut Group,
        sink: &mut Sink<'_>,
        limit: usize,
    ) -> Added {
        let mut added = Added::default();
        loop {
            let batch = inner.last_unsent().expect("an open batch is the last one");
            let some = sink.fill(rows, group, batch, limit);
            added.records += some.records;
            added.bytes += some.bytes;
            let Some(bound) = sink.next_bound(rows, group, limit) else { return added };
            if !self.grow(inner, bound) {
                return added;
            }
        }
    }
}

/// What one visit to a batch added.
#[derive(Clone, Copy, Debug, Default)]
struct Added {
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
    fn fill(&mut self, rows: &Rows<'_>, group: &mut Group, batch: &mut LaneBatch, limit: usize) -> Added {
        let mut added = Added::default();
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
        }
        self.placed.push(number, first, count);
        batch.note_record_size(largest);
        added
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
