//! A batch in its lane: records that travel together, and the history of their attempts.
//!
//! The wire format's batch is [`crate::wire::record_batch`]; the states of the records are in `content.rs`.

use std::sync::Arc;

use crate::error_code::NETWORK_EXCEPTION;
use crate::lane::content::{Content, Ticket};
use crate::lane::fate::{Addressed, Fate};
use crate::lane::identity::Numbering;
use crate::outcome::Arrivals;
use crate::outcome::{CallbackToken, Completion, Failure, FailureKind, Outcome};
use crate::wire::record_batch::{BatchBuilder, Chunks};

/// Where the records of a failed batch were: never sent.
pub const LINGER: &str = "linger";
/// Where they were: sent, not answered.
pub const IN_FLIGHT: &str = "in flight";
/// Where they were: sent before, waiting to be sent again or for a decision.
pub const RETRY: &str = "retry";

/// See the module. The lane changes it; all others read.
#[derive(Debug)]
pub struct LaneBatch {
    /// Unique for the producer.
    pub(super) id: u64,
    pub(super) content: Content,
    /// Of the records that have not failed.
    pub(super) completion: Arc<Completion>,
    /// Records at its front that have failed while the others go on: their time ran out first. They count in no outcome.
    ///
    /// A batch that was never sent loses them before it is ([`LaneBatch::drop_failed`]); one that was sent keeps its bytes.
    pub(super) failed: u32,
    /// When its first record was buffered.
    pub(super) created_us: u64,
    /// When the others were, counted from the first one that has not failed.
    pub(super) arrivals: Arrivals,
    /// Bytes of buffer.memory that it holds.
    pub(super) charged: usize,
    /// How often it was sent.
    pub(super) attempts: u32,
    /// The worst of all attempts, in the topic that it was last sent to.
    pub(super) fate: Fate,
    /// The topics of that name that it was sent to.
    pub(super) addressed: Addressed,
    /// Given when it is taken for the first time; changed only by a decision of the control plane.
    pub(super) numbering: Numbering,
    /// Its futures have been failed; it stays because of its sequence numbers.
    pub(super) expired: bool,
    /// The answer to the last attempt.
    pub(super) last: LastAnswer,
    /// Broker of the last attempt, -1 for none.
    pub(super) broker: i32,
    /// When it was last taken for sending.
    pub(super) sent_us: u64,
    /// Bytes of its largest record.
    pub(super) largest: usize,
    /// For how many batches of batch.size it stands in its queue.
    pub(super) weight: u32,
    /// The control plane has decided about the last answer. Until the batch is sent again, reports leave that answer out.
    pub(super) decided: bool,
    /// It may be in the present topic's log under its former sequence numbers. Sent again under its new ones it could be
    /// there twice, so it is not sent.
    pub(super) stranded: bool,
}

/// The answer to an attempt, or the error in its place.
#[derive(Clone, Debug)]
pub struct LastAnswer {
    /// Kafka's code, 0 for none.
    pub code: i16,
    /// The broker's message, or why the connection was lost.
    pub message: String,
    /// -1 for none.
    pub base_offset: i64,
    /// KIP-951 hint: (leader, epoch).
    pub leader: Option<(i32, i32)>,
    /// KIP-467.
    pub record_errors: Vec<(u32, Option<String>)>,
    /// No answer will come: its connection ended. The wait before the next attempt is the connection's, not the lane's.
    pub lost: bool,
}

impl Default for LastAnswer {
    fn default() -> Self {
        Self::error(0, String::new())
    }
}

impl LastAnswer {
    /// For an attempt that ended without a broker's answer, or before it was sent.
    pub fn error(code: i16, message: String) -> Self {
        Self { code, message, base_offset: -1, leader: None, record_errors: Vec::new(), lost: false }
    }

    /// For an attempt whose connection ended before its answer came.
    pub fn lost(reason: String) -> Self {
        Self { lost: true, ..Self::error(NETWORK_EXCEPTION, reason) }
    }
}

