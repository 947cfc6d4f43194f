//! Why records failed, with everything that an error message needs.

use super::arrivals::Arrivals;

/// The kind of a record's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A broker answered with an error code.
    Broker,
    /// delivery.timeout.ms ran out.
    Timeout,
    /// `close` did not wait for it.
    Closed,
    /// The application aborted it.
    Aborted,
    /// It was never buffered: one record of a bulk call, which did not raise.
    Refused,
    /// A bug in Penstock.
    Internal,
}

impl FailureKind {
    /// Its name on the boundary.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Aborted => "aborted",
            Self::Refused => "refused",
            Self::Internal => "internal",
        }
    }

    /// The reverse of [`FailureKind::as_str`]; an unknown name is internal.
    pub fn from_word(word: &str) -> Self {
        match word {
            "broker" => Self::Broker,
            "timeout" => Self::Timeout,
            "closed" => Self::Closed,
            "aborted" => Self::Aborted,
            _ => Self::Internal,
        }
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
    /// Whether the log may hold it all the same.
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
