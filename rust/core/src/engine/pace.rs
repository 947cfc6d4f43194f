//! How many bytes a broker acknowledged in the last second: bounds how large batches become on a slow link.

use super::TICK_US;

/// A second, in ticks.
const SLOTS: usize = (1_000_000 / TICK_US) as usize;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace {
    slots: [u64; SLOTS],
    sum: u64,
    /// The tick that the newest slot is for.
    tick: u64,
}

impl Pace {
    /// `bytes` were acknowledged. Returns the bytes of the last second, up to now.
    pub fn acknowledged(&mut self, bytes: u64, now_us: u64) -> u64 {
        self.advance(now_us);
        self.slots[(self.tick % SLOTS as u64) as usize] += bytes;
        self.sum += bytes;
        self.sum
    }

    /// Bytes of the last second.
    pub fn now(&mut self, now_us: u64) -> u64 {
        self.advance(now_us);
        self.sum
    }

    fn advance(&mut self, now_us: u64) {
        let tick = now_us / TICK_US;
        for _ in 0..tick.saturating_sub(self.tick).min(SLOTS as u64) {
            self.tick += 1;
            self.sum -= std::mem::take(&mut self.slots[(self.tick % SLOTS as u64) as usize]);
        }
        if tick > self.tick {
            // All slots are empty by now.
            self.tick = tick;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_for_a_second() {
        let mut pace = Pace::default();
        assert_eq!(pace.acknowledged(10, 7_000_000), 10);
        assert_eq!(pace.acknowledged(5, 7_500_000), 15);
        assert_eq!(pace.now(7_990_000), 15);
        assert_eq!(pace.now(8_000_000), 5);
        assert_eq!(pace.now(8_490_000), 5);
        assert_eq!(pace.now(8_500_000), 0);
        assert_eq!(pace.acknowledged(1, 60_000_000), 1);
        assert_eq!(pace.now(60_999_000), 1);
    }
}