/// A batch that a panic takes from the I/O thread is in no queue where the engine could find it.
impl Drop for LaneBatch {
    fn drop(&mut self) {
        if !self.expired && self.completion.outcome().is_none() {
            let message = "lost by the I/O thread (a bug in Penstock)".to_owned();
            let mut failure = self.failure(FailureKind::Internal, 0, message, self.created_us);
            failure.stage = IN_FLIGHT;
            failure.possibly_persisted = self.attempts > 0;
            self.completion.resolve(Outcome::Failed(Box::new(failure)));
        }
    }
}

impl LaneBatch {
    /// A batch around an empty builder, which holds `charged` bytes of buffer.memory.
    pub fn open(id: u64, builder: BatchBuilder, completion: Arc<Completion>, now_us: u64, charged: usize) -> Self {
        Self::with(id, Content::Open(builder), completion, now_us, charged)
    }

    pub(super) fn with(
        id: u64,
        content: Content,
        completion: Arc<Completion>,
        created_us: u64,
        charged: usize,
    ) -> Self {
        Self {
            id,
            content,
            completion,
            failed: 0,
            created_us,
            arrivals: Arrivals::default(),
            charged,
            attempts: 0,
            fate: Fate::Unsent,
            addressed: Addressed::default(),
            numbering: None,
            expired: false,
            last: LastAnswer::default(),
            broker: -1,
            sent_us: 0,
            largest: 0,
            weight: 1,
            decided: false,
            stranded: false,
        }
    }

    // ----------------------------------------------------------------------------------------- records

    /// Records in it, as its sequence numbers count them.
    pub fn count(&self) -> u32 {
        self.content.count()
    }

    /// Records in it that have no outcome yet, unless it has expired.
    pub fn live(&self) -> u32 {
        self.count().saturating_sub(self.failed)
    }

    /// Bytes, header included.
    pub fn size(&self) -> usize {
        self.content.size()
    }

    /// The builder, while records may be added.
    #[inline]
    pub fn builder(&mut self) -> Option<&mut BatchBuilder> {
        match &mut self.content {
            Content::Open(builder) => Some(builder),
            _ => None,
        }
    }

    /// A record of that many bytes was added.
    #[inline]
    pub fn note_record_size(&mut self, bytes: usize) {
        self.largest = self.largest.max(bytes);
    }

    /// Bytes of its records and its header before compression.
    pub fn uncompressed_size(&self) -> usize {
        self.content.uncompressed_size()
    }

    /// Bytes of buffer.memory that it holds.
    pub fn charged(&self) -> usize {
        self.charged
    }

    /// It holds `bytes` of buffer.memory more.
    pub fn charge(&mut self, bytes: usize) {
        self.charged += bytes;
    }

    /// The records, for a codec worker; `None` unless they are open and to be compressed. None are added from here on.
    pub fn begin_encoding(&mut self) -> Option<(BatchBuilder, Arc<Ticket>)> {
        self.drop_failed();
        self.content.begin_encoding()
    }

    /// Whether a codec worker has the records.
    pub fn is_encoding(&self) -> bool {
        matches!(self.content, Content::Encoding(_))
    }

    /// Bytes of its records on the wire per byte of them, once that is known.
    pub fn ratio(&self) -> Option<f64> {
        match &self.content {
            Content::Sealed(sealed) => Some(sealed.ratio()),
            _ => None,
        }
    }

    /// Bytes, counted before compression, at which it may be split: half of what it holds, so that splitting ends, and
    /// `most`.
    pub fn split_limit(&self, most: usize) -> usize {
        (self.content.uncompressed_size() / 2).min(most).max(1)
    }

    /// The batch is resolved: bytes of buffer.memory to be released now. A codec worker that still reads the records
    /// releases them later.
    pub fn settle_memory(&mut self) -> usize {
        self.content.settle_memory(self.charged)
    }

    /// The memory of the records, to be used again, if nothing else (a socket's queue, a worker) holds it.
    pub fn into_chunks(mut self) -> Option<Chunks> {
        self.content.take_chunks()
    }

    // ----------------------------------------------------------------------------------------- history

