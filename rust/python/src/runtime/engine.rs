//! `Engine`: one producer's data plane, as the control thread and the facade see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use penstock_core::sync::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use penstock_core::accumulator::{Config, Shared};
use penstock_core::boundary::{Command, EventQueue, Trouble};
use penstock_core::outcome::completion::{FailureKind, Outcome};
use penstock_core::settings::Source;

use crate::blocking::future::{deadline, wait_in_slices};
use crate::record;
use crate::runtime::callbacks::{CALLBACKS, Calls, in_callback};
use crate::runtime::shutdown;
use crate::runtime::stats::StatsReader;
use crate::runtime::{boundary, python, upcalls};

/// Grows in each child after a fork: what was made before belongs to the parent.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// To be called in the child after a fork (`os.register_at_fork`).
#[pyfunction]
pub fn after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    shutdown::forget_calls();
}

/// How often this process has been the child of a fork.
pub fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// The error that a child gets for what belongs to its parent.
pub fn forked(py: Python<'_>) -> PyErr {
    python::error(
        py,
        &upcalls::PRODUCER_FORKED_ERROR,
        "this producer was created before the process forked, and its threads and connections stayed in the parent",
        &[],
    )
}

/// What the engine's Python objects share.
pub struct Core {
    pub shared: Arc<Shared>,
    io_thread: Mutex<Option<JoinHandle<()>>>,
    forks: u32,
}

impl Core {
    /// Whether this process forked since: the threads and sockets are the parent's, and so are the records.
    pub fn is_foreign(&self) -> bool {
        forks() != self.forks
    }

    /// Whether there is an I/O thread.
    pub fn is_started(&self) -> bool {
        self.io_thread.lock().is_some()
    }

    /// Raise in a child process.
    pub fn check_fork(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_foreign() { Err(forked(py)) } else { Ok(()) }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.is_foreign() {
            // The thread is the parent's; here its handle points to memory that is gone. Neither joined nor detached.
            std::mem::forget(self.io_thread.get_mut().take());
        }
    }
}

/// The producer's settings, as attributes.
struct Given<'a, 'py>(&'a Bound<'py, PyAny>);

impl Given<'_, '_> {
    fn get<T>(&self, name: &str) -> PyResult<T>
    where
        T: for<'a, 'py> FromPyObject<'a, 'py, Error = PyErr>,
    {
        let value = self.0.getattr(name)?;
        value.extract().map_err(|error| PyTypeError::new_err(format!("{name}: {error}")))
    }
}

impl Source for Given<'_, '_> {
    type Error = PyErr;

    fn text(&self, name: &str) -> PyResult<String> {
        self.get(name)
    }

    fn flag(&self, name: &str) -> PyResult<bool> {
        self.get(name)
    }

    fn number<T: TryFrom<i64>>(&self, name: &str) -> PyResult<T> {
        let value: i64 = self.get(name)?;
        T::try_from(value).map_err(|_| self.refused(name, &value.to_string()))
    }

    fn refused(&self, name: &str, value: &str) -> PyErr {
        PyValueError::new_err(format!("{name}: {value} is out of range"))
    }
}

