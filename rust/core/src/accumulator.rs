//! What application threads and the I/O thread share: topics, lanes, memory, and the append that `send` ends in.
//!
//! `append` takes one lane's lock for the time it takes to encode a record, asks for memory once per batch, and wakes the
//! I/O thread only when that thread sleeps past something it should do (Java's `RecordAccumulator`).
//!
//! Locks, in the order in which they may be nested ([`Rank`](crate::sync::Rank) has it checked in debug builds): topics,
//! lane, unnoticed failures, (pool | completion | inbox | events | stats).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use crate::sync::{Condvar, Mutex, OnceLock, Rank};

use crate::boundary::{Command, Event, EventQueue};
use crate::codecs::{Codecs, Job};
use crate::compression::{Codec, Encoder};
use crate::config::Config;
use crate::event_loop::{LoopToken, Notice, Notices};
use crate::lane::batch::LaneBatch;
use crate::lane::readiness::NextStep;
use crate::lane::{Lane, LaneInner};
use crate::memory::{BufferPool, Waiter};
use crate::outcome::{CallbackQueue, CallbackToken, Completion};
use crate::stats::Stats;
use crate::sticky::StickyChoice;
use crate::topic::Topic;
use crate::wire::record_batch::{
    BATCH_HEADER_LEN, BatchBuilder, Header, MAX_RECORD_OVERHEAD, MAX_UNCOMPRESSED, payload_len,
};

/// A record, serialized.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// ms since the epoch.
    pub timestamp: i64,
    /// `None` is null.
    pub key: Option<&'a [u8]>,
    /// `None` is null.
    pub value: Option<&'a [u8]>,
    /// In order.
    pub headers: &'a [Header<'a>],
}

/// A record in its batch.
struct Added {
    index: u32,
    completion: Arc<Completion>,
    /// The batch takes no more.
    full: bool,
    /// What it will take on the wire, as far as can be said.
    sent_bytes: usize,
}

impl Record<'_> {
    /// Into the open batch, if there is one that has room.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "on the way of each record")]
    fn add_to(&self, inner: &mut LaneInner, payload: usize) -> Option<Added> {
        let batch = inner.last_unsent()?;
        let builder = batch.builder()?;
        let index = builder.try_append_sized(self.timestamp, self.key, self.value, self.headers, payload)?;
        let bytes = MAX_RECORD_OVERHEAD + payload;
        let (full, sent_bytes) = (builder.is_full(), builder.estimated(bytes));
        batch.note_record_size(bytes);
        Some(Added { index, completion: Arc::clone(batch.completion()), full, sent_bytes })
    }
}

/// What [`Shared::append`] brought.
#[derive(Debug)]
pub enum Appended {
    /// Buffered: the record is `index` in the batch behind `completion`.
    Done {
        /// Resolved with the batch.
        completion: Arc<Completion>,
        /// Position in the batch.
        index: u32,
    },
    /// That many bytes of buffer.memory are needed first: queue up, and call again with the grant.
    NeedsMemory(usize),
    /// The producer is closed, or the snapshot is old: its topic has been forgotten meanwhile.
    Closed,
}

/// What [`Shared::make_room`] brought.
enum Room {
    /// The last batch takes the record; it may be a new one.
    Here { new: bool },
    /// Another partition is the sticky one now.
    Elsewhere,
    /// That many bytes are needed first.
    NeedsMemory(usize),
}

/// What is known of a topic by name.
#[derive(Clone, Debug, Default)]
pub struct TopicEntry {
    /// The newest snapshot.
    pub topic: Option<Arc<Topic>>,
    /// The last error in place of a snapshot: (code, message, final).
    pub error: Option<(i16, String, bool)>,
    /// How many errors there were: one that was there before a call began may be out of date.
    pub errors: u64,
}

/// See [`Shared::oldest`].
#[derive(Clone, Debug)]
pub struct Oldest {
    /// Its topic's name.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Since its first record was buffered.
    pub age_ms: u64,
    /// How often it was sent.
    pub attempts: u32,
    /// Where it was sent last, or is to go; -1 for nowhere.
    pub broker: i32,
    /// What its last attempt met; 0 for nothing.
    pub code: i16,
    /// In words.
    pub message: String,
}

