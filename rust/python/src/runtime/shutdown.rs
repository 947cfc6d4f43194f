//! The end of the interpreter, for threads that are inside native code when it comes.
//!
//! CPython before 3.14 ends a daemon thread that asks for the GIL during finalisation by unwinding its stack, and an
//! unwinding through Rust frames aborts the process. A wait without the GIL is safe, because PyO3 hangs the thread where it
//! would take the GIL again. What is left are calls from here into Python code, which may give the GIL away and ask for it
//! again: they go through [`python`], which counts them. At the last moment before finalisation [`EndOfPython`] sees to
//! it that none is under way and that none begins: whoever comes then stands still for ever, as all daemon threads do
//! from CPython 3.14 on.

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

/// How long the calls that are under way get to return. A serializer that sleeps is not waited for: it will most
/// probably sleep on while the process ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// One call less, also when it unwinds.
struct Call;

impl Drop for Call {
    fn drop(&mut self) {
        CALLS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Call Python code: the user's, or ours if it runs bytecode. No engine lock may be held.
pub fn python<T>(py: Python<'_>, call: impl FnOnce() -> T) -> T {
    if FINISHER.get().is_some_and(|finisher| *finisher != std::thread::current().id()) {
        stand_still(py);
    }
    CALLS.fetch_add(1, Ordering::Relaxed);
    let _call = Call;
    call()
}

/// Whether the process is about to end, and has closed its producers.
pub fn is_near() -> bool {
    EXITING.load(Ordering::Relaxed)
}

/// Whether Python has ended, but for what is left to be dropped: no thread can be started any more.
pub fn has_come() -> bool {
    FINISHER.get().is_some()
}

/// In the child after a fork: the calls that were under way on other threads do not exist here.
pub fn forget_calls() {
    CALLS.store(0, Ordering::Relaxed);
    EXITING.store(false, Ordering::Relaxed);
}

fn stand_still(py: Python<'_>) -> ! {
    py.detach(|| {
        loop {
            std::thread::park();
        }
    })
}

/// Kept among the arguments of an `atexit` callback: they are dropped after the last callback has run, which is the last
/// moment before finalisation.
///
/// Earlier would be too early: a callback of somebody else's may wait for a daemon thread that sends.
#[pyclass(frozen, module = "penstock._native")]
pub struct EndOfPython {
    has_come: AtomicBool,
}

#[pymethods]
impl EndOfPython {
    #[new]
    fn new() -> Self {
        Self { has_come: AtomicBool::new(false) }
    }

    /// The callbacks of `atexit` run. Without this nothing follows from the drop: a child process clears them, too.
    fn has_come(&self, py: Python<'_>) -> PyResult<()> {
        self.has_come.store(true, Ordering::Relaxed);
        EXITING.store(true, Ordering::Relaxed);
        crate::runtime::upcalls::prepare_for_shutdown(py)
    }
}

impl Drop for EndOfPython {
    fn drop(&mut self) {
        if !*self.has_come.get_mut() {
            return;
        }
        Python::try_attach(|py| {
            let _first_counts = FINISHER.set(std::thread::current().id());
            let until = Instant::now() + PATIENCE;
            while CALLS.load(Ordering::Relaxed) > 0 && Instant::now() < until {
                py.detach(|| std::thread::sleep(Duration::from_millis(1)));
            }
        });
    }
}
