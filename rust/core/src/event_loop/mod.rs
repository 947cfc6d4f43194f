//! Event loops of the application: how they are notified, and how coroutines share them.

mod fairness;
mod inbox;

pub use fairness::{Step, TimeSlice};
pub use inbox::{LoopInbox, LoopToken, Notice, Notices};
