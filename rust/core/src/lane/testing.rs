//! The common part of the tests of this folder.

use std::sync::Arc;

use crate::config::SendRules;
use crate::lane::Lane;
use crate::lane::batch::{LaneBatch, LastAnswer};
use crate::lane::identity::Identity;
use crate::outcome::Completion;
use crate::wire::record_batch::BatchBuilder;

pub(super) const RULES: SendRules = SendRules {
    idempotent: true,
    max_in_flight: 5,
    linger_us: 5_000,
    linger_bytes: 0,
    delivery_timeout_us: 120_000_000,
};
pub(super) const ME: Identity = Identity { producer_id: 9, epoch: 0 };

/// Led by broker 1.
pub(super) fn lane() -> Arc<Lane> {
    let lane = Lane::new(0, "t".into(), 0);
    lane.inner.lock().set_target(1, 0, [0; 16]);
    lane
}

pub(super) fn batch(id: u64, records: u32) -> LaneBatch {
    let mut builder = BatchBuilder::new(Vec::new(), 16_384);
    for _ in 0..records {
        builder.append(1, None, Some(b"v"), &[]);
    }
    LaneBatch::open(id, builder, Completion::new("t".into(), 0), 0, 100)
}

/// The connection of an attempt was lost.
pub(super) fn lost() -> LastAnswer {
    LastAnswer::lost(String::new())
}
