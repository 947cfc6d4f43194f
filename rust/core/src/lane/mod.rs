//! A lane: one partition's queue, its states, and the rule for what may leave it.
//!
//! | state | what happens | leaves to |
//! |---|---|---|
//! | flowing | batches are drained, sent, acknowledged (idle: nothing buffered; gated: no identity yet) | settling: first answer that is not plain success, lost connection, expiry after the first attempt |
//! | settling | nothing is sent; answers still out arrive, or their connection dies | handed over: nothing in flight, something to decide; flowing: nothing to decide |
//! | handed over | the control plane decides; only deadlines touch it here | waiting or flowing: `resume` |
//! | waiting | backoff | flowing: the time has come, or a newer leader epoch |
//! | closed | everything has been failed, or the topic is forgotten (idle) | flowing: the topic is known again |
//!
//! Batches: open → encoding (with a codec worker, if they are to be compressed) → ready (or sealed when taken) → in flight
//! → done, or back to the head of the queue by `resume`. A split's children begin as encoding. What is encoded early waits
//! for its turn; what expires or is failed meanwhile leaves its memory to the worker, who still reads it.
//!
//! Rules kept here: one batch per request; until the first success under an (identity, topic id, leader) one batch in
//! flight; nothing to a new leader before the old one's answers are in; a batch of unknown fate is never renumbered;
//! sequences modulo 2³¹.

pub mod fate;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use crate::sync::{Mutex, Rank};

use crate::config::SendRules;
use crate::lane::fate::{Addressed, Fate, Numbering, TopicId};
use crate::outcome::Arrivals;
use crate::outcome::{CallbackToken, Completion, Failure, FailureKind, Outcome};
use crate::sticky::StickyBytes;
use crate::wire::record_batch::{BatchBuilder, Body, SealedBatch};

/// Position in the engine's table of lanes.
pub type LaneId = u32;

/// The error code that stands for a lost connection, as in the Java client.
pub const NETWORK_EXCEPTION: i16 = 13;

/// A producer id with its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Given by `InitProducerId`.
    pub producer_id: i64,
    /// Raised to start sequences anew (KIP-360).
    pub epoch: i16,
}

/// `sequence + count`, modulo 2³¹ (Java's `DefaultRecordBatch.incrementSequence`).
pub const fn advance_sequence(sequence: i32, count: u32) -> i32 {
    ((sequence as u32).wrapping_add(count) & 0x7fff_ffff) as i32
}

/// Whether `other` comes behind `sequence`, modulo 2³¹: the shorter way round counts.
const fn sequence_is_behind(sequence: i32, other: i32) -> bool {
    let ahead = (other as u32).wrapping_sub(sequence as u32) & 0x7fff_ffff;
    ahead != 0 && ahead < 1 << 30
}

#[derive(Debug)]
enum Content {
    Open(BatchBuilder),
    Encoding(Encoding),
    Sealed(SealedBatch),
}

/// What is left here of a batch that a codec worker has.
#[derive(Debug)]
struct Encoding {
    count: u32,
    /// Uncompressed: no more is known yet.
    size: usize,
    ticket: Arc<Ticket>,
}

/// What a codec worker and the lane know of each other's half of a batch. Written under the lane's lock.
#[derive(Debug, Default)]
pub struct Ticket {
    abandoned: AtomicBool,
    owed: AtomicUsize,
}

impl Ticket {
    /// Nobody wants the batch any more: compressing it would be in vain. Looked at without the lock, it may be news a
    /// moment later.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// buffer.memory that is to be given back by the worker in place of the batch.
    pub fn owed(&self) -> usize {
        self.owed.load(Ordering::Acquire)
    }
}

/// Records of one partition that travel together.
#[derive(Debug)]
pub struct Batch {
    /// Unique for the producer.
    pub id: u64,
    content: Option<Content>,
    /// What its futures wait for.
    pub completion: Arc<Completion>,
    /// When its first record was buffered.
    pub created_us: u64,
    /// When the others were.
    pub arrivals: Arrivals,
    /// Bytes of buffer.memory that it holds.
    pub charged: usize,
    /// How often it was sent.
    pub attempts: u32,
    /// Sticky over attempts, in the topic that it was last sent to.
    pub fate: Fate,
    /// The topics of that name that it was sent to.
    pub addressed: Addressed,
    /// Under which identity it was numbered, and the sequence of its first record.
    pub numbering: Numbering,
    /// Its futures have been failed; it stays for its numbers' sake.
    pub expired: bool,
    /// Of the last attempt.
    pub last: LastAnswer,
    /// Broker of the last attempt, -1 for none.
    pub broker: i32,
    /// When it was last taken for sending.
    pub sent_us: u64,
    /// Bytes of its largest record.
    pub largest: usize,
    /// What the last attempt brought has been decided upon: another hand-over before it is sent again has nothing new.
    pub decided: bool,
    /// It may be in the present topic's log under numbers that it has no more, so that it cannot be sent.
    pub stranded: bool,
}

