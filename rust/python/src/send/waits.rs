//! What a record may have to wait for, its topic and room in the buffer, and the words for waits in vain.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_core::shared::TopicEntry;
use penstock_core::stats::WaitTime;
use penstock_core::topic::Topic;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::recent::{self, Table};
use super::{Call, Quick, State};
use crate::blocking::future::SLICE;
use crate::record::check_topic;
use crate::runtime::hub::{self, Bell, LOOK_AGAIN};
use crate::runtime::python;
use crate::runtime::shutdown;

/// Kafka's code for a topic that cannot be.
const INVALID_TOPIC: i16 = 17;

/// max.block.ms from the first wait of a `send` on: the common record never looks at this clock.
pub struct Deadline {
    after: Duration,
    at: Cell<Option<Instant>>,
}

impl Deadline {
    /// Not begun yet.
    pub const fn after(after: Duration) -> Self {
        Self { after, at: Cell::new(None) }
    }

    fn get(&self) -> Instant {
        let at = self.at.get().unwrap_or_else(|| Instant::now() + self.after);
        self.at.set(Some(at));
        at
    }
}

/// A look for a topic that is repeated until it is there, or max.block.ms is over.
pub struct Search {
    method: &'static str,
    started: Instant,
    asked: Option<Instant>,
    warned: bool,
    errors_before: Option<u64>,
}

impl Search {
    /// On behalf of the method of that name; `now` is the beginning.
    pub fn new(method: &'static str, now: Instant) -> Self {
        Self { method, started: now, asked: None, warned: false, errors_before: None }
    }
}

/// What a look for a topic brought.
pub enum Look {
    Known(Arc<Topic>),
    /// Not there in this version of the table.
    Absent(u64),
}

impl State {
    /// The topic's snapshot, waited for if need be, with a partition of that number if one is asked for.
    #[inline(never)]
    pub fn topic(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyString>,
        partition: Option<i32>,
        method: &'static str,
        deadline: &Deadline,
    ) -> PyResult<Arc<Topic>> {
        let shared = &self.core.shared;
        if let Some(topic) = self.recent_topic(py, name, partition)? {
            return Ok(topic);
        }
        let deadline = deadline.get();
        let mut search = Search::new(method, Instant::now());
        let mut bell = None;
        loop {
            let version = match self.look(py, name, partition, deadline, Instant::now(), &mut search)? {
                Look::Known(topic) => return Ok(topic),
                Look::Absent(version) => version,
            };
            if bell.is_none() {
                bell = Some(hub::bell(py)?); // most looks find the topic
            }
            let began = Instant::now();
            let waited = if let Some(Some(bell)) = &bell {
                self.wait_for_topics_in_hub(py, bell, version, deadline)
            } else {
                py.detach(|| shared.topics.wait(version, deadline.min(began + SLICE)));
                py.check_signals()
            };
            count_wait(&shared.topics.waited, began);
            waited?;
        }
    }

    /// Until the table of topics has changed, or for a while.
    fn wait_for_topics_in_hub(&self, py: Python<'_>, bell: &Bell<'_>, version: u64, deadline: Instant) -> PyResult<()> {
        let shared = &self.core.shared;
        let notice = bell.notice(py);
        if !shared.topics.add_notice(version, &notice) {
            hub::drop_notice(notice.token);
            return Ok(());
        }
        let waited = bell.wait(py, Some(deadline.min(Instant::now() + LOOK_AGAIN)));
        self.core.check_fork(py)?;
        if shared.topics.take_notice(notice.token) {
            hub::drop_notice(notice.token);
        }
        waited
    }

    /// Have `act` done with the topic of the call: a recent one, or what `look_up` brings.
    #[inline(always)]
    pub(super) fn with_topic<T, E: From<Box<PyErr>>>(
        &self,
        py: Python<'_>,
        call: &Call<'_, '_>,
        look_up: impl FnOnce() -> Result<Arc<Topic>, E>,
        act: impl FnOnce(&Topic) -> Result<T, E>,
    ) -> Result<T, E> {
        let name = text_of(py, call.topic)?;
        recent::with(self.table(), name, |topic| has_partition(topic, call.partition), look_up, act)
    }

