//! When the records of a batch were buffered, as far as is known.
//!
//! A record carries no time of ours: its timestamp may be the application's, and to read the clock for each record and keep
//! it would cost more than an error message is worth. Instead the engine's tick, every 50 ms, notes how many records each
//! batch holds that was never sent. A record came after the last note that does not count it, and before the first one
//! that does. Only batches that wait longer than a tick have notes.
//!
//! The notes give each record its own deadline, too: it fails when the first note that counts it is delivery.timeout.ms
//! old, which is never too early and a tick too late at most (more where marks were merged).

/// ms; a record that was buffered before the first tick counts as old as its batch.
const ROUGHLY_AT_ONCE_MS: u32 = 100;

/// Marks of one batch, at most: 16 KB. With ticks of 50 ms that is enough for records that come during 51 s without a
/// pause.
const MOST_MARKS: usize = 1024;

/// So many records, from one time to another; times are since the batch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    /// They had been buffered by then. Deadlines follow from this, so it is not rounded.
    first_us: u64,
    /// There were no more of them by then.
    last_ms: u32,
    count: u32,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// Counts and times grow.
    marks: Vec<Mark>,
    /// Of a batch with too many marks: marks closer than this are merged.
    spacing_us: u64,
    /// When it was first taken for sending: nothing was added afterwards.
    closed_us: Option<u64>,
    /// For a part of a batch: the position of its first record in the whole batch. The marks count in the whole one.
    offset: u32,
}

impl Arrivals {
    /// There are `count` records now, `now_us` after the batch began, and were by `by_us` (the same, unless this note
    /// comes late). False: so many there were at the last note.
    pub fn note(&mut self, count: u32, by_us: u64, now_us: u64) -> bool {
        let (count, last_ms) = (self.offset.saturating_add(count), in_ms(now_us));
        let mut first_us = by_us;
        if let Some(last) = self.marks.last_mut() {
            if last.count == count {
                last.last_ms = last_ms;
                return false;
            }
            first_us = first_us.max(last.first_us);
        }
        self.marks.push(Mark { first_us, last_ms, count });
        self.merge_last();
        if self.marks.len() > MOST_MARKS {
            // Four times the mean distance leaves half of the marks at most, so that this is rare.
            self.spacing_us = first_us / MOST_MARKS as u64 * 4;
            self.merge();
        }
        true
    }

    /// The last mark takes the place of the one before it, if it is close to the one before that. Records then count as
    /// buffered up to `spacing_us` later than they were, never earlier: they fail that much later.
    fn merge_last(&mut self) {
        let after_us = self.marks.len().checked_sub(3).map_or(0, |at| self.marks[at].first_us);
        if let [.., previous, last] = &mut self.marks[..]
            && last.first_us - after_us <= self.spacing_us
        {
            *previous = *last;
            self.marks.pop();
        }
    }

    fn merge(&mut self) {
        let marks = std::mem::take(&mut self.marks);
        for mark in marks {
            self.marks.push(mark);
            self.merge_last();
        }
    }

    /// No more records will be added.
    pub fn close(&mut self, age_us: u64) {
        self.closed_us.get_or_insert(age_us);
    }

    /// The same, as seen from a part of the batch that begins with record `first`.
    #[must_use]
    pub fn split_off(&self, first: u32) -> Self {
        Self { offset: self.offset + first, ..self.clone() }
    }

    /// The same, as seen from the part in front of that: the first `count` records.
    #[must_use]
    pub fn front(&self, count: u32) -> Self {
        // One mark more than counts them: it has the time by which the last of them was buffered.
        let marks = self.marks.partition_point(|mark| mark.count < self.offset.saturating_add(count));
        let marks = self.marks[..self.marks.len().min(marks + 1)].to_vec();
        Self { marks, ..*self }
    }

    /// How many records at the front had been buffered for certain by `limit_us` after the batch began; more than there
    /// are if all were.
    pub fn due(&self, limit_us: u64) -> u32 {
        if self.closed_us.is_some_and(|closed_us| closed_us <= limit_us) {
            return u32::MAX;
        }
        let at = self.marks.partition_point(|mark| mark.first_us <= limit_us);
        // The batch began with its first record.
        let count = at.checked_sub(1).map_or(1, |last| self.marks[last].count);
        count.saturating_sub(self.offset)
    }

    /// When record `index` was buffered, in ms since the batch began, as of `now_ms`. Only the tick is
    /// known: the result is the middle of that time, and 0 for the first record.
    pub fn of(&self, index: u32, now_ms: u32) -> u32 {
        let index = index.saturating_add(self.offset);
        if index == 0 {
            return 0;
        }
        let at = self.marks.partition_point(|mark| mark.count <= index);
        let after_ms = at.checked_sub(1).map_or(0, |before| self.marks[before].last_ms);
        let by_us = self.marks.get(at).map(|mark| mark.first_us).or(self.closed_us);
        let by_ms = by_us.map_or(now_ms, in_ms);
        if after_ms == 0 && by_ms <= ROUGHLY_AT_ONCE_MS { 0 } else { after_ms.midpoint(by_ms.max(after_ms)) }
    }
}

