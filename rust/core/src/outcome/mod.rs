//! What became of records: the outcome of a batch, the futures' and the callbacks' way to it, and the ages of records.

mod arrivals;
mod callbacks;
mod completion;
mod failure;
mod observed;

pub use arrivals::Arrivals;
pub use callbacks::{Burst, CallbackQueue, Closed};
pub use completion::{CallbackToken, Completion, Outcome};
pub use failure::{Failure, FailureKind};
