//! The seam between the shared path of a record and the facades: how a facade waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_core::stats::WaitTime;
use penstock_core::topic::Topic;
use pyo3::prelude::*;

use crate::runtime::engine_core::Core;
use crate::send::call::Call;
use crate::send::state::State;

/// How a facade waits for what a record needs, on behalf of one call of `send`.
pub trait Waits {
    /// Why there was no wait, or why it failed.
    type Failure: From<Box<PyErr>>;

    /// The error in a failure, if there is one.
    fn error(failure: &Self::Failure) -> Option<&PyErr>;

    /// The topic of the call, which this thread has not sent to recently.
    fn topic(&self, state: &State, py: Python<'_>, call: &Call<'_, '_>) -> Result<Arc<Topic>, Self::Failure>;

    /// `bytes` of buffer.memory, which belong to the caller then.
    fn memory(&self, state: &State, py: Python<'_>, topic: &Topic, bytes: usize) -> Result<(), Self::Failure>;
}

/// A waiter polls at least this often, with or without a wake-up: a topic is requested again.
pub const POLL_EVERY: Duration = Duration::from_secs(1);

/// The end of max.block.ms, and the clock that it is on.
#[derive(Clone, Copy)]
pub struct Deadline {
    pub at: Instant,
    /// Whether `at` is on the engine's clock, which the simulation steps. A blocked thread waits in real time.
    steppable: bool,
}

impl Deadline {
    /// For a call that blocks its thread.
    pub fn blocking(state: &State) -> Self {
        Self { at: Instant::now() + state.max_block, steppable: false }
    }

    /// For a coroutine.
    pub fn in_loop(state: &State) -> Self {
        Self { at: state.core.shared.clock.now() + state.max_block, steppable: true }
    }

    /// The present time on its clock.
    pub fn now(self, core: &Core) -> Instant {
        if self.steppable { core.shared.clock.now() } else { Instant::now() }
    }

    /// How long to wait for a wake-up.
    pub fn patience(self, now: Instant) -> Duration {
        self.at.saturating_duration_since(now).min(POLL_EVERY)
    }
}

/// Add a wait to a counter of ns.
pub fn count_wait(waited: &WaitTime, began: Instant) {
    waited.add(began.elapsed());
}