fn in_ms(us: u64) -> u32 {
    u32::try_from(us / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1000;

    /// One record at once, two more between 100 and 150 ms, one between 2,950 and 3,000 ms.
    fn arrivals() -> Arrivals {
        let mut arrivals = Arrivals::default();
        assert!(arrivals.note(1, 50 * MS, 50 * MS));
        assert!(!arrivals.note(1, 100 * MS, 100 * MS));
        assert!(arrivals.note(3, 150 * MS, 150 * MS));
        for age_ms in (200..=2_950).step_by(50) {
            assert!(!arrivals.note(3, age_ms * MS, age_ms * MS));
        }
        assert!(arrivals.note(4, 3_000 * MS, 3_000 * MS));
        arrivals
    }

    #[test]
    fn a_record_came_between_two_notes() {
        let arrivals = arrivals();
        assert_eq!((0..4).map(|index| arrivals.of(index, 3_000)).collect::<Vec<_>>(), [0, 125, 125, 2_975]);
    }

    #[test]
    fn what_no_note_counts_came_before_the_batch_was_taken_or_before_now() {
        let mut arrivals = arrivals();
        assert_eq!(arrivals.of(4, 3_020), 3_010);
        arrivals.close(3_010 * MS);
        arrivals.close(9_000 * MS);
        assert_eq!(arrivals.of(4, 9_000), 3_005, "it was sent again at 9,000");
    }

    #[test]
    fn without_a_note_the_records_are_as_old_as_their_batch_if_that_is_young() {
        assert_eq!(Arrivals::default().of(7, 40), 0);
        assert_eq!(Arrivals::default().of(7, 1_000), 500, "nothing is known but this");
        assert_eq!(Arrivals::default().of(0, 1_000), 0);
    }

    #[test]
    fn the_part_of_a_split_batch_keeps_the_times_of_its_records() {
        let right = arrivals().split_off(1).split_off(1);
        assert_eq!((right.of(0, 5_000), right.of(1, 5_000)), (125, 2_975));
    }

    #[test]
    fn a_record_is_due_by_the_first_note_that_counts_it() {
        let arrivals = arrivals();
        let due = [0, 49, 149, 150, 2_999, 3_000].map(|limit_ms| arrivals.due(limit_ms * MS));
        assert_eq!(due, [1, 1, 1, 3, 3, 4], "the first one when the batch began");
        assert_eq!([149, 150, 3_000].map(|limit_ms| arrivals.split_off(2).due(limit_ms * MS)), [0, 1, 2]);
    }

    #[test]
    fn what_no_note_counts_is_due_by_the_time_at_which_the_batch_was_taken() {
        let mut arrivals = arrivals();
        assert_eq!(arrivals.due(9_000), 4, "a fifth one may come at any time");
        arrivals.close(3_010 * MS);
        assert_eq!([3_009, 3_010].map(|limit_ms| arrivals.due(limit_ms * MS)), [4, u32::MAX]);
    }

    #[test]
    fn a_late_note_counts_records_as_buffered_before_it() {
        let mut arrivals = Arrivals::default();
        assert!(arrivals.note(2, 100 * MS, 7_000 * MS));
        assert_eq!((arrivals.due(99 * MS), arrivals.due(100 * MS)), (1, 2));
        assert_eq!(arrivals.of(2, 8_000), 7_500, "a later one came after it");
    }

    #[test]
    fn the_front_part_keeps_the_times_of_its_records_and_no_other_marks() {
        let whole = arrivals();
        let front = whole.split_off(1).front(2);
        assert_eq!((front.of(0, 3_000), front.of(1, 3_000)), (125, 125));
        assert_eq!(front.marks.len(), 2);
        assert_eq!(whole.front(9).marks, whole.marks);
    }

    #[test]
    fn merged_marks_make_records_younger_and_by_little() {
        let mut arrivals = Arrivals::default();
        // A record every 50 ms for ten minutes.
        let ticks = 12_000_u32;
        for tick in 1..=ticks {
            arrivals.note(tick, u64::from(tick) * 50 * MS, u64::from(tick) * 50 * MS);
        }
        assert!(arrivals.marks.len() <= MOST_MARKS);
        let most_us = u64::from(ticks) * 50 * MS / 128;
        for index in 1..ticks {
            let came_us = u64::from(index + 1) * 50 * MS;
            assert!(arrivals.due(came_us - 1) <= index, "record {index} is not due before its time");
            assert!(arrivals.due(came_us + most_us) > index, "record {index} is due soon after it");
        }
    }
}
