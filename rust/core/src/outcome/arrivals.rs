//! When the records of a batch were buffered, as far as is known.
//!
//! A record carries no time of ours: its timestamp may be the application's, and to read the clock for each record and keep
//! it would cost more than an error message is worth. Instead the engine's tick, every 50 ms, notes how many records each
//! batch holds that was never sent. A record came after the last note that does not count it, and before the first one
//! that does. Only batches that wait longer than a tick have notes.

/// ms; a record that was buffered before the first tick counts as old as its batch.
const ROUGHLY_AT_ONCE_MS: u32 = 100;

/// So many records, from one time to another; times are ms since the batch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    count: u32,
    first_ms: u32,
    last_ms: u32,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// Counts and times grow.
    marks: Vec<Mark>,
    /// When it was first taken for sending: nothing was added afterwards.
    closed_ms: Option<u32>,
    /// For a part of a split batch: the position of its first record in the whole batch. The marks count in the whole one.
    offset: u32,
}

impl Arrivals {
    /// There are `count` records at `age_ms`. False: so there were at the last note.
    pub fn note(&mut self, count: u32, age_ms: u32) -> bool {
        if let Some(last) = self.marks.last_mut()
            && last.count == count
        {
            last.last_ms = age_ms;
            return false;
        }
        self.marks.push(Mark { count, first_ms: age_ms, last_ms: age_ms });
        true
    }

    /// No more records will be added.
    pub fn close(&mut self, age_ms: u32) {
        self.closed_ms.get_or_insert(age_ms);
    }

    /// The same, as seen from a part of the batch that begins with record `first`.
    #[must_use]
    pub fn split_off(&self, first: u32) -> Self {
        Self { offset: self.offset + first, ..self.clone() }
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
        let by_ms = self.marks.get(at).map_or_else(|| self.closed_ms.unwrap_or(now_ms), |mark| mark.first_ms);
        if after_ms == 0 && by_ms <= ROUGHLY_AT_ONCE_MS { 0 } else { after_ms.midpoint(by_ms.max(after_ms)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One record at once, two more between 100 and 150 ms, one between 2,950 and 3,000 ms.
    fn arrivals() -> Arrivals {
        let mut arrivals = Arrivals::default();
        assert!(arrivals.note(1, 50));
        assert!(!arrivals.note(1, 100));
        assert!(arrivals.note(3, 150));
        for age_ms in (200..=2_950).step_by(50) {
            assert!(!arrivals.note(3, age_ms));
        }
        assert!(arrivals.note(4, 3_000));
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
        arrivals.close(3_010);
        arrivals.close(9_000);
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
}