/// A batch that a panic tears from the hands of the I/O thread is in no queue where `die` could find it.
impl Drop for Batch {
    fn drop(&mut self) {
        if !self.expired && self.completion.outcome().is_none() {
            let message = "lost by the I/O thread (a bug in Penstock)".to_owned();
            let mut failure = self.failure(FailureKind::Internal, 0, message, self.created_us);
            failure.stage = "in flight";
            failure.possibly_persisted = self.attempts > 0;
            self.completion.resolve(Outcome::Failed(Box::new(failure)));
        }
    }
}

/// What the last attempt brought.
#[derive(Clone, Debug, Default)]
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
}

impl Batch {
    /// A new batch around an empty builder.
    pub fn open(id: u64, builder: BatchBuilder, completion: Arc<Completion>, now_us: u64, charged: usize) -> Self {
        Self::with(id, Content::Open(builder), completion, now_us, charged)
    }

    fn with(id: u64, content: Content, completion: Arc<Completion>, created_us: u64, charged: usize) -> Self {
        Self {
            id,
            content: Some(content),
            completion,
            created_us,
            arrivals: Arrivals::default(),
            charged,
            attempts: 0,
            fate: Fate::Unsent,
            addressed: Addressed::default(),
            numbering: None,
            expired: false,
            last: LastAnswer { base_offset: -1, ..LastAnswer::default() },
            broker: -1,
            sent_us: 0,
            largest: 0,
            decided: false,
            stranded: false,
        }
    }

    /// Records in it.
    pub fn count(&self) -> u32 {
        match &self.content {
            Some(Content::Open(builder)) => builder.count(),
            Some(Content::Encoding(encoding)) => encoding.count,
            Some(Content::Sealed(sealed)) => sealed.count(),
            None => 0,
        }
    }

    /// Bytes, header included.
    pub fn size(&self) -> usize {
        match &self.content {
            Some(Content::Open(builder)) => builder.size(),
            Some(Content::Encoding(encoding)) => encoding.size,
            Some(Content::Sealed(sealed)) => sealed.size(),
            None => 0,
        }
    }

    /// The builder, while records may still be added.
    pub fn builder(&mut self) -> Option<&mut BatchBuilder> {
        match &mut self.content {
            Some(Content::Open(builder)) => Some(builder),
            _ => None,
        }
    }

    /// The records, for a codec worker; `None` unless they are open and to be compressed. From here on none are added.
    pub fn begin_encoding(&mut self) -> Option<(BatchBuilder, Arc<Ticket>)> {
        match self.content.take() {
            Some(Content::Open(builder)) if builder.is_compressed() => {
                let ticket = Arc::new(Ticket::default());
                let encoding = Encoding { count: builder.count(), size: builder.size(), ticket: Arc::clone(&ticket) };
                self.content = Some(Content::Encoding(encoding));
                Some((builder, ticket))
            }
            other => {
                self.content = other;
                None
            }
        }
    }

    /// Whether a codec worker has it.
    pub fn is_encoding(&self) -> bool {
        matches!(self.content, Some(Content::Encoding(_)))
    }

    /// The batch is done with as far as its lane is concerned: bytes of buffer.memory to be given back now. A worker that
    /// still reads the records gives them back later.
    pub fn settle_memory(&mut self) -> usize {
        if let Some(Content::Encoding(encoding)) = &self.content {
            encoding.ticket.owed.store(self.charged, Ordering::Release);
            encoding.ticket.abandoned.store(true, Ordering::Release);
            return 0;
        }
        self.charged
    }

    /// Bytes, counted before compression, at which it may be split: half of what it holds, so that splitting ends, and
    /// batch.size at most.
    pub fn split_limit(&self, batch_size: usize) -> usize {
        let held = match &self.content {
            Some(Content::Sealed(sealed)) => sealed.uncompressed_size(),
            _ => self.size(),
        };
        (held / 2).min(batch_size).max(1)
    }

    /// Bytes of its records on the wire per byte of them, once that is known.
    pub fn ratio(&self) -> Option<f64> {
        match &self.content {
            Some(Content::Sealed(sealed)) => Some(sealed.ratio()),
            _ => None,
        }
    }

