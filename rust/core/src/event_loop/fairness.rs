//! Fairness in an event loop: how long coroutines may continue before they yield.

/// How long the coroutines of one thread may continue without giving the loop time. A `send` that need not wait, and a
/// future that is done, would never suspend by themselves.
///
/// Times are ms of any clock that the caller has; it may jump.
#[derive(Clone, Copy, Debug)]
pub struct TimeSlice {
    /// When the loop last had time, or the first step since.
    since_ms: Option<i64>,
    steps: u32,
    /// It has been over since then: all coroutines yield until the loop has had time.
    over_ms: Option<i64>,
}

/// The result of a step: what the coroutine does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Continue.
    Go,
    /// The slice is over with this step: have the loop call [`TimeSlice::begin`], then yield two times: after a single
    /// yield the same coroutine could get the next slice, too.
    Over,
    /// It was over before: yield.
    Yield,
}

impl Default for TimeSlice {
    fn default() -> Self {
        Self::NEW
    }
}

impl TimeSlice {
    /// A slice without steps.
    pub const NEW: Self = Self { since_ms: None, steps: 0, over_ms: None };
    /// Length of a slice in steps of the ms clock: 1 ms at most.
    const LENGTH_MS: u64 = 1;
    /// Steps before the clock is compared: a coroutine that sends only now and then yields by itself in between.
    const FEW: u32 = 4;
    /// After this time the loop that was to begin a new slice is taken to have ended.
    const LOST_MS: u64 = 50;

    /// One more step, at `now_ms`.
    pub fn step(&mut self, now_ms: i64) -> Step {
        if let Some(over_ms) = self.over_ms {
            if now_ms.abs_diff(over_ms) < Self::LOST_MS {
                return Step::Yield;
            }
            self.over_ms = Some(now_ms);
            return Step::Over;
        }
        self.steps += 1;
        let since_ms = *self.since_ms.get_or_insert(now_ms);
        if self.steps < Self::FEW || now_ms.abs_diff(since_ms) < Self::LENGTH_MS {
            return Step::Go;
        }
        self.over_ms = Some(now_ms);
        Step::Over
    }

    /// The loop had time: a new slice begins.
    pub fn begin(&mut self) {
        *self = Self::NEW;
    }

    /// The loop probably had time: a new slice begins if few steps were taken since. For hints that come many times in
    /// one slice.
    pub fn passed(&mut self) {
        if self.over_ms.is_none() && self.steps < 16 * Self::FEW {
            self.begin();
        }
    }

    /// Steps since the slice began.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// One more step, whose time is not checked.
    pub fn count(&mut self) {
        self.steps += 1;
    }

    /// Whether all coroutines yield.
    pub fn is_over(&self) -> bool {
        self.over_ms.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_over_with_the_next_tick_and_until_the_loop_has_had_time() {
        let mut slice = TimeSlice::NEW;
        assert!((0..1000).all(|_| slice.step(10) == Step::Go));
        assert_eq!(slice.step(11), Step::Over);
        assert_eq!(slice.step(11), Step::Yield);
        slice.passed();
        assert_eq!(slice.step(12), Step::Yield);
        slice.begin();
        assert_eq!(slice.step(20), Step::Go);
    }

    #[test]
    fn a_coroutine_that_sends_now_and_then_does_not_yield() {
        let mut slice = TimeSlice::NEW;
        for now_ms in 0..100 {
            assert_eq!(slice.step(10 * now_ms), Step::Go);
            slice.passed();
        }
    }

    #[test]
    fn a_slice_that_a_loop_never_began_is_asked_for_again() {
        let mut slice = TimeSlice::NEW;
        while slice.step(i64::from(slice.steps())) == Step::Go {}
        assert_eq!(slice.step(20), Step::Yield);
        assert_eq!(slice.step(100), Step::Over);
        assert_eq!(slice.step(0), Step::Over, "the clock was set back");
    }
}
