//! A chunk of records of a bulk call, and its order by partition.
//!
//! A chunk whose records go to several partitions is sorted by partition first, so that each lane is locked once per batch;
//! the order within a partition stays that of the records.

use std::ops::Range;

use super::placed::{NOT_BUFFERED, Placed};
use crate::topic::Topic;
use crate::wire::murmur2::partition_for_key;
use crate::wire::record_batch::Header;

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
    /// To the one that the built-in partitioner chooses.
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
    pub(super) fn timestamp(&self, row: usize) -> i64 {
        match self.timestamps {
            Timestamps::All(timestamp) => timestamp,
            Timestamps::Each(each) => each[row],
        }
    }
}

/// Records that go to one partition, or to the sticky one: a range of [`Chunk::order`].
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) partition: Option<u32>,
    pub(super) rows: Range<usize>,
}

/// A chunk being appended. Kept from chunk to chunk for its buffers.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Rows by group; empty when all rows are one group, in their own order.
    pub(super) order: Vec<u32>,
    /// The groups that are not done, the current one last.
    pub(super) groups: Vec<Group>,
    /// By row, while groups are interleaved: batch and index.
    pub(super) places: Vec<(u32, u32)>,
    /// Rows that are larger than a record may be.
    pub too_large: Vec<u32>,
}

impl Chunk {
    /// Begin with a chunk. Partitions given by number exist in `topic`.
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

    /// The topic has changed: the records that are not placed yet go by the new snapshot.
    pub fn regroup(&mut self, topic: &Topic, rows: &Rows<'_>, ignore_keys: bool) {
        if self.places.is_empty() {
            return; // by number, or to whatever partition is sticky then
        }
        let mut left: Vec<u32> =
            self.groups.iter().flat_map(|group| self.order[group.rows.clone()].iter().copied()).collect();
        left.sort_unstable();
        self.group(topic, rows, ignore_keys, left);
    }

    /// Counting sort, stable: within a partition the order stays. If some records have a partition and others go to the
    /// sticky one, which may be any of these, the order of all stays: groups are neighbours then.
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

    /// The records that are not placed by now count as not buffered. Their rows, in order.
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