    fn seal(&mut self) -> &SealedBatch {
        if matches!(self.content, Some(Content::Open(_)))
            && let Some(Content::Open(builder)) = self.content.take()
        {
            self.content = Some(Content::Sealed(builder.seal()));
        }
        match &self.content {
            Some(Content::Sealed(sealed)) => sealed,
            _ => unreachable!("a batch has content until it is disposed of"),
        }
    }

    /// The buffer, for recycling, if nothing else (a socket's queue) holds it.
    pub fn into_buffer(mut self) -> Option<Vec<u8>> {
        match self.content.take() {
            Some(Content::Sealed(sealed)) => Arc::try_unwrap(sealed.into_body()).ok().map(Body::into_buffer),
            // Nobody else ever saw it.
            Some(Content::Open(builder)) => Some(builder.into_buffer()),
            // With the worker.
            Some(Content::Encoding(_)) | None => None,
        }
    }

    fn age_ms(&self, now_us: u64) -> u32 {
        u32::try_from(now_us.saturating_sub(self.created_us) / 1000).unwrap_or(u32::MAX)
    }

    /// A failure of this batch in the words of its history.
    pub fn failure(&self, kind: FailureKind, code: i16, mut message: String, now_us: u64) -> Failure {
        // Which of two ids is the newer one cannot be known for certain: a broker may have an old view.
        let elsewhere = self.addressed.may_be_elsewhere();
        if elsewhere && self.fate != Fate::Unknown {
            let after = if message.is_empty() { "" } else { "; " };
            message.push_str(after);
            message.push_str("the topic was made anew, and the record may be in the log of the former one");
        }
        Failure {
            kind,
            code,
            stage: "", // filled by the lane, which knows where the batch was
            broker: self.broker,
            attempts: self.attempts,
            possibly_persisted: self.fate == Fate::Unknown || elsewhere,
            message,
            elapsed_ms: now_us.saturating_sub(self.created_us) / 1000,
            arrivals: self.arrivals.clone(),
            record_errors: self.last.record_errors.clone(),
        }
    }
}

/// Where a lane is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// Batches are sent as they become ready.
    Flowing,
    /// Nothing is sent; answers still out arrive.
    Settling,
    /// With the control plane.
    HandedOver,
    /// Backoff until this time.
    Waiting(u64),
    /// The producer is closed.
    Closed,
}

/// One partition's queue.
#[derive(Debug)]
pub struct Lane {
    /// Index in the engine's table.
    pub id: LaneId,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// Batches that wait, for the adaptive partitioner (KIP-794); read without the lock.
    pub load: AtomicU32,
    /// Everything else. Held for moments only, and never while the GIL is awaited.
    pub inner: Mutex<LaneInner>,
}

/// What the lane's lock protects.
#[derive(Debug)]
pub struct LaneInner {
    /// See the table.
    pub state: LaneState,
    /// Waiting batches; the last one may be open.
    pub queue: VecDeque<Batch>,
    /// Sent, unanswered, in order.
    pub in_flight: VecDeque<Batch>,
    /// Answered with trouble, or handed over, in order.
    pub settled: VecDeque<Batch>,
    /// Adopted identity, and the next sequence under it.
    pub identity: Option<Identity>,
    /// Sequence of the next record to be numbered.
    pub next_sequence: i32,
    /// A first success under (identity, topic id, leader) has come.
    pub confirmed: bool,
    /// From the newest snapshot; -1 for none.
    pub leader: i32,
    /// From the newest snapshot.
    pub leader_epoch: i32,
    /// From the newest snapshot.
    pub topic_id: TopicId,
    /// Leader and epoch of what is in flight, or was last.
    pub used_leader: (i32, i32),
    /// Topic id under which what is in flight was sent, or what was last.
    pub used_topic: TopicId,
    /// Topic id of the first batch under the identity, and whether a later one went to another: the log of each may hold
    /// any sequence number used since, so that none may stand for other records.
    pub numbered_for: Option<TopicId>,
    /// See `numbered_for`.
    pub numbered_elsewhere: bool,
    /// Sequence of the last record acknowledged under the identity, -1 for none.
    pub last_acked_sequence: i32,
    /// Highest offset of an acknowledged record, -1 for none.
    pub last_acked_offset: i64,
    /// From the last answer, -1 if unknown.
    pub log_start_offset: i64,
    /// Hand-overs in a row without a success between.
    pub failures: u32,
    /// It stands in a ready queue of the engine (or is on its way there).
    pub queued: bool,
    /// The last request that was put together with a batch of this lane: one batch per partition per request.
    pub request: u64,
    /// The earliest timer that the engine holds for it; `u64::MAX`: none.
    pub armed_us: u64,
    /// While it is the sticky partition.
    pub sticky: StickyBytes,
}

