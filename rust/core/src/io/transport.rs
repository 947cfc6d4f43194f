//! Sockets as the engine sees them: real ones, or in memory.

use std::io::{self, IoSlice};
use std::net::SocketAddr;

/// Sockets, real or in memory. All calls return at once; `WouldBlock` is an answer.
pub trait Transport {
    /// Begin to connect.
    fn connect(&mut self, connection: u64, address: SocketAddr) -> io::Result<()>;
    /// Whether the connection is up; an error if it failed.
    fn connected(&mut self, connection: u64) -> io::Result<bool>;
    /// Write some of these.
    fn write(&mut self, connection: u64, bytes: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Read some; 0 means that the peer closed.
    fn read(&mut self, connection: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Close and forget.
    fn close(&mut self, connection: u64);
}
