//! The outcome of a batch, and how futures, callbacks and event loops are notified of it.

pub mod arrivals;
pub mod completion;
