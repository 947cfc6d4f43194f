//! Kafka's error codes that the data plane names. Java: `org.apache.kafka.common.protocol.Errors`.
//!
//! The control plane decides what an error means for a batch. The data plane needs codes for two things only: whether a
//! batch may have been appended (`lane/fate.rs`), and errors that the client finds itself.

/// UNKNOWN_SERVER_ERROR
pub const UNKNOWN_SERVER_ERROR: i16 = -1;
/// No error.
pub const NONE: i16 = 0;
/// UNKNOWN_TOPIC_OR_PARTITION
pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
/// NOT_LEADER_OR_FOLLOWER
pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
/// REQUEST_TIMED_OUT
pub const REQUEST_TIMED_OUT: i16 = 7;
/// NETWORK_EXCEPTION. Brokers do not send it: it stands for a lost connection, as in the Java client.
pub const NETWORK_EXCEPTION: i16 = 13;
/// NOT_ENOUGH_REPLICAS_AFTER_APPEND
pub const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;
/// KAFKA_STORAGE_ERROR
pub const KAFKA_STORAGE_ERROR: i16 = 56;
/// UNSUPPORTED_COMPRESSION_TYPE
pub const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
/// UNKNOWN_TOPIC_ID
pub const UNKNOWN_TOPIC_ID: i16 = 100;
/// CONTROLLER_ID_NOT_REGISTERED, the last code of Kafka 4.4.
pub const LAST_KNOWN_CODE: i16 = 136;
