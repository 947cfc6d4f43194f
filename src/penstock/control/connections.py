"""Connections to brokers as the control plane sees them: addresses, attempts, backoff and the handshake.

A `Peer` is one node for one purpose. Control requests use a connection of their own, so that they never queue behind
acks=all Produce requests (a broker serves a connection serially); each broker has one data connection at most.

| state of a peer | event | next state | what follows |
|---|---|---|---|
| idle | it is wanted | resolving, or connecting if its host is an IP address | `Resolve` |
| resolving | addresses | connecting | `Connect` to the next address |
| resolving | no address, or no answer in time | idle | backoff |
| connecting | opened | handshake | ApiVersions |
| connecting | closed | connecting | the next address at once; after the last: idle, backoff |
| handshake | ApiVersions answer | open | `Ready`, or control requests |
| handshake | UNSUPPORTED_VERSION | handshake | ApiVersions in the version that the broker has (KIP-511) |
| any | we close it for cause | closing | `Close`; answers that still come are ignored |
| any | closed | idle | backoff, unless it was closed for idleness; if TCP was up, the name is looked up again |

Backoff: reconnect.backoff.ms * 2^failures up to .max.ms, ±20 % (KIP-144); the time allowed for TCP set-up grows in the
same way (KIP-601). A success ends both.
"""

from collections.abc import Iterable, Mapping
from random import Random
from typing import Final, Literal, NamedTuple, TypeAlias

from penstock import errors
from penstock.control.boundary import (
    Close,
    Command,
    Connect,
    ConnectionClosed,
    ConnectionOpened,
    FrameReceived,
    SendFrame,
)
from penstock.control.error_table import API_VERSIONS, VersionsOutcome
from penstock.control.settings import Backoff, ControlSettings
from penstock.protocol import versions
from penstock.protocol.message import Api, Request
from penstock.protocol.messages import index
from penstock.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from penstock.protocol.primitives import ProtocolError

Purpose: TypeAlias = Literal["control", "data"]
PeerState: TypeAlias = Literal["idle", "resolving", "connecting", "handshake", "open", "closing"]

SOFTWARE_NAME: Final = "penstock"
MAX_ERRORS: Final = 8
"""Addresses of one peer whose last errors are remembered, for messages."""

_KEEPS_STILL_SINCE: Final = {index.METADATA: 6, index.API_VERSIONS: 2, index.INIT_PRODUCER_ID: 1}
"""From which version on a broker that throttles answers at once, and the client keeps still; before, it kept the answer
back (KIP-219; Java: `shouldClientThrottle`)."""


class Endpoint(NamedTuple):
    """Host (name or IP address) and port."""

    host: str
    port: int

    def __str__(self) -> str:
        """As people write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# ------------------------------------------------------------------------------- done by the runtime, not by the engine


class Resolve(NamedTuple):
    """Look a host up, on a thread that may block; answered by `Resolved`."""

    host: str
    port: int


class Resolved(NamedTuple):
    """What a host resolved to: IP addresses in the resolver's order, or why there are none."""

    host: str
    port: int
    addresses: tuple[str, ...]
    error: str


# ---------------------------------------------------------------------------------------------------------------- peers


