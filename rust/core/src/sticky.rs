//! The sticky choice: where records without a key go until enough bytes went there (KIP-480, KIP-794).
//!
//! Topics choose, lanes count bytes. The types are in a file of their own, so that neither of the two imports the other.

/// A choice of the sticky partition: its number, and below it how many choices there were before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StickyChoice(u64);

impl StickyChoice {
    /// Before the first one is drawn.
    pub const NONE: Self = Self(u64::MAX);

    /// As stored in an atomic.
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// For an atomic.
    #[inline]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The partition's number.
    #[inline]
    pub fn partition(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The one that follows, of `partition`.
    #[must_use]
    pub fn next(self, partition: u32) -> Self {
        Self(u64::from(partition) << 32 | u64::from((self.0 as u32).wrapping_add(1)))
    }
}

/// Bytes that a lane got under its last sticky choice; under the lane's lock.
#[derive(Clone, Copy, Debug)]
pub struct StickyBytes {
    choice: StickyChoice,
    bytes: usize,
}

impl Default for StickyBytes {
    fn default() -> Self {
        Self { choice: StickyChoice::NONE, bytes: 0 }
    }
}

impl StickyBytes {
    /// Those under `choice`: 0 if the lane's are another one's.
    #[inline]
    pub fn of(self, choice: StickyChoice) -> usize {
        if self.choice == choice { self.bytes } else { 0 }
    }

    /// Count `bytes` under `choice`; the sum under it.
    #[inline]
    pub fn add(&mut self, choice: StickyChoice, bytes: usize) -> usize {
        *self = Self { choice, bytes: self.of(choice) + bytes };
        self.bytes
    }
}
