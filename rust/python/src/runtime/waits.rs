//! The blocking wait: in slices on the thread, so that signals are handled, or in a greenlet hub, where others run.

use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::loops::calls::Waker;
use crate::loops::hub::{self, GreenletWait};

/// How long a thread sleeps before signals (Ctrl-C) are checked again.
pub const SLICE: Duration = Duration::from_millis(100);

/// Something that a caller can block for.
pub trait Awaited: Sync {
    /// How often it is polled in a hub even without a wake-up. None: it is enough to poll after a wake-up.
    const POLL_EVERY: Option<Duration> = None;

    /// Whether it has come. If not, `waker` is called when there may be news; without a waker the caller will [`sleep`].
    ///
    /// [`sleep`]: Awaited::sleep
    fn poll(&mut self, py: Python<'_>, waker: Option<&Waker>) -> PyResult<bool>;

    /// Sleep until there may be news, at most until `until`. Runs without the GIL.
    fn sleep(&self, until: Instant);
}

/// Wait until it has come, a signal handler raises, or the deadline passes (false). In a greenlet the others run meanwhile.
pub fn wait(py: Python<'_>, deadline: Option<Instant>, awaited: &mut impl Awaited) -> PyResult<bool> {
    let greenlet = hub::greenlet_wait(py)?;
    wait_with(py, greenlet.as_ref(), deadline, awaited)
}

/// The same, on the thread in any case.
pub fn wait_on_thread(py: Python<'_>, deadline: Option<Instant>, awaited: &mut impl Awaited) -> PyResult<bool> {
    wait_with(py, None, deadline, awaited)
}

fn wait_with<A: Awaited>(
    py: Python<'_>,
    greenlet: Option<&GreenletWait<'_>>,
    deadline: Option<Instant>,
    awaited: &mut A,
) -> PyResult<bool> {
    let waker = greenlet.map(|greenlet| &greenlet.waker);
    loop {
        if awaited.poll(py, waker)? {
            return Ok(true);
        }
        let now = Instant::now();
        if deadline.is_some_and(|deadline| now >= deadline) {
            return Ok(false);
        }
        let at_most = |longest: Duration| deadline.map_or(now + longest, |deadline| deadline.min(now + longest));
        match greenlet {
            None => {
                let (awaited, until) = (&*awaited, at_most(SLICE));
                py.detach(|| awaited.sleep(until));
                py.check_signals()?;
            }
            Some(greenlet) => greenlet.wait(py, A::POLL_EVERY.map_or(deadline, |every| Some(at_most(every))))?,
        }
    }
}