class Peer:
    """One node for one purpose; see the table above."""

    def __init__(self, purpose: Purpose, broker_id: int, endpoint: Endpoint) -> None:
        """Known, and not wanted yet."""
        self.purpose: Purpose = purpose
        self.broker_id = broker_id  # -1: a bootstrap address
        self.endpoint = endpoint
        self.wanted = False
        self.state: PeerState = "idle"
        self.connection_id = 0  # of the present attempt
        self.addresses: list[str] = []  # still to be tried before the host is resolved again
        self.address = ""  # of the present or last attempt
        self.failures = 0  # in a row
        self.setup_failures = 0  # of these: TCP never came up
        self.not_before_ms = 0.0
        self.resolve_by_ms = 0.0  # while resolving: when the look-up must have answered
        self.failed_at_ms = -1.0
        self.errors: dict[str, str] = {}  # address → last error, until it works again
        self.handshake_version = index.API_VERSIONS.max_version
        self.correlation_id = 0  # of the handshake request that is out
        self.versions: Mapping[int, tuple[int, int]] = {}  # API key → what the broker offers
        self.closing = ""  # why we have closed it, if for cause
        self.still_until_ms = 0.0  # the broker reads nothing from this connection before that time

    def note(self, error: str) -> None:
        """Remember the error of this attempt's address; the latest few only, for hosts whose addresses come and go."""
        self.errors.pop(label := self.label(), None)
        self.errors[label] = error
        while len(self.errors) > MAX_ERRORS:
            del self.errors[next(iter(self.errors))]

    def label(self) -> str:
        """For people: the name, and the address behind it."""
        name = str(self.endpoint)
        if not self.address or self.address == self.endpoint.host:
            return name
        return f"{name} ({Endpoint(self.address, self.endpoint.port)})"

    def negotiate(self, api: Api) -> int:
        """The version of `api` to use with this broker; raises `NoCommonVersionError`."""
        low, high = self.versions.get(api.key, (0, -1))
        version = versions.negotiate(api, low, high)
        # A broker offers an unstable version only to those who develop it.
        return version - 1 if api.latest_version_unstable and version == api.max_version else version


class Closed(NamedTuple):
    """A connection is gone: whose, where it went, and the failure if it was one."""

    peer: Peer
    label: str
    error: str  # "" if we wanted it


class Handshake(NamedTuple):
    """What an answer to ApiVersions came to."""

    peer: Peer
    outcome: Literal["open", "again", "failed", "rebootstrap"]