    /// Have `act` done with the topic of the call if this thread has sent to it of late, and nothing has changed since;
    /// otherwise the error is None, or says that it is no topic.
    #[inline(always)]
    pub fn with_recent<T>(
        &self,
        py: Python<'_>,
        call: &Call<'_, '_>,
        act: impl FnOnce(&Topic) -> Result<T, Option<Box<PyErr>>>,
    ) -> Result<T, Option<Box<PyErr>>> {
        let unknown = || match check_topic(py, text_of(py, call.topic)?) {
            Ok(()) => Err(None),
            Err(error) => Err(Some(error.into())),
        };
        self.with_topic(py, call, unknown, act)
    }

    #[inline]
    fn table(&self) -> Table {
        Table { sender: self.id, version: self.core.shared.topics.version() }
    }

    /// The topic, if this thread has sent to it of late and nothing has changed since; raises for what is no topic at all.
    pub fn recent_topic(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyString>,
        partition: Option<i32>,
    ) -> PyResult<Option<Arc<Topic>>> {
        let text = text_of(py, name).map_err(|error| *error)?;
        match recent::get(self.table(), text).filter(|topic| has_partition(topic, partition)) {
            Some(topic) => Ok(Some(topic)),
            None => check_topic(py, text).map(|()| None),
        }
    }

    /// One look for a topic at `now`, which is asked for if it is not known; an error if it cannot be, or the time is over.
    pub fn look(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyString>,
        partition: Option<i32>,
        deadline: Instant,
        now: Instant,
        search: &mut Search,
    ) -> PyResult<Look> {
        let shared = &self.core.shared;
        let text = name.to_str()?;
        self.check_open(py)?;
        let version = shared.topics.version();
        let entry = shared.topics.entry(text);
        if let TopicEntry { topic: Some(topic), error: None, .. } = &entry
            && topic.partitions() > 0
            && has_partition(topic, partition)
        {
            recent::remember(Table { sender: self.id, version }, topic);
            return Ok(Look::Known(Arc::clone(topic)));
        }
        // Asked for before the time is looked at: with max.block.ms=0 this call fails, and a later one finds the topic.
        if search.asked.is_none_or(|at| now.duration_since(at) >= Duration::from_secs(1)) {
            search.asked = Some(now);
            shared.want_topic(text, partition.unwrap_or(-1));
        }
        // A final answer counts if it came since; an earlier one may be out of date, since permissions change. That a
        // name is illegal does not.
        let errors = *search.errors_before.get_or_insert(entry.errors);
        if let Some((code, message, true)) = &entry.error
            && (*code == INVALID_TOPIC || entry.errors > errors || now >= deadline)
        {
            return Err(python::error_for_code(py, *code, message, Some(text)));
        }
        if now >= deadline {
            return Err(self.absent(py, text, partition, &entry)?);
        }
        if !search.warned && now.duration_since(search.started) >= Duration::from_secs(1) {
            search.warned = true;
            let why = entry.error.as_ref().map_or_else(|| shared.topics.status(), |(_, why, _)| why.clone());
            shutdown::python(py, || self.warn_waiting.bind(py).call1((search.method, text, partition, why)))?;
        }
        Ok(Look::Absent(version))
    }

    /// The words for a topic, or a partition, that did not appear.
    fn absent(&self, py: Python<'_>, name: &str, partition: Option<i32>, entry: &TopicEntry) -> PyResult<PyErr> {
        let (code, why) = entry.error.as_ref().map_or((0, ""), |(code, why, _)| (*code, why.as_str()));
        let arguments = [
            ("topic", PyString::new(py, name).into_any()),
            ("partition", partition.into_pyobject(py)?),
            ("partitions", entry.topic.as_ref().map_or(0, |topic| topic.partitions()).into_pyobject(py)?.into_any()),
            ("waited_ms", (self.max_block.as_millis() as u64).into_pyobject(py)?.into_any()),
            ("code", code.into_pyobject(py)?.into_any()),
            ("message", PyString::new(py, why).into_any()),
            ("status", PyString::new(py, &self.core.shared.topics.status()).into_any()),
        ];
        Ok(python::error_by(py, "metadata_timeout", &arguments))
    }

