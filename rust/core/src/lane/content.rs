//! The records of one batch, from the first append until their buffer is used again.
//!
//! | content | where the records are | leaves to |
//! |---|---|---|
//! | open | in a builder; records may be added | encoding (to be compressed): `begin_encoding`; else sealed: `seal` |
//! | encoding | with a codec worker; here is a stub with count and size | sealed: `encoded`; done: resolved before |
//! | sealed | in a body that sockets may share; each attempt has its own header | done: the batch is resolved |
//! | done | nowhere: the buffer has gone back, or does when the last socket or worker drops it | |
//!
//! Open or sealed leaves to open (`drop_front`), too: the first records of a batch that was never sent have failed.
//!
//! Where the batch is (waiting, in flight, settled) is not its content's business: `LaneInner` has a queue for each.
//! Only a sealed batch is in flight. A split (KIP-126) takes a sealed batch apart; its children begin as open, or as
//! sealed.

use std::sync::Arc;

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::wire::record_batch::{BatchBuilder, Body, Chunks, SealedBatch};

/// See the module.
#[derive(Debug, Default)]
pub(super) enum Content {
    Open(BatchBuilder),
    Encoding(Stub),
    Sealed(SealedBatch),
    #[default]
    Done,
}

/// Stands for the records while a codec worker has them.
#[derive(Debug)]
pub(super) struct Stub {
    count: u32,
    /// Uncompressed: no more is known yet.
    size: usize,
    ticket: Arc<Ticket>,
}

/// Shared by a lane and the codec worker that has the batch. Written under the lane's lock.
#[derive(Debug, Default)]
pub struct Ticket {
    abandoned: AtomicBool,
    owed: AtomicUsize,
}

impl Ticket {
    /// The batch is resolved: compressing it would be useless. Without the lane's lock, *false* may be out
    /// of date a moment later.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Bytes of buffer.memory that the worker releases in place of the lane.
    pub fn owed(&self) -> usize {
        self.owed.load(Ordering::Acquire)
    }
}

impl Content {
    pub(super) fn count(&self) -> u32 {
        match self {
            Self::Open(builder) => builder.count(),
            Self::Encoding(stub) => stub.count,
            Self::Sealed(sealed) => sealed.count(),
            Self::Done => 0,
        }
    }

    /// Bytes, header included.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Open(builder) => builder.size(),
            Self::Encoding(stub) => stub.size,
            Self::Sealed(sealed) => sealed.size(),
            Self::Done => 0,
        }
    }

    /// The same before compression.
    pub(super) fn uncompressed_size(&self) -> usize {
        match self {
            Self::Sealed(sealed) => sealed.uncompressed_size(),
            _ => self.size(),
        }
    }

    /// Open → open, and takes no more records.
    pub(super) fn close(&mut self) {
        if let Self::Open(builder) = self {
            builder.close();
        }
    }

    /// Open or sealed → open, without the first `count` records; it takes no more. Returns the memory, unless something
    /// else holds it.
    pub(super) fn drop_front(&mut self, count: u32) -> Option<Chunks> {
        let rest = match self {
            Self::Open(builder) => builder.without(count),
            Self::Sealed(sealed) => sealed.without(count).expect("what was compressed here can be decompressed"),
            Self::Encoding(_) | Self::Done => panic!("records are dropped that are not here (a bug in Penstock)"),
        };
        let chunks = self.take_chunks();
        *self = Self::Open(rest);
        chunks
    }

    /// Open → encoding. `None`, and no change, unless the records are open and to be compressed.
    pub(super) fn begin_encoding(&mut self) -> Option<(BatchBuilder, Arc<Ticket>)> {
        match std::mem::take(self) {
            Self::Open(builder) if builder.is_compressed() => {
                let ticket = Arc::new(Ticket::default());
                *self =
                    Self::Encoding(Stub { count: builder.count(), size: builder.size(), ticket: Arc::clone(&ticket) });
                Some((builder, ticket))
            }
            other => {
                *self = other;
                None
            }
        }
    }

    /// Encoding → sealed. False, and no change, in another state.
    pub(super) fn encoded(&mut self, sealed: SealedBatch) -> bool {
        let expected = matches!(self, Self::Encoding(_));
        if expected {
            *self = Self::Sealed(sealed);
        }
        expected
    }

    /// Open → sealed; sealed stays. Panics in another state: a lane sends only records that are here.
    pub(super) fn seal(&mut self) -> &SealedBatch {
        if matches!(self, Self::Open(_))
            && let Self::Open(builder) = std::mem::take(self)
        {
            *self = Self::Sealed(builder.seal());
        }
        match self {
            Self::Sealed(sealed) => sealed,
            _ => panic!("a batch is sealed whose records are not here (a bug in Penstock)"),
        }
    }

    /// The batch is resolved, which held `charged` bytes of buffer.memory. How many are to be released now: a worker
    /// that still reads the records releases them when it is done.
    pub(super) fn settle_memory(&self, charged: usize) -> usize {
        let Self::Encoding(stub) = self else { return charged };
        stub.ticket.owed.store(charged, Ordering::Release);
        stub.ticket.abandoned.store(true, Ordering::Release);
        0
    }

    /// → done. The memory of the records, unless something else holds it.
    pub(super) fn take_chunks(&mut self) -> Option<Chunks> {
        match std::mem::take(self) {
            // A socket's queue may hold the body.
            Self::Sealed(sealed) => Arc::try_unwrap(sealed.into_body()).ok().map(Body::into_chunks),
            Self::Open(builder) => Some(builder.into_chunks()),
            Self::Encoding(_) | Self::Done => None,
        }
    }
}
