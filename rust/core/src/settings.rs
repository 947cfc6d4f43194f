//! From a producer's settings to the data plane's [`Config`].
//!
//! Settings come by Kafka's names with underscores for dots, in Kafka's units (ms, bytes). A setting that is read here needs no
//! other place than its entry in the configuration's table.

use crate::accumulator::Config;
use crate::compression::{Codec, Compression};
use crate::lane::SendRules;
use crate::topic::PartitionRules;

/// The settings by name.
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
        let rules = SendRules {
            idempotent: source.flag("enable_idempotence")?,
            max_in_flight,
            linger_us: source.micros("linger_ms")?,
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
            buffer_memory: source.number("buffer_memory")?,
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
