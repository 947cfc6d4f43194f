//! Penstock's data plane: records become batches, batches wait in lanes, and one I/O thread carries them to the brokers.
//!
//! Pure Rust; it knows nothing of Python. A record's journey: [`accumulator`] (append) → [`codecs`] (compressed or not) →
//! [`lane`] (what may be sent) → [`engine`] (when, to whom) → [`connection`] (bytes) → [`completion`] (the future). What to
//! do about failures is decided across [`boundary`].

pub mod accumulator;
pub mod arrivals;
pub mod batch;
pub mod boundary;
pub mod bulk;
pub mod codecs;
pub mod completion;
pub mod compression;
pub mod connection;
pub mod crc;
pub mod engine;
pub mod fate;
pub mod lane;
pub mod loops;
pub mod memory;
pub mod memory_net;
pub mod murmur2;
pub mod net;
pub mod produce;
pub mod stats;
pub mod sync;
pub mod topic;
pub mod varint;
