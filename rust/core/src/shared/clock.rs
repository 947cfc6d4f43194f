//! The data plane's clock: real, or stepped by hand in tests and the simulation.

use std::time::{Duration, Instant};

use crate::sync::atomic::{AtomicU64, Ordering};

/// See the module.
#[derive(Debug)]
pub struct Clock {
    epoch: Instant,
    /// `u64::MAX`: real time.
    manual_us: AtomicU64,
}

impl Clock {
    /// Real time; 0 is now.
    pub(super) fn new() -> Self {
        Self { epoch: Instant::now(), manual_us: AtomicU64::new(u64::MAX) }
    }

    /// Monotonic time in µs since the producer was made.
    pub fn now_us(&self) -> u64 {
        match self.manual_us.load(Ordering::Relaxed) {
            u64::MAX => self.epoch.elapsed().as_micros() as u64,
            manual => manual,
        }
    }

    /// The same time as an `Instant`, for waits that take one.
    pub fn now(&self) -> Instant {
        match self.manual_us.load(Ordering::Relaxed) {
            u64::MAX => Instant::now(),
            manual => self.epoch + Duration::from_micros(manual),
        }
    }

    /// Step the clock by hand from now on.
    pub fn set_us(&self, now_us: u64) {
        self.manual_us.store(now_us, Ordering::Relaxed);
    }
}
