"""State machines as tables: the next state follows from the state and the event, and everything else is an error."""

from collections.abc import Mapping
from typing import Generic, TypeVar

State = TypeVar("State", bound=str)
Event = TypeVar("Event", bound=str)


class IllegalTransitionError(RuntimeError):
    """An event came in a state that has no transition for it: a bug, which ends the control thread with this message."""


class StateMachine(Generic[State, Event]):
    """One machine; its state changes by `on` alone."""

    __slots__ = ("_name", "_state", "_transitions")

    def __init__(self, name: str, initial: State, transitions: Mapping[tuple[State, Event], State]) -> None:
        """`name` is for the message of an illegal transition; `transitions`: (state, event) → next state."""
        self._name = name
        self._state = initial
        self._transitions = transitions

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    def on(self, event: Event) -> None:
        """Take the transition of `event`; raises `IllegalTransitionError` if the table has none."""
        following = self._transitions.get((self._state, event))
        if following is None:
            raise IllegalTransitionError(f"{self._name}: event {event!r} is illegal in state {self._state!r}")
        self._state = following
