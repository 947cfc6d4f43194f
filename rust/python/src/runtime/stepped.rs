//! `SteppedEngine`: an engine without its thread, its sockets and its clock, for the simulation.
//!
//! Everything else is the engine of a producer. The caller provides the network and the time; see
//! `penstock_core::io::memory_net`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyKeyError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use penstock_core::codecs::Codecs;
use penstock_core::compression::Encoder;
use penstock_core::io::memory_net::{MemoryNet, Socket};
use penstock_core::lane::fate::Fate;
use penstock_core::literal::Literal;
use penstock_core::outcome::Completion;
use penstock_core::shared::Shared;

use crate::runtime::boundary;
use crate::runtime::callbacks::{CALLBACKS, Calls};
use crate::runtime::engine::Engine;

/// Steps an `Engine` that is not started: the caller is its I/O thread, its network and its clock.
///
/// Its own locks are `std`'s, outside the order of the engine's: they are held around whole passes.
#[pyclass(frozen, module = "penstock._native")]
pub struct SteppedEngine {
    shared: Arc<Shared>,
    engine: Mutex<penstock_core::engine::Engine<MemoryNet>>,
    flushed: Mutex<Vec<Arc<Completion>>>,
    encoder: Mutex<Option<Encoder>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SteppedEngine {
    fn socket<T>(&self, connection: u64, act: impl FnOnce(&mut Socket) -> T) -> PyResult<T> {
        let mut engine = held(&self.engine);
        let socket = engine.transport().sockets.get_mut(&connection);
        socket.map(act).ok_or_else(|| PyKeyError::new_err(format!("connection {connection} is closed")))
    }
}

#[pymethods]
impl SteppedEngine {
    #[new]
    fn new(engine: &Bound<'_, Engine>) -> PyResult<Self> {
        let core = &engine.get().core;
        if core.is_started() {
            return Err(PyRuntimeError::new_err("the engine has an I/O thread already"));
        }
        let shared = Arc::clone(&core.shared);
        shared.clock.set_us(1);
        let mut encoder = None;
        if let Some(codecs) = shared.encoding.codecs() {
            codecs.step_by_hand();
            encoder = Some(Encoder::new(codecs.compression)?);
        }
        let engine = penstock_core::engine::Engine::new(Arc::clone(&shared), MemoryNet::default());
        Ok(Self { shared, engine: Mutex::new(engine), flushed: Mutex::default(), encoder: Mutex::new(encoder) })
    }

    /// A command or an event that has gone into Rust and come back, and the text of its form there.
    #[staticmethod]
    fn echo<'py>(message: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, String)> {
        boundary::echo(message)
    }

