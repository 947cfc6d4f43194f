//! The versions of Produce: each added something to the bytes.

/// The oldest version we speak; brokers since 0.11, and the oldest that a 4.x broker accepts.
pub const MIN_VERSION: i16 = 3;
/// The newest version we speak.
pub const MAX_VERSION: i16 = 13;

/// The log's first offset in each answer.
pub(super) const FIRST_WITH_LOG_START_OFFSET: i16 = 5;
/// KIP-467: the records that are at fault.
pub(super) const FIRST_WITH_RECORD_ERRORS: i16 = 8;
/// KIP-482: compact lengths and tagged fields.
pub(super) const FIRST_FLEXIBLE: i16 = 9;
/// KIP-951: the new leader and its address.
pub(super) const FIRST_WITH_LEADER: i16 = 10;
/// KIP-516: topic ids instead of names.
pub(super) const FIRST_WITH_TOPIC_ID: i16 = 13;
