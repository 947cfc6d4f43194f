//! The wall clock, for timestamps of records and time slices of event loops.

use std::time::{SystemTime, UNIX_EPOCH};

/// ms since the epoch.
#[expect(clippy::disallowed_methods, reason = "a record's timestamp is the wall clock's, which may jump")]
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