#[derive(Debug, Default)]
struct Topics {
    /// Ordered, so that a run that is stepped by hand can be repeated.
    by_name: BTreeMap<Arc<str>, TopicEntry>,
    status: String,
    /// To be given with the next change of the table.
    notices: Vec<Notice>,
}

/// News for the I/O thread.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Lanes that can send.
    pub ready: Vec<Arc<Lane>>,
    /// Lanes that can send from a time on.
    pub timers: Vec<(u64, Arc<Lane>)>,
    /// From the control plane.
    pub commands: Vec<Command>,
    /// Look at every lane (flush, memory shortage, close).
    pub sweep: bool,
}

/// Batches whose records failed unnoticed so far.
#[derive(Debug, Default)]
struct Unnoticed {
    /// (completion, records in it), the oldest first.
    failed: VecDeque<(Arc<Completion>, u32)>,
    /// Records of batches that are no longer remembered: they still count.
    forgotten: u64,
}

/// How many failed batches are remembered for `DeliveryError`; beyond that the oldest only count.
const REMEMBERED_FAILURES: usize = 4096;

type Waker = Box<dyn Fn() + Send + Sync>;

/// See the module.
pub struct Shared {
    /// Settings.
    pub config: Config,
    /// buffer.memory
    pub pool: BufferPool,
    /// Who compresses; `None`: compression.type is none.
    pub codecs: Option<Codecs>,
    /// For the callback thread.
    pub callbacks: CallbackQueue,
    /// For the control thread.
    pub events: EventQueue,
    /// For `metrics()`.
    pub stats: Mutex<Stats>,
    topics: Mutex<Topics>,
    topics_changed: Condvar,
    /// Grows with every change of the topic table, so that callers may keep a snapshot until it does.
    pub topics_version: AtomicU64,
    inbox: Mutex<Inbox>,
    /// Until when the I/O thread sleeps; 0 while it works.
    sleeping_until: AtomicU64,
    waker: OnceLock<Waker>,
    /// Flushes under way: nothing lingers.
    flushing: AtomicUsize,
    /// Somebody waits for memory: nothing lingers.
    pressure: AtomicBool,
    /// No more sends.
    pub closed: AtomicBool,
    /// The I/O thread is to end.
    pub stop: AtomicBool,
    fatal: OnceLock<(i16, String)>,
    next_batch: AtomicU64,
    /// Time that senders spent waiting for memory, ns (over all threads).
    pub memory_wait_ns: AtomicU64,
    /// Time that senders spent waiting for metadata, ns.
    pub metadata_wait_ns: AtomicU64,
    unnoticed: Mutex<Unnoticed>,
    /// For threads that are started from here.
    pub(crate) me: Weak<Self>,
    epoch: Instant,
    /// A clock stepped by hand, in tests and the simulation; `u64::MAX`: real time.
    manual_us: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Shared {
    /// Everything empty.
    pub fn new(config: Config) -> Arc<Self> {
        let compressed = config.compression.codec != Codec::None;
        let pool = BufferPool::new(config.buffer_memory, config.batch_size.max(BATCH_HEADER_LEN));
        Arc::new_cyclic(|me| Self {
            pool: if compressed { pool.keeping(MAX_UNCOMPRESSED) } else { pool },
            codecs: compressed.then(|| Codecs::new(config.compression)),
            me: Weak::clone(me),
            config,
            callbacks: CallbackQueue::default(),
            events: EventQueue::default(),
            stats: Mutex::default(),
            topics: Mutex::ranked(Rank::Topics, Topics::default()),
            topics_changed: Condvar::new(),
            topics_version: AtomicU64::new(1),
            inbox: Mutex::default(),
            sleeping_until: AtomicU64::new(0),
            waker: OnceLock::new(),
            flushing: AtomicUsize::new(0),
            pressure: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            fatal: OnceLock::new(),
            next_batch: AtomicU64::new(1),
            memory_wait_ns: AtomicU64::new(0),
            metadata_wait_ns: AtomicU64::new(0),
            unnoticed: Mutex::ranked(Rank::Unnoticed, Unnoticed::default()),
            epoch: Instant::now(),
            manual_us: AtomicU64::new(u64::MAX),
        })
    }

    /// Monotonic time in µs since the producer was made.
    pub fn now_us(&self) -> u64 {
        match self.manual_us.load(Ordering::Relaxed) {
            u64::MAX => self.epoch.elapsed().as_micros() as u64,
            manual => manual,
        }
    }

    /// The same clock's present, for waits that take an `Instant`.
    pub fn now(&self) -> Instant {
        match self.manual_us.load(Ordering::Relaxed) {
            u64::MAX => Instant::now(),
            manual => self.epoch + Duration::from_micros(manual),
        }
    }

    /// Step the clock by hand from now on.
    pub fn set_now_us(&self, now_us: u64) {
        self.manual_us.store(now_us, Ordering::Relaxed);
    }

    /// How to end the I/O thread's sleep. Once.
    pub fn set_waker(&self, waker: Waker) {
        assert!(self.waker.set(waker).is_ok(), "one I/O thread per producer");
    }

    /// A number that no other batch of this producer has.
    pub fn next_batch_id(&self) -> u64 {
        self.next_batch.fetch_add(1, Ordering::Relaxed)
    }

    /// Nothing may linger now.
    pub fn in_a_hurry(&self) -> bool {
        self.flushing.load(Ordering::Acquire) > 0
            || self.pressure.load(Ordering::Acquire)
            || self.closed.load(Ordering::Acquire)
    }

    // ------------------------------------------------------------------------------------------------- I/O thread

    /// End the I/O thread's sleep if it sleeps beyond `at_us`.
    pub fn wake_io(&self, at_us: u64) {
        // Pairs with the fence in `prepare_sleep`: either we see that it sleeps, or it sees what we left in the inbox.
        fence(Ordering::SeqCst);
        let until = self.sleeping_until.load(Ordering::Relaxed);
        if until > at_us
            && self.sleeping_until.compare_exchange(until, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            && let Some(waker) = self.waker.get()
        {
            waker();
        }
    }

    /// The I/O thread is about to sleep until `until_us`. False: there is news, do not sleep.
    pub fn prepare_sleep(&self, until_us: u64) -> bool {
        self.sleeping_until.store(until_us.max(1), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let inbox = self.inbox.lock();
        let quiet = inbox.ready.is_empty()
            && inbox.commands.is_empty()
            && !inbox.sweep
            && inbox.timers.iter().all(|(at, _)| *at >= until_us)
            && !self.stop.load(Ordering::Acquire);
        drop(inbox);
        if !quiet {
            self.sleeping_until.store(0, Ordering::Relaxed);
        }
        quiet
    }

    /// The I/O thread is awake.
    pub fn awake(&self) {
        self.sleeping_until.store(0, Ordering::Relaxed);
    }

    /// All the news.
    pub fn take_inbox(&self) -> Inbox {
        std::mem::take(&mut self.inbox.lock())
    }

    /// Commands for the I/O thread.
    pub fn command(&self, commands: impl IntoIterator<Item = Command>) {
        let mut inbox = self.inbox.lock();
        inbox.commands.extend(commands);
        let some = !inbox.commands.is_empty();
        drop(inbox);
        if some {
            self.wake_io(0);
        }
    }

    /// Have the I/O thread look at every lane.
    pub fn sweep(&self) {
        self.inbox.lock().sweep = true;
        self.wake_io(0);
    }

    /// End the I/O thread.
    pub fn request_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake_io(0);
    }

    /// Tell the I/O thread what a lane can do, unless it knows. The caller holds the lane's lock.
    pub(crate) fn announce(&self, lane: &Arc<Lane>, inner: &mut LaneInner, now_us: u64) {
        match inner.schedule(&self.config.rules, now_us, self.in_a_hurry()) {
            NextStep::Queue => {
                self.inbox.lock().ready.push(Arc::clone(lane));
                self.wake_io(0);
            }
            NextStep::Timer(at_us) => {
                self.inbox.lock().timers.push((at_us, Arc::clone(lane)));
                self.wake_io(at_us);
            }
            NextStep::Encode => self.encode_head(lane, inner),
            NextStep::Nothing => {}
        }
    }

    // ------------------------------------------------------------------------------------------------- compression

    /// Hand a closed batch of `lane` to the codec workers, if it is open and to be compressed. Under the lane's lock.
    pub fn encode(&self, lane: &Arc<Lane>, batch: &mut LaneBatch) {
        if let Some(codecs) = &self.codecs
            && let Some((builder, ticket)) = batch.begin_encoding()
        {
            codecs.submit(Job { lane: Arc::clone(lane), batch_id: batch.id(), builder, ticket });
        }
    }

    /// [`Shared::encode`] for the batch that is to go next.
    pub fn encode_head(&self, lane: &Arc<Lane>, inner: &mut LaneInner) {
        if let Some(head) = inner.head() {
            self.encode(lane, head);
        }
    }

    /// Compress a batch and put it where it is waited for. On a codec worker, without any lock until it is done.
    pub fn run_job(&self, job: Job, encoder: &mut Encoder) -> io::Result<()> {
        let Job { lane, batch_id, builder, ticket } = job;
        let (sealed, buffer) = if ticket.is_abandoned() {
            (None, builder.into_buffer())
        } else {
            let (sealed, buffer) = builder.encode(encoder)?;
            // What is to be known is how full ones compress. (Java lets a lone record, whose frame outweighs it, undo what
            // a hundred batches have taught.)
            if let Some(codecs) = &self.codecs
                && sealed.uncompressed_size() >= self.config.batch_size / 2
            {
                codecs.ratios.observe(&lane.topic, sealed.ratio() as f32);
            }
            (Some(sealed), buffer)
        };
        // First the buffer: whoever is told of the batch, or of the memory, may want it.
        self.pool.recycle(buffer);
        let mut inner = lane.inner.lock();
        if sealed.is_some_and(|sealed| inner.encoded(batch_id, sealed)) {
            self.announce(&lane, &mut inner, self.now_us());
        } else {
            drop(inner);
            self.release(ticket.owed());
        }
        Ok(())
    }

    /// End the codec workers, behind the I/O thread, which has given up on what they have.
    pub fn end_codecs(&self) {
        let Some(codecs) = &self.codecs else { return };
        codecs.close();
        // Only where a worker died is anything left.
        while let Some(job) = codecs.take(0) {
            self.release(job.ticket.owed());
        }
    }

    // ------------------------------------------------------------------------------------------------- topics

    /// What is known of a topic.
    pub fn topic(&self, name: &str) -> TopicEntry {
        self.topics.lock().by_name.get(name).cloned().unwrap_or_default()
    }

    /// Every known topic.
    pub fn all_topics(&self) -> Vec<Arc<Topic>> {
        self.topics.lock().by_name.values().filter_map(|entry| entry.topic.clone()).collect()
    }

    /// Say that somebody waits for a topic (or a partition of it).
    pub fn want_topic(&self, name: &str, partition: i32) {
        self.events.push(Event::TopicWanted { name: name.to_owned(), partition });
    }

    /// Wait until the topic table changes from `seen_version`, at most until `deadline`.
    pub fn wait_for_topics(&self, seen_version: u64, deadline: Instant) {
        let mut topics = self.topics.lock();
        let unchanged = |_: &Topics| self.topics_version.load(Ordering::Acquire) == seen_version;
        self.topics_changed.wait_while(&mut topics, Some(deadline), unchanged);
    }

    /// Change the entry of one topic; `None` removes it.
    pub fn update_topic(&self, name: &str, change: impl FnOnce(TopicEntry) -> Option<TopicEntry>) {
        let mut topics = self.topics.lock();
        let (key, entry) = topics.by_name.remove_entry(name).unwrap_or_else(|| (name.into(), TopicEntry::default()));
        if let Some(entry) = change(entry) {
            topics.by_name.insert(key, entry);
        }
        self.topics_version.fetch_add(1, Ordering::Release);
        let due = Notices(std::mem::take(&mut topics.notices));
        drop(topics);
        self.topics_changed.notify_all();
        due.post();
    }

    /// Have `notice` given when the topic table changes from `seen_version`. False: it has.
    pub fn notice_topics(&self, seen_version: u64, notice: &Notice) -> bool {
        let mut topics = self.topics.lock();
        let same = self.topics_version.load(Ordering::Acquire) == seen_version;
        if same {
            topics.notices.push(notice.clone());
        }
        same
    }

    /// Take a notice back. False: it was given.
    pub fn take_topics_notice(&self, token: LoopToken) -> bool {
        let mut topics = self.topics.lock();
        let before = topics.notices.len();
        topics.notices.retain(|notice| notice.token != token);
        topics.notices.len() < before
    }

    /// Why metadata cannot be had, for people; empty when all is well.
    pub fn status(&self) -> String {
        self.topics.lock().status.clone()
    }

    /// Set what [`Shared::status`] says.
    pub fn set_status(&self, status: String) {
        self.topics.lock().status = status;
    }

    /// ms since the last append, by topic.
    pub fn topic_ages(&self) -> Vec<(Arc<str>, u64)> {
        let now_us = self.now_us();
        self.all_topics()
            .iter()
            .map(|topic| {
                let last = topic.state.last_append_us.load(Ordering::Relaxed);
                (Arc::clone(&topic.name), now_us.saturating_sub(last) / 1000)
            })
            .collect()
    }

    // ------------------------------------------------------------------------------------------------- append

    /// buffer.memory that a record needs if it opens a batch.
    pub fn batch_memory(&self, upper_bound: usize) -> usize {
        self.config.batch_size.max(upper_bound + BATCH_HEADER_LEN)
    }

    /// Buffer a record for `partition` of `topic`, or for the one that the built-in partitioner chooses.
    ///
    /// `token`: a callback, and whether it is the user's (see [`Completion::add_callback`]).
    /// `grant`: bytes that were waited for; taken (set to 0) if they were needed, else still the caller's.
    pub fn append(
        &self,
        topic: &Topic,
        partition: Option<u32>,
        record: &Record<'_>,
        token: Option<(CallbackToken, bool)>,
        grant: &mut usize,
    ) -> Appended {
        if let Some(codecs) = &self.codecs {
            codecs.ensure_started(&self.me);
        }
        let rules = &self.config.partitioning;
        let payload = payload_len(record.key, record.value, record.headers);
        loop {
            // The clock is read only where something depends on it: a new batch, a new sticky partition.
            let (partition, sticky) = match partition {
                Some(partition) => (partition, None),
                None => topic.choose(record.key, rules, || self.now_us()),
            };
            let lane = &topic.lanes[partition as usize];
            let mut inner = lane.inner.lock();
            if !inner.takes_records() {
                return Appended::Closed;
            }
            let mut opened = false;
            let added = match record.add_to(&mut inner, payload) {
                Some(added) => added,
                None => match self.make_room(topic, lane, &mut inner, partition, sticky, payload, grant) {
                    Room::Here { new } => {
                        opened = new;
                        record.add_to(&mut inner, payload).expect("room was made for it")
                    }
                    Room::Elsewhere => continue,
                    Room::NeedsMemory(bytes) => return Appended::NeedsMemory(bytes),
                },
            };
            let Added { index, completion, full, sent_bytes } = added;
            if full {
                self.close_last(lane, &mut inner);
            }
            if let Some((token, observed)) = token {
                let added = completion.add_callback(index, token, observed);
                debug_assert!(added.is_ok(), "an open batch is unresolved");
            }
            // Within a batch that lingers nothing changes for the I/O thread.
            if opened || full {
                self.announce(lane, &mut inner, self.now_us());
            }
            if let Some(choice) = sticky
                && topic.appended(choice, inner.sticky_bytes(), sent_bytes, full, rules)
            {
                drop(inner);
                topic.end(choice, rules, || self.now_us());
            }
            return Appended::Done { completion, index };
        }
    }

    /// The open batch of a lane, if there is one, has no room for a record with this payload: grow it, turn to another
    /// partition, or open a new one.
    #[cold]
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "a part of `append`")]
    fn make_room(
        &self,
        topic: &Topic,
        lane: &Arc<Lane>,
        inner: &mut LaneInner,
        partition: u32,
        sticky: Option<StickyChoice>,
        payload: usize,
        grant: &mut usize,
    ) -> Room {
        let bound = MAX_RECORD_OVERHEAD + payload;
        if self.grow(inner, bound) {
            return Room::Here { new: false };
        }
        if let Some(choice) = sticky
            && topic.leave(choice, *inner.sticky_bytes(), &self.config.partitioning, || self.now_us())
        {
            // What is open here has no room for the next record, so that waiting for more would be in vain.
            if let Some(builder) = inner.open_batch() {
                builder.close();
                self.close_last(lane, inner);
                self.announce(lane, inner, self.now_us());
            }
            return Room::Elsewhere;
        }
        let charge = self.batch_memory(bound);
        if !self.charge(charge, grant) {
            return Room::NeedsMemory(charge);
        }
        self.open_batch(topic, lane, inner, partition, charge);
        Room::Here { new: true }
    }

