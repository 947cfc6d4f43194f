//! Compression as the rest of the data plane sees it: there, or not.

use std::sync::{Arc, Weak};

use crate::codecs::{CodecOwner, Codecs};
use crate::compression::Codec;
use crate::config::Config;
use crate::lane::batch::LaneBatch;
use crate::lane::{Lane, LaneInner};
use crate::wire::record_batch::BatchBuilder;

/// The codec workers, unless compression.type is none.
#[derive(Debug)]
pub struct BatchCodecs {
    codecs: Option<Codecs>,
}

impl BatchCodecs {
    /// As configured. No thread yet.
    pub(super) fn new(config: &Config) -> Self {
        let is_compressed = config.compression.codec != Codec::None;
        Self { codecs: is_compressed.then(|| Codecs::new(config.compression, config.batch_size)) }
    }

    /// Whether batches are compressed.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.codecs.is_some()
    }

    /// The workers.
    #[inline]
    pub fn codecs(&self) -> Option<&Codecs> {
        self.codecs.as_ref()
    }

    /// Start a worker unless there is one. Not under a lock: a thread takes its time to start.
    #[inline]
    pub(crate) fn ensure_started(&self, owner: &Weak<impl CodecOwner>) {
        if let Some(codecs) = &self.codecs {
            codecs.ensure_started(owner);
        }
    }

    /// An open batch for `topic` that has room for `limit` bytes, and is worth sending from `worth` bytes on.
    pub(crate) fn builder(&self, buffer: Vec<u8>, limit: usize, worth: usize, topic: &str) -> BatchBuilder {
        match &self.codecs {
            None => BatchBuilder::with_worth(buffer, limit, worth),
            Some(codecs) => BatchBuilder::compressed(buffer, limit, worth, codecs.ratios.estimate(topic)),
        }
    }

    /// Give a closed batch of `lane` to the workers, if it is open and to be compressed. Under the lane's lock.
    pub fn encode(&self, lane: &Arc<Lane>, batch: &mut LaneBatch) {
        if let Some(codecs) = &self.codecs {
            codecs.submit_batch(lane, batch);
        }
    }

    /// [`BatchCodecs::encode`] for the batch that goes next.
    pub fn encode_head(&self, lane: &Arc<Lane>, inner: &mut LaneInner) {
        if let Some(head) = inner.head() {
            self.encode(lane, head);
        }
    }

    /// [`BatchCodecs::encode`] for the last batch, which takes no more records, whatever is ahead of it.
    pub(crate) fn encode_last(&self, lane: &Arc<Lane>, inner: &mut LaneInner) {
        if self.is_on()
            && let Some(last) = inner.last_unsent()
        {
            self.encode(lane, last);
        }
    }
}