/// The data plane of one producer: lanes, memory, connections and the I/O thread.
///
/// `settings` has them as attributes (`ProducerSettings`); `seed` is that of all random choices. `start` starts the I/O thread.
#[pyclass(frozen, module = "penstock._native")]
pub struct Engine {
    pub core: Arc<Core>,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (settings, *, seed = None))]
    fn new(py: Python<'_>, settings: &Bound<'_, PyAny>, seed: Option<u64>) -> PyResult<Self> {
        boundary::check(py)?;
        let config = Config::read(&Given(settings), seed.unwrap_or_else(record::random_seed))?;
        let core = Core { shared: Shared::new(config), io_thread: Mutex::default(), forks: forks() };
        Ok(Self { core: Arc::new(core) })
    }

    /// Start the I/O thread.
    fn start(&self) -> PyResult<()> {
        let mut thread = self.core.io_thread.lock();
        if thread.is_some() {
            return Err(PyRuntimeError::new_err("the engine was started before"));
        }
        *thread = Some(penstock_core::io::net::start(&self.core.shared)?);
        Ok(())
    }

    /// Hand commands over and take events back, waiting up to `timeout_ms` (None: for ever) for a first one.
    #[pyo3(signature = (commands, timeout_ms))]
    fn exchange<'py>(
        &self,
        py: Python<'py>,
        commands: &Bound<'py, PyAny>,
        timeout_ms: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let commands: Vec<Command> = shutdown::python(py, || {
            commands.try_iter()?.map(|command| boundary::command(&command?)).collect::<PyResult<_>>()
        })?;
        let shared = &self.core.shared;
        shared.command(commands);
        let timeout = timeout_ms.map(|ms| Duration::from_secs_f64((ms / 1000.0).clamp(0.0, 3.0e9)));
        let queue: &EventQueue = &shared.events;
        let events = py.detach(|| queue.take(timeout));
        shutdown::python(py, || {
            let list = PyList::empty(py);
            for event in events {
                list.append(boundary::event(py, event)?)?;
            }
            Ok(list)
        })
    }

    /// ms on the engine's monotonic clock.
    fn now_ms(&self) -> f64 {
        self.core.shared.now_us() as f64 / 1000.0
    }

    /// End the present or next wait of `exchange`.
    fn wake(&self) {
        self.core.shared.events.wake();
    }

    /// The control plane died: fail every record, refuse later sends.
    fn fail(&self, message: String) {
        let (kind, trouble) = (FailureKind::Internal, Trouble::new(message));
        self.core.shared.command([Command::FailProducer { kind, trouble }]);
    }

    /// ms since the last append, by topic (for metadata.max.idle.ms).
    fn topic_ages<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let ages = PyDict::new(py);
        for (topic, age_ms) in self.core.shared.topic_ages() {
            ages.set_item(&*topic, age_ms)?;
        }
        Ok(ages)
    }

    /// The next calls of callbacks (see [`Calls`]), waiting for some; None when the engine has ended.
    ///
    /// To be called on one thread only, which then counts as being inside a callback.
    fn take_callbacks<'py>(&self, py: Python<'py>) -> PyResult<Option<Calls<'py>>> {
        CALLBACKS.next(py, &self.core.shared)
    }

    /// Callbacks that have not run yet are not run any more: a flush does not wait for them.
    fn abandon_callbacks(&self) {
        self.core.shared.callbacks.abandon();
    }

    /// Whether the caller runs inside a callback.
    #[staticmethod]
    fn in_callback() -> bool {
        in_callback()
    }

    /// Whether the process forked since the engine was made.
    fn is_foreign(&self) -> bool {
        self.core.is_foreign()
    }

    /// Raise `ProducerForkedError` if the process forked since the engine was made.
    fn check_fork(&self, py: Python<'_>) -> PyResult<()> {
        self.core.check_fork(py)
    }

    /// Refuse sends from now on.
    fn refuse_sends(&self) {
        self.core.shared.refuse_sends();
        self.core.shared.sweep();
    }

    /// Whether sends are refused.
    #[getter]
    fn closed(&self) -> bool {
        self.core.shared.closed.load(Ordering::Acquire)
    }

    /// Send what is buffered and wait up to `timeout` seconds until all of it is resolved and its callbacks have run.
    ///
    /// Returns the records that are still unresolved (0: done, -1: only callbacks are still to run). What is sent
    /// meanwhile does not prolong it.
    #[pyo3(signature = (timeout, callbacks = true))]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>, callbacks: bool) -> PyResult<i64> {
        let shared = &self.core.shared;
        let until = deadline(timeout);
        let pending = py.detach(|| shared.begin_flush());
        let flushed = (|| {
            for completion in &pending {
                if !wait_in_slices(py, until, |slice| completion.wait_all(Some(slice)))? {
                    return Ok(false);
                }
            }
            py.detach(|| shared.settle_flush());
            if !callbacks {
                return Ok(true);
            }
            wait_in_slices(py, until, |slice| shared.callbacks.wait_until_run(Some(slice)))
        })();
        shared.end_flush();
        if flushed? {
            return Ok(0);
        }
        Ok(match shared.unresolved_records() {
            0 => -1,
            left => left as i64,
        })
    }

    /// Records that are buffered or in flight.
    fn unresolved_records(&self) -> u64 {
        self.core.shared.unresolved_records()
    }

    /// End the I/O thread; what is unresolved fails as closed. Returns once the thread has ended.
    fn stop(&self, py: Python<'_>) {
        self.core.shared.refuse_sends();
        self.core.shared.request_stop();
        let thread = self.core.io_thread.lock().take();
        if let Some(thread) = thread {
            py.detach(|| {
                // A panic of that thread has been reported as an event already.
                let _ = thread.join();
            });
        }
        // Behind the I/O thread, which gives up on what they have; a worker is at most one batch from its end.
        py.detach(|| self.core.shared.end_codecs());
        self.core.shared.callbacks.close();
    }

    /// Failed records nobody asked about, forgotten by this call: (how many, the errors of the first few).
    fn take_unnoticed<'py>(&self, py: Python<'py>, first: usize) -> PyResult<(u64, Vec<Bound<'py, PyAny>>)> {
        let (batches, mut count) = self.core.shared.take_unnoticed();
        let mut errors = Vec::new();
        for (completion, records, index) in batches {
            count += u64::from(records);
            if errors.len() < first
                && let Some(Outcome::Failed(failure)) = completion.outcome()
            {
                errors.push(python::delivery_error(py, &completion, failure, index)?);
            }
        }
        Ok((count, errors))
    }

    /// The counters for one reader of `metrics()`.
    fn stats_reader(&self) -> StatsReader {
        StatsReader::new(Arc::clone(&self.core))
    }
}