    /// More room in the open batch for a record that found none, if it is to be compressed, not estimated to be full, and
    /// there is memory. It is charged for what it holds now, uncompressed; without memory it is full as it is.
    pub(crate) fn grow(&self, inner: &mut LaneInner, upper_bound: usize) -> bool {
        if self.codecs.is_none() {
            return false;
        }
        let Some(batch) = inner.last_unsent() else { return false };
        let Some(builder) = batch.builder() else { return false };
        let Some(more) = builder.growth(upper_bound, self.config.batch_size) else { return false };
        if !self.pool.try_take(more) {
            return false;
        }
        builder.grow(more);
        batch.charge(more);
        true
    }

    /// The last batch takes no more records: if it is to be compressed, that begins now, whatever is ahead of it.
    pub(crate) fn close_last(&self, lane: &Arc<Lane>, inner: &mut LaneInner) {
        if self.codecs.is_some()
            && let Some(last) = inner.last_unsent()
        {
            self.encode(lane, last);
        }
    }

    /// Have `charge` bytes of buffer.memory, out of `grant` (then set to 0) or of what is free. False: there are too few.
    pub(crate) fn charge(&self, charge: usize, grant: &mut usize) -> bool {
        if *grant < charge {
            return self.pool.try_take(charge);
        }
        let rest = std::mem::take(grant) - charge;
        if rest > 0 {
            self.pool.give(rest);
        }
        true
    }