/// Whether and what a lane can send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The head may go.
    Ready,
    /// The head may go as soon as it is compressed: a codec worker is to have it.
    Encode,
    /// The head is being compressed; it will be announced.
    Encoding,
    /// Something waits, and nothing but this time holds it back.
    At(u64),
    /// Nothing to send, or an answer, an identity, a leader or the control plane is awaited.
    Blocked,
}

/// A batch as it goes onto the wire.
#[derive(Debug)]
pub struct Outgoing {
    /// To find it again when the answer comes.
    pub batch_id: u64,
    /// The header of this attempt.
    pub header: [u8; 61],
    /// Shared with the batch.
    pub body: Arc<Body>,
    /// Bytes of both.
    pub size: usize,
    /// Records in it.
    pub count: u32,
    /// How long it waited since its first record, µs.
    pub queued_us: u64,
    /// The topic id to be used with version 13.
    pub topic_id: [u8; 16],
    /// It was sent before.
    pub retry: bool,
    /// Bytes of its largest record.
    pub largest: usize,
    /// Bytes of the records on the wire per byte of them.
    pub ratio: f64,
}

impl Lane {
    /// A new, idle lane.
    pub fn new(id: LaneId, topic: Arc<str>, partition: i32) -> Arc<Self> {
        let inner = LaneInner {
            state: LaneState::Flowing,
            queue: VecDeque::new(),
            in_flight: VecDeque::new(),
            settled: VecDeque::new(),
            identity: None,
            next_sequence: 0,
            confirmed: false,
            leader: -1,
            leader_epoch: -1,
            topic_id: [0; 16],
            used_leader: (-1, -1),
            used_topic: [0; 16],
            numbered_for: None,
            numbered_elsewhere: false,
            last_acked_sequence: -1,
            last_acked_offset: -1,
            log_start_offset: -1,
            failures: 0,
            queued: false,
            request: 0,
            armed_us: u64::MAX,
            sticky: StickyBytes::default(),
        };
        Arc::new(Self { id, topic, partition, load: AtomicU32::new(0), inner: Mutex::ranked(Rank::Lane, inner) })
    }

    /// Close an idle lane, so that nobody appends to it while its topic is forgotten. False: it holds records.
    pub fn retire(&self) -> bool {
        let mut inner = self.inner.lock();
        if inner.is_empty() && inner.state != LaneState::Closed {
            inner.state = LaneState::Closed;
            return true;
        }
        false
    }

    /// Open a retired lane again; its identity and sequence go on where they were.
    pub fn revive(&self) {
        let mut inner = self.inner.lock();
        if inner.state == LaneState::Closed {
            inner.state = LaneState::Flowing;
        }
    }

    /// Publish the queue's length.
    pub fn publish_load(&self, inner: &LaneInner) {
        self.load.store(inner.queue.len() as u32, Ordering::Relaxed);
    }
}

