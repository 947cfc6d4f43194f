//! Data plane → control plane.

use crate::lane::fate::Fate;
use crate::wire::produce::NodeEndpoint;

/// One batch in a [`LaneReport`]. The Python table has the meaning of each field.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct BatchReport {
    pub batch_id: u64,
    pub base_sequence: i32,
    pub record_count: u32,
    pub attempts: u32,
    pub fate: Fate,
    pub error_code: i16,
    pub error_message: String,
    pub lost: bool,
    pub expired: bool,
    pub base_offset: i64,
    pub current_leader: i32,
    pub current_leader_epoch: i32,
}

/// A lane handed over. The Python table has the meaning of each field.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct LaneReport {
    pub topic: String,
    pub topic_id: [u8; 16],
    pub partition: i32,
    pub leader: i32,
    pub leader_epoch: i32,
    pub producer_id: i64,
    pub epoch: i16,
    pub last_acked_sequence: i32,
    pub log_start_offset: i64,
    pub failures: u32,
    pub numbers_used_elsewhere: bool,
    pub batches: Vec<BatchReport>,
}

/// Data plane → control plane.
#[derive(Clone, Debug)]
pub enum Event {
    /// TCP is up.
    ConnectionOpened {
        /// Which.
        connection_id: u64,
    },
    /// A connection ended.
    ConnectionClosed {
        /// Which.
        connection_id: u64,
        /// Human-readable.
        reason: String,
        /// We closed it.
        expected: bool,
        /// Records wait for this broker.
        requested: bool,
        /// A Produce request was answered on it.
        worked: bool,
    },
    /// An answer to an opaque request.
    FrameReceived {
        /// On which connection.
        connection_id: u64,
        /// Of the request.
        correlation_id: i32,
        /// Without its length.
        frame: Vec<u8>,
    },
    /// Records are ready for a broker without a connection.
    ConnectionWanted {
        /// Which broker.
        broker_id: i32,
    },
    /// A call waits for a topic, or for a partition of it.
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
        /// KIP-951.
        endpoints: Vec<NodeEndpoint>,
    },
    /// The I/O thread died.
    EngineFailed {
        /// How.
        message: String,
    },
}
