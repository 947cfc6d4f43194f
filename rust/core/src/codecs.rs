//! Codec workers: compression off the I/O thread, and off the threads that send.
//!
//! A batch that will be compressed goes to them once it is closed: by the sender that fills it, or by the I/O thread when
//! its linger is over. The lane keeps a stub in its place, so that order, deadlines and the end of the producer need no
//! worker. The worker puts the compressed batch in the stub's place, if the stub is still there, and announces the lane.
//! Nothing is compressed under a lock. The queue is bounded by buffer.memory: a batch stays charged until the worker is
//! done with it.
//!
//! Threads (`penstock-codec-1` and on) start with the first record, the others when work piles up; they end, and are
//! joined, with the producer. Without threads ([`Codecs::step_by_hand`]) the caller runs the jobs.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use crate::compression::{Compression, Encoder, Ratios};
use crate::lane::Lane;
use crate::lane::batch::LaneBatch;
use crate::lane::content::Ticket;
use crate::panics::panic_text;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex};
use crate::wire::record_batch::{BatchBuilder, Chunks, SealedBatch};

/// The needs of a worker: the part of its producer that it calls.
pub trait CodecOwner: Send + Sync + 'static {
    /// The producer's workers; `None`: it has none.
    fn codecs(&self) -> Option<&Codecs>;
    /// Keep the memory of a batch for reuse.
    fn recycle(&self, chunks: Chunks);
    /// Give bytes of buffer.memory back.
    fn release(&self, bytes: usize);
    /// Put a compressed batch in its stub's place and announce the lane. False: the stub is gone.
    fn put_encoded(&self, lane: &Arc<Lane>, batch_id: u64, sealed: SealedBatch) -> bool;
    /// A worker is lost, and a batch with it: every record fails, later sends raise.
    fn fail(&self, message: String);
}

/// More threads than this would compress more than one I/O thread can send.
const MOST_WORKERS: usize = 8;

/// A batch to be compressed.
#[derive(Debug)]
pub struct Job {
    /// The lane that keeps its stub.
    pub lane: Arc<Lane>,
    /// Its id there.
    pub batch_id: u64,
    /// Its records.
    pub builder: BatchBuilder,
    /// Whether the lane still needs it.
    pub ticket: Arc<Ticket>,
}

/// The workers of a producer, and the queue of their jobs.
#[derive(Debug)]
pub struct Codecs {
    /// compression.type and its level.
    pub compression: Compression,
    /// By topic.
    pub ratios: Ratios,
    /// Ratios of batches with fewer bytes than this are not observed.
    observed_from: usize,
    /// Threads, at most.
    most: usize,
    /// A thread was started, or the caller runs the jobs.
    started: AtomicBool,
    state: Mutex<CodecState>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct CodecState {
    jobs: VecDeque<Job>,
    /// Workers that wait for one.
    idle: usize,
    workers: usize,
    by_hand: bool,
    closed: bool,
    /// Only joined, never dropped: after a fork a handle is the parent's, and dropping it would touch memory that is gone.
    threads: ManuallyDrop<Vec<JoinHandle<()>>>,
}

impl Codecs {
    /// For batches of `batch_size` bytes, compressed like this. No thread yet.
    pub fn new(compression: Compression, batch_size: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            compression,
            ratios: Ratios::default(),
            observed_from: batch_size / 2,
            most: cores.min(MOST_WORKERS),
            started: AtomicBool::new(false),
            state: Mutex::new(CodecState::default()),
            work: Condvar::new(),
        }
    }

    /// No threads: the caller runs the jobs ([`Codecs::take`], [`Codecs::run`]).
    pub fn step_by_hand(&self) {
        self.state.lock().by_hand = true;
        self.started.store(true, Ordering::Release);
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.state.lock().jobs.len()
    }

    /// The job at that place of the queue, for callers that step by hand.
    pub fn take(&self, at: usize) -> Option<Job> {
        self.state.lock().jobs.remove(at)
    }

