//! Encoded records in the pieces of memory into which they were written.
//!
//! A batch that cannot be sent yet grows a piece at a time. One buffer that is enlarged would be copied again and again,
//! and could not be used for the next batch. A record is always whole in one piece.

use std::borrow::Cow;

/// See the module.
#[derive(Debug, Default)]
pub struct Chunks {
    /// Take no more records, in order.
    closed: Vec<Vec<u8>>,
    /// Bytes in those.
    closed_len: usize,
    /// Records are written here.
    last: Vec<u8>,
}

impl Chunks {
    /// One piece, its content kept.
    pub fn one(piece: Vec<u8>) -> Self {
        Self { closed: Vec::new(), closed_len: 0, last: piece }
    }

    /// The piece that is written to.
    #[inline]
    pub(super) fn last(&mut self) -> &mut Vec<u8> {
        &mut self.last
    }

    /// Bytes in it.
    #[inline]
    pub(super) fn last_len(&self) -> usize {
        self.last.len()
    }

    /// Bytes in the pieces before it.
    #[inline]
    pub(super) fn closed_len(&self) -> usize {
        self.closed_len
    }

    /// Write to `buffer`, emptied, from here on.
    pub(super) fn push(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        let before = std::mem::replace(&mut self.last, buffer);
        self.closed_len += before.len();
        self.closed.push(before);
    }

    /// Bytes in all pieces.
    #[inline]
    pub fn len(&self) -> usize {
        self.closed_len + self.last.len()
    }

    /// No record yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many pieces.
    pub fn count(&self) -> usize {
        self.closed.len() + 1
    }

    /// Piece `at`.
    pub fn piece(&self, at: usize) -> &[u8] {
        self.closed.get(at).unwrap_or(&self.last)
    }

    /// The pieces, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        (0..self.count()).map(|at| self.piece(at))
    }

    /// All bytes in one slice: copied if there are several pieces.
    pub fn joined(&self) -> Cow<'_, [u8]> {
        if self.closed.is_empty() {
            return Cow::Borrowed(&self.last);
        }
        let mut all = Vec::with_capacity(self.len());
        self.iter().for_each(|piece| all.extend_from_slice(piece));
        Cow::Owned(all)
    }

    /// The memory, for other batches.
    pub fn into_buffers(self) -> impl Iterator<Item = Vec<u8>> {
        self.closed.into_iter().chain([self.last])
    }
}
