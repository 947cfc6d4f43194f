//! The I/O thread's work, one [`Engine::run_once`] after another: commands, timers, requests, answers, deadlines.
//!
//! It owns the connections and everything in flight. It never waits: time comes from [`Shared::now_us`], bytes go
//! through [`Transport`], so that the whole engine can be stepped by hand with a manual clock and sockets in memory.
//!
//! | file | what it does |
//! |---|---|
//! | `commands.rs` | applies the control plane's commands |
//! | `topics.rs` | topic snapshots: lanes, leaders, retired topics |
//! | `decisions.rs` | lanes that the control plane returns |
//! | `scheduling.rs` | which lane sends next, to which broker, in which request |
//! | `requests.rs` | batches become a Produce request |
//! | `connections.rs` | sockets: connect, read, write, close |
//! | `answers.rs` | frames become answers, answers change lanes |
//! | `reports.rs` | lanes that are handed over to the control plane |
//! | `pace.rs` | bytes that a broker acknowledged in the last second |
//! | `expiry.rs` | the tick; records that fail while their lanes go on |
//! | `shutdown.rs` | the end of the producer |

mod answers;
mod commands;
mod connections;
mod decisions;
mod expiry;
mod pace;
mod reports;
mod requests;
mod scheduling;
mod shutdown;
mod topics;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::pace::Pace;
use crate::boundary::{LaneReport, Trouble};
use crate::io::connection::{Connection, Stage};
use crate::io::transport::Transport;
use crate::lane::identity::Identity;
use crate::lane::sending::Outgoing;
use crate::lane::{Lane, LaneId, TICK_US};
use crate::shared::Shared;
use crate::topic::BrokerHealth;
use crate::wire::produce::NodeEndpoint;

/// From which Produce version on topics go by id.
const TOPIC_IDS_SINCE: i16 = 13;

/// Lanes that are to be checked at a time (µs), the earliest first.
type Timers = BinaryHeap<Reverse<(u64, LaneId)>>;

/// A broker, as the leader of lanes.
#[derive(Debug, Default)]
struct Broker {
    /// The connection that carries Produce.
    connection: Option<u64>,
    /// Lanes that can send, the next one first.
    ready: VecDeque<Arc<Lane>>,
    /// A connection was requested from the control plane.
    wanted: bool,
    /// Its connection was lost with Produce in flight, and none was answered since: the next one begins with one request.
    probing: bool,
    /// Why it cannot be reached, as the control plane reports it.
    trouble: Trouble,
    health: Arc<BrokerHealth>,
    pace: Pace,
}

/// See the module. Collections that are iterated over have an order: a run that is stepped by hand can be repeated.
#[derive(Debug)]
pub struct Engine<T> {
    shared: Arc<Shared>,
    transport: T,
    connections: BTreeMap<u64, Connection>,
    brokers: BTreeMap<i32, Broker>,
    /// All lanes, by id; they are never removed.
    lanes: Vec<Arc<Lane>>,
    /// Lanes of topics that are forgotten: their sequences go on if the topic comes back.
    retired: HashMap<Arc<str>, Vec<Arc<Lane>>>,
    timers: Timers,
    /// Ready, but without a leader.
    leaderless: Vec<Arc<Lane>>,
    /// Topic versions for which a leader was requested from the control plane.
    leader_wanted: HashMap<Arc<str>, u64>,
    identity: Option<Identity>,
    /// Requests put together so far.
    request: u64,
    /// Connections with something to write.
    writable: BTreeSet<u64>,
    next_tick_us: u64,
    /// When the last pass meant the next one to be.
    planned_us: u64,
    /// A lane became ready after this pass had sent: the next pass is due at once.
    again: bool,
    // The report of this pass to the control plane.
    handed_over: Vec<LaneReport>,
    endpoints: Vec<NodeEndpoint>,
    scratch: Box<[u8]>,
    failed: bool,
}

