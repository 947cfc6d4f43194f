//! The states of a lane and what changes them: one table.
//!
//! | state | what happens in it |
//! |---|---|
//! | flowing | batches are sent and acknowledged (also: nothing is buffered, or there is no identity yet) |
//! | settling | nothing is sent; the answers that are still due arrive, or their connection ends |
//! | handed over | the control plane decides; only deadlines and the end of the producer act on the lane |
//! | waiting | backoff after a decision |
//! | retired | the topic is forgotten; the lane is empty and takes no records until the topic is known again |
//! | closed | the producer has ended; every record has been failed; final |
//!
//! Rules that the table keeps:
//! * Only a flowing lane sends, or a waiting one after its backoff.
//! * After trouble nothing is sent until the lane has settled: every answer is in, or its connection has ended.
//! * The control plane gets a lane only after it has settled, and only its decision makes the lane send again.
//! * A retired lane opens again; a closed one never does.
//!
//! A pair of state and event that the table does not list is a bug in the engine. It panics, in every build: the I/O
//! thread then fails each record and the producer, so that no record is lost or numbered wrongly without notice.

/// Where a lane is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// Batches are sent as they become ready.
    Flowing,
    /// Nothing is sent; answers that are still due arrive.
    Settling,
    /// The control plane decides.
    HandedOver,
    /// Backoff.
    Waiting,
    /// The topic is forgotten. (This state and the next take no records, see [`LaneState::takes_records`].)
    Retired,
    /// The producer has ended.
    Closed,
}

/// An event of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneEvent {
    /// A batch was taken for sending.
    Sent,
    /// An answer other than plain success, a lost connection, or an expiry after the first attempt.
    Trouble,
    /// Nothing is in flight, and something is to be decided.
    Settled,
    /// Nothing is in flight, and nothing is to be decided.
    NothingToDecide,
    /// The control plane has decided.
    Resumed,
    /// A newer leader epoch, or another topic of the same name.
    LeaderChanged,
    /// The topic is forgotten; the lane is empty.
    TopicForgotten,
    /// The topic is known again.
    TopicKnown,
    /// The producer has ended.
    ProducerClosed,
}

use LaneEvent::{
    LeaderChanged, NothingToDecide, ProducerClosed, Resumed, Sent, Settled, TopicForgotten, TopicKnown, Trouble,
};
use LaneState::{Closed, Flowing, HandedOver, Retired, Settling, Waiting};

/// Every legal change: (state, event, next state).
const TRANSITIONS: &[(LaneState, LaneEvent, LaneState)] = &[
    (Flowing, Sent, Flowing),
    (Flowing, Trouble, Settling),
    (Flowing, LeaderChanged, Flowing),
    (Flowing, TopicForgotten, Retired),
    (Flowing, ProducerClosed, Closed),
    (Settling, Trouble, Settling),
    (Settling, Settled, HandedOver),
    (Settling, NothingToDecide, Flowing),
    (Settling, LeaderChanged, Settling),
    (Settling, ProducerClosed, Closed),
    (HandedOver, Trouble, HandedOver),
    (HandedOver, Resumed, Waiting),
    (HandedOver, LeaderChanged, HandedOver),
    (HandedOver, ProducerClosed, Closed),
    (Waiting, Sent, Flowing),
    (Waiting, Trouble, Settling),
    // A new leader needs no backoff.
    (Waiting, LeaderChanged, Flowing),
    (Waiting, TopicForgotten, Retired),
    (Waiting, ProducerClosed, Closed),
    (Retired, TopicKnown, Flowing),
    (Retired, ProducerClosed, Closed),
    // Commands of the control plane may still be queued when the producer ends.
    (Closed, LeaderChanged, Closed),
    (Closed, TopicKnown, Closed),
    (Closed, ProducerClosed, Closed),
];

const STATES: usize = Closed as usize + 1;
const EVENTS: usize = ProducerClosed as usize + 1;

/// [`TRANSITIONS`], for a look-up by index.
const NEXT: [[Option<LaneState>; EVENTS]; STATES] = {
    let mut next = [[None; EVENTS]; STATES];
    let mut row = 0;
    while row < TRANSITIONS.len() {
        let (state, event, to) = TRANSITIONS[row];
        assert!(next[state as usize][event as usize].is_none(), "a pair of state and event is listed twice");
        next[state as usize][event as usize] = Some(to);
        row += 1;
    }
    next
};

impl LaneState {
    /// The next state; panics if the table has none.
    #[must_use]
    pub fn after(self, event: LaneEvent) -> Self {
        match NEXT[self as usize][event as usize] {
            Some(next) => next,
            None => panic!("a lane that is {self:?} cannot get the event {event:?} (a bug in Penstock)"),
        }
    }

    /// Whether senders may append. One comparison: it runs for each record.
    #[inline]
    pub fn takes_records(self) -> bool {
        (self as u8) < Retired as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_STATES: [LaneState; STATES] = [Flowing, Settling, HandedOver, Waiting, Retired, Closed];
    const ALL_EVENTS: [LaneEvent; EVENTS] =
        [Sent, Trouble, Settled, NothingToDecide, Resumed, LeaderChanged, TopicForgotten, TopicKnown, ProducerClosed];

    #[test]
    fn every_pair_is_in_the_table_or_panics() {
        let mut legal = 0;
        for state in ALL_STATES {
            for event in ALL_EVENTS {
                let row = TRANSITIONS.iter().find(|(from, by, _)| (*from, *by) == (state, event));
                match row {
                    Some((.., next)) => {
                        assert_eq!(state.after(event), *next);
                        legal += 1;
                    }
                    None => assert!(std::panic::catch_unwind(|| state.after(event)).is_err(), "{state:?} {event:?}"),
                }
            }
        }
        assert_eq!(legal, TRANSITIONS.len());
    }

    #[test]
    fn the_table_keeps_its_rules() {
        for &(state, event, next) in TRANSITIONS {
            assert!(event != Sent || matches!(state, Flowing | Waiting), "{state:?} sends");
            assert!(event != Trouble || matches!(next, Settling | HandedOver), "{state:?} goes on after trouble");
            let decided = matches!(event, Resumed | ProducerClosed) || next == HandedOver;
            assert!(state != HandedOver || decided, "{event:?} takes a lane from the control plane");
            assert!(next != HandedOver || matches!(state, Settling | HandedOver), "{state:?} is handed over unsettled");
            assert!(state != Closed || next == Closed, "{event:?} opens a closed lane");
            assert!(next.takes_records() || matches!(event, TopicForgotten | ProducerClosed) || state == Closed);
        }
        assert!(ALL_STATES.iter().all(|state| state.after(ProducerClosed) == Closed), "a producer can always end");
        assert!(ALL_STATES.map(LaneState::takes_records) == [true, true, true, true, false, false]);
    }
}
