//! Control plane → data plane.

use std::net::IpAddr;

use super::trouble::Trouble;
use crate::lane::identity::Identity;
use crate::literal::literal;
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

literal! {
    /// The action of a [`Decision`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Action {
        /// [`Decision::Retry`]
        Retry = "retry",
        /// [`Decision::Fail`]
        Fail = "fail",
        /// [`Decision::Complete`]
        Complete = "complete",
        /// [`Decision::Split`]
        Split = "split",
    }
}

/// The decision about one batch of a lane that was handed over.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Send it again.
    Retry,
    /// Fail its records.
    Fail {
        /// Chooses the class of the error.
        kind: FailureKind,
        /// Kafka's code, or 0.
        code: i16,
        /// Human-readable.
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

/// A [`Decision`] and the batch that it is about.
#[derive(Clone, Debug)]
pub struct BatchDecision {
    /// As in the [`BatchReport`](super::BatchReport).
    pub batch_id: u64,
    /// With what belongs to it.
    pub action: Decision,
}

/// New numbers for the batches that remain in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renumber {
    /// Of the new identity.
    pub producer_id: i64,
    /// Of the new identity.
    pub epoch: i16,
    /// Of the first batch; the others follow without a gap.
    pub first_sequence: i32,
}

/// Control plane → data plane.
#[derive(Clone, Debug)]
pub enum Command {
    /// Open a connection.
    Connect {
        /// Never used twice.
        connection_id: u64,
        /// -1 for a bootstrap address.
        broker_id: i32,
        /// Resolved.
        ip: IpAddr,
        /// TCP port.
        port: u16,
        /// Until it must be up.
        setup_timeout_ms: u64,
    },
    /// Send an opaque request.
    SendFrame {
        /// On this connection.
        connection_id: u64,
        /// Of the frame.
        correlation_id: i32,
        /// Without its length.
        frame: Vec<u8>,
        /// The deadline of the answer.
        timeout_ms: u64,
    },
    /// The connection carries Produce from now on.
    Ready {
        /// Which.
        connection_id: u64,
        /// Produce's version.
        produce_version: i16,
    },
    /// Close it.
    Close {
        /// Which.
        connection_id: u64,
        /// Human-readable.
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
        /// The error.
        trouble: Trouble,
        /// Waiting is pointless.
        is_final: bool,
    },
    /// Drop an idle topic.
    ForgetTopic {
        /// Its name.
        name: String,
    },
    /// Why metadata cannot be had.
    SetStatus {
        /// None when all is well.
        trouble: Trouble,
    },
    /// Why a broker cannot be reached.
    SetBrokerStatus {
        /// Which.
        broker_id: i32,
        /// None when it can be.
        trouble: Trouble,
    },
    /// The identity to adopt.
    SetIdentity(Identity),
    /// Give a lane back.
    ResumeLane {
        /// Topic's name.
        topic: String,
        /// Partition's number.
        partition: i32,
        /// One for each batch that was handed over, in order.
        decisions: Vec<BatchDecision>,
        /// New numbers for what remains.
        renumber: Option<Renumber>,
        /// Backoff.
        delay_ms: u64,
    },
    /// Buffered records fail; later records are taken.
    FailBuffered {
        /// Chooses the class of the error.
        kind: FailureKind,
        /// The error.
        trouble: Trouble,
    },
    /// Fatal.
    FailProducer {
        /// Chooses the class of the error.
        kind: FailureKind,
        /// The error.
        trouble: Trouble,
    },
}
