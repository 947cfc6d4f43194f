//! Real sockets: the [`Transport`] over mio, and the loop of the I/O thread.

use std::collections::HashMap;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use socket2::{Domain, Protocol, Socket, Type};

use crate::boundary::Event;
use crate::engine::Engine;
use crate::io::transport::Transport;
use crate::panics::panic_text;
use crate::shared::Shared;

const WAKER: Token = Token(usize::MAX);

/// Sockets by connection id.
#[derive(Debug)]
pub struct NetTransport {
    registry: Registry,
    sockets: HashMap<u64, TcpStream>,
    send_buffer: Option<usize>,
    receive_buffer: Option<usize>,
}

impl Transport for NetTransport {
    fn connect(&mut self, connection: u64, address: SocketAddr) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        // Buffer sizes count only if they are set before the connection's window is negotiated.
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if is_in_progress(&error) => {}
            Err(error) => return Err(error),
        }
        let mut stream = TcpStream::from_std(socket.into());
        let token = Token(usize::try_from(connection).map_err(io::Error::other)?);
        self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.sockets.insert(connection, stream);
        Ok(())
    }

    fn connected(&mut self, connection: u64) -> io::Result<bool> {
        let Some(stream) = self.sockets.get(&connection) else { return Err(io::ErrorKind::NotConnected.into()) };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, connection: u64, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        self.sockets.get_mut(&connection).ok_or(io::ErrorKind::NotConnected)?.write_vectored(bytes)
    }

    fn read(&mut self, connection: u64, into: &mut [u8]) -> io::Result<usize> {
        self.sockets.get_mut(&connection).ok_or(io::ErrorKind::NotConnected)?.read(into)
    }

    fn close(&mut self, connection: u64) {
        if let Some(mut stream) = self.sockets.remove(&connection) {
            // To drop it closes it. Deregistered first, it raises no stale event. Shut down, because a child process may hold
            // the descriptor as well, which would keep the connection up.
            let _ = self.registry.deregister(&mut stream);
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// A connect that does not wait returns this while TCP is being set up.
#[cfg(unix)]
fn is_in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINPROGRESS)
}

/// A connect that does not wait returns this while TCP is being set up.
#[cfg(not(unix))]
fn is_in_progress(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Start the I/O thread. It ends when [`Mailbox::request_stop`](crate::shared::Mailbox::request_stop) is called, or with [`Event::EngineFailed`].
pub fn start(shared: &Arc<Shared>) -> io::Result<std::thread::JoinHandle<()>> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let registry = poll.registry().try_clone()?;
    // The descriptor is the thread's: a closed producer that the application keeps has none.
    let wake_up = Arc::downgrade(&waker);
    shared.mailbox.set_waker(Box::new(move || {
        if let Some(waker) = wake_up.upgrade() {
            // An error here would mean that the descriptor is gone, and with it the thread to wake.
            let _ = waker.wake();
        }
    }));
    let transport = NetTransport {
        registry,
        sockets: HashMap::new(),
        send_buffer: shared.config.send_buffer,
        receive_buffer: shared.config.receive_buffer,
    };
    let shared = Arc::clone(shared);
    std::thread::Builder::new().name("penstock-io".into()).spawn(move || {
        let _waker = waker;
        let mut engine = Engine::new(Arc::clone(&shared), transport);
        // A panic is a bug; it must not leave futures that never resolve.
        let ended = catch_unwind(AssertUnwindSafe(|| run(&mut engine, poll, &shared)));
        let message = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("the I/O thread stopped: {error}"),
            Err(panic) => format!("the I/O thread panicked (a bug in Penstock): {}", panic_text(&*panic)),
        };
        let _ = catch_unwind(AssertUnwindSafe(|| engine.fail_engine(&message)));
        shared.events.push(Event::EngineFailed { message });
    })
}

fn run(engine: &mut Engine<NetTransport>, mut poll: Poll, shared: &Arc<Shared>) -> io::Result<()> {
    let mut events = Events::with_capacity(256);
    let mut woke = Instant::now();
    while !shared.mailbox.is_stopped() {
        let wake_at_us = engine.run_once();
        let now_us = shared.clock.now_us();
        let sleep = if wake_at_us <= now_us || !shared.mailbox.prepare_sleep(wake_at_us) {
            Some(Duration::ZERO)
        } else if wake_at_us == u64::MAX {
            None
        } else {
            Some(Duration::from_micros(wake_at_us - now_us))
        };
        let before = Instant::now();
        let worked = before - woke;
        match poll.poll(&mut events, sleep) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        shared.mailbox.awake();
        woke = Instant::now();
        engine.count_select(woke - before, worked);
        for event in &events {
            if event.token() != WAKER {
                let readable = event.is_readable() || event.is_read_closed() || event.is_error();
                let id = event.token().0 as u64;
                engine.on_socket(id, readable, event.is_writable() || event.is_error());
                if event.is_read_closed() || event.is_error() {
                    // A short read ends the reading, but the end came with the same event and raises no other.
                    engine.on_socket(id, true, false);
                }
            }
        }
    }
    engine.shut_down();
    Ok(())
}