    /// Open a batch for which `charge` bytes were charged. The caller holds the lane's lock and announces it afterwards.
    pub(crate) fn open_batch<'a>(
        &self,
        topic: &Topic,
        lane: &Arc<Lane>,
        inner: &'a mut LaneInner,
        partition: u32,
        charge: usize,
    ) -> &'a mut BatchBuilder {
        let now_us = self.now_us();
        topic.state.last_append_us.store(now_us, Ordering::Relaxed);
        let buffer = self.pool.buffer(charge);
        let builder = match &self.codecs {
            None => BatchBuilder::new(buffer, charge),
            Some(codecs) => BatchBuilder::compressed(buffer, charge, codecs.ratios.estimate(&topic.name)),
        };
        self.close_last(lane, inner);
        let completion = Completion::new(Arc::clone(&topic.name), partition as i32);
        inner.push(LaneBatch::open(self.next_batch_id(), builder, completion, now_us, charge));
        lane.publish_load(inner);
        inner.open_batch().expect("it was just opened")
    }

    /// Queue up for memory; nothing lingers while somebody does.
    pub fn queue_for_memory(&self, bytes: usize) -> Arc<Waiter> {
        self.queue_for_memory_with(bytes, None)
    }

    /// The same for a waiter in an event loop: `notice` is given with the grant.
    pub fn queue_for_memory_with(&self, bytes: usize, notice: Option<Notice>) -> Arc<Waiter> {
        let waiter = self.pool.queue_with(bytes, notice);
        if !self.pressure.swap(true, Ordering::AcqRel) {
            self.sweep();
        }
        waiter
    }

    /// Give memory back, and let batches linger again when nobody waits.
    pub fn release(&self, bytes: usize) {
        self.pool.give(bytes);
        self.relax();
    }

    /// See whether the shortage of memory is over.
    pub fn relax(&self) {
        if self.pressure.load(Ordering::Acquire) && self.pool.waiting() == 0 {
            self.pressure.store(false, Ordering::SeqCst);
            // Somebody may have queued up between the look and the store, and have found the flag still set.
            if self.pool.waiting() > 0 && !self.pressure.swap(true, Ordering::SeqCst) {
                self.sweep();
            }
        }
    }

    // ------------------------------------------------------------------------------------------------- flush, close

    /// Everything that is unresolved now, on its way: wait for it, then call [`Shared::end_flush`].
    pub fn begin_flush(&self) -> Vec<Arc<Completion>> {
        self.flushing.fetch_add(1, Ordering::AcqRel);
        let mut pending = Vec::new();
        for topic in self.all_topics() {
            for lane in &topic.lanes {
                let inner = lane.inner.lock();
                pending.extend(inner.unresolved().map(|batch| Arc::clone(batch.completion())));
            }
        }
        self.sweep();
        pending
    }

    /// What was resolved until now has its callbacks queued and its failures noted, when this returns.
    ///
    /// A completion wakes its waiters first; what follows it, follows under its lane's lock.
    pub fn settle_flush(&self) {
        for topic in self.all_topics() {
            for lane in &topic.lanes {
                drop(lane.inner.lock());
            }
        }
    }

    /// A flush is over.
    pub fn end_flush(&self) {
        self.flushing.fetch_sub(1, Ordering::AcqRel);
    }

    /// Records that are buffered or in flight.
    pub fn unresolved_records(&self) -> u64 {
        let mut records = 0;
        for topic in self.all_topics() {
            for lane in &topic.lanes {
                records += lane.inner.lock().unresolved().map(|batch| u64::from(batch.count())).sum::<u64>();
            }
        }
        records
    }

    /// The oldest batch that is neither delivered nor failed: what keeps the buffer full, for error messages.
    pub fn oldest(&self) -> Option<Oldest> {
        let now_us = self.now_us();
        let mut oldest: Option<(u64, Oldest)> = None;
        for topic in self.all_topics() {
            for lane in &topic.lanes {
                let inner = lane.inner.lock();
                let Some(batch) = inner.unresolved().min_by_key(|batch| batch.created_us()) else { continue };
                if oldest.as_ref().is_some_and(|(created_us, _)| *created_us <= batch.created_us()) {
                    continue;
                }
                let found = Oldest {
                    topic: Arc::clone(&lane.topic),
                    partition: lane.partition,
                    age_ms: now_us.saturating_sub(batch.created_us()) / 1000,
                    attempts: batch.attempts(),
                    broker: if batch.attempts() > 0 { batch.broker() } else { inner.leader() },
                    code: batch.last().code,
                    message: batch.last().message.clone(),
                };
                oldest = Some((batch.created_us(), found));
            }
        }
        oldest.map(|(_, found)| found)
    }

    /// No more sends.
    pub fn refuse_sends(&self) {
        self.closed.store(true, Ordering::Release);
        self.end_waits_for_topics();
    }

    fn end_waits_for_topics(&self) {
        let mut topics = self.topics.lock();
        // Under the lock: a waiter between its look and its wait would miss it and wait on.
        self.topics_version.fetch_add(1, Ordering::Release);
        let due = Notices(std::mem::take(&mut topics.notices));
        drop(topics);
        self.topics_changed.notify_all();
        due.post();
    }

    /// The fatal error, if there was one: (code, message).
    pub fn fatal(&self) -> Option<&(i16, String)> {
        self.fatal.get()
    }

    /// Set the fatal error; the first one counts.
    pub fn set_fatal(&self, code: i16, message: String) {
        let _first_counts = self.fatal.set((code, message));
        self.end_waits_for_topics();
    }

    /// Remember a failed batch until somebody looks.
    pub fn note_failure(&self, completion: &Arc<Completion>, records: u32) {
        if completion.unobserved(records).0 == 0 {
            return;
        }
        let mut unnoticed = self.unnoticed.lock();
        if unnoticed.failed.len() >= REMEMBERED_FAILURES
            && let Some((oldest, records)) = unnoticed.failed.pop_front()
        {
            unnoticed.forgotten += u64::from(oldest.unobserved(records).0);
        }
        unnoticed.failed.push_back((Arc::clone(completion), records));
    }

    /// Failed batches that hold records nobody asked about, (completion, how many, the first one), and how many records
    /// there were before those. All are forgotten.
    pub fn take_unnoticed(&self) -> (Vec<(Arc<Completion>, u32, u32)>, u64) {
        let Unnoticed { failed, forgotten } = std::mem::take(&mut *self.unnoticed.lock());
        let batches = failed
            .into_iter()
            .filter_map(|(completion, records)| match completion.unobserved(records) {
                (count, Some(first)) if count > 0 => Some((completion, count, first)),
                _ => None,
            })
            .collect();
        (batches, forgotten)
    }
}
