//! Connections: set up, read, written, closed.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use super::Engine;
use crate::boundary::Event;
use crate::io::connection::{Connection, RequestKind, Stage};
use crate::io::frames::ReadEnd;
use crate::io::transport::Transport;

impl<T: Transport> Engine<T> {
    pub(super) fn connect(&mut self, id: u64, broker: i32, address: SocketAddr, now_us: u64, setup_timeout_us: u64) {
        let connection = Connection::new(id, broker, address, now_us, now_us.saturating_add(setup_timeout_us));
        match self.transport.connect(id, address) {
            Ok(()) => {
                self.connections.insert(id, connection);
            }
            Err(error) => {
                let requested = self.request_again(broker, false);
                self.shared.events.push(Event::ConnectionClosed {
                    connection_id: id,
                    reason: error.to_string(),
                    expected: false,
                    requested,
                    worked: false,
                });
            }
        }
    }

    pub(super) fn ready(&mut self, id: u64, produce_version: i16, now_us: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.stage = Stage::Ready;
        connection.produce_version = produce_version;
        let broker = self.brokers.entry(connection.broker).or_default();
        let full = self.shared.config.max_in_flight_requests;
        connection.open_window(if broker.probing { 1 } else { full }, full);
        broker.wanted = false;
        if let Some(older) = broker.connection.replace(id)
            && older != id
        {
            self.close(older, "replaced by a newer connection", true, now_us);
        }
    }

    /// A socket has an event.
    pub fn on_socket(&mut self, id: u64, readable: bool, writable: bool) {
        let now_us = self.shared.clock.now_us();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.stage == Stage::Connecting {
            match self.transport.connected(id) {
                Ok(false) => return,
                Ok(true) => {
                    connection.stage = Stage::Handshake;
                    connection.last_used_us = now_us;
                    let mut stats = self.shared.stats.lock();
                    stats.connections_created += 1;
                    stats.connections += 1;
                    drop(stats);
                    self.shared.events.push(Event::ConnectionOpened { connection_id: id });
                }
                Err(error) => return self.close(id, &error.to_string(), false, now_us),
            }
        }
        if writable && let Some(connection) = self.connections.get_mut(&id) {
            connection.unblock();
            if connection.wants_write() {
                self.writable.insert(id);
            }
        }
        if readable {
            self.read(id, now_us);
        }
    }

    fn read(&mut self, id: u64, now_us: u64) {
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            let end = connection.read(&mut self.transport, &mut self.scratch);
            loop {
                let Some(connection) = self.connections.get_mut(&id) else { return };
                match connection.next_frame() {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        if let Err(why) = self.on_frame(id, frame, now_us) {
                            return self.close(id, &why, false, now_us);
                        }
                    }
                    Err(why) => return self.close(id, &why, false, now_us),
                }
            }
            match end {
                Ok(ReadEnd::More) => {}
                Ok(ReadEnd::Empty) => return,
                Ok(ReadEnd::Closed) => return self.close(id, "the broker closed the connection", false, now_us),
                Err(error) => return self.close(id, &error.to_string(), false, now_us),
            }
        }
    }

    pub(super) fn write_all(&mut self, now_us: u64) {
        for id in std::mem::take(&mut self.writable) {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if connection.stage == Stage::Connecting {
                self.writable.insert(id);
                continue;
            }
            match connection.write(&mut self.transport, now_us) {
                Ok(bytes) => {
                    let broker = connection.broker;
                    self.shared.stats.lock().nodes.entry(broker).or_default().outgoing_bytes += bytes;
                    if self.shared.config.acks == 0 {
                        self.complete_unacknowledged(id, now_us);
                    }
                }
                Err(error) => {
                    // With acks=0 the requests that have left whole before the error are done.
                    if self.shared.config.acks == 0 {
                        self.complete_unacknowledged(id, now_us);
                    }
                    // Answers that have arrived before it say what became of their batches.
                    self.read(id, now_us);
                    self.close(id, &error.to_string(), false, now_us);
                }
            }
        }
    }

    /// `expected`: we close it, and nothing is wrong with the broker.
    pub(super) fn close(&mut self, id: u64, reason: &str, expected: bool, now_us: u64) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        self.transport.close(id);
        self.writable.remove(&id);
        let mut stats = self.shared.stats.lock();
        stats.in_flight -= connection.requests.len() as u64;
        if connection.stage != Stage::Connecting {
            stats.connections_closed += 1;
            stats.connections -= 1;
        }
        drop(stats);
        let mut carried = false;
        for request in std::mem::take(&mut connection.requests) {
            let fate = connection.fate(&request);
            if let RequestKind::Produce { batches, .. } = request.kind {
                carried = true;
                for sent in batches.iter().filter(|sent| !sent.answered) {
                    self.lose(sent, fate, reason, !expected, now_us);
                }
            }
        }
        if carried && !expected {
            self.brokers.entry(connection.broker).or_default().probing = true;
        }
        if let Some(broker) = self.brokers.get_mut(&connection.broker)
            && broker.connection == Some(id)
        {
            broker.connection = None;
            if broker.ready.is_empty() {
                // No lane waits for it any more. Whether it can be reached shows when one does.
                broker.health.stuck_since_us.store(0, Ordering::Relaxed);
            }
        }
        let requested = self.request_again(connection.broker, carried);
        let worked = connection.has_worked(self.shared.config.acks, now_us);
        self.shared.events.push(Event::ConnectionClosed {
            connection_id: id,
            reason: reason.to_owned(),
            expected,
            requested,
            worked,
        });
    }

    /// A connection to this broker ended. True: records wait for one. Then the next pass requests it again, since
    /// the one that ended may have been the control plane's own. `carried`: it had batches, which come back from the
    /// control plane in a moment, mostly to be sent again.
    fn request_again(&mut self, broker: i32, carried: bool) -> bool {
        let Some(broker) = self.brokers.get_mut(&broker) else { return false };
        broker.wanted = false;
        broker.connection.is_none() && (carried || !broker.ready.is_empty())
    }

    pub(super) fn expire_connections(&mut self, now_us: u64) {
        let idle_us = self.shared.config.max_idle_us;
        let mut closing: Vec<(u64, String, bool)> = Vec::new();
        for connection in self.connections.values() {
            let id = connection.id;
            if connection.stage == Stage::Connecting {
                if now_us >= connection.setup_deadline_us {
                    let reason = "the connection was not up in time (socket.connection.setup.timeout.ms)";
                    closing.push((id, reason.into(), false));
                }
            } else if !connection.requests.is_empty() {
                closing.extend(connection.timed_out(now_us).map(|reason| (id, reason, false)));
            } else if idle_us.is_some_and(|idle_us| now_us.saturating_sub(connection.last_used_us) >= idle_us) {
                closing.push((id, "idle (connections.max.idle.ms)".into(), true));
            }
        }
        for (id, reason, expected) in closing {
            self.close(id, &reason, expected, now_us);
        }
    }
}
