//! `Engine`: one producer's data plane, as the control thread and the facade see it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use penstock_core::boundary::{Command, EventQueue, Trouble};
use penstock_core::config::Config;
use penstock_core::outcome::{Completion, FailureKind, Outcome};
use penstock_core::shared::Shared;

use crate::loops::calls::Waker;
use crate::runtime::boundary;
use crate::runtime::callbacks::{CALLBACKS, Calls, in_callback};
use crate::runtime::engine_core::Core;
use crate::runtime::errors;
use crate::runtime::settings::Attributes;
use crate::runtime::shutdown;
use crate::runtime::stats::StatsReader;
use crate::runtime::timeout::deadline;
use crate::runtime::waits::{Awaited, wait_on_thread};

/// A wait for all records of a batch.
struct Resolved<'a>(&'a Arc<Completion>);

impl Awaited for Resolved<'_> {
    fn poll(&mut self, _py: Python<'_>, _waker: Option<&Waker>) -> PyResult<bool> {
        Ok(self.0.is_resolved())
    }

    fn sleep(&self, until: Instant) {
        self.0.wait_all(Some(until));
    }
}

/// A wait for the callbacks of all batches that are resolved when the check is made.
struct CallbacksRun<'a>(&'a Shared);

impl Awaited for CallbacksRun<'_> {
    fn poll(&mut self, _py: Python<'_>, _waker: Option<&Waker>) -> PyResult<bool> {
        Ok(self.0.callbacks.wait_until_run(Some(Instant::now())))
    }

    fn sleep(&self, until: Instant) {
        self.0.callbacks.wait_until_run(Some(until));
    }
}

/// A seed for random choices that differs between producers and processes.
#[expect(clippy::disallowed_methods, reason = "any number will do")]
fn random_seed() -> u64 {
    let mut hasher = DefaultHasher::new();
    std::time::SystemTime::now().hash(&mut hasher);
    std::process::id().hash(&mut hasher);
    std::thread::current().id().hash(&mut hasher);
    hasher.finish()
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
        let config = Config::read(&Attributes(settings), seed.unwrap_or_else(random_seed))?;
        Ok(Self { core: Arc::new(Core::new(Shared::new(config))) })
    }

    /// Start the I/O thread.
    fn start(&self) -> PyResult<()> {
        self.core.start()
    }

    /// Hand commands over and take events back, waiting up to `timeout_ms` (None: without limit) for a first one.
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
        shared.mailbox.command(commands);
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
        self.core.shared.clock.now_us() as f64 / 1000.0
    }

    /// End the present or next wait of `exchange`.
    fn wake(&self) {
        self.core.shared.events.wake();
    }

    /// The control plane died: fail every record, refuse later sends.
    fn fail(&self, message: String) {
        let (kind, trouble) = (FailureKind::Internal, Trouble::new(message));
        self.core.shared.mailbox.command([Command::FailProducer { kind, trouble }]);
    }

    /// ms since the last append, by topic (for metadata.max.idle.ms).
    fn topic_ages<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let ages = PyDict::new(py);
        for (topic, age_ms) in self.core.shared.topics.ages(self.core.shared.clock.now_us()) {
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
        self.core.shared.mailbox.sweep();
    }

    /// Whether sends are refused.
    #[getter]
    fn closed(&self) -> bool {
        self.core.shared.hurry.is_closed()
    }

    /// Send what is buffered and wait up to `timeout` seconds until all of it is resolved and its callbacks have run.
    ///
    /// Returns the records that are still unresolved (0: done, -1: only callbacks are still to run). Records that are sent
    /// meanwhile do not prolong it.
    #[pyo3(signature = (timeout, callbacks = true))]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>, callbacks: bool) -> PyResult<i64> {
        let shared = &self.core.shared;
        let until = deadline(timeout);
        let pending = py.detach(|| shared.begin_flush());
        let flushed: PyResult<bool> = (|| {
            for completion in &pending {
                if !wait_on_thread(py, until, &mut Resolved(completion))? {
                    return Ok(false);
                }
            }
            py.detach(|| shared.topics.settle());
            Ok(!callbacks || wait_on_thread(py, until, &mut CallbacksRun(shared))?)
        })();
        shared.hurry.end_flush();
        if flushed? {
            return Ok(0);
        }
        Ok(match shared.topics.unresolved_records() {
            0 => -1,
            left => left as i64,
        })
    }

    /// Fail the records of `topic` (None: of all) that were never sent; returns how many they were.
    #[pyo3(signature = (topic = None))]
    fn purge(&self, py: Python<'_>, topic: Option<&str>) -> u64 {
        py.detach(|| self.core.shared.purge(topic))
    }

    /// Records that are buffered or in flight.
    fn unresolved_records(&self) -> u64 {
        self.core.shared.topics.unresolved_records()
    }

    /// End the I/O thread; unresolved records fail as closed. Returns once the thread has ended.
    fn stop(&self, py: Python<'_>) {
        self.core.shared.refuse_sends();
        self.core.shared.mailbox.request_stop();
        self.core.join(py);
        // After the I/O thread, which fails the batches that workers have; a worker ends after at most one batch.
        py.detach(|| self.core.shared.end_codecs());
        self.core.shared.callbacks.close();
    }

    /// Failures that were not noticed, forgotten by this call: (how many, the errors of the first few).
    fn take_unnoticed<'py>(&self, py: Python<'py>, first: usize) -> PyResult<(u64, Vec<Bound<'py, PyAny>>)> {
        let (batches, mut count) = self.core.shared.failures.take_unnoticed();
        let mut errors = Vec::new();
        for (completion, records, index) in batches {
            count += u64::from(records);
            if errors.len() < first
                && let Some(Outcome::Failed(failure)) = completion.outcome()
            {
                errors.push(errors::delivery_error(py, &completion, failure, index)?);
            }
        }
        Ok((count, errors))
    }

    /// The counters for one reader of `metrics()`.
    fn stats_reader(&self) -> StatsReader {
        StatsReader::new(&self.core)
    }
}
