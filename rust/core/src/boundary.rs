//! What crosses between the control plane and the data plane, in the data plane's types.
//!
//! The table with the meaning of every field is `src/penstock/control/boundary.py`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex};

use crate::lane::fate::Fate;
use crate::lane::identity::Identity;
use crate::outcome::FailureKind;

/// One partition in a topic snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionLeader {
    /// -1: none known.
    pub leader: i32,
    /// -1: unknown.
    pub leader_epoch: i32,
    /// Its leader is in client.rack.
    pub local: bool,
}

/// What becomes of one batch of a lane that was handed over.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Send it again.
    Retry,
    /// Fail its records.
    Fail {
        /// Which way.
        kind: FailureKind,
        /// Kafka's code, or 0.
        code: i16,
        /// For people.
        message: String,
    },
    /// It is in the log.
    Complete {
        /// -1 if it cannot be known.
        base_offset: i64,
    },
    /// KIP-126.
    Split,
}

/// Control plane → data plane.
#[derive(Clone, Debug)]
pub enum Command {
    /// Open a connection.
    Connect {
        /// Never used twice.
        connection: u64,
        /// -1 for a bootstrap address.
        broker: i32,
        /// Resolved.
        address: SocketAddr,
        /// Until it must be up.
        setup_timeout_us: u64,
    },
    /// Send an opaque request.
    SendFrame {
        /// On this connection.
        connection: u64,
        /// Of the frame.
        correlation_id: i32,
        /// Without its length.
        frame: Vec<u8>,
        /// Until the answer must be there.
        timeout_us: u64,
    },
    /// The connection carries Produce from now on.
    Ready {
        /// Which.
        connection: u64,
        /// Produce's version.
        produce_version: i16,
    },
    /// Close it.
    Close {
        /// Which.
        connection: u64,
        /// For people.
        reason: String,
    },
    /// A topic snapshot.
    SetTopic {
        /// Its name.
        name: String,
        /// Zeros if the broker has none.
        topic_id: [u8; 16],
        /// Only grows.
        version: u64,
        /// By partition number.
        partitions: Vec<PartitionLeader>,
    },
    /// The last metadata answer about a topic was an error.
    FailTopic {
        /// Its name.
        name: String,
        /// Kafka's code.
        code: i16,
        /// For people.
        message: String,
        /// Waiting is pointless.
        last_word: bool,
    },
    /// Drop an idle topic.
    ForgetTopic {
        /// Its name.
        name: String,
    },
    /// Why metadata cannot be had.
    SetStatus {
        /// For people; empty when all is well.
        message: String,
    },
    /// Why a broker cannot be reached.
    SetBrokerStatus {
        /// Which.
        broker: i32,
        /// For people; empty when it can be.
        message: String,
    },
    /// The identity to adopt.
    SetIdentity(Identity),
    /// Give a lane back.
    ResumeLane {
        /// Topic's name.
        topic: String,
        /// Partition's number.
        partition: i32,
        /// One for each batch that was handed over, in order: (batch id, decision).
        decisions: Vec<(u64, Decision)>,
        /// New numbers for what remains.
        renumber: Option<(Identity, i32)>,
        /// Backoff.
        delay_us: u64,
    },
    /// What is buffered fails; later records are taken.
    FailBuffered {
        /// Kafka's code.
        code: i16,
        /// For people.
        message: String,
    },
    /// Fatal.
    FailProducer {
        /// Kafka's code.
        code: i16,
        /// For people.
        message: String,
    },
}

/// One batch in a [`LaneReport`].
#[derive(Clone, Debug)]
pub struct BatchReport {
    /// See the Python table for these.
    pub batch_id: u64,
    #[allow(missing_docs)]
    pub base_sequence: i32,
    #[allow(missing_docs)]
    pub record_count: u32,
    #[allow(missing_docs)]
    pub size: usize,
    #[allow(missing_docs)]
    pub attempts: u32,
    #[allow(missing_docs)]
    pub fate: Fate,
    #[allow(missing_docs)]
    pub error_code: i16,
    #[allow(missing_docs)]
    pub error_message: String,
    #[allow(missing_docs)]
    pub age_ms: i64,
    #[allow(missing_docs)]
    pub remaining_ms: i64,
    #[allow(missing_docs)]
    pub expired: bool,
    #[allow(missing_docs)]
    pub base_offset: i64,
    #[allow(missing_docs)]
    pub current_leader: (i32, i32),
}

