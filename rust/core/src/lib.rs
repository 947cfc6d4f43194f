//! Penstock's data plane.

pub mod batch;
pub mod crc;
pub mod murmur2;
pub mod produce;
pub mod varint;
