//! The outcome of batches, the futures and callbacks that wait for it, and the ages of failed records.

mod arrivals;
mod callbacks;
mod completion;
mod failure;
mod observed;

pub use arrivals::Arrivals;
pub use callbacks::{Burst, CallbackQueue, Closed};
pub use completion::{CallbackToken, Completion, Outcome};
pub use failure::{Failure, FailureKind};