    /// The `Fate` that an answer with this error code and offset gives the append.
    #[staticmethod]
    fn fate_of_answer(code: i16, base_offset: i64) -> &'static str {
        Fate::of_answer(code, base_offset).as_str()
    }

    /// Set the clock (µs); it never goes back.
    fn set_now_us(&self, now_us: u64) {
        self.shared.clock.set_us(now_us.max(self.shared.clock.now_us()));
    }

    /// One pass of the I/O thread; when the next one is due (µs), None: when something happens.
    fn run_once(&self) -> Option<u64> {
        Some(held(&self.engine).run_once()).filter(|&at_us| at_us != u64::MAX)
    }

    /// Connections begun since the last call: (connection, IP address, port).
    fn dialled(&self) -> Vec<(u64, String, u16)> {
        let dialled = std::mem::take(&mut held(&self.engine).transport().dialled);
        dialled
            .into_iter()
            .map(|(connection, address)| (connection, address.ip().to_string(), address.port()))
            .collect()
    }

    /// Connections that the engine closed since the last call.
    fn closed(&self) -> Vec<u64> {
        std::mem::take(&mut held(&self.engine).transport().closed)
    }

    /// TCP comes up.
    fn accept(&self, connection: u64) -> PyResult<()> {
        self.socket(connection, |socket| socket.up = true)?;
        held(&self.engine).on_socket(connection, false, true);
        Ok(())
    }

    /// The connection fails (refused, reset): the next operation returns the error.
    fn reset(&self, connection: u64) -> PyResult<()> {
        self.socket(connection, |socket| {
            let kind =
                if socket.up { std::io::ErrorKind::ConnectionReset } else { std::io::ErrorKind::ConnectionRefused };
            socket.failed = Some(kind);
        })?;
        held(&self.engine).on_socket(connection, true, true);
        Ok(())
    }

    /// The broker closes the connection, after the bytes that were delivered.
    fn hang_up(&self, connection: u64) -> PyResult<()> {
        self.socket(connection, |socket| socket.ended = true)?;
        held(&self.engine).on_socket(connection, true, false);
        Ok(())
    }

    /// The bytes written since the last call.
    fn take_written<'py>(&self, py: Python<'py>, connection: u64) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.socket(connection, |socket| std::mem::take(&mut socket.outgoing))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// From now on the socket takes that many bytes, then blocks; None: any number. Room in a socket that was full is an
    /// event, as with a real socket; whether it is.
    #[pyo3(signature = (connection, room))]
    fn set_room(&self, connection: u64, room: Option<usize>) -> PyResult<bool> {
        let room = room.unwrap_or(usize::MAX);
        let announced = self.socket(connection, |socket| {
            socket.room = room;
            room > 0 && std::mem::take(&mut socket.full)
        })?;
        if announced {
            held(&self.engine).on_socket(connection, false, true);
        }
        Ok(announced)
    }

    /// Bytes arrive.
    fn deliver(&self, connection: u64, bytes: &[u8]) -> PyResult<()> {
        self.socket(connection, |socket| socket.incoming.extend(bytes))?;
        held(&self.engine).on_socket(connection, true, false);
        Ok(())
    }

    /// How many Produce requests each ready connection may have unanswered at present.
    fn windows(&self) -> HashMap<u64, usize> {
        held(&self.engine).windows().collect()
    }

    /// The calls of the next resolved batch with callbacks, without waiting: empty if there is none.
    fn take_callbacks<'py>(&self, py: Python<'py>) -> PyResult<Calls<'py>> {
        CALLBACKS.calls_now(py, &self.shared)
    }

    /// Begin a flush: nothing lingers until `flushed` returns true. One at a time.
    fn begin_flush(&self) {
        *held(&self.flushed) = self.shared.begin_flush();
    }

    /// Whether all that `begin_flush` found is resolved; if so, the flush is over.
    fn flushed(&self) -> bool {
        let now = std::time::Instant::now();
        let done = held(&self.flushed).iter().all(|completion| completion.wait_all(Some(now)));
        if done {
            held(&self.flushed).clear();
            self.shared.hurry.end_flush();
        }
        done
    }

    /// Batches that wait for a codec worker.
    fn waiting_jobs(&self) -> usize {
        self.shared.encoding.codecs().map_or(0, Codecs::waiting)
    }

    /// Act as the codec worker that takes the batch at that place of the queue. False: there is none.
    fn encode(&self, at: usize) -> PyResult<bool> {
        let Some(codecs) = self.shared.encoding.codecs() else { return Ok(false) };
        let Some(job) = codecs.take(at) else { return Ok(false) };
        if let Some(encoder) = &mut *held(&self.encoder) {
            codecs.run(job, &*self.shared, encoder)?;
        }
        Ok(true)
    }

    /// Bytes of buffer.memory that are free.
    #[getter]
    fn available_memory(&self) -> usize {
        self.shared.pool.available()
    }

    /// Bytes of all batches: charged of buffer.memory, held before compression, and the most that one batch holds beyond
    /// its charge.
    #[getter]
    fn holdings(&self) -> (usize, usize, usize) {
        let found = self.shared.topics.holdings();
        (found.charged, found.held, found.uncharged)
    }

    /// How many callers wait for buffer.memory.
    #[getter]
    fn waiting_for_memory(&self) -> usize {
        self.shared.pool.waiting()
    }

    /// The end of the I/O thread and of the codec workers: unresolved records fail as closed.
    fn shut_down(&self) -> PyResult<()> {
        self.shared.refuse_sends();
        held(&self.engine).shut_down();
        while self.encode(0)? {}
        Ok(())
    }
}
