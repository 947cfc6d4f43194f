"""The embedded cluster: its nodes, its state, and the operations that tests need.

async with DevCluster(nodes=3) as cluster: ...             # in the event loop of the caller
with DevCluster.running(nodes=3) as cluster: ...           # in a thread of its own, see `penstock.devbroker.running`
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from penstock.devbroker.errors import ErrorCode, RequestError
from penstock.devbroker.faults import Faults, Requests
from penstock.devbroker.server import NodeServer
from penstock.devbroker.settings import BrokerOptions, BrokerSettings
from penstock.devbroker.state import ClusterState
from penstock.devbroker.topics import Topic

if TYPE_CHECKING:
    from penstock.devbroker.running import RunningCluster

logger = logging.getLogger(__name__)


class DevCluster:
    """One or more brokers in this process, in the event loop that runs `start`. Do not use it from other threads."""

    def __init__(self, **options: Unpack[BrokerOptions]) -> None:
        """See `BrokerSettings` for the options; raises `ValueError` for impossible ones."""
        self.settings = BrokerSettings(**options)
        self._state: ClusterState | None = None
        self._servers: dict[int, NodeServer] = {}
        self._syncing: asyncio.Task[None] | None = None

    @classmethod
    def running(cls, **options: Unpack[BrokerOptions]) -> "RunningCluster":
        """The same with its own event loop in a background thread, for code that has none: a context manager."""
        from penstock.devbroker.running import RunningCluster  # it imports this module

        return RunningCluster(cls(**options))

    async def start(self) -> None:
        """Recover the data folder and start all listeners."""
        state = ClusterState(self.settings)
        try:
            for place, node_id in enumerate(state.nodes):
                port = self.settings.port + place if self.settings.port else 0
                server = NodeServer(state, node_id, port)
                await server.start()
                self._servers[node_id] = server
        except BaseException:
            for server in self._servers.values():
                await server.stop()
            state.close()
            raise
        state.nodes_started({node_id: server.port for node_id, server in self._servers.items()})
        self._state = state
        if isinstance(self.settings.fsync, int):
            self._syncing = asyncio.create_task(self._sync_regularly(self.settings.fsync / 1000))

    async def stop(self) -> None:
        """Close all connections, flush the logs to disk and release all resources; a second call does nothing."""
        if self._syncing is not None:
            self._syncing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._syncing
            self._syncing = None
        for server in self._servers.values():
            await server.stop()
        self._servers.clear()
        if self._state is not None:
            self._state.close()
            self._state = None

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    async def _sync_regularly(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            try:
                self.state.sync()
            except OSError:
                logger.exception("the logs could not be flushed to disk")

    @property
    def state(self) -> ClusterState:
        """The state that the nodes share; `RuntimeError` unless the cluster runs."""
        if self._state is None:
            raise RuntimeError("the cluster does not run")
        return self._state

    @property
    def faults(self) -> Faults:
        """The scripted faults."""
        return self.state.faults

    @property
    def requests(self) -> Requests:
        """The requests that arrived."""
        return self.state.requests

    @property
    def cluster_id(self) -> str:
        """The cluster's id."""
        return self.state.cluster_id

    @property
    def bootstrap_servers(self) -> str:
        """`host:port,...` of all nodes, also of those that were stopped."""
        nodes = self.state.nodes
        return ",".join(f"{nodes[number].host}:{server.port}" for number, server in self._servers.items())

    # Nodes.

    async def stop_node(self, node_id: int) -> None:
        """Stop one node as if it had crashed; other replicas take over its partitions."""
        await self._servers[node_id].stop()
        self.state.node_stopped(node_id)

    async def start_node(self, node_id: int) -> None:
        """Start a stopped node again, on its port."""
        server = self._servers[node_id]
        if not server.is_running:
            await server.start()
            self.state.nodes_started({node_id: server.port})

    def move_leader(self, topic: str, partition: int, node_id: int) -> None:
        """Make a running replica the leader, in a new epoch. Raises `ValueError` if it cannot lead."""
        self.state.move_leaders({(topic, partition): node_id})

    def move_leaders(self, moves: Mapping[tuple[str, int], int]) -> None:
        """Make each node the leader of its (topic, partition), all at once."""
        self.state.move_leaders(moves)

    # Topics.

    def create_topic(
        self,
        name: str,
        partitions: int | None = None,
        replication_factor: int | None = None,
        configs: Mapping[str, str] | None = None,
    ) -> None:
        """Create a topic; None stands for the broker's default. Raises `RequestError` where Kafka refuses it."""
        count = -1 if partitions is None else partitions
        factor = -1 if replication_factor is None else replication_factor
        self.state.create_topic(name, count, factor, dict(configs or {}))

    def add_partitions(self, name: str, total: int) -> None:
        """Increase the number of partitions to `total`."""
        self.state.add_partitions(name, total)

    def delete_topic(self, name: str) -> None:
        """Delete a topic."""
        self.state.delete_topic(self._topic(name))

    def topics(self) -> dict[str, int]:
        """The topics, each with its number of partitions."""
        return {name: len(topic.partitions) for name, topic in self.state.topics.items()}

    def end_offsets(self, topic: str) -> dict[int, int]:
        """For each partition the offset of the next record."""
        return {partition.index: partition.log.end_offset for partition in self._topic(topic).partitions}

    def leaders(self, topic: str) -> dict[int, tuple[int, int]]:
        """For each partition its leader (-1: none) and leader epoch."""
        return {part.index: (part.leader, part.leader_epoch) for part in self._topic(topic).partitions}

    def _topic(self, name: str) -> Topic:
        try:
            return self.state.topics[name]
        except KeyError:
            raise RequestError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name!r}") from None
