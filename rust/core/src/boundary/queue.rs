//! Events that the control thread has not taken yet.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::events::Event;
use crate::sync::{Condvar, Mutex};

/// Events that the data plane has reported and the control thread has not taken yet.
#[derive(Debug, Default)]
pub struct EventQueue {
    state: Mutex<EventState>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct EventState {
    events: VecDeque<Event>,
    woken: bool,
}

impl EventQueue {
    /// Append one.
    pub fn push(&self, event: Event) {
        self.state.lock().events.push_back(event);
        self.arrived.notify_one();
    }

    /// End the present or next wait of the control thread.
    pub fn wake(&self) {
        self.state.lock().woken = true;
        self.arrived.notify_one();
    }

    /// All events, waiting for a first one up to `timeout` (`None`: without limit).
    pub fn take(&self, timeout: Option<Duration>) -> VecDeque<Event> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.state.lock();
        self.arrived.wait_while(&mut state, deadline, |state| state.events.is_empty() && !state.woken);
        state.woken = false;
        std::mem::take(&mut state.events)
    }
}
