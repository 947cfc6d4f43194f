//! The error codes of Kafka that the data plane treats in a way of their own, by Kafka's names.
//!
//! `tests/unit/test_error_codes.py` compares names and numbers with Kafka's table.

#![allow(missing_docs)]

pub const UNKNOWN_SERVER_ERROR: i16 = -1;
/// No error.
pub const NONE: i16 = 0;
pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
pub const REQUEST_TIMED_OUT: i16 = 7;
/// Never sent by a broker: it stands for a lost connection, as in the Java client.
pub const NETWORK_EXCEPTION: i16 = 13;
pub const INVALID_TOPIC_EXCEPTION: i16 = 17;
pub const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;
pub const KAFKA_STORAGE_ERROR: i16 = 56;
pub const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
pub const UNKNOWN_TOPIC_ID: i16 = 100;
/// The last one of Kafka 4.4.
pub const CONTROLLER_ID_NOT_REGISTERED: i16 = 136;