    /// Take a closed batch of `lane`, if it is open and to be compressed. Called under the lane's lock, and cheap.
    pub fn submit_batch(&self, lane: &Arc<Lane>, batch: &mut LaneBatch) {
        if let Some((builder, ticket)) = batch.begin_encoding() {
            self.submit(Job { lane: Arc::clone(lane), batch_id: batch.id(), builder, ticket });
        }
    }

    fn submit(&self, job: Job) {
        let mut state = self.state.lock();
        state.jobs.push_back(job);
        let wake = state.idle > 0;
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    /// Start a worker unless there is one. Not under a lock: a thread takes its time to start.
    #[inline]
    pub fn ensure_started<O: CodecOwner>(&self, owner: &Weak<O>) {
        if !self.started.load(Ordering::Acquire) {
            self.start(owner);
        }
    }

    #[cold]
    fn start<O: CodecOwner>(&self, owner: &Weak<O>) {
        if !self.started.swap(true, Ordering::AcqRel)
            && let Some(owner) = owner.upgrade()
        {
            spawn(&owner);
        }
    }

    /// Compress a batch and put it into its lane. Without any lock until it is done.
    pub fn run(&self, job: Job, owner: &impl CodecOwner, encoder: &mut Encoder) -> io::Result<()> {
        let Job { lane, batch_id, builder, ticket } = job;
        let (sealed, chunks) = if ticket.is_abandoned() {
            (None, builder.into_chunks())
        } else {
            let (sealed, chunks) = builder.encode(encoder)?;
            // The estimate is about full batches. (Java lets a lone record, whose frame outweighs it, undo the effect of a
            // hundred batches.)
            if sealed.uncompressed_size() >= self.observed_from {
                self.ratios.observe(&lane.topic, sealed.ratio() as f32);
            }
            (Some(sealed), chunks)
        };
        // First: a thread that is notified of the batch, or of the memory, may need it.
        owner.recycle(chunks);
        let is_put = sealed.is_some_and(|sealed| owner.put_encoded(&lane, batch_id, sealed));
        if !is_put {
            owner.release(ticket.owed());
        }
        Ok(())
    }

    /// The next job, waiting for one; `None`: the producer is closed and nothing is left. The flag: there are more jobs
    /// than idle workers.
    pub fn next(&self) -> Option<(Job, bool)> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                let busy = state.jobs.len() > state.idle && state.workers < self.most && !state.closed;
                return Some((job, busy));
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            self.work.wait(&mut state);
            state.idle -= 1;
        }
    }

    /// No more jobs will come: the workers finish the queue and are joined.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let threads = std::mem::take(&mut *state.threads);
        drop(state);
        self.work.notify_all();
        for thread in threads {
            // Its panic, if any, was reported then.
            let _ = thread.join();
        }
    }
}

/// One more worker, unless there are enough.
fn spawn<O: CodecOwner>(owner: &Arc<O>) {
    let Some(codecs) = owner.codecs() else { return };
    let mut state = codecs.state.lock();
    if state.workers >= codecs.most || state.closed || state.by_hand {
        return;
    }
    state.workers += 1;
    let first = state.workers == 1;
    let name = format!("penstock-codec-{}", state.workers);
    let mine = Arc::clone(owner);
    // Under the lock, so that `close` finds the handle. Only senders at the end of a batch wait for this lock.
    match std::thread::Builder::new().name(name).spawn(move || work(&mine)) {
        Ok(thread) => state.threads.push(thread),
        Err(error) => {
            state.workers -= 1;
            drop(state);
            if first {
                owner.fail(format!("no thread for compression can be started: {error}"));
            }
        }
    }
}

/// A worker's life.
fn work<O: CodecOwner>(owner: &Arc<O>) {
    let Some(codecs) = owner.codecs() else { return };
    let ended = catch_unwind(AssertUnwindSafe(|| -> io::Result<()> {
        let mut encoder = Encoder::new(codecs.compression)?;
        while let Some((job, busy)) = codecs.next() {
            if busy {
                spawn(owner);
            }
            codecs.run(job, &**owner, &mut encoder)?;
        }
        Ok(())
    }));
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => owner.fail(format!("compression failed: {error}")),
        Err(panic) => {
            let text = panic_text(&*panic);
            owner.fail(format!("a codec worker panicked (a bug in Penstock): {text}"));
        }
    }
}
