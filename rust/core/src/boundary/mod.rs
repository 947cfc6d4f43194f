//! Commands and events between the control plane and the data plane, in the data plane's types.
//!
//! `src/penstock/control/boundary.py` is the table with the meaning of every field. Classes and fields have the same names
//! there and here; `rust/python/src/runtime/boundary/` converts between the two by these names.

mod commands;
mod events;
mod queue;
mod trouble;

pub use commands::{Action, BatchDecision, Command, Decision, PartitionLeader, Renumber};
pub use events::{BatchReport, Event, LaneReport};
pub use queue::EventQueue;
pub use trouble::{Fatal, Trouble};

pub use crate::literal::Literal;
