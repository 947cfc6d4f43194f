//! The path of a record from a call into the buffer, for both facades: interceptors, serializers, partitioner, append.
//!
//! The common record (bytes or str, no interceptor, no custom partitioner, a known topic, room in the buffer) goes from
//! the call to the batch without running Python code.
//!
//! The steps are inlined by order, borrow their arguments, and box their errors (`runtime::errors::Quick`). A value that
//! goes through memory between two steps costs more than most of the steps do (measured: docs/performance.md, "The cost of a send").

pub(crate) mod call;
pub(crate) mod interceptors;
pub(crate) mod memory;
pub(crate) mod path;
pub(crate) mod recent;
pub(crate) mod size;
pub(crate) mod state;
pub(crate) mod topic;
pub(crate) mod waits;
