//! Connections to brokers: their buffers and requests, real sockets, and sockets in memory for tests.

pub mod connection;
pub mod frames;
pub mod memory_net;
pub mod net;
pub mod transport;
