//! How many bytes a broker acknowledged in the last second: bounds how large batches become on a slow link.

const SLOT_US: u64 = 50_000;

/// A second of them.
const SLOTS: usize = (1_000_000 / SLOT_US) as usize;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace {
    slots: [u64; SLOTS],
    sum: u64,
    /// The time that the newest slot is for, in slots.
    newest: u64,
}

impl Pace {
    /// `bytes` were acknowledged. Returns the bytes of the last second, up to now.
    pub fn acknowledged(&mut self, bytes: u64, now_us: u64) -> u64 {
        self.advance(now_us);
        self.slots[(self.newest % SLOTS as u64) as usize] += bytes;
        self.sum += bytes;
        self.sum
    }

    /// Bytes of the last second.
    pub fn now(&mut self, now_us: u64) -> u64 {
        self.advance(now_us);
        self.sum
    }

    fn advance(&mut self, now_us: u64) {
        let slot = now_us / SLOT_US;
        for _ in 0..slot.saturating_sub(self.newest).min(SLOTS as u64) {
            self.newest += 1;
            self.sum -= std::mem::take(&mut self.slots[(self.newest % SLOTS as u64) as usize]);
        }
        if slot > self.newest {
            // All slots are empty by now.
            self.newest = slot;
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
