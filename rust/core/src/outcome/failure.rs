//! Why records failed, with everything that an error message needs.

use super::arrivals::Arrivals;
use crate::literal::literal;

literal! {
    /// Why a record failed; it chooses the class of the error.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum FailureKind {
        /// A broker answered with an error code.
        Broker = "broker",
        /// delivery.timeout.ms ran out.
        Timeout = "timeout",
        /// `close` did not wait for it.
        Closed = "closed",
        /// The application called `purge` before it was sent.
        Purged = "purged",
        /// Its transaction was aborted.
        Aborted = "aborted",
        /// It was never buffered: one of many, so that `send` did not raise.
        Refused = "refused",
        /// No bootstrap server could be resolved in time (bootstrap.resolve.timeout.ms).
        Unresolved = "unresolved",
        /// A bug in Penstock.
        Internal = "internal",
    }
}

/// Why the records of a batch failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// See there.
    pub kind: FailureKind,
    /// Kafka's error code of the last attempt, 0 for none.
    pub code: i16,
    /// Where it was then: "linger" (never sent), "in flight" or "retry".
    pub stage: &'static str,
    /// The broker of the last attempt, -1 for none.
    pub broker: i32,
    /// How often it was sent.
    pub attempts: u32,
    /// Whether the log may still hold it.
    pub possibly_persisted: bool,
    /// The last cause, human-readable.
    pub message: String,
    /// ms since its first record was buffered.
    pub elapsed_ms: u64,
    /// When the other records were buffered.
    pub arrivals: Arrivals,
    /// KIP-467: the records that were at fault (index in the batch, message).
    pub record_errors: Vec<(u32, Option<String>)>,
}

impl Failure {
    /// ms that record `index` had been buffered when it failed, to within a tick. A batch's oldest record waited longer
    /// than the others.
    pub fn age_ms(&self, index: u32) -> u64 {
        let now_ms = u32::try_from(self.elapsed_ms).unwrap_or(u32::MAX);
        self.elapsed_ms - u64::from(self.arrivals.of(index, now_ms).min(now_ms))
    }
}
