//! The sequence numbers of one lane, under the identity that it adopted.

use crate::lane::fate::TopicId;
use crate::lane::identity::{Identity, Numbering, advance_sequence, sequence_is_behind};

/// See the module.
#[derive(Debug)]
pub(super) struct Numbers {
    identity: Option<Identity>,
    /// The sequence of the next record to be numbered.
    next_sequence: i32,
    /// A first success under (identity, topic id, leader) has come.
    confirmed: bool,
    /// Topic id of the first batch under the identity.
    first_topic: Option<TopicId>,
    /// A later batch went to another topic id. Each log may then have a record under any number used since, so no number
    /// may be used for a second record.
    used_elsewhere: bool,
    /// The sequence of the last record acknowledged under the identity, -1 for none.
    last_acked_sequence: i32,
}

impl Numbers {
    pub(super) const fn new() -> Self {
        Self {
            identity: None,
            next_sequence: 0,
            confirmed: false,
            first_topic: None,
            used_elsewhere: false,
            last_acked_sequence: -1,
        }
    }

    pub(super) const fn identity(&self) -> Option<Identity> {
        self.identity
    }

    pub(super) const fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    pub(super) const fn used_elsewhere(&self) -> bool {
        self.used_elsewhere
    }

    pub(super) const fn last_acked_sequence(&self) -> i32 {
        self.last_acked_sequence
    }

    /// Number from `first_sequence` on, under `identity`.
    pub(super) fn start(&mut self, identity: Identity, first_sequence: i32) {
        if self.identity != Some(identity) {
            *self = Self { identity: Some(identity), ..Self::new() };
        }
        self.next_sequence = first_sequence;
    }

    /// Numbers for a batch of `count` records; `None` without an identity.
    pub(super) fn next(&mut self, count: u32) -> Numbering {
        let identity = self.identity?;
        let first = self.next_sequence;
        self.next_sequence = advance_sequence(first, count);
        Some((identity, first))
    }

    /// A numbered batch goes to this topic.
    pub(super) fn sent_to(&mut self, topic_id: TopicId) {
        self.used_elsewhere |= *self.first_topic.get_or_insert(topic_id) != topic_id;
    }

    /// The next batch goes to a broker, or to a log, that may have no state of this producer.
    pub(super) fn unconfirm(&mut self) {
        self.confirmed = false;
    }

    /// A batch of `count` records is in the log.
    pub(super) fn acknowledge(&mut self, numbering: Numbering, count: u32) {
        self.confirmed = true;
        if let Some((identity, first)) = numbering
            && Some(identity) == self.identity
        {
            // A batch that is sent again may be acknowledged after its successor: the number does not go back.
            let last = advance_sequence(first, count.wrapping_sub(1));
            if self.last_acked_sequence < 0 || sequence_is_behind(self.last_acked_sequence, last) {
                self.last_acked_sequence = last;
            }
        }
    }
}
