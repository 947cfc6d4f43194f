//! Record batches, format 2: encoded record by record inside `send`, sealed once, sent as often as needed.
//!
//! The records (the *body*) are written when they arrive and never change after sealing. The 61 bytes in front of them
//! are made for each attempt. So a retry under another producer id, epoch or sequence shares the body with the first
//! attempt, a socket's write queue can hold the body by reference count, and no sealed byte is rewritten while a socket
//! may still read it. (The Java client rewrites and pools its buffers, and lost this once: CVE-2026-35554.)

mod builder;
mod chunks;
mod record;
mod sealed;
mod split;

pub use builder::{BatchBuilder, MAX_UNCOMPRESSED};
pub use chunks::Chunks;
pub use record::{Header, record_len, record_len_upper_bound};
pub(crate) use record::{MAX_RECORD_OVERHEAD, payload_len};
pub use sealed::{BATCH_HEADER_LEN, Body, SealedBatch};
