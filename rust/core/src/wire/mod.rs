//! Bytes as Kafka's protocol has them: record batches, Produce requests and responses, and what both are made of.

pub mod crc;
pub mod murmur2;
pub mod produce;
pub mod record_batch;
pub mod varint;