    #[inline(never)]
    pub fn wait_for_memory(&self, py: Python<'_>, topic: &Topic, bytes: usize, deadline: &Deadline) -> PyResult<()> {
        let shared = &self.core.shared;
        let deadline = deadline.get();
        let bell = hub::bell(py)?;
        let notice = bell.as_ref().map(|bell| bell.notice(py));
        let token = notice.as_ref().map(|notice| notice.token);
        let waiter = shared.queue_for_memory(bytes, notice);
        loop {
            let began = Instant::now();
            let (is_mine, ended) = match &bell {
                None => {
                    let is_mine = py.detach(|| shared.pool.wait(&waiter, deadline.min(began + SLICE)));
                    (is_mine, if is_mine { Ok(()) } else { py.check_signals() })
                }
                Some(_) if shared.pool.is_granted(&waiter) => (true, Ok(())),
                Some(bell) => {
                    // Looked after now and then: a producer may be closed meanwhile.
                    let ended = bell.wait(py, Some(deadline.min(began + LOOK_AGAIN)));
                    self.core.check_fork(py)?;
                    (shared.pool.is_granted(&waiter), ended)
                }
            };
            count_wait(&shared.pool.waited, began);
            if is_mine && ended.is_ok() {
                return Ok(());
            }
            let over = Instant::now() >= deadline;
            let interrupted = ended.and_then(|()| self.check_open(py)).err();
            if over || interrupted.is_some() {
                // What was granted meanwhile goes to the next.
                if shared.pool.cancel(&waiter)
                    && let Some(token) = token
                {
                    hub::drop_notice(token);
                }
                shared.relax();
            }
            if let Some(error) = interrupted {
                return Err(error);
            }
            if over {
                shared.pool.count_exhausted();
                return Err(self.exhausted(py, topic, bytes)?);
            }
        }
    }

    /// The words for a buffer that stayed full.
    pub fn exhausted(&self, py: Python<'_>, topic: &Topic, needed: usize) -> PyResult<PyErr> {
        let shared = &self.core.shared;
        let oldest = shared
            .topics
            .oldest(shared.clock.now_us())
            .map(|it| (it.topic.to_string(), it.partition, it.age_ms, it.attempts, it.broker, it.code, it.message));
        let any = |value: usize| value.into_pyobject(py).map(Bound::into_any);
        let arguments = [
            ("topic", PyString::new(py, &topic.name).into_any()),
            ("needed", any(needed)?),
            ("used", any(shared.pool.total() - shared.pool.available())?),
            ("total", any(shared.pool.total())?),
            ("waited_ms", (self.max_block.as_millis() as u64).into_pyobject(py)?.into_any()),
            ("oldest", oldest.into_pyobject(py)?),
            ("status", PyString::new(py, &shared.topics.status()).into_any()),
        ];
        Ok(python::error_by(py, "buffer_exhausted", &arguments))
    }
}

/// The name as Rust's text; what has none (a lone surrogate in it) is no topic.
#[inline]
fn text_of<'a>(py: Python<'_>, name: &'a Bound<'_, PyString>) -> Quick<&'a str> {
    name.to_str().map_err(|_| no_topic(py, name).into())
}

#[cold]
fn no_topic(py: Python<'_>, name: &Bound<'_, PyString>) -> PyErr {
    let illegal = check_topic(py, &name.to_string_lossy()).err();
    illegal.unwrap_or_else(|| PyTypeError::new_err("the topic is no text"))
}

#[inline]
fn has_partition(topic: &Topic, partition: Option<i32>) -> bool {
    partition.is_none_or(|partition| (partition as u32) < topic.partitions())
}

/// Add a wait to a counter of ns.
pub fn count_wait(waited: &WaitTime, began: Instant) {
    waited.add(began.elapsed());
}
