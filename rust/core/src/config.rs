//! Settings of the data plane, one object per producer. They are made from the producer's options in Python.
//!
//! Times are µs, sizes bytes.

use crate::compression::Compression;

/// See the module.
#[derive(Clone, Debug)]
pub struct Config {
    /// client.id
    pub client_id: String,
    /// -1 (all), 0 or 1
    pub acks: i16,
    /// enable.idempotence, max in flight per lane, linger.ms, delivery.timeout.ms
    pub rules: SendRules,
    /// compression.type and its level
    pub compression: Compression,
    /// partitioner.*
    pub partitioning: PartitionRules,
    /// batch.size
    pub batch_size: usize,
    /// buffer.memory
    pub buffer_memory: usize,
    /// max.request.size
    pub max_request_size: usize,
    /// max.in.flight.requests.per.connection
    pub max_in_flight_requests: usize,
    /// request.timeout.ms
    pub request_timeout_us: u64,
    /// connections.max.idle.ms; `None` (0 or less there): never
    pub max_idle_us: Option<u64>,
    /// send.buffer.bytes; `None`: the system's
    pub send_buffer: Option<usize>,
    /// receive.buffer.bytes; `None`: the system's
    pub receive_buffer: Option<usize>,
    /// Seed of all random choices.
    pub seed: u64,
}

/// When a lane may send.
#[derive(Clone, Copy, Debug)]
pub struct SendRules {
    /// enable.idempotence
    pub idempotent: bool,
    /// Batches of one lane in flight at once.
    pub max_in_flight: usize,
    /// linger.ms
    pub linger_us: u64,
    /// delivery.timeout.ms
    pub delivery_timeout_us: u64,
}

/// Settings of the built-in partitioner.
#[derive(Clone, Copy, Debug)]
pub struct PartitionRules {
    /// partitioner.ignore.keys
    pub ignore_keys: bool,
    /// partitioner.adaptive.partitioning.enable
    pub adaptive: bool,
    /// partitioner.availability.timeout.ms; 0: off
    pub availability_timeout_us: u64,
    /// partitioner.rack.aware
    pub rack_aware: bool,
    /// Bytes until the sticky partition changes: batch.size, at least 1.
    pub sticky_bytes: usize,
}