/// One batch of a request that is being put together.
struct Picked {
    lane: Arc<Lane>,
    outgoing: Outgoing,
}

impl<T: Transport> Engine<T> {
    /// An engine with nothing to do.
    pub fn new(shared: Arc<Shared>, transport: T) -> Self {
        Self {
            shared,
            transport,
            connections: BTreeMap::new(),
            brokers: BTreeMap::new(),
            lanes: Vec::new(),
            retired: HashMap::new(),
            timers: BinaryHeap::new(),
            leaderless: Vec::new(),
            leader_wanted: HashMap::new(),
            identity: None,
            request: 0,
            writable: BTreeSet::new(),
            next_tick_us: 0,
            planned_us: u64::MAX,
            again: false,
            handed_over: Vec::new(),
            endpoints: Vec::new(),
            scratch: vec![0; 64 * 1024].into_boxed_slice(),
            failed: false,
        }
    }

    /// The transport: tests and the simulation step the engine by hand.
    pub fn transport(&mut self) -> &mut T {
        &mut self.transport
    }

    /// How many Produce requests each ready connection may have unanswered at present: for the simulation.
    pub fn windows(&self) -> impl Iterator<Item = (u64, usize)> {
        let ready = self.connections.values().filter(|connection| connection.stage == Stage::Ready);
        ready.map(|connection| (connection.id, connection.window))
    }

    /// One pass (Java: `Sender.runOnce`). Returns when the next one is due (µs); `u64::MAX`: at the next wake-up.
    pub fn run_once(&mut self) -> u64 {
        let now_us = self.shared.clock.now_us();
        let inbox = self.shared.mailbox.take();
        for command in inbox.commands {
            self.apply(command, now_us);
        }
        for lane in inbox.ready {
            self.route(&lane);
        }
        for (at_us, lane) in inbox.timers {
            self.timers.push(Reverse((at_us, lane.id)));
        }
        if inbox.sweep {
            self.reconsider_all(now_us);
        }
        self.run_timers(now_us);
        if now_us >= self.next_tick_us {
            self.tick(now_us);
        }
        self.ask_for_leaders();
        let brokers: Vec<i32> =
            self.brokers.iter().filter(|(_, broker)| !broker.ready.is_empty()).map(|(id, _)| *id).collect();
        for broker in brokers {
            self.drain(broker, now_us);
        }
        self.write_all(now_us);
        self.shared.relax();
        self.report();
        self.planned_us = if std::mem::take(&mut self.again) { now_us } else { self.next_wakeup(now_us) };
        self.planned_us
    }

    fn next_wakeup(&self, now_us: u64) -> u64 {
        let mut at_us = self.timers.peek().map_or(u64::MAX, |Reverse((at_us, _))| *at_us);
        let busy = self.connections.values().any(|connection| {
            !connection.requests.is_empty()
                || connection.stage == Stage::Connecting
                || (connection.throttled_until_us > now_us && connection.stage == Stage::Ready)
        });
        let buffered = self.shared.pool.available() < self.shared.config.buffer_memory;
        if busy || buffered {
            at_us = at_us.min(self.next_tick_us);
        } else if let Some(idle_us) = self.shared.config.max_idle_us {
            let oldest = self.connections.values().map(|connection| connection.last_used_us).min();
            at_us = at_us.min(oldest.map_or(u64::MAX, |used_us| used_us.saturating_add(idle_us).max(now_us + TICK_US)));
        }
        for connection in self.connections.values() {
            if connection.throttled_until_us > now_us {
                at_us = at_us.min(connection.throttled_until_us);
            }
        }
        at_us
    }

    /// For the io metrics: one wait for sockets, and the work before it.
    pub fn count_select(&mut self, waited: Duration, worked: Duration) {
        let mut stats = self.shared.stats.lock();
        stats.selects += 1;
        stats.io_wait_ns += waited.as_nanos() as u64;
        stats.io_ns += worked.as_nanos() as u64;
    }
}
