"""An embedded cluster for code without an event loop: one background thread runs it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from penstock.devbroker.cluster import DevCluster
from penstock.devbroker.faults import Faults, Requests

T = TypeVar("T")


class RunningCluster:
    """A `DevCluster` with methods for any thread; it runs between `start` and `stop`."""

    def __init__(self, cluster: DevCluster) -> None:
        """`cluster` must not run yet."""
        self._cluster = cluster
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Start the thread and the cluster; returns when all nodes listen, raises the error of a failed start."""
        loop = asyncio.new_event_loop()
        self._loop = loop
        self._thread = threading.Thread(target=loop.run_forever, name="penstock-devbroker", daemon=True)
        self._thread.start()
        try:
            self._await(self._cluster.start())
        except BaseException:
            self._end_thread()
            raise
        return self

    def stop(self) -> None:
        """Stop the cluster and its thread; a second call does nothing."""
        if self._loop is not None:
            try:
                self._await(self._cluster.stop())
            finally:
                self._end_thread()

    def _end_thread(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise RuntimeError("the cluster does not run")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return self._await(call())

    @property
    def bootstrap_servers(self) -> str:
        """`host:port,...` of all nodes, also of those that were stopped."""
        return self._call(lambda: self._cluster.bootstrap_servers)

    @property
    def cluster_id(self) -> str:
        """The cluster's id."""
        return self._call(lambda: self._cluster.cluster_id)

    @property
    def faults(self) -> Faults:
        """The scripted faults."""
        return self._call(lambda: self._cluster.faults)

    @property
    def requests(self) -> Requests:
        """The requests that arrived."""
        return self._call(lambda: self._cluster.requests)

    def stop_node(self, node_id: int) -> None:
        """As `DevCluster.stop_node`."""
        self._await(self._cluster.stop_node(node_id))

    def start_node(self, node_id: int) -> None:
        """As `DevCluster.start_node`."""
        self._await(self._cluster.start_node(node_id))

    def move_leader(self, topic: str, partition: int, node_id: int) -> None:
        """As `DevCluster.move_leader`."""
        self._call(lambda: self._cluster.move_leader(topic, partition, node_id))

    def move_leaders(self, moves: Mapping[tuple[str, int], int]) -> None:
        """As `DevCluster.move_leaders`."""
        self._call(lambda: self._cluster.move_leaders(moves))

    def create_topic(
        self,
        name: str,
        partitions: int | None = None,
        replication_factor: int | None = None,
        configs: Mapping[str, str] | None = None,
    ) -> None:
        """As `DevCluster.create_topic`."""
        self._call(lambda: self._cluster.create_topic(name, partitions, replication_factor, configs))

    def add_partitions(self, name: str, total: int) -> None:
        """As `DevCluster.add_partitions`."""
        self._call(lambda: self._cluster.add_partitions(name, total))

    def delete_topic(self, name: str) -> None:
        """As `DevCluster.delete_topic`."""
        self._call(lambda: self._cluster.delete_topic(name))

    def topics(self) -> dict[str, int]:
        """As `DevCluster.topics`."""
        return self._call(self._cluster.topics)

    def end_offsets(self, topic: str) -> dict[int, int]:
        """As `DevCluster.end_offsets`."""
        return self._call(lambda: self._cluster.end_offsets(topic))

    def leaders(self, topic: str) -> dict[int, tuple[int, int]]:
        """As `DevCluster.leaders`."""
        return self._call(lambda: self._cluster.leaders(topic))
