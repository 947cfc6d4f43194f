"""Connections to brokers: attempts, backoff, connection ids, and the requests that wait for answers.

Backoff: reconnect.backoff.ms * 2^failures up to .max.ms, ±20 % (KIP-144); the time allowed for TCP set-up grows in the
same way (KIP-601). A handshake ends both on control connections. On data connections it does not end the backoff: a broker
that takes connections and drops each request would be connected to without a pause. There an answered Produce ends it, and
after a connection that had one the first attempt is made at once.

The states of a peer are in `peers`, the requests before it is open in `handshake`.
"""

from collections.abc import Iterable
from random import Random
from typing import NamedTuple

from penstock.config.settings import ProducerSettings
from penstock.control.backoff import Backoff
from penstock.control.boundary import (
    Close,
    Command,
    Connect,
    ConnectionClosed,
    ConnectionOpened,
    FrameReceived,
    SendFrame,
    Trouble,
)
from penstock.control.commands import Resolve, Resolved
from penstock.control.handshake import Session
from penstock.control.peers import Endpoint, Peer
from penstock.control.purposes import Purpose
from penstock.control.requests import Awaited
from penstock.protocol import versions
from penstock.protocol.message import Request
from penstock.protocol.primitives import ProtocolError


class Closed(NamedTuple):
    """A connection ended."""

    peer: Peer
    label: str  # of the address that it had
    trouble: Trouble  # false if the end was wanted
    lost: list[Awaited]  # its requests without an answer


