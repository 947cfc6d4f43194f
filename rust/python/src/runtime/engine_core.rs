//! `Core`: the state that the Python objects of one engine share.

use std::sync::Arc;
use std::thread::JoinHandle;

use penstock_core::shared::Shared;
use penstock_core::sync::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::runtime::fork::{forked, forks};

/// The engine's state, its I/O thread, and the process that made them.
pub struct Core {
    pub shared: Arc<Shared>,
    io_thread: Mutex<Option<JoinHandle<()>>>,
    forks: u32,
}

impl Core {
    /// Without an I/O thread.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, io_thread: Mutex::default(), forks: forks() }
    }

    /// Start the I/O thread.
    pub fn start(&self) -> PyResult<()> {
        let mut thread = self.io_thread.lock();
        if thread.is_some() {
            return Err(PyRuntimeError::new_err("the engine was started before"));
        }
        *thread = Some(penstock_core::io::net::start(&self.shared)?);
        Ok(())
    }

    /// Whether there is an I/O thread.
    pub fn is_started(&self) -> bool {
        self.io_thread.lock().is_some()
    }

    /// Wait for the end of the I/O thread, if there is one.
    pub fn join(&self, py: Python<'_>) {
        let thread = self.io_thread.lock().take();
        if let Some(thread) = thread {
            py.detach(|| {
                // A panic of that thread has been reported as an event already.
                let _ = thread.join();
            });
        }
    }

    /// Whether this process forked since: the threads, the sockets and the records are the parent's.
    pub fn is_foreign(&self) -> bool {
        forks() != self.forks
    }

    /// Raise in a child process.
    pub fn check_fork(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_foreign() { Err(forked(py)) } else { Ok(()) }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.is_foreign() {
            // The thread is the parent's; in the child its handle points to memory that is gone. Neither joined nor detached.
            std::mem::forget(self.io_thread.get_mut().take());
        }
    }
}
