"""The control connection: which broker answers Metadata and InitProducerId.

Until metadata is known it goes to a bootstrap address, later to a known broker, the least recently failed first. It is
opened when a request is due, and not replaced when the broker or connections.max.idle.ms closes it. When every known
broker is in backoff, or metadata was due for metadata.recovery.rebootstrap.trigger.ms without an answer, the bootstrap
addresses are used again (KIP-899, KIP-1102).
"""

import logging
from collections.abc import Iterable, Sequence
from random import Random

from penstock.config.settings import ProducerSettings
from penstock.control.boundary import Command as EngineCommand
from penstock.control.boundary import Trouble
from penstock.control.commands import Log
from penstock.control.connections import Connections, is_ip_address
from penstock.control.metadata import Metadata
from penstock.control.peers import Endpoint, Peer
from penstock.control.purposes import Purpose


class ControlConnection:
    """See the module. Times are milliseconds on the engine's clock."""

    def __init__(
        self,
        settings: ProducerSettings,
        connections: Connections,
        metadata: Metadata,
        purpose: Purpose,
        bootstrap: Sequence[Endpoint],
        *,
        random: Random,
        now_ms: float,
    ) -> None:
        """No peer is chosen yet."""
        self.peer: Peer | None = None  # carries the requests, or will when it is open
        self._connections = connections
        self._metadata = metadata
        self._purpose = purpose
        self._bootstrap = [connections.peer(purpose, -1, endpoint) for endpoint in dict.fromkeys(bootstrap)]
        self._random = random
        self._bootstrapping = True  # it goes to bootstrap addresses
        self.rebootstraps = settings.metadata_recovery_strategy.lower() == "rebootstrap"
        self._checks_cluster = self.rebootstraps and settings.metadata_cluster_check_enable
        self._trigger_ms = settings.metadata_recovery_rebootstrap_trigger_ms
        self._trying_since_ms: float | None = None  # metadata was due then, and has not come yet
        timeout_ms = settings.bootstrap_resolve_timeout_ms
        self._resolve_deadline_ms: float | None = None
        if timeout_ms > 0 and not any(is_ip_address(endpoint.host) for endpoint in bootstrap):
            self._resolve_deadline_ms = now_ms + timeout_ms

    @property
    def lacks_metadata(self) -> bool:
        """Whether metadata is due and has not come."""
        return self._trying_since_ms is not None

    def cluster_to_check(self) -> str | None:
        """The cluster id that brokers must have (metadata.cluster.check.enable); None: nothing is checked."""
        return self._metadata.cluster_id if self._checks_cluster else None

    # ----------------------------------------------------------------------------------------------------------- choice

    def usable(self, now_ms: float) -> Peer | None:
        """The peer, if requests can be sent to it now."""
        peer = self.peer
        return peer if peer is not None and peer.state == "open" and not peer.is_throttled(now_ms) else None

    def choose(self, now_ms: float) -> list[EngineCommand | Log]:
        """Choose a peer unless there is one; none, if all candidates are in backoff."""
        if self.peer is not None:
            return []
        commands: list[EngineCommand | Log] = []
        ready = self._ready(now_ms)
        if not ready and not self._bootstrapping and self.rebootstraps:
            commands = self.rebootstrap("none of the known brokers can be reached", now_ms)
            ready = self._ready(now_ms)
        if ready:
            # Least recently failed; at random among those that never did, so that clients spread over brokers.
            self.peer = min(ready, key=lambda peer: (peer.failed_at_ms, self._random.random()))
            self.peer.wanted = True
        return commands

    def _ready(self, now_ms: float) -> list[Peer]:
        return [peer for peer in self._candidates() if peer.not_before_ms <= now_ms]

    def _candidates(self) -> list[Peer]:
        if self._bootstrapping:
            return self._bootstrap
        brokers = self._metadata.brokers.values()
        return [self._connections.peer(self._purpose, node.id, Endpoint(node.host, node.port)) for node in brokers]

    def release_if_idle(self) -> None:
        """After a failed round, or when it was closed for idleness: it is chosen again when a request is due."""
        if self.peer is not None and self.peer.state == "idle":
            self._release()

    def _release(self) -> None:
        if self.peer is not None:
            self.peer.wanted = False
            self.peer = None

    # ------------------------------------------------------------------------------------------------------ rebootstrap

    def metadata_came(self) -> None:
        """An answer named brokers: requests go to them from now on."""
        self._trying_since_ms = None
        self._bootstrapping = False
        for peer in self._connections.peers():
            if peer.purpose == self._purpose:
                peer.troubles.clear()

    def rebootstrap_if_stuck(self, now_ms: float) -> list[EngineCommand | Log]:
        """Return to the bootstrap addresses if metadata has been due for too long."""
        due_ms = self._metadata.due_ms(now_ms)
        if self._trying_since_ms is None and due_ms is not None and due_ms <= now_ms:
            self._trying_since_ms = now_ms
        if self._trying_since_ms is None or self._bootstrapping or not self.rebootstraps:
            return []
        if now_ms - self._trying_since_ms <= self._trigger_ms:
            return []
        return self.rebootstrap("no metadata for metadata.recovery.rebootstrap.trigger.ms", now_ms)

    def rebootstrap_from_known(self, reason: str, now_ms: float) -> list[EngineCommand | Log]:
        """The same at once, unless the bootstrap addresses are in use already."""
        return self.rebootstrap(reason, now_ms) if self.rebootstraps and not self._bootstrapping else []

    def rebootstrap(self, reason: str, now_ms: float) -> list[EngineCommand | Log]:
        """Return to the bootstrap addresses. Topics and leaders stay until an answer replaces them."""
        reason = f"returning to bootstrap.servers: {reason}"
        commands: list[EngineCommand | Log] = [Log(logging.INFO, "rebootstrap", reason)]
        self._bootstrapping = True
        self._trying_since_ms = now_ms
        self._metadata.request_refresh()
        peer = self.peer
        self._release()
        if peer is not None:
            for awaited in peer.take_awaited():
                awaited.lost(now_ms)
            if peer.state in ("connecting", "handshake", "open"):
                commands.append(self._connections.close(peer, Trouble(0, reason)))
        return commands

    # ------------------------------------------------------------------------------------------------------------ times

    def resolved(self) -> None:
        """A name was resolved: bootstrap.resolve.timeout.ms ends."""
        self._resolve_deadline_ms = None

    def is_unresolved(self, now_ms: float) -> bool:
        """Whether no name could be resolved within bootstrap.resolve.timeout.ms."""
        return self._resolve_deadline_ms is not None and now_ms >= self._resolve_deadline_ms

    def wakeups_ms(self, due_ms: Iterable[float]) -> list[float]:
        """When something is to be done; `due_ms`: of the requests that it is to carry."""
        times = [] if self._resolve_deadline_ms is None else [self._resolve_deadline_ms]
        if self.peer is None:
            first_ms = min(due_ms, default=None)
            if first_ms is not None:
                backoff_ms = min((peer.not_before_ms for peer in self._candidates()), default=first_ms)
                times.append(max(first_ms, backoff_ms))
        elif self.peer.state == "open":
            throttled_until_ms = self.peer.throttled_until_ms
            times += [max(time, throttled_until_ms) for time in due_ms]
        if self._trying_since_ms is not None and self.rebootstraps and not self._bootstrapping:
            times.append(self._trying_since_ms + self._trigger_ms)
        return times
