//! Penstock's data plane: records become batches, batches wait in lanes, and one I/O thread carries them to the brokers.
//!
//! Pure Rust; it does not use Python. A record's journey: [`append`] → [`codecs`] (compressed or not) → [`lane`] (what
//! may be sent) → [`engine`] (when, to which broker) → [`io::connection`] (bytes) → [`outcome`] (the future). Failures are
//! decided by the control plane, across the [`boundary`].
//!
//! The folders and files, from those that need nothing of the others to those that need most:
//!
//! | where | what |
//! |---|---|
//! | [`sync`] | locks that survive a fork, and the order of locks |
//! | [`config`], [`kafka_errors`] | settings; Kafka's error codes that the data plane names |
//! | [`stats`] | numbers for `metrics()` |
//! | [`wire`], [`compression`] | bytes: record batches, Produce, varints, checksums; the codecs |
//! | [`event_loop`] | how event loops are notified, and fairness among coroutines |
//! | [`outcome`] | completions of batches, failures, the queue of callbacks |
//! | [`memory`] | buffer.memory |
//! | [`sticky`], [`lane`], [`topic`] | one partition's queue and its rules; a topic's lanes and the choice of one |
//! | [`boundary`] | commands and events between the two planes |
//! | [`codecs`] | threads that compress |
//! | [`shared`] | what the threads of one producer share, part by part |
//! | [`append`] | records into batches: one, or many |
//! | [`io`], [`engine`] | connections and sockets; the I/O thread's work |

pub mod append;
pub mod boundary;
pub mod codecs;
pub mod compression;
pub mod config;
pub mod engine;
pub mod error_code;
pub mod event_loop;
pub mod io;
pub mod lane;
pub mod literal;
pub mod memory;
pub mod outcome;
mod panics;
pub mod shared;
pub mod stats;
pub mod sticky;
pub mod sync;
pub mod topic;
pub mod wire;
