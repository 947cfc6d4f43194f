"""Data connections: one for each broker that has records, at the address that metadata has for it."""

from penstock.control.boundary import Command, Ready
from penstock.control.connections import Connections
from penstock.control.metadata import Metadata
from penstock.control.peers import Endpoint, Peer
from penstock.control.purposes import Purpose
from penstock.protocol.messages import index


class DataConnections:
    """See the module. Times are milliseconds on the engine's clock."""

    def __init__(self, connections: Connections, metadata: Metadata, purpose: Purpose) -> None:
        """No connection is wanted yet."""
        self._connections = connections
        self._metadata = metadata
        self._purpose = purpose
        self.without_address: set[int] = set()
        """Brokers without a known address that records wait for."""
        self._accepted: list[Peer] = []  # the handshake passed, `Ready` is not announced yet

    def want(self, broker_id: int) -> None:
        """Records are ready for this broker."""
        node = self._metadata.brokers.get(broker_id)
        if node is None:
            self.without_address.add(broker_id)
            self._metadata.request_refresh()
            return
        self._connections.peer(self._purpose, node.id, Endpoint(node.host, node.port)).wanted = True

    def accepted(self, peer: Peer) -> None:
        """A handshake passed: `ready` announces the connection."""
        self._accepted.append(peer)

    def ready(self, now_ms: float) -> list[Command]:
        """Announce the connections whose broker reads: a throttled one has to wait."""
        waiting = [peer for peer in self._accepted if peer.state == "open"]
        self._accepted = [peer for peer in waiting if peer.is_throttled(now_ms)]
        return [
            Ready(peer.connection_id, peer.negotiate(index.PRODUCE)) for peer in waiting if peer not in self._accepted
        ]

    def wakeups_ms(self) -> list[float]:
        """When throttled connections can be announced."""
        return [peer.throttled_until_ms for peer in self._accepted]

    def brokers_changed(self) -> None:
        """Brokers may have other addresses, or an address at last: records that wait for them go there."""
        brokers = self._metadata.brokers
        for peer in list(self._connections.peers()):
            node = brokers.get(peer.broker_id)
            if peer.purpose == self._purpose and peer.wanted and peer.state == "idle":
                if node is None:
                    peer.wanted = False
                    self.without_address.add(peer.broker_id)
                elif peer.endpoint != (node.host, node.port):
                    peer.wanted = False
                    self.want(peer.broker_id)
        for broker_id in [broker_id for broker_id in self.without_address if broker_id in brokers]:
            self.without_address.discard(broker_id)
            self.want(broker_id)
        if any(self._metadata.leads(broker_id) for broker_id in self.without_address):
            # An answer may leave out a leader (it was down, or the answer was old). Waiting for metadata.max.age.ms would be
            # too long; Java treats its partitions as leaderless, and requests metadata again.
            self._metadata.request_refresh()
        self._connections.forget({(node.id, Endpoint(node.host, node.port)) for node in brokers.values()})
