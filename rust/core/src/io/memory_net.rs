//! Sockets in memory: the [`Transport`] of an engine that is stepped by hand (tests and the simulation).
//!
//! The caller plays the network: it reads which connections were dialled, accepts or refuses them, takes the bytes that
//! were written, delivers bytes, and ends connections. Nothing happens by itself. After a change that a real socket would
//! announce, call [`crate::engine::Engine::on_socket`].

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::SocketAddr;

use crate::io::transport::Transport;

/// One connection's two directions, seen from the far end.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a socket, which tests set one by one")]
pub struct Socket {
    /// Written by the engine, not taken yet.
    pub outgoing: Vec<u8>,
    /// Delivered to the engine, not read yet.
    pub incoming: VecDeque<u8>,
    /// How many more bytes the socket takes.
    pub room: usize,
    /// It took less than it was given: only then is more room an event, as with a real socket.
    pub full: bool,
    /// TCP is up.
    pub up: bool,
    /// The far end has closed its direction: the end follows the delivered bytes.
    pub ended: bool,
    /// A write into a full socket fails with the far end's reset instead of `WouldBlock`.
    pub broken: bool,
    /// Every call fails from now on, once the bytes that were delivered are read.
    pub failed: Option<io::ErrorKind>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryNet {
    /// Open and half-open connections by id.
    pub sockets: BTreeMap<u64, Socket>,
    /// Dialled since this was last taken.
    pub dialled: Vec<(u64, SocketAddr)>,
    /// Closed by the engine since this was last taken.
    pub closed: Vec<u64>,
    /// A dialled connection is up at once.
    pub accepts: bool,
}

impl MemoryNet {
    /// A network in which a dialled connection is up at once.
    pub fn accepting() -> Self {
        Self { accepts: true, ..Self::default() }
    }

    fn socket(&mut self, connection: u64) -> io::Result<&mut Socket> {
        let socket = self.sockets.get_mut(&connection).ok_or(io::ErrorKind::NotConnected)?;
        socket.failed.map_or(Ok(socket), |kind| Err(kind.into()))
    }
}

impl Transport for MemoryNet {
    fn connect(&mut self, connection: u64, address: SocketAddr) -> io::Result<()> {
        let socket = Socket {
            outgoing: Vec::new(),
            incoming: VecDeque::new(),
            room: usize::MAX,
            full: false,
            up: self.accepts,
            ended: false,
            broken: false,
            failed: None,
        };
        self.sockets.insert(connection, socket);
        self.dialled.push((connection, address));
        Ok(())
    }

    fn connected(&mut self, connection: u64) -> io::Result<bool> {
        self.socket(connection).map(|socket| socket.up)
    }

    fn write(&mut self, connection: u64, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let socket = self.socket(connection)?;
        let mut count = 0;
        for slice in bytes {
            let take = slice.len().min(socket.room);
            socket.outgoing.extend_from_slice(&slice[..take]);
            socket.room -= take;
            count += take;
            socket.full |= take < slice.len();
        }
        match count {
            0 if socket.broken => Err(io::ErrorKind::ConnectionReset.into()),
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn read(&mut self, connection: u64, into: &mut [u8]) -> io::Result<usize> {
        let socket = self.sockets.get_mut(&connection).ok_or(io::ErrorKind::NotConnected)?;
        // A reset does not take back the bytes that arrived before it.
        if let Some(kind) = socket.failed.filter(|_| socket.incoming.is_empty()) {
            return Err(kind.into());
        }
        let count = into.len().min(socket.incoming.len());
        if count == 0 && !socket.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for (slot, byte) in into.iter_mut().zip(socket.incoming.drain(..count)) {
            *slot = byte;
        }
        Ok(count)
    }

    fn close(&mut self, connection: u64) {
        self.sockets.remove(&connection);
        self.closed.push(connection);
    }
}
