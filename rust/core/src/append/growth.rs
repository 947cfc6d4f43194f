//! How large an open batch may become while it cannot be sent.
//!
//! Java closes a batch at batch.size, so that at most five times batch.size are on the way to a partition, whatever the
//! distance. Here batch.size is the size that is worth sending at once. A batch that cannot leave (five requests are on
//! the way, or there is no connection) takes records up to a limit, the least of
//!
//! * penstock.batch.growth.max.bytes,
//! * the part of max.request.size that a lane gets if all ready lanes of its broker are to be in one request,
//! * a fifth of what the broker acknowledged in the last second, so that five requests on a slow link take a second,
//! * what the topic accepts, once a batch was refused as too large;
//!
//! but never less than batch.size, unless the topic accepts less.

use crate::config::{Allocation, Config};
use crate::shared::Shared;
use crate::topic::Topic;
use crate::wire::record_batch::BATCH_HEADER_LEN;

/// A batch grows by this many bytes at a time.
pub(super) const CHUNK: usize = 16 * 1024;

/// Of an open batch; bytes on the wire, header included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// From this size on it need not linger.
    pub worth: usize,
    /// It becomes no larger.
    pub limit: usize,
}

impl Config {
    /// Whether batches may grow beyond batch.size.
    #[inline]
    pub fn grows(&self) -> bool {
        self.growth_max_bytes > 0 && self.batch_size > 0
    }

    /// Bytes that a new batch is charged for, if its first record takes no more.
    fn first_chunk(&self, worth: usize) -> usize {
        match self.allocation {
            Allocation::Full => worth,
            Allocation::Incremental => worth.min(CHUNK),
        }
    }

    /// The sizes of buffers that are used again: of the first chunk of a batch, and of the others.
    pub fn chunk_sizes(&self) -> [usize; 2] {
        [self.first_chunk(self.batch_size).max(BATCH_HEADER_LEN), CHUNK]
    }
}

impl Shared {
    pub(super) fn sizes(&self, topic: &Topic, partition: u32) -> Sizes {
        let config = &self.config;
        if !config.grows() {
            return Sizes { worth: config.batch_size, limit: config.batch_size };
        }
        let accepted = topic.state.accepted_bytes();
        let worth = config.batch_size.min(accepted);
        let health = &topic.leaders[partition as usize].health;
        let share = config.max_request_size / health.ready_lanes().max(1);
        let limit = config.growth_max_bytes.min(share).min(health.fifth_of_a_second()).min(accepted);
        Sizes { worth, limit: limit.max(worth) }
    }

    /// Bytes to be charged for a new batch whose first record takes at most `bound`.
    pub(super) fn first_charge(&self, sizes: Sizes, bound: usize) -> usize {
        self.config.first_chunk(sizes.worth).max(bound + BATCH_HEADER_LEN)
    }
}
