//! Settings of the data plane, one object per producer. They are made from the producer's options in Python.
//!
//! Times are µs, sizes bytes.

use crate::compression::{Codec, Compression};

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
    /// penstock.batch.growth.max.bytes; 0: no growth
    pub growth_max_bytes: usize,
    /// buffer.memory
    pub buffer_memory: usize,
    /// buffer.memory.allocation.strategy
    pub allocation: Allocation,
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

/// When a batch is charged for its part of buffer.memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// batch.size at once.
    Full,
    /// In steps, as records come.
    Incremental,
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
    /// penstock.batch.linger.bytes: while two batches of a lane are in flight, an open one of fewer bytes goes on lingering
    pub linger_bytes: usize,
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

/// The settings of a producer by Kafka's names with underscores for dots, in Kafka's units (ms, bytes).
pub trait Source {
    /// Names the setting, and what is wrong with it.
    type Error;

    /// A text.
    fn text(&self, name: &str) -> Result<String, Self::Error>;
    /// A Boolean.
    fn flag(&self, name: &str) -> Result<bool, Self::Error>;
    /// A whole number.
    fn number<T: TryFrom<i64>>(&self, name: &str) -> Result<T, Self::Error>;
    /// The error for a value that nothing can be done with.
    fn refused(&self, name: &str, value: &str) -> Self::Error;

    /// A time: ms there, µs here.
    fn micros(&self, name: &str) -> Result<u64, Self::Error> {
        Ok(self.number::<u64>(name)?.saturating_mul(1000))
    }
}

impl Config {
    /// All settings of the data plane. `seed`: of all random choices.
    pub fn read<S: Source>(source: &S, seed: u64) -> Result<Self, S::Error> {
        let batch_size: usize = source.number("batch_size")?;
        let max_in_flight: usize = source.number("max_in_flight_requests_per_connection")?;
        let codec = source.text("compression_type")?;
        let compression = Compression {
            codec: Codec::from_name(&codec).ok_or_else(|| source.refused("compression_type", &codec))?,
            level: source.number("compression_level")?,
        };
        let strategy = source.text("buffer_memory_allocation_strategy")?;
        let allocation = match strategy.as_str() {
            "full" => Allocation::Full,
            "incremental" => Allocation::Incremental,
            _ => return Err(source.refused("buffer_memory_allocation_strategy", &strategy)),
        };
        let growth_max_bytes: usize = source.number("penstock_batch_growth_max_bytes")?;
        let rules = SendRules {
            idempotent: source.flag("enable_idempotence")?,
            max_in_flight,
            linger_us: source.micros("linger_ms")?,
            // A batch that may not grow has nothing to linger for.
            linger_bytes: if growth_max_bytes > 0 { source.number("penstock_batch_linger_bytes")? } else { 0 },
            delivery_timeout_us: source.micros("delivery_timeout_ms")?,
        };
        let partitioning = PartitionRules {
            ignore_keys: source.flag("partitioner_ignore_keys")?,
            adaptive: source.flag("partitioner_adaptive_partitioning_enable")?,
            availability_timeout_us: source.micros("partitioner_availability_timeout_ms")?,
            rack_aware: source.flag("partitioner_rack_aware")?,
            sticky_bytes: batch_size.max(1),
        };
        // 0 or less: never.
        let max_idle_ms: i64 = source.number("connections_max_idle_ms")?;
        // -1: the system's.
        let bytes = |name| source.number::<i64>(name).map(|bytes| usize::try_from(bytes).ok());
        Ok(Self {
            client_id: source.text("client_id")?,
            acks: source.number("acks")?,
            rules,
            compression,
            partitioning,
            batch_size,
            growth_max_bytes,
            buffer_memory: source.number("buffer_memory")?,
            allocation,
            max_request_size: source.number("max_request_size")?,
            max_in_flight_requests: max_in_flight,
            request_timeout_us: source.micros("request_timeout_ms")?,
            max_idle_us: u64::try_from(max_idle_ms).ok().filter(|&ms| ms > 0).map(|ms| ms.saturating_mul(1000)),
            send_buffer: bytes("send_buffer_bytes")?,
            receive_buffer: bytes("receive_buffer_bytes")?,
            seed,
        })
    }
}
