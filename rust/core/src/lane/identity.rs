//! Producer ids, and sequence numbers modulo 2³¹.

/// A producer id with its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Given by `InitProducerId`.
    pub producer_id: i64,
    /// Raised to start sequences again at 0 (KIP-360).
    pub epoch: i16,
}

impl Identity {
    /// The identity of a batch without idempotence.
    pub const NONE: Self = Self { producer_id: -1, epoch: -1 };
}

/// Identity of a batch and the sequence of its first record; `None` without idempotence.
pub type Numbering = Option<(Identity, i32)>;

/// `sequence + count`, modulo 2³¹ (Java's `DefaultRecordBatch.incrementSequence`).
pub const fn advance_sequence(sequence: i32, count: u32) -> i32 {
    ((sequence as u32).wrapping_add(count) & 0x7fff_ffff) as i32
}

/// Whether `other` comes after `sequence`, modulo 2³¹: the shorter distance counts.
pub const fn sequence_is_behind(sequence: i32, other: i32) -> bool {
    let ahead = (other as u32).wrapping_sub(sequence as u32) & 0x7fff_ffff;
    ahead != 0 && ahead < 1 << 30
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap() {
        assert_eq!(advance_sequence(i32::MAX, 1), 0);
        assert_eq!(advance_sequence(i32::MAX - 1, 3), 1);
        assert!(sequence_is_behind(i32::MAX, 0));
        assert!(!sequence_is_behind(0, i32::MAX));
        assert!(!sequence_is_behind(7, 7));
    }
}
