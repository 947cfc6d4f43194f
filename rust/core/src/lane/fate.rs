//! The fate of a batch: whether it may have been appended, and in which topic of that name.

use crate::error_code::{
    CONTROLLER_ID_NOT_REGISTERED, KAFKA_STORAGE_ERROR, NETWORK_EXCEPTION, NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT, UNKNOWN_SERVER_ERROR, UNKNOWN_TOPIC_OR_PARTITION,
};
use crate::lane::identity::Numbering;
use crate::literal::literal;

literal! {
    /// Whether a batch may have been appended, over all its attempts. Ordered: the worst counts.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Fate {
        /// No byte left.
        Unsent = "unsent",
        /// A part of the frame left: no broker can have read it whole.
        PartlyWritten = "partly written",
        /// A broker answered that it did not append.
        Rejected = "rejected",
        /// The answer is lost, or leaves it open whether the batch was appended.
        Unknown = "unknown",
    }
}

impl Fate {
    /// The fate after an answer with this error code; `base_offset` as the answer has it, or -1.
    ///
    /// `control/error_table.py` has the same for each code; `tests/unit/test_error_codes.py` compares the two.
    ///
    /// The list is closed, because a broker decides all other errors before it appends. The offset alone proves
    /// nothing: some brokers that are not Kafka's leave it at 0 beside an error.
    pub const fn of_answer(code: i16, base_offset: i64) -> Self {
        match code {
            // The append may have happened. A storage error may strike between the write and the answer.
            UNKNOWN_SERVER_ERROR
            | REQUEST_TIMED_OUT
            | NETWORK_EXCEPTION
            | NOT_ENOUGH_REPLICAS_AFTER_APPEND
            | KAFKA_STORAGE_ERROR => Self::Unknown,
            // These come before the append or after it. A leader that loses the partition, or is deposed, while it
            // waits for its followers puts the error into the answer that it had ready (`DelayedProduce`). The answer
            // then has the offset of the append, and the next leader may have the batch.
            UNKNOWN_TOPIC_OR_PARTITION | NOT_LEADER_OR_FOLLOWER if base_offset >= 0 => Self::Unknown,
            1..=CONTROLLER_ID_NOT_REGISTERED => Self::Rejected,
            // The meaning of a code that Kafka 4.4 does not have cannot be known.
            _ => Self::Unknown,
        }
    }
}

/// A topic's id.
pub type TopicId = [u8; 16];

/// In place of an id where the metadata came from a broker without topic ids.
pub const NO_TOPIC_ID: TopicId = [0; 16];

/// The topics of one name that a batch was sent to.
///
/// A topic that is deleted and created again has another id and an empty log: a record in the old topic's log cannot be in
/// the new one's. So a batch's fate belongs to a topic id, and starts again under another one.
#[derive(Clone, Debug, Default)]
pub struct Addressed {
    /// The topic of the last attempt: the fate is about this one.
    topic_id: TopicId,
    /// The answer to an attempt by the topic's name (Produce before version 13) is lost. The request may still arrive,
    /// in the topic that has the name by then. So the fate stays.
    by_name: bool,
    /// Earlier ids under which the fate is unknown, with the numbers used there. Metadata may go back to one: a broker
    /// with an old view, or a cluster that takes over for a while.
    former: Vec<(TopicId, Numbering)>,
}

impl Addressed {
    /// The next attempt goes to this topic.
    pub fn attempt(&mut self, topic_id: TopicId) {
        self.topic_id = topic_id;
    }

    /// An attempt of unknown fate did not carry the topic's id.
    pub fn went_by_name(&mut self) {
        self.by_name = true;
    }

    /// Whether it may be in the log of a topic that had the name before.
    pub fn may_be_elsewhere(&self) -> bool {
        !self.former.is_empty()
    }

    /// The name stands for `topic_id` now. Returns the batch's fate there. `None`: it was sent there under other
    /// numbers and may be in the log, so a second send could store it twice.
    pub fn enter(&mut self, topic_id: TopicId, fate: Fate, numbering: Numbering) -> Option<Fate> {
        if self.topic_id == topic_id || self.by_name {
            return Some(fate);
        }
        let left = std::mem::replace(&mut self.topic_id, topic_id);
        if fate == Fate::Unknown {
            self.former.push((left, numbering));
        }
        let Some(at) = self.former.iter().position(|(id, _)| *id == topic_id) else {
            return Some(Fate::Unsent);
        };
        let (_, then) = self.former.swap_remove(at);
        (then == numbering).then_some(Fate::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::lane::identity::Identity;

    const OLD: TopicId = [1; 16];
    const NEW: TopicId = [2; 16];
    const NUMBERS: Numbering = Some((Identity { producer_id: 9, epoch: 0 }, 5));

    fn sent_to_old() -> Addressed {
        let mut addressed = Addressed::default();
        addressed.attempt(OLD);
        addressed
    }

    #[test]
    fn only_a_closed_list_of_errors_follows_an_append() {
        let open =
            |offset| (-1..=140).filter(|&code| code != 0 && Fate::of_answer(code, offset) == Fate::Unknown).collect();
        let without: Vec<i16> = open(-1);
        assert_eq!(without, [-1, 7, 13, 20, 56, 137, 138, 139, 140]);
        let with: Vec<i16> = open(0);
        assert_eq!(with, [-1, 3, 6, 7, 13, 20, 56, 137, 138, 139, 140]);
        assert_eq!(open(35), with);
        assert_eq!(Fate::of_answer(9_999, -1), Fate::Unknown);
    }

    #[test]
    fn a_fate_starts_again_under_a_new_topic_id() {
        let mut addressed = sent_to_old();
        assert_eq!(addressed.enter(OLD, Fate::Unknown, NUMBERS), Some(Fate::Unknown), "the same topic");
        assert_eq!(addressed.enter(NEW, Fate::Unknown, NUMBERS), Some(Fate::Unsent));
        assert!(addressed.may_be_elsewhere());
        let mut refused = sent_to_old();
        assert_eq!(refused.enter(NEW, Fate::Rejected, NUMBERS), Some(Fate::Unsent));
        assert!(!refused.may_be_elsewhere());
    }

    #[test]
    fn under_an_old_id_an_unknown_fate_is_unknown_again() {
        let mut addressed = sent_to_old();
        addressed.enter(NEW, Fate::Unknown, NUMBERS);
        assert_eq!(addressed.enter(OLD, Fate::Rejected, NUMBERS), Some(Fate::Unknown));
        assert!(!addressed.may_be_elsewhere());
        addressed.enter(NEW, Fate::Unknown, NUMBERS);
        let renumbered = Some((Identity { producer_id: 9, epoch: 1 }, 0));
        assert_eq!(addressed.enter(OLD, Fate::Unsent, renumbered), None, "it could be stored twice");
    }

    #[test]
    fn a_batch_that_went_by_name_may_arrive_in_any_topic_of_that_name() {
        let mut addressed = sent_to_old();
        addressed.went_by_name();
        assert_eq!(addressed.enter(NEW, Fate::Unknown, NUMBERS), Some(Fate::Unknown));
    }
}
