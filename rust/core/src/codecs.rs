//! Codec workers: compression off the I/O thread, and off the threads that send.
//!
//! A batch that will be compressed goes to them once it is closed: by the sender that fills it, or by the I/O thread when
//! its linger is over. The lane keeps a stub in its place, so that order, deadlines and the end of the producer need no
//! worker; the worker puts the compressed batch there, if the stub still is, and announces the lane. Nothing is compressed
//! under a lock. What waits here is bounded by buffer.memory: a batch stays charged until the worker is done with it.
//!
//! Threads (`penstock-codec-1` and on) start with the first record, the others when work piles up; they end, and are
//! joined, with the producer. Without threads ([`Codecs::step_by_hand`]) the jobs wait for somebody who runs them.

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use crate::accumulator::Shared;
use crate::boundary::{Command, Event};
use crate::compression::{Compression, Encoder, Ratios};
use crate::lane::Lane;
use crate::lane::content::Ticket;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex};
use crate::wire::record_batch::BatchBuilder;

/// More threads than this would compress more than one I/O thread can send.
const MOST_WORKERS: usize = 8;

/// A batch to be compressed.
#[derive(Debug)]
pub struct Job {
    /// Where it will be missed.
    pub lane: Arc<Lane>,
    /// Its number there.
    pub batch_id: u64,
    /// Its records.
    pub builder: BatchBuilder,
    /// Whether they are still wanted.
    pub ticket: Arc<Ticket>,
}

/// The workers of a producer, and what waits for them.
#[derive(Debug)]
pub struct Codecs {
    /// compression.type and its level.
    pub compression: Compression,
    /// By topic.
    pub ratios: Ratios,
    /// Threads, at most.
    most: usize,
    /// Somebody sees to it that jobs are run.
    started: AtomicBool,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Workers that wait for one.
    idle: usize,
    workers: usize,
    by_hand: bool,
    closed: bool,
    /// Only ever joined: after a fork a handle is the parent's, and dropping it would touch memory that is gone.
    threads: ManuallyDrop<Vec<JoinHandle<()>>>,
}

impl Codecs {
    /// For batches compressed like this. No thread yet.
    pub fn new(compression: Compression) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            compression,
            ratios: Ratios::default(),
            most: cores.min(MOST_WORKERS),
            started: AtomicBool::new(false),
            state: Mutex::new(State::default()),
            work: Condvar::new(),
        }
    }

    /// No threads: the caller runs the jobs ([`Codecs::take`], [`Shared::run_job`]).
    pub fn step_by_hand(&self) {
        self.state.lock().by_hand = true;
        self.started.store(true, Ordering::Release);
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.state.lock().jobs.len()
    }

    /// The job at that place of the queue, for those who step by hand.
    pub fn take(&self, at: usize) -> Option<Job> {
        self.state.lock().jobs.remove(at)
    }

    /// A batch for the workers. Called under its lane's lock, and cheap.
    pub fn submit(&self, job: Job) {
        let mut state = self.state.lock();
        state.jobs.push_back(job);
        let wake = state.idle > 0;
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    /// See that there is a worker. Not under a lock: a thread takes its time to start.
    #[inline]
    pub fn ensure_started(&self, shared: &Weak<Shared>) {
        if !self.started.load(Ordering::Acquire) {
            self.start(shared);
        }
    }

    fn start(&self, shared: &Weak<Shared>) {
        if !self.started.swap(true, Ordering::AcqRel)
            && let Some(shared) = shared.upgrade()
        {
            spawn(&shared);
        }
    }

    /// The next job, waiting for one; `None`: the producer is closed and nothing is left. The flag: there is more to do
    /// than those who wait can take.
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

    /// No more work will come: what is left is given back, and the threads are joined.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let threads = std::mem::take(&mut *state.threads);
        drop(state);
        self.work.notify_all();
        for thread in threads {
            // What it panicked with was reported when it did.
            let _ = thread.join();
        }
    }
}

/// One more worker, unless there are enough.
fn spawn(shared: &Arc<Shared>) {
    let Some(codecs) = &shared.codecs else { return };
    let mut state = codecs.state.lock();
    if state.workers >= codecs.most || state.closed || state.by_hand {
        return;
    }
    state.workers += 1;
    let first = state.workers == 1;
    let name = format!("penstock-codec-{}", state.workers);
    let mine = Arc::clone(shared);
    // Under the lock, so that `close` finds the handle; nobody waits for this lock but senders at the end of a batch.
    match std::thread::Builder::new().name(name).spawn(move || run(&mine)) {
        Ok(thread) => state.threads.push(thread),
        Err(error) => {
            state.workers -= 1;
            drop(state);
            if first {
                fail(shared, &format!("no thread for compression can be started: {error}"));
            }
        }
    }
}

fn run(shared: &Arc<Shared>) {
    let Some(codecs) = &shared.codecs else { return };
    let ended = catch_unwind(AssertUnwindSafe(|| -> std::io::Result<()> {
        let mut encoder = Encoder::new(codecs.compression)?;
        while let Some((job, busy)) = codecs.next() {
            if busy {
                spawn(shared);
            }
            shared.run_job(job, &mut encoder)?;
        }
        Ok(())
    }));
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => fail(shared, &format!("compression failed: {error}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            fail(shared, &format!("a codec worker panicked (a bug in Penstock): {text}"));
        }
    }
}

/// A worker is lost, and a batch with it: every record fails, later sends raise. The I/O thread does it, whose job it is.
fn fail(shared: &Shared, message: &str) {
    shared.set_fatal(-1, message.to_owned());
    shared.command([Command::FailProducer { code: -1, message: message.to_owned() }]);
    shared.events.push(Event::EngineFailed { message: message.to_owned() });
}
