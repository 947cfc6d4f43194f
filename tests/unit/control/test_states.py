"""Tables of states: every state is reached, only final states have no transition, and all other events raise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import pytest
from control_harness import Settings

from penstock.control import identity, peers
from penstock.control.peers import Endpoint, Peer, PeerEvent, PeerState
from penstock.control.purposes import purposes
from penstock.control.states import IllegalTransitionError, StateMachine

Table = Mapping[tuple[Any, Any], Any]
TABLES = pytest.mark.parametrize(
    ("table", "states", "events", "initial", "final"),
    [
        (peers.TRANSITIONS, get_args(PeerState), get_args(PeerEvent), {"idle"}, set()),
        (
            identity.TRANSITIONS,
            get_args(identity.State),
            get_args(identity.Event),
            {"off", "needed"},
            {"off", "failed"},
        ),
    ],
    ids=["peer", "identity"],
)


@TABLES
def test_the_table_has_every_state_and_event(
    table: Table, states: tuple[str, ...], events: tuple[str, ...], initial: set[str], final: set[str]
) -> None:
    assert {event for _, event in table} == set(events)
    assert {state for state, _ in table} == set(states) - final
    assert set(table.values()) | initial == set(states)


@TABLES
def test_an_event_that_is_not_in_the_table_raises_and_changes_nothing(
    table: Table, states: tuple[str, ...], events: tuple[str, ...], initial: set[str], final: set[str]
) -> None:
    for state in states:
        for event in events:
            machine = StateMachine[str, str]("it", state, table)
            if (state, event) in table:
                machine.on(event)
                assert machine.state == table[state, event]
            else:
                with pytest.raises(IllegalTransitionError, match=f"it: event '{event}' is illegal in state '{state}'"):
                    machine.on(event)
                assert machine.state == state


def test_an_illegal_transition_names_the_connection() -> None:
    peer = Peer(purposes(Settings()).data, 1, Endpoint("one", 9092))
    with pytest.raises(IllegalTransitionError, match="data connection to one:9092"):
        peer.on("opened")
