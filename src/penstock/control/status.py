"""The status that waiting calls of the application mention: why metadata, or a broker, cannot be reached."""

from collections.abc import Iterable, Mapping
from typing import Final

from penstock.control.boundary import Command, SetBrokerStatus, SetStatus, Trouble
from penstock.control.connections import Connections
from penstock.control.peers import PeerState

_UNANSWERED: Final[Mapping[PeerState, str]] = {
    "resolving": "its name is being looked up",
    "connecting": "not connected yet",
    "handshake": "connected, but has not answered yet",
}


class Status:
    """Stores the last status, so that only changes are sent."""

    def __init__(self, connections: Connections) -> None:
        """Nothing is wrong."""
        self._connections = connections
        self._status = Trouble()
        self._brokers: dict[int, Trouble] = {}

    def changes(self, *, waiting: bool, without_address: Iterable[int]) -> list[Command]:
        """The commands for all that has changed.

        `waiting`: a control request is due and cannot be sent. `without_address`: brokers without a known address that records
        wait for.
        """
        commands: list[Command] = []
        status = self._of_cluster() if waiting else Trouble()
        if status != self._status:
            self._status = status
            commands.append(SetStatus(status))
        brokers = self._of_brokers(without_address)
        for broker_id in sorted(self._brokers.keys() | brokers.keys()):
            trouble = brokers.get(broker_id, Trouble())
            if trouble != self._brokers.get(broker_id, Trouble()):
                commands.append(SetBrokerStatus(broker_id, trouble))
        self._brokers = brokers
        return commands

    def errors(self) -> Trouble:
        """Each address that does not work, with its last error."""
        return _together({label: it for peer in self._connections.peers() for label, it in peer.troubles.items()})

    def _of_cluster(self) -> Trouble:
        unanswered = {
            peer.label(): Trouble(0, _UNANSWERED[peer.state])
            for peer in self._connections.peers()
            if peer.state in _UNANSWERED
        }
        found = self.errors() or _together(unanswered)
        return Trouble(found.code, f"no broker reachable: {found.message}") if found else Trouble()

    def _of_brokers(self, without_address: Iterable[int]) -> dict[int, Trouble]:
        found: dict[int, Trouble] = {}
        for peer in self._connections.peers():
            if peer.purpose.carries_records and peer.wanted and peer.troubles:
                code, errors = _together(peer.troubles)
                where = "at the address that it advertises (advertised.listeners)"
                found[peer.broker_id] = Trouble(code, f"broker {peer.broker_id} cannot be reached {where}: {errors}")
        for broker_id in without_address:
            message = f"broker {broker_id} is a leader, but its address is in no metadata"
            found.setdefault(broker_id, Trouble(0, message))
        return found


def _together(troubles: Mapping[str, Trouble]) -> Trouble:
    """All of them in one message. The code is the first that a broker has given."""
    code = next((trouble.code for trouble in troubles.values() if trouble.code), 0)
    return Trouble(code, "; ".join(f"{label}: {trouble.message}" for label, trouble in troubles.items()))