impl LaneInner {
    /// Nothing buffered, in flight or to decide.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_empty() && self.settled.is_empty()
    }

    /// All batches whose records are not resolved yet.
    pub fn unresolved(&self) -> impl Iterator<Item = &Batch> {
        self.settled.iter().chain(&self.in_flight).chain(&self.queue).filter(|batch| !batch.expired)
    }

    /// The batch that takes the next record, while it has room.
    pub fn open_batch(&mut self) -> Option<&mut BatchBuilder> {
        self.last_open().and_then(Batch::builder)
    }

    /// The batch around it, which may be open no more.
    pub fn last_open(&mut self) -> Option<&mut Batch> {
        self.queue.back_mut().filter(|batch| batch.attempts == 0)
    }

    /// Note how many records each batch holds that was never sent (see [`Arrivals`]).
    pub fn note_arrivals(&mut self, now_us: u64) {
        for batch in self.queue.iter_mut().rev().take_while(|batch| batch.attempts == 0) {
            let (count, age_ms) = (batch.count(), batch.age_ms(now_us));
            // Those before it were closed before it began: nothing is new there either.
            if !batch.arrivals.note(count, age_ms) {
                break;
            }
        }
    }

    /// Batch `batch_id` is compressed. False: it is gone, expired or failed meanwhile.
    pub fn encoded(&mut self, batch_id: u64, sealed: SealedBatch) -> bool {
        // A split's child may have been handed over since, with the lane.
        let mut waiting = self.queue.iter_mut().chain(&mut self.settled);
        let Some(batch) = waiting.find(|batch| batch.id == batch_id && batch.is_encoding()) else { return false };
        batch.content = Some(Content::Sealed(sealed));
        true
    }

    fn quiescent(&self) -> bool {
        self.in_flight.is_empty() && self.settled.is_empty() && self.queue.iter().all(|batch| batch.numbering.is_none())
    }

    /// The next batch goes to another leader, or to another topic of that name, than the last one did.
    fn moved(&self) -> bool {
        self.used_leader.0 != self.leader || self.used_topic != self.topic_id
    }

    /// May the head go now? `hurry`: a flush, close or memory shortage ends lingering.
    pub fn readiness(&self, rules: &SendRules, now_us: u64, hurry: bool) -> Readiness {
        let mut not_before = 0;
        match self.state {
            LaneState::Flowing => {}
            LaneState::Waiting(until) => not_before = until,
            LaneState::Settling | LaneState::HandedOver | LaneState::Closed => return Readiness::Blocked,
        }
        let Some(head) = self.queue.front() else { return Readiness::Blocked };
        if head.is_encoding() {
            return Readiness::Encoding;
        }
        // A broker without producer state accepts any first sequence: were the first batch lost on the way and the
        // second taken, the first could never follow. So one at a time until one got through.
        let limit = if rules.idempotent && !self.confirmed { 1 } else { rules.max_in_flight };
        if self.in_flight.len() >= limit || (!self.in_flight.is_empty() && self.moved()) {
            return Readiness::Blocked;
        }
        let closed = self.queue.len() > 1
            || head.attempts > 0
            || match &head.content {
                Some(Content::Open(builder)) => builder.is_full(),
                _ => true,
            };
        if !closed && !hurry {
            not_before = not_before.max(head.created_us.saturating_add(rules.linger_us));
        }
        match &head.content {
            _ if not_before > now_us => Readiness::At(not_before),
            Some(Content::Open(builder)) if builder.is_compressed() => Readiness::Encode,
            _ => Readiness::Ready,
        }
    }

    /// Take the head for sending to `leader`, numbered. None if it may not go, is too large for `room` bytes, or no
    /// identity is there yet. The caller has asked [`LaneInner::readiness`].
    pub fn take(&mut self, target: Option<Identity>, rules: &SendRules, room: usize, now_us: u64) -> Option<Outgoing> {
        if self.queue.front()?.size() > room {
            return None;
        }
        if rules.idempotent {
            if self.identity != target && self.quiescent() {
                // Invariant: an identity is adopted only by a lane with nothing in flight and nothing numbered.
                self.adopt(target?, 0);
            }
            self.identity?;
        }
        let mut batch = self.queue.pop_front()?;
        if let (Some(identity), None) = (self.identity, batch.numbering) {
            batch.numbering = Some((identity, self.next_sequence));
            self.next_sequence = advance_sequence(self.next_sequence, batch.count());
        }
        self.state = LaneState::Flowing;
        if self.moved() {
            self.confirmed = false;
        }
        self.used_leader = (self.leader, self.leader_epoch);
        self.used_topic = self.topic_id;
        let numbered_for = *self.numbered_for.get_or_insert(self.topic_id);
        self.numbered_elsewhere |= numbered_for != self.topic_id;
        let (retry, largest) = (batch.attempts > 0, batch.largest);
        let age_ms = batch.age_ms(now_us);
        batch.arrivals.close(age_ms);
        batch.attempts += 1;
        batch.addressed.attempt(self.topic_id);
        batch.decided = false;
        batch.broker = self.leader;
        batch.sent_us = now_us;
        let (identity, sequence) = batch.numbering.unwrap_or((Identity { producer_id: -1, epoch: -1 }, -1));
        let sealed = batch.seal();
        let outgoing = Outgoing {
            header: sealed.header(identity.producer_id, identity.epoch, sequence, 0),
            body: Arc::clone(sealed.body()),
            size: sealed.size(),
            count: sealed.count(),
            ratio: sealed.ratio(),
            batch_id: batch.id,
            queued_us: now_us.saturating_sub(batch.created_us),
            topic_id: self.topic_id,
            retry,
            largest,
        };
        self.in_flight.push_back(batch);
        Some(outgoing)
    }

    fn adopt(&mut self, identity: Identity, first_sequence: i32) {
        self.identity = Some(identity);
        self.next_sequence = first_sequence;
        self.last_acked_sequence = -1;
        self.confirmed = false;
        (self.numbered_for, self.numbered_elsewhere) = (None, false);
    }

    /// Take batch `batch_id` out of what is in flight.
    pub fn answered(&mut self, batch_id: u64) -> Option<Batch> {
        let at = self.in_flight.iter().position(|batch| batch.id == batch_id)?;
        self.in_flight.remove(at)
    }

    /// Note a plain success of `batch` (already taken out).
    pub fn acknowledge(&mut self, batch: &Batch, base_offset: i64) {
        self.confirmed = true;
        self.failures = 0;
        let count = batch.count();
        if base_offset >= 0 {
            self.last_acked_offset = self.last_acked_offset.max(base_offset.saturating_add(i64::from(count) - 1));
        }
        if let Some((identity, sequence)) = batch.numbering
            && Some(identity) == self.identity
        {
            // A batch that is sent again may be acknowledged behind its successor, which nothing takes back.
            let last = advance_sequence(sequence, count.wrapping_sub(1));
            if self.last_acked_sequence < 0 || sequence_is_behind(self.last_acked_sequence, last) {
                self.last_acked_sequence = last;
            }
        }
    }

    /// Note trouble with `batch` (already taken out): it settles. `by_name`: its request named the topic, not its id.
    pub fn settle(&mut self, mut batch: Batch, fate: Fate, by_name: bool, last: LastAnswer) {
        batch.fate = batch.fate.max(fate);
        if by_name && fate == Fate::Unknown {
            batch.addressed.went_by_name();
        }
        batch.last = last;
        self.settled.push_back(batch);
        self.begin_settling();
    }

    /// The topic may have been made anew since the batches here were sent: their fates are about the present one from now
    /// on. Not of what is in flight, or with the control plane, which decides by what it was told.
    ///
    /// True: a batch is [`Batch::stranded`].
    pub fn enter_topic(&mut self) -> bool {
        let settled = if self.state == LaneState::HandedOver { None } else { Some(&mut self.settled) };
        let topic_id = self.topic_id;
        let mut stranded = false;
        let tried = self.queue.iter_mut().take_while(|batch| batch.attempts > 0);
        for batch in settled.into_iter().flatten().chain(tried) {
            let fate = batch.addressed.enter(topic_id, batch.fate, batch.numbering);
            batch.fate = fate.unwrap_or(Fate::Unknown);
            batch.stranded |= fate.is_none();
            stranded |= batch.stranded && !batch.expired;
        }
        stranded
    }

    /// A sequence number under the present identity may stand for a record in the log of another topic of this name.
    pub fn numbers_used_elsewhere(&self) -> bool {
        self.numbered_elsewhere || self.settled.iter().any(|batch| batch.addressed.may_be_elsewhere())
    }

    /// Stop sending until the control plane has decided.
    pub fn begin_settling(&mut self) {
        if matches!(self.state, LaneState::Flowing | LaneState::Waiting(_)) {
            self.state = LaneState::Settling;
        }
    }

    /// A settling lane with nothing in flight: true if it is handed over now (its batches are in `settled`, those that
    /// were tried before and wait again included); a lane with nothing to decide flows on.
    pub fn hand_over(&mut self) -> bool {
        if self.state != LaneState::Settling || !self.in_flight.is_empty() {
            return false;
        }
        while self.queue.front().is_some_and(|batch| batch.attempts > 0) {
            let batch = self.queue.pop_front();
            self.settled.extend(batch);
        }
        if self.settled.is_empty() {
            self.state = LaneState::Flowing;
            return false;
        }
        self.state = LaneState::HandedOver;
        true
    }

    /// Take the batches back with new numbers; refused, batches and all, if that would break a rule.
    pub fn resume(
        &mut self,
        mut remaining: VecDeque<Batch>,
        renumber: Option<(Identity, i32)>,
        until_us: u64,
    ) -> Result<(), (VecDeque<Batch>, &'static str)> {
        debug_assert!(self.settled.is_empty() && self.in_flight.is_empty());
        if let Some((identity, first_sequence)) = renumber {
            if remaining.iter().any(|batch| batch.fate == Fate::Unknown) {
                return Err((remaining, "a batch of unknown fate cannot be renumbered"));
            }
            if self.identity == Some(identity) {
                self.next_sequence = first_sequence;
            } else {
                self.adopt(identity, first_sequence);
            }
            for batch in &mut remaining {
                batch.numbering = Some((identity, self.next_sequence));
                self.next_sequence = advance_sequence(self.next_sequence, batch.count());
            }
        }
        for mut batch in remaining.into_iter().rev() {
            batch.decided = true;
            self.queue.push_front(batch);
        }
        self.failures += 1;
        self.state = LaneState::Waiting(until_us);
        Ok(())
    }

    /// Split a batch (KIP-126) into children of at most `limit` bytes, counted before compression: its futures follow,
    /// creation time, attempts and sequences are inherited, and its memory is shared out. An error: it cannot be split.
    ///
    /// Children that are to be compressed are open; [`Batch::begin_encoding`] is the next step.
    pub fn split(mut batch: Batch, limit: usize, mut next_id: impl FnMut() -> u64) -> Result<Vec<Batch>, Box<Batch>> {
        let pieces = match batch.seal().split(limit) {
            Ok(pieces) if pieces.len() > 1 => pieces,
            _ => return Err(Box::new(batch)),
        };
        let mut sequence = batch.numbering;
        let mut charged = batch.charged;
        let mut children = Vec::with_capacity(pieces.len());
        let mut completions = Vec::with_capacity(pieces.len());
        let last = pieces.len() - 1;
        for (position, (first, piece)) in pieces.into_iter().enumerate() {
            let completion = Completion::new(Arc::clone(&batch.completion.topic), batch.completion.partition);
            completions.push((first, Arc::clone(&completion)));
            let share = if position == last { charged } else { charged.min(piece.size()) };
            charged -= share;
            let count = piece.count();
            let content = if piece.is_compressed() { Content::Open(piece) } else { Content::Sealed(piece.seal()) };
            let mut child = Self::child(&batch, next_id(), content, completion, share);
            child.arrivals = batch.arrivals.split_off(first);
            child.numbering = sequence;
            sequence = sequence.map(|(identity, base)| (identity, advance_sequence(base, count)));
            children.push(child);
        }
        if !batch.expired {
            batch.completion.resolve_split(completions);
        }
        Ok(children)
    }

    fn child(parent: &Batch, id: u64, content: Content, completion: Arc<Completion>, charged: usize) -> Batch {
        let mut child = Batch::with(id, content, completion, parent.created_us, charged);
        child.attempts = parent.attempts;
        child.fate = parent.fate;
        child.addressed = parent.addressed.clone();
        child.broker = parent.broker;
        child.expired = parent.expired;
        child
    }
}

