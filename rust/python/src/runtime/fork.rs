//! Forks: objects that were made before a fork belong to the parent process.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use crate::runtime::{errors, shutdown, upcalls};

/// Grows in each child after a fork.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// To be called in the child after a fork (`os.register_at_fork`).
#[pyfunction]
pub fn after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    shutdown::forget_calls();
}

/// How many forks lie between the first process and this one.
pub fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// The error that a child gets for an object of its parent.
pub fn forked(py: Python<'_>) -> PyErr {
    errors::error(
        py,
        &upcalls::PRODUCER_FORKED_ERROR,
        "this producer was created before the process forked, and its threads and connections stayed in the parent",
        &[],
    )
}