class Connections:
    """All peers; the only place where connection ids and correlation ids are given out."""

    def __init__(self, settings: ControlSettings, random: Random, software_version: str) -> None:
        """No peer yet."""
        self._settings = settings
        self._random = random
        self._software_version = software_version
        self._needed: dict[Purpose, tuple[Api, ...]] = {
            "control": (index.METADATA, index.INIT_PRODUCER_ID) if settings.enable_idempotence else (index.METADATA,),
            "data": (index.PRODUCE,),
        }
        self._reconnect = Backoff(settings.reconnect_backoff_ms, settings.reconnect_backoff_max_ms)
        self._setup = Backoff(
            settings.socket_connection_setup_timeout_ms, settings.socket_connection_setup_timeout_max_ms
        )
        self._peers: dict[tuple[Purpose, int, Endpoint], Peer] = {}
        self._by_connection: dict[int, Peer] = {}
        self._last_connection_id = 0
        self._last_correlation_id = 0

    def peer(self, purpose: Purpose, broker_id: int, endpoint: Endpoint) -> Peer:
        """The peer for a node, made when it is first asked for."""
        key = (purpose, broker_id, endpoint)
        found = self._peers.get(key)
        if found is None:
            found = self._peers[key] = Peer(purpose, broker_id, endpoint)
        return found

    def peers(self) -> Iterable[Peer]:
        """All of them."""
        return self._peers.values()

    def of(self, connection_id: int) -> Peer | None:
        """Whose connection this is, if it is still the present one."""
        return self._by_connection.get(connection_id)

    def forget(self, keep: set[tuple[int, Endpoint]]) -> None:
        """Drop idle peers of brokers that are no longer in the metadata (`keep`), bootstrap addresses excepted."""
        for key, peer in list(self._peers.items()):
            if peer.broker_id >= 0 and (peer.broker_id, peer.endpoint) not in keep and peer.state == "idle":
                del self._peers[key]

    # --------------------------------------------------------------------------------------------------------- attempts

    def drive(self, now_ms: float) -> list[Command | Resolve]:
        """Begin what is wanted and may begin now."""
        ready = [peer for peer in self._peers.values() if peer.wanted and peer.state == "idle"]
        return [self._begin(peer, now_ms) for peer in ready if now_ms >= peer.not_before_ms]

    def next_wakeup_ms(self) -> float | None:
        """When the next backoff ends that somebody waits for, or the time of a look-up."""
        times = [peer.not_before_ms for peer in self._peers.values() if peer.wanted and peer.state == "idle"]
        times += [peer.resolve_by_ms for peer in self._peers.values() if peer.state == "resolving"]
        return min(times, default=None)

    def give_up_look_ups(self, now_ms: float) -> list[Peer]:
        """Peers whose look-up takes longer than a connection may: to be tried again, and others meanwhile.

        Look-ups cannot be ended. The next attempt shares the one that is still under way.
        """
        late = [peer for peer in self._peers.values() if peer.state == "resolving" and now_ms >= peer.resolve_by_ms]
        for peer in late:
            peer.state, peer.address = "idle", ""
            self._failed(peer, "its name is still being looked up (socket.connection.setup.timeout.ms)", now_ms)
            peer.setup_failures += 1
        return late

    def _begin(self, peer: Peer, now_ms: float) -> Command | Resolve:
        if not peer.addresses:
            if not is_ip_address(peer.endpoint.host):
                peer.state = "resolving"
                peer.resolve_by_ms = now_ms + self._setup.delay_ms(peer.setup_failures, self._random)
                return Resolve(*peer.endpoint)
            peer.addresses = [peer.endpoint.host]
        return self._connect(peer)

    def _connect(self, peer: Peer) -> Connect:
        # Without the zone of a link-local address: the boundary has none, and the system says what it thinks of that.
        peer.address = peer.addresses.pop(0).partition("%")[0]
        self._last_connection_id += 1
        peer.connection_id = self._last_connection_id
        peer.state, peer.closing, peer.still_until_ms = "connecting", "", 0.0
        self._by_connection[peer.connection_id] = peer
        timeout_ms = round(self._setup.delay_ms(peer.setup_failures, self._random))
        return Connect(peer.connection_id, peer.broker_id, peer.address, peer.endpoint.port, max(1, timeout_ms))

    def resolved(self, event: Resolved, now_ms: float) -> list[Command]:
        """A host was looked up: connect whoever waits for it."""
        commands: list[Command] = []
        for peer in self._peers.values():
            if peer.state != "resolving" or peer.endpoint != (event.host, event.port):
                continue
            if not event.addresses:
                peer.state, peer.address = "idle", ""
                self._failed(peer, event.error or "the name has no address", now_ms)
                continue
            addresses = list(dict.fromkeys(event.addresses))
            if len(addresses) > 1 and addresses[0] == peer.address:
                addresses.append(addresses.pop(0))  # the one that just failed comes last, not first (as Java)
            peer.addresses = addresses
            commands.append(self._connect(peer))
        return commands

    def closed(self, event: ConnectionClosed, now_ms: float) -> tuple[Closed | None, list[Command]]:
        """A connection ended; None for one that was given up before."""
        peer = self._by_connection.pop(event.connection_id, None)
        if peer is None:
            return None, []
        connecting, label = peer.state == "connecting", peer.label()
        peer.state = "idle"
        error = peer.closing or ("" if event.expected else event.reason or "connection lost")
        if connecting:
            peer.setup_failures += 1
        else:
            # The host may have moved. Its other addresses are as old as the one that has ended.
            peer.setup_failures = 0
            peer.addresses = []
        if peer.purpose == "data":
            peer.wanted = event.requested
        if not error:
            return Closed(peer, label, ""), []
        if connecting and peer.addresses and peer.wanted:
            # client.dns.lookup=use_all_dns_ips (KIP-302): the host is down only when none of its addresses answers.
            peer.note(error)
            return Closed(peer, label, error), [self._connect(peer)]
        self._failed(peer, error, now_ms)
        return Closed(peer, label, error), []

    def _failed(self, peer: Peer, error: str, now_ms: float) -> None:
        peer.note(error)
        peer.failed_at_ms = now_ms
        peer.not_before_ms = now_ms + self._reconnect.delay_ms(peer.failures, self._random)
        peer.failures += 1

    def close(self, peer: Peer, reason: str) -> Close:
        """Close a connection for cause: it counts as a failure."""
        peer.state, peer.closing = "closing", reason
        return Close(peer.connection_id, reason)

    # -------------------------------------------------------------------------------------------------------- handshake

    def opened(self, event: ConnectionOpened, cluster_id: str | None) -> list[Command]:
        """TCP is up: begin the handshake. `cluster_id` as metadata knows it, None if the broker shall not check."""
        peer = self._by_connection.get(event.connection_id)
        if peer is None or peer.state != "connecting":
            return []
        peer.state = "handshake"
        peer.handshake_version = index.API_VERSIONS.max_version
        return [self._ask_versions(peer, cluster_id)]

    def _ask_versions(self, peer: Peer, cluster_id: str | None) -> SendFrame:
        check = cluster_id is not None and peer.broker_id >= 0
        request = ApiVersionsRequest(
            client_software_name=SOFTWARE_NAME,
            client_software_version=self._software_version,
            cluster_id=cluster_id if check else None,
            node_id=peer.broker_id if check else -1,
        )
        frame = self.request(peer, request, peer.handshake_version)
        peer.correlation_id = frame.correlation_id
        return frame

    def request(self, peer: Peer, message: Request, version: int) -> SendFrame:
        """Any control request on a peer's present connection."""
        self._last_correlation_id = (self._last_correlation_id + 1) & 0x7FFF_FFFF
        frame = versions.encode_request(message, version, self._last_correlation_id, self._settings.client_id)
        return SendFrame(peer.connection_id, self._last_correlation_id, frame, self._settings.request_timeout_ms)

    def keep_still(self, peer: Peer, api: Api, version: int, throttle_time_ms: int, now_ms: float) -> None:
        """An answer said for how long the broker will read nothing from this connection (KIP-219)."""
        if throttle_time_ms > 0 and version >= _KEEPS_STILL_SINCE[api]:
            # Longer than an answer may take is more than a quota asks for, and would silence us for as long as nonsense says.
            still_ms = min(throttle_time_ms, self._settings.request_timeout_ms)
            peer.still_until_ms = max(peer.still_until_ms, now_ms + still_ms)

    def handshake(
        self, peer: Peer, event: FrameReceived, cluster_id: str | None, now_ms: float
    ) -> tuple[Handshake, list[Command]]:
        """The answer to ApiVersions."""
        if event.correlation_id != peer.correlation_id:
            return Handshake(peer, "failed"), [self.close(peer, "an answer to a request that was not sent")]
        try:
            _, answer = versions.decode_response(ApiVersionsResponse, peer.handshake_version, event.frame)
        except ProtocolError as error:
            return Handshake(peer, "failed"), [self.close(peer, f"malformed answer to ApiVersions: {error}")]
        self.keep_still(peer, index.API_VERSIONS, peer.handshake_version, answer.throttle_time_ms, now_ms)
        outcome = API_VERSIONS.outcome(answer.error_code)
        if outcome is VersionsOutcome.DOWNGRADE and peer.handshake_version > 0:
            offered = {key.api_key: key.max_version for key in answer.api_keys}
            highest = offered.get(index.API_VERSIONS.key, 0)
            peer.handshake_version = max(0, min(highest, peer.handshake_version - 1))
            return Handshake(peer, "again"), [self._ask_versions(peer, cluster_id)]
        if outcome is VersionsOutcome.REBOOTSTRAP:
            reason = "the node says that it is not the one looked for (another cluster or node id)"
            return Handshake(peer, "rebootstrap"), [self.close(peer, reason)]
        if outcome is not VersionsOutcome.OPEN:
            reason = f"ApiVersions was answered with {errors.error_name(answer.error_code)}"
            return Handshake(peer, "failed"), [self.close(peer, reason)]
        peer.versions = {key.api_key: (key.min_version, key.max_version) for key in answer.api_keys}
        try:
            for api in self._needed[peer.purpose]:
                peer.negotiate(api)
        except versions.NoCommonVersionError as error:
            return Handshake(peer, "failed"), [self.close(peer, str(error))]
        peer.state = "open"
        peer.failures = peer.setup_failures = 0
        peer.errors.clear()
        return Handshake(peer, "open"), []


def is_ip_address(host: str) -> bool:
    """Whether a host needs no look-up."""
    import ipaddress  # as long as all of `socket`, and most producers know names only

    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