/// Resolve a failed batch unless its futures were failed before. Returns what must run on the callback thread.
pub fn fail_batch(batch: &Batch, stage: &'static str, mut failure: Failure) -> Option<Vec<(u32, CallbackToken)>> {
    if batch.expired {
        return None;
    }
    failure.stage = stage;
    batch.completion.resolve(Outcome::Failed(Box::new(failure)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: SendRules =
        SendRules { idempotent: true, max_in_flight: 5, linger_us: 5_000, delivery_timeout_us: 120_000_000 };
    const ME: Identity = Identity { producer_id: 9, epoch: 0 };

    fn lane() -> Arc<Lane> {
        let lane = Lane::new(0, "t".into(), 0);
        lane.inner.lock().leader = 1;
        lane
    }

    fn batch(id: u64, records: u32) -> Batch {
        let mut builder = BatchBuilder::new(Vec::new(), 16_384);
        for _ in 0..records {
            builder.append(1, None, Some(b"v"), &[]);
        }
        Batch::open(id, builder, Completion::new("t".into(), 0), 0, 100)
    }

    fn lost() -> LastAnswer {
        LastAnswer { code: NETWORK_EXCEPTION, ..LastAnswer::default() }
    }

    #[test]
    fn an_open_batch_lingers_and_a_closed_one_does_not() {
        let lane = lane();
        let mut inner = lane.inner.lock();
        assert_eq!(inner.readiness(&RULES, 0, false), Readiness::Blocked);
        inner.queue.push_back(batch(1, 1));
        assert_eq!(inner.readiness(&RULES, 0, false), Readiness::At(5_000));
        assert_eq!(inner.readiness(&RULES, 0, true), Readiness::Ready);
        assert_eq!(inner.readiness(&RULES, 5_000, false), Readiness::Ready);
        inner.queue.push_back(batch(2, 1));
        assert_eq!(inner.readiness(&RULES, 0, false), Readiness::Ready);
    }

    #[test]
    fn one_batch_is_in_flight_until_the_first_success() {
        let lane = lane();
        let mut inner = lane.inner.lock();
        for id in 1..=8 {
            inner.queue.push_back(batch(id, 2));
        }
        assert!(inner.take(None, &RULES, usize::MAX, 0).is_none(), "no identity yet");
        let first = inner.take(Some(ME), &RULES, usize::MAX, 0).unwrap();
        assert_eq!(inner.readiness(&RULES, 9_999, false), Readiness::Blocked);
        let done = inner.answered(first.batch_id).unwrap();
        inner.acknowledge(&done, 40);
        assert_eq!((inner.last_acked_sequence, inner.last_acked_offset), (1, 41));
        for _ in 0..5 {
            assert_eq!(inner.readiness(&RULES, 9_999, false), Readiness::Ready);
            inner.take(Some(ME), &RULES, usize::MAX, 0).unwrap();
        }
        assert_eq!(inner.readiness(&RULES, 9_999, false), Readiness::Blocked);
    }

    #[test]
    fn trouble_settles_the_lane_and_hands_over_all_that_was_sent() {
        let lane = lane();
        let mut inner = lane.inner.lock();
        inner.confirmed = true;
        for id in 1..=3 {
            inner.queue.push_back(batch(id, 2));
        }
        inner.take(Some(ME), &RULES, usize::MAX, 0);
        inner.confirmed = true;
        inner.take(Some(ME), &RULES, usize::MAX, 0);
        let failed = inner.answered(1).unwrap();
        inner.settle(failed, Fate::Rejected, false, LastAnswer { code: 6, ..LastAnswer::default() });
        assert_eq!(inner.readiness(&RULES, 9_999, true), Readiness::Blocked);
        assert!(!inner.hand_over(), "an answer is still out");
        let second = inner.answered(2).unwrap();
        inner.settle(second, Fate::Unknown, false, lost());
        assert!(inner.hand_over());
        let ids: Vec<_> = inner.settled.iter().map(|batch| batch.id).collect();
        assert_eq!(ids, [1, 2], "the third was never sent and stays");
        let remaining = std::mem::take(&mut inner.settled);
        assert!(inner.resume(remaining, None, 700).is_ok());
        assert_eq!(inner.readiness(&RULES, 0, true), Readiness::At(700));
        assert_eq!(inner.queue.front().unwrap().numbering, Some((ME, 0)));
    }

    #[test]
    fn a_batch_of_unknown_fate_is_never_renumbered() {
        let lane = lane();
        let mut inner = lane.inner.lock();
        inner.queue.push_back(batch(1, 2));
        inner.take(Some(ME), &RULES, usize::MAX, 0);
        let lost_batch = inner.answered(1).unwrap();
        inner.settle(lost_batch, Fate::Unknown, false, lost());
        assert!(inner.hand_over());
        let remaining = std::mem::take(&mut inner.settled);
        let other = Identity { producer_id: 9, epoch: 1 };
        assert!(inner.resume(remaining, Some((other, 0)), 0).is_err());
    }

    #[test]
    fn fate_is_sticky_and_sequences_wrap() {
        let lane = lane();
        let mut inner = lane.inner.lock();
        inner.queue.push_back(batch(1, 1));
        inner.take(Some(ME), &RULES, usize::MAX, 0);
        let mut tried = inner.answered(1).unwrap();
        tried.fate = Fate::Unknown;
        inner.settle(tried, Fate::Rejected, false, LastAnswer::default());
        assert_eq!(inner.settled[0].fate, Fate::Unknown);
        assert_eq!(advance_sequence(i32::MAX, 1), 0);
        assert_eq!(advance_sequence(i32::MAX - 1, 3), 1);
    }

    #[test]
    fn a_split_shares_out_records_sequences_and_memory() {
        let mut parent = batch(1, 100);
        parent.numbering = Some((ME, i32::MAX - 10));
        parent.attempts = 1;
        let completion = Arc::clone(&parent.completion);
        let mut ids = 2..;
        let children = LaneInner::split(parent, 300, || ids.next().unwrap()).unwrap();
        assert!(children.len() > 1);
        assert_eq!(children.iter().map(Batch::count).sum::<u32>(), 100);
        assert_eq!(children.iter().map(|child| child.charged).sum::<usize>(), 100);
        assert_eq!(children[1].numbering.unwrap().1, advance_sequence(i32::MAX - 10, children[0].count()));
        assert!(matches!(completion.outcome(), Some(Outcome::Split(_))));
        assert!(LaneInner::split(batch(5, 1), 10, || 6).is_err());
    }
}
