//! Penstock's data plane: records become batches, batches wait in lanes, and one I/O thread carries them to the brokers.
//!
//! Pure Rust; it knows nothing of Python. A record's journey: [`accumulator`] (append) → [`codecs`] (compressed or not) →
//! [`lane`] (what may be sent) → [`engine`] (when, to whom) → [`io::connection`] (bytes) → [`outcome::completion`] (the future). What to
//! do about failures is decided across [`boundary`].

pub mod accumulator;
pub mod boundary;
pub mod bulk;
pub mod codecs;
pub mod compression;
pub mod config;
pub mod engine;
pub mod event_loop;
pub mod io;
pub mod kafka_errors;
pub mod lane;
pub mod memory;
pub mod outcome;
pub mod stats;
pub mod sticky;
pub mod sync;
pub mod topic;
pub mod wire;