/// A lane handed over.
#[derive(Clone, Debug)]
pub struct LaneReport {
    /// See the Python table for these.
    pub topic: String,
    #[allow(missing_docs)]
    pub topic_id: [u8; 16],
    #[allow(missing_docs)]
    pub partition: i32,
    #[allow(missing_docs)]
    pub leader: (i32, i32),
    #[allow(missing_docs)]
    pub identity: Option<Identity>,
    #[allow(missing_docs)]
    pub last_acked_sequence: i32,
    #[allow(missing_docs)]
    pub last_acked_offset: i64,
    #[allow(missing_docs)]
    pub log_start_offset: i64,
    #[allow(missing_docs)]
    pub failures: u32,
    #[allow(missing_docs)]
    pub numbers_used_elsewhere: bool,
    #[allow(missing_docs)]
    pub batches: Vec<BatchReport>,
}

/// How far a connection had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// TCP is being set up.
    Connecting,
    /// Before `Ready`.
    Handshake,
    /// Carries Produce.
    Ready,
}

impl Stage {
    /// The word used on the boundary.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Handshake => "handshake",
            Self::Ready => "ready",
        }
    }
}

/// Data plane → control plane.
#[derive(Clone, Debug)]
pub enum Event {
    /// TCP is up.
    ConnectionOpened {
        /// Which.
        connection: u64,
        /// Whose.
        broker: i32,
    },
    /// A connection ended.
    ConnectionClosed {
        /// Which.
        connection: u64,
        /// Whose.
        broker: i32,
        /// How far it had come.
        stage: Stage,
        /// For people.
        reason: String,
        /// We closed it.
        expected: bool,
        /// Records wait for this broker.
        requested: bool,
    },
    /// An answer to an opaque request.
    FrameReceived {
        /// On which connection.
        connection: u64,
        /// Of the request.
        correlation_id: i32,
        /// Without its length.
        frame: Vec<u8>,
    },
    /// Records are ready for a broker without a connection.
    ConnectionWanted {
        /// Which broker.
        broker: i32,
    },
    /// Somebody waits for a topic, or for a partition of it.
    TopicWanted {
        /// Its name.
        name: String,
        /// -1: any.
        partition: i32,
    },
    /// Records are ready for partitions without a leader.
    LeaderWanted {
        /// Which topics.
        topics: Vec<String>,
    },
    /// Lanes settled.
    LanesHandedOver {
        /// Which.
        lanes: Vec<LaneReport>,
        /// KIP-951: (broker, host, port, rack).
        endpoints: Vec<(i32, String, i32, Option<String>)>,
    },
    /// The I/O thread died.
    EngineFailed {
        /// How.
        message: String,
    },
}

/// Events on their way to the control thread.
#[derive(Debug, Default)]
pub struct EventQueue {
    state: Mutex<EventState>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct EventState {
    events: VecDeque<Event>,
    woken: bool,
}

impl EventQueue {
    /// Append one.
    pub fn push(&self, event: Event) {
        self.state.lock().events.push_back(event);
        self.arrived.notify_one();
    }

    /// End the present or next wait of the control thread.
    pub fn wake(&self) {
        self.state.lock().woken = true;
        self.arrived.notify_one();
    }

    /// All events, waiting for a first one up to `timeout` (`None`: for ever).
    pub fn take(&self, timeout: Option<Duration>) -> VecDeque<Event> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.state.lock();
        self.arrived.wait_while(&mut state, deadline, |state| state.events.is_empty() && !state.woken);
        state.woken = false;
        std::mem::take(&mut state.events)
    }
}
