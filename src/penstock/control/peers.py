"""A peer: one node for one purpose, with its states, its addresses and its errors.

Control requests use a connection of their own, so that they never queue behind Produce requests with acks=all (a broker
serves a connection serially); each broker has one data connection at most.

`TRANSITIONS` is the table of states. A connection that is closed for cause counts as failed, and waits for a backoff. When
one that was up ends, its host is resolved again.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from penstock.control.boundary import Trouble
from penstock.control.handshake import Handshake, Session
from penstock.control.purposes import Purpose
from penstock.control.requests import Awaited
from penstock.control.states import StateMachine
from penstock.protocol.message import Api

PeerState: TypeAlias = Literal["idle", "resolving", "connecting", "handshake", "open", "closing"]
PeerEvent: TypeAlias = Literal["resolve", "unresolved", "connect", "opened", "accepted", "close", "closed"]

TRANSITIONS: Final[Mapping[tuple[PeerState, PeerEvent], PeerState]] = {
    # Wanted, and no backoff is in the way. An IP address needs no look-up.
    ("idle", "resolve"): "resolving",
    ("idle", "connect"): "connecting",
    # The look-up gave addresses; or none, or none in time: backoff.
    ("resolving", "connect"): "connecting",
    ("resolving", "unresolved"): "idle",
    # TCP is up: the handshake begins. Refused: the next address at once, after the last one backoff.
    ("connecting", "opened"): "handshake",
    ("connecting", "close"): "closing",
    ("connecting", "closed"): "idle",
    # The handshake passed: control requests may be sent, or `Ready` is announced.
    ("handshake", "accepted"): "open",
    ("handshake", "close"): "closing",
    ("handshake", "closed"): "idle",
    # The broker or the network ended it (backoff, unless it had worked), or connections.max.idle.ms (no backoff).
    ("open", "close"): "closing",
    ("open", "closed"): "idle",
    # `Close` was sent for cause. Answers that still arrive are ignored.
    ("closing", "closed"): "idle",
}

MAX_TROUBLES: Final = 8
"""Addresses of one peer whose last errors are remembered, for messages."""


class Endpoint(NamedTuple):
    """Host (name or IP address) and port."""

    host: str
    port: int

    def __str__(self) -> str:
        """``host:port``, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Peer:
    """One node for one purpose. Its state changes by `on` alone; `Connections` keeps the rest. Times are in ms."""

    def __init__(self, purpose: Purpose, broker_id: int, endpoint: Endpoint) -> None:
        """Known, and not wanted yet."""
        self.purpose = purpose
        self.broker_id = broker_id  # -1: a bootstrap address
        self.endpoint = endpoint
        self.wanted = False
        self._machine: StateMachine[PeerState, PeerEvent] = StateMachine(
            f"{purpose.name} connection to {endpoint}", "idle", TRANSITIONS
        )
        # The present attempt, or the last one.
        self.connection_id = 0
        self.address = ""
        self.addresses: list[str] = []  # still to be tried before the host is resolved again
        self.resolve_by_ms = 0.0  # while resolving: when the look-up must have answered
        self.handshake = Handshake(())
        self.session = Session()
        self.awaited: dict[int, Awaited] = {}  # correlation id → request without an answer yet
        self.throttled_until_ms = 0.0  # the broker reads nothing from this connection before that time
        self.closing = Trouble()  # why it was closed by us, if for cause
        # Over all attempts.
        self.failures = 0  # in a row: the exponent of the backoff
        self.setup_failures = 0  # of these: TCP never came up
        self.failed_at_ms = -1.0
        self.not_before_ms = 0.0
        self.troubles: dict[str, Trouble] = {}  # address → last error, until it works again

    @property
    def state(self) -> PeerState:
        """One of the states in `TRANSITIONS`."""
        return self._machine.state

    def on(self, event: PeerEvent) -> None:
        """Take a transition of `TRANSITIONS`; raises `IllegalTransitionError` if there is none."""
        self._machine.on(event)

    def is_throttled(self, now_ms: float) -> bool:
        """Whether the broker reads nothing from this connection at present (KIP-219)."""
        return now_ms < self.throttled_until_ms

    def note(self, trouble: Trouble) -> None:
        """Remember the error of this attempt's address; the latest few only, for hosts whose addresses come and go."""
        self.troubles.pop(label := self.label(), None)
        self.troubles[label] = trouble
        while len(self.troubles) > MAX_TROUBLES:
            del self.troubles[next(iter(self.troubles))]

    def label(self) -> str:
        """For messages: the name, and the address behind it."""
        name = str(self.endpoint)
        if not self.address or self.address == self.endpoint.host:
            return name
        return f"{name} ({Endpoint(self.address, self.endpoint.port)})"

    def negotiate(self, api: Api) -> int:
        """The version of `api` to use on this connection; raises `NoCommonVersionError`."""
        return self.session.negotiate(api)

    def take_awaited(self) -> list[Awaited]:
        """The requests that will get no answer, since the connection has ended or is abandoned."""
        lost, self.awaited = list(self.awaited.values()), {}
        return lost
