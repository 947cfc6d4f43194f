//! What a coroutine waits for natively: a topic, memory, the end of records. Nothing here waits itself: a look says whether it
//! has come, and for how long to wait for a notice otherwise.

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_core::event_loop::LoopToken;
use penstock_core::memory::Waiter;
use penstock_core::outcome::Completion;
use penstock_core::topic::Topic;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::aio::loops::{LOOP_CALLS, LoopCall, LoopInbox, notice};
use crate::runtime::engine::Core;
use crate::send::{Look, Search, State, count_wait};

/// What is waited for is looked after at least this often, whether or not a notice came: a topic is asked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long to wait for a notice.
fn patience(deadline: Instant, now: Instant) -> Duration {
    deadline.saturating_duration_since(now).min(LOOK_AGAIN)
}

/// The look for a topic.
pub struct TopicWait {
    search: Search,
    pub deadline: Instant,
    notice: Option<LoopToken>,
    /// When the wait that is under way began.
    since: Option<Instant>,
}

impl TopicWait {
    pub fn new(method: &'static str, state: &State) -> Self {
        let now = state.core.shared.now();
        Self { search: Search::new(method, now), deadline: now + state.max_block, notice: None, since: None }
    }

    /// The topic, or how long to wait for a notice, which calls `wake`.
    pub fn look(
        &mut self,
        py: Python<'_>,
        state: &State,
        name: &Bound<'_, PyString>,
        partition: Option<i32>,
        inbox: &LoopInbox,
        wake: &Py<PyAny>,
    ) -> PyResult<Result<Arc<Topic>, Duration>> {
        self.forget(&state.core);
        if let Some(since) = self.since.take() {
            count_wait(&state.core.shared.metadata_wait_ns, since);
        }
        loop {
            let now = state.core.shared.now();
            match state.look(py, name, partition, self.deadline, now, &mut self.search)? {
                Look::Known(topic) => return Ok(Ok(topic)),
                Look::Absent(version) => {
                    let notice = notice(&inbox.inbox, LoopCall::Wake { function: wake.clone_ref(py) });
                    if state.core.shared.notice_topics(version, &notice) {
                        self.notice = Some(notice.token);
                        self.since = Some(now);
                        return Ok(Err(patience(self.deadline, now)));
                    }
                    drop(LOOP_CALLS.remove(notice.token)); // the table changed meanwhile: look again
                }
            }
        }
    }

    /// Take the notice back; what was given already finds nobody to wake.
    pub fn forget(&mut self, core: &Core) {
        if let Some(token) = self.notice.take()
            && !core.is_foreign()
            && core.shared.take_topics_notice(token)
        {
            drop(LOOP_CALLS.remove(token));
        }
    }
}

/// A place in the queue for memory.
pub struct MemoryWait {
    waiter: Arc<Waiter>,
    token: LoopToken,
    pub bytes: usize,
    deadline: Instant,
    since: Instant,
}

impl MemoryWait {
    /// Queue up: `wake` is called with the grant.
    pub fn new(state: &State, bytes: usize, deadline: Instant, inbox: &LoopInbox, wake: Py<PyAny>) -> Self {
        let notice = notice(&inbox.inbox, LoopCall::Wake { function: wake });
        let (shared, token) = (&state.core.shared, notice.token);
        let waiter = shared.queue_for_memory_with(bytes, Some(notice));
        Self { waiter, token, bytes, deadline, since: shared.now() }
    }

    /// How long to wait at first.
    pub fn patience(&self) -> Duration {
        patience(self.deadline, self.since)
    }

    /// None when the memory is the caller's and the wait over, or how long to wait.
    pub fn look(&mut self, py: Python<'_>, state: &State, topic: &Topic) -> PyResult<Option<Duration>> {
        let shared = &state.core.shared;
        let now = shared.now();
        count_wait(&shared.memory_wait_ns, std::mem::replace(&mut self.since, now));
        if shared.pool.is_granted(&self.waiter) {
            return Ok(None);
        }
        state.check_open(py)?;
        if now >= self.deadline {
            shared.pool.count_exhausted();
            return Err(state.exhausted(py, topic, self.bytes)?);
        }
        // Woken by the clock: the place in the queue stays.
        Ok(Some(patience(self.deadline, now)))
    }

    /// Leave the queue; what was granted meanwhile goes to the next.
    pub fn give_up(self, core: &Core) {
        if core.is_foreign() {
            return;
        }
        if core.shared.pool.cancel(&self.waiter) {
            drop(LOOP_CALLS.remove(self.token));
        }
        core.shared.relax();
    }
}

/// A wait for the end of records: those of the batches in the list, the last one first.
pub struct EndWait {
    pending: Vec<Arc<Completion>>,
    notice: Option<(LoopToken, Arc<Completion>)>,
}

impl EndWait {
    pub fn new(mut batches: Vec<Arc<Completion>>) -> Self {
        batches.reverse();
        Self { pending: batches, notice: None }
    }

    /// Whether all are resolved; if not, `wake` is called in the loop when there may be news.
    pub fn look(&mut self, py: Python<'_>, inbox: &LoopInbox, wake: &Py<PyAny>) -> bool {
        self.forget();
        while let Some(completion) = self.pending.last() {
            let Some(unresolved) = completion.first_unresolved() else {
                self.pending.pop();
                continue;
            };
            let notice = notice(&inbox.inbox, LoopCall::Wake { function: wake.clone_ref(py) });
            // Nobody observes a record by waiting for its batch.
            if unresolved.add_notice(0, &notice, false) {
                self.notice = Some((notice.token, unresolved));
                return false;
            }
            drop(LOOP_CALLS.remove(notice.token)); // resolved this moment
        }
        true
    }

    /// Take the notice back; what was given already finds nobody to wake.
    pub fn forget(&mut self) {
        if let Some((token, completion)) = self.notice.take()
            && !completion.take_notices(0, false, |other| other == token).is_empty()
        {
            drop(LOOP_CALLS.remove(token));
        }
    }
}
