//! Append: `send` and its bulk forms end here. Records go into the open batches of their lanes.
//!
//! An append takes one lane's lock for as long as it takes to encode the record, takes memory once per batch, and wakes
//! the I/O thread only when that thread sleeps past something that it should do (Java's `RecordAccumulator`).

mod chunk;
mod growth;
mod many;
mod one;
mod placed;
mod room;

pub use chunk::{CHOOSE, Chunk, Partitions, Rows, Timestamps};
pub use many::Progress;
pub use one::{Appended, Record};
pub use placed::{NOT_BUFFERED, Placed, Run};
