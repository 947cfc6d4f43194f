//! What the programs share: the few Kafka bytes of sink and blaster (lengths are checked), one direction of the link.

pub mod batch;
pub mod line;
pub mod task;
pub mod wire;

/// API keys.
pub const PRODUCE: i16 = 0;
/// Advertised, never served: librdkafka takes a broker for one from before 0.11 if it cannot fetch in version 4.
pub const FETCH: i16 = 1;
/// Brokers, topics, partitions.
pub const METADATA: i16 = 3;
/// Which versions of which API.
pub const API_VERSIONS: i16 = 18;
/// A producer id for idempotence.
pub const INIT_PRODUCER_ID: i16 = 22;

/// From this version on, Produce is flexible (compact lengths, tagged fields).
pub const PRODUCE_FLEXIBLE: i16 = 9;
/// From this version on, Produce names topics by id.
pub const PRODUCE_BY_ID: i16 = 13;
