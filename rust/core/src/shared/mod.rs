//! The state that application threads, the I/O thread and the codec workers of one producer share.
//!
//! Each part has its own state and file; [`Shared`] owns them, and does what takes several of them.
//!
//! Locks, in the order in which they may be nested ([`Rank`](crate::sync::Rank) has it checked in debug builds): topics,
//! lane, unnoticed failures, (pool | completion | inbox | events | stats).

mod buffered;
mod clock;
mod encoding;
mod failures;
mod hurry;
mod mailbox;
mod purge;
mod resolving;
mod topics;

use std::sync::{Arc, Weak};

use crate::boundary::{Command, Event, EventQueue, Trouble};
use crate::codecs::{CodecOwner, Codecs};
use crate::config::Config;
use crate::event_loop::Notice;
use crate::lane::readiness::NextStep;
use crate::lane::{Lane, LaneInner, TICK_US};
use crate::memory::{BufferPool, Waiter};
use crate::outcome::{CallbackQueue, Completion, FailureKind};
use crate::stats::Stats;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::wire::record_batch::{Chunks, SealedBatch};

pub use buffered::Oldest;
pub use clock::Clock;
pub use encoding::BatchCodecs;
pub use failures::Failures;
pub use hurry::Hurry;
pub use mailbox::{Inbox, Mailbox};
pub use topics::{TopicEntry, TopicError, TopicTable};

/// See the module.
#[derive(Debug)]
pub struct Shared {
    /// Settings.
    pub config: Config,
    /// Time.
    pub clock: Clock,
    /// buffer.memory
    pub pool: BufferPool,
    /// Topics and their lanes.
    pub topics: TopicTable,
    /// To the I/O thread.
    pub mailbox: Mailbox,
    /// Whether batches may linger.
    pub hurry: Hurry,
    /// Compression.
    pub encoding: BatchCodecs,
    /// To the callback thread.
    pub callbacks: CallbackQueue,
    /// To the control thread.
    pub events: EventQueue,
    /// Fatal and unnoticed ones.
    pub failures: Failures,
    /// For `metrics()`.
    pub stats: Mutex<Stats>,
    next_batch: AtomicU64,
    /// For threads that are started from here.
    me: Weak<Self>,
}

impl Shared {
    /// Everything empty.
    pub fn new(config: Config) -> Arc<Self> {
        let encoding = BatchCodecs::new(&config);
        let pool = BufferPool::new(config.buffer_memory, config.chunk_sizes());
        Arc::new_cyclic(|me| Self {
            pool,
            config,
            clock: Clock::new(),
            topics: TopicTable::new(),
            mailbox: Mailbox::default(),
            hurry: Hurry::default(),
            encoding,
            callbacks: CallbackQueue::default(),
            events: EventQueue::default(),
            failures: Failures::new(),
            stats: Mutex::default(),
            next_batch: AtomicU64::new(1),
            me: Weak::clone(me),
        })
    }

    /// For threads that work for this producer as long as it lives.
    #[inline]
    pub(crate) fn weak(&self) -> &Weak<Self> {
        &self.me
    }

    /// A number that no other batch of this producer has.
    pub fn next_batch_id(&self) -> u64 {
        self.next_batch.fetch_add(1, Ordering::Relaxed)
    }

    /// Notify the I/O thread of what a lane can do, unless it was. The caller holds the lane's lock.
    pub(crate) fn announce(&self, lane: &Arc<Lane>, inner: &mut LaneInner, now_us: u64) {
        match inner.schedule(&self.config.rules, now_us, self.hurry.is_on()) {
            NextStep::Queue => self.mailbox.ready(lane),
            // While records wait, the ticks note how old they are, however long they linger.
            NextStep::Timer(at_us) => self.mailbox.timer(at_us, at_us.min(now_us.saturating_add(TICK_US)), lane),
            NextStep::Encode => self.encoding.encode_head(lane, inner),
            NextStep::Nothing => {}
        }
    }

    // ---------------------------------------------------------------------------------------------------- topics

    /// Report that a caller waits for a topic, or for a partition of it (-1: any).
    pub fn want_topic(&self, name: &str, partition: i32) {
        self.events.push(Event::TopicWanted { name: name.to_owned(), partition });
    }

    // ---------------------------------------------------------------------------------------------------- memory

    /// Queue up for memory; nothing lingers while a sender does. A waiter in an event loop gets `notice` with the grant.
    pub fn queue_for_memory(&self, bytes: usize, notice: Option<Notice>) -> Arc<Waiter> {
        let waiter = self.pool.queue(bytes, notice);
        if self.hurry.begin_shortage() {
            self.mailbox.sweep();
        }
        waiter
    }

    /// Give memory back, and let batches linger again when no sender waits.
    pub fn release(&self, bytes: usize) {
        self.pool.give(bytes);
        self.relax();
    }

    /// Check whether the shortage of memory is over.
    pub fn relax(&self) {
        if self.hurry.end_shortage(|| self.pool.waiting()) {
            self.mailbox.sweep();
        }
    }

    // ---------------------------------------------------------------------------------------------------- flush, end

    /// Send everything that is unresolved now: wait for it, then call [`Hurry::end_flush`].
    pub fn begin_flush(&self) -> Vec<Arc<Completion>> {
        self.hurry.begin_flush();
        // A batch that grows while it is waited for would make the flush longer.
        let pending = self.topics.unresolved(self.config.grows());
        self.mailbox.sweep();
        pending
    }

    /// No more sends.
    pub fn refuse_sends(&self) {
        self.hurry.close();
        self.topics.end_waits();
    }

    /// Set the fatal error; the first one counts.
    pub fn set_fatal(&self, kind: FailureKind, trouble: Trouble) {
        self.failures.set_fatal(kind, trouble);
        self.topics.end_waits();
    }

    /// End the codec workers, after the I/O thread, which has abandoned their batches.
    pub fn end_codecs(&self) {
        let Some(codecs) = self.encoding.codecs() else { return };
        codecs.close();
        // Only where a worker died is anything left.
        while let Some(job) = codecs.take(0) {
            self.release(job.ticket.owed());
        }
    }
}

impl CodecOwner for Shared {
    fn codecs(&self) -> Option<&Codecs> {
        self.encoding.codecs()
    }

    fn recycle(&self, chunks: Chunks) {
        self.pool.recycle(chunks.into_buffers());
    }

    fn release(&self, bytes: usize) {
        Self::release(self, bytes);
    }

    fn put_encoded(&self, lane: &Arc<Lane>, batch_id: u64, sealed: SealedBatch) -> bool {
        let mut inner = lane.inner.lock();
        let is_wanted = inner.encoded(batch_id, sealed);
        if is_wanted {
            self.announce(lane, &mut inner, self.clock.now_us());
        }
        is_wanted
    }

    fn fail(&self, message: String) {
        let (kind, trouble) = (FailureKind::Internal, Trouble::new(message.clone()));
        self.set_fatal(kind, trouble.clone());
        // The I/O thread fails the records: they are its own.
        self.mailbox.command([Command::FailProducer { kind, trouble }]);
        self.events.push(Event::EngineFailed { message });
    }
}
