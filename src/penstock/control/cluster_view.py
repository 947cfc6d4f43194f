"""The cluster as the application sees it: immutable values, which any thread may read."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class Node(NamedTuple):
    """A broker as clients reach it."""

    id: int
    host: str
    port: int
    rack: str | None = None

    def can_be_called(self) -> bool:
        """Whether a connection is possible: an answer may name any host and port."""
        return bool(self.host) and 0 < self.port <= 65535


class PartitionInfo(NamedTuple):
    """One partition of a topic, as the newest metadata shows it (Java's `PartitionInfo`)."""

    topic: str
    partition: int
    leader: Node | None
    replicas: tuple[Node, ...]
    in_sync_replicas: tuple[Node, ...]
    offline_replicas: tuple[Node, ...]


class KnownTopic(NamedTuple):
    """One topic in a `ClusterView`."""

    infos: tuple[PartitionInfo, ...] = ()
    partitions: tuple[int, ...] = ()
    available: tuple[int, ...] = ()  # those that have a leader


_ABSENT: Final = KnownTopic()


class ClusterView(NamedTuple):
    """An immutable picture of the cluster, for `partitions_for()`; also a `penstock.partitioner.Cluster`."""

    cluster_id: str | None = None
    brokers: Mapping[int, Node] = MappingProxyType({})
    topics: Mapping[str, tuple[PartitionInfo, ...]] = MappingProxyType({})
    views: Mapping[str, KnownTopic] = MappingProxyType({})
    refreshed_at_ms: float = 0.0  # the last answer about all topics, on the engine's clock

    def partitions_for_topic(self, topic: str, /) -> tuple[int, ...]:
        """The numbers of a topic's partitions, ascending; empty if it is not known."""
        return self.views.get(topic, _ABSENT).partitions

    def available_partitions(self, topic: str, /) -> tuple[int, ...]:
        """Those of them that have a leader, ascending."""
        return self.views.get(topic, _ABSENT).available
