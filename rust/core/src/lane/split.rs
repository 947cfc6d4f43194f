//! A batch that the broker finds too large is split (KIP-126).

use std::sync::Arc;

use crate::lane::LaneInner;
use crate::lane::batch::LaneBatch;
use crate::lane::content::Content;
use crate::lane::identity::advance_sequence;
use crate::outcome::Completion;

impl LaneInner {
    /// Split the batches that were never sent and are larger than `accepted` bytes. How many there were.
    pub fn split_waiting(&mut self, accepted: usize, mut next_id: impl FnMut() -> u64) -> u64 {
        let is_large = |batch: &LaneBatch| {
            // What an open batch will compress to is not known.
            let is_known = !matches!(&batch.content, Content::Open(builder) if builder.is_compressed());
            let is_new = batch.attempts == 0 && batch.failed == 0;
            is_known && is_new && !batch.is_encoding() && batch.count() > 1 && batch.size() > accepted
        };
        if !self.queue.iter().any(is_large) {
            return 0;
        }
        let mut splits = 0;
        for batch in std::mem::take(&mut self.queue) {
            if !is_large(&batch) {
                self.queue.push_back(batch);
                continue;
            }
            let ratio = batch.ratio().unwrap_or(1.0);
            match batch.split((accepted as f64 / ratio) as usize, &mut next_id) {
                Ok(children) => {
                    splits += 1;
                    self.queue.extend(children);
                }
                Err(batch) => self.queue.push_back(*batch),
            }
        }
        splits
    }
}

impl LaneBatch {
    /// Split into children of at most `limit` bytes, counted before compression. The futures follow; creation time,
    /// attempts, fate and sequences are inherited, and the memory is shared out. An error: it cannot be split.
    ///
    /// Children that are to be compressed are open; [`LaneBatch::begin_encoding`] is the next step.
    pub fn split(mut self, limit: usize, mut next_id: impl FnMut() -> u64) -> Result<Vec<Self>, Box<Self>> {
        let pieces = match self.content.seal().split(limit) {
            Ok(pieces) if pieces.len() > 1 => pieces,
            _ => return Err(Box::new(self)),
        };
        let mut sequence = self.numbering;
        let mut charged = self.charged;
        let mut children = Vec::with_capacity(pieces.len());
        let mut completions = Vec::with_capacity(pieces.len());
        let last = pieces.len() - 1;
        for (position, (first, mut piece)) in pieces.into_iter().enumerate() {
            let completion = Completion::new(Arc::clone(&self.completion.topic), self.completion.partition);
            let share = if position == last { charged } else { charged.min(piece.size()) };
            charged -= share;
            let count = piece.count();
            // Its records are fixed.
            piece.close();
            let content = if piece.is_compressed() { Content::Open(piece) } else { Content::Sealed(piece.seal()) };
            let mut child = self.child(next_id(), content, Arc::clone(&completion), share);
            // Its first record, as the completion here counts: without those that have failed.
            let live = first.saturating_sub(self.failed);
            child.failed = self.failed.saturating_sub(first).min(count);
            child.expired |= child.failed == count;
            child.arrivals = self.arrivals.split_off(live);
            child.numbering = sequence;
            sequence = sequence.map(|(identity, base)| (identity, advance_sequence(base, count)));
            if !child.expired {
                completions.push((live, completion));
            }
            children.push(child);
        }
        if !self.expired {
            self.completion.resolve_split(completions);
        }
        Ok(children)
    }

    fn child(&self, id: u64, content: Content, completion: Arc<Completion>, charged: usize) -> Self {
        let mut child = Self::with(id, content, completion, self.created_us, charged);
        child.attempts = self.attempts;
        child.fate = self.fate;
        child.addressed = self.addressed.clone();
        child.broker = self.broker;
        child.expired = self.expired;
        child
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::identity::Identity;
    use crate::lane::testing::batch;
    use crate::outcome::Outcome;

    #[test]
    fn a_split_shares_out_records_sequences_and_memory() {
        let first_sequence = i32::MAX - 10;
        let mut parent = batch(1, 100);
        parent.numbering = Some((Identity { producer_id: 9, epoch: 0 }, first_sequence));
        parent.attempts = 1;
        let completion = Arc::clone(&parent.completion);
        let mut ids = 2..;
        let children = parent.split(300, || ids.next().unwrap()).unwrap();
        assert!(children.len() > 1);
        assert_eq!(children.iter().map(LaneBatch::count).sum::<u32>(), 100);
        assert_eq!(children.iter().map(|child| child.charged).sum::<usize>(), 100);
        assert_eq!(children[1].numbering.unwrap().1, advance_sequence(first_sequence, children[0].count()));
        assert!(matches!(completion.outcome(), Some(Outcome::Split(_))));
        assert!(batch(5, 1).split(10, || 6).is_err());
    }
}
