//! Interpreter shutdown, for threads that are inside native code when it begins.
//!
//! CPython before 3.14 ends a daemon thread that takes the GIL during finalisation by unwinding its stack, and unwinding
//! through Rust frames aborts the process. A wait without the GIL is safe, because PyO3 hangs the thread where it would
//! take the GIL again. Calls from here into Python code may release the GIL and take it again: they go through
//! [`python`], which counts them. At the last moment before finalisation [`wait_for_calls`] makes sure that no such call is
//! under way and that none begins. A thread that makes one later blocks forever, as all daemon threads do from CPython
//! 3.14 on.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// Calls into Python code that are under way. Changed with the GIL held.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// The callbacks of `atexit` run: producers are drained and closed.
static EXITING: AtomicBool = AtomicBool::new(false);

/// The thread that ends the interpreter; set once it has begun.
static FINISHER: OnceLock<ThreadId> = OnceLock::new();

/// How long shutdown waits for calls that are under way to return. A serializer that sleeps longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Counts one call less, also when it unwinds.
struct CountedCall;

impl Drop for CountedCall {
    fn drop(&mut self) {
        CALLS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Call Python code: the user's, or ours if it runs bytecode. No engine lock may be held.
pub fn python<T>(py: Python<'_>, call: impl FnOnce() -> T) -> T {
    if FINISHER.get().is_some_and(|finisher| *finisher != std::thread::current().id()) {
        block_for_ever(py);
    }
    CALLS.fetch_add(1, Ordering::Relaxed);
    let _call = CountedCall;
    call()
}

/// Whether `atexit` callbacks run: producers are closed, or are being closed.
pub fn is_exiting() -> bool {
    EXITING.load(Ordering::Relaxed)
}

/// Whether shutdown has begun: objects are dropped, and no thread can be started any more.
pub fn has_begun() -> bool {
    FINISHER.get().is_some()
}

/// In the child after a fork: the calls that were under way on other threads do not exist here.
pub fn forget_calls() {
    CALLS.store(0, Ordering::Relaxed);
    EXITING.store(false, Ordering::Relaxed);
}

fn block_for_ever(py: Python<'_>) -> ! {
    py.detach(|| {
        loop {
            std::thread::park();
        }
    })
}

/// The callbacks of `atexit` run from now on.
pub fn begin_exit() {
    EXITING.store(true, Ordering::Relaxed);
}

/// Begin shutdown on this thread: no other thread calls Python code from now on. Wait for the calls that are under way.
pub fn wait_for_calls(py: Python<'_>) {
    let _first_counts = FINISHER.set(std::thread::current().id());
    let until = Instant::now() + PATIENCE;
    while CALLS.load(Ordering::Relaxed) > 0 && Instant::now() < until {
        py.detach(|| std::thread::sleep(Duration::from_millis(1)));
    }
}