    /// Unique for the producer.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its futures wait for this.
    #[inline]
    pub fn completion(&self) -> &Arc<Completion> {
        &self.completion
    }

    /// When its first record was buffered, µs.
    pub fn created_us(&self) -> u64 {
        self.created_us
    }

    /// When it was last taken for sending, µs.
    pub fn sent_us(&self) -> u64 {
        self.sent_us
    }

    /// How often it was sent.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Broker of the last attempt, -1 for none.
    pub fn broker(&self) -> i32 {
        self.broker
    }

    /// The worst of all attempts, in the topic that it was last sent to.
    pub fn fate(&self) -> Fate {
        self.fate
    }

    /// Identity and first sequence, once it was sent.
    pub fn numbering(&self) -> Numbering {
        self.numbering
    }

    /// The answer to the last attempt.
    pub fn last(&self) -> &LastAnswer {
        &self.last
    }

    /// Whether its futures have been failed.
    pub fn is_expired(&self) -> bool {
        self.expired
    }

    /// The last answer, unless the control plane has decided about it: then it must not count as a new one.
    pub fn undecided(&self) -> Option<&LastAnswer> {
        (!self.decided).then_some(&self.last)
    }

    /// Whether it may be in the present topic's log under numbers that it has no more: it cannot be sent.
    pub fn is_stranded(&self) -> bool {
        self.stranded
    }

    /// µs since it began.
    pub(super) fn age_us(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(self.created_us)
    }

    /// When its first record that has not failed was buffered, µs; of some only the tick is known.
    pub fn oldest_us(&self, now_us: u64) -> u64 {
        let age_ms = u32::try_from(self.age_us(now_us) / 1000).unwrap_or(u32::MAX);
        self.created_us + 1000 * u64::from(self.arrivals.of(0, age_ms))
    }

    /// How many of its records that have not failed had been buffered by `limit_us`; never more than for certain were.
    pub fn due(&self, limit_us: u64) -> u32 {
        let Some(age_us) = limit_us.checked_sub(self.created_us) else { return 0 };
        self.arrivals.due(age_us).min(self.live())
    }

    // ----------------------------------------------------------------------------------------- outcome

    /// A failure of this batch, with its history; the caller adds where it was: [`LINGER`], [`IN_FLIGHT`] or [`RETRY`].
    pub fn failure(&self, kind: FailureKind, code: i16, mut message: String, now_us: u64) -> Failure {
        // Which of two ids is the newer one cannot be known for certain: a broker may have an old view.
        let elsewhere = self.addressed.may_be_elsewhere();
        if elsewhere && self.fate != Fate::Unknown {
            let after = if message.is_empty() { "" } else { "; " };
            message.push_str(after);
            message.push_str(
                "the topic was deleted and created again, and the record may be in the log of the deleted one",
            );
        }
        Failure {
            kind,
            code,
            stage: "",
            broker: self.broker,
            attempts: self.attempts,
            possibly_persisted: self.fate == Fate::Unknown || elsewhere,
            message,
            elapsed_ms: now_us.saturating_sub(self.created_us) / 1000,
            arrivals: self.arrivals.clone(),
            record_errors: self.blamed(),
        }
    }

    /// The broker's errors of single records, counted as its futures are. A record that has failed before is none of
    /// them, but it still counts among those that the broker blamed.
    fn blamed(&self) -> Vec<(u32, Option<String>)> {
        let errors = self.last.record_errors.iter();
        errors.map(|(at, why)| (at.checked_sub(self.failed).unwrap_or(u32::MAX), why.clone())).collect()
    }

    /// Resolve its futures, unless they were failed before. Returns the callbacks that are due.
    pub fn resolve(&self, mut outcome: Outcome) -> Vec<(u32, CallbackToken)> {
        if let Outcome::Delivered { base_offset, .. } = &mut outcome
            && *base_offset >= 0
        {
            *base_offset += i64::from(self.failed);
        }
        if self.expired { None } else { self.completion.resolve(outcome) }.unwrap_or_default()
    }
}