class Connections:
    """All peers; the only place where connection ids and correlation ids are given out."""

    def __init__(self, settings: ProducerSettings, random: Random) -> None:
        """No peer yet."""
        self._settings = settings
        self._random = random
        self._reconnect = Backoff(settings.reconnect_backoff_ms, settings.reconnect_backoff_max_ms)
        self._setup = Backoff(
            settings.socket_connection_setup_timeout_ms, settings.socket_connection_setup_timeout_max_ms
        )
        self._peers: dict[tuple[str, int, Endpoint], Peer] = {}
        self._by_connection: dict[int, Peer] = {}
        self._last_connection_id = 0
        self._last_correlation_id = 0

    def peer(self, purpose: Purpose, broker_id: int, endpoint: Endpoint) -> Peer:
        """The peer for a node and purpose, made at its first use."""
        key = (purpose.name, broker_id, endpoint)
        found = self._peers.get(key)
        if found is None:
            found = self._peers[key] = Peer(purpose, broker_id, endpoint)
        return found

    def peers(self) -> Iterable[Peer]:
        """All of them."""
        return self._peers.values()

    def forget(self, keep: set[tuple[int, Endpoint]]) -> None:
        """Drop idle peers of brokers that are no longer in the metadata (`keep`), bootstrap addresses excepted."""
        for key, peer in list(self._peers.items()):
            if peer.broker_id >= 0 and (peer.broker_id, peer.endpoint) not in keep and peer.state == "idle":
                del self._peers[key]

    # --------------------------------------------------------------------------------------------------------- attempts

    def drive(self, now_ms: float) -> list[Command | Resolve]:
        """Begin the attempts that are wanted and not in backoff."""
        ready = [peer for peer in self._peers.values() if peer.wanted and peer.state == "idle"]
        return [self._begin(peer, now_ms) for peer in ready if now_ms >= peer.not_before_ms]

    def next_wakeup_ms(self) -> float | None:
        """When the next backoff of a wanted peer ends, or the time of a look-up."""
        times = [peer.not_before_ms for peer in self._peers.values() if peer.wanted and peer.state == "idle"]
        times += [peer.resolve_by_ms for peer in self._peers.values() if peer.state == "resolving"]
        return min(times, default=None)

    def cancel_late_look_ups(self, now_ms: float) -> list[Peer]:
        """The peers whose look-up takes longer than a connection may: they fail, so that others are tried meanwhile.

        A look-up itself cannot be ended. The next attempt shares the one that still runs.
        """
        late = [peer for peer in self._peers.values() if peer.state == "resolving" and now_ms >= peer.resolve_by_ms]
        for peer in late:
            text = "its name is still being looked up (socket.connection.setup.timeout.ms)"
            self._unresolved(peer, Trouble(0, text), now_ms)
            peer.setup_failures += 1
        return late

    def _begin(self, peer: Peer, now_ms: float) -> Command | Resolve:
        if not peer.addresses:
            if not is_ip_address(peer.endpoint.host):
                peer.on("resolve")
                peer.resolve_by_ms = now_ms + self._setup.delay_ms(peer.setup_failures, self._random)
                return Resolve(*peer.endpoint)
            peer.addresses = [peer.endpoint.host]
        return self._connect(peer)

    def _connect(self, peer: Peer) -> Connect:
        peer.on("connect")
        # Without the zone of a link-local address: the boundary has no field for it.
        peer.address = peer.addresses.pop(0).partition("%")[0]
        self._last_connection_id += 1
        peer.connection_id = self._last_connection_id
        peer.closing, peer.throttled_until_ms = Trouble(), 0.0
        self._by_connection[peer.connection_id] = peer
        timeout_ms = round(self._setup.delay_ms(peer.setup_failures, self._random))
        return Connect(peer.connection_id, peer.broker_id, peer.address, peer.endpoint.port, max(1, timeout_ms))

    def resolved(self, event: Resolved, now_ms: float) -> list[Command]:
        """A host was looked up: connect the peers that wait for it."""
        commands: list[Command] = []
        for peer in self._peers.values():
            if peer.state != "resolving" or peer.endpoint != (event.host, event.port):
                continue
            if not event.addresses:
                self._unresolved(peer, Trouble(0, event.error or "the name has no address"), now_ms)
                continue
            addresses = list(dict.fromkeys(event.addresses))
            if len(addresses) > 1 and addresses[0] == peer.address:
                addresses.append(addresses.pop(0))  # the one that just failed comes last, not first (as Java)
            peer.addresses = addresses
            commands.append(self._connect(peer))
        return commands

    def _unresolved(self, peer: Peer, trouble: Trouble, now_ms: float) -> None:
        peer.on("unresolved")
        peer.address = ""
        self._failed(peer, trouble, now_ms)

    def opened(self, event: ConnectionOpened) -> Peer | None:
        """TCP is up: the peer whose handshake begins; None for a connection that was abandoned."""
        peer = self._by_connection.get(event.connection_id)
        if peer is None or peer.state != "connecting":
            return None
        peer.on("opened")
        return peer

    def accepted(self, peer: Peer, session: Session) -> None:
        """The handshake passed."""
        peer.on("accepted")
        peer.session = session
        peer.setup_failures = 0
        if not peer.purpose.carries_records:
            peer.failures = 0
        peer.troubles.clear()

    def closed(self, event: ConnectionClosed, now_ms: float) -> tuple[Closed | None, list[Command]]:
        """A connection ended; None for one that is not known any more."""
        peer = self._by_connection.pop(event.connection_id, None)
        if peer is None:
            return None, []
        connecting, label, lost = peer.state == "connecting", peer.label(), peer.take_awaited()
        peer.on("closed")
        if event.worked:
            peer.failures = 0
        trouble = peer.closing or (Trouble() if event.expected else Trouble(0, event.reason or "connection lost"))
        if connecting:
            peer.setup_failures += 1
        else:
            # The host may have moved. Its other addresses are as old as the one that has ended.
            peer.setup_failures = 0
            peer.addresses = []
        if peer.purpose.reopened_by_engine:
            peer.wanted = event.requested
        closed = Closed(peer, label, trouble, lost)
        if not trouble:
            return closed, []
        if connecting and peer.addresses and peer.wanted:
            # client.dns.lookup=use_all_dns_ips (KIP-302): the host is down only when none of its addresses answers.
            peer.note(trouble)
            return closed, [self._connect(peer)]
        self._failed(peer, trouble, now_ms, had_worked=event.worked)
        return closed, []

    def _failed(self, peer: Peer, trouble: Trouble, now_ms: float, *, had_worked: bool = False) -> None:
        peer.note(trouble)
        peer.failed_at_ms = now_ms
        if had_worked:
            peer.not_before_ms = now_ms
            return
        peer.not_before_ms = now_ms + self._reconnect.delay_ms(peer.failures, self._random)
        peer.failures += 1

    def close(self, peer: Peer, trouble: Trouble) -> Close:
        """Close a connection for cause: it counts as a failure."""
        peer.on("close")
        peer.closing = trouble
        return Close(peer.connection_id, trouble.message)

    # --------------------------------------------------------------------------------------------------------- requests

    def request(self, peer: Peer, message: Request, awaited: Awaited) -> SendFrame:
        """Send a request on a peer's present connection; `awaited` takes its answer."""
        self._last_correlation_id = (self._last_correlation_id + 1) & 0x7FFF_FFFF
        correlation_id = self._last_correlation_id
        frame = versions.encode_request(message, awaited.version, correlation_id, self._settings.client_id)
        peer.awaited[correlation_id] = awaited
        return SendFrame(peer.connection_id, correlation_id, frame, self._settings.request_timeout_ms)

    def received(self, event: FrameReceived, now_ms: float) -> list[Command]:
        """Give an answer to the request that waits for it on this connection; close the connection if there is none."""
        peer = self._by_connection.get(event.connection_id)
        if peer is None or peer.state == "closing":
            return []
        awaited = peer.awaited.pop(event.correlation_id, None)
        if awaited is None:
            return [self.close(peer, Trouble(0, f"unexpected response, correlation id {event.correlation_id}"))]
        try:
            _, response = versions.decode_response(awaited.kind.response, awaited.version, event.frame)
            self._throttle(peer, awaited.kind.throttle_ms(response, awaited.version), now_ms)
            awaited.answered(response, awaited.version)
        except ProtocolError as error:
            peer.awaited[event.correlation_id] = awaited  # lost with its connection
            return [self.close(peer, Trouble(0, f"malformed answer to {awaited.kind.api.name}: {error}"))]
        return []

    def _throttle(self, peer: Peer, throttle_ms: int, now_ms: float) -> None:
        """Send nothing on this connection for so long (KIP-219)."""
        if throttle_ms > 0:
            # No quota needs more than an answer may take. A broken answer could, and would stop this connection.
            throttle_ms = min(throttle_ms, self._settings.request_timeout_ms)
            peer.throttled_until_ms = max(peer.throttled_until_ms, now_ms + throttle_ms)


def is_ip_address(host: str) -> bool:
    """Whether a host needs no look-up."""
    import ipaddress  # its import takes as long as that of `socket`, and most producers have names only

    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
